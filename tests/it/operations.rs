//! Running it: health, numbers, the OpenAPI document, who may do what, roles, and a log that gives nobody away.

use std::collections::BTreeSet;
use std::process::Command;

use outdial::domain::ids::new_id;
use outdial::service::Role;
use outdial::store::keys;
use serde_json::{Value, json};

use crate::api_calls::{Answer, SLOW, send};
use crate::support::{Folder, Process, TestDb, TestService, answer, client, pairs};

const ADMIN_KEY: &str = "od_the-admin-key-of-this-test";
/// Reachable from elsewhere, so that keys are needed.
const EXPOSED: [(&str, &str); 2] = [("OUTDIAL_SERVER__BIND", "0.0.0.0"), ("OUTDIAL_AUTH__ADMIN_KEY", ADMIN_KEY)];

async fn get(service: &TestService, path: &str, accept: Option<&str>) -> Answer {
    let request = service.client.get(format!("{}{path}", service.base));
    send(accept.into_iter().fold(request, |request, accept| request.header("Accept", accept))).await
}

/// A request with a key.
async fn with_key(service: &TestService, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let request = service.client.request(method.parse().expect("a method"), format!("{}{path}", service.base));
    let request = request.bearer_auth(key);
    send(body.iter().fold(request, |request, body| request.json(body))).await
}

/// A user with a key, by SQL: there is no other way yet.
async fn user_with_key(service: &TestService, name: &str) -> String {
    let (id, key) = (new_id(), format!("od_key-of-{name}"));
    let user = sqlx::query("insert into users (id, name, external_id) values ($1, $2, $2)").bind(id).bind(name);
    user.execute(service.test_db.pool()).await.expect("a user");
    let kept = sqlx::query("insert into api_keys (id, user_id, name, hash) values ($1, $2, 'test', $3)");
    let kept = kept.bind(new_id()).bind(id).bind(keys::hash(&key));
    kept.execute(service.test_db.pool()).await.expect("a key");
    key
}

/// Health says how this process is, in the words documented; liveness and readiness answer beside it.
#[tokio::test(flavor = "multi_thread")]
async fn health() {
    let service = TestService::start(&[]).await;
    let expected = json!({"status": "ok", "database": "up", "provider": "simulator", "breaker": "closed", "role": "all",
        "version": env!("CARGO_PKG_VERSION"), "alarms": []});
    for path in ["/health", "/health/ready"] {
        let mut answer = get(&service, path, None).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"), "{path}");
        let processes = answer.body.as_object_mut().and_then(|health| health.remove("processes")).expect("processes");
        let roles = ["api", "worker", "scheduler"].map(|role| processes[role].as_i64());
        assert_eq!(roles, [Some(1); 3], "{processes}");
        assert!(processes.get("turn").is_some() && processes.get("providerWord").is_some(), "{processes}");
        assert_eq!(answer.body, expected, "{path}");
    }
    assert_eq!(get(&service, "/health/live", None).await.status, 200);
    service.finish().await;
}

/// The counts have exactly the documented keys, and their total is their sum, with calls in several statuses.
#[tokio::test(flavor = "multi_thread")]
async fn counts_by_status() {
    let service = TestService::start(&[SLOW]).await;
    let call = |nth: i32| json!({"to": format!("+1415555010{nth}"), "scriptId": "s"});
    let mut later = call(1);
    later["scheduledAt"] = json!(chrono::Utc::now() + chrono::TimeDelta::hours(1));
    let (_, live) = service.post("/api/v1/calls", call(0)).await;
    service.wait_for_status(live["data"]["id"].as_str().expect("an id"), "IN_PROGRESS").await;
    service.post("/api/v1/calls/batch", json!({"calls": [later, later, later]})).await;
    let (_, canceled) = service.post("/api/v1/calls", later).await;
    let id = canceled["data"]["id"].as_str().expect("an id");
    service.post(&format!("/api/v1/calls/{id}/cancel"), Value::Null).await;
    for path in ["/api/v1/metrics", "/metrics"] {
        let answer = get(&service, path, None).await;
        assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/json"), "{path}");
        let mut body = answer.body;
        let at = body["timestamp"].take();
        assert!(at.as_str().is_some_and(|at| at.parse::<chrono::DateTime<chrono::Utc>>().is_ok()), "{at}");
        let data = json!({"PENDING": 3, "IN_PROGRESS": 1, "COMPLETED": 0, "FAILED": 0, "EXPIRED": 0, "CANCELED": 1, "total": 5});
        assert_eq!(body, json!({"success": true, "data": data, "timestamp": null}), "{path}");
    }
    service.finish().await;
}

