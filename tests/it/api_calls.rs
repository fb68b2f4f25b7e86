//! Calls over HTTP: every example of the contract as it stands there, every bad input with its field, and repeats that create
//! nothing twice.

use std::collections::HashSet;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{TestService, answer, client};

/// Calls last for a quarter of an hour and longer: nothing ends by itself within a test.
pub const SLOW: (&str, &str) = ("OUTDIAL_SIMULATOR__SPEED", "0.01");
/// Every call is answered.
const ANSWERED: (&str, &str) = ("OUTDIAL_SIMULATOR__SUCCESS_RATE", "1");

/// An answer, as far as the contract speaks of it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub replayed: bool,
    pub text: String,
    /// Null when it is no JSON.
    pub body: Value,
}

/// Sends it, whatever comes back.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let text_of = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned());
    let (content_type, replayed) = (text_of("content-type").unwrap_or_default(), text_of("idempotent-replayed"));
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, content_type, replayed: replayed.as_deref() == Some("true"), text, body }
}

impl Answer {
    /// It is a problem as RFC 9457 has it, with this status and code.
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{self:?}");
        assert_eq!(self.content_type, "application/problem+json");
        assert_eq!((&self.body["success"], &self.body["status"]), (&json!(false), &json!(status)));
    }

    /// It is a 400 that names this field.
    pub fn assert_invalid(&self, path: &str) {
        self.assert_problem(400, "invalid_request");
        assert_eq!(self.body["errors"][0]["path"], path, "{}", self.text);
    }
}

fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn in_minutes(minutes: i64) -> String {
    rfc3339(Utc::now() + TimeDelta::minutes(minutes))
}

fn to(number: &str) -> Value {
    json!({"to": number, "scriptId": "welcomeFlow"})
}

/// A call to a number, with these fields besides.
fn to_with(number: &str, more: &Value) -> Value {
    let mut body = to(number);
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

impl TestService {
    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method.parse().expect("a method"), format!("{}{path}", self.base))
    }

    async fn create(&self, body: Value) -> Value {
        let (status, body) = self.post("/api/v1/calls", body).await;
        assert_eq!(status, 201, "{body}");
        body["data"].clone()
    }

    /// Creates under an Idempotency-Key.
    async fn create_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        send(self.request("POST", path).header("Idempotency-Key", key).json(body)).await
    }

    async fn calls(&self) -> i64 {
        self.test_db.count("select count(*) from calls").await
    }
}

/// The contract's first example, word for word: the envelope is exact, the call is dialed and ends COMPLETED.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_call() {
    let service = TestService::start(&[ANSWERED]).await;
    let body = json!({"to": "+966501234567", "scriptId": "welcomeFlow", "metadata": {"customerName": "Ahmed"}});
    let (status, answer) = service.post("/api/v1/calls", body).await;
    assert_eq!(status, 201, "{answer}");
    let (id, at) = (&answer["data"]["id"], &answer["data"]["createdAt"]);
    assert_eq!(id.as_str().and_then(|id| id.parse::<uuid::Uuid>().ok()).map(|id| id.get_version_num()), Some(7));
    let age = Utc::now() - at.as_str().expect("a time").parse::<DateTime<Utc>>().expect("RFC 3339");
    assert!(at.as_str().is_some_and(|at| at.ends_with('Z')) && age < TimeDelta::minutes(1), "{at}");
    let expected = json!({"success": true, "data": {
        "id": id, "userId": "00000000-0000-7000-8000-000000000001", "campaignId": null, "externalId": null,
        "payload": {"to": "+966501234567", "scriptId": "welcomeFlow", "metadata": {"customerName": "Ahmed"}, "variables": {}},
        "status": "PENDING", "attempts": 0, "maxAttempts": 3, "priority": "normal", "scheduledAt": at, "expiresAt": null,
        "timeZone": null, "disposition": null, "createdAt": at, "updatedAt": at, "endedAt": null, "nextAttemptAt": at,
    }});
    assert_eq!(answer, expected);
    let ended = service.wait_for_status(id.as_str().expect("an id"), "COMPLETED").await;
    assert_eq!((&ended["attempts"], &ended["disposition"]), (&json!(1), &json!("COMPLETED")));
    assert_eq!((&ended["waiting"], &ended["nextAttemptAt"]), (&Value::Null, &Value::Null));
    assert_eq!((ended["conversations"].as_array().map(Vec::len), ended["endedAt"].is_string()), (Some(1), true));
    let conversation = &ended["conversations"][0];
    let said = ["number", "state", "dialed", "provider", "disposition"].map(|name| conversation[name].clone());
    assert_eq!(said, [json!(1), json!("ENDED"), json!(true), json!("simulator"), json!("COMPLETED")]);
    service.finish().await;
}

