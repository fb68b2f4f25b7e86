//! What an agent is told.

use serde::{Deserialize, Serialize};

use crate::domain::raw_json::RawJson;

/// Who speaks, as a user's settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Agent {
    /// BCP 47
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voice: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_message: Option<String>,
}

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
    pub tools: RawJson,
    /// Seconds.
    pub max_duration_secs: Option<i32>,
}
