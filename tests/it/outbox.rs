//! Webhooks out: one tenant's or endpoint's slowness, failures, backlog or odd payload never stops the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::IntoResponse;
use axum::routing::post;
use outdial::domain::ids::new_id;
use outdial::notifier;
use outdial::provider::signature;
use outdial::service::Role;
use outdial::store::deliveries::{self, Due, Result as Told, Share};
use serde_json::{Value, json};
use sqlx::{Executor, PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::{TestDb, TestService, buffers_of};

const TAKE: &str = include_str!("../../sql/store/delivery_take.sql");
const SETTLE: &str = include_str!("../../sql/store/delivery_settle.sql");

/// A service that sends to this machine, and waits longer for an answer than any test does.
async fn service() -> TestService {
    let settings = [
        ("OUTDIAL_NOTIFIER__ALLOW_INTERNAL", "true"),
        ("OUTDIAL_NOTIFIER__TICK_MS", "20"),
        ("OUTDIAL_NOTIFIER__TIMEOUT_SECS", "600"),
    ];
    TestService::start_on(TestDb::new().await, Role::All, &settings).await
}

/// An endpoint as its user registered it.
struct Endpoint {
    id: Uuid,
    secret: String,
    path: String,
}

async fn register(service: &TestService, user: &str, input: Value) -> Endpoint {
    service.post("/api/v1/users", json!({"name": user, "externalId": user})).await;
    let path = format!("/api/v1/users/{user}/webhook-endpoints");
    let (status, body) = service.post(&path, input).await;
    assert_eq!(status, 201, "{body}");
    let id = body["data"]["id"].as_str().unwrap();
    let secret = body["data"]["secret"].as_str().unwrap().to_owned();
    Endpoint { id: id.parse().unwrap(), secret, path: format!("{path}/{id}") }
}

/// Puts an event into the outbox, as the triggers do.
async fn tell(pool: &PgPool, endpoint: Uuid, call: Uuid, payload: &str) -> Uuid {
    let id = new_id();
    let sql = "insert into deliveries (id, endpoint_id, user_id, call_id, type, payload)
        select $1, e.id, e.user_id, $3, 'call.completed', $4::text::jsonb from webhook_endpoints e where e.id = $2";
    sqlx::query(sql).bind(id).bind(endpoint).bind(call).bind(payload).execute(pool).await.expect("an event");
    id
}

/// A number by SQL about one endpoint or delivery.
async fn count_of(pool: &PgPool, sql: &'static str, id: Uuid) -> i64 {
    sqlx::query_scalar(sql).bind(id).fetch_one(pool).await.expect(sql)
}

/// Polls until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..3000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}

/// An address that takes connections and never answers.
async fn silent() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            kept.push(socket);
        }
    });
    url
}

/// What an endpoint heard, and how it answers: a status, and perhaps Retry-After.
#[derive(Default)]
struct Ear {
    heard: Mutex<Vec<(HeaderMap, Bytes)>>,
    answers: Mutex<Option<(StatusCode, Option<String>)>>,
    /// Requests, counted from 1, that are refused.
    refused: Vec<usize>,
}

impl Ear {
    fn heard(&self) -> usize {
        self.heard.lock().expect("no panic").len()
    }

    fn answer(&self, status: StatusCode, retry_after: Option<String>) {
        *self.answers.lock().expect("no panic") = Some((status, retry_after));
    }

