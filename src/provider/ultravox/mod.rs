//! Ultravox: the agent that talks. Two ways to the phone: Ultravox dials through the Telnyx account stored there, or we dial by
//! Telnyx Call Control and connect the phone to the agent that waits ([`UltravoxMode`]).
//!
//! There is no idempotency key: after doubt a call is looked up by `metadata.attempt_id`, and never asked for again. Where we dial,
//! a call that merely exists says nothing about a phone: only the carrier's word, or somebody who has joined, does.
//! `DELETE` erases a call. It is asked for one kind only: an agent nobody has joined, made for a phone that surely did not ring; it would
//! wait for nobody otherwise, and count among the account's calls meanwhile. Nobody who talks is hung up by it.

mod request;
pub mod tool;
pub mod webhook;

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::config::{self, Causes, UltravoxMode};
use crate::domain::word::Word;
use crate::provider::telnyx::{Line, Telnyx};
use crate::provider::ultravox::webhook::Call;
use crate::provider::wire::OurFault;
use crate::provider::{Dial, Found, Given, HungUp, Placed, Prepared, Provider, Question, causes, telnyx, wire};

/// Pages of a list that are followed.
const PAGES_MAX: usize = 20;

/// A client of Ultravox, and of the carrier where we dial ourselves.
#[derive(Debug)]
pub struct Ultravox {
    client: Client,
    settings: config::Ultravox,
    from_number: String,
    /// Their webhooks are signed with these: they are handed over with each call.
    secrets: Vec<SecretString>,
    causes: Causes,
    carrier: Telnyx,
    /// No call is asked to last longer: by then it would be given up here, and its slot with it.
    secs_max: i32,
}

/// A message of a call.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    pub role: String,
    pub text: Option<String>,
    pub tool_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    next: Option<String>,
    results: Vec<T>,
}

/// What `doctor` is told of an account.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    pub allowed_concurrent_calls: Option<i64>,
}

/// Why a question has no answer.
#[derive(Debug)]
enum Silence {
    /// There is no such thing.
    Gone,
    /// They did not say, and why.
    Mute(String),
}

impl Ultravox {
    /// # Errors
    /// A client cannot be built (no roots of trust on this machine).
    pub fn new(
        settings: config::Ultravox,
        telnyx: config::Telnyx,
        causes: Causes,
        secrets: Vec<SecretString>,
        secs_max: i32,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let from_number = telnyx.from_number.clone();
        let carrier = Telnyx::new(telnyx, causes.clone(), settings.ring_secs, timeout)?;
        Ok(Self { client: wire::client(timeout)?, settings, from_number, secrets, causes, carrier, secs_max })
    }

    fn we_dial(&self) -> bool {
        self.settings.mode == UltravoxMode::TelnyxDials
    }

    fn base(&self) -> &str {
        self.settings.api_url.trim_end_matches('/')
    }

    fn with_key(&self, request: RequestBuilder) -> RequestBuilder {
        request.header("X-API-Key", self.settings.api_key.expose_secret())
    }

