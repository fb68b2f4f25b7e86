//! Telnyx Call Control: dial, hang up, and what is live on our connection. The agent is Ultravox's; here a phone is connected to it.
//!
//! `client_state` carries our attempt's id through every later event, even when the answer to the dial is lost. `command_id` makes a
//! repeat within a minute harmless; we never repeat.

pub mod webhook;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{self, Causes, Meaning};
use crate::domain::disposition::Disposition;
use crate::domain::ids::AttemptId;
use crate::provider::wire::OurFault;
use crate::provider::{Dial, Placed, Prepared, causes, wire};

/// A leg lasts at most so long (their own maximum, which is their default too).
const TIME_LIMIT_SECS_MAX: i32 = 14_400;
/// The agent ends the call at its limit; the carrier so much later, should the agent be gone.
const TIME_LIMIT_SLACK_SECS: i32 = 30;
/// Pages of live calls that are read, of 250 each where they give so many.
const PAGES_MAX: usize = 40;
/// The longest wait after a refusal for want of a channel: their documents ask for 1, 2, 4 s, and name no header.
const CHANNEL_WAIT_SECS_MAX: u64 = 4;
/// Error codes of too many requests or dials a second; what else is full are channels.
const TOO_FAST: &[&str] = &["10011", "90103"];
/// Error codes of a fault of theirs: they may have the call.
const THEIR_FAULT: &[&str] = &["10007", "10037"];
/// Values of `machine_detection` that are documented for certain.
const DETECTIONS: &[&str] = &["disabled", "detect", "detect_beep", "detect_words", "greeting_end", "premium"];

/// What became of the line to a phone that we asked to be hung up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    HungUp,
    /// There is no such line, or not any more.
    Gone,
    /// They did not say.
    Unsure,
}

/// A client of Call Control.
#[derive(Debug)]
pub struct Telnyx {
    client: Client,
    settings: config::Telnyx,
    causes: Causes,
    ring_secs: u32,
    /// Dials in a row that were refused for want of a channel.
    full_in_a_row: AtomicU32,
}

/// `client_state` of an attempt.
#[must_use]
pub fn client_state(attempt: AttemptId) -> String {
    STANDARD.encode(attempt.to_string())
}

/// A leg that somebody else dialed by TeXML, as it is kept: it is ended at another address, which names the account too.
#[must_use]
pub fn texml_leg(account_sid: &str, call_sid: &str) -> String {
    format!("{account_sid} {call_sid}")
}

/// The attempt a `client_state` names; none: it is not one of ours.
#[must_use]
pub fn attempt_of(client_state: &str) -> Option<AttemptId> {
    String::from_utf8(STANDARD.decode(client_state).ok()?).ok()?.parse().ok()
}

#[derive(Debug, Deserialize)]
struct Dialed {
    data: Leg,
}

#[derive(Debug, Deserialize)]
struct Leg {
    call_control_id: Option<String>,
    client_state: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Legs {
    data: Vec<Leg>,
    #[serde(default)]
    meta: Option<Meta>,
}

/// How a list goes on: by cursor or by number, and how long it is by either name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Meta {
    cursors: Option<Cursors>,
    total_pages: Option<usize>,
    total_results: Option<usize>,
    total_items: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cursors {
    after: Option<String>,
}

/// What their body says of a refusal.
#[derive(Debug, Default)]
struct Refusal {
    /// What the table is asked for, most telling first; see [`causes::dial`].
    keys: Vec<String>,
    /// The error code that came first, and its text.
    code: String,
    said: String,
}

impl Refusal {
    /// The body is `{"errors": [{code, title, detail, source, telnyx_error}], "telnyx_error": {error_code}}`, as far as is known.
    fn of(body: &[u8], status: StatusCode) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let faults: Vec<&Value> = body.get("errors").and_then(Value::as_array).into_iter().flatten().collect();
        let mut keys = refusals_in(&body);
        keys.extend(faults.iter().flat_map(|fault| refusals_in(fault)));
        let text = |fault: &Value, name: &str| fault.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let code = |fault: &Value| match fault.get("code") {
            Some(Value::String(code)) => code.clone(),
            Some(Value::Number(code)) => code.to_string(),
            _ => String::new(),
        };
        for fault in &faults {
            let (code, pointer) = (code(fault), fault.pointer("/source/pointer").and_then(Value::as_str));
            keys.extend(pointer.map(|pointer| format!("{code}/{}", pointer.trim_start_matches('/'))));
            keys.extend([format!("{code}/{}", status.as_u16()), code]);
        }
        let first = faults.first();
        let said = first.map(|fault| {
            let said = ["detail", "description", "title"].map(|name| text(fault, name));
            said.into_iter().find(|text| !text.is_empty()).unwrap_or_default()
        });
        Self { keys, code: first.map(|fault| code(fault)).unwrap_or_default(), said: said.unwrap_or_default() }
    }
}