    fn types(&self) -> Vec<String> {
        let heard = self.heard.lock().expect("no panic");
        let events = heard.iter().map(|(_, body)| serde_json::from_slice::<Value>(body).expect("JSON"));
        events.map(|event| event["type"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

async fn listen(ear: &Arc<Ear>) -> String {
    let ear = Arc::clone(ear);
    let hear = move |headers: HeaderMap, body: Bytes| {
        let ear = Arc::clone(&ear);
        async move {
            let nth = {
                let mut heard = ear.heard.lock().expect("no panic");
                heard.push((headers, body));
                heard.len()
            };
            if ear.refused.contains(&nth) {
                return StatusCode::BAD_GATEWAY.into_response();
            }
            let (status, retry_after) =
                ear.answers.lock().expect("no panic").clone().unwrap_or((StatusCode::NO_CONTENT, None));
            let mut response = status.into_response();
            if let Some(value) = retry_after {
                response.headers_mut().insert("retry-after", HeaderValue::from_str(&value).expect("a value"));
            }
            response
        }
    };
    let router = axum::Router::new().route("/hook", post(hear));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Twenty endpoints of one user that take a connection and never answer: the user has its share on the way, and another user's
/// events arrive meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_never_answer_leave_the_others_alone() {
    let service = service().await;
    let pool = service.test_db.pool().clone();
    let url = silent().await;
    for _ in 0..20 {
        let endpoint = register(&service, "ann", json!({"url": url})).await;
        for _ in 0..5 {
            tell(&pool, endpoint.id, new_id(), "{}").await;
        }
    }
    service.test_db.wait_for("select count(*) from deliveries where attempts = 1", 4).await;
    let ear = Arc::new(Ear::default());
    let bob = register(&service, "bob", json!({"url": listen(&ear).await})).await;
    for nth in 1..=3 {
        tell(&pool, bob.id, new_id(), "{}").await;
        until("another user's event arrives", async || ear.heard() == nth).await;
    }
    assert_eq!(
        service.test_db.count("select sum(attempts) from deliveries").await,
        7,
        "the first user's four are still on their way"
    );
    service.finish().await;
}

/// Far more endpoints that sleep than one look takes in do not hide one that is well.
#[tokio::test(flavor = "multi_thread")]
async fn endpoints_beyond_the_first_look_are_reached() {
    let service = service().await;
    let pool = service.test_db.pool().clone();
    service.post("/api/v1/users", json!({"name": "ann", "externalId": "ann"})).await;
    service
        .test_db
        .run(
            "insert into webhook_endpoints (id, user_id, url, secret, events, failures, failing_since, retry_at)
               select ('00000000-0000-7000-8000-' || lpad(g::text, 12, '0'))::uuid, u.id, 'http://127.0.0.1:1', 's', '{x}', 1, clock(), clock() + interval '1 hour'
               from users u, generate_series(1, 2500) g where u.external_id = 'ann';
             insert into deliveries (id, endpoint_id, user_id, call_id, type, payload)
               select gen_random_uuid(), e.id, e.user_id, gen_random_uuid(), 't', '{}' from webhook_endpoints e",
        )
        .await;
    let ear = Arc::new(Ear::default());
    let bob = register(&service, "bob", json!({"url": listen(&ear).await})).await;
    tell(&pool, bob.id, new_id(), "{}").await;
    until("the event behind them arrives", async || ear.heard() == 1).await;
    assert_eq!(service.test_db.count("select count(*) from deliveries where attempts > 0").await, 1);
    service.finish().await;
}

/// What a take and a settle touch does not grow with what waits for one endpoint, or has ended, whether it is sent to or sleeps; on
/// plans made while nothing was there, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_costs_a_take_nothing() {
    let test_db = TestDb::new().await;
    test_db
        .run(
            "insert into users (id, name) values ('00000000-0000-7000-8000-00000000000a', 'Ann'), ('00000000-0000-7000-8000-00000000000b', 'Bob');
             insert into webhook_endpoints (id, user_id, url, secret, events) values
               ('00000000-0000-7000-8000-0000000000aa', '00000000-0000-7000-8000-00000000000a', 'http://127.0.0.1:1', 's', '{x}'),
               ('00000000-0000-7000-8000-0000000000bb', '00000000-0000-7000-8000-00000000000b', 'http://127.0.0.1:1', 's', '{x}')",
        )
        .await;
    let fill = async |endpoint: &str, user: &str, count: usize| {
        let sql = format!(
            "insert into deliveries (id, endpoint_id, user_id, call_id, type, payload, due_at)
             select uuid_v7(), '00000000-0000-7000-8000-0000000000{endpoint}', '00000000-0000-7000-8000-00000000000{user}', gen_random_uuid(), 't', '{{}}',
               clock() - interval '1 day' + g * interval '1 millisecond'
             from generate_series(1, {count}) g"
        );
        test_db.pool().execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("fill");
    };
    let take = "execute take('00000000-0000-0000-0000-000000000000', 1000, 16, 30, 4, 4, 8, '{}', '{}', '{}', '{}')";
    let measure = async |connection: &mut PgConnection| {
        let due: Uuid = sqlx::query_scalar(
            "select id from deliveries where endpoint_id = '00000000-0000-7000-8000-0000000000aa' and state = 'waiting' order by due_at limit 1",
        )
        .fetch_one(test_db.pool())
        .await
        .expect("one that waits");
        let settle = format!("execute settle('{due}', 0, 'waiting', 500, 'HTTP 500', 5, 0, 5, 0, false, 3)");
        (buffers_of(connection, take).await, buffers_of(connection, &settle).await)
    };
    // Planned while nothing was there, and kept.
    let mut connection = prepared(&test_db).await;
    connection.execute(sqlx::raw_sql(take)).await.expect("take");
    fill("aa", "a", 1000).await;
    fill("bb", "b", 3).await;
    let few = measure(&mut connection).await;
    fill("aa", "a", 50_000).await;
    test_db.run("update deliveries set state = 'delivered', ended_at = clock() where due_at > clock() - interval '24 hours' + interval '20 seconds'").await;
    fill("aa", "a", 99_000).await;
    let many = measure(&mut connection).await;
    test_db.run("analyze").await;
    let analyzed = measure(&mut prepared(&test_db).await).await;
    test_db.run("update webhook_endpoints set failures = 1, failing_since = clock(), retry_at = clock() + interval '1 hour' where id = '00000000-0000-7000-8000-0000000000aa'").await;
    let asleep = buffers_of(&mut connection, take).await;
    println!(
        "buffers of (a take, a settle): {few:?} with 1,000 waiting for one endpoint, {many:?} with 100,000 ({analyzed:?} analyzed), {asleep} while it sleeps"
    );
    for measured in [many, analyzed] {
        assert!(few.0 < 400 && measured.0 < few.0 + 80 && measured.1 < few.1 + 40, "{few:?} {measured:?}");
    }
    assert!(asleep < few.0, "{asleep}");
}

async fn prepared(test_db: &TestDb) -> PgConnection {
    let mut connection = <PgConnection as sqlx::Connection>::connect_with(&test_db.options).await.expect("connect");
    let settings = "set jit = off; set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off";
    connection.execute(sqlx::raw_sql(settings)).await.expect("settings");
    for (name, sql) in [("take", TAKE), ("settle", SETTLE)] {
        let prepare = format!("prepare {name} as {sql}");
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(prepare))).await.expect(name);
    }
    connection
}

/// An endpoint that asks for a pause, in seconds or by a date, gets it as a whole; the user's others go on.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_sleeps_as_a_whole() {
    let service = service().await;
    let pool = service.test_db.pool().clone();
    let (by_secs, by_date, well) = (Arc::new(Ear::default()), Arc::new(Ear::default()), Arc::new(Ear::default()));
    by_secs.answer(StatusCode::TOO_MANY_REQUESTS, Some("900".to_owned()));
    let date = (chrono::Utc::now() + chrono::TimeDelta::minutes(15)).format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    by_date.answer(StatusCode::SERVICE_UNAVAILABLE, Some(date));
    let mut endpoints = Vec::new();
    for ear in [&by_secs, &by_date, &well] {
        endpoints.push(register(&service, "ann", json!({"url": listen(ear).await})).await);
    }
    let tell_all = async |count: usize| {
        for endpoint in &endpoints {
            for _ in 0..count {
                tell(&pool, endpoint.id, new_id(), "{}").await;
            }
        }
    };
    tell_all(6).await;
    service.test_db.wait_for("select count(*) from webhook_endpoints where failures > 0", 2).await;
    until("the one that is well is told all", async || well.heard() == 6).await;
    // What was on its way together with the first has been answered too.
    service
        .test_db
        .wait_for("select count(*) from deliveries where state = 'waiting' and attempts > 0 and last_error is null", 0)
        .await;
    let before = (by_secs.heard(), by_date.heard());
    assert!(before.0 <= 4 && before.1 <= 4, "{before:?}");
    tell_all(6).await;
    until("the one that is well is told more", async || well.heard() == 12).await;
    assert_eq!((by_secs.heard(), by_date.heard()), before, "nothing more was sent to those that sleep");
    for (endpoint, status) in [(&endpoints[0], 429), (&endpoints[1], 503)] {
        let (_, shown) = service.get(&endpoint.path).await;
        let retry_at: chrono::DateTime<chrono::Utc> =
            shown["data"]["retryAt"].as_str().expect("a time").parse().expect("a time");
        let wait = (retry_at - chrono::Utc::now()).num_seconds();
        assert!((600..=901).contains(&wait), "{wait}: {shown}");
        assert!(shown["data"]["failingSince"].is_string() && shown["data"]["disabledAt"].is_null(), "{shown}");
        assert_eq!(shown["data"]["lastError"], format!("HTTP {status}"));
        let failures =
            count_of(&pool, "select failures::bigint from webhook_endpoints where id = $1", endpoint.id).await;
        assert_eq!(failures, 1, "what was on its way at once counts once");
    }
    let (_, page) = service.get(&format!("{}/deliveries", endpoints[0].path)).await;
    let (_, shown) = service.get(&endpoints[0].path).await;
    assert_eq!(page["data"][0]["nextAt"], shown["data"]["retryAt"], "what was not tried waits for the endpoint");
    // Enabled by its user, it is tried at once, and what waited for it arrives.
    by_secs.answer(StatusCode::OK, None);
    let (_, shown) = service.patch(&endpoints[0].path, json!({"disabled": false})).await;
    assert!(shown["data"]["retryAt"].is_null() && shown["data"]["failingSince"].is_null(), "{shown}");
    let untried = "select count(*) from deliveries where endpoint_id = $1 and state = 'waiting' and attempts = 0";
    until("what waited arrives", async || count_of(&pool, untried, endpoints[0].id).await == 0).await;
    service.finish().await;
}

