//! What providers say, over HTTP: believed or not, in any order and twice, before the call is known and after it has ended.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{SecondsFormat, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use outdial::provider::signature;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::api_calls::{Answer, SLOW, send};
use crate::support::{TestService, client};

const STATUS: &str = "/api/v1/callbacks/call-status";
const OUTCOME: &str = "/webhooks/outcome";
/// Nobody's attempt.
const UNKNOWN: &str = "0193b5a0-0000-7000-8000-0000000000ff";

/// A live call: its id, its conversation's, the provider's.
struct Live {
    id: String,
    conversation: String,
    provider_call: String,
}

impl Live {
    /// Creates a call and waits until the provider has its `nth` attempt.
    async fn start(service: &TestService, number: &str) -> Self {
        let (status, body) = service.post("/api/v1/calls", json!({"to": number, "scriptId": "s"})).await;
        assert_eq!(status, 201, "{body}");
        Self::of(service, body["data"]["id"].as_str().expect("an id"), 1).await
    }

    /// Waits until the provider has this attempt of a call.
    async fn of(service: &TestService, id: &str, nth: usize) -> Self {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (_, body) = service.get(&format!("/api/v1/calls/{id}")).await;
            let attempt = &body["data"]["conversations"][nth - 1];
            let text = |name: &str| attempt[name].as_str().map(str::to_owned);
            if let (Some(conversation), Some(provider_call)) = (text("conversationId"), text("externalCallId")) {
                return Self { id: id.to_owned(), conversation, provider_call };
            }
            assert!(Instant::now() < deadline, "attempt {nth} is not accepted: {body}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn shown(&self, service: &TestService) -> Value {
        service.get(&format!("/api/v1/calls/{}", self.id)).await.1["data"].clone()
    }

    /// Status and disposition of the call.
    async fn end(&self, service: &TestService) -> (String, String) {
        let call = self.shown(service).await;
        let text = |name: &str| call[name].as_str().unwrap_or_default().to_owned();
        (text("status"), text("disposition"))
    }

    /// Sends a webhook about it; says what became of it.
    async fn hear(&self, service: &TestService, path: &str, mut body: Value) -> String {
        body["conversationId"] = json!(self.conversation);
        let (status, answer) = service.post(path, body).await;
        assert_eq!((status, &answer["success"]), (200, &json!(true)), "{answer}");
        answer["data"]["status"].as_str().expect("a receipt").to_owned()
    }
}

fn ends(status: &str, disposition: &str) -> (String, String) {
    (status.to_owned(), disposition.to_owned())
}

/// Polls until SQL counts this many.
async fn until_count(service: &TestService, sql: &'static str, wanted: i64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while service.test_db.count(sql).await != wanted {
        assert!(Instant::now() < deadline, "never {wanted}: {sql}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Either webhook, by either id, in the URL or in the body; fields nobody told us of are ignored.
#[tokio::test(flavor = "multi_thread")]
async fn either_webhook_by_either_id() {
    let service = TestService::start(&[SLOW]).await;
    let mut live = Vec::new();
    for nth in 0..5 {
        live.push(Live::start(&service, &format!("+1415555010{nth}")).await);
    }
    let done = json!({"status": "COMPLETED", "durationSec": 41.2, "completedAt": Utc::now(), "cost": {"eur": 1}});
    let over = json!({"eventType": "call.completed", "duration": 42, "sentiment": "good"});
    let with = |body: &Value, name: &str, id: &str| {
        let mut body = body.clone();
        body[name] = json!(id);
        body
    };
    let url = service.ours(STATUS, &live[0].conversation).await + "&utm=x";
    for (path, body) in [
        (url.as_str(), with(&done, "callId", &live[0].provider_call)),
        (STATUS, with(&done, "callId", &live[1].provider_call)),
        (STATUS, with(&done, "conversationId", &live[2].conversation)),
        (OUTCOME, with(&over, "conversationId", &live[3].conversation)),
        (OUTCOME, with(&over, "callId", &live[4].provider_call)),
    ] {
        let (status, answer) = service.post(path, body).await;
        assert_eq!((status, answer), (200, json!({"success": true, "data": {"status": "applied"}})), "{path}");
    }
    for call in &live {
        let shown = call.shown(&service).await;
        assert_eq!((&shown["status"], &shown["disposition"]), (&json!("COMPLETED"), &json!("COMPLETED")));
        assert_eq!(shown["conversations"][0]["duration"], 42);
    }
    service.finish().await;
}

/// Every outcome and status, each on a call of its own, leads to its documented end; what it tells can be read back.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_and_statuses() {
    let service = TestService::start(&[SLOW]).await;
    let outcome = |kind: &str| json!({"eventType": "call.completed", "outcome": {"type": kind}});
    let booked = json!({"eventType": "call.completed", "duration": 240, "transcript": "See you then!",
        "outcome": {"type": "APPOINTMENT_SET", "appointmentTime": "2027-02-26T15:00:00Z"}});
    for (nth, (path, body, status, disposition, cause)) in [
        (OUTCOME, booked, "COMPLETED", "APPOINTMENT_SET", ""),
        (OUTCOME, outcome("NOT_INTERESTED"), "COMPLETED", "NOT_INTERESTED", ""),
        (OUTCOME, outcome("CALLBACK_REQUESTED"), "COMPLETED", "CALLBACK_REQUESTED", ""),
        (OUTCOME, outcome("COMPLETED"), "COMPLETED", "COMPLETED", ""),
        (OUTCOME, outcome("WRONG_NUMBER"), "FAILED", "WRONG_NUMBER", ""),
        (OUTCOME, outcome("VOICEMAIL"), "PENDING", "VOICEMAIL", ""),
        (OUTCOME, outcome("NO_ANSWER"), "PENDING", "NO_ANSWER", ""),
        (OUTCOME, outcome("BUSY"), "PENDING", "BUSY", ""),
        (
            OUTCOME,
            json!({"eventType": "call.failed", "failureReason": "Unreachable"}),
            "PENDING",
            "FAILED",
            "Unreachable",
        ),
        (OUTCOME, json!({"eventType": "call.started"}), "IN_PROGRESS", "", ""),
        (STATUS, json!({"status": "completed"}), "COMPLETED", "COMPLETED", ""),
        (STATUS, json!({"status": "FAILED", "failureReason": "Rejected"}), "PENDING", "FAILED", "Rejected"),
        (STATUS, json!({"status": "no-answer"}), "PENDING", "NO_ANSWER", ""),
        (STATUS, json!({"status": "CANCELED"}), "CANCELED", "CANCELED", ""),
        (STATUS, json!({"status": "IN_PROGRESS"}), "IN_PROGRESS", "", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let live = Live::start(&service, &format!("+141555501{nth:02}")).await;
        assert_eq!(live.hear(&service, path, body.clone()).await, "applied", "{body}");
        assert_eq!(live.end(&service).await, ends(status, disposition), "{body}");
        let shown = live.shown(&service).await;
        let attempt = &shown["conversations"][0];
        assert_eq!(
            (&shown["attempts"], attempt["hangupCause"].as_str().unwrap_or_default()),
            (&json!(1), cause),
            "{body}"
        );
        assert_eq!(attempt["startedAt"].is_string(), status == "IN_PROGRESS", "{body}");
        let reason = if status == "PENDING" { json!("RETRY_LATER") } else { Value::Null };
        assert_eq!(shown["waiting"]["reason"], reason, "{body}");
        let told = if body["outcome"].is_object() { &body["outcome"] } else { &Value::Null };
        assert_eq!(&attempt["outcome"], told, "{body}");
    }
    let kept = "select count(*) from attempts where transcript = 'See you then!' and duration_secs = 240";
    assert_eq!(service.test_db.count(kept).await, 1);
    service.finish().await;
}

/// A failure is dialed again, the last one is the end; a late word about an old attempt does not touch the call any more.
#[tokio::test(flavor = "multi_thread")]
async fn failures_use_up_the_dials() {
    let settings = [SLOW, ("OUTDIAL_RETRY__BASE_SECS", "0.001"), ("MAX_RETRY_ATTEMPTS", "2")];
    let service = TestService::start(&settings).await;
    let first = Live::start(&service, "+14155550100").await;
    let failed = json!({"eventType": "call.failed", "failureReason": "Unreachable"});
    assert_eq!(first.hear(&service, OUTCOME, failed.clone()).await, "applied");
    let second = Live::of(&service, &first.id, 2).await;
    assert_eq!(second.end(&service).await.0, "IN_PROGRESS");
    let late = json!({"eventType": "call.completed", "outcome": {"type": "WRONG_NUMBER"}});
    assert_eq!(first.hear(&service, OUTCOME, late).await, "applied");
    assert_eq!(second.end(&service).await.0, "IN_PROGRESS");
    assert_eq!(second.hear(&service, OUTCOME, failed).await, "applied");
    let shown = second.shown(&service).await;
    assert_eq!(
        (&shown["status"], &shown["attempts"], &shown["disposition"]),
        (&json!("FAILED"), &json!(2), &json!("FAILED"))
    );
    let said: Vec<&Value> =
        shown["conversations"].as_array().expect("attempts").iter().map(|a| &a["disposition"]).collect();
    assert_eq!(said, ["WRONG_NUMBER", "FAILED"]);
    service.finish().await;
}

/// A callback with a time: the same call waits for exactly that time, with a round of dials of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_promised_callback_waits_for_its_time() {
    let service = TestService::start(&[SLOW]).await;
    let live = Live::start(&service, "+14155550100").await;
    let at = (Utc::now() + TimeDelta::hours(2)).to_rfc3339_opts(SecondsFormat::Secs, true);
    let body = json!({"eventType": "call.completed", "outcome": {"type": "CALLBACK_REQUESTED", "callbackTime": at}});
    for became in ["applied", "unchanged"] {
        assert_eq!(live.hear(&service, OUTCOME, body.clone()).await, became);
        let shown = live.shown(&service).await;
        assert_eq!((&shown["status"], &shown["disposition"]), (&json!("PENDING"), &json!("CALLBACK_REQUESTED")));
        assert_eq!((&shown["scheduledAt"], &shown["nextAttemptAt"]), (&json!(at), &json!(at)));
        assert_eq!(shown["waiting"], json!({"reason": "SCHEDULED_LATER", "clearsAt": at, "detail": null}));
        assert_eq!(
            (&shown["attempts"], &shown["maxAttempts"]),
            (&json!(1), &json!(4)),
            "one dial done, three in the round"
        );
    }
    service.finish().await;
}

/// Times no calendar of ours holds are refused by their field, not tried on Postgres again and again.
#[tokio::test(flavor = "multi_thread")]
async fn absurd_times_are_refused() {
    let service = TestService::start(&[SLOW]).await;
    let live = Live::start(&service, "+14155550100").await;
    for at in ["-9999-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "+262142-12-31T23:59:59Z"] {
        for (kind, field) in [("CALLBACK_REQUESTED", "callbackTime"), ("APPOINTMENT_SET", "appointmentTime")] {
            let body = json!({"eventType": "call.completed", "conversationId": live.conversation,
                "outcome": {"type": kind, field: at}});
            let answer = send(service.client.post(format!("{}{OUTCOME}", service.base)).json(&body)).await;
            answer.assert_invalid(&format!("outcome.{field}"));
        }
    }
    assert_eq!(live.end(&service).await.0, "IN_PROGRESS");
    service.finish().await;
}

/// Who asks not to be called is on the list from then on: new calls are refused, the one waiting behind is canceled.
#[tokio::test(flavor = "multi_thread")]
async fn do_not_call_is_remembered() {
    let service = TestService::start(&[SLOW]).await;
    let live = Live::start(&service, "+14155550100").await;
    let again = json!({"to": "+14155550100", "scriptId": "s"});
    let (_, behind) = service.post("/api/v1/calls", again.clone()).await;
    let body = json!({"eventType": "call.completed", "outcome": {"type": "DO_NOT_CALL"}});
    assert_eq!(live.hear(&service, OUTCOME, body).await, "applied");
    assert_eq!(live.end(&service).await, ends("COMPLETED", "DO_NOT_CALL"));
    let suppressed = "select count(*) from suppressions s join users u on u.id = s.user_id
        where phone = '+14155550100' and external_id = 'operator'";
    assert_eq!(service.test_db.count(suppressed).await, 1);
    let (status, refused) = service.post("/api/v1/calls", again).await;
    assert_eq!((status, &refused["code"]), (409, &json!("do_not_call")));
    let canceled = service.wait_for_status(behind["data"]["id"].as_str().expect("an id"), "CANCELED").await;
    assert_eq!((&canceled["disposition"], &canceled["attempts"]), (&json!("DO_NOT_CALL"), &json!(0)));
    service.finish().await;
}

/// An end that overtakes the answer to its own dial is stored, once, and applied as soon as the dial's answer names its call.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_before_its_call_is_known() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/calls", listener.local_addr().expect("an address"));
    let accept = || async { (axum::http::StatusCode::ACCEPTED, axum::Json(json!({"callId": "x-1"}))) };
    let router = axum::Router::new().route("/calls", axum::routing::post(accept));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let service = TestService::start(&[("AI_CALL_API_URL", &url), ("AI_CALL_API_KEY", "key")]).await;
    let early = json!({"callId": "x-1", "status": "COMPLETED", "durationSec": 7});
    let nobodys = json!({"conversationId": UNKNOWN, "eventType": "call.completed"});
    for _ in 0..2 {
        for (path, body) in [(STATUS, &early), (OUTCOME, &nobodys)] {
            let (status, answer) = service.post(path, body.clone()).await;
            assert_eq!((status, answer), (202, json!({"success": true, "data": {"status": "stored"}})), "{path}");
        }
    }
    assert_eq!(service.test_db.count("select count(*) from stray_events").await, 2);
    let (_, created) = service.post("/api/v1/calls", json!({"to": "+14155550100", "scriptId": "s"})).await;
    let call = service.wait_for_status(created["data"]["id"].as_str().expect("an id"), "COMPLETED").await;
    let attempt = &call["conversations"][0];
    assert_eq!((&attempt["externalCallId"], &attempt["duration"]), (&json!("x-1"), &json!(7)));
    until_count(&service, "select count(*) from stray_events", 1).await;
    assert_eq!(service.test_db.count("select count(*) from events where source = 'stray'").await, 1);
    service.finish().await;
}

/// A second delivery answers "unchanged" and leaves events, attempts, counts and the call as they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_delivery_changes_nothing() {
    let service = TestService::start(&[SLOW]).await;
    for (nth, (path, body)) in [
        (STATUS, json!({"status": "COMPLETED", "durationSec": 42})),
        (STATUS, json!({"status": "FAILED"})),
        (OUTCOME, json!({"eventType": "call.failed", "failureReason": "Unreachable"})),
        (OUTCOME, json!({"eventType": "call.completed", "outcome": {"type": "DO_NOT_CALL"}})),
        (OUTCOME, json!({"eventType": "call.outcome", "outcome": {"type": "NOT_INTERESTED"}})),
    ]
    .into_iter()
    .enumerate()
    {
        let live = Live::start(&service, &format!("+1415555010{nth}")).await;
        assert_eq!(live.hear(&service, path, body.clone()).await, "applied", "{body}");
        let before = (live.shown(&service).await, service.get("/api/v1/metrics").await.1["data"].clone());
        assert_eq!(live.hear(&service, path, body.clone()).await, "unchanged", "{body}");
        assert_eq!(
            (live.shown(&service).await, service.get("/api/v1/metrics").await.1["data"].clone()),
            before,
            "{body}"
        );
    }
    assert_eq!(service.test_db.count("select count(*) from events where source = 'webhook'").await, 5);
    assert_eq!(service.test_db.count("select count(*) from suppressions").await, 1);
    service.finish().await;
}