/// Paths without the prefix are the same handlers: create, read, list, change, cancel through them.
#[tokio::test(flavor = "multi_thread")]
async fn paths_without_the_prefix() {
    let service = TestService::start(&[]).await;
    let (status, created) = service.post("/calls", to("+966501234567")).await;
    assert_eq!((status, &created["data"]["payload"]["metadata"]), (201, &json!({})));
    let later = to_with("+14155550100", &json!({"scheduledAt": in_minutes(60), "externalId": "order 7/b"}));
    let (status, scheduled) = service.post("/calls/schedule", later).await;
    assert_eq!(status, 201, "{scheduled}");
    let id = scheduled["data"]["id"].as_str().expect("an id");
    for path in [format!("/calls/{id}"), "/calls/order%207%2Fb".to_owned(), "/api/v1/calls/order%207%2Fb".to_owned()] {
        let (status, got) = service.get(&path).await;
        assert_eq!((status, &got["data"]["id"]), (200, &json!(id)), "{path}");
    }
    let put = send(service.request("PUT", "/calls/order%207%2Fb").json(&json!({"priority": "high"}))).await;
    assert_eq!((put.status, &put.body["data"]["priority"]), (200, &json!("high")));
    let (status, canceled) = service.post("/calls/order%207%2Fb/cancel", Value::Null).await;
    assert_eq!((status, &canceled["data"]["status"]), (200, &json!("CANCELED")));
    let (status, rows) = service.post("/calls/batch", json!({"calls": [to("+14155550101")]})).await;
    assert_eq!((status, &rows["data"]["accepted"]), (201, &json!(1)));
    assert_eq!(service.get("/calls").await.1["pagination"]["total"], 3);
    service.finish().await;
}

/// 25 calls, 2 of them canceled: filters, pages and their arithmetic; a cursor sees each once while newer calls come in.
#[tokio::test(flavor = "multi_thread")]
async fn lists_and_pages() {
    let service = TestService::start(&[]).await;
    let rows: Vec<Value> = (0..25)
        .map(|nth| {
            to_with(
                &format!("+141555501{nth:02}"),
                &json!({"scheduledAt": in_minutes(60), "externalId": format!("n{nth}")}),
            )
        })
        .collect();
    let (_, report) = service.post("/api/v1/calls/batch", json!({"calls": rows})).await;
    assert_eq!(report["data"]["accepted"], 25, "{report}");
    for external_id in ["n3", "n4"] {
        assert_eq!(service.post(&format!("/api/v1/calls/{external_id}/cancel"), Value::Null).await.0, 200);
    }
    let soon = in_minutes(1);
    for (query, rows, page, limit, total, pages, more) in [
        ("", 10, 1, 10, 25, 3, true),
        ("page=3", 5, 3, 10, 25, 3, false),
        ("page=4", 0, 4, 10, 25, 3, false),
        ("limit=100", 25, 1, 100, 25, 1, false),
        ("status=PENDING&limit=10&page=3", 3, 3, 10, 23, 3, false),
        ("status=CANCELED", 2, 1, 10, 2, 1, false),
        ("status=COMPLETED", 0, 1, 10, 0, 0, false),
        ("to=%2B14155550107", 1, 1, 10, 1, 1, false),
        ("userId=operator&limit=1", 1, 1, 1, 25, 25, true),
        ("campaignId=00000000-0000-7000-8000-00000000000f", 0, 1, 10, 0, 0, false),
        ("from=2020-01-01T00:00:00Z&limit=50", 25, 1, 50, 25, 1, false),
        ("until=2020-01-01T00:00:00Z", 0, 1, 10, 0, 0, false),
        (&format!("from={soon}"), 0, 1, 10, 0, 0, false),
        (&format!("until={soon}&limit=50"), 25, 1, 50, 25, 1, false),
    ] {
        let (status, list) = service.get(&format!("/api/v1/calls?{query}")).await;
        assert_eq!((status, &list["success"]), (200, &json!(true)), "{query}: {list}");
        let mut pagination = list["pagination"].clone();
        assert_eq!(pagination["nextCursor"].take().is_string(), more, "{query}");
        let expected = json!({"page": page, "limit": limit, "total": total, "totalPages": pages, "nextCursor": null});
        assert_eq!((list["data"].as_array().map(Vec::len), pagination), (Some(rows), expected), "{query}");
    }
    let mut seen: Vec<String> = Vec::new();
    let mut cursor = String::new();
    loop {
        let (_, list) = service.get(&format!("/api/v1/calls?limit=4{cursor}")).await;
        seen.extend(list["data"].as_array().expect("rows").iter().map(|call| call["externalId"].to_string()));
        let Some(next) = list["pagination"]["nextCursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
        service.create(to_with("+14155550199", &json!({"scheduledAt": in_minutes(60)}))).await;
    }
    assert_eq!((seen.len(), seen.iter().collect::<HashSet<_>>().len()), (25, 25), "{seen:?}");
    assert!(!seen.contains(&Value::Null.to_string()), "a newer call turned up below the cursor: {seen:?}");
    service.finish().await;
}

/// The last page has no cursor, even when it is full.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_page_is_the_last() {
    let service = TestService::start(&[]).await;
    let rows = [to("+14155550100"), to("+14155550101")];
    service.post("/api/v1/calls/batch", json!({"calls": rows})).await;
    let (_, list) = service.get("/api/v1/calls?limit=2").await;
    assert_eq!((list["data"].as_array().map(Vec::len), &list["pagination"]["nextCursor"]), (Some(2), &Value::Null));
    service.finish().await;
}