/// Users 1 to `count` with an endpoint each where nobody listens, without a service; the endpoints, in that order.
async fn users_with_endpoints(test_db: &TestDb, count: i32) -> Vec<Uuid> {
    let sql = "with u as (
          insert into users (id, name) select ('00000000-0000-7000-8000-0000000001' || lpad(g::text, 2, '0'))::uuid, 'user' from generate_series(1, $1) g
          returning id)
        insert into webhook_endpoints (id, user_id, url, secret, events)
        select ('00000000-0000-7000-8000-0000000002' || right(id::text, 2))::uuid, id, 'http://127.0.0.1:1', 'whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAA', '{x}' from u
        returning id";
    let mut ids: Vec<Uuid> = sqlx::query_scalar(sql).bind(count).fetch_all(test_db.pool()).await.expect("endpoints");
    ids.sort_unstable();
    ids
}

fn share(limit: i64, of_user: i64, probes: i64) -> Share {
    Share { limit, each: 4, of_user, probes, lease_secs: 60.0, endpoints: HashMap::new(), users: HashMap::new() }
}

async fn take(pool: &PgPool, share: &Share) -> Vec<Due> {
    deliveries::take(pool, Uuid::nil(), share).await.expect("take").due
}

async fn settle(pool: &PgPool, due: &Due, result: &Told) -> Option<String> {
    deliveries::settle(pool, due, due.failures, result, 3.0).await.expect("settle")
}