/// Fields in which a refusal's code or its text was seen, in answers, events and forms; the code itself goes first.
const REFUSAL_FIELDS: &[&str] = &[
    "telnyx_error",
    "telnyx_error_code",
    "error_code",
    "ErrorCode",
    "detail",
    "description",
    "title",
    "error_message",
    "ErrorMessage",
    "hangup_reason",
    "sip_hangup_reason",
    "sip_hangup_cause",
    "failure_reason",
    "reason",
];

/// The codes by which the carrier says why it refuses (`D13`, `PE1`), as a field of their own or within a text such as
/// `… not included in whitelisted countries: US D13`.
#[must_use]
pub fn refusals_in(said: &Value) -> Vec<String> {
    let is_code = |token: &&str| {
        let digits = token.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
        let letters = token.len() - digits.len();
        (1..=2).contains(&letters) && (1..=2).contains(&digits.len()) && digits.chars().all(|c| c.is_ascii_digit())
    };
    let texts = REFUSAL_FIELDS.iter().filter_map(|name| match said.get(name)? {
        Value::String(text) => Some(text.as_str()),
        Value::Object(error) => error.get("error_code")?.as_str(),
        _ => None,
    });
    let tokens = texts.flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric()));
    tokens.filter(is_code).map(str::to_owned).collect()
}

impl Telnyx {
    /// # Errors
    /// The client cannot be built (no roots of trust on this machine).
    pub fn new(settings: config::Telnyx, causes: Causes, ring_secs: u32, timeout: Duration) -> anyhow::Result<Self> {
        if !DETECTIONS.contains(&settings.machine_detection.as_str()) {
            let (value, known) = (&settings.machine_detection, DETECTIONS.join(", "));
            tracing::warn!(
                value,
                known,
                "telnyx.machine_detection is passed on as it is: it is none of the known values"
            );
        }
        let full_in_a_row = AtomicU32::new(0);
        Ok(Self { client: wire::client(timeout)?, settings, causes, ring_secs, full_in_a_row })
    }

    /// Whether there is a key to ask with.
    #[must_use]
    pub fn has_key(&self) -> bool {
        !self.settings.api_key.expose_secret().is_empty()
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v2{path}", self.settings.api_url.trim_end_matches('/'))
    }

    fn key(&self) -> &str {
        self.settings.api_key.expose_secret()
    }

    /// Connects the phone to an agent that waits.
    pub async fn dial(&self, dial: &Dial, agent: &Prepared, secs_max: i32) -> Placed {
        let body = self.dial_body(dial, agent, secs_max);
        let placed = match self.client.post(self.url("/calls")).bearer_auth(self.key()).json(&body).send().await {
            Ok(response) => self.answer(response).await,
            Err(error) => wire::unanswered(&error),
        };
        match placed {
            Placed::Accepted { carrier_call_id, .. } => {
                Placed::Accepted { provider_call_id: Some(agent.provider_call_id.clone()), carrier_call_id }
            }
            other => other,
        }
    }

    fn dial_body(&self, dial: &Dial, agent: &Prepared, secs_max: i32) -> Value {
        json!({
            "connection_id": self.settings.connection_id,
            "to": dial.to.as_str(),
            "from": self.settings.from_number,
            "command_id": dial.attempt_id.to_string(),
            "client_state": client_state(dial.attempt_id),
            "webhook_url": dial.report_to.url("/webhooks/telnyx"),
            "webhook_url_method": "POST",
            "timeout_secs": self.ring_secs,
            "time_limit_secs": secs_max.saturating_add(TIME_LIMIT_SLACK_SECS).min(TIME_LIMIT_SECS_MAX),
            "answering_machine_detection": self.settings.machine_detection,
            // As their side of the bridge is documented by Ultravox; the two codecs must be the same.
            "stream_url": agent.join_url.expose_secret(),
            "stream_track": "inbound_track",
            "stream_codec": "L16",
            "stream_bidirectional_mode": "rtp",
            "stream_bidirectional_codec": "L16",
            "stream_bidirectional_sampling_rate": 16000,
            "stream_bidirectional_target_legs": "opposite",
        })
    }