/// Times before 1970 are times: everything is created after them.
#[tokio::test(flavor = "multi_thread")]
async fn lists_since_before_1970() {
    let service = TestService::start(&[]).await;
    service.create(to("+14155550100")).await;
    for (query, total) in [("from=1960-01-01T00:00:00Z", 1), ("until=1960-01-01T00:00:00Z", 0)] {
        let (status, list) = service.get(&format!("/api/v1/calls?{query}")).await;
        assert_eq!((status, &list["pagination"]["total"]), (200, &json!(total)), "{query}");
        assert_eq!(list["data"].as_array().map(Vec::len), Some(total), "{query}");
    }
    service.finish().await;
}

/// PATCH while PENDING changes what is given and nothing else, runs every check again, and is too late once dialed.
#[tokio::test(flavor = "multi_thread")]
async fn changes_while_pending() {
    let service = TestService::start(&[SLOW]).await;
    service.test_db.run("insert into suppressions (phone, user_id) select '+14155550113', id from users").await;
    let more = json!({"metadata": {"a": 1, "b": 2}, "scheduledAt": in_minutes(60)});
    let before = service.create(to_with("+14155550100", &more)).await;
    let path = format!("/api/v1/calls/{}", before["id"].as_str().expect("an id"));
    let at = in_minutes(120);
    let changes =
        json!({"payload": {"to": "+1 (415) 555-0101", "metadata": {"c": 3}}, "priority": "low", "scheduledAt": at});
    let (status, after) = service.patch(&path, changes).await;
    assert_eq!(status, 200, "{after}");
    let payload = json!({"to": "+14155550101", "scriptId": "welcomeFlow", "metadata": {"c": 3}, "variables": {}});
    assert_eq!((&after["data"]["payload"], &after["data"]["priority"]), (&payload, &json!("low")));
    assert_eq!((&after["data"]["scheduledAt"], &after["data"]["nextAttemptAt"]), (&json!(at), &json!(at)));
    assert_eq!(after["data"]["waiting"], json!({"reason": "SCHEDULED_LATER", "clearsAt": at, "detail": null}));
    assert_eq!(service.patch(&path, json!({})).await.1["data"]["payload"], payload, "nothing given, nothing changed");
    for (changes, field) in [
        (json!({"payload": {"to": "123"}}), "payload.to"),
        (json!({"payload": {"scriptId": ""}}), "payload.scriptId"),
        (json!({"payload": {"metadata": 5}}), "payload.metadata"),
        (json!({"payload": {"variables": {}}}), "payload.variables"),
        (json!({"expiresAt": "2020-01-01T00:00:00Z"}), "expiresAt"),
        (json!({"status": "COMPLETED"}), "status"),
    ] {
        send(service.request("PATCH", &path).json(&changes)).await.assert_invalid(field);
    }
    let suppressed = json!({"payload": {"to": "+14155550113"}});
    send(service.request("PATCH", &path).json(&suppressed)).await.assert_problem(409, "do_not_call");
    let (status, due) = service.patch(&path, json!({"scheduledAt": rfc3339(Utc::now())})).await;
    assert_eq!(status, 200, "{due}");
    let live = service.wait_for_status(before["id"].as_str().expect("an id"), "IN_PROGRESS").await;
    assert_eq!(live["payload"], payload);
    send(service.request("PATCH", &path).json(&json!({"priority": "high"}))).await.assert_problem(409, "wrong_state");
    service.finish().await;
}

/// A call for later waits and says until when; POST /calls/schedule insists on the time.
#[tokio::test(flavor = "multi_thread")]
async fn scheduled_for_later() {
    let service = TestService::start(&[]).await;
    let at = in_minutes(90);
    let body = to_with("+14155550100", &json!({"scheduledAt": at, "timeZone": "America/New_York", "priority": "high"}));
    let (status, created) = service.post("/api/v1/calls/schedule", body).await;
    assert_eq!(
        (status, &created["data"]["status"], &created["data"]["nextAttemptAt"]),
        (201, &json!("PENDING"), &json!(at))
    );
    let (_, got) = service.get(&format!("/api/v1/calls/{}", created["data"]["id"].as_str().expect("an id"))).await;
    assert_eq!(got["data"]["waiting"], json!({"reason": "SCHEDULED_LATER", "clearsAt": at, "detail": null}));
    assert_eq!((&got["data"]["timeZone"], &got["data"]["conversations"]), (&json!("America/New_York"), &json!([])));
    let refused = send(service.request("POST", "/api/v1/calls/schedule").json(&to("+14155550100"))).await;
    refused.assert_invalid("scheduledAt");
    assert_eq!(service.calls().await, 1);
    service.finish().await;
}