/// `/metrics` is JSON unless text or OpenMetrics is asked for; the text has every name after a call that was reported on.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_by_accept_header() {
    let service = TestService::start(&[("OUTDIAL_SIMULATOR__SUCCESS_RATE", "1")]).await;
    let (_, created) = service.post("/api/v1/calls", json!({"to": "+14155550100", "scriptId": "s"})).await;
    let call = service.wait_for_status(created["data"]["id"].as_str().expect("an id"), "COMPLETED").await;
    let report = json!({"conversationId": call["conversations"][0]["conversationId"], "status": "COMPLETED",
        "completedAt": call["endedAt"]});
    assert_eq!(service.post("/api/v1/callbacks/call-status", report).await.0, 200);
    for accept in [None, Some("*/*"), Some("application/json"), Some("text/html,application/xhtml+xml,*/*;q=0.8")] {
        let answer = get(&service, "/metrics", accept).await;
        assert_eq!((answer.status, &answer.body["data"]["COMPLETED"]), (200, &json!(1)), "{accept:?}");
    }
    let always_json = get(&service, "/api/v1/metrics", Some("text/plain")).await;
    assert_eq!(always_json.content_type, "application/json");
    for (path, accept) in [
        ("/metrics", Some("text/plain;version=0.0.4")),
        ("/metrics", Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")),
        ("/metrics/prometheus", None),
        ("/metrics/prometheus", Some("application/json")),
    ] {
        let answer = get(&service, path, accept).await;
        assert_eq!((answer.status, answer.body), (200, Value::Null), "{path} {accept:?}");
        assert!(answer.content_type.starts_with("text/plain; version=0.0.4"), "{}", answer.content_type);
        for name in [
            "outdial_calls{status=\"PENDING\"}",
            "outdial_claimed_total",
            "outdial_dials_total{",
            "outdial_outcomes_total{",
            "outdial_events_total{",
            "outdial_wakes_total{",
            "outdial_slots_used{scope=\"global\"}",
            "outdial_slots_allowed{scope=\"global\"}",
            "outdial_unknown_attempts",
            "outdial_turn_seconds_bucket{le=",
            "outdial_dial_seconds_bucket{le=",
            "outdial_dial_lateness_seconds_bucket{le=",
            "outdial_webhook_delay_seconds_bucket{le=",
        ] {
            assert!(answer.text.lines().any(|line| line.starts_with(name)), "{name} is missing:\n{}", answer.text);
        }
        assert!(answer.text.lines().any(|line| line.starts_with("# TYPE outdial_turn_seconds histogram")));
    }
    service.finish().await;
}

/// The document is OpenAPI 3.1 with every route, `outdial openapi` prints the same, and people can read it in a browser.
#[tokio::test(flavor = "multi_thread")]
async fn the_openapi_document() {
    let service = TestService::start(&[]).await;
    let served = get(&service, "/api-docs.json", None).await;
    assert_eq!((served.status, served.content_type.as_str()), (200, "application/json"));
    assert!(
        served.body["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")),
        "{}",
        served.body["openapi"]
    );
    let operations: BTreeSet<String> = served.body["paths"]
        .as_object()
        .expect("paths")
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().expect("an item").keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    for operation in [
        "post /api/v1/calls",
        "get /api/v1/calls",
        "post /api/v1/calls/batch",
        "post /api/v1/calls/schedule",
        "get /api/v1/calls/{id}",
        "patch /api/v1/calls/{id}",
        "post /api/v1/calls/{id}/cancel",
        "post /api/v1/calls/{id}/retry",
        "get /api/v1/metrics",
        "post /api/v1/callbacks/call-status",
        "post /webhooks/outcome",
        "get /health",
        "get /health/live",
        "get /health/ready",
        "get /metrics/prometheus",
    ] {
        assert!(operations.contains(operation), "{operation} is not documented: {operations:?}");
    }
    let problem = &served.body["paths"]["/api/v1/calls"]["post"]["responses"]["400"]["content"];
    assert!(problem["application/problem+json"]["schema"].is_object(), "{problem}");
    let printed = Command::new(env!("CARGO_BIN_EXE_outdial")).arg("openapi").env_clear().output().expect("it runs");
    assert!(printed.status.success(), "{printed:?}");
    let printed: Value = serde_json::from_slice(&printed.stdout).expect("JSON");
    assert_eq!(printed, served.body);
    let page = get(&service, "/api-docs", None).await;
    assert_eq!((page.status, page.content_type.starts_with("text/html")), (200, true), "{page:?}");
    assert!(page.text.contains("swagger-ui"), "{}", page.text);
    service.finish().await;
}

