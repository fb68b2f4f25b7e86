//! One row, one number, one tenant, one connection must never stop the rest. Each test puts something bad in place and then asks for
//! the same: somebody else's call is dialed, its webhook settles, its list answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use outdial::queue;
use outdial::service::{Role, reconcile};
use outdial::store::{self, installation};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, PgPool};
use tokio::net::{UnixListener, UnixStream};

use crate::fake_provider::{FakeProvider, Manners};
use crate::support::{self, ANY_HOUR, Folder, Process, TestDb, TestService, config};
use crate::ultravox;

const QUICK: (&str, &str) = ("OUTDIAL_SIMULATOR__SPEED", "1000");
/// Calls that last for as long as the test.
const SLOW: [(&str, &str); 2] = [("OUTDIAL_SIMULATOR__SPEED", "1"), ("OUTDIAL_SIMULATOR__DURATION_SECS_MIN", "20")];

/// Another tenant is served: its call is dialed and ends, its webhook settles, its list answers.
async fn assert_others_are_served(service: &TestService, number: &str) {
    call_and_settle(service, number, |call| call["status"] != "PENDING" && call["status"] != "IN_PROGRESS").await;
    assert_eq!(service.get("/api/v1/calls").await.0, 200);
}

/// Another tenant's call is dialed, and its webhook settles.
async fn assert_others_are_dialed(service: &TestService, number: &str) {
    call_and_settle(service, number, |call| call["conversations"][0]["acceptedAt"].is_string()).await;
}

/// A call by POST; a webhook settles it once it is so far.
async fn call_and_settle(service: &TestService, number: &str, is_so_far: impl Fn(&Value) -> bool) {
    let (status, body) = service.post("/api/v1/calls", json!({"to": number, "scriptId": "s"})).await;
    assert_eq!(status, 201, "{body}");
    let id = body["data"]["id"].as_str().expect("an id").to_owned();
    let call = service.wait_until(&format!("/api/v1/calls/{id}"), is_so_far).await;
    let conversation = call["conversations"][0]["conversationId"].as_str().expect("a conversation").to_owned();
    let word = json!({"eventType": "call.completed", "conversationId": conversation, "duration": 5,
        "outcome": {"type": "NOT_INTERESTED"}});
    assert_eq!(service.post("/webhooks/outcome", word).await.0, 200);
}

/// Runs SQL that must be refused; the message.
async fn refused(pool: &PgPool, sql: &'static str) -> String {
    match pool.execute(sqlx::raw_sql(sql)).await {
        Err(sqlx::Error::Database(error)) => error.message().to_owned(),
        other => panic!("{sql}: {other:?}"),
    }
}

