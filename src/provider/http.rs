//! The generic provider: `POST` our contract, answer 202 with a call id, report to the webhook URL.
//!
//! The contract has no look-up; one can be configured. Without it, doubt waits for a webhook.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

use crate::config;
use crate::domain::word::{Ended, Word};
use crate::provider::webhook::status_word;
use crate::provider::{Dial, Found, HungUp, Placed, Provider, Question, wire};

/// Where it reports to.
const STATUS_PATH: &str = "/api/v1/callbacks/call-status";

/// A client of the generic contract.
#[derive(Debug)]
pub struct Http {
    client: Client,
    settings: config::Http,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    #[serde(rename = "callId")]
    call_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct LookedUp {
    #[serde(rename = "callId")]
    call_id: Option<String>,
    status: String,
    #[serde(rename = "durationSec")]
    duration_secs: Option<i32>,
}

impl Http {
    /// # Errors
    /// The client cannot be built (no roots of trust on this machine).
    pub fn new(settings: config::Http, timeout: Duration) -> anyhow::Result<Self> {
        Ok(Self { client: wire::client(timeout)?, settings })
    }

    async fn look_up(&self, question: &Question) -> Found {
        if self.settings.lookup_url.is_empty() {
            return Found::CannotSay;
        }
        let url = self.settings.lookup_url.replace("{attemptId}", &question.attempt_id.to_string());
        let request = self.client.get(url).bearer_auth(self.settings.api_key.expose_secret());
        let Ok(response) = request.send().await else {
            return Found::CannotSay;
        };
        if response.status() == StatusCode::NOT_FOUND {
            return Found::NotFound;
        }
        if !response.status().is_success() {
            return Found::CannotSay;
        }
        let Some(body) = wire::read(response).await else {
            return Found::CannotSay;
        };
        let Ok(found) = serde_json::from_slice::<LookedUp>(&body) else {
            return Found::CannotSay;
        };
        match status_word(&found.status) {
            Some(Word::Ended(ended)) => Found::Known(Word::Ended(Ended {
                provider_call_id: found.call_id,
                duration_secs: found.duration_secs.filter(|secs| *secs >= 0),
                ..ended
            })),
            // Whatever else it calls it, it has it.
            _ => Found::Known(Word::Accepted { provider_call_id: found.call_id, carrier_call_id: None }),
        }
    }

    async fn answer(&self, response: Response) -> Placed {
        let status = response.status();
        let retry_after = wire::retry_after(response.headers());
        let capacity = matches!(status, StatusCode::PAYMENT_REQUIRED | StatusCode::TOO_MANY_REQUESTS)
            || (status == StatusCode::SERVICE_UNAVAILABLE && self.settings.capacity_on_503);
        if capacity {
            return Placed::Capacity { retry_after };
        }
        if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT && status != StatusCode::CONFLICT {
            return Placed::Refused { reason: format!("HTTP {}", status.as_u16()) };
        }
        if !status.is_success() {
            // 5xx, redirects, 408 and 409 (it knows this key already): it may have the call.
            return Placed::Ambiguous { reason: format!("HTTP {}", status.as_u16()) };
        }
        match wire::read(response).await.and_then(|body| serde_json::from_slice::<Accepted>(&body).ok()) {
            Some(Accepted { call_id: Some(call_id) }) if !call_id.is_empty() => {
                Placed::Accepted { provider_call_id: Some(call_id), carrier_call_id: None }
            }
            _ => Placed::Ambiguous { reason: format!("HTTP {} without a callId", status.as_u16()) },
        }
    }
}

#[async_trait]
impl Provider for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    async fn place(&self, dial: &Dial) -> Placed {
        let mut body = json!({
            "to": dial.to.as_str(),
            "scriptId": dial.script_id,
            "metadata": dial.metadata,
            "webhookUrl": dial.report_to.url(STATUS_PATH),
        });
        if let (Some(body), Some(variables)) =
            (body.as_object_mut(), dial.variables.as_object().filter(|v| !v.is_empty()))
        {
            body.insert("variables".to_owned(), variables.clone().into());
        }
        if let Some(body) = body.as_object_mut() {
            body.extend(dial.agent.clone().map(|agent| ("agent".to_owned(), agent)));
            body.extend(dial.secs_max.map(|secs| ("maxDurationSecs".to_owned(), secs.into())));
        }
        let request = self
            .client
            .post(&self.settings.url)
            .bearer_auth(self.settings.api_key.expose_secret())
            .header("Idempotency-Key", format!("\"{}\"", dial.attempt_id))
            .json(&body);
        // Written out; the tree of values need not wait for the answer.
        drop(body);
        match request.send().await {
            Ok(response) => self.answer(response).await,
            Err(error) => wire::unanswered(&error),
        }
    }

    async fn find_by_attempt(&self, question: &Question) -> Found {
        self.look_up(question).await
    }

    async fn status(&self, question: &Question) -> Found {
        self.look_up(question).await
    }

    async fn hang_up(&self, _question: &Question) -> HungUp {
        HungUp::NoWay
    }
}