    /// Hangs up, also while it rings.
    pub async fn hang_up(&self, leg: &str) -> Line {
        let request = match leg.split_once(' ') {
            Some((account, sid)) => {
                let path = format!("/texml/Accounts/{}/Calls/{}", wire::escaped(account), wire::escaped(sid));
                let form =
                    self.client.post(self.url(&path)).header("content-type", "application/x-www-form-urlencoded");
                form.body("Status=completed")
            }
            None => {
                self.client.post(self.url(&format!("/calls/{}/actions/hangup", wire::escaped(leg)))).json(&json!({}))
            }
        };
        match request.bearer_auth(self.key()).send().await {
            Ok(response) if response.status().is_success() => Line::HungUp,
            // 422: over already; 404: so long that they have forgotten it, or never theirs.
            Ok(response) if matches!(response.status(), StatusCode::UNPROCESSABLE_ENTITY | StatusCode::NOT_FOUND) => {
                Line::Gone
            }
            Ok(_) | Err(_) => Line::Unsure,
        }
    }

    /// The live leg of an attempt, by its `client_state`. Their list is documented with cursors and with page numbers: both are asked for,
    /// and none is a "not found" unless everything they count was read.
    ///
    /// # Errors
    /// They did not say.
    pub async fn find_live(&self, attempt: AttemptId) -> Result<Option<String>, String> {
        let mut after: Option<String> = None;
        let mut seen: HashSet<String> = HashSet::new();
        let mut total: Option<usize> = None;
        for number in 1..=PAGES_MAX {
            let legs = self.legs(number, after.as_deref()).await?;
            let ours = |leg: &&Leg| leg.client_state.as_deref().and_then(attempt_of) == Some(attempt);
            if let Some(leg) = legs.data.iter().find(ours) {
                return leg.call_control_id.clone().map(Some).ok_or_else(|| "a live call without its id".to_owned());
            }
            let before = seen.len();
            seen.extend(legs.data.iter().filter_map(|leg| leg.call_control_id.clone()));
            let meta = legs.meta.unwrap_or_default();
            let told = meta.total_results.or(meta.total_items);
            // Where pages are numbered, a leg that began or ended meanwhile moves others from page to page: one may have been passed over.
            if number > 1 && after.is_none() && told != total {
                return Err("the list of live calls changed while it was read".to_owned());
            }
            total = told;
            after = meta.cursors.and_then(|cursors| cursors.after).filter(|after| !after.is_empty());
            let missing = total.is_some_and(|total| seen.len() < total);
            let cut_off = missing || meta.total_pages.is_some_and(|pages| pages > number);
            if legs.data.is_empty() || !(cut_off || after.is_some()) {
                return if cut_off { Err(incomplete(seen.len(), total)) } else { Ok(None) };
            }
            if seen.len() == before {
                // The same page again. Where nobody counts, nobody can tell whether that was all.
                return if total.is_some() && !missing { Ok(None) } else { Err(incomplete(seen.len(), total)) };
            }
        }
        Err(format!("more than {PAGES_MAX} pages of live calls"))
    }

    /// A page of the live legs on our connection.
    async fn legs(&self, number: usize, after: Option<&str>) -> Result<Legs, String> {
        let path = format!("/connections/{}/active_calls", wire::escaped(&self.settings.connection_id));
        let cursor = after.map(|after| format!("&page[after]={}", wire::escaped(after))).unwrap_or_default();
        let url = format!("{}?page[limit]=250&page[size]=250&page[number]={number}{cursor}", self.url(&path));
        let response = self.client.get(url).bearer_auth(self.key()).send().await;
        let response = response.map_err(|error| wire::reason_of(&error))?;
        if !response.status().is_success() {
            return Err(format!("HTTP {}", response.status().as_u16()));
        }
        let body = wire::read(response).await.ok_or("the answer broke off")?;
        serde_json::from_slice(&body).map_err(|error| error.to_string())
    }

    /// Whether the key opens our connection, for `doctor`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn examine(&self) -> Result<(), String> {
        self.legs(1, None).await.map(|_| ())
    }

    /// What an answer to a dial means.
    async fn answer(&self, response: Response) -> Placed {
        let (status, headers) = (response.status(), response.headers().clone());
        let Some(body) = wire::read(response).await else {
            return Placed::Ambiguous { reason: format!("HTTP {}, and the answer broke off", status.as_u16()) };
        };
        if !status.is_success() {
            return refused(&self.causes, status, &headers, &body, || self.channel_wait());
        }
        self.full_in_a_row.store(0, Ordering::Relaxed);
        match serde_json::from_slice::<Dialed>(&body) {
            Ok(Dialed { data: Leg { call_control_id: Some(id), .. } }) => {
                Placed::Accepted { provider_call_id: None, carrier_call_id: Some(id) }
            }
            _ => Placed::Ambiguous { reason: format!("HTTP {} without a call_control_id", status.as_u16()) },
        }
    }

    /// How long to wait for a channel: a little, and longer with each refusal in a row. The agent that waited for it is taken back.
    fn channel_wait(&self) -> Duration {
        let row = self.full_in_a_row.fetch_add(1, Ordering::Relaxed).min(8);
        Duration::from_secs((1_u64 << row).min(CHANNEL_WAIT_SECS_MAX))
    }
}

