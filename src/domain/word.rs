//! What can be said about an attempt, by its provider or by us. One closed vocabulary: webhooks, polls and the answers
//! to dials are all translated into it at the border, and `outcome::decide` is the only place that gives it meaning.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::disposition::Disposition;

/// One thing said about one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum Word {
    /// The provider has the call.
    Accepted { provider_call_id: Option<String> },
    /// The conversation has begun.
    Started,
    /// An outcome told during the call; it acts when the call ends.
    Told { outcome: Outcome },
    /// The call is over.
    Ended(Ended),
    /// The provider refused for good; asking again would not help.
    Refused { reason: String },
    /// The provider is full: no dial. `retry_after_ms` as it asked, already clamped.
    Capacity { retry_after_ms: u64 },
    /// The request never left, or never reached the provider: no dial.
    NotSent { reason: String },
    /// We looked again before the request and must not dial now: no dial.
    Withheld { bar: String },
    /// Nobody knows whether the provider took it. `sent_ms_ago` counts from the first byte.
    Doubt { reason: String, sent_ms_ago: u64 },
    /// A look-up by attempt id found nothing.
    NotFound,
    /// Open for longer than a call may last.
    Overdue,
}

/// How a call ended, in the provider's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub disposition: Disposition,
    /// How strong this is as evidence: an explicit outcome outweighs a carrier cause, which outweighs a bare status.
    pub weight: Weight,
    pub outcome: Option<Outcome>,
    pub provider_call_id: Option<String>,
    pub hangup_cause: Option<String>,
    pub duration_secs: Option<i32>,
    pub transcript: Option<String>,
}

/// An explicit outcome, from the agent or the platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(rename = "type")]
    pub disposition: Disposition,
    #[serde(rename = "appointmentTime", skip_serializing_if = "Option::is_none")]
    pub appointment_time: Option<DateTime<Utc>>,
    #[serde(rename = "callbackTime", skip_serializing_if = "Option::is_none")]
    pub callback_time: Option<DateTime<Utc>>,
}

/// Strength of evidence, weakest first; stored as its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(i16)]
pub enum Weight {
    None = 0,
    /// We concluded it ourselves, for want of a word.
    Ours = 1,
    Status = 2,
    Cause = 3,
    Explicit = 4,
}

impl Weight {
    #[must_use]
    pub fn as_sql(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Ours => 1,
            Self::Status => 2,
            Self::Cause => 3,
            Self::Explicit => 4,
        }
    }

    /// The weight behind a stored number; unknown numbers weigh nothing.
    #[must_use]
    pub fn of_sql(stored: i16) -> Self {
        match stored {
            1 => Self::Ours,
            2 => Self::Status,
            3 => Self::Cause,
            4 => Self::Explicit,
            _ => Self::None,
        }
    }
}

impl Word {
    /// The event type under which it is stored; `ops.provider_errors` reads these names.
    #[must_use]
    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Started => "started",
            Self::Told { .. } => "told",
            Self::Ended(_) => "ended",
            Self::Refused { .. } => "refused",
            Self::Capacity { .. } => "capacity",
            Self::NotSent { .. } => "not_sent",
            Self::Withheld { .. } => "withheld",
            Self::Doubt { .. } => "doubt",
            Self::NotFound => "not_found",
            Self::Overdue => "overdue",
        }
    }

    /// A call that ended with this disposition, by a bare status.
    #[must_use]
    pub fn ended(disposition: Disposition, duration: Option<Duration>) -> Self {
        Self::Ended(Ended {
            disposition,
            weight: Weight::Status,
            outcome: None,
            provider_call_id: None,
            hangup_cause: None,
            duration_secs: duration.and_then(|d| i32::try_from(d.as_secs()).ok()),
            transcript: None,
        })
    }
}