const DELIVERED: Told = Told::Delivered { status: 200 };

fn failed() -> Told {
    let error = "HTTP 500".to_owned();
    Told::Failed { status: Some(500), error, again_secs: Some(5.0), sleep_secs: 60.0, after_secs: 0.0 }
}

/// Of one endpoint and of one user no more than their shares, whoever has the fewest on the way first, and all endpoints that
/// fail no more than theirs.
#[tokio::test(flavor = "multi_thread")]
async fn shares_are_kept() {
    let test_db = TestDb::new().await;
    let pool = test_db.pool();
    let endpoints = users_with_endpoints(&test_db, 6).await;
    // The first user has two of them, with far more, and waits longest.
    test_db.run("update webhook_endpoints set user_id = '00000000-0000-7000-8000-000000000101' where id = '00000000-0000-7000-8000-000000000202'").await;
    for endpoint in [0; 30].into_iter().chain([1; 30]).chain(2..6) {
        tell(pool, endpoints[endpoint], new_id(), "{}").await;
    }
    let mut share = share(16, 3, 2);
    let first = take(pool, &share).await;
    let of = |due: &[Due], nth: usize| due.iter().filter(|due| due.endpoint_id == endpoints[nth]).count();
    assert_eq!((first.len(), of(&first, 0) + of(&first, 1)), (7, 3), "three of the first user, one of each other");
    assert!(take(pool, &Share { users: [(first[0].user_id, 3)].into(), limit: 1, ..share.clone() }).await.is_empty());
    let full = [(endpoints[0], 4), (endpoints[1], 4)].into();
    assert!(take(pool, &Share { endpoints: full, limit: 1, ..share.clone() }).await.is_empty());
    tell(pool, endpoints[5], new_id(), "{}").await;
    let user = first.iter().find(|due| due.endpoint_id == endpoints[0]).expect("one of theirs").user_id;
    let next = take(pool, &Share { users: [(user, 1)].into(), limit: 1, ..share.clone() }).await;
    assert_eq!(
        next[0].endpoint_id, endpoints[5],
        "who has none on the way comes first, however long another has waited"
    );
    test_db.run("update webhook_endpoints set failures = 1, failing_since = clock()").await;
    test_db.run("update deliveries set due_at = clock()").await;
    let probes = take(pool, &share).await;
    assert_eq!(probes.len(), 2, "no more of those that fail, though there is room");
    share.probes = 16;
    assert_eq!(take(pool, &share).await.len(), 4, "one of each, and none where one is on its way");
}

