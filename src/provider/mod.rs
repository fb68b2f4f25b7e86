//! Who really dials, behind one trait, and how their webhooks are verified and read.
//!
//! A provider answers in our words ([`crate::domain::word::Word`]); what they mean is not decided here.
//! **Invariant:** a provider never sees Postgres or axum. Doubt begins with the first byte of a request: what failed before is
//! [`Placed::NotSent`], what failed after is [`Placed::Ambiguous`], and only the first may be dialed again.

pub mod causes;
pub mod http;
pub mod signature;
pub mod simulator;
pub mod telnyx;
pub mod ultravox;
pub mod webhook;
mod wire;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use tokio::sync::mpsc;

use crate::domain::ids::{AttemptId, CallId};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::domain::script::{Agent, Script};
use crate::domain::word::Word;

/// A call to be placed. The attempt is committed already; its id travels in the request.
#[derive(Clone, Debug)]
pub struct Dial {
    pub attempt_id: AttemptId,
    pub call_id: CallId,
    pub to: PhoneNumber,
    pub script_id: String,
    /// As the client wrote it.
    pub metadata: RawJson,
    pub variables: RawJson,
    /// Of the user's settings, where there are any.
    pub agent: Option<Agent>,
    /// What `script_id` names, variables filled in; none: it names nothing that is stored here.
    pub script: Option<Script>,
    /// The longest it may last: what is reserved of the user's minutes.
    pub secs_max: Option<i32>,
    /// Where the provider reports to, and the query that names the attempt and proves that the URL is ours.
    pub report_to: ReportTo,
    /// The first of two steps, where placing takes two.
    pub prepared: Option<Prepared>,
    /// The database's time of the claim.
    pub claimed_at: DateTime<Utc>,
}

/// The URLs of this service that concern one attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportTo {
    /// Without a slash at the end.
    pub base: String,
    /// `attemptId=…&token=…`
    pub query: String,
}

impl ReportTo {
    /// A path of this service, for this attempt.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}?{}", self.base, self.query)
    }
}

/// What the first of two steps has made: nobody's phone was asked for yet.
#[derive(Clone, Debug)]
pub struct Prepared {
    pub provider_call_id: String,
    /// What the carrier connects the phone to. A secret.
    pub join_url: SecretString,
}

/// The answer to a dial.
#[derive(Clone, Debug, PartialEq)]
pub enum Placed {
    Accepted {
        provider_call_id: Option<String>,
        /// The leg to the phone, where the carrier is another.
        carrier_call_id: Option<String>,
    },
    /// It would refuse again. `about_number`: it says itself that the fault is the number's; else it may be what every call asks for.
    Refused { reason: String, about_number: bool },
    /// There is no such number, it says; no phone rang.
    WrongNumber { reason: String },
    /// The way to the phone is shut for now; no phone rang. `dials_max` as in [`Word::TurnedAway`].
    TurnedAway { reason: String, dials_max: Option<i16> },
    /// It is full; no dial. `retry_after` as it asked.
    Capacity { retry_after: Option<Duration> },
    /// No byte of the request left: no dial.
    NotSent { reason: String },
    /// It refuses us, not this call (the key, the account): no dial, and no better with the next. A person should look at `setting`.
    Barred { reason: String, setting: &'static str },
    /// It may or may not have it.
    Ambiguous { reason: String },
}

impl Placed {
    /// Whether the provider answered at all, in whatever sense: what the circuit breaker counts.
    #[must_use]
    pub fn is_an_answer(&self) -> bool {
        match self {
            Self::Accepted { .. }
            | Self::Refused { .. }
            | Self::WrongNumber { .. }
            | Self::TurnedAway { .. }
            | Self::Capacity { .. } => true,
            Self::NotSent { .. } | Self::Barred { .. } | Self::Ambiguous { .. } => false,
        }
    }

    /// Whether surely no phone rang, nor will: what was prepared for it is of no use.
    #[must_use]
    pub fn rang_no_phone(&self) -> bool {
        !matches!(self, Self::Accepted { .. } | Self::Ambiguous { .. })
    }

