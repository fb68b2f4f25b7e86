//! A provider of the generic contract on a real socket, which keeps its own account of every call: what it saw is the truth the
//! tests hold us to. It can accept a call and lose its answer, and deliver webhooks twice; a webhook is repeated until it is taken.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use chrono::{DateTime, Utc};
use outdial::domain::ids::splitmix;
use serde_json::{Value, json};

use crate::support::client;

/// How it behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    pub seed: u64,
    /// Calls last from so many milliseconds to so many.
    pub lasts_ms: (u64, u64),
    /// In a hundred: accepted, but the answer is lost.
    pub answers_lost: u64,
    /// In a hundred: webhooks delivered twice.
    pub webhooks_doubled: u64,
}

/// One call as the provider saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub attempt: String,
    pub to: String,
    pub script: String,
    pub metadata: Value,
    /// When the request came, by the provider's clock.
    pub at: DateTime<Utc>,
    /// How long it says a prospect was talked to, in seconds, and the outcome it tells.
    pub duration: u64,
    pub outcome: Option<&'static str>,
    pub began: Instant,
    pub ended: Option<Instant>,
}

#[derive(Debug, Default)]
pub struct Account {
    pub calls: Vec<Seen>,
    /// What was said of the agent, call by call.
    pub agents: Vec<Value>,
    /// Requests that came in, by attempt.
    pub requests: HashMap<String, u32>,
    pub live_max: usize,
    /// The most live at once of each script.
    pub live_max_of: HashMap<String, usize>,
    /// Two calls to one number at once.
    pub overlaps: usize,
    pub answers_lost: usize,
    pub webhooks_doubled: usize,
    /// Calls to prospects whose end was reported, and taken.
    pub reported: usize,
    pub looked_up: usize,
}

#[derive(Clone)]
pub struct FakeProvider {
    pub address: SocketAddr,
    manners: Manners,
    account: Arc<Mutex<Account>>,
    /// Ports the webhooks are spread over, as a balancer would; empty: where the request said.
    pub reports_to: Arc<Mutex<Vec<u16>>>,
    /// Only what is said of prospects follows the service to another port.
    pub loses_strays: Arc<AtomicBool>,
    client: reqwest::Client,
}

impl FakeProvider {
    pub async fn start(manners: Manners) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let provider = Self {
            address,
            manners,
            account: Arc::default(),
            reports_to: Arc::default(),
            loses_strays: Arc::default(),
            client: client(),
        };
        let router = Router::new()
            .route("/api/v1/calls", post(take_call))
            .route("/lookup/{attempt}", get(look_up))
            .with_state(provider.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        provider
    }

    /// The settings that make a service dial here.
    pub fn settings(&self) -> Vec<(String, String)> {
        let lookup = format!("http://{}/lookup/{{attemptId}}", self.address);
        [
            ("OUTDIAL_RULES__SINGLE_CALLS".to_owned(), "tell".to_owned()),
            ("OUTDIAL_RULES__DESTINATIONS".to_owned(), "tell".to_owned()),
            ("OUTDIAL_RULES__FREQUENCY".to_owned(), "tell".to_owned()),
            ("AI_CALL_API_URL".to_owned(), format!("http://{}/api/v1/calls", self.address)),
            ("AI_CALL_API_KEY".to_owned(), "test-key".to_owned()),
            ("OUTDIAL_PROVIDER__HTTP__LOOKUP_URL".to_owned(), lookup),
        ]
        .into()
    }

    pub fn account(&self) -> std::sync::MutexGuard<'_, Account> {
        self.account.lock().expect("no panic while held")
    }

    fn has_balancer(&self) -> bool {
        !self.loses_strays.load(Ordering::Relaxed)
    }

    /// The webhook's URL at one of the ports.
    fn spread(&self, attempt: &str, url: String) -> String {
        let ports = self.reports_to.lock().expect("no panic while held");
        if ports.is_empty() {
            return url;
        }
        let port = ports[usize::try_from(self.dice(attempt, 4)).expect("small") % ports.len()];
        let (_, path) = url.trim_start_matches("http://").split_once('/').expect("a path");
        format!("http://127.0.0.1:{port}/{path}")
    }

    fn duration(&self, attempt: &str) -> u64 {
        1 + self.dice(attempt, 5) * 4
    }

    fn outcome(&self, attempt: &str) -> Option<&'static str> {
        match self.dice(attempt, 6) {
            0..30 => Some("APPOINTMENT_SET"),
            30..50 => Some("NOT_INTERESTED"),
            50..60 => Some("DO_NOT_CALL"),
            _ => None,
        }
    }

    /// A number from 0 to 99 for this attempt and purpose, always the same.
    fn dice(&self, attempt: &str, purpose: u64) -> u64 {
        let hash = attempt.bytes().fold(self.manners.seed, |hash, byte| splitmix(hash ^ u64::from(byte)));
        splitmix(hash ^ purpose) % 100
    }
}

fn query_of<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

