//! From a due call to a call at the provider: claim, dial, report. And asking about calls the provider is silent about.
//!
//! The [`dispatcher`] takes turns (settle what was heard, claim what is due, one transaction), [`dial`] does one request each,
//! [`inquiry`] looks up doubt, [`lease`] says whether this process may still act. **Invariant:** the attempt is committed before
//! the provider is asked, and nobody dials inside a transaction.

pub mod dial;
pub mod dispatcher;
pub mod inquiry;
pub mod lease;
pub mod pulse;

use std::time::Duration;

use crate::queue::Breaker;

/// What the executor follows; see config.toml for each.
#[derive(Clone, Debug)]
pub struct Settings {
    pub global_limit: i32,
    pub dial_guard_secs: f64,
    pub dials_per_second: f64,
    pub lanes_per_claim: i32,
    pub lease: Duration,
    pub look_again_after: Duration,
    pub dials_in_flight: usize,
    pub batch_max: usize,
    pub poll: Duration,
    pub dial_timeout: Duration,
    pub inquiry: Duration,
    pub inquiries_in_flight: usize,
    pub retry_after_min: Duration,
    pub retry_after_max: Duration,
    pub breaker: Breaker,
    /// The URL of this service, as providers reach it.
    pub public_url: String,
    /// Key of the token in webhook URLs.
    pub token_key: Vec<u8>,
}
