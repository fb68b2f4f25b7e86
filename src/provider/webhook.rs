//! Reading the two generic webhooks: the status callback and the outcome webhook.
//!
//! Unknown fields are ignored, as is right for somebody else's messages; what cannot be understood is an error with its field.

use chrono::{DateTime, Datelike, Utc};
use serde::Deserialize;

use crate::domain::disposition::Disposition;
use crate::domain::ids::AttemptId;
use crate::domain::word::{Ended, Outcome, Weight, Word, shortened};

/// A webhook in our words.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Our id, if it names one.
    pub attempt_id: Option<AttemptId>,
    /// The provider's id, if it names one.
    pub provider_call_id: Option<String>,
    pub word: Word,
    /// When it was so at the provider.
    pub at: Option<DateTime<Utc>>,
    /// The sender's id of the event, where its body has one.
    pub key: Option<String>,
}

/// Why a webhook cannot be read: the field and the reason.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct Error {
    pub field: &'static str,
    pub message: String,
}

pub(super) fn error(field: &'static str, message: impl Into<String>) -> Error {
    Error { field, message: message.into() }
}

/// The body of `POST /api/v1/callbacks/call-status`.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// The provider's id of the call.
    pub call_id: Option<String>,
    /// Our id of the attempt.
    pub conversation_id: Option<String>,
    /// COMPLETED, FAILED, BUSY, NO_ANSWER, VOICEMAIL, CANCELED; or IN_PROGRESS, RINGING, QUEUED, STARTED.
    pub status: String,
    /// Seconds.
    pub duration_sec: Option<f64>,
    pub completed_at: Option<DateTime<Utc>>,
    pub failure_reason: Option<String>,
}

/// The body of `POST /webhooks/outcome`.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeReport {
    /// call.started, call.completed, call.failed, or call.outcome (told during the call).
    pub event_type: String,
    pub conversation_id: Option<String>,
    pub call_id: Option<String>,
    /// Seconds.
    pub duration: Option<f64>,
    pub transcript: Option<String>,
    pub outcome: Option<OutcomeBody>,
    pub failure_reason: Option<String>,
    pub completed_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutcomeBody {
    /// APPOINTMENT_SET, CALLBACK_REQUESTED, NOT_INTERESTED, DO_NOT_CALL, WRONG_NUMBER, VOICEMAIL, NO_ANSWER, BUSY, COMPLETED.
    pub r#type: String,
    pub appointment_time: Option<DateTime<Utc>>,
    pub callback_time: Option<DateTime<Utc>>,
}

/// A bare status as a word; none when it is not a status we know. Case and dashes do not matter.
#[must_use]
pub fn status_word(status: &str) -> Option<Word> {
    let ended = |disposition, weight| Word::Ended(Ended::of(disposition, weight));
    Some(match status.trim().to_ascii_uppercase().replace(['-', ' '], "_").as_str() {
        "QUEUED" | "RINGING" | "INITIATED" | "ACCEPTED" => {
            Word::Accepted { provider_call_id: None, carrier_call_id: None }
        }
        "IN_PROGRESS" | "STARTED" | "ANSWERED" => Word::Started,
        "COMPLETED" => ended(Disposition::Completed, Weight::Status),
        "FAILED" => ended(Disposition::Failed, Weight::Status),
        "BUSY" => ended(Disposition::Busy, Weight::Cause),
        "NO_ANSWER" => ended(Disposition::NoAnswer, Weight::Cause),
        "VOICEMAIL" => ended(Disposition::Voicemail, Weight::Cause),
        "CANCELED" | "CANCELLED" => ended(Disposition::Canceled, Weight::Status),
        _ => return None,
    })
}

impl StatusReport {
    /// # Errors
    /// An unknown status or an absurd length.
    pub fn read(self) -> Result<Report, Error> {
        let word = status_word(&self.status).ok_or_else(|| {
            error("status", "must be COMPLETED, FAILED, BUSY, NO_ANSWER, VOICEMAIL, CANCELED, IN_PROGRESS or RINGING")
        })?;
        let word = match word {
            Word::Ended(ended) => Word::Ended(Ended {
                provider_call_id: self.call_id.clone(),
                duration_secs: seconds("durationSec", self.duration_sec)?,
                hangup_cause: self.failure_reason.map(|reason| shortened(&reason)),
                ..ended
            }),
            Word::Accepted { .. } => Word::Accepted { provider_call_id: self.call_id.clone(), carrier_call_id: None },
            other => other,
        };
        let (attempt_id, provider_call_id) = ids(self.conversation_id, self.call_id);
        Ok(Report { attempt_id, provider_call_id, word, at: self.completed_at, key: None })
    }
}

impl OutcomeReport {
    /// # Errors
    /// An unknown event or outcome type, a time that is missing or absurd.
    pub fn read(self) -> Result<Report, Error> {
        let outcome = self.outcome.map(OutcomeBody::read).transpose()?;
        let duration_secs = seconds("duration", self.duration)?;
        let ended = |disposition, weight| {
            Word::Ended(Ended {
                disposition,
                weight,
                outcome: outcome.clone(),
                provider_call_id: self.call_id.clone(),
                hangup_cause: self.failure_reason.as_deref().map(shortened),
                duration_secs,
                transcript: self.transcript.clone(),
                dials_max: None,
            })
        };
        let word = match self.event_type.as_str() {
            "call.started" => Word::Started,
            "call.outcome" => {
                let outcome = outcome.clone().ok_or_else(|| error("outcome", "is needed by call.outcome"))?;
                Word::Told { outcome }
            }
            "call.completed" | "call.ended" => match &outcome {
                Some(told) => ended(told.disposition, Weight::Explicit),
                None => ended(Disposition::Completed, Weight::Status),
            },
            "call.failed" => match &outcome {
                Some(told) => ended(told.disposition, Weight::Explicit),
                None => ended(Disposition::Failed, Weight::Status),
            },
            _ => {
                return Err(error("eventType", "must be call.started, call.outcome, call.completed or call.failed"));
            }
        };
        let (attempt_id, provider_call_id) = ids(self.conversation_id, self.call_id);
        Ok(Report { attempt_id, provider_call_id, word, at: self.completed_at, key: None })
    }
}