/// While an endpoint fails, one delivery at a time is tried, by one process; a failure counts once, a success makes it well.
#[tokio::test(flavor = "multi_thread")]
async fn a_failing_endpoint_is_probed() {
    let test_db = TestDb::new().await;
    let pool = test_db.pool();
    let endpoint = users_with_endpoints(&test_db, 1).await[0];
    for _ in 0..20 {
        tell(pool, endpoint, new_id(), "{}").await;
    }
    let share = share(16, 8, 8);
    let failures = "select failures::bigint from webhook_endpoints where id = $1";
    let first = take(pool, &share).await;
    assert_eq!(first.len(), 4);
    for due in &first {
        assert_eq!(settle(pool, due, &failed()).await, None);
    }
    assert_eq!(count_of(pool, failures, endpoint).await, 1);
    assert!(take(pool, &share).await.is_empty(), "it sleeps");
    test_db.run("update webhook_endpoints set retry_at = '-infinity'").await;
    let (one, other) = tokio::join!(take(pool, &share), take(pool, &share));
    let probe: Vec<_> = one.into_iter().chain(other).chain(take(pool, &share).await).collect();
    assert_eq!(probe.len(), 1, "one probe over all processes");
    assert_eq!(probe[0].attempts, 1, "what was not tried yet comes first");
    settle(pool, &probe[0], &failed()).await;
    assert_eq!(count_of(pool, failures, endpoint).await, 2);
    // A late word about the first round changes nothing.
    settle(pool, &first[0], &failed()).await;
    assert_eq!(count_of(pool, failures, endpoint).await, 2);
    test_db.run("update webhook_endpoints set retry_at = '-infinity'").await;
    settle(pool, &take(pool, &share).await[0], &DELIVERED).await;
    assert_eq!(count_of(pool, failures, endpoint).await, 0);
    assert_eq!(take(pool, &share).await.len(), 4, "what waited is due at once");
}