/// Reachable from elsewhere, everything but health and the document needs a key; on loopback a key that is given must fit too.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_needed_from_elsewhere() {
    let service = TestService::start(&EXPOSED).await;
    let call = json!({"to": "+14155550100", "scriptId": "s"});
    let id = "00000000-0000-7000-8000-0000000000ff";
    for (method, path) in [
        ("GET", "/api/v1/calls".to_owned()),
        ("POST", "/api/v1/calls".to_owned()),
        ("POST", "/api/v1/calls/batch".to_owned()),
        ("POST", "/api/v1/calls/schedule".to_owned()),
        ("GET", format!("/api/v1/calls/{id}")),
        ("PATCH", format!("/api/v1/calls/{id}")),
        ("POST", format!("/api/v1/calls/{id}/cancel")),
        ("POST", format!("/api/v1/calls/{id}/retry")),
        ("POST", "/calls".to_owned()),
        ("GET", "/api/v1/metrics".to_owned()),
        ("GET", "/metrics".to_owned()),
        ("GET", "/metrics/prometheus".to_owned()),
    ] {
        for key in [None, Some(("Authorization", "Bearer wrong")), Some(("X-API-Key", "wrong"))] {
            let request = service.client.request(method.parse().expect("a method"), format!("{}{path}", service.base));
            let request = if method == "GET" { request } else { request.json(&call) };
            let request = key.into_iter().fold(request, |request, (name, value)| request.header(name, value));
            send(request).await.assert_problem(401, "unauthorized");
        }
    }
    let list = |name: &str, value: &str| {
        send(service.client.get(format!("{}/api/v1/calls", service.base)).header(name, value))
    };
    for (name, value) in
        [("Authorization", ADMIN_KEY), ("Authorization", "Basic eDp5"), ("Authorization", "Bearer "), ("X-API-Key", "")]
    {
        list(name, value).await.assert_problem(401, "unauthorized");
    }
    for (name, value) in [
        ("Authorization", format!("Bearer {ADMIN_KEY}")),
        ("authorization", format!("bearer {ADMIN_KEY}")),
        ("X-API-Key", ADMIN_KEY.to_owned()),
    ] {
        assert_eq!(list(name, &value).await.status, 200, "{name}: {value}");
    }
    assert_eq!(service.test_db.count("select count(*) from calls").await, 0);
    for path in ["/health", "/health/live", "/health/ready", "/api-docs.json"] {
        assert_eq!(get(&service, path, None).await.status, 200, "{path}");
    }
    service.finish().await;

    let service = TestService::start(&[]).await;
    assert_eq!(get(&service, "/api/v1/calls", None).await.status, 200);
    with_key(&service, "wrong", "GET", "/api/v1/calls", None).await.assert_problem(401, "unauthorized");
    service.finish().await;
}

