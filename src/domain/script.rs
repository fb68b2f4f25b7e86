//! What an agent is told.

use serde_json::Value;

/// A script as it is kept, and as it is handed to the provider once variables are filled in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    /// Either this
    pub prompt: Option<String>,
    /// or an agent kept at the provider.
    pub agent_id: Option<String>,
    pub voice: Option<String>,
    /// BCP 47
    pub language: Option<String>,
    /// Said to somebody who does not speak first.
    pub first_message: Option<String>,
    /// A list, in the provider's own shape.
    pub tools: Value,
    /// Seconds.
    pub max_duration_secs: Option<i32>,
}