/// So does a second "it has started".
#[tokio::test(flavor = "multi_thread")]
async fn started_twice_is_unchanged() {
    let service = TestService::start(&[SLOW]).await;
    let live = Live::start(&service, "+14155550100").await;
    let revision = "select revision::bigint from attempts";
    assert_eq!(live.hear(&service, OUTCOME, json!({"eventType": "call.started"})).await, "applied");
    let before = service.test_db.count(revision).await;
    assert_eq!(live.hear(&service, OUTCOME, json!({"eventType": "call.started"})).await, "unchanged");
    assert_eq!(service.test_db.count(revision).await, before);
    service.finish().await;
}

/// Four words about a call in all 24 orders, each said twice: the same end every time, decided by the strongest.
#[tokio::test(flavor = "multi_thread")]
async fn any_order_gives_the_same_end() {
    let service = TestService::start(&[SLOW]).await;
    let outcome = json!({"type": "APPOINTMENT_SET", "appointmentTime": "2027-02-26T15:00:00Z"});
    let words = [
        (OUTCOME, json!({"eventType": "call.started"})),
        (STATUS, json!({"status": "FAILED"})),
        (STATUS, json!({"status": "BUSY"})),
        (OUTCOME, json!({"eventType": "call.outcome", "outcome": outcome})),
    ];
    let orders = (0..256_usize).map(|code| [code / 64, code / 16 % 4, code / 4 % 4, code % 4]);
    let permutations = orders.filter(|order| (0..4).all(|word| order.contains(&word)));
    for (nth, order) in permutations.enumerate() {
        let live = Live::start(&service, &format!("+141555501{nth:02}")).await;
        for word in order {
            let (path, body) = &words[word];
            live.hear(&service, path, body.clone()).await;
            live.hear(&service, path, body.clone()).await;
        }
        let call = live.shown(&service).await;
        assert_eq!(
            (&call["status"], &call["disposition"]),
            (&json!("COMPLETED"), &json!("APPOINTMENT_SET")),
            "{order:?}"
        );
        assert_eq!((&call["attempts"], &call["conversations"][0]["outcome"]), (&json!(1), &outcome), "{order:?}");
    }
    assert_eq!(service.test_db.count("select count(*) from attempts").await, 24);
    service.finish().await;
}