/// Cancel: at once while PENDING and twice over the same; a live call is hung up; one that has completed is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn cancels() {
    let service = TestService::start(&[SLOW]).await;
    let waiting = service.create(to_with("+14155550100", &json!({"scheduledAt": in_minutes(60)}))).await;
    let path = format!("/api/v1/calls/{}/cancel", waiting["id"].as_str().expect("an id"));
    for _ in 0..2 {
        let (status, canceled) = service.post(&path, Value::Null).await;
        assert_eq!(
            (status, &canceled["data"]["status"], &canceled["data"]["waiting"]),
            (200, &json!("CANCELED"), &Value::Null)
        );
    }
    let live = service.create(to("+14155550101")).await;
    let id = live["id"].as_str().expect("an id");
    service.wait_for_status(id, "IN_PROGRESS").await;
    assert_eq!(service.post(&format!("/api/v1/calls/{id}/cancel"), Value::Null).await.0, 200);
    let canceled = service.wait_for_status(id, "CANCELED").await;
    assert_eq!((&canceled["attempts"], &canceled["disposition"]), (&json!(1), &json!("CANCELED")));
    assert_eq!(service.post(&format!("/api/v1/calls/{id}/cancel"), Value::Null).await.0, 200);
    let (_, metrics) = service.get("/api/v1/metrics").await;
    assert_eq!((&metrics["data"]["CANCELED"], &metrics["data"]["total"]), (&json!(2), &json!(2)));
    service.finish().await;

    let service = TestService::start(&[ANSWERED]).await;
    let id = service.create(to("+14155550100")).await["id"].as_str().expect("an id").to_owned();
    service.wait_for_status(&id, "COMPLETED").await;
    for action in ["cancel", "retry"] {
        send(service.request("POST", &format!("/api/v1/calls/{id}/{action}"))).await.assert_problem(409, "wrong_state");
    }
    service.finish().await;
}

