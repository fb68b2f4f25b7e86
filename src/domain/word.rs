//! What can be said about an attempt, by its provider or by us. One closed vocabulary: webhooks, polls and the answers
//! to dials are all translated into it at the border, and `outcome::decide` is the only place that gives it meaning.

use std::time::Duration;

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};

use crate::domain::disposition::Disposition;
use crate::domain::ids::PROVIDER_ID_BYTES_MAX;

/// A hangup cause, in whosever words, is kept up to so many characters.
const CAUSE_CHARS_MAX: usize = 200;

/// One thing said about one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "snake_case")]
pub enum Word {
    /// The provider has the call; `carrier_call_id`: the leg to the phone, where the carrier is another.
    Accepted { provider_call_id: Option<String>, carrier_call_id: Option<String> },
    /// The provider has prepared for the call; nobody's phone was asked for yet.
    Prepared { provider_call_id: String },
    /// The conversation has begun.
    Started,
    /// An outcome told during the call; it acts when the call ends.
    Told { outcome: Outcome },
    /// One of two sides is over, the carrier's leg or the agent. What that makes of the call, and whether the other is over too, is
    /// asked. Only the carrier's word says that a phone was dialed.
    OneSideOver { by_carrier: bool, hangup_cause: Option<String> },
    /// What was prepared has ended unused: nobody was talked to, and nobody will be.
    Lapsed { hangup_cause: String },
    /// The way to the phone was shut, by its network or, `full`, to our account: nobody's phone rang. `dials_max`: after so many dials of
    /// the call it costs an attempt all the same.
    TurnedAway {
        full: bool,
        hangup_cause: Option<String>,
        #[serde(default)]
        dials_max: Option<i16>,
    },
    /// The call is over.
    Ended(Ended),
    /// The provider's record of a call that is over.
    Recorded(Record),
    /// The provider refused for good; asking again would not help. `wrong_number`: because there is no such number.
    Refused {
        reason: String,
        #[serde(default)]
        wrong_number: bool,
    },
    /// The provider is full: no dial. `retry_after_ms` as it asked, already clamped.
    Capacity { retry_after_ms: u64 },
    /// It refuses us, or what every call of this user asks for: no dial, and the call waits `again_secs`, behind others.
    Barred { reason: String, again_secs: f64 },
    /// The request never left, or never reached the provider: no dial.
    NotSent { reason: String },
    /// We looked again before the request and must not dial now: no dial.
    Withheld { bar: String, detail: Option<String> },
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
    /// Such an end is no reason for another dial after so many.
    #[serde(default)]
    pub dials_max: Option<i16>,
}

impl Ended {
    /// An end of which nothing more is known.
    #[must_use]
    pub fn of(disposition: Disposition, weight: Weight) -> Self {
        Self {
            disposition,
            weight,
            outcome: None,
            provider_call_id: None,
            hangup_cause: None,
            duration_secs: None,
            transcript: None,
            dials_max: None,
        }
    }
}

/// A cause is a word or two; a provider's essay is cut.
#[must_use]
pub fn shortened(cause: &str) -> String {
    cause.chars().take(CAUSE_CHARS_MAX).collect()
}

/// What a provider has written down of a call once it is over. It says how long and what, not how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What it bills; outweighs what was measured.
    pub billed_secs: Option<i32>,
    pub transcript: Option<String>,
    pub summary: Option<String>,
    /// There is nothing more to come.
    pub complete: bool,
}

/// Whether every program can compute with a time: the rule of `is_computable` in SQL.
#[must_use]
pub fn is_computable(at: &DateTime<Utc>) -> bool {
    (1900..=9999).contains(&at.year())
}

/// An outcome told by the agent or the platform (explicit), or by a machine that listened (a cause).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    #[serde(rename = "type")]
    pub disposition: Disposition,
    #[serde(rename = "appointmentTime", skip_serializing_if = "Option::is_none")]
    pub appointment_time: Option<DateTime<Utc>>,
    #[serde(rename = "callbackTime", skip_serializing_if = "Option::is_none")]
    pub callback_time: Option<DateTime<Utc>>,
    #[serde(default = "Weight::explicit", skip_serializing_if = "Weight::is_explicit")]
    pub weight: Weight,
}

