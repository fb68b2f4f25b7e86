//! From a due call to a call at the provider: claim, dial, report. And asking about calls the provider is silent about.
//!
//! The [`dispatcher`] takes turns (settle what was heard, claim what is due, one transaction), [`dial`] does one request each,
//! [`inquiry`] looks up doubt, [`lease`] says whether this process may still act. **Invariant:** the attempt is committed before
//! the provider is asked, and nobody dials inside a transaction.

pub mod dial;
pub mod dispatcher;
pub mod high_water;
pub mod inquiry;
pub mod lease;
pub mod pulse;

use std::time::Duration;

use crate::queue::{Breaker, Frequency};

/// What the executor follows; see config.toml for each.
#[derive(Clone, Debug)]
pub struct Settings {
    pub global_limit: i32,
    pub dial_guard_secs: f64,
    /// How often a user's calls may ring one phone.
    pub frequency: Frequency,
    pub dials_per_second: f64,
    pub lanes_per_claim: i32,
    pub lease: Duration,
    pub look_again_after: Duration,
    pub dials_in_flight: usize,
    pub batch_max: usize,
    pub poll: Duration,
    pub dial_timeout: Duration,
    /// A turn that takes longer is given up, and its connection with it: a little more than a wait for the lock may take.
    pub turn_patience: Duration,
    /// Any other statement that does not answer for so long.
    pub statement_patience: Duration,
    /// So many equal refusals of a user's calls in a row are no fault of the calls.
    pub equal_refusals_max: i32,
    /// No call lasts longer.
    pub max_call: Duration,
    pub inquiry: Duration,
    pub inquiries_in_flight: usize,
    /// A record that is not complete is asked for again after at least so long.
    pub record_again: Duration,
    pub retry_after_min: Duration,
    pub retry_after_max: Duration,
    pub breaker: Breaker,
    /// The URL of this service, as providers reach it.
    pub public_url: String,
    /// Key of the token in webhook URLs.
    pub token_key: Vec<u8>,
}

impl Settings {
    /// A claim older than this is not sent any more: two steps of a dial, and what is looked at in between.
    #[must_use]
    pub fn send_within(&self) -> Duration {
        self.dial_timeout * 2 + Duration::from_secs(5)
    }

    /// Seconds until a call that was held back for refusals in a row is tried again: the more of them, the longer.
    #[must_use]
    pub fn again_after(&self, in_a_row: i32) -> f64 {
        (5.0 * f64::from(in_a_row - self.equal_refusals_max + 1)).clamp(5.0, 300.0)
    }

    /// An attempt that is dialing for longer is in doubt, whatever its process believes: the last request has been answered or given up
    /// by then, and its answer settled.
    #[must_use]
    pub fn dialing_max(&self) -> Duration {
        self.send_within() + self.dial_timeout + Duration::from_secs(10)
    }
}