/// A FAILED call gets one more round; a waiting one does not need it, and a number asked not to be called stays uncalled.
#[tokio::test(flavor = "multi_thread")]
async fn retries() {
    let service = TestService::start(&[("OUTDIAL_SIMULATOR__SUCCESS_RATE", "0"), ("MAX_RETRY_ATTEMPTS", "2")]).await;
    let id = service.create(to_with("+14155550100", &json!({"maxAttempts": 1}))).await["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let failed = service.wait_for_status(&id, "FAILED").await;
    assert_eq!((&failed["attempts"], &failed["maxAttempts"]), (&json!(1), &json!(1)));
    let (status, again) = service.post(&format!("/api/v1/calls/{id}/retry"), Value::Null).await;
    assert_eq!((status, &again["data"]["maxAttempts"]), (200, &json!(3)), "{again}");
    let failed = service.wait_for_status(&id, "FAILED").await;
    assert_eq!((&failed["attempts"], failed["conversations"].as_array().map(Vec::len)), (&json!(3), Some(3)));
    service.test_db.run("insert into suppressions (phone, user_id) select '+14155550100', id from users").await;
    send(service.request("POST", &format!("/api/v1/calls/{id}/retry"))).await.assert_problem(409, "do_not_call");
    let later = service.create(to_with("+14155550101", &json!({"scheduledAt": in_minutes(60)}))).await;
    let path = format!("/api/v1/calls/{}/retry", later["id"].as_str().expect("an id"));
    send(service.request("POST", &path)).await.assert_problem(409, "wrong_state");
    service.finish().await;
}

/// A number on a call: another call queues behind it and says so, or is refused with the call in the way. Suppressed: refused.
#[tokio::test(flavor = "multi_thread")]
async fn duplicates_and_suppressed_numbers() {
    let service = TestService::start(&[SLOW]).await;
    let first = service.create(to("+14155550100")).await;
    let refused =
        service.create_as("twice", "/api/v1/calls", &to_with("+14155550100", &json!({"onDuplicate": "reject"}))).await;
    refused.assert_problem(409, "duplicate_call");
    assert_eq!(refused.body["existingId"], first["id"]);
    service.wait_for_status(first["id"].as_str().expect("an id"), "IN_PROGRESS").await;
    let second =
        service.create(to_with("+14155550100", &json!({"onDuplicate": "queue", "externalId": "second"}))).await;
    let (_, second) = service.get(&format!("/api/v1/calls/{}", second["id"].as_str().expect("an id"))).await;
    assert_eq!(second["data"]["waiting"], json!({"reason": "NUMBER_BUSY", "clearsAt": null, "detail": first["id"]}));
    let taken = to_with("+14155550102", &json!({"externalId": "second"}));
    send(service.request("POST", "/api/v1/calls").json(&taken)).await.assert_problem(409, "external_id_taken");
    service.test_db.run("insert into suppressions (phone, user_id) select '+14155550113', id from users").await;
    send(service.request("POST", "/api/v1/calls").json(&to("+14155550113"))).await.assert_problem(409, "do_not_call");
    assert_eq!(service.calls().await, 2);
    service.finish().await;
}

/// With its only slot taken, a call that expires is never dialed; EXPIRED, it may be tried again without its old end.
#[tokio::test(flavor = "multi_thread")]
async fn expires() {
    let service = TestService::start(&[SLOW, ("MAX_CONCURRENT_CALLS", "1")]).await;
    let first = service.create(to("+14155550100")).await;
    service.wait_for_status(first["id"].as_str().expect("an id"), "IN_PROGRESS").await;
    let soon = (Utc::now() + TimeDelta::seconds(2)).to_rfc3339();
    let id = service.create(to_with("+14155550101", &json!({"expiresAt": soon}))).await["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    let (_, waiting) = service.get(&format!("/api/v1/calls/{id}")).await;
    assert_eq!(
        waiting["data"]["waiting"],
        json!({"reason": "GLOBAL_LIMIT", "clearsAt": null, "detail": null}),
        "{waiting}"
    );
    let expired = service.wait_for_status(&id, "EXPIRED").await;
    assert_eq!(
        (&expired["attempts"], &expired["conversations"], &expired["waiting"]),
        (&json!(0), &json!([]), &Value::Null)
    );
    let (status, again) = answer(service.request("POST", &format!("/api/v1/calls/{id}/retry"))).await;
    assert_eq!((status, &again["data"]["status"], &again["data"]["expiresAt"]), (200, &json!("PENDING"), &Value::Null));
    service.finish().await;
}

/// Everything wrong with a new call that we could think of: 400 with the field, several at once, and nothing is created.
#[tokio::test(flavor = "multi_thread")]
async fn bad_calls_are_refused_by_field() {
    let service = TestService::start(&[]).await;
    let number = "+14155550100";
    let soon = in_minutes(60);
    for (body, field) in [
        (json!([]), ""),
        (json!("call me"), ""),
        (to(""), "to"),
        (to("14155550100"), "to"),
        (to("+0123456789"), "to"),
        (to("+1415555CALL"), "to"),
        (to("+12345678901234567"), "to"),
        (to("+1415555\u{0}0100"), "to"),
        (to_with(number, &json!({"to": 14_155_550_100_u64})), "to"),
        (to_with(number, &json!({"to": null})), "to"),
        (to_with(number, &json!({"scriptId": ""})), "scriptId"),
        (to_with(number, &json!({"scriptId": "  "})), "scriptId"),
        (to_with(number, &json!({"scriptId": "x".repeat(20_001)})), "scriptId"),
        (to_with(number, &json!({"script": "welcomeFlow"})), "script"),
        (to_with(number, &json!({"metadata": []})), "metadata"),
        (to_with(number, &json!({"metadata": {"a": ["b\u{0}"]}})), "metadata.a.0"),
        (to_with(number, &json!({"metadata": {"a": "x".repeat(33_000)}})), "metadata"),
        (to_with(number, &json!({"variables": "name"})), "variables"),
        (to_with(number, &json!({"userId": "nobody"})), "userId"),
        (to_with(number, &json!({"userId": "\u{0}"})), "userId"),
        (to_with(number, &json!({"externalId": ""})), "externalId"),
        (to_with(number, &json!({"externalId": "x".repeat(256)})), "externalId"),
        (to_with(number, &json!({"externalId": "00000000-0000-7000-8000-000000000001"})), "externalId"),
        (to_with(number, &json!({"priority": "urgent"})), "priority"),
        (to_with(number, &json!({"scheduledAt": "soon"})), "scheduledAt"),
        (to_with(number, &json!({"scheduledAt": 1_900_000_000})), "scheduledAt"),
        (to_with(number, &json!({"scheduledAt": "9999-12-31T23:59:59Z"})), "scheduledAt"),
        (to_with(number, &json!({"scheduledAt": "1999-12-31T23:59:59Z"})), "scheduledAt"),
        (to_with(number, &json!({"scheduledAt": "-9999-12-31T23:59:59Z"})), "scheduledAt"),
        (to_with(number, &json!({"expiresAt": "1999-12-31T23:59:59Z"})), "expiresAt"),
        (to_with(number, &json!({"expiresAt": "9999-12-31T23:59:59Z"})), "expiresAt"),
        (to_with(number, &json!({"scheduledAt": soon, "expiresAt": soon})), "expiresAt"),
        (to_with(number, &json!({"maxAttempts": 0})), "maxAttempts"),
        (to_with(number, &json!({"maxAttempts": -1})), "maxAttempts"),
        (to_with(number, &json!({"maxAttempts": 1000})), "maxAttempts"),
        (to_with(number, &json!({"maxAttempts": 1e30})), "maxAttempts"),
        (to_with(number, &json!({"maxAttempts": 1.5})), "maxAttempts"),
        (to_with(number, &json!({"maxAttempts": "3"})), "maxAttempts"),
        (to_with(number, &json!({"timeZone": "Mars/Olympus"})), "timeZone"),
        (to_with(number, &json!({"timeZone": ""})), "timeZone"),
        (to_with(number, &json!({"onDuplicate": "ignore"})), "onDuplicate"),
        (to_with(number, &json!({"ignoreWindow": "yes"})), "ignoreWindow"),
    ] {
        send(service.request("POST", "/api/v1/calls").json(&body)).await.assert_invalid(field);
    }
    let several = json!({"to": "x", "scriptId": "", "maxAttempts": 0, "timeZone": "x"});
    let answer = send(service.request("POST", "/api/v1/calls").json(&several)).await;
    let paths: Vec<_> = answer.body["errors"].as_array().expect("errors").iter().map(|error| &error["path"]).collect();
    assert_eq!(paths, ["to", "scriptId", "maxAttempts", "timeZone"]);
    assert_eq!(service.calls().await, 0);
    service.finish().await;
}

/// A field that is missing is named like every other.
#[tokio::test(flavor = "multi_thread")]
async fn missing_fields_are_named() {
    let service = TestService::start(&[]).await;
    for (path, body, field) in [
        ("/api/v1/calls", json!({"scriptId": "welcomeFlow"}), "to"),
        ("/api/v1/calls", json!({"to": "+14155550100"}), "scriptId"),
        ("/api/v1/calls/batch", json!({}), "calls"),
        ("/api/v1/callbacks/call-status", json!({"callId": "x"}), "status"),
        ("/webhooks/outcome", json!({"callId": "x"}), "eventType"),
        ("/webhooks/outcome", json!({"callId": "x", "eventType": "call.completed", "outcome": {}}), "outcome.type"),
    ] {
        send(service.request("POST", path).json(&body)).await.assert_invalid(field);
    }
    service.finish().await;
}

/// What is no JSON, too large or of another type; ids and query parameters that mean nothing: a 4xx with its reason, never a 5xx.
#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused() {
    let service = TestService::start(&[]).await;
    let post = |media: &'static str, body: Vec<u8>| {
        service.request("POST", "/api/v1/calls").header("Content-Type", media).body(body)
    };
    let good = to("+14155550100").to_string();
    let deep = format!(r#"{{"metadata":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    for body in ["", "{", r#"{"to":"+1415"#, r#"{"to":"\ud800"}"#, &deep] {
        send(post("application/json", body.into())).await.assert_invalid("body");
    }
    send(post("application/json", vec![b'"', 0xff, b'"'])).await.assert_invalid("body");
    send(post("application/xml", good.clone().into())).await.assert_problem(415, "unsupported_media_type");
    // What a web page could send unasked is not believed without a key.
    for media in ["text/plain", "application/x-www-form-urlencoded", ""] {
        send(post(media, good.clone().into())).await.assert_problem(403, "forbidden");
    }
    // By a client of its own: the service hangs up on what it does not read.
    let large = to_with("+14155550100", &json!({"metadata": {"a": "x".repeat(2_000_000)}}));
    let large = client().post(format!("{}/api/v1/calls", service.base)).json(&large);
    send(large).await.assert_problem(413, "too_large");
    let ids = ["nope", "00000000-0000-7000-8000-0000000000ff", "%00", "%FF", &"x".repeat(300), "..%2Fcalls", "'--"];
    for id in ids {
        for (method, path) in [("GET", ""), ("PATCH", ""), ("PUT", ""), ("POST", "/cancel"), ("POST", "/retry")] {
            let request = service.request(method, &format!("/api/v1/calls/{id}{path}"));
            let request = if method.starts_with('P') { request.json(&json!({})) } else { request };
            send(request).await.assert_problem(404, "not_found");
        }
    }
    send(service.request("GET", "/api/v1/nothing")).await.assert_problem(404, "not_found");
    send(service.request("DELETE", "/api/v1/calls")).await.assert_problem(405, "method_not_allowed");
    for (query, path, named) in [
        ("limit=0", "limit", "limit"),
        ("limit=101", "limit", "limit"),
        ("limit=-1", "limit", "limit"),
        ("limit=ten", "query", "limit"),
        ("limit=99999999999999999999", "query", "limit"),
        ("page=0", "page", "page"),
        ("page=9223372036854775807", "page", "page"),
        ("status=DONE", "query", "status"),
        ("to=123", "to", "to"),
        ("campaignId=x", "campaignId", "campaignId"),
        ("userId=nobody", "userId", "userId"),
        ("from=yesterday", "query", "from"),
        ("from=%2B20000-01-01T00:00:00Z", "from", "from"),
        ("cursor=x", "cursor", "cursor"),
        ("sort=asc", "query", "sort"),
        ("limit=1&limit=2", "query", "limit"),
        ("to=%00", "query", "NUL"),
    ] {
        let answer = send(service.request("GET", &format!("/api/v1/calls?{query}"))).await;
        answer.assert_invalid(path);
        assert!(
            answer.body["detail"].as_str().is_some_and(|detail| detail.contains(named)),
            "{query}: {}",
            answer.text
        );
    }
    assert_eq!(service.calls().await, 0);
    service.finish().await;
}

