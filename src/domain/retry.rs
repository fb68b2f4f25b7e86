//! When to dial again, and when others ask to be tried again (`Retry-After`). The `backoff` crate computes the delays and nothing else: it is unmaintained (RUSTSEC-2025-0012),
//! so this is the only file that knows it.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;
use chrono::{DateTime, NaiveDateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::disposition::Disposition;
use crate::domain::raw_json::RawJson;

/// How delays grow: `base × factor^n`, at most `max`, spread by ± `jitter` (0 to 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    pub base: Duration,
    pub factor: f64,
    pub max: Duration,
    pub jitter: f64,
}

impl Policy {
    /// The delay before the dial that follows `dials` dials.
    /// `dice` in 0 to 1 places it inside the jitter, so that the caller's randomness, not ours, decides.
    #[must_use]
    pub fn delay(&self, dials: u32, dice: f64) -> Duration {
        let mut steps = ExponentialBackoff {
            current_interval: self.base,
            initial_interval: self.base,
            randomization_factor: 0.0,
            multiplier: self.factor,
            max_interval: self.max,
            // The default ends after 15 minutes; attempts are counted elsewhere.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut delay = self.base;
        for _ in 0..dials.clamp(1, 64) {
            delay = steps.next_backoff().unwrap_or(self.max);
        }
        let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * dice.clamp(0.0, 1.0) - 1.0);
        delay.min(self.max).mul_f64(spread)
    }
}

/// How long a value of `Retry-After` asks to wait: seconds, or an HTTP date in any of its three forms (RFC 9110 §5.6.7, §10.2.3).
/// None: neither, or a date that is over.
#[must_use]
pub fn retry_after(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = value.trim();
    if let Ok(secs) = text.parse::<u64>() {
        return Some(Duration::from_secs(secs));
    }
    let at = DateTime::parse_from_rfc2822(text).map(|at| at.with_timezone(&Utc));
    let obsolete = |form: &str| NaiveDateTime::parse_from_str(text, form).map(|at| at.and_utc());
    let at = at.or_else(|_| obsolete("%A, %d-%b-%y %H:%M:%S GMT")).or_else(|_| obsolete("%a %b %e %H:%M:%S %Y"));
    (at.ok()? - now).to_std().ok()
}

/// A user's own rule for a disposition; what is not given follows the general policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserRule {
    #[schema(minimum = 0, maximum = 31536000)]
    pub delay_seconds: Option<i32>,
    /// Dials in all when a call ends this way; 1: no retry.
    #[schema(minimum = 1, maximum = 100)]
    pub max_dials: Option<i16>,
}

impl UserRule {
    /// The rule for a disposition among a user's rules, as they are stored.
    #[must_use]
    pub fn of(rules: &RawJson, disposition: Disposition) -> Option<Self> {
        serde_json::from_str(rules.fields()?.get(disposition.as_str())?.get()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEFAULT: Policy =
        Policy { base: Duration::from_secs(30), factor: 2.0, max: Duration::from_secs(3600), jitter: 0.2 };

    /// The delays the README states: 30 s, doubled, at most an hour.
    #[test]
    fn doubles_up_to_an_hour() {
        let secs: Vec<u64> = (1..=9).map(|n| DEFAULT.delay(n, 0.5).as_secs()).collect();
        assert_eq!(secs, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    /// Seconds and all three forms of a date; what cannot be read, or is over, asks for nothing.
    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let now = "1994-11-06T08:49:07Z".parse().expect("a time");
        let secs = |value: &str| retry_after(value, now).map(|wait| wait.as_secs());
        assert_eq!(secs(" 120 "), Some(120));
        for date in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(secs(date), Some(30), "{date}");
        }
        for nothing in ["Sun, 06 Nov 1994 08:49:06 GMT", "-1", "1.5", "NaN", "soon", "", "99999999999999999999999"] {
            assert_eq!(secs(nothing), None, "{nothing}");
        }
    }

    proptest! {
        /// Whatever the dice, the delay stays inside the jitter and never shrinks to nothing.
        #[test]
        fn stays_inside_the_jitter(dials in 1u32..200, dice in 0.0f64..=1.0) {
            let middle = DEFAULT.delay(dials, 0.5).as_secs_f64();
            let delay = DEFAULT.delay(dials, dice).as_secs_f64();
            prop_assert!(delay >= middle * 0.8 - 0.001 && delay <= middle * 1.2 + 0.001);
        }
    }
}