    /// Asks for a call. The one place that does.
    async fn create(&self, dial: &Dial) -> Result<Call, Placed> {
        let (path, request) = {
            // The tree of values goes as soon as it is written out: tools make it some ten times as large as the text.
            let (path, body) = request::create(self, dial);
            let request = self.with_key(self.client.post(format!("{}{path}", self.base()))).json(&body);
            (path, request)
        };
        let response = request.send().await;
        let response = response.map_err(|error| wire::unanswered(&error))?;
        let status = response.status();
        let retry_after = wire::retry_after(response.headers());
        if status.is_success() {
            let body = wire::read(response).await;
            return body
                .and_then(|body| serde_json::from_slice::<Call>(&body).ok())
                .ok_or_else(|| Placed::Ambiguous { reason: format!("HTTP {} without a callId", status.as_u16()) });
        }
        let reason = refusal(response).await;
        Err(match (wire::our_fault(status), status) {
            (Some(OurFault::Key), _) => Placed::Barred { reason, setting: "ULTRAVOX_API_KEY" },
            // An agent's id stands in the path and is a script's own.
            (Some(OurFault::Address), _) if path == request::CALLS || status != StatusCode::NOT_FOUND => {
                Placed::Barred { reason, setting: "ULTRAVOX_API_URL" }
            }
            (_, StatusCode::TOO_MANY_REQUESTS | StatusCode::PAYMENT_REQUIRED) => Placed::Capacity { retry_after },
            // Documented as "no capacity", with Retry-After. One without may come from something in between, after they had it.
            (_, StatusCode::SERVICE_UNAVAILABLE) if retry_after.is_some() => Placed::Capacity { retry_after },
            // A voice, a tool, a prompt: what is wrong may be the script's, or stand in every call.
            (_, status) if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
                Placed::Refused { reason, about_number: false }
            }
            _ => Placed::Ambiguous { reason },
        })
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, Silence> {
        let response = self.with_key(self.client.get(url)).send().await;
        let response = response.map_err(|error| Silence::Mute(wire::reason_of(&error)))?;
        match response.status() {
            StatusCode::NOT_FOUND => return Err(Silence::Gone),
            status if !status.is_success() => return Err(Silence::Mute(refusal(response).await)),
            _ => {}
        }
        let body = wire::read(response).await.ok_or_else(|| Silence::Mute("the answer broke off".to_owned()))?;
        serde_json::from_slice(&body).map_err(|error| Silence::Mute(error.to_string()))
    }

    /// Every row of a list, until `enough` says so. Their `next` is followed as it is, but only to where our key belongs.
    async fn pages<T: DeserializeOwned>(&self, path: &str, enough: impl Fn(&[T]) -> bool) -> Result<Vec<T>, Silence> {
        let mut rows = Vec::new();
        let mut url = format!("{}{path}", self.base());
        for _ in 0..PAGES_MAX {
            let page: Page<T> = self.get(&url).await?;
            rows.extend(page.results);
            match page.next.filter(|_| !enough(&rows)) {
                None => return Ok(rows),
                Some(next) if next.starts_with(&format!("{}/", self.base())) => url = next,
                Some(_) => return Err(Silence::Mute("the next page is at another address".to_owned())),
            }
        }
        Err(Silence::Mute(format!("more than {PAGES_MAX} pages")))
    }

    async fn call(&self, id: &str) -> Result<Call, Silence> {
        self.get(&format!("{}/api/calls/{}", self.base(), wire::escaped(id))).await
    }

    /// The call of an attempt: by their id where we know it, else by ours. Whether the filter was heeded is looked at again here.
    async fn call_of(&self, question: &Question) -> Result<Option<Call>, Silence> {
        if let Some(id) = &question.provider_call_id {
            return match self.call(id).await {
                Err(Silence::Gone) => Ok(None),
                other => other.map(Some),
            };
        }
        let path = format!("/api/calls?metadata.attempt_id={}&pageSize=100", question.attempt_id);
        let ours = |call: &Call| call.attempt_id() == Some(question.attempt_id);
        let calls = self.pages(&path, |calls: &[Call]| calls.iter().any(ours)).await?;
        Ok(calls.into_iter().find(ours))
    }

    /// What a call says of its attempt. Where we dial it is over only when the line to the phone is, too: the carrier would keep it open
    /// for nobody, or for somebody who hears nothing because the agent could not be connected.
    async fn told_by(&self, call: &Call, question: &Question) -> Found {
        let deaf = question.hangup_cause.as_deref() == Some(telnyx::webhook::STREAMING_FAILED) && call.joined.is_none();
        if call.waits_for_our_dial() && (call.ended.is_some() || deaf) && !self.is_silent(question).await {
            return Found::CannotSay;
        }
        if deaf {
            return Found::Known(causes::carrier(&self.causes, Some(telnyx::webhook::STREAMING_FAILED), None, &[]));
        }
        call.word(&self.causes).map_or(Found::CannotSay, Found::Known)
    }