impl Outcome {
    /// Without times that no program computes with.
    fn storable(self) -> Self {
        Self {
            appointment_time: self.appointment_time.filter(is_computable),
            callback_time: self.callback_time.filter(is_computable),
            ..self
        }
    }

    /// An outcome without a time, told by somebody who knows.
    #[must_use]
    pub fn of(disposition: Disposition) -> Self {
        Self { disposition, appointment_time: None, callback_time: None, weight: Weight::Explicit }
    }
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
    fn explicit() -> Self {
        Self::Explicit
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_explicit(&self) -> bool {
        *self == Self::Explicit
    }

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
            Self::Prepared { .. } => "prepared",
            Self::Started => "started",
            Self::Told { .. } => "told",
            Self::OneSideOver { .. } => "one_side_over",
            Self::Lapsed { .. } => "lapsed",
            Self::TurnedAway { .. } => "turned_away",
            Self::Ended(_) => "ended",
            Self::Recorded(_) => "recorded",
            Self::Refused { .. } => "refused",
            Self::Capacity { .. } => "capacity",
            Self::Barred { .. } => "barred",
            Self::NotSent { .. } => "not_sent",
            Self::Withheld { .. } => "withheld",
            Self::Doubt { .. } => "doubt",
            Self::NotFound => "not_found",
            Self::Overdue => "overdue",
        }
    }

    /// The same, with what can be stored of it: no NUL characters, no times beyond the years 1900 to 9999, no ids that no index holds. A
    /// call with such an id is found by our own.
    #[must_use]
    pub fn storable(self) -> Self {
        let clean = |text: String| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text };
        let id = |id: Option<String>| id.map(clean).filter(|id| id.len() <= PROVIDER_ID_BYTES_MAX);
        match self {
            Self::Accepted { provider_call_id, carrier_call_id } => {
                Self::Accepted { provider_call_id: id(provider_call_id), carrier_call_id: id(carrier_call_id) }
            }
            Self::Prepared { provider_call_id } => Self::Prepared { provider_call_id: clean(provider_call_id) },
            Self::Told { outcome } => Self::Told { outcome: outcome.storable() },
            Self::OneSideOver { by_carrier, hangup_cause } => {
                Self::OneSideOver { by_carrier, hangup_cause: hangup_cause.map(clean) }
            }
            Self::Lapsed { hangup_cause } => Self::Lapsed { hangup_cause: clean(hangup_cause) },
            Self::TurnedAway { full, hangup_cause, dials_max } => {
                Self::TurnedAway { full, hangup_cause: hangup_cause.map(clean), dials_max }
            }
            Self::Barred { reason, again_secs } => Self::Barred { reason: clean(reason), again_secs },
            Self::Ended(ended) => Self::Ended(Ended {
                outcome: ended.outcome.map(Outcome::storable),
                provider_call_id: id(ended.provider_call_id),
                hangup_cause: ended.hangup_cause.map(clean),
                transcript: ended.transcript.map(clean),
                ..ended
            }),
            Self::Recorded(record) => Self::Recorded(Record {
                transcript: record.transcript.map(clean),
                summary: record.summary.map(clean),
                ..record
            }),
            Self::Refused { reason, wrong_number } => Self::Refused { reason: clean(reason), wrong_number },
            Self::NotSent { reason } => Self::NotSent { reason: clean(reason) },
            Self::Withheld { bar, detail } => Self::Withheld { bar: clean(bar), detail: detail.map(clean) },
            Self::Doubt { reason, sent_ms_ago } => Self::Doubt { reason: clean(reason), sent_ms_ago },
            Self::Started | Self::Capacity { .. } | Self::NotFound | Self::Overdue => self,
        }
    }

    /// A call that ended with this disposition, by a bare status.
    #[must_use]
    pub fn ended(disposition: Disposition, duration: Option<Duration>) -> Self {
        let duration_secs = duration.and_then(|duration| i32::try_from(duration.as_secs()).ok());
        Self::Ended(Ended { duration_secs, ..Ended::of(disposition, Weight::Status) })
    }
}
