//! Telnyx Call Control: dial, hang up, and what is live on our connection. The agent is Ultravox's; here a phone is connected to it.
//!
//! `client_state` carries our attempt's id through every later event, even when the answer to the dial is lost. `command_id` makes a
//! repeat within a minute harmless; we never repeat.

pub mod webhook;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::config;
use crate::domain::ids::AttemptId;
use crate::provider::{Dial, Placed, Prepared, wire};

/// A leg lasts at most so long (their own maximum, which is their default too).
const TIME_LIMIT_SECS_MAX: i32 = 14_400;
/// The agent ends the call at its limit; the carrier so much later, should the agent be gone.
const TIME_LIMIT_SLACK_SECS: i32 = 30;
/// Pages of live calls that are read, of 250 each.
const PAGES_MAX: usize = 20;

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
    ring_secs: u32,
    /// How long an agent waits for its phone.
    agent_waits: Duration,
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
    meta: Option<Meta>,
}

#[derive(Debug, Deserialize)]
struct Meta {
    cursors: Option<Cursors>,
}

#[derive(Debug, Deserialize)]
struct Cursors {
    after: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Errors {
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    #[serde(default)]
    code: Value,
    title: Option<String>,
    detail: Option<String>,
}

impl Telnyx {
    /// # Errors
    /// The client cannot be built (no roots of trust on this machine).
    pub fn new(
        settings: config::Telnyx,
        ring_secs: u32,
        agent_waits: Duration,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        Ok(Self { client: wire::client(timeout)?, settings, ring_secs, agent_waits })
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
            Ok(response) => answer(response, self.agent_waits).await,
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

    /// The live leg of an attempt, by its `client_state`.
    ///
    /// # Errors
    /// They did not say.
    pub async fn find_live(&self, attempt: AttemptId) -> Result<Option<String>, String> {
        let path = format!("/connections/{}/active_calls", wire::escaped(&self.settings.connection_id));
        let mut after: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let cursor =
                after.as_deref().map(|after| format!("&page[after]={}", wire::escaped(after))).unwrap_or_default();
            let url = format!("{}?page[limit]=250{cursor}", self.url(&path));
            let response = self.client.get(url).bearer_auth(self.key()).send().await;
            let response = response.map_err(|error| wire::reason_of(&error))?;
            if !response.status().is_success() {
                return Err(format!("HTTP {}", response.status().as_u16()));
            }
            let body = wire::read(response).await.ok_or("the answer broke off")?;
            let legs: Legs = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
            let ours = |leg: &Leg| leg.client_state.as_deref().and_then(attempt_of) == Some(attempt);
            if let Some(leg) = legs.data.into_iter().find(ours) {
                return Ok(leg.call_control_id);
            }
            after = legs.meta.and_then(|meta| meta.cursors).and_then(|cursors| cursors.after);
            if after.is_none() {
                return Ok(None);
            }
        }
        Err(format!("more than {PAGES_MAX} pages of live calls"))
    }

    /// Whether the key opens our connection, for `doctor`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn examine(&self) -> Result<(), String> {
        self.find_live(AttemptId(uuid::Uuid::nil())).await.map(|_| ())
    }
}

/// What an answer to a dial means, by their error codes first: the HTTP status of some of them is not documented.
async fn answer(response: Response, agent_waits: Duration) -> Placed {
    let status = response.status();
    let reset = response.headers().get("x-ratelimit-reset").and_then(|value| value.to_str().ok()?.parse().ok());
    let retry_after = wire::retry_after(response.headers()).or_else(|| reset.map(Duration::from_secs));
    let Some(body) = wire::read(response).await else {
        return Placed::Ambiguous { reason: format!("HTTP {}, and the answer broke off", status.as_u16()) };
    };
    if status.is_success() {
        return match serde_json::from_slice::<Dialed>(&body) {
            Ok(Dialed { data: Leg { call_control_id: Some(id), .. } }) => {
                Placed::Accepted { provider_call_id: None, carrier_call_id: Some(id) }
            }
            _ => Placed::Ambiguous { reason: format!("HTTP {} without a call_control_id", status.as_u16()) },
        };
    }
    let fault = serde_json::from_slice::<Errors>(&body).unwrap_or_default().errors.into_iter().next();
    let code = fault.as_ref().map(|fault| fault.code.as_str().map_or_else(|| fault.code.to_string(), str::to_owned));
    let said = fault.and_then(|fault| fault.detail.or(fault.title)).unwrap_or_default();
    let code = code.unwrap_or_default();
    let reason = wire::quoted(format!("HTTP {} {code} {said}", status.as_u16()).trim());
    match (code.as_str(), status) {
        // Requests and dials a second.
        ("10011" | "90103", _) => Placed::Capacity { retry_after },
        // Channels of the account, the profile or the connection. An agent waits by now, and counts at Ultravox until it gives up:
        // more of them would only fill that account too.
        ("90041" | "90042" | "90043", _) => Placed::Capacity { retry_after: retry_after.max(Some(agent_waits)) },
        // The key, the account, what it may do; and what we ask in every call alike, so that no other would fare better.
        ("10009" | "10010" | "10038" | "10039" | "20015", _) => Placed::Barred { reason },
        ("10004" | "10015" | "10027" | "10032" | "10033" | "90017", _) => Placed::Barred { reason },
        ("10007" | "10037", _) => Placed::Ambiguous { reason },
        (_, StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYMENT_REQUIRED) => Placed::Capacity { retry_after },
        (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Placed::Barred { reason },
        (_, status) if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => Placed::Refused { reason },
        _ => Placed::Ambiguous { reason },
    }
}
