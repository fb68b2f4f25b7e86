//! How the agent reports its result: a tool of ours, made with each call, whose URL carries the attempt's id and token. Where it was
//! not heard, what the agent said to the tool stands in the transcript; and where there is none, the summary may say who must not
//! be called again.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::disposition::Disposition;
use crate::domain::word::{Outcome, Weight};
use crate::provider::ReportTo;
use crate::provider::ultravox::webhook::time;
use crate::provider::webhook::{self, OutcomeBody};

/// Its name, as the agent sees it.
pub use crate::domain::script::REPORT_TOOL as NAME;
/// Where it reports to.
pub const PATH: &str = "/webhooks/ultravox/outcome";

/// The tool, as an entry of `selectedTools`.
#[must_use]
pub fn definition(report_to: &ReportTo, began: DateTime<Utc>) -> Value {
    let now = began.to_rfc3339_opts(SecondsFormat::Secs, true);
    let time = |what: &str| {
        json!({"type": "string", "format": "date-time",
               "description": format!("{what}, RFC 3339 with offset. The call began at {now}.")})
    };
    let parameter = |name: &str, schema: Value, required: bool| json!({"name": name, "location": "PARAMETER_LOCATION_BODY", "schema": schema, "required": required});
    json!({"temporaryTool": {
        "modelToolName": NAME,
        "description": "Report the result of this call. Use it exactly once, as soon as the result is certain and before hanging up; always when the person asks not to be called again.",
        "dynamicParameters": [
            parameter("type", json!({"type": "string", "description": "The result.", "enum": [
                "APPOINTMENT_SET", "CALLBACK_REQUESTED", "NOT_INTERESTED", "DO_NOT_CALL", "WRONG_NUMBER", "VOICEMAIL", "COMPLETED"]}), true),
            parameter("appointmentTime", time("The time agreed on, for APPOINTMENT_SET"), false),
            parameter("callbackTime", time("When to call again, for CALLBACK_REQUESTED"), false),
        ],
        "http": {"baseUrlPattern": report_to.url(PATH), "httpMethod": "POST"},
    }})
}

/// What an agent says to the tool. It is a language model: a time it was not asked for may be an empty text, and must not cost the
/// outcome.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportedOutcome)]
pub struct Told {
    /// APPOINTMENT_SET, CALLBACK_REQUESTED, NOT_INTERESTED, DO_NOT_CALL, WRONG_NUMBER, VOICEMAIL, COMPLETED.
    pub r#type: String,
    /// RFC 3339; needed by APPOINTMENT_SET.
    pub appointment_time: Option<String>,
    pub callback_time: Option<String>,
}

impl Told {
    /// # Errors
    /// An unknown type, an appointment without a readable time, an absurd time.
    pub fn read(self) -> Result<Outcome, webhook::Error> {
        let at = |text: Option<String>| text.as_deref().map(str::trim).and_then(time);
        OutcomeBody {
            r#type: self.r#type.trim().to_ascii_uppercase(),
            appointment_time: at(self.appointment_time),
            callback_time: at(self.callback_time),
        }
        .read()
    }
}

/// What the agent told the tool, from the messages of the call; the last one that can be read.
#[must_use]
pub fn told_in(messages: &[super::Message]) -> Option<Outcome> {
    let calls = messages
        .iter()
        .rev()
        .filter(|message| message.role == "MESSAGE_ROLE_TOOL_CALL" && message.tool_name.as_deref() == Some(NAME));
    calls.filter_map(|message| serde_json::from_str::<Told>(message.text.as_deref()?).ok()?.read().ok()).next()
}

/// Phrases in a summary after which nobody should be called again. It is a guess from prose: it only ever stops calls, and whatever
/// was told outweighs it.
const STOPS: &[(Disposition, &[&str])] = &[
    (
        Disposition::DoNotCall,
        &[
            "do not call",
            "don't call",
            "not to be called",
            "not to call",
            "stop calling",
            "remove them from",
            "removed from the",
        ],
    ),
    (Disposition::WrongNumber, &["wrong number", "wrong person"]),
    (Disposition::NotInterested, &["not interested", "no interest", "declined the offer"]),
];

/// What a summary says, where it says that calls should stop.
#[must_use]
pub fn told_by_summary(summary: &str) -> Option<Outcome> {
    let summary = summary.to_lowercase().replace('\u{2019}', "'");
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| summary.contains(phrase));
    let (disposition, _) = STOPS.iter().find(|(_, phrases)| says(phrases))?;
    Some(Outcome { weight: Weight::Cause, ..Outcome::of(*disposition) })
}

#[cfg(test)]
mod tests {
    use super::super::Message;
    use super::*;

    fn message(role: &str, tool: Option<&str>, text: &str) -> Message {
        Message { role: role.to_owned(), tool_name: tool.map(str::to_owned), text: Some(text.to_owned()) }
    }

    /// The last readable use of our tool counts; other tools and mere words do not.
    #[test]
    fn the_transcript_holds_what_the_tool_was_told() {
        let call = |text| message("MESSAGE_ROLE_TOOL_CALL", Some(NAME), text);
        let messages = [
            message("MESSAGE_ROLE_AGENT", None, r#"{"type":"DO_NOT_CALL"}"#),
            call(r#"{"type":"CALLBACK_REQUESTED","callbackTime":"2026-12-01T10:00:00Z"}"#),
            call(r#"{"type":"APPOINTMENT_SET"}"#),
            message("MESSAGE_ROLE_TOOL_CALL", Some("hangUp"), r#"{"type":"WRONG_NUMBER"}"#),
        ];
        let told = told_in(&messages).expect("an outcome");
        assert_eq!((told.disposition, told.weight), (Disposition::CallbackRequested, Weight::Explicit));
        assert_eq!(told_in(&messages[..1]), None);
    }

    /// A time nobody asked for costs nothing; an appointment needs one.
    #[test]
    fn the_agent_is_read_kindly() {
        let read = |json: &str| serde_json::from_str::<Told>(json).expect("JSON").read();
        let told = read(r#"{"type":"do_not_call","appointmentTime":"","callbackTime":null}"#).expect("an outcome");
        assert_eq!((told.disposition, told.weight), (Disposition::DoNotCall, Weight::Explicit));
        let told = read(r#"{"type":"CALLBACK_REQUESTED","callbackTime":"tomorrow"}"#).expect("an outcome");
        assert_eq!((told.disposition, told.callback_time), (Disposition::CallbackRequested, None));
        let error = read(r#"{"type":"APPOINTMENT_SET","appointmentTime":"Friday"}"#).expect_err("no time");
        assert_eq!(error.field, "outcome.appointmentTime");
    }

    #[test]
    fn a_summary_only_stops_calls() {
        let of = |text| told_by_summary(text).map(|told| told.disposition);
        assert_eq!(of("The person asked us to Stop Calling them."), Some(Disposition::DoNotCall));
        assert_eq!(of("She said she doesn’t want this and please don’t call again"), Some(Disposition::DoNotCall));
        assert_eq!(of("It was the wrong number."), Some(Disposition::WrongNumber));
        assert_eq!(of("They booked an appointment for Friday."), None);
        assert_eq!(of("It went to voicemail."), None);
    }
}