/// What a refusal of a dial means: by the carrier's own code (`D13`), then by their error code, then by the HTTP status, which is not
/// documented for some of them. `channel_wait`: for how long to hold, where no channel is free and they do not say.
fn refused(
    causes: &Causes,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    channel_wait: impl FnOnce() -> Duration,
) -> Placed {
    let reset = headers.get("x-ratelimit-reset").and_then(|value| value.to_str().ok()?.parse().ok());
    let (asked, reset) = (wire::retry_after(headers), reset.map(Duration::from_secs));
    let Refusal { keys, code, said } = Refusal::of(body, status);
    let quoted = wire::quoted(format!("HTTP {} {code} {said}", status.as_u16()).trim());
    // The text may be cut before the code it ends with, or be without.
    let reason = match keys.iter().find(|key| key.starts_with('D')) {
        Some(code) if !quoted.contains(code.as_str()) => format!("{quoted} {code}"),
        _ => quoted,
    };
    match causes::dial(causes, &keys) {
        Some(Meaning::Ends { disposition: Disposition::WrongNumber, .. }) => Placed::WrongNumber { reason },
        Some(Meaning::Ends { .. }) => Placed::Refused { reason, about_number: true },
        Some(Meaning::TurnedAway { full: true, .. }) if TOO_FAST.contains(&code.as_str()) => {
            Placed::Capacity { retry_after: asked.or(reset) }
        }
        Some(Meaning::TurnedAway { full: true, .. }) => {
            Placed::Capacity { retry_after: asked.or_else(|| Some(channel_wait())) }
        }
        Some(Meaning::TurnedAway { full: false, dials_max }) => Placed::TurnedAway { reason, dials_max },
        Some(Meaning::Barred { setting }) => Placed::Barred { reason, setting },
        None if THEIR_FAULT.contains(&code.as_str()) => Placed::Ambiguous { reason },
        None => match (wire::our_fault(status), status) {
            (Some(OurFault::Key), _) => Placed::Barred { reason, setting: "TELNYX_API_KEY" },
            (Some(OurFault::Address), _) => Placed::Barred { reason, setting: "TELNYX_API_URL" },
            (None, StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYMENT_REQUIRED) => {
                Placed::Capacity { retry_after: asked.or(reset) }
            }
            (None, status) if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                Placed::Refused { reason, about_number: false }
            }
            _ => Placed::Ambiguous { reason },
        },
    }
}