/// An explicit outcome corrects a bare status and the call; a bare status after it is outweighed; of two equals the first stands.
#[tokio::test(flavor = "multi_thread")]
async fn the_stronger_word_stands() {
    let service = TestService::start(&[SLOW]).await;
    let explicit = |kind: &str| json!({"eventType": "call.completed", "outcome": {"type": kind}});
    let live = Live::start(&service, "+14155550100").await;
    for (path, body, became, end) in [
        (STATUS, json!({"status": "FAILED"}), "applied", ends("PENDING", "FAILED")),
        (STATUS, json!({"status": "COMPLETED"}), "unchanged", ends("PENDING", "FAILED")),
        (STATUS, json!({"status": "VOICEMAIL"}), "applied", ends("PENDING", "VOICEMAIL")),
        (OUTCOME, explicit("NOT_INTERESTED"), "applied", ends("COMPLETED", "NOT_INTERESTED")),
        (OUTCOME, explicit("WRONG_NUMBER"), "unchanged", ends("COMPLETED", "NOT_INTERESTED")),
        (STATUS, json!({"status": "NO_ANSWER"}), "unchanged", ends("COMPLETED", "NOT_INTERESTED")),
        (OUTCOME, json!({"eventType": "call.started"}), "unchanged", ends("COMPLETED", "NOT_INTERESTED")),
    ] {
        assert_eq!(live.hear(&service, path, body.clone()).await, became, "{body}");
        assert_eq!(live.end(&service).await, end, "{body}");
    }
    let (_, metrics) = service.get("/api/v1/metrics").await;
    assert_eq!((&metrics["data"]["COMPLETED"], &metrics["data"]["total"]), (&json!(1), &json!(1)));
    service.finish().await;
}

