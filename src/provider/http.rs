//! The generic provider: `POST` our contract, answer 202 with a call id, report to the webhook URL.
//!
//! The contract has no look-up; one can be configured. Without it, doubt waits for a webhook.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::config;
use crate::domain::raw_json::RawJson;
use crate::domain::script::Agent;
use crate::domain::word::{Ended, Word};
use crate::provider::webhook::status_word;
use crate::provider::wire::OurFault;
use crate::provider::{Dial, Found, HungUp, Placed, Provider, Question, wire};

/// Where it reports to.
/// An answer is an id and what is wrong.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
const STATUS_PATH: &str = "/api/v1/callbacks/call-status";

/// A client of the generic contract.
#[derive(Debug)]
pub struct Http {
    client: Client,
    settings: config::Http,
}

/// A dial, as the README states it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    to: &'a str,
    script_id: &'a str,
    metadata: &'a RawJson,
    webhook_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    variables: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a Agent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duration_secs: Option<i32>,
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
        let (status, retry_after) = (response.status(), wire::retry_after(response.headers()));
        let body = wire::read_up_to(response, ANSWER_BYTES_MAX).await;
        if !status.is_success() {
            let capacity_on_503 = self.settings.capacity_on_503;
            return refused(status, retry_after, &body.unwrap_or_default(), capacity_on_503);
        }
        match body.and_then(|body| serde_json::from_slice::<Accepted>(&body).ok()) {
            Some(Accepted { call_id: Some(call_id) }) if !call_id.is_empty() => {
                Placed::Accepted { provider_call_id: Some(call_id), carrier_call_id: None }
            }
            _ => Placed::Ambiguous { reason: format!("HTTP {} without a callId", status.as_u16()) },
        }
    }
}

/// What any other answer than 2xx means; the contract knows no codes beside the status.
fn refused(status: StatusCode, retry_after: Option<Duration>, body: &[u8], capacity_on_503: bool) -> Placed {
    let said = String::from_utf8_lossy(body);
    let reason = wire::quoted(format!("HTTP {} {said}", status.as_u16()).trim());
    match (wire::our_fault(status), status) {
        (Some(OurFault::Key), _) => Placed::Barred { reason, setting: "AI_CALL_API_KEY" },
        (Some(OurFault::Address), _) => Placed::Barred { reason, setting: "AI_CALL_API_URL" },
        (None, StatusCode::PAYMENT_REQUIRED | StatusCode::TOO_MANY_REQUESTS) => Placed::Capacity { retry_after },
        (None, StatusCode::SERVICE_UNAVAILABLE) if capacity_on_503 => Placed::Capacity { retry_after },
        // 409: it knows this key already.
        (None, StatusCode::REQUEST_TIMEOUT | StatusCode::CONFLICT) => Placed::Ambiguous { reason },
        (None, status) if status.is_client_error() => Placed::Refused { reason, about_number: false },
        // 5xx and the other redirects: it may have the call.
        (None, _) => Placed::Ambiguous { reason },
    }
}

#[async_trait]
impl Provider for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    async fn place(&self, dial: &Dial) -> Placed {
        let body = Body {
            to: dial.to.as_str(),
            script_id: &dial.script_id,
            metadata: &dial.metadata,
            webhook_url: dial.report_to.url(STATUS_PATH),
            variables: Some(&dial.variables).filter(|variables| variables.as_str() != "{}"),
            agent: dial.agent.as_ref(),
            max_duration_secs: dial.secs_max,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A key or an address that is wrong is wrong for every call; a request that is refused may be this one's fault.
    #[test]
    fn each_status_has_its_meaning() {
        let of = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            refused(status, None, b"said +14155550100", false)
        };
        for (status, setting) in [(401, "AI_CALL_API_KEY"), (404, "AI_CALL_API_URL"), (308, "AI_CALL_API_URL")] {
            let reason = format!("HTTP {status} said +…");
            assert_eq!(of(status), Placed::Barred { reason, setting }, "{status}");
        }
        for status in [400, 413, 422] {
            let reason = format!("HTTP {status} said +…");
            assert_eq!(of(status), Placed::Refused { reason, about_number: false });
        }
        for (status, expected) in
            [(402, "capacity"), (429, "capacity"), (302, "ambiguous"), (408, "ambiguous"), (409, "ambiguous")]
        {
            assert_eq!(of(status).as_str(), expected, "{status}");
        }
        assert_eq!(of(503).as_str(), "ambiguous");
        assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE, None, b"", true).as_str(), "capacity");
    }
}