    /// Whether the line to the phone is down; takes it down.
    async fn is_silent(&self, question: &Question) -> bool {
        let leg = match &question.carrier_call_id {
            Some(leg) => Ok(Some(leg.clone())),
            None => self.carrier.find_live(question.attempt_id).await,
        };
        match leg {
            Ok(Some(leg)) => self.carrier.hang_up(&leg).await != Line::Unsure,
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// Asks for an end of a call somebody has joined; 422 for another.
    async fn ask_to_hang_up(&self, id: &str) -> reqwest::Result<StatusCode> {
        let url = format!("{}/api/calls/{}/send_data_message", self.base(), wire::escaped(id));
        let answer = self.with_key(self.client.post(url)).json(&json!({"type": "hang_up"})).send().await?;
        Ok(answer.status())
    }

    /// Ends an agent that waits for a phone that was never rung: as a call somebody has joined, which it may have become in spite of
    /// everything, else by erasing it, since there is no other way.
    async fn dismiss(&self, id: &str) -> reqwest::Result<StatusCode> {
        match self.ask_to_hang_up(id).await? {
            StatusCode::UNPROCESSABLE_ENTITY => {}
            status => return Ok(status),
        }
        let url = format!("{}/api/calls/{}", self.base(), wire::escaped(id));
        Ok(self.with_key(self.client.delete(url)).send().await?.status())
    }

    /// Whether the key is good, and what the account may do, for `doctor`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub async fn examine(&self) -> Result<Account, String> {
        let account = self.get(&format!("{}/api/accounts/me", self.base())).await;
        account.map_err(|silence| match silence {
            Silence::Gone => "HTTP 404: is ULTRAVOX_API_URL right?".to_owned(),
            Silence::Mute(reason) => reason,
        })
    }

    /// The carrier's side, for `doctor`.
    #[must_use]
    pub fn carrier(&self) -> &Telnyx {
        &self.carrier
    }
}

/// A refusal in words: their body's shape is not documented.
async fn refusal(response: Response) -> String {
    let status = response.status().as_u16();
    let body = wire::read(response).await.unwrap_or_default();
    wire::quoted(format!("HTTP {status} {}", String::from_utf8_lossy(&body)).trim())
}

#[async_trait]
impl Provider for Ultravox {
    fn name(&self) -> &'static str {
        "ultravox"
    }

    fn reads_scripts(&self) -> bool {
        true
    }

    fn keeps_records(&self) -> bool {
        true
    }

    async fn prepare(&self, dial: &Dial) -> Result<Option<Prepared>, Placed> {
        if !self.we_dial() {
            return Ok(None);
        }
        match self.create(dial).await {
            Ok(Call { call_id, join_url: Some(url), .. }) if !call_id.is_empty() => {
                Ok(Some(Prepared { provider_call_id: call_id, join_url: SecretString::from(url) }))
            }
            // An agent may wait somewhere for nobody; it will give up by itself. No phone was asked for.
            Ok(_) => Err(Placed::NotSent { reason: "Ultravox gave no joinUrl".to_owned() }),
            Err(Placed::Ambiguous { reason }) => Err(Placed::NotSent { reason }),
            Err(placed) => Err(placed),
        }
    }

    async fn place(&self, dial: &Dial) -> Placed {
        match &dial.prepared {
            Some(agent) => self.carrier.dial(dial, agent, request::secs_max(self, dial)).await,
            None if self.we_dial() => {
                Placed::NotSent { reason: "there is no agent to connect the phone to".to_owned() }
            }
            None => match self.create(dial).await {
                Ok(call) if !call.call_id.is_empty() => {
                    Placed::Accepted { provider_call_id: Some(call.call_id), carrier_call_id: None }
                }
                Ok(_) => Placed::Ambiguous { reason: "Ultravox gave no callId".to_owned() },
                Err(placed) => placed,
            },
        }
    }

    async fn take_back(&self, prepared: &Prepared) {
        let agent = prepared.provider_call_id.as_str();
        match self.dismiss(agent).await {
            // 404: it has ended, and they have forgotten it.
            Ok(status) if status.is_success() || status == StatusCode::NOT_FOUND => {
                tracing::debug!(agent, "an agent that would have waited for nobody was taken back");
            }
            Ok(status) => {
                tracing::info!(agent, status = status.as_u16(), "an agent waits for nobody until its time is up");
            }
            Err(error) => {
                let reason = wire::reason_of(&error);
                tracing::info!(agent, reason, "an agent waits for nobody until its time is up");
            }
        }
    }

