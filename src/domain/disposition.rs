//! How an attempt ended, and what that means for trying again.

use serde::{Deserialize, Serialize};

/// The disposition of an attempt, and of a call: that of its last attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Disposition {
    AppointmentSet,
    CallbackRequested,
    NotInterested,
    DoNotCall,
    WrongNumber,
    Completed,
    Voicemail,
    NoAnswer,
    Busy,
    Failed,
    /// The provider refused the request for good: it would refuse it again.
    Refused,
    Canceled,
    /// The script names something nobody knows of the callee; found before the dial.
    VariableMissing,
    /// What is stored for the call cannot be read; found before the dial.
    Unreadable,
    /// The script names an agent or a tool that its user may not; found before the dial.
    ScriptNotAllowed,
    /// Nobody ever learned how it ended.
    Unknown,
}

/// What a disposition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody was spoken to: the call is done.
    Reached,
    /// Nobody was reached: another dial may help.
    Retry,
    /// Another dial would not help, or must not be.
    Stop,
}

impl Disposition {
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Self::AppointmentSet
            | Self::CallbackRequested
            | Self::NotInterested
            | Self::DoNotCall
            | Self::Completed => Class::Reached,
            Self::Voicemail | Self::NoAnswer | Self::Busy | Self::Failed => Class::Retry,
            Self::WrongNumber
            | Self::Refused
            | Self::Canceled
            | Self::VariableMissing
            | Self::Unreadable
            | Self::ScriptNotAllowed
            | Self::Unknown => Class::Stop,
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AppointmentSet => "APPOINTMENT_SET",
            Self::CallbackRequested => "CALLBACK_REQUESTED",
            Self::NotInterested => "NOT_INTERESTED",
            Self::DoNotCall => "DO_NOT_CALL",
            Self::WrongNumber => "WRONG_NUMBER",
            Self::Completed => "COMPLETED",
            Self::Voicemail => "VOICEMAIL",
            Self::NoAnswer => "NO_ANSWER",
            Self::Busy => "BUSY",
            Self::Failed => "FAILED",
            Self::Refused => "REFUSED",
            Self::Canceled => "CANCELED",
            Self::VariableMissing => "VARIABLE_MISSING",
            Self::Unreadable => "UNREADABLE",
            Self::ScriptNotAllowed => "SCRIPT_NOT_ALLOWED",
            Self::Unknown => "UNKNOWN",
        }
    }
}