/// A user's key sees, counts and changes that user's calls and nobody else's; another's are 404, as if they were not there.
#[tokio::test(flavor = "multi_thread")]
async fn users_see_their_own() {
    let mut settings = EXPOSED.to_vec();
    settings.push(SLOW);
    let service = TestService::start(&settings).await;
    let (ana, ben) = (user_with_key(&service, "ana").await, user_with_key(&service, "ben").await);
    let call = |nth: i32, more: Value| {
        let mut body = json!({"to": format!("+1415555010{nth}"), "scriptId": "s", "externalId": "mine"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let create = async |key: &str, body: Value| with_key(&service, key, "POST", "/api/v1/calls", Some(body)).await;
    let anas = create(&ana, call(0, json!({}))).await;
    assert_eq!(anas.status, 201, "{anas:?}");
    assert_eq!(create(&ben, call(1, json!({"userId": "ben"}))).await.status, 201);
    assert_eq!(create(ADMIN_KEY, call(2, json!({"userId": "ana", "externalId": "other"}))).await.status, 201);
    assert_eq!(create(ADMIN_KEY, call(3, json!({}))).await.status, 201);
    for more in [json!({"userId": "ana"}), json!({"userId": "operator"}), json!({"userId": "nobody"})] {
        create(&ben, call(4, more)).await.assert_invalid("userId");
    }
    create(&ben, call(4, json!({"ignoreWindow": true}))).await.assert_problem(403, "forbidden");
    for (key, total) in [(ana.as_str(), 2), (&ben, 1), (ADMIN_KEY, 4)] {
        let list = with_key(&service, key, "GET", "/api/v1/calls", None).await;
        assert_eq!((list.status, &list.body["pagination"]["total"]), (200, &json!(total)));
        assert_eq!(list.body["data"].as_array().map(Vec::len), Some(total));
        for path in ["/api/v1/metrics", "/metrics"] {
            assert_eq!(with_key(&service, key, "GET", path, None).await.body["data"]["total"], total, "{path}");
        }
    }
    with_key(&service, &ben, "GET", "/api/v1/calls?userId=ana", None).await.assert_invalid("userId");
    let id = anas.body["data"]["id"].as_str().expect("an id");
    for id in [id, "other"] {
        for (method, action) in
            [("GET", ""), ("GET", "?userId=ana"), ("PATCH", ""), ("POST", "/cancel"), ("POST", "/retry")]
        {
            let body = (method == "PATCH").then(|| json!({"priority": "low"}));
            let answer = with_key(&service, &ben, method, &format!("/api/v1/calls/{id}{action}"), body).await;
            answer.assert_problem(404, "not_found");
        }
    }
    let own = with_key(&service, &ana, "GET", "/api/v1/calls/mine", None).await;
    assert_eq!((own.status, &own.body["data"]["id"]), (200, &json!(id)));
    with_key(&service, ADMIN_KEY, "GET", "/api/v1/calls/mine", None).await.assert_problem(409, "ambiguous_external_id");
    let named = with_key(&service, ADMIN_KEY, "GET", "/api/v1/calls/mine?userId=ana", None).await;
    assert_eq!((named.status, &named.body["data"]["id"]), (200, &json!(id)));
    with_key(&service, &ana, "GET", "/metrics/prometheus", None).await.assert_problem(403, "forbidden");
    let text = service.client.get(format!("{}/metrics", service.base)).bearer_auth(&ana).header("Accept", "text/plain");
    send(text).await.assert_problem(403, "forbidden");
    assert_eq!(with_key(&service, ADMIN_KEY, "GET", "/metrics/prometheus", None).await.status, 200);
    // Two users may use one Idempotency-Key: each has its own answer.
    for (key, nth) in [(&ana, 5), (&ben, 6)] {
        let request = service.client.post(format!("{}/api/v1/calls", service.base)).bearer_auth(key);
        let body = call(nth, json!({"externalId": "keyed"}));
        let created = send(request.header("Idempotency-Key", "k1").json(&body)).await;
        assert_eq!((created.status, created.replayed), (201, false), "{created:?}");
    }
    service.finish().await;
}

/// A process of role api takes calls and dials none; of role worker it dials what is in the table and serves health alone.
#[tokio::test(flavor = "multi_thread")]
async fn roles() {
    let test_db = TestDb::new().await;
    let service = TestService::start_on(test_db, Role::Api, &[]).await;
    let (status, created) = service.post("/api/v1/calls", json!({"to": "+14155550100", "scriptId": "s"})).await;
    assert_eq!((status, get(&service, "/health", None).await.body["role"].as_str()), (201, Some("api")));
    // A worker beside it would have dialed long before all these are answered.
    for nth in 0..50 {
        let id = created["data"]["id"].as_str().expect("an id");
        let (_, call) = service.get(&format!("/api/v1/calls/{id}")).await;
        assert_eq!(
            (&call["data"]["status"], &call["data"]["conversations"]),
            (&json!("PENDING"), &json!([])),
            "look {nth}"
        );
        assert_eq!(call["data"]["waiting"], json!({"reason": "DUE_NOW", "clearsAt": null, "detail": null}));
    }
    service.finish().await;

    let test_db = TestDb::new().await;
    test_db.enqueue(&["+14155550100"]).await;
    let service = TestService::start_on(test_db, Role::Worker, &[SLOW]).await;
    let health = get(&service, "/health", None).await;
    assert_eq!((health.status, &health.body["role"]), (200, &json!("worker")));
    for (method, path) in [
        ("GET", "/api/v1/calls"),
        ("POST", "/api/v1/calls"),
        ("POST", "/calls"),
        ("GET", "/api-docs.json"),
        ("POST", "/webhooks/outcome"),
    ] {
        let request = service.client.request(method.parse().expect("a method"), format!("{}{path}", service.base));
        send(request.json(&json!({}))).await.assert_problem(404, "not_found");
    }
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while service.test_db.count("select count(*) from attempts where state = 'accepted'").await == 0 {
        assert!(std::time::Instant::now() < deadline, "the worker did not dial");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(get(&service, "/metrics", None).await.body["data"]["IN_PROGRESS"], 1);
    service.finish().await;
}

/// The log of a run, at level debug: every line is JSON with level, message and time; no number, transcript or key is in it.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_gives_nobody_away() {
    let (folder, test_db) = (Folder::new("log"), TestDb::new().await);
    let (log, url) = (folder.0.join("log"), test_db.url());
    let settings = [
        ("DATABASE_URL", url.as_str()),
        ("OUTDIAL_LOG__LEVEL", "debug"),
        ("OUTDIAL_SCHEDULER__TICK_MS", "50"),
        ("OUTDIAL_AUTH__ADMIN_KEY", ADMIN_KEY),
        SLOW,
    ];
    let mut process = Process::start(&log, &pairs(&settings));
    let client = client();
    assert!(process.wait_until_up(&client).await, "{}", std::fs::read_to_string(&log).unwrap_or_default());
    let at = |path: &str| format!("{}{path}", process.base());
    let call = json!({"to": "+14155550187", "scriptId": "sayhello", "metadata": {"name": "Zaphod"}});
    let (status, created) = answer(client.post(at("/api/v1/calls")).bearer_auth(ADMIN_KEY).json(&call)).await;
    assert_eq!(status, 201, "{created}");
    // Requests that fail must not tell either, and neither must ids and queries.
    let bad = json!({"to": "+14155550187", "scriptId": ""});
    assert_eq!(answer(client.post(at("/api/v1/calls")).json(&bad)).await.0, 400);
    assert_eq!(answer(client.get(at("/api/v1/calls/+14155550187"))).await.0, 404);
    assert_eq!(answer(client.get(at("/api/v1/calls?to=%2B14155550187"))).await.0, 200);
    let path = at(&format!("/api/v1/calls/{}", created["data"]["id"].as_str().expect("an id")));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let conversation = loop {
        let (_, call) = answer(client.get(&path)).await;
        if call["data"]["conversations"][0]["externalCallId"].is_string() {
            break call["data"]["conversations"][0]["conversationId"].clone();
        }
        assert!(std::time::Instant::now() < deadline, "not dialed: {call}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    let report = json!({"eventType": "call.completed", "conversationId": conversation, "transcript": "I am Slartibartfast",
        "failureReason": "said to +14155550187", "outcome": {"type": "DO_NOT_CALL"}});
    assert_eq!(answer(client.post(at("/webhooks/outcome")).json(&report)).await.0, 200);
    assert_eq!(answer(client.get(&path)).await.1["data"]["status"], "COMPLETED");
    assert_eq!(answer(client.post(at("/api/v1/calls")).json(&call)).await.0, 409);
    process.kill();
    test_db.assert_sound().await;
    let text = std::fs::read_to_string(&log).expect("a log");
    for secret in ["4155550187", "Slartibartfast", "Zaphod", ADMIN_KEY] {
        assert!(
            !text.contains(secret),
            "{secret} is in the log: {:?}",
            text.lines().find(|line| line.contains(secret))
        );
    }
    // The kill may have cut the last line.
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        // sqlx tells of statements at this level, in a field of their own.
        let message = if entry["db.statement"].is_string() { "summary" } else { "message" };
        for name in ["level", message, "timestamp"] {
            assert!(entry[name].is_string(), "no {name}: {line}");
        }
    }
    for message in ["outdial is up", "dialing", "attempt ended", "request"] {
        assert!(text.contains(&format!("\"message\":\"{message}\"")), "{message:?} is not in the log");
    }
}