/// A batch: a verdict for each row, the good ones kept, more than 1 MB of them; none or too many refused as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn batches() {
    let service = TestService::start(&[SLOW]).await;
    service.test_db.run("insert into suppressions (phone, user_id) select '+14155550113', id from users").await;
    let rows = json!([
        to("+14155550100"),
        to("123"),
        to_with("+14155550101", &json!({"frobnicate": true})),
        to("+14155550113"),
        5,
        to_with("+14155550102", &json!({"externalId": "one"})),
        to_with("+14155550103", &json!({"externalId": "one"})),
    ]);
    let (status, report) = service.post("/api/v1/calls/batch", json!({"calls": rows})).await;
    assert_eq!(status, 201, "{report}");
    let shown: Vec<(i64, &str, bool, &str, &str)> = report["data"]["rows"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| {
            let text = |value: &'static str| row[value].as_str().unwrap_or_default();
            let path = row["errors"][0]["path"].as_str().unwrap_or_default();
            (row["row"].as_i64().expect("a number"), text("status"), row["callId"].is_string(), text("code"), path)
        })
        .collect();
    assert_eq!(
        shown,
        [
            (1, "accepted", true, "", ""),
            (2, "rejected", false, "invalid_request", "to"),
            (3, "rejected", false, "invalid_request", "frobnicate"),
            (4, "rejected", false, "do_not_call", ""),
            (5, "rejected", false, "invalid_request", ""),
            (6, "accepted", true, "", ""),
            (7, "rejected", false, "external_id_taken", ""),
        ]
    );
    assert_eq!(
        (&report["data"]["accepted"], &report["data"]["rejected"], service.calls().await),
        (&json!(2), &json!(5), 2)
    );
    for calls in [json!([]), json!(vec![json!({}); 10_001]), json!({}), json!(null)] {
        send(service.request("POST", "/api/v1/calls/batch").json(&json!({"calls": calls})))
            .await
            .assert_invalid("calls");
    }
    let large: Vec<Value> = (0..50)
        .map(|nth| to_with(&format!("+141555502{nth:02}"), &json!({"metadata": {"a": "x".repeat(30_000)}})))
        .collect();
    let (status, report) = service.post("/api/v1/calls/batch", json!({"calls": large})).await;
    assert_eq!((status, &report["data"]["accepted"]), (201, &json!(50)));
    service.finish().await;
}