/// What a door takes in can be stored and read back; what cannot is refused with its place, at every door alike.
/// (95e55f8 answered 201 to the first three, and no claim succeeded afterwards.)
#[tokio::test(flavor = "multi_thread")]
async fn every_door_refuses_what_cannot_be_read_back() {
    let service = TestService::start(&[QUICK]).await;
    let body = |metadata: &str| format!(r#"{{"to":"+14155550100","scriptId":"s","metadata":{metadata}}}"#);
    let deep = |n: usize| format!(r#"{{"a":{}1{}}}"#, "[".repeat(n), "]".repeat(n));
    let post = |path: &str, body: String| {
        let request = service.client.post(format!("{}{path}", service.base));
        support::answer(request.header("content-type", "application/json").body(body))
    };
    for (metadata, path) in [
        (r#"{"n":1.7976931348623157e308}"#.to_owned(), "metadata"),
        (r#"{"n":1e400}"#.to_owned(), "metadata"),
        (r#"{"n":1e-400}"#.to_owned(), "metadata"),
        (deep(33), "metadata"),
        (deep(200), ""),
        (r#"{"a":1,"a":2}"#.to_owned(), "metadata"),
        (r#"{"a":"\ud800"}"#.to_owned(), ""),
        (r#"{"a":{"b":"x\u0000"}}"#.to_owned(), "metadata.a.b"),
    ] {
        let (status, answer) = post("/api/v1/calls", body(&metadata)).await;
        assert_eq!(status, 400, "{metadata}: {answer}");
        let at = answer["errors"][0]["path"].as_str().unwrap_or_default();
        assert!(at.starts_with(path), "{metadata}: {answer}");
    }
    let (status, script) =
        post("/api/v1/scripts", r#"{"externalId":"p","prompt":"x","tools":[{"n":1e400}]}"#.to_owned()).await;
    assert_eq!(status, 400, "{script}");
    // Digits stay; so does what they mean. The order of keys is the database's.
    let (status, kept) = post("/api/v1/calls", body(r#"{"n":123456789012345678901234567890,"m":1.10}"#)).await;
    assert_eq!(status, 201, "{kept}");
    let id = kept["data"]["id"].as_str().expect("an id").to_owned();
    let shown = service.client.get(format!("{}/api/v1/calls/{id}", service.base)).send().await.expect("an answer");
    let shown = shown.text().await.expect("a text");
    assert!(shown.contains("123456789012345678901234567890") && shown.contains("1.10"), "{shown}");
    let pool = service.test_db.pool();
    for (sql, why) in [
        ("select ops.enqueue('+14155550101', 's', metadata => '{\"n\": 1e400}')", "64 digits"),
        (
            "select ops.enqueue('+14155550101', 's', metadata => ('{\"a\":' || repeat('[', 200) || repeat(']', 200) || '}')::jsonb)",
            "32 deep",
        ),
        ("select ops.enqueue('+14155550101', 's', metadata => '[1]')", "no object"),
        (
            "select ops.enqueue('+14155550101', 's', metadata => jsonb_build_object('a', repeat('x', 100000)))",
            "too large",
        ),
        ("select ops.enqueue('+14155550101', repeat('x', 20001))", "script_id"),
        (
            "update prospects set variables = '[]'; insert into prospects (id, user_id, phone, variables) values (uuid_v7(), '00000000-0000-7000-8000-000000000001', '+14155550102', '\"x\"')",
            "prospects_variables",
        ),
        (
            "insert into user_settings (user_id, retry_rules) values ('00000000-0000-7000-8000-000000000001', '[1]')",
            "retry_rules",
        ),
    ] {
        let message = refused(pool, sql).await;
        assert!(message.contains(why), "{sql}: {message}");
    }
    assert_others_are_served(&service, "+14155550109").await;
    service.finish().await;
}

/// A row that cannot be read is set aside alone, whoever put it there: its constraint is taken away to get it in.
/// (95e55f8: the first stopped every claim, the law every window, the event the sweep of all others.)
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_set_aside_alone() {
    let service = TestService::start(&[QUICK, ("OUTDIAL_PLANNER__INTERVAL_MINUTES", "0.001")]).await;
    service.test_db.run(ANY_HOUR).await;
    let pool = service.test_db.pool();
    for sql in [
        "alter table calls drop constraint calls_metadata_readable, drop constraint calls_variables_readable, drop constraint calls_phone_e164",
        "alter table prospects drop constraint prospects_variables_readable, drop constraint prospects_phone_e164",
        "alter table user_settings drop constraint user_settings_retry_rules_readable",
        "alter table schedules drop constraint schedules_hours_readable; alter table legal_hours drop constraint legal_hours_hours_readable",
    ] {
        service.test_db.run(sql).await;
    }
    let poison = |to: &str, set: &str| {
        format!(
            "with c as (select ops.enqueue('{to}', 'Hi {{name}}', scheduled_at => now() + interval '1 hour') as id)
             select id from c; update calls set {set}, due_at = now() where phone = '{to}';
             update lanes set next_at = now() where blocked_on is null; update user_turns set next_at = now()"
        )
    };
    for sql in [
        poison("+14155550110", "phone = '+abc'"),
        poison("+14155550111", "variables = '{\"n\": 1e400}', metadata = '{\"n\": 1e400}'"),
        poison("+14155550112", "metadata = ('{\"a\":' || repeat('[', 300) || repeat(']', 300) || '}')::jsonb"),
    ] {
        pool.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("poison");
    }
    service.test_db.run(
        "insert into legal_hours (area, hours, source, as_of) values ('AQ', '{\"n\": 1e400}', 's', '2026-01-01');
         insert into users (id, name, external_id, time_zone) values ('00000000-0000-7000-8000-0000000000aa', 'Ann', 'ann', 'UTC');
         insert into stray_events (id, attempt_id, key, word) values (uuid_v7(), '00000000-0000-7000-8000-0000000000bb', 'k', '{\"n\": 1e400}')",
    )
    .await;
    let without_number = "select count(*) from calls where disposition = 'UNREADABLE' and state = 'failed'";
    service.test_db.wait_for(without_number, 1).await;
    // Numbers and depth hurt nobody who only carries them: these are dialed like any other.
    service.test_db.wait_for("select count(*) from calls where state in ('waiting', 'parked', 'live')", 0).await;
    assert_others_are_served(&service, "+14155550119").await;
    let (status, list) = service.get("/api/v1/calls?limit=100").await;
    assert_eq!(status, 200, "{list}");
    // A planned user whose prospects cannot be read is told so, and the next user is planned.
    let alarms = service.get("/health").await.1;
    assert_eq!(alarms["database"], "up", "{alarms}");
    service.finish().await;
}

/// What is known of a person goes into each call with the name beside it: what is let in fits there, so that the end of a call can always be
/// written down. (The version before let in what did not: the call ended never, and kept its slot for good.)
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_person_fits_a_call() {
    let service = TestService::start(&[QUICK]).await;
    service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await;
    // Short as it is sent, long as Postgres writes it out.
    let variables = format!("{{\"a\":[{}]}}", vec!["1e63"; 990].join(","));
    let body = format!("{{\"phone\":\"+14155550100\",\"variables\":{variables}}}");
    let request = service.client.post(format!("{}/api/v1/users/ann/prospects", service.base));
    let (status, answer) = support::answer(request.header("content-type", "application/json").body(body)).await;
    assert_eq!(status, 400, "{answer}");
    // In a list it spoils itself alone.
    let good = r#"{"to":"+14155550101","scriptId":"s","scheduledAt":"2030-01-01T00:00:00Z"}"#;
    let long = format!(r#"{{"to":"+14155550102","scriptId":"s","metadata":{variables}}}"#);
    let request = service.client.post(format!("{}/api/v1/calls/batch", service.base));
    let request = request.header("content-type", "application/json").body(format!(r#"{{"calls":[{good},{long}]}}"#));
    let (status, report) = support::answer(request).await;
    assert_eq!((status, report["data"]["accepted"].as_i64()), (201, Some(1)), "{report}");
    service.post("/api/v1/campaigns", json!({"externalId": "c", "name": "c", "scriptId": "s", "paused": true})).await;
    let numbers = json!({"numbers": ["+14155550103", {"number": "+14155550104", "name": "x".repeat(70_000)}]});
    let (status, report) = service.post("/api/v1/campaigns/c/phone-numbers", numbers).await;
    assert_eq!((status, report["data"]["accepted"].as_i64()), (201, Some(1)), "{report}");
    let refused_by = refused(
        service.test_db.pool(),
        "insert into prospects (id, user_id, phone, variables)
         select uuid_v7(), id, '+14155550101', jsonb_build_object('a', repeat('x', 60001)) from users where external_id = 'ann'",
    );
    assert!(refused_by.await.contains("prospects_variables_fit_a_call"));
    assert_others_are_served(&service, "+14155550109").await;
    service.finish().await;
}

/// Times and amounts no program computes with are refused wherever SQL may write them.
/// (95e55f8: the first ended the process, again after each restart; the second made reads panic.)
#[tokio::test(flavor = "multi_thread")]
async fn times_that_cannot_be_computed_with_are_refused() {
    let service = TestService::start(&[QUICK]).await;
    service
        .test_db
        .run(
            "insert into \"User\" (id, name) values ('u1', 'Ann');
         insert into \"Setting\" (id, userid) values ('s1', 'u1');
         insert into \"Plan\" (id, name, price, minutes, duration, perday) values ('p1', 'P', 1, 100, 30, 5)",
        )
        .await;
    for sql in [
        "select ops.enqueue('+14155550100', 's', scheduled_at => '-infinity')",
        "select ops.enqueue('+14155550100', 's', scheduled_at => 'infinity')",
        "select ops.enqueue('+14155550100', 's', scheduled_at => '290000-01-01')",
        "select ops.enqueue('+14155550100', 's', expires_at => '-infinity')",
        "insert into \"Prospect\" (id, name, phone, userid, rescheduledfor) values ('x', 'X', '+14155550101', 'u1', 'infinity')",
        "insert into \"Prospect\" (id, name, phone, userid, lastcontacted) values ('x', 'X', '+14155550101', 'u1', '-infinity')",
        "insert into \"User\" (id, name, createdat) values ('u2', 'Bob', '290000-01-01')",
        "insert into \"Plan\" (id, name, minutes, duration) values ('p2', 'P', 100, 96000000)",
        "update \"Plan\" set price = 'NaN'",
        "insert into \"Subscription\" (id, userid, planid, minutesleft) values ('b', 'u1', 'p1', 2000000000)",
        "update user_settings set opens = '24:00', closes = '24:00'",
        "insert into schedules (id, user_id, name, time_zone, hours, closed_dates) select uuid_v7(), id, 's', 'UTC', '[]', '{infinity}' from users where external_id = 'u1'",
        "update lanes set next_at = '-infinity'",
        "update user_turns set next_at = '-infinity'",
        "update lanes set opens_at = '290000-01-01', closes_at = 'infinity'",
        "insert into appointments (id, user_id, attempt_id, call_id, starts_at) values (uuid_v7(), uuid_v7(), uuid_v7(), uuid_v7(), '-infinity')",
    ] {
        refused(service.test_db.pool(), sql).await;
    }
    for query in ["from=-200000-01-01T00:00:00Z", "to=%2B200000-01-01T00:00:00Z"] {
        let (status, body) = service.get(&format!("/api/v1/calls?{query}")).await;
        assert_eq!(status, 400, "{query}: {body}");
    }
    assert_others_are_served(&service, "+14155550109").await;
    service.finish().await;
}

/// A Postgres that is read-only for a while drops nothing: every call ends, none stays dialing, and whoever asks is told 503.
/// (95e55f8 dropped the answers as "refused": five attempts stayed DIALING until a restart; POST was 500, and health said ok.)
#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_moment_drops_nothing() {
    let fake =
        FakeProvider::start(Manners { seed: 1, lasts_ms: (200, 900), answers_lost: 0, webhooks_doubled: 50 }).await;
    let settings: Vec<(String, String)> = fake.settings();
    let pairs: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let service = TestService::start_on(TestDb::new().await, Role::All, &pairs).await;
    let base = service.base.clone();
    fake.reports_to.lock().expect("no panic").push(base.rsplit(':').next().expect("a port").parse().expect("a port"));
    let calls: Vec<Value> = (0..60).map(|nth| json!({"to": format!("+1415555{nth:04}"), "scriptId": "s"})).collect();
    assert_eq!(service.post("/api/v1/calls/batch", json!({"calls": calls})).await.0, 201);
    service.test_db.read_only(true).await;
    let deadline = Instant::now() + Duration::from_secs(3);
    while Instant::now() < deadline {
        let request = service.client.post(format!("{base}/api/v1/calls"));
        let answer = request.json(&json!({"to": "+14155559999", "scriptId": "s"})).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(service.get("/health").await.0, 503);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    service.test_db.read_only(false).await;
    service.test_db.wait_for("select count(*) from calls where state in ('waiting', 'parked', 'live')", 0).await;
    service.test_db.wait_for("select count(*) from attempts where ended_at is null", 0).await;
    assert_eq!(service.test_db.count("select count(*) from dead_letters").await, 0);
    assert_others_are_served(&service, "+14155550199").await;
    service.finish().await;
}

/// An event that Postgres will not take is found among the others by halves, set aside with its text, and its attempt is asked about;
/// the others are settled. (95e55f8 dropped it with a log line, and its attempt waited for the next poll.)
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_stored_is_set_aside_alone() {
    let service = TestService::start(&SLOW).await;
    service
        .test_db
        .run("alter table events add constraint events_no_poison check (body::text not like '%poison%')")
        .await;
    let calls: Vec<Value> = (0..12).map(|nth| json!({"to": format!("+1415555{nth:04}"), "scriptId": "s"})).collect();
    assert_eq!(service.post("/api/v1/calls/batch", json!({"calls": calls})).await.0, 201);
    service.test_db.wait_for("select count(*) from attempts where state = 'accepted'", 12).await;
    let attempts: Vec<String> = sqlx::query_scalar("select id::text from attempts order by id")
        .fetch_all(service.test_db.pool())
        .await
        .expect("attempts");
    let words = attempts.iter().enumerate().map(|(nth, attempt)| {
        let transcript = if nth == 5 { "poison" } else { "fine" };
        let word = json!({"eventType": "call.completed", "conversationId": attempt, "duration": 5, "transcript": transcript,
            "outcome": {"type": "NOT_INTERESTED"}});
        service.post("/webhooks/outcome", word)
    });
    let answers: Vec<u16> = futures::future::join_all(words).await.into_iter().map(|(status, _)| status).collect();
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 11, "{answers:?}");
    assert_eq!(answers[5], 202, "{answers:?}");
    let asides =
        "select count(*) from ops.dead_letters where kind = 'event' and reason = 'REFUSED' and body like '%poison%'";
    assert_eq!(service.test_db.count(asides).await, 1);
    assert_eq!(service.test_db.count("select count(*) from attempts where ended_at is null").await, 1);
    assert_eq!(
        service
            .test_db
            .count(
                "select count(*) from attempts where ended_at is null and check_at <= clock() + interval '31 seconds'"
            )
            .await,
        1
    );
    let (status, health) = service.get("/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("degraded")), "{health}");
    assert!(health["alarms"].to_string().contains("DEAD_LETTERS"), "{health}");
    // A person's word ends what nobody else will, and is kept.
    let open = service.test_db.text("select call_id::text from attempts where ended_at is null").await;
    let (status, ended) =
        service.post(&format!("/api/v1/calls/{open}/end"), json!({"reason": "looked it up", "by": "Ann"})).await;
    assert_eq!(
        (status, &ended["data"]["status"], &ended["data"]["disposition"]),
        (200, &json!("FAILED"), &json!("UNKNOWN")),
        "{ended}"
    );
    let audited = "select count(*) from audit_log where actor = 'Ann' and action = 'end_call' and before ->> 'status' = 'IN_PROGRESS'";
    assert_eq!(service.test_db.count(audited).await, 1);
    let (again, _) = service.post(&format!("/api/v1/calls/{open}/end"), json!({"reason": "again"})).await;
    assert_eq!(again, 409);
    service.finish().await;
}

/// A claim that runs into its time-out, again and again, keeps nobody's word from being settled; once it works, calls are dialed.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_fails_stops_no_settling() {
    let service = TestService::start(&SLOW).await;
    let calls: Vec<Value> = (0..6).map(|nth| json!({"to": format!("+1415555{nth:04}"), "scriptId": "s"})).collect();
    assert_eq!(service.post("/api/v1/calls/batch", json!({"calls": calls})).await.0, 201);
    service.test_db.wait_for("select count(*) from attempts where state = 'accepted'", 6).await;
    let attempts: Vec<String> = sqlx::query_scalar("select id::text from attempts order by id")
        .fetch_all(service.test_db.pool())
        .await
        .expect("attempts");
    let sound = service.test_db.text("select pg_get_functiondef('ceiling_of'::regproc)").await;
    service.test_db.run("insert into provider_states (provider) values ('simulator') on conflict do nothing").await;
    service
        .test_db
        .run(
            "create or replace function ceiling_of(p provider_states, global_limit int) returns int language plpgsql stable as
             $$ begin raise 'canceling statement due to statement timeout' using errcode = '57014'; end $$",
        )
        .await;
    for attempt in attempts {
        let word = json!({"eventType": "call.completed", "conversationId": attempt, "duration": 5,
            "outcome": {"type": "NOT_INTERESTED"}});
        let deadline = Instant::now() + Duration::from_secs(20);
        // A provider repeats what was not taken.
        while service.post("/webhooks/outcome", word.clone()).await.0 != 200 {
            assert!(Instant::now() < deadline, "not settled");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert_eq!(service.test_db.count("select count(*) from attempts where ended_at is null").await, 0);
    sqlx::raw_sql(sqlx::AssertSqlSafe(sound)).execute(service.test_db.pool()).await.expect("sound again");
    let (status, _) = service.post("/api/v1/calls", json!({"to": "+14155550199", "scriptId": "s"})).await;
    assert_eq!(status, 201);
    service.test_db.wait_for("select count(*) from attempts where state = 'accepted'", 1).await;
    service.finish().await;
}

/// After every session was ended (a restart, `idle_session_timeout`, an administrator) the first requests are answered.
/// (95e55f8: health 503 six times in a row, and the first POSTs 500 or 503.)
#[tokio::test(flavor = "multi_thread")]
async fn ended_sessions_are_found_before_they_are_lent() {
    let service = TestService::start(&[QUICK]).await;
    let name = service.test_db.options.get_database().expect("a name").to_owned();
    let mut admin =
        PgConnection::connect_with(&service.test_db.options.clone().database("postgres")).await.expect("connect");
    for round in 0..5 {
        assert_others_are_served(&service, &format!("+1415555011{round}")).await;
        let sql = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'");
        admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("terminate");
        assert_eq!(service.get("/health").await.0, 200, "round {round}");
        let (status, body) =
            service.post("/api/v1/calls", json!({"to": format!("+1415555012{round}"), "scriptId": "s"})).await;
        assert_eq!(status, 201, "round {round}: {body}");
        assert_eq!(service.get("/api/v1/calls").await.0, 200, "round {round}");
    }
    service.test_db.wait_for("select count(*) from calls where state in ('waiting', 'parked', 'live')", 0).await;
    service.finish().await;
}

/// A way to Postgres that can be told to swallow what is sent on the connections that stand; new ones pass.
struct Swallowing {
    folder: Folder,
    swallow: Arc<AtomicBool>,
}

impl Swallowing {
    /// `answers`: what the server answers is swallowed, not what it is asked.
    async fn before(socket: PathBuf, answers: bool) -> Self {
        let folder = Folder::new("swallowing");
        let listener = UnixListener::bind(folder.0.join(".s.PGSQL.5432")).expect("listen");
        let swallow = Arc::new(AtomicBool::new(false));
        let swallows = Arc::clone(&swallow);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(socket.join(".s.PGSQL.5432")).await.expect("connect");
                // Those that stand when it begins are swallowed for good.
                let born_after = swallows.load(Ordering::SeqCst);
                let swallows = Arc::clone(&swallows);
                tokio::spawn(async move {
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    let lets_through = || born_after || !swallows.load(Ordering::SeqCst);
                    let up = passed_on(&mut from_client, &mut to_server, || answers || lets_through());
                    let down = passed_on(&mut from_server, &mut to_client, || !answers || lets_through());
                    tokio::select! { () = up => {}, () = down => {} }
                });
            }
        });
        Self { folder, swallow }
    }
}

/// Hands on what comes while it may, and swallows it otherwise, until either end closes.
async fn passed_on(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    lets_through: impl Fn() -> bool,
) {
    let mut bytes = vec![0; 16384];
    loop {
        let n = tokio::io::AsyncReadExt::read(from, &mut bytes).await.unwrap_or(0);
        if n == 0 || lets_through() && tokio::io::AsyncWriteExt::write_all(to, &bytes[..n]).await.is_err() {
            return;
        }
    }
}

/// Connections that swallow what is sent, or what is answered, are given up by deadlines of our own: dialing goes on. (95e55f8: nothing
/// dialed for 360 s, and for 57 s where answers were swallowed; health 200 and the lease renewed.)
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_swallow_are_given_up() {
    tokio::join!(swallowed(false), swallowed(true));
}

async fn swallowed(answers: bool) {
    let test_db = TestDb::new().await;
    let proxy = Swallowing::before(test_db.options.get_socket().expect("a socket").clone(), answers).await;
    let options = test_db.options.clone().socket(&proxy.folder.0);
    let quick = [
        ("OUTDIAL_DATABASE__STATEMENT_TIMEOUT_SECS", "2"),
        ("OUTDIAL_DATABASE__LOCK_TIMEOUT_SECS", "1"),
        ("OUTDIAL_DATABASE__ACQUIRE_TIMEOUT_SECS", "3"),
        QUICK,
    ];
    let through = test_db.by(options, &quick);
    let service = TestService::start_on(through, Role::All, &quick).await;
    assert_others_are_served(&service, "+14155550110").await;
    proxy.swallow.store(true, Ordering::SeqCst);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut served = false;
    while !served && Instant::now() < deadline {
        let (status, body) = service.post("/api/v1/calls", json!({"to": "+14155550111", "scriptId": "s"})).await;
        assert!([201, 503].contains(&status), "{status} {body}");
        served = status == 201;
    }
    assert!(served, "no request got through");
    service.test_db.wait_for("select count(*) from calls where state in ('waiting', 'parked', 'live')", 0).await;
    service.finish().await;
}

/// What we rely on is said, whatever the database's defaults are. (95e55f8: with either search path lists and nearly all POSTs were 500; with
/// serializable transactions turns failed.)
#[tokio::test(flavor = "multi_thread")]
async fn the_defaults_of_the_database_are_not_ours() {
    for (nth, setting) in [
        "search_path = pg_catalog",
        "search_path = ops, public",
        "default_transaction_isolation = serializable",
        "default_transaction_isolation = 'repeatable read'",
    ]
    .into_iter()
    .enumerate()
    {
        let service = TestService::start(&[QUICK]).await;
        let name = service.test_db.options.get_database().expect("a name").to_owned();
        let others = format!(
            "alter database {name} set {setting};
            select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid()"
        );
        let mut psql = PgConnection::connect_with(&service.test_db.options).await.expect("connect");
        psql.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(others))).await.expect(setting);
        drop(psql);
        let deadline = Instant::now() + Duration::from_secs(20);
        while service.get("/health").await.0 != 200 {
            assert!(Instant::now() < deadline, "{setting}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for call in 0..3 {
            assert_others_are_served(&service, &format!("+1415555{nth}2{call:02}")).await;
        }
        service.finish().await;
    }
}

/// What plain SQL writes in a session that stays open, or works on and on, holds up nobody: not the tenant's neighbours, and not the
/// operator. It takes effect once it is committed. (95e55f8: dialing and POST stopped for as long as the session was open.)
#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_writes_holds_up_nobody() {
    let service = TestService::start(&SLOW).await;
    let setting_up = r#"insert into "User" (id, name) values ('ann', 'Ann');
        insert into "Plan" (id, name, price, minutes, duration, perDay) values ('p', 'Basic', 1, 600, 30, 10);
        insert into "Subscription" (id, userId, planId, minutesLeft, status) values ('s', 'ann', 'p', 600, 'ACTIVE');
        insert into "User" (id, name) values ('eve', 'Eve');
        insert into "Subscription" (id, userId, planId, minutesLeft, status) values ('e', 'eve', 'p', 600, 'ACTIVE');
        insert into "Setting" (id, userId) values ('t', 'ann');
        insert into "AdvancedSetting" (id, settingId, timeZone, startAt, endAt) values ('a', 't', 'Europe/Berlin', '2025-01-01 00:00', '2025-01-01 00:00');
        insert into "Prospect" (id, name, phone, userId) values ('known', 'K', '+14155550150', 'ann')"#;
    let outside = || async { PgConnection::connect_with(&service.test_db.options).await.expect("connect") };
    outside().await.execute(sqlx::raw_sql(setting_up)).await.expect("set up");
    for (nth, sql) in [
        "select ops.enqueue('+14155550151', 's')",
        "select ops.enqueue('+14155550152', 's', \"user\" => 'ann')",
        r#"insert into "User" (id, name) values ('new', 'New')"#,
        r#"insert into "Prospect" (id, name, phone, userid) values ('p', 'P', '+14155550153', 'ann')"#,
        r#"insert into "Prospect" (id, name, phone, userid, status, rescheduledFor) values ('q', 'Q', '+14155550154', 'ann', 'RESCHEDULED', now())"#,
        r#"update "Prospect" set status = 'DO_NOT_CALL'"#,
        r#"delete from "Prospect""#,
        r#"update "AdvancedSetting" set timeZone = 'Europe/London'"#,
        r#"update "Plan" set minutes = 700"#,
        r#"update "Subscription" set status = 'PAUSED'"#,
        r#"delete from "Subscription" where id = 'e'"#,
        r#"insert into "Subscription" (id, userId, planId, minutesLeft, status) values ('e', 'eve', 'p', 600, 'ACTIVE')"#,
        r#"update "Subscription" set status = 'ACTIVE'"#,
        "update users set time_zone = 'UTC', allowed_countries = '{US}', allowed_destinations = '{PREMIUM}' where external_id = 'ann'",
        "insert into suppressions (phone, user_id) select '+14155550155', id from users where external_id = 'ann'",
        r#"delete from "User" where id = 'new'"#,
    ]
    .into_iter()
    .enumerate()
    {
        let mut psql = outside().await;
        psql.execute("begin").await.expect("begin");
        psql.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect(sql);
        let began = Instant::now();
        assert_others_are_dialed(&service, &format!("+1415555{nth:04}")).await;
        assert!(began.elapsed() < Duration::from_secs(1), "{sql}: {:?}", began.elapsed());
        // It goes on working, and is not stopped.
        psql.execute("select pg_sleep(0.1)").await.expect("still there");
        psql.execute("commit").await.expect(sql);
    }
    let taken_in = "select count(*) from sql_changes";
    service.test_db.wait_for(taken_in, 0).await;
    service
        .test_db
        .wait_for(
            "select count(*) from attempts where phone in ('+14155550151', '+14155550152') and ended_at is null",
            2,
        )
        .await;
    // Calls by the thousand, and thousands of changes, in one session: still nobody waits, whoever has them.
    let mut psql = outside().await;
    let many = r#"begin; select count(ops.enqueue('+1212' || (5000000 + n), 's', scheduled_at => now() + interval '1 day', "user" => 'ann')) from generate_series(1, 3000) n;
        insert into "Prospect" (id, name, phone, userid, status, rescheduledFor)
        select 'p' || n, 'P', '+1212' || (6000000 + n), 'ann', 'RESCHEDULED', now() + interval '1 day' from generate_series(1, 1500) n"#;
    psql.execute(sqlx::raw_sql(many)).await.expect("many");
    assert_others_are_dialed(&service, "+14155559001").await;
    psql.execute("commit").await.expect("commit");
    for nth in 2..8 {
        let began = Instant::now();
        assert_others_are_dialed(&service, &format!("+1415555900{nth}")).await;
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }
    service.test_db.wait_for(taken_in, 0).await;
    let placed = "select count(*) from calls c join lanes l on l.id = c.lane_id where c.phone like '+1212%' and (l.country <> '?' or c.prospect_id is not null)";
    service.test_db.wait_for(placed, 4500).await;
    // A session that takes the lock itself is ended when it idles, and stopped when it works on.
    let mut idle = outside().await;
    idle.execute("begin").await.expect("begin");
    idle.execute("select admission_lock(false)").await.expect("alone");
    assert_others_are_dialed(&service, "+14155559010").await;
    assert!(idle.execute("commit").await.is_err(), "the session was to be ended");
    let long = "begin; select set_config('outdial.admitted_at', (clock_timestamp() - interval '10 seconds')::text, true); select admission_lock(true)";
    let stopped = psql.execute(sqlx::raw_sql(long)).await.expect_err("too long");
    assert!(stopped.to_string().contains("fewer rows"), "{stopped}");
    let reads_files = "select count(*) from pg_proc where pronamespace in ('public'::regnamespace, 'ops'::regnamespace)
        and (prosrc like '%pg_timezone_names%' or (prosrc like '%advisory_xact_lock%7001%' and proname <> 'admission_lock'))";
    assert_eq!(service.test_db.count(reads_files).await, 0);
    service.finish().await;
}

/// What plain SQL has committed holds before anything else is dialed: until it is taken in, the claim leaves that user's calls alone, and
/// only those; a change that cannot be taken in for now waits with its user, and the others go on.
#[tokio::test(flavor = "multi_thread")]
async fn changes_by_sql_hold_their_user_until_they_are_taken_in() {
    let test_db = TestDb::new().await;
    test_db
        .run(
            "delete from legal_hours;
            insert into users (id, name, external_id, time_zone) select uuid_v7(), n, n, 'UTC' from unnest('{ann,bob}'::text[]) n;
            insert into user_settings (user_id, opens, closes, script_initial) select id, '00:00', '00:00', 'a' from users where external_id in ('ann', 'bob');
            insert into plans (id, name, minutes, duration_days, per_day) values (uuid_v7(), 'p', 100, 30, 10);
            insert into subscriptions (user_id, plan_id, minutes_left, period_ends_at)
              select u.id, p.id, 5, clock() + interval '1 day' from users u, plans p where u.external_id in ('ann', 'bob');
            insert into prospects (id, user_id, external_id, name, phone, status, rescheduled_for)
              select uuid_v7(), id, external_id, 'Jo', case external_id when 'ann' then '+14155550101' else '+14155550102' end, 'RESCHEDULED', clock()
              from users where external_id in ('ann', 'bob')",
        )
        .await;
    queue::turn_days(test_db.pool(), 100).await.expect("days");
    queue::windows::sort(test_db.pool(), 100).await.expect("sort");
    queue::windows::reopen_due(test_db.pool(), 100).await.expect("open");
    let mut psql = PgConnection::connect_with(&test_db.options).await.expect("connect");
    // Booked by SQL: nobody rings.
    psql.execute(r#"update "Prospect" set status = 'BOOKED' where id = 'ann'"#).await.expect("booked");
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let claim = async |connection: &mut PgConnection| -> Vec<String> {
        support::claim(connection, support::room(5))
            .await
            .calls
            .into_iter()
            .map(|call| String::from(call.phone))
            .collect()
    };
    assert_eq!(claim(&mut connection).await, ["+14155550102"]);
    // Her turn is held: the change waits, nothing else does.
    psql.execute(
        "begin; select from user_turns t join users u on u.id = t.user_id where u.external_id = 'ann' for update",
    )
    .await
    .expect("held");
    let mut other = PgConnection::connect_with(&test_db.options).await.expect("connect");
    other
        .execute(r#"update "Subscription" set minutesLeft = minutesLeft; update "Plan" set minutes = 101"#)
        .await
        .expect("changed");
    let began = Instant::now();
    queue::take_in(test_db.pool()).await.expect("taken in");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let changed = "select coalesce(string_agg(distinct u.external_id, ' '), '-') from sql_changes c join users u on u.id = c.user_id";
    assert_eq!(test_db.text(changed).await, "ann");
    psql.execute("rollback").await.expect("rollback");
    assert!(queue::take_in(test_db.pool()).await.expect("taken in") >= 3);
    assert_eq!(test_db.text(changed).await, "-");
    assert_eq!(
        test_db.count("select count(*) from calls where state = 'canceled' and phone = '+14155550101'").await,
        1
    );
    assert_eq!(claim(&mut connection).await, [""; 0]);
    test_db.assert_sound().await;
}

/// Rows that somebody's session keeps locked hold up what needs them and nothing else: a talk that ends there is told to say it again,
/// and does once they are free. (95e55f8: POST took 10 s, webhooks of others got 503, the call after was dialed 10 s late, as often as a
/// word about the row came.)
#[tokio::test(flavor = "multi_thread")]
async fn a_row_in_somebodys_session_holds_up_itself() {
    let service = TestService::start(&SLOW).await;
    service.test_db.run(ANY_HOUR).await;
    for user in ["ann", "bob"] {
        assert_eq!(service.post("/api/v1/users", json!({"name": user, "externalId": user})).await.0, 201);
    }
    service.post("/api/v1/plans", json!({"name": "p", "externalId": "p", "minutes": 1000, "duration": 30})).await;
    let put = service.client.put(format!("{}/api/v1/users/ann/subscription", service.base));
    assert_eq!(support::answer(put.json(&json!({"planId": "p", "status": "ACTIVE"}))).await.0, 200);
    let call =
        |user: &str, number: String| json!({"to": number, "scriptId": "s", "userId": user, "ignoreWindow": true});
    let live = "select count(*) from attempts where ended_at is null";
    for (nth, rows) in [
        "attempts where ended_at is null and user_id = (select id from users where external_id = 'ann')",
        "calls where state = 'live' and user_id = (select id from users where external_id = 'ann')",
        "lanes where user_id = (select id from users where external_id = 'ann')",
        "user_turns where user_id = (select id from users where external_id = 'ann')",
        "subscriptions",
        "users where external_id = 'ann'",
        "campaigns, provider_states, installation, instances",
    ]
    .into_iter()
    .enumerate()
    {
        for (user, number) in [("ann", format!("+14155551{nth:03}")), ("bob", format!("+14155552{nth:03}"))] {
            assert_eq!(service.post("/api/v1/calls", call(user, number)).await.0, 201);
        }
        service.test_db.wait_for(live, 2).await;
        let open = "select id::text from attempts where ended_at is null order by phone";
        let open: Vec<String> = sqlx::query_scalar(open).fetch_all(service.test_db.pool()).await.expect("attempts");
        let mut psql = PgConnection::connect_with(&service.test_db.options).await.expect("connect");
        let held = format!("begin; select * from {rows} for update");
        psql.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(held))).await.expect(rows);
        // Due now, beside what is held.
        let pushed = service.post("/api/v1/calls", call("ann", format!("+14155553{nth:03}"))).await.0;
        assert!([201, 503].contains(&pushed), "{rows}: {pushed}");
        let over = |attempt: &str| {
            let word = json!({"eventType": "call.completed", "conversationId": attempt, "duration": 5,
                "outcome": {"type": "NOT_INTERESTED"}});
            service.post("/webhooks/outcome", word)
        };
        let (of_ann, of_bob) = tokio::join!(over(&open[0]), over(&open[1]));
        assert!([200, 503].contains(&of_ann.0), "{rows}: {of_ann:?}");
        // It may have been in one batch with the other; said again, it is settled.
        let mut settled = of_bob.0 == 200;
        for _ in 0..5 {
            settled = settled || over(&open[1]).await.0 == 200;
        }
        assert!(settled, "{rows}: {of_bob:?}");
        let began = Instant::now();
        assert_eq!(service.post("/api/v1/calls", call("bob", format!("+14155554{nth:03}"))).await.0, 201);
        let of_bob = "select count(*) from attempts where ended_at is null and user_id = (select id from users where external_id = 'bob')";
        service.test_db.wait_for(of_bob, 1).await;
        assert!(began.elapsed() < Duration::from_secs(5), "{rows}: dialed after {:?}", began.elapsed());
        psql.execute("rollback").await.expect("rollback");
        // What is held is not tried for a second.
        let deadline = Instant::now() + Duration::from_secs(10);
        while over(&open[0]).await.0 != 200 {
            assert!(Instant::now() < deadline, "{rows}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        while service.test_db.count("select count(*) from calls where state in ('waiting', 'parked', 'live')").await > 0
        {
            let open = "select id::text from attempts where ended_at is null";
            let open: Vec<String> = sqlx::query_scalar(open).fetch_all(service.test_db.pool()).await.expect("attempts");
            for attempt in open {
                assert_eq!(over(&attempt).await.0, 200, "{rows}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(service.test_db.count("select count(*) from dead_letters").await, 0);
    service.finish().await;
}

/// Housekeeping passes over what somebody's session keeps locked, at once, and does the rest: periods and days begin, calls expire, calls
/// by plain SQL find their lane. (95e55f8: the whole step failed at each tick for as long as the session was open.)
#[tokio::test(flavor = "multi_thread")]
async fn housekeeping_passes_over_what_somebody_holds() {
    let test_db = TestDb::new().await;
    test_db
        .run(
            "delete from legal_hours;
            insert into users (id, name, external_id, time_zone) select uuid_v7(), n, n, 'UTC' from unnest('{ann,bob}'::text[]) n;
            insert into plans (id, name, minutes, duration_days, per_day) values (uuid_v7(), 'p', 100, 30, 10);
            insert into subscriptions (user_id, plan_id, minutes_left, period_ends_at)
              select u.id, p.id, 5, clock() from users u, plans p where u.external_id in ('ann', 'bob');
            insert into user_settings (user_id, opens, closes, script_initial, script_follow_up)
              select id, '00:00', '00:00', 'a', 'b' from users where external_id in ('ann', 'bob')",
        )
        .await;
    for rows in [
        "user_turns where user_id = (select id from users where external_id = 'ann')",
        "lanes where user_id = (select id from users where external_id = 'ann')",
        "subscriptions where user_id = (select id from users where external_id = 'ann')",
        "prospects where user_id = (select id from users where external_id = 'ann')",
        "calls where user_id = (select id from users where external_id = 'ann')",
        "users where external_id = 'ann'",
    ] {
        test_db
            .run(
                "delete from calls; delete from prospects;
                update subscriptions set period_ends_at = clock() - interval '1 second', day_ends_at = clock() - interval '1 second', minutes_left = 5;
                update lanes set blocked_on = 'quota', next_at = 'infinity', urgent_at = 'infinity' where country = '?' and closed_by is null;
                insert into prospects (id, user_id, name, phone, status)
                  select uuid_v7(), id, 'Jo', '+14155550100', 'INITIAL' from users where external_id in ('ann', 'bob');
                select ops.enqueue('+14155550101', 's', \"user\" => n) from unnest('{ann,bob}'::text[]) n;
                select ops.enqueue('+14155550102', 's', \"user\" => n, expires_at => clock() + interval '1 hour') from unnest('{ann,bob}'::text[]) n;
                update calls c set prospect_id = p.id from prospects p where p.user_id = c.user_id and c.expires_at is not null;
                update prospects p set call_id = c.id from calls c where c.prospect_id = p.id;
                update calls set expires_at = clock() - interval '1 second' where expires_at is not null",
            )
            .await;
        let mut psql = PgConnection::connect_with(&test_db.options).await.expect("connect");
        let held = format!("begin; select * from {rows} for update");
        psql.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(held))).await.expect(rows);
        let began = Instant::now();
        queue::refill(test_db.pool(), 100).await.expect(rows);
        queue::turn_days(test_db.pool(), 100).await.expect(rows);
        queue::expire(test_db.pool(), 100).await.expect(rows);
        queue::windows::sort(test_db.pool(), 100).await.expect(rows);
        queue::windows::reopen_due(test_db.pool(), 100).await.expect(rows);
        assert!(began.elapsed() < Duration::from_secs(1), "{rows}: {:?}", began.elapsed());
        let left = "select count(*) from users u join subscriptions s on s.user_id = u.id join calls c on c.user_id = u.id join lanes l on l.id = c.lane_id
            where u.external_id = 'bob'
              and (s.minutes_left <> 100 or s.day_ends_at <= clock() or (c.expires_at is null and l.country = '?') or (c.expires_at is not null and c.state <> 'expired'))";
        assert_eq!(test_db.count(left).await, 0, "{rows}");
        psql.execute("rollback").await.expect("rollback");
        queue::refill(test_db.pool(), 100).await.expect(rows);
        queue::turn_days(test_db.pool(), 100).await.expect(rows);
        queue::expire(test_db.pool(), 100).await.expect(rows);
        queue::windows::sort(test_db.pool(), 100).await.expect(rows);
        let left = "select count(*) from users u join subscriptions s on s.user_id = u.id join calls c on c.user_id = u.id join lanes l on l.id = c.lane_id
            where s.minutes_left <> 100 or s.day_ends_at <= clock() or (c.expires_at is null and l.country = '?') or (c.expires_at is not null and c.state <> 'expired')";
        assert_eq!(test_db.count(left).await, 0, "{rows}: once it is free");
    }
}

/// What tidies the tables does a little at a time, each little for good, and all of it: a backlog that takes longer than a step may is
/// smaller each time. (95e55f8: one statement for all, given up each time.)
#[tokio::test(flavor = "multi_thread")]
async fn a_large_backlog_is_tidied() {
    let test_db = TestDb::new().await;
    test_db
        .run(
            "insert into idempotency_keys (user_id, key, fingerprint, seed, started_at, status, body)
               select id, 'k' || g, '\\x00', uuid_v7(), clock() - interval '2 days', 201, '{}' from users, generate_series(1, 12000) g where external_id = 'operator';
            insert into stray_events (id, key, word, received_at, provider_call_id)
               select gen_random_uuid(), 'k' || g, '{}', clock() - interval '10 days', 'p' from generate_series(1, 12000) g;
            insert into tally_deltas (lane_id, user_id, what, n)
               select l.id, l.user_id, 'PENDING', case when g % 2 = 0 then 1 else -1 end from lanes l, generate_series(1, 50000) g where l.id = l.user_id;
            create table taken (n bigint);
            create function note_taken() returns trigger language plpgsql as $$ begin insert into taken select count(*) from gone; return null; end $$;
            create trigger t after delete on idempotency_keys referencing old table as gone for each statement execute function note_taken();
            create trigger t after delete on stray_events referencing old table as gone for each statement execute function note_taken();
            create trigger t after delete on tally_deltas referencing old table as gone for each statement execute function note_taken()",
        )
        .await;
    store::idempotency::prune(test_db.pool(), 24).await.expect("prune");
    store::strays::prune(test_db.pool(), 7).await.expect("prune");
    queue::fold_tallies(test_db.pool()).await.expect("fold");
    let left = "select (select count(*) from idempotency_keys) + (select count(*) from stray_events) + (select count(*) from tally_deltas)";
    assert_eq!(test_db.count(left).await, 0);
    assert!(test_db.count("select max(n) from taken").await <= 20_000, "by one statement");
    test_db.assert_sound().await;
}

/// With the roles api and worker alone, what a killed worker was dialing is rescued by the next worker, what a frozen one was, too, and
/// it is said which role is missing. (95e55f8: its slots were lost for good, and health said ok.)
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dials_rescues() {
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        rescued_after(signal).await;
    }
}

async fn rescued_after(signal: Signal) {
    let fake =
        FakeProvider::start(Manners { seed: 2, lasts_ms: (800, 1500), answers_lost: 10, webhooks_doubled: 0 }).await;
    let test_db = TestDb::new().await;
    let url = test_db.url();
    let folder = Folder::new("rescue");
    let mut pairs: Vec<(String, String)> = fake.settings();
    pairs.extend(support::pairs(&[
        ("DATABASE_URL", url.as_str()),
        ("OUTDIAL_CALLS__LEASE_SECS", "4"),
        ("OUTDIAL_PROVIDER__DIAL_TIMEOUT_SECS", "1"),
        ("OUTDIAL_PROVIDER__LOOKUP_GRACE_SECS", "1"),
        ("OUTDIAL_EXECUTOR__INQUIRY_SECS", "1"),
    ]));
    let start = |name: &str, role: &str| Process::start_as(&folder.0.join(name), &pairs, role);
    let client = support::client();
    let mut api = start("api.log", "api");
    assert!(api.wait_until_up(&client).await);
    fake.reports_to.lock().expect("no panic while held").push(api.port);
    let mut first = start("first.log", "worker");
    assert!(first.wait_until_up(&client).await);
    let calls: Vec<Value> = (0..20).map(|nth| json!({"to": format!("+1415555{nth:04}"), "scriptId": "s"})).collect();
    let posted = client.post(format!("{}/api/v1/calls/batch", api.base())).json(&json!({"calls": calls}));
    assert_eq!(support::answer(posted).await.0, 201);
    test_db.wait_for("select (count(*) > 0)::int from attempts where ended_at is null", 1).await;
    first.signal(signal);
    let mut second = start("second.log", "worker");
    assert!(second.wait_until_up(&client).await);
    let deadline = Instant::now() + Duration::from_secs(60);
    while test_db.count("select count(*) from calls where state in ('waiting', 'parked', 'live')").await > 0 {
        assert!(Instant::now() < deadline, "a slot was lost");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The calls may be over before the lease of the killed worker is.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (_, health) = support::answer(client.get(format!("{}/health", api.base()))).await;
        assert!(health["alarms"].to_string().contains("NO_SCHEDULER"), "{health}");
        if health["processes"]["worker"].as_i64() == Some(1) {
            break;
        }
        assert!(Instant::now() < deadline, "a dead worker is counted: {health}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A frozen one wakes up knowing that it is late: nobody is called by it.
    let attempts = test_db.count("select count(*) from attempts").await;
    first.signal(Signal::SIGCONT);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(test_db.count("select count(*) from attempts").await, attempts);
    test_db.assert_sound().await;
}

/// A call nobody hears of again is given up by whoever dials, with no housekeeping about. (95e55f8: never, without a scheduler.)
#[tokio::test(flavor = "multi_thread")]
async fn whoever_dials_gives_up() {
    let test_db = TestDb::new().await;
    test_db.enqueue(&["+14155550100"]).await;
    let service = TestService::start_on(test_db, Role::Worker, &SLOW).await;
    service.test_db.wait_for("select count(*) from attempts where state = 'accepted'", 1).await;
    let long_ago =
        "update attempts set claimed_at = claimed_at - interval '1 day', accepted_at = accepted_at - interval '1 day'";
    service.test_db.run(long_ago).await;
    service
        .test_db
        .wait_for("select count(*) from attempts where disposition = 'UNKNOWN' and ended_at is not null", 1)
        .await;
    service.finish().await;
}

/// A tenant that has as much waiting or stored as it may is told so, by each road; another tenant is not. (95e55f8 took in all of it: calls
/// one by one, in lists, by campaigns, files, and answers kept for their keys.)
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_quota_is_its_own() {
    let service = TestService::start(&[
        SLOW[0],
        SLOW[1],
        ("OUTDIAL_QUOTA__WAITING_CALLS_MAX", "3"),
        ("OUTDIAL_QUOTA__UPLOAD_BYTES_MAX", "100"),
        ("OUTDIAL_QUOTA__KEPT_ANSWER_BYTES_MAX", "4000"),
    ])
    .await;
    service.test_db.run(ANY_HOUR).await;
    for user in ["ann", "bob"] {
        assert_eq!(service.post("/api/v1/users", json!({"name": user, "externalId": user})).await.0, 201);
    }
    let calls = |user: &str| -> Vec<Value> {
        let call = |nth: usize| json!({"to": format!("+1415555{nth:04}"), "scriptId": "s", "userId": user, "scheduledAt": "2030-01-01T00:00:00Z"});
        (0..5).map(call).collect()
    };
    let (status, report) = service.post("/api/v1/calls/batch", json!({"calls": calls("ann")})).await;
    assert_eq!((status, report["data"]["accepted"].as_i64()), (201, Some(3)), "{report}");
    assert_eq!(report["data"]["rows"][4]["code"], "quota_exceeded", "{report}");
    let (status, refused) = service.post("/api/v1/calls", calls("ann")[0].clone()).await;
    assert_eq!((status, &refused["code"]), (429, &json!("quota_exceeded")), "{refused}");
    assert_eq!(service.post("/api/v1/calls", calls("bob")[0].clone()).await.0, 201);
    let (_, usage) = service.get("/api/v1/users/ann/usage").await;
    assert_eq!(
        (usage["data"]["waitingCalls"].as_i64(), usage["data"]["waitingCallsMax"].as_i64()),
        (Some(3), Some(3)),
        "{usage}"
    );
    // By a campaign, as a list and as a file.
    for user in ["ann", "bob"] {
        let campaign = json!({"userId": user, "externalId": "c", "name": "c", "scriptId": "s", "paused": true});
        assert_eq!(service.post("/api/v1/campaigns", campaign).await.0, 201);
    }
    for (user, expected) in [("ann", 429), ("bob", 201)] {
        let path = format!("/api/v1/campaigns/c/phone-numbers?userId={user}");
        let (status, answer) = service.post(&path, json!({"numbers": ["+14155559001", "+14155559002"]})).await;
        assert_eq!(status, expected, "{answer}");
    }
    let list = service.client.post(format!("{}/api/v1/campaigns/c/phone-numbers?userId=ann", service.base));
    let list = list.header("content-type", "text/csv").body("number\n+14155559003\n");
    let (status, upload) = support::answer(list).await;
    assert_eq!(status, 202, "{upload}");
    let path = format!("/api/v1/uploads/{}", upload["data"]["uploadId"].as_str().expect("an id"));
    let read = service.wait_until(&path, |upload| upload["status"] != "running").await;
    assert_eq!((read["accepted"].as_i64(), read["rejected"].as_i64()), (Some(0), Some(1)), "{read}");
    // Answers kept for their keys, of refused lists as of any other.
    let mut keys = Vec::new();
    for user in ["ann", "bob"] {
        let (_, key) = service.post(&format!("/api/v1/users/{user}/keys"), json!({})).await;
        keys.push(key["data"]["key"].as_str().expect("a key").to_owned());
    }
    let refused = |key: &str, nth: usize| {
        let rows: Vec<Value> = (0..10).map(|_| json!({"to": "nobody", "scriptId": "s"})).collect();
        let request = service.client.post(format!("{}/api/v1/calls/batch", service.base)).bearer_auth(key);
        support::answer(request.header("idempotency-key", format!("k{nth}")).json(&json!({"calls": rows})))
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    for nth in 0.. {
        let (status, answer) = refused(&keys[0], nth).await;
        if status == 429 {
            let detail = answer["detail"].as_str().unwrap_or_default();
            assert!(detail.contains("kept_answer_bytes_max"), "{answer}");
            break;
        }
        assert!(Instant::now() < deadline, "{nth} answers were kept");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_ne!(refused(&keys[1], 0).await.0, 429);
    let file = |user: &str, bytes: usize| {
        let request = service.client.post(format!("{}/api/v1/users/{user}/prospects", service.base));
        support::answer(
            request.header("content-type", "text/csv").body(format!("number\n{}", "+14155550100\n".repeat(bytes / 13))),
        )
    };
    assert_eq!(file("ann", 1000).await.0, 429);
    assert_eq!(file("bob", 60).await.0, 202);
    service.finish().await;
}

/// A provider that accepts calls and is never heard of again raises an alarm with its way out.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_provider_is_an_alarm() {
    let service = TestService::start(&SLOW).await;
    assert_eq!(service.post("/api/v1/calls", json!({"to": "+14155550100", "scriptId": "s"})).await.0, 201);
    service.test_db.wait_for("select count(*) from attempts where state = 'accepted'", 1).await;
    service.test_db.run("update attempts set accepted_at = accepted_at - interval '10 minutes', claimed_at = claimed_at - interval '10 minutes'").await;
    let (_, health) = service.get("/health").await;
    let alarm = health["alarms"].as_array().expect("alarms").iter().find(|alarm| alarm["code"] == "PROVIDER_SILENT");
    assert!(alarm.is_some_and(|alarm| alarm["wayOut"].to_string().contains("/end")), "{health}");
    service.finish().await;
}

/// A promise goes before other users' calls only while its own user holds less than an equal share; `high` orders its own user's calls.
/// However a user's calls are spread, and however many users do the same: who has twenty ordinary calls gets an equal share of ten slots.
/// (95e55f8 gave none to the last user where promises came from several lanes or several users.)
#[tokio::test(flavor = "multi_thread")]
async fn promises_and_high_calls_leave_others_their_share() {
    for (rank, users, lanes, share) in
        [(0, 1, 1, 5), (1, 1, 1, 5), (0, 1, 60, 5), (1, 1, 60, 5), (0, 4, 1, 2), (0, 4, 30, 2), (1, 4, 30, 2)]
    {
        let test_db = TestDb::new().await;
        let flood = format!(
            "insert into users (id, name, external_id) select md5('user ' || u)::uuid, 'U', 'u' || u from generate_series(0, {users}) u;
             insert into campaigns (id, user_id, name, script_id)
               select md5('lane ' || u || ' ' || l)::uuid, md5('user ' || u)::uuid, 'c', 's'
               from generate_series(1, {users}) u, generate_series(1, {lanes}) l;
             insert into campaigns (id, user_id, name, script_id) values (md5('lane 0 1')::uuid, md5('user 0')::uuid, 'c', 's');
             insert into lanes (id, user_id, campaign_id, next_at) select id, user_id, id, now() - interval '1 hour' from campaigns;
             insert into calls (id, user_id, lane_id, campaign_id, due_at, phone, script_id, dials_max, rank)
               select gen_random_uuid(), user_id, id, id, now() - interval '1 hour', '+1' || (2000000000 + row_number() over ()), 's', 3,
                 {rank}
               from campaigns, generate_series(1, 60) where user_id <> md5('user 0')::uuid;
             insert into calls (id, user_id, lane_id, campaign_id, due_at, phone, script_id, dials_max, rank)
               select gen_random_uuid(), md5('user 0')::uuid, md5('lane 0 1')::uuid, md5('lane 0 1')::uuid, now() - interval '1 minute',
                 '+1' || (3000000000 + n), 's', 3, 3
               from generate_series(1, 20) n;
             update lanes set next_at = now() - interval '1 minute', urgent_at = urgent_of(id) where blocked_on is null;
             update user_turns set next_at = now() - interval '1 minute'"
        );
        test_db.pool().execute(sqlx::raw_sql(sqlx::AssertSqlSafe(flood))).await.expect("calls");
        let mut connection = test_db.pool().acquire().await.expect("a connection");
        // Two claims: a few lanes are looked at in each.
        for room in [6, 4] {
            support::claim(&mut connection, queue::Room { global_limit: 10, ..support::room(room) }).await;
        }
        assert_eq!(test_db.count("select count(*) from attempts").await, 10);
        let of_last = test_db.count("select count(*) from attempts where user_id = md5('user 0')::uuid").await;
        assert!(of_last >= share, "rank {rank}, {users} users with {lanes} lanes each: {of_last} of 10");
    }
}

/// A database that is another than the one that dialed last dials nothing until a person has looked; so does one that has lost commits.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_does_not_dial() {
    let test_db = TestDb::new().await;
    let service = TestService::start_on(test_db, Role::All, &[QUICK]).await;
    assert_others_are_served(&service, "+14155550110").await;
    let name = service.test_db.options.get_database().expect("a name").to_owned();
    service.finish().await;
    // Restored under another name of the same server: the database's own id tells.
    let restored = copied(&TestDb::new().await.on(&name), "restored").await;
    let service = TestService::start_on(restored, Role::All, &[QUICK]).await;
    assert_eq!(service.post("/api/v1/calls", json!({"to": "+14155550111", "scriptId": "s"})).await.0, 201);
    let (_, health) = service.get("/health").await;
    assert!(health["alarms"].to_string().contains("DIALING_HELD"), "{health}");
    let waiting = "select reason from ops.waiting";
    assert_eq!(service.test_db.text(waiting).await, "RESTORED_DATABASE");
    let told = reconcile::run(&config(&[]), &service.test_db.db, None).await.expect("reconcile");
    assert!(told.contains("held"), "{told}");
    assert_eq!(service.test_db.count("select count(*) from attempts where ended_at is null").await, 0);
    let told = reconcile::run(&config(&[]), &service.test_db.db, Some("Ann")).await.expect("reconcile");
    assert!(told.contains("lifted"), "{told}");
    service.test_db.wait_for("select count(*) from calls where state = 'waiting'", 0).await;
    assert_eq!(
        service.test_db.count("select count(*) from audit_log where action = 'lift_hold' and actor = 'Ann'").await,
        1
    );
    service.finish().await;
}

/// An older database put back in place of itself, with nothing left that ran then: the newest attempt, written down beside it, is missing.
/// Once a person has looked, dialing goes on, after the next start too. (95e55f8 dialed again what had been dialed since.)
#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_in_place_of_itself_does_not_dial() {
    let folder = Folder::new("newest");
    let file = folder.0.join("newest-attempt");
    let pairs = [QUICK, ("OUTDIAL_DATABASE__NEWEST_ATTEMPT_FILE", file.to_str().expect("a path"))];
    let service = TestService::start_on(TestDb::new().await, Role::All, &pairs).await;
    assert_others_are_served(&service, "+14155550110").await;
    let name = service.test_db.options.get_database().expect("a name").to_owned();
    let other = TestDb::new().await;
    service.finish().await;
    assert!(file.exists());
    // As it was before the dial.
    let older = other.on(&name);
    older
        .run(
            "delete from events; delete from attempts; delete from tallies; delete from tally_deltas;
             insert into tally_deltas select lane_id, user_id, campaign_id, 'PENDING', count(*) from calls group by 1, 2, 3;
             update calls set state = 'waiting', dials = 0, attempt_number = 0, ended_at = null, disposition = null, due_at = now();
             update lanes set next_at = now() where blocked_on is null; update user_turns set next_at = now()",
        )
        .await;
    let service = TestService::start_on(older, Role::All, &pairs).await;
    let (_, health) = service.get("/health").await;
    assert!(health["alarms"].to_string().contains("DIALING_HELD"), "{health}");
    assert_eq!(service.test_db.text("select reason from ops.waiting").await, "LOST_COMMITS");
    assert_eq!(service.test_db.count("select count(*) from attempts").await, 0);
    let told = reconcile::run(&config(&[]), &service.test_db.db, Some("Ann")).await.expect("reconcile");
    assert!(told.contains("lifted"), "{told}");
    // The mark that is missing is still known here, and holds no more.
    service.test_db.wait_for("select count(*) from calls where state = 'waiting'", 0).await;
    let (db, stop) = (other.on(&name), service);
    stop.finish().await;
    let service = TestService::start_on(db, Role::All, &pairs).await;
    assert_others_are_served(&service, "+14155550111").await;
    service.finish().await;
}

/// A backup from before the dials: what the provider was given meanwhile is found in its list and followed; nobody is called again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_restored_database_does_not_know_is_asked_for() {
    let talks = |seed| outdial::fake_providers::Manners {
        busy: 0,
        no_answer: 0,
        machine: 0,
        not_found: 0,
        ..outdial::fake_providers::Manners::gentle(seed, 10.0)
    };
    for mode in ultravox::MODES {
        let world = ultravox::fakes(talks(1)).await;
        let settings = ultravox::settings(&world, mode, support::free_port());
        let pairs: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let service = TestService::start_on(TestDb::new().await, Role::Api, &pairs).await;
        let calls: Vec<Value> =
            (0..4).map(|nth| json!({"to": format!("+1415555{nth:04}"), "scriptId": "You sell tea."})).collect();
        assert_eq!(service.post("/api/v1/calls/batch", json!({"calls": calls})).await.0, 201);
        let name = service.test_db.options.get_database().expect("a name").to_owned();
        service.finish().await;
        let other = TestDb::new().await;
        let copy = copied(&other.on(&name), "before").await;
        let original = other.on(&name);
        let dialing = TestService::start_on(original, Role::All, &pairs).await;
        let deadline = Instant::now() + Duration::from_secs(30);
        while world.rung().len() < 4 {
            assert!(Instant::now() < deadline, "{mode}: {} rang", world.rung().len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        dialing.finish().await;
        let restored = TestService::start_on(copy, Role::All, &pairs).await;
        let (_, health) = restored.get("/health").await;
        assert!(health["alarms"].to_string().contains("DIALING_HELD"), "{health}");
        let told = reconcile::run(&config(&pairs), &restored.test_db.db, Some("Ann")).await.expect("reconcile");
        assert!(told.contains("4 were not known here"), "{mode}: {told}");
        restored.test_db.wait_for("select count(*) from calls where state in ('waiting', 'parked', 'live')", 0).await;
        assert_eq!(
            restored.test_db.count("select count(*) from calls where state = 'completed' and dials = 1").await,
            4
        );
        assert_eq!(world.rung().len(), 4, "{mode}: somebody was called again");
        restored.finish().await;
    }
}

/// The database as it is now, under another name.
async fn copied(of: &TestDb, name: &str) -> TestDb {
    of.db.close().await;
    let was = of.options.get_database().expect("a name").to_owned();
    let copy = format!("{was}_{name}");
    let mut admin = PgConnection::connect_with(&of.options.clone().database("postgres")).await.expect("connect");
    for sql in [
        format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{was}'"),
        format!("create database {copy} template {was}"),
    ] {
        admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("copy");
    }
    of.on(&copy)
}

/// A webhook that proves an attempt which is not there holds dialing; one without the proof does not.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_about_a_lost_attempt_holds_dialing() {
    let service = TestService::start(&[QUICK]).await;
    let attempt: outdial::domain::ids::AttemptId = outdial::domain::ids::new_id().into();
    let path = "/api/v1/callbacks/call-status";
    let word = json!({"conversationId": attempt, "callId": "x", "status": "COMPLETED"});
    assert_eq!(service.post(path, word.clone()).await.0, 202);
    let held = "select count(*) from installation where held_for = 'LOST_COMMITS'";
    assert_eq!(service.test_db.count(held).await, 0);
    assert_eq!(service.post(&service.ours(path, &attempt.to_string()).await, word).await.0, 202);
    assert_eq!(service.test_db.count(held).await, 1);
    assert_eq!(service.post("/api/v1/calls", json!({"to": "+14155550100", "scriptId": "s"})).await.0, 201);
    service.test_db.wait_for("select count(*) from ops.waiting where reason = 'LOST_COMMITS'", 1).await;
    assert!(installation::lift_hold(service.test_db.pool(), "Ann").await.expect("lifted"));
    service.test_db.wait_for("select count(*) from calls where state = 'waiting'", 0).await;
    service.finish().await;
}

/// A webhook about an attempt that the process remembers and the database has lost is answered and holds dialing. (95e55f8 decided about
/// it for ever, with the lock in hand: every POST was 503.)
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_about_an_attempt_only_memory_knows_stops_nobody() {
    let service = TestService::start(&SLOW).await;
    let body = json!({"to": "+14155550100", "scriptId": "s"});
    assert_eq!(service.post("/api/v1/calls", body).await.0, 201);
    service.test_db.wait_for("select count(*) from attempts where state = 'accepted'", 1).await;
    let attempt = service.test_db.text("select id::text from attempts").await;
    service
        .test_db
        .run("update calls set state = 'failed', disposition = 'UNKNOWN', ended_at = clock(); delete from events; delete from attempts; delete from tallies; delete from tally_deltas;
              insert into tally_deltas select lane_id, user_id, campaign_id, 'FAILED', count(*) from calls group by 1, 2, 3")
        .await;
    let path = "/api/v1/callbacks/call-status";
    let word = json!({"conversationId": attempt, "callId": "x", "status": "COMPLETED"});
    let began = Instant::now();
    assert_eq!(service.post(&service.ours(path, &attempt).await, word).await.0, 202);
    assert_eq!(service.post("/api/v1/calls", json!({"to": "+14155550101", "scriptId": "s"})).await.0, 201);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    service.test_db.wait_for("select count(*) from ops.waiting where reason = 'LOST_COMMITS'", 1).await;
    service.finish().await;
}

/// What this process knows to be committed must be there: otherwise commits were lost, and nothing is dialed.
#[tokio::test(flavor = "multi_thread")]
async fn lost_commits_hold_dialing() {
    let service = TestService::start(&[QUICK, ("OUTDIAL_CALLS__LEASE_SECS", "13")]).await;
    assert_others_are_served(&service, "+14155550110").await;
    // As a standby that was behind would have it.
    service.test_db.run("delete from events; delete from attempts; delete from tally_deltas; delete from tallies; delete from calls").await;
    service.test_db.wait_for("select count(*) from installation where held_for = 'LOST_COMMITS'", 1).await;
    assert!(installation::lift_hold(service.test_db.pool(), "Ann").await.expect("lifted"));
    service.finish().await;
}