fn incomplete(read: usize, total: Option<usize>) -> String {
    let total = total.map_or_else(|| "an unknown number".to_owned(), |total| total.to_string());
    format!("{read} of {total} live calls could be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, body: &Value) -> Placed {
        let status = StatusCode::from_u16(status).expect("a status");
        let wait = || Duration::from_secs(1);
        refused(&Causes::shipped(), status, &HeaderMap::new(), body.to_string().as_bytes(), wait)
    }

    fn error(code: &str, detail: &str, pointer: &str) -> Value {
        json!({"errors": [{"code": code, "title": "Error", "detail": detail, "source": {"pointer": pointer}}]})
    }

    fn kind(placed: &Placed) -> (&'static str, &'static str) {
        match placed {
            Placed::Barred { setting, .. } => ("barred", setting),
            other => (other.as_str(), ""),
        }
    }

    /// Each family of the carrier's own codes, wherever it stands: beside the errors, within one, at the end of the text or amid it.
    #[test]
    fn a_refusal_is_decided_by_the_carriers_own_code() {
        for (code, expected) in [
            ("D1", ("capacity", "")),
            ("D2", ("capacity", "")),
            ("D3", ("capacity", "")),
            ("D10", ("capacity", "")),
            ("D22", ("capacity", "")),
            ("D11", ("refused_number", "")),
            ("D13", ("refused_number", "")),
            ("D41", ("refused_number", "")),
            ("D60", ("refused_number", "")),
            ("D40", ("turned_away", "")),
            ("D17", ("barred", "TELNYX_API_KEY")),
            ("D19", ("barred", "TELNYX_API_KEY")),
            ("D38", ("barred", "telnyx.connection_id")),
            ("D35", ("barred", "telnyx.from_number")),
            // Not listed: the account may not.
            ("D99", ("barred", "TELNYX_API_KEY")),
        ] {
            let text = "Dialed number is not included in whitelisted countries: US, CA";
            let bare = error("10010", text, "");
            let mut beside = bare.clone();
            beside["telnyx_error"] = json!({"error_code": code});
            let mut within = bare.clone();
            within["errors"][0]["telnyx_error"] = json!({"error_code": code});
            let last = error("10010", &format!("{text} {code}"), "");
            let amid = error("10010", &format!("{text} {code}. {text}."), "");
            for body in [beside, within, last, amid] {
                let placed = answered(403, &body);
                assert_eq!(kind(&placed), expected, "{code}: {body}");
                if !matches!(placed, Placed::Capacity { .. }) {
                    assert!(placed.to_string().contains(code), "{placed}");
                }
            }
        }
    }

    /// Error codes, with what they point to and the HTTP status where that tells them apart.
    #[test]
    fn a_refusal_is_decided_by_the_error_code() {
        for (status, code, pointer, expected) in [
            (422, "10016", "/to", ("wrong_number", "")),
            (422, "10016", "/from", ("barred", "telnyx.from_number")),
            (422, "10016", "", ("refused", "")),
            (422, "10002", "/to", ("wrong_number", "")),
            (422, "10002", "", ("wrong_number", "")),
            (422, "10015", "/to", ("refused_number", "")),
            (422, "10015", "", ("barred", "telnyx.connection_id")),
            (404, "10005", "", ("barred", "telnyx.connection_id")),
            (422, "20100", "", ("barred", "TELNYX_API_KEY")),
            (400, "20012", "", ("barred", "TELNYX_API_KEY")),
            (400, "20017", "", ("barred", "TELNYX_API_KEY")),
            (400, "20002", "", ("barred", "TELNYX_API_KEY")),
            (422, "10003", "", ("barred", "SERVICE_URL")),
            (422, "90028", "", ("barred", "telnyx.connection_id")),
            (422, "90057", "", ("barred", "telnyx.connection_id")),
            (422, "10011", "", ("barred", "telnyx.connection_id")),
            (429, "10011", "", ("capacity", "")),
            (429, "90103", "", ("capacity", "")),
            (403, "90041", "", ("capacity", "")),
            (422, "90043", "", ("capacity", "")),
            (401, "10009", "", ("barred", "TELNYX_API_KEY")),
            (403, "10010", "", ("barred", "TELNYX_API_KEY")),
            (500, "10007", "", ("ambiguous", "")),
            (422, "99999", "", ("refused", "")),
            (404, "99999", "", ("barred", "TELNYX_API_URL")),
            (503, "99999", "", ("ambiguous", "")),
        ] {
            assert_eq!(kind(&answered(status, &error(code, "x", pointer))), expected, "{status} {code} {pointer}");
        }
        // What is no JSON of theirs: by the status alone.
        for (status, expected) in
            [(401, "barred"), (403, "barred"), (404, "barred"), (426, "barred"), (422, "refused"), (502, "ambiguous")]
        {
            assert_eq!(answered(status, &json!("<html>")).as_str(), expected, "{status}");
        }
    }

    /// Channels are waited for a little, whatever resets the rate of requests; requests a second as long as that takes.
    #[test]
    fn a_full_account_is_left_alone_for_a_little() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-reset", "30".parse().expect("a value"));
        let wait = |code: &str, headers: &HeaderMap| {
            let body = error(code, "User channel limit exceeded D1", "").to_string();
            match refused(&Causes::shipped(), StatusCode::FORBIDDEN, headers, body.as_bytes(), || {
                Duration::from_secs(2)
            }) {
                Placed::Capacity { retry_after } => retry_after.map(|wait| wait.as_secs()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            (wait("90041", &headers), wait("10010", &headers), wait("90103", &headers)),
            (Some(2), Some(2), Some(30))
        );
        headers.insert("retry-after", "7".parse().expect("a value"));
        assert_eq!((wait("90041", &headers), wait("90103", &headers)), (Some(7), Some(7)));
    }

    /// Codes are found in what is said of the refusal, and in nothing else.
    #[test]
    fn codes_stand_in_certain_fields() {
        let found = |said: Value| refusals_in(&said);
        assert_eq!(found(json!({"hangup_reason": "Dialed number is not valid D14"})), ["D14"]);
        assert_eq!(found(json!({"ErrorCode": "D60", "To": "D13"})), ["D60"]);
        assert_eq!(found(json!({"telnyx_error": "PE1"})), ["PE1"]);
        assert!(found(json!({"detail": "User A1B2 D123 d13 10010 D", "to": "+14155550113"})).is_empty());
    }
}