/// A row that minds duplicates is refused for a row before it, whether that one minds them or not.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_counts_the_rows_before_it() {
    let service = TestService::start(&[SLOW]).await;
    for (number, first) in [("+14155550100", "reject"), ("+14155550101", "queue")] {
        let row = |on_duplicate: &str| to_with(number, &json!({"onDuplicate": on_duplicate}));
        let rows = json!([row(first), row("reject"), row("queue")]);
        let (_, report) = service.post("/api/v1/calls/batch", json!({"calls": rows})).await;
        let rows = report["data"]["rows"].as_array().expect("rows");
        let statuses: Vec<&str> = rows.iter().map(|row| row["status"].as_str().expect("a status")).collect();
        assert_eq!(statuses, ["accepted", "rejected", "accepted"], "first {first}: {report}");
        assert_eq!(rows[1]["code"], "duplicate_call");
    }
    service.finish().await;
}

/// A row that Postgres could not keep spoils no other row.
#[tokio::test(flavor = "multi_thread")]
async fn a_nul_byte_spoils_one_row() {
    let service = TestService::start(&[]).await;
    let bad = to_with("+14155550101", &json!({"metadata": {"a": "\u{0}"}}));
    let (status, report) = service.post("/api/v1/calls/batch", json!({"calls": [to("+14155550100"), bad]})).await;
    assert_eq!(
        (status, &report["data"]["accepted"], &report["data"]["rejected"]),
        (201, &json!(1), &json!(1)),
        "{report}"
    );
    assert_eq!(report["data"]["rows"][1]["errors"][0]["path"], "metadata.a");
    service.finish().await;
}