    async fn find_by_attempt(&self, question: &Question) -> Found {
        let live = if self.we_dial() { self.carrier.find_live(question.attempt_id).await } else { Ok(None) };
        let nothing_rings = match live {
            Ok(Some(leg)) => {
                return Found::Known(Word::Accepted { provider_call_id: None, carrier_call_id: Some(leg) });
            }
            live => live.is_ok(),
        };
        match self.call_of(question).await {
            Ok(Some(call)) => self.told_by(&call, question).await,
            // The agent is gone, taken back or forgotten, and a phone may still ring: the carrier may have the second step.
            Ok(None) if question.provider_call_id.is_some() && !nothing_rings => Found::CannotSay,
            Ok(None) => Found::NotFound,
            Err(_) => Found::CannotSay,
        }
    }

    async fn status(&self, question: &Question) -> Found {
        match self.call_of(question).await {
            Ok(Some(call)) => self.told_by(&call, question).await,
            Ok(None) => Found::NotFound,
            Err(_) => Found::CannotSay,
        }
    }

    async fn record(&self, question: &Question) -> Vec<Word> {
        let Ok(Some(call)) = self.call_of(question).await else {
            return Vec::new();
        };
        if call.ended.is_none() {
            return Vec::new();
        }
        // Whole: without the mode, earlier stages are left out.
        let path = format!("/api/calls/{}/messages?mode=in_call&pageSize=100", wire::escaped(&call.call_id));
        let messages = match call.joined {
            Some(_) => self.pages::<Message>(&path, |_| false).await.ok(),
            None => Some(Vec::new()),
        };
        let told = messages.as_deref().and_then(tool::told_in);
        let record = call.record(messages.as_deref().map(transcript_of));
        // Prose only where the agent is known to have reported nothing.
        let prose = record.summary.as_deref().filter(|_| messages.is_some());
        let told = told.or_else(|| prose.and_then(tool::told_by_summary));
        told.map(|outcome| Word::Told { outcome }).into_iter().chain([Word::Recorded(record)]).collect()
    }

    async fn given_since(&self, since: DateTime<Utc>) -> Result<Vec<Given>, String> {
        let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
        let path = format!("/api/calls?fromDate={}&pageSize=100", wire::escaped(&since));
        let calls = self.pages::<Call>(&path, |_| false).await.map_err(|silence| match silence {
            Silence::Gone => "HTTP 404".to_owned(),
            Silence::Mute(reason) => reason,
        })?;
        let ours = calls.into_iter().filter_map(|call| {
            Some(Given { attempt_id: call.attempt_id()?, call_id: call.our_call_id()?, provider_call_id: call.call_id })
        });
        Ok(ours.collect())
    }

    async fn hang_up(&self, question: &Question) -> HungUp {
        // A phone that rings can only be silenced by the carrier.
        if let Some(leg) = question.carrier_call_id.as_deref().filter(|_| self.carrier.has_key())
            && self.carrier.hang_up(leg).await == Line::HungUp
        {
            return HungUp::Asked;
        }
        let Some(id) = &question.provider_call_id else {
            return HungUp::Failed;
        };
        match self.ask_to_hang_up(id).await {
            Ok(status) if status.is_success() => HungUp::Asked,
            // 422: nobody has joined yet, or it is over.
            Ok(_) | Err(_) => HungUp::Failed,
        }
    }
}

/// What was said, a line each.
fn transcript_of(messages: &[Message]) -> String {
    let lines = messages.iter().filter_map(|message| {
        let speaker = match message.role.as_str() {
            "MESSAGE_ROLE_AGENT" => "Agent",
            "MESSAGE_ROLE_USER" => "Callee",
            _ => return None,
        };
        Some(format!("{speaker}: {}", message.text.as_deref().filter(|text| !text.is_empty())?))
    });
    lines.collect::<Vec<String>>().join("\n")
}