/// An event that waits for the one before it is not due before that one, so that no take reads it in vain; a failure told by a
/// process that lost its lease is not heeded, a delivery is.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_of_a_call_waits_without_being_looked_at() {
    let test_db = TestDb::new().await;
    let pool = test_db.pool();
    let endpoint = users_with_endpoints(&test_db, 1).await[0];
    let call = new_id();
    for _ in 0..3 {
        tell(pool, endpoint, call, "{}").await;
    }
    let share = share(16, 8, 8);
    let due = "select count(*) from deliveries where endpoint_id = $1 and state = 'waiting' and due_at <= clock()";
    let first = take(pool, &share).await;
    assert_eq!(first.len(), 1);
    settle(pool, &first[0], &failed()).await;
    assert_eq!(count_of(pool, due, endpoint).await, 0);
    // Its time has come; it is taken again, and the lease runs out while it is sent.
    test_db.run("update webhook_endpoints set retry_at = '-infinity'; update deliveries set due_at = clock() where attempts > 0").await;
    let second = take(pool, &share).await;
    assert_eq!(second[0].id, first[0].id);
    test_db.run("update webhook_endpoints set retry_at = '-infinity'; update deliveries set due_at = clock() where attempts > 0").await;
    let third = take(pool, &share).await;
    assert_eq!((third[0].id, third[0].attempts), (first[0].id, 3));
    settle(pool, &second[0], &failed()).await;
    assert_eq!(count_of(pool, "select failures::bigint from webhook_endpoints where id = $1", endpoint).await, 1);
    settle(pool, &second[0], &DELIVERED).await;
    assert_eq!(count_of(pool, due, endpoint).await, 2, "the next are due at once");
    let next = take(pool, &share).await;
    assert!(next.len() == 1 && next[0].id > first[0].id);
}