async fn take_call(
    State(provider): State<FakeProvider>,
    headers: axum::http::HeaderMap,
    Json(body): Json<Value>,
) -> Response<Body> {
    let webhook_url = body["webhookUrl"].as_str().expect("webhookUrl").to_owned();
    let attempt = query_of(&webhook_url, "attemptId").expect("attemptId in the webhook URL").to_owned();
    assert_eq!(headers["authorization"], "Bearer test-key");
    assert_eq!(headers["idempotency-key"], format!("\"{attempt}\""));
    let lost = provider.dice(&attempt, 1) < provider.manners.answers_lost;
    {
        let mut account = provider.account();
        *account.requests.entry(attempt.clone()).or_default() += 1;
        let to = body["to"].as_str().expect("to").to_owned();
        if account.calls.iter().any(|call| call.to == to && call.ended.is_none()) {
            account.overlaps += 1;
        }
        account.agents.push(body["agent"].clone());
        let (metadata, script) = (body["metadata"].clone(), body["scriptId"].as_str().expect("scriptId").to_owned());
        account.calls.push(Seen {
            attempt: attempt.clone(),
            to,
            script: script.clone(),
            metadata,
            at: Utc::now(),
            duration: provider.duration(&attempt),
            outcome: provider.outcome(&attempt),
            began: Instant::now(),
            ended: None,
        });
        let live = account.calls.iter().filter(|call| call.ended.is_none()).count();
        account.live_max = account.live_max.max(live);
        let live = account.calls.iter().filter(|call| call.ended.is_none() && call.script == script).count();
        let most = account.live_max_of.entry(script).or_default();
        *most = live.max(*most);
        account.answers_lost += usize::from(lost);
    }
    tokio::spawn(carry_out(provider, attempt.clone(), webhook_url));
    let call_id = format!("fake-{attempt}");
    if lost {
        // Half of them as an error after acceptance, half as a connection that breaks off in the answer.
        if attempt.ends_with(['0', '2', '4', '6', '8', 'a', 'c', 'e']) {
            return Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).expect("a response");
        }
        let broken = futures::stream::iter([Ok::<_, std::io::Error>("{\"call"), Err(std::io::Error::other("cut"))]);
        return Response::builder().status(StatusCode::ACCEPTED).body(Body::from_stream(broken)).expect("a response");
    }
    let answer = json!({ "callId": call_id }).to_string();
    Response::builder().status(StatusCode::ACCEPTED).body(Body::from(answer)).expect("a response")
}

/// The call goes on, ends, and is reported until somebody takes it.
async fn carry_out(provider: FakeProvider, attempt: String, webhook_url: String) {
    let (least, most) = provider.manners.lasts_ms;
    let lasts = least + provider.dice(&attempt, 2) * (most - least) / 100;
    tokio::time::sleep(Duration::from_millis(lasts)).await;
    if let Some(call) = provider.account().calls.iter_mut().find(|call| call.attempt == attempt && call.ended.is_none())
    {
        call.ended = Some(Instant::now());
    }
    let doubled = provider.dice(&attempt, 3) < provider.manners.webhooks_doubled;
    provider.account().webhooks_doubled += usize::from(doubled);
    // Of prospects it tells the outcome, of others the status.
    let of_prospect = provider
        .account()
        .calls
        .iter()
        .any(|call| call.attempt == attempt && call.metadata.get("prospectId").is_some());
    let webhook_url = match webhook_url.split_once("/api/v1/callbacks/call-status") {
        Some((base, query)) if of_prospect => format!("{base}/webhooks/outcome{query}"),
        _ => webhook_url,
    };
    let report = if of_prospect {
        let mut report =
            json!({"eventType": "call.completed", "conversationId": attempt, "duration": provider.duration(&attempt)});
        if let Some(outcome) = provider.outcome(&attempt) {
            report["outcome"] = json!({"type": outcome});
            if outcome == "APPOINTMENT_SET" {
                report["outcome"]["appointmentTime"] = json!("2030-01-01T10:00:00Z");
            }
        }
        report
    } else {
        json!({"callId": format!("fake-{attempt}"), "status": "COMPLETED", "durationSec": 42})
    };
    for _ in 0..if doubled { 2 } else { 1 } {
        for _ in 0..if of_prospect { 600 } else { 20 } {
            // Those of prospects find the service wherever it is by now; the others go where the request said, and may be lost.
            let url = if of_prospect || provider.has_balancer() {
                provider.spread(&attempt, webhook_url.clone())
            } else {
                webhook_url.clone()
            };
            let sent = provider.client.post(&url).json(&report).send().await;
            if sent.is_ok_and(|response| response.status().is_success()) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    provider.account().reported += usize::from(of_prospect);
}

async fn look_up(State(provider): State<FakeProvider>, Path(attempt): Path<String>) -> (StatusCode, Json<Value>) {
    let mut account = provider.account();
    account.looked_up += 1;
    match account.calls.iter().find(|call| call.attempt == attempt) {
        Some(call) => {
            let status = if call.ended.is_some() { "COMPLETED" } else { "IN_PROGRESS" };
            (StatusCode::OK, Json(json!({"callId": format!("fake-{attempt}"), "status": status})))
        }
        None => (StatusCode::NOT_FOUND, Json(json!({}))),
    }
}