/// What only the weaker word knows, the length of the call, is known in the end whichever came first.
#[tokio::test(flavor = "multi_thread")]
async fn the_length_is_known_in_any_order() {
    let service = TestService::start(&[SLOW]).await;
    let status = (STATUS, json!({"status": "COMPLETED", "durationSec": 42}));
    let outcome = (OUTCOME, json!({"eventType": "call.completed", "outcome": {"type": "NOT_INTERESTED"}}));
    for (number, order) in [("+14155550100", [&status, &outcome]), ("+14155550101", [&outcome, &status])] {
        let live = Live::start(&service, number).await;
        for (path, body) in order {
            live.hear(&service, path, body.clone()).await;
        }
        assert_eq!(live.end(&service).await, ends("COMPLETED", "NOT_INTERESTED"));
        assert_eq!(live.shown(&service).await["conversations"][0]["duration"], 42, "{order:?}");
    }
    service.finish().await;
}

/// What cannot be understood is a 400 that names the field; nothing of it is kept.
#[tokio::test(flavor = "multi_thread")]
async fn bad_reports_are_refused_by_field() {
    let service = TestService::start(&[SLOW]).await;
    let live = Live::start(&service, "+14155550100").await;
    let ours = service.ours(STATUS, &live.conversation).await;
    let about = service.ours(OUTCOME, &live.conversation).await;
    let bad_id = format!("{STATUS}?attemptId=nope");
    let completed = |more: Value| {
        let mut body = json!({"eventType": "call.completed"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    for (path, body, field) in [
        (ours.as_str(), json!({"status": "EXPLODED"}), "status"),
        (&ours, json!({"status": 5}), "status"),
        (&ours, json!({"status": "COMPLETED", "durationSec": -1}), "durationSec"),
        (&ours, json!({"status": "COMPLETED", "durationSec": 1e9}), "durationSec"),
        (&ours, json!({"status": "COMPLETED", "durationSec": "long"}), "durationSec"),
        (&ours, json!({"status": "COMPLETED", "completedAt": "today"}), "completedAt"),
        (&ours, json!([]), ""),
        (&bad_id, json!({"status": "COMPLETED"}), "attemptId"),
        (STATUS, json!({"status": "COMPLETED"}), "callId"),
        (STATUS, json!({"status": "COMPLETED", "callId": ""}), "callId"),
        (STATUS, json!({"status": "COMPLETED", "callId": "x".repeat(501)}), "callId"),
        (STATUS, json!({"status": "COMPLETED", "callId": "a\u{0}b"}), "callId"),
        (OUTCOME, completed(json!({})), "callId"),
        (&about, json!({"eventType": "call.exploded"}), "eventType"),
        (&about, json!({"eventType": "call.outcome"}), "outcome"),
        (&about, completed(json!({"duration": -1})), "duration"),
        (&about, completed(json!({"outcome": {"type": "MAYBE"}})), "outcome.type"),
        (&about, completed(json!({"outcome": {"type": "APPOINTMENT_SET"}})), "outcome.appointmentTime"),
        (
            &about,
            completed(json!({"outcome": {"type": "CALLBACK_REQUESTED", "callbackTime": "soon"}})),
            "outcome.callbackTime",
        ),
    ] {
        send(service.client.post(format!("{}{path}", service.base)).json(&body)).await.assert_invalid(field);
    }
    for body in ["", "{", "\u{0}"] {
        send(service.client.post(format!("{}{ours}", service.base)).body(body)).await.assert_invalid("body");
    }
    // By a client of its own: the service hangs up on what it does not read.
    let large = client().post(format!("{}{ours}", service.base)).body("x".repeat(2_000_000));
    send(large).await.assert_problem(413, "too_large");
    let kept = "select (select count(*) from events) + (select count(*) from stray_events)";
    assert_eq!((service.test_db.count(kept).await, live.end(&service).await.0), (0, "IN_PROGRESS".to_owned()));
    // NUL characters in what we only keep are replaced: a transcript is not lost for them.
    assert_eq!(live.hear(&service, &about, completed(json!({"transcript": "a\u{0}b"}))).await, "applied");
    assert_eq!(service.test_db.count("select count(*) from attempts where transcript = U&'a\\FFFDb'").await, 1);
    service.finish().await;
}

const SECRETS: [&str; 2] = ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "some text of an older one"];

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(key).expect("a key").chain_update(message).finalize().into_bytes().to_vec()
}

/// The plain signature of a body.
fn hex(key: &[u8], body: &str) -> String {
    hmac(key, body.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The headers of Standard Webhooks for a body, signed so many seconds from now.
fn standard(body: &str, id: &str, secs_from_now: i64) -> Vec<(&'static str, String)> {
    let key = STANDARD.decode(SECRETS[0].trim_start_matches("whsec_")).expect("base64");
    let at = (Utc::now().timestamp() + secs_from_now).to_string();
    let signature = STANDARD.encode(hmac(&key, format!("{id}.{at}.{body}").as_bytes()));
    vec![
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", at),
        ("webhook-signature", format!("v1,AAAA v1,{signature}")),
    ]
}

/// The headers of the hex scheme with its time, signed so many seconds from now.
fn timed(key: &str, body: &str, secs_from_now: i64) -> Vec<(&'static str, String)> {
    let at = (Utc::now().timestamp() + secs_from_now).to_string();
    let signature = hex(key.as_bytes(), &format!("{at}.{body}"));
    vec![("X-Webhook-Timestamp", at), ("X-Webhook-Signature", format!("sha256={signature}"))]
}

/// With secrets set, only what one of them signed by its own scheme is heard, on both routes; of the rest no trace is kept. What is bound
/// to no time is heard only about the attempt that our own URL names. (The version before took the text of any secret for a key of either
/// scheme, a public one's too; believed the body alone for ever; and let the URL name any attempt.)
#[tokio::test(flavor = "multi_thread")]
async fn signatures() {
    let secrets = SECRETS.join(", ");
    let service = TestService::start(&[SLOW, ("WEBHOOK_SECRET", &secrets)]).await;
    let live = Live::start(&service, "+14155550100").await;
    let started = json!({"eventType": "call.started", "conversationId": live.conversation}).to_string();
    let ended = json!({"status": "COMPLETED", "callId": live.provider_call}).to_string();
    let post = async |path: &str, body: &str, headers: Vec<(&'static str, String)>| -> Answer {
        let request = service.client.post(format!("{}{path}", service.base)).body(body.to_owned());
        send(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value))).await
    };
    let plain = |key: &str, body: &str| vec![("X-Webhook-Signature", hex(key.as_bytes(), body))];
    for (path, body) in [(OUTCOME, &started), (STATUS, &ended)] {
        let mut unnamed = standard(body, "msg_1", 0);
        unnamed.remove(0);
        for headers in [
            vec![],
            plain("a guess", body),
            plain("", body),
            plain(&secrets, body),
            plain(SECRETS[0], "another body"),
            plain(SECRETS[0], body),
            plain(SECRETS[1], body),
            timed(SECRETS[0], body, 0),
            timed(SECRETS[1], body, -3600),
            timed(SECRETS[1], body, 3600),
            timed(SECRETS[1], "another body", 0),
            plain(SECRETS[1], body).into_iter().chain(timed(SECRETS[1], body, -3600)).take(2).collect(),
            vec![("X-Webhook-Signature", "zz".repeat(32))],
            standard("another body", "msg_1", 0),
            standard(body, "msg_1", -3600),
            standard(body, "msg_1", 3600),
            unnamed,
        ] {
            post(path, body, headers).await.assert_problem(401, "unauthorized");
        }
    }
    // Whoever is not believed learns nothing of what is wrong with the body.
    post(STATUS, "no JSON", vec![]).await.assert_problem(401, "unauthorized");
    let kept = "select (select count(*) from events) + (select count(*) from stray_events)";
    assert_eq!((service.test_db.count(kept).await, live.end(&service).await.0), (0, "IN_PROGRESS".to_owned()));
    let accepted = post(OUTCOME, &started, timed(SECRETS[1], &started, 0)).await;
    assert_eq!((accepted.status, &accepted.body["data"]["status"]), (200, &json!("applied")));
    // A genuine body does not say which URL it was sent to.
    let other = Live::start(&service, "+14155550101").await;
    for headers in [standard(&ended, "msg_1", 0), timed(SECRETS[1], &ended, 0), plain(SECRETS[1], &ended)] {
        for url in [
            format!("{STATUS}?attemptId={}", other.conversation),
            format!("{STATUS}?attemptId={}&token=x", other.conversation),
        ] {
            post(&url, &ended, headers.clone()).await.assert_problem(401, "unauthorized");
        }
    }
    assert_eq!(other.end(&service).await.0, "IN_PROGRESS");
    for became in ["applied", "unchanged"] {
        let accepted = post(STATUS, &ended, standard(&ended, "msg_2", 0)).await;
        assert_eq!((accepted.status, &accepted.body["data"]["status"]), (200, &json!(became)));
    }
    // Bound to no time: about our own URL's attempt, and said again it changes nothing.
    let ours = service.ours(STATUS, &live.conversation).await;
    for _ in 0..2 {
        let again = post(&ours, &ended, plain(SECRETS[1], &ended)).await;
        assert_eq!((again.status, &again.body["data"]["status"]), (200, &json!("unchanged")));
    }
    assert_eq!(service.test_db.count("select count(*) from events where key = 'id:msg_2'").await, 1);
    assert_eq!(live.end(&service).await, ends("COMPLETED", "COMPLETED"));
    service.finish().await;
}

/// Reachable from elsewhere and without a secret: only our own URL with its token is believed, and only about its own attempt.
#[tokio::test(flavor = "multi_thread")]
async fn tokens() {
    let settings = [SLOW, ("OUTDIAL_SERVER__BIND", "0.0.0.0"), ("OUTDIAL_AUTH__OPEN", "true")];
    let service = TestService::start(&settings).await;
    let (one, other) = (Live::start(&service, "+14155550100").await, Live::start(&service, "+14155550101").await);
    let key = sqlx::query_scalar("select token_key from installation").fetch_one(service.test_db.pool());
    let key: Vec<u8> = key.await.expect("a key");
    let token = |live: &Live| signature::token(&key, live.conversation.parse().expect("an id"));
    let done = json!({"status": "COMPLETED", "eventType": "call.completed", "conversationId": one.conversation});
    for path in [STATUS, OUTCOME] {
        for query in [
            String::new(),
            format!("?attemptId={}", one.conversation),
            format!("?attemptId={}&token=", one.conversation),
            format!("?attemptId={}&token={}", one.conversation, token(&other)),
            format!("?token={}", token(&one)),
        ] {
            let answer = send(service.client.post(format!("{}{path}{query}", service.base)).json(&done)).await;
            answer.assert_problem(401, "unauthorized");
        }
    }
    assert_eq!(service.test_db.count("select count(*) from events").await, 0);
    // The attempt in the URL is meant, whatever the body says.
    let url = format!("{OUTCOME}?attemptId={}&token={}", other.conversation, token(&other));
    assert_eq!(service.post(&url, done.clone()).await, (200, json!({"success": true, "data": {"status": "applied"}})));
    assert_eq!(
        (one.end(&service).await.0, other.end(&service).await.0),
        ("IN_PROGRESS".to_owned(), "COMPLETED".to_owned())
    );
    let url = format!("{STATUS}?attemptId={}&token={}", one.conversation, token(&one));
    assert_eq!(service.post(&url, done).await.0, 200);
    assert_eq!(one.end(&service).await, ends("COMPLETED", "COMPLETED"));
    service.finish().await;
}

/// Who asked during a call not to be called stays on the list: a tenant takes it off in no way, an admin only with a reason, which is kept.
/// What the tenant listed itself it may take off. (The version before deleted it at the tenant's wish, without a trace.)
#[tokio::test(flavor = "multi_thread")]
async fn what_a_callee_asked_for_stays() {
    let service = TestService::start(&[SLOW]).await;
    service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await;
    let (_, key) = service.post("/api/v1/users/ann/keys", json!({})).await;
    let key = key["data"]["key"].as_str().expect("a key").to_owned();
    let number = "%2B14155550100";
    // It was on the list by the tenant already.
    let call = json!({"to": "+14155550100", "scriptId": "s", "userId": "ann", "ignoreWindow": true});
    let (_, made) = service.post("/api/v1/calls", call.clone()).await;
    let live = Live::of(&service, made["data"]["id"].as_str().expect("an id"), 1).await;
    assert_eq!(service.post("/api/v1/users/ann/suppressions", json!({"number": "+14155550100"})).await.0, 201);
    let word = json!({"eventType": "call.completed", "conversationId": live.conversation, "duration": 5, "outcome": {"type": "DO_NOT_CALL"}});
    assert_eq!(service.post(OUTCOME, word).await.0, 200);
    let asked = "select count(*) from suppressions where asked";
    assert_eq!(service.test_db.count(asked).await, 1);
    let take_off = async |path: String, key: Option<&str>| -> u16 {
        let request = service.client.delete(format!("{}/api/v1{path}", service.base));
        let request = match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        send(request).await.status
    };
    for path in [
        format!("/users/ann/suppressions/{number}"),
        format!("/users/ann/suppressions/{number}?reason=she%20called%20us"),
    ] {
        assert_eq!(take_off(path.clone(), Some(&key)).await, 403, "{path}");
    }
    // Nor by a phone number's status.
    for body in [json!({"number": "+14155550100", "userId": "ann", "externalId": "n", "status": "do_not_call"})] {
        assert_eq!(service.post("/api/v1/phone-numbers", body).await.0, 201);
    }
    let patch = service.client.patch(format!("{}/api/v1/phone-numbers/n?userId=ann", service.base));
    assert_eq!(send(patch.bearer_auth(&key).json(&json!({"status": "valid"}))).await.status, 200);
    assert_eq!(take_off(format!("/users/ann/suppressions/{number}"), None).await, 400, "an admin says why");
    assert_eq!(service.test_db.count(asked).await, 1);
    let (status, again) = service.post("/api/v1/calls", call).await;
    assert_eq!((status, &again["code"]), (409, &json!("do_not_call")), "{again}");
    assert_eq!(take_off(format!("/users/ann/suppressions/{number}?reason=she%20called%20us"), None).await, 204);
    let kept = "select count(*) from audit_log where action = 'unsuppress' and subject = '+14155550100'
                and before ->> 'reason' = 'asked during a call' and after ->> 'reason' = 'she called us'";
    assert_eq!((service.test_db.count(asked).await, service.test_db.count(kept).await), (0, 1));
    // A list of its own is the tenant's.
    assert_eq!(service.post("/api/v1/users/ann/suppressions", json!({"number": "+14155550101"})).await.0, 201);
    assert_eq!(take_off("/users/ann/suppressions/%2B14155550101".to_owned(), Some(&key)).await, 204);
    service.finish().await;
}