/// One line of the log says that an endpoint is disabled: which, and whose.
#[tokio::test]
async fn disabling_is_logged() {
    /// What all tests of this process log at WARN. It belongs to all threads: whether an event of a place in the code is wanted
    /// is kept once for the process, so that a subscriber of one thread misses what another thread was the first to come by.
    static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    struct Log;
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            LOG.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    tracing_subscriber::fmt().json().with_max_level(tracing::Level::WARN).with_writer(|| Log).init();
    let test_db = TestDb::new().await;
    let endpoint = users_with_endpoints(&test_db, 1).await[0];
    test_db
        .run("update webhook_endpoints set failures = 15, failing_since = clock() - interval '73 hours', retry_at = clock()")
        .await;
    tell(test_db.pool(), endpoint, new_id(), "{}").await;
    let settings = settings(16, 4);
    let client = notifier::client(settings).expect("a client");
    assert_eq!(notifier::send_due(test_db.pool(), &client, settings).await.expect("send"), 1);
    let text = String::from_utf8(LOG.lock().expect("no panic").clone()).expect("UTF-8");
    let endpoint = endpoint.to_string();
    let of_ours = |line: &&str| line.contains("disabled") && line.contains(&endpoint);
    let lines: Vec<&str> = text.lines().filter(of_ours).collect();
    assert_eq!(lines.len(), 1, "{text}");
    let user = "00000000-0000-7000-8000-000000000101";
    for part in ["WARN", user, "FAILING"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
}

fn settings(in_flight: usize, in_flight_per_user: usize) -> notifier::Settings {
    notifier::Settings {
        patience: Duration::from_secs(30),
        tick: Duration::from_millis(20),
        timeout: Duration::from_secs(600),
        in_flight,
        in_flight_per_user,
        disable_after_days: 3,
        allow_internal: true,
    }
}

/// After days without a success an endpoint is disabled, with a reason and a notice to the user's others; it is enabled again by
/// hand, and what was given up is sent on demand.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_for_days_is_disabled() {
    let service = service().await;
    let pool = service.test_db.pool().clone();
    let (broken, told, deaf) = (Arc::new(Ear::default()), Arc::new(Ear::default()), Arc::new(Ear::default()));
    broken.answer(StatusCode::INTERNAL_SERVER_ERROR, None);
    let failing = register(&service, "ann", json!({"url": listen(&broken).await})).await;
    register(&service, "ann", json!({"url": listen(&told).await, "events": ["endpoint.disabled"]})).await;
    register(&service, "ann", json!({"url": listen(&deaf).await, "events": ["call.completed"]})).await;
    let other = Arc::new(Ear::default());
    register(&service, "bob", json!({"url": listen(&other).await})).await;
    let since = async |days: i32| {
        let sql = "update webhook_endpoints set failures = 12, failing_since = clock() - make_interval(days => $2), retry_at = '-infinity' where id = $1";
        sqlx::query(sql).bind(failing.id).bind(days).execute(&pool).await.expect(sql);
    };
    since(2).await;
    let mut events = Vec::new();
    for _ in 0..3 {
        events.push(tell(&pool, failing.id, new_id(), "{}").await);
    }
    service
        .test_db
        .wait_for("select count(*) from webhook_endpoints where failures = 13 and disabled_at is null", 1)
        .await;
    since(4).await;
    let shown = service.wait_until(&failing.path, |endpoint| endpoint["disabledAt"].is_string()).await;
    assert_eq!(shown["disabledReason"], "FAILING");
    assert_eq!(shown["lastError"], "HTTP 500");
    until("the user is told", async || told.heard() == 1).await;
    let event: Value = serde_json::from_slice(&told.heard.lock().expect("no panic")[0].1).expect("JSON");
    assert_eq!(event["type"], "endpoint.disabled");
    assert_eq!(
        (&event["data"]["endpointId"], &event["data"]["reason"]),
        (&json!(failing.id), &json!("FAILING")),
        "{event}"
    );
    let dead =
        "select count(*) from deliveries where state = 'dead' and last_error = 'the endpoint is disabled (FAILING)'";
    service.test_db.wait_for(dead, 3).await;
    let replay = format!("{}/deliveries/{}/replay", failing.path, events[2]);
    assert_eq!(service.post(&replay, json!({})).await.0, 409, "not while it is disabled");
    // What comes in the same moment, unseen by whoever gave up the rest, is given up by the housekeeping.
    tell(&pool, failing.id, new_id(), "{}").await;
    service.test_db.wait_for(dead, 4).await;
    broken.answer(StatusCode::OK, None);
    let (status, shown) = service.patch(&failing.path, json!({"disabled": false})).await;
    assert_eq!(status, 200, "{shown}");
    for field in ["disabledAt", "disabledReason", "failingSince", "lastError", "retryAt"] {
        assert!(shown["data"][field].is_null(), "{field}: {shown}");
    }
    assert_eq!(service.post(&replay, json!({})).await.0, 202);
    let delivered = "select count(*) from deliveries where id = $1 and state = 'delivered'";
    until("it is delivered", async || count_of(&pool, delivered, events[2]).await == 1).await;
    // By request: another reason, and no notice.
    let (_, shown) = service.patch(&failing.path, json!({"disabled": true})).await;
    assert_eq!(shown["data"]["disabledReason"], "REQUESTED");
    assert_eq!((told.types(), deaf.heard(), other.heard()), (vec!["endpoint.disabled".to_owned()], 0, 0));
    // Gone: the user's others are told of it.
    service.patch(&failing.path, json!({"disabled": false})).await;
    broken.answer(StatusCode::GONE, None);
    tell(&pool, failing.id, new_id(), "{}").await;
    let shown = service.wait_until(&failing.path, |endpoint| endpoint["disabledAt"].is_string()).await;
    assert_eq!(shown["disabledReason"], "GONE");
    until("the user is told", async || told.heard() == 2).await;
    service.finish().await;
}