impl OutcomeBody {
    /// # Errors
    /// An unknown type, a time that is missing or absurd.
    pub fn read(self) -> Result<Outcome, Error> {
        let disposition = match self.r#type.as_str() {
            "APPOINTMENT_SET" => Disposition::AppointmentSet,
            "CALLBACK_REQUESTED" => Disposition::CallbackRequested,
            "NOT_INTERESTED" => Disposition::NotInterested,
            "DO_NOT_CALL" => Disposition::DoNotCall,
            "WRONG_NUMBER" => Disposition::WrongNumber,
            "VOICEMAIL" => Disposition::Voicemail,
            "NO_ANSWER" => Disposition::NoAnswer,
            "BUSY" => Disposition::Busy,
            "COMPLETED" => Disposition::Completed,
            _ => {
                return Err(error(
                    "outcome.type",
                    "must be APPOINTMENT_SET, CALLBACK_REQUESTED, NOT_INTERESTED, DO_NOT_CALL, WRONG_NUMBER, VOICEMAIL, NO_ANSWER, BUSY or COMPLETED",
                ));
            }
        };
        sensible("outcome.appointmentTime", self.appointment_time)?;
        sensible("outcome.callbackTime", self.callback_time)?;
        if disposition == Disposition::AppointmentSet && self.appointment_time.is_none() {
            return Err(error("outcome.appointmentTime", "is needed by APPOINTMENT_SET"));
        }
        Ok(Outcome {
            appointment_time: self.appointment_time,
            callback_time: self.callback_time,
            ..Outcome::of(disposition)
        })
    }
}

/// `conversationId` is our attempt's id; a text that is no id of ours is kept as a name we may learn later.
fn ids(conversation_id: Option<String>, call_id: Option<String>) -> (Option<AttemptId>, Option<String>) {
    let attempt_id = conversation_id.as_deref().and_then(|text| text.parse().ok());
    (attempt_id, call_id.or(conversation_id.filter(|_| attempt_id.is_none())))
}

/// A time somebody may have agreed on.
fn sensible(field: &'static str, at: Option<DateTime<Utc>>) -> Result<(), Error> {
    match at {
        Some(at) if !(2000..2100).contains(&at.year()) => Err(error(field, "must lie in the years 2000 to 2099")),
        _ => Ok(()),
    }
}

/// A length in seconds, rounded up to whole ones; a call longer than a day is a mistake of the sender.
fn seconds(field: &'static str, secs: Option<f64>) -> Result<Option<i32>, Error> {
    const DAY: f64 = 86_400.0;
    match secs {
        None => Ok(None),
        Some(secs) if (0.0..=DAY).contains(&secs) => {
            #[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "checked to be within a day")]
            let whole = secs.ceil() as i32;
            Ok(Some(whole))
        }
        Some(_) => Err(error(field, "must be between 0 and 86400 seconds")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(json: &str) -> Result<Report, Error> {
        serde_json::from_str::<OutcomeReport>(json).expect("json").read()
    }

    /// The two outcome examples of the platform are read as they stand, but for the id.
    #[test]
    fn reads_the_documented_outcomes() {
        let id = "0193b5a0-0000-7000-8000-000000000001";
        let report = outcome(&format!(
            r#"{{"eventType":"call.completed","conversationId":"{id}","duration":240,"transcript":"Booked!",
                "outcome":{{"type":"APPOINTMENT_SET","appointmentTime":"2025-02-26T15:00:00Z"}}}}"#
        ))
        .expect("read");
        assert_eq!(report.attempt_id.map(|a| a.to_string()).as_deref(), Some(id));
        let Word::Ended(ended) = report.word else { panic!("ended expected") };
        assert_eq!(
            (ended.disposition, ended.weight, ended.duration_secs),
            (Disposition::AppointmentSet, Weight::Explicit, Some(240))
        );

        let report =
            outcome(&format!(r#"{{"eventType":"call.failed","conversationId":"{id}","failureReason":"Unreachable"}}"#))
                .expect("read");
        let Word::Ended(ended) = report.word else { panic!("ended expected") };
        assert_eq!((ended.disposition, ended.hangup_cause.as_deref()), (Disposition::Failed, Some("Unreachable")));
    }

    /// What cannot be understood names its field.
    #[test]
    fn names_the_field_it_cannot_read() {
        for (json, field) in [
            (r#"{"eventType":"call.exploded"}"#, "eventType"),
            (r#"{"eventType":"call.completed","duration":-1}"#, "duration"),
            (r#"{"eventType":"call.completed","outcome":{"type":"MAYBE"}}"#, "outcome.type"),
            (r#"{"eventType":"call.completed","outcome":{"type":"APPOINTMENT_SET"}}"#, "outcome.appointmentTime"),
        ] {
            assert_eq!(outcome(json).expect_err(json).field, field);
        }
    }

    /// Statuses are read whatever their spelling; a word nobody agreed on is not guessed at.
    #[test]
    fn statuses() {
        assert!(matches!(status_word("no-answer"), Some(Word::Ended(e)) if e.disposition == Disposition::NoAnswer));
        assert!(matches!(status_word("in progress"), Some(Word::Started)));
        assert_eq!(status_word("EXPLODED"), None);
    }
}