    /// The label in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Refused { about_number: true, .. } => "refused_number",
            Self::Refused { about_number: false, .. } => "refused",
            Self::WrongNumber { .. } => "wrong_number",
            Self::TurnedAway { .. } => "turned_away",
            Self::Capacity { .. } => "capacity",
            Self::NotSent { .. } => "not_sent",
            Self::Barred { .. } => "barred",
            Self::Ambiguous { .. } => "ambiguous",
        }
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { .. } => f.write_str("accepted"),
            Self::Refused { reason, about_number: false } => write!(f, "refused: {reason}"),
            Self::Refused { reason, about_number: true } => write!(f, "refused, for the number: {reason}"),
            Self::WrongNumber { reason } => write!(f, "no such number: {reason}"),
            Self::TurnedAway { reason, .. } => write!(f, "turned away for now: {reason}"),
            Self::Capacity { retry_after: None } => f.write_str("full"),
            Self::Capacity { retry_after: Some(wait) } => write!(f, "full, for {:.1} s", wait.as_secs_f64()),
            Self::NotSent { reason } => write!(f, "not sent: {reason}"),
            Self::Barred { reason, setting } => {
                write!(f, "refused to us, whatever the call (look at {setting}): {reason}")
            }
            Self::Ambiguous { reason } => write!(f, "in doubt: {reason}"),
        }
    }
}

/// An attempt the provider is asked about.
#[derive(Clone, Debug)]
pub struct Question {
    pub attempt_id: AttemptId,
    pub call_id: CallId,
    pub provider_call_id: Option<String>,
    pub carrier_call_id: Option<String>,
    /// What the carrier has said of its end so far.
    pub hangup_cause: Option<String>,
    pub claimed_at: DateTime<Utc>,
}

/// What the provider knows of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// It has it: accepted, started or ended.
    Known(Word),
    /// It surely has no such attempt, as of now.
    NotFound,
    /// It cannot say: no look-up, or no answer.
    CannotSay,
}

/// An attempt as the provider was given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub attempt_id: AttemptId,
    pub call_id: CallId,
    pub provider_call_id: String,
}

/// Whether a hang-up was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HungUp {
    Asked,
    /// This provider has no way to hang up.
    NoWay,
    /// Not now: it may ring still, or be over already.
    Failed,
}

/// Something a provider in this process says by itself.
#[derive(Clone, Debug)]
pub struct Said {
    pub attempt_id: AttemptId,
    pub word: Word,
    /// When it was so at the provider.
    pub at: Option<DateTime<Utc>>,
}

/// Where a provider in this process speaks to.
pub type Ear = mpsc::UnboundedSender<Said>;

/// Who really dials.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name kept with each attempt.
    fn name(&self) -> &'static str;

    /// Whether scripts stored here are looked up for it; otherwise `script_id` is passed on as it is.
    fn reads_scripts(&self) -> bool {
        false
    }

    /// Whether it keeps records of ended calls that are worth asking for.
    fn keeps_records(&self) -> bool {
        false
    }

    /// The first step of two, after which nobody's phone rings yet; it is written down before [`Self::place`]. None: one step.
    ///
    /// # Errors
    /// The answer that ends this dial; never a doubt, since nobody was dialed.
    async fn prepare(&self, _dial: &Dial) -> Result<Option<Prepared>, Placed> {
        Ok(None)
    }

    /// Asks for the call. Never retries by itself.
    async fn place(&self, dial: &Dial) -> Placed;

    /// Gives up what was prepared for a phone that surely did not ring. Nothing depends on it: errors are only logged.
    async fn take_back(&self, _prepared: &Prepared) {}

    /// Looks an attempt up by our id, after doubt.
    async fn find_by_attempt(&self, question: &Question) -> Found;

    /// Asks how a call it accepted is doing.
    async fn status(&self, question: &Question) -> Found;

    /// What it has on record of a call that has ended: outcomes nobody told, then the record itself. Nothing: ask again later.
    async fn record(&self, _question: &Question) -> Vec<Word> {
        Vec::new()
    }

    /// Which attempts it was given since a time, for a database that may not know them all.
    ///
    /// # Errors
    /// Why it cannot say.
    async fn given_since(&self, _since: DateTime<Utc>) -> Result<Vec<Given>, String> {
        Err("this provider has no list of calls".to_owned())
    }

    /// Asks for an end of the call.
    async fn hang_up(&self, question: &Question) -> HungUp;
}