/// Payloads that nothing but Postgres can read are sent as they are, and stop nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn payloads_are_sent_as_they_are() {
    let service = service().await;
    let pool = service.test_db.pool().clone();
    let (odd, plain) = (Arc::new(Ear::default()), Arc::new(Ear::default()));
    let ann = register(&service, "ann", json!({"url": listen(&odd).await})).await;
    let bob = register(&service, "bob", json!({"url": listen(&plain).await})).await;
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let huge = r#"{"n": 1e400}"#;
    for payload in [huge, &deep] {
        tell(&pool, ann.id, new_id(), payload).await;
        tell(&pool, bob.id, new_id(), r#"{"n": 1}"#).await;
    }
    service.test_db.wait_for("select count(*) from deliveries where state = 'delivered'", 4).await;
    let mut bodies = Vec::new();
    for (headers, body) in odd.heard.lock().expect("no panic").iter() {
        let text = |name: &str| headers[name].to_str().expect("text").to_owned();
        let at = text("webhook-timestamp").parse().expect("seconds");
        assert_eq!(signature::sign(&ann.secret, &text("webhook-id"), at, body), Some(text("webhook-signature")));
        bodies.push(String::from_utf8(body.to_vec()).expect("UTF-8"));
    }
    bodies.sort_unstable();
    assert_eq!(bodies, [deep, format!(r#"{{"n": 1{}}}"#, "0".repeat(400))]);
    assert_eq!(plain.heard(), 2);
    service.finish().await;
}

/// Events of one call arrive in order, each accepted before the next is sent, also after refusals.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_call_arrive_in_order() {
    let service = service().await;
    let pool = service.test_db.pool().clone();
    let ear = Arc::new(Ear { refused: vec![3, 12], ..Ear::default() });
    let endpoint = register(&service, "ann", json!({"url": listen(&ear).await})).await;
    let calls: Vec<Uuid> = (0..6).map(|_| new_id()).collect();
    let mut call_of = HashMap::new();
    for _ in 0..4 {
        for call in &calls {
            call_of.insert(tell(&pool, endpoint.id, *call, "{}").await, *call);
        }
    }
    until("all are delivered", async || ear.heard() >= 26).await;
    service.test_db.wait_for("select count(*) from deliveries where state = 'delivered'", 24).await;
    let mut last: HashMap<Uuid, Uuid> = HashMap::new();
    let mut refused = Vec::new();
    for (nth, (headers, _)) in ear.heard.lock().expect("no panic").iter().enumerate() {
        let id: Uuid = headers["webhook-id"].to_str().expect("text").parse().expect("an id");
        let call = call_of[&id];
        let before = last.insert(call, id);
        assert!(
            before.is_none_or(|before| before < id || (before == id && refused.contains(&id))),
            "{nth}: {id} after {before:?}"
        );
        if ear.refused.contains(&(nth + 1)) {
            refused.push(id);
        } else {
            refused.retain(|other| *other != id);
        }
        let unaccepted = refused.iter().find(|other| call_of[*other] == call && **other != id);
        assert_eq!(unaccepted, None, "sent before the one before it was accepted");
    }
    assert!(refused.is_empty());
    service.finish().await;
}

/// A panic while sending one event ends that try alone: the others arrive, its place is free, its endpoint is not blamed.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_ends_one_try_alone() {
    let test_db = TestDb::new().await;
    let pool = test_db.pool();
    let endpoint = users_with_endpoints(&test_db, 1).await[0];
    let mut bad = Vec::new();
    for nth in 0..20 {
        let id = tell(pool, endpoint, new_id(), "{}").await;
        if nth % 3 == 0 {
            bad.push(id);
        }
    }
    let stop = CancellationToken::new();
    let panicking = bad.clone();
    let running =
        tokio::spawn(notifier::run_with(pool.clone(), settings(2, 2), Arc::default(), stop.clone(), move |due| {
            let panics = panicking.contains(&due.id);
            async move {
                assert!(!panics, "as a fault in the code would");
                DELIVERED
            }
        }));
    test_db.wait_for("select count(*) from deliveries where state = 'delivered'", 13).await;
    test_db
        .wait_for(
            "select count(*) from deliveries where state = 'waiting' and attempts = 1 and last_error is not null",
            7,
        )
        .await;
    let failures = count_of(pool, "select failures::bigint from webhook_endpoints where id = $1", endpoint).await;
    assert_eq!((bad.len(), failures), (7, 0));
    stop.cancel();
    running.await.expect("no panic");
}