/// One key, one request: the first answer again, word for word; another body or path is a mistake; a fault does not use it up.
#[tokio::test(flavor = "multi_thread")]
async fn keys_replay() {
    let service = TestService::start(&[SLOW]).await;
    let body = to("+14155550100");
    service.create_as("k1", "/api/v1/calls", &to("123")).await.assert_invalid("to");
    let first = service.create_as("k1", "/api/v1/calls", &body).await;
    assert_eq!((first.status, first.replayed), (201, false), "{first:?}");
    for (key, path) in [("k1", "/api/v1/calls"), ("\"k1\"", "/api/v1/calls"), ("k1", "/calls")] {
        let again = service.create_as(key, path, &body).await;
        assert_eq!((again.status, again.replayed, &again.text), (201, true, &first.text));
        assert_eq!(again.content_type, "application/json");
    }
    let scheduled = to_with("+14155550100", &json!({"scheduledAt": in_minutes(60)}));
    for (path, body) in [("/api/v1/calls", &to("+14155550101")), ("/api/v1/calls/schedule", &scheduled)] {
        service.create_as("k1", path, body).await.assert_problem(422, "idempotency_key_reused");
    }
    let reject = to_with("+14155550100", &json!({"onDuplicate": "reject"}));
    for replayed in [false, true] {
        let refused = service.create_as("k2", "/api/v1/calls", &reject).await;
        refused.assert_problem(409, "duplicate_call");
        assert_eq!((refused.replayed, &refused.body["existingId"]), (replayed, &first.body["data"]["id"]));
    }
    for key in ["", "two words", "\"\"", &"x".repeat(256), "schlüssel"] {
        service.create_as(key, "/api/v1/calls", &body).await.assert_invalid("Idempotency-Key");
    }
    let rows = json!({"calls": [to("+14155550102"), to("123")]});
    let first = service.create_as("k3", "/api/v1/calls/batch", &rows).await;
    let again = service.create_as("k3", "/api/v1/calls/batch", &rows).await;
    assert_eq!((first.status, first.replayed, again.replayed, &again.text), (201, false, true, &first.text));
    let other = json!({"calls": [to("+14155550103")]});
    service.create_as("k3", "/api/v1/calls/batch", &other).await.assert_problem(422, "idempotency_key_reused");
    assert_eq!(service.calls().await, 2);
    service.finish().await;
}

/// Sixteen requests at once under one key make one call, and sixteen batches one batch; the losers get its answer or a 409.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_used_at_once_creates_once() {
    let service = TestService::start(&[SLOW]).await;
    let rows: Vec<Value> = (0..30).map(|nth| to(&format!("+141555501{nth:02}"))).collect();
    for (key, path, body, calls) in
        [("k1", "/api/v1/calls", to("+14155550200"), 1), ("k2", "/api/v1/calls/batch", json!({"calls": rows}), 31)]
    {
        let answers = join_all((0..16).map(|_| service.create_as(key, path, &body))).await;
        let (created, busy): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 201);
        assert_eq!(created.iter().filter(|answer| !answer.replayed).count(), 1, "{answers:?}");
        assert!(created.iter().all(|answer| answer.text == created[0].text), "{created:?}");
        busy.iter().for_each(|answer| answer.assert_problem(409, "idempotency_key_in_use"));
        assert_eq!(service.calls().await, calls);
    }
    service.finish().await;
}

/// A request that died between its commit and its answer, played by taking the kept answer away: the repeat finds what was made.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_after_a_crash_creates_nothing_twice() {
    let service = TestService::start(&[SLOW]).await;
    let one = to_with("+14155550100", &json!({"onDuplicate": "reject", "externalId": "one"}));
    let rows =
        json!({"calls": [to("+14155550101"), to("123"), to_with("+14155550102", &json!({"onDuplicate": "reject"}))]});
    for (key, path, body) in [("k1", "/api/v1/calls", &one), ("k2", "/api/v1/calls/batch", &rows)] {
        let first = service.create_as(key, path, body).await;
        assert_eq!(first.status, 201, "{first:?}");
        service.test_db.run("update idempotency_keys set status = null, body = null, started_at = '-infinity'").await;
        let again = service.create_as(key, path, body).await;
        assert_eq!((again.status, again.replayed), (201, false), "{again:?}");
        assert_eq!(again.body["data"]["id"], first.body["data"]["id"]);
        assert_eq!(again.body["data"]["rows"], first.body["data"]["rows"]);
        let third = service.create_as(key, path, body).await;
        assert_eq!((third.status, third.replayed, &third.text), (201, true, &again.text));
    }
    assert_eq!(service.calls().await, 3);
    // While the first still runs, a repeat is told so.
    service.test_db.run("update idempotency_keys set status = null, body = null, started_at = clock()").await;
    service.create_as("k1", "/api/v1/calls", &one).await.assert_problem(409, "idempotency_key_in_use");
    service.finish().await;
}
