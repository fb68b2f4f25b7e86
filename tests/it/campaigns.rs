//! Campaigns through the front door: numbers, hours, limits, do-not-call, counts and reasons, and what a million numbers cost.
//!
//! The faults other dialers of this kind have are tests here: delays multiplied twice, counters that drift, pauses that are
//! dropped, retries at night, lists that nobody asks.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use outdial::db::doorbell::Doorbell;
use outdial::domain::disposition::Disposition;
use outdial::domain::ids::{AttemptId, ScheduleId, new_id};
use outdial::domain::word::Word;
use outdial::outcome::inbox::Heard;
use outdial::outcome::{self, Memory};
use outdial::queue::recruit::{self, Recruit, recruit};
use outdial::queue::windows::{self, Scope};
use outdial::queue::{self, CampaignChanges, Claimed, Room};
use outdial::scheduler::imports;
use outdial::service::{Role, rules_of};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection, PgPool};

use crate::fake_provider::{FakeProvider, Manners};
use crate::support::{self, ANY_HOUR, TestDb, TestService, answer, buffers_of, config, room};

const CALM: Manners = Manners { seed: 1, lasts_ms: (100, 200), answers_lost: 0, webhooks_doubled: 0 };
/// Nobody is dialed while a test looks.
const NO_DIALS: (&str, &str) = ("MAX_CONCURRENT_CALLS", "1");

async fn service(pairs: &[(&str, &str)]) -> TestService {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    TestService::start_on(test_db, Role::All, pairs).await
}

/// A service that dials at this provider.
async fn service_at(provider: &FakeProvider) -> TestService {
    let settings = provider.settings();
    let pairs: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let service = service(&pairs).await;
    report_to(provider, &service);
    service
}

/// The provider reports to the port the service has got.
fn report_to(provider: &FakeProvider, service: &TestService) {
    let port = service.base.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    provider.reports_to.lock().expect("no panic while held").push(port);
}

impl TestService {
    /// Creates a campaign with these fields; its id.
    async fn campaign(&self, fields: Value) -> String {
        let mut body = json!({"name": "spring", "scriptId": "hello"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, body) = self.post("/api/v1/campaigns", body).await;
        assert_eq!(status, 201, "{body}");
        body["data"]["id"].as_str().unwrap().to_owned()
    }

    async fn schedule(&self, fields: Value) -> String {
        let mut body = json!({"name": "office", "timeZone": "Etc/UTC"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let (status, body) = self.post("/api/v1/schedules", body).await;
        assert_eq!(status, 201, "{body}");
        body["data"]["id"].as_str().unwrap().to_owned()
    }

    async fn add(&self, campaign: &str, numbers: &[String]) -> Value {
        let path = format!("/api/v1/campaigns/{campaign}/phone-numbers");
        let (status, body) = self.post(&path, json!({ "numbers": numbers })).await;
        assert_eq!(status, 201, "{body}");
        body["data"].clone()
    }

    async fn stats(&self, campaign: &str) -> Value {
        self.get(&format!("/api/v1/campaigns/{campaign}/stats")).await.1["data"].clone()
    }

    async fn explain(&self, campaign: &str) -> Value {
        self.get(&format!("/api/v1/campaigns/{campaign}/explain")).await.1["data"].clone()
    }

    async fn wait_for_campaign(&self, campaign: &str, status: &str) -> Value {
        self.wait_until(&format!("/api/v1/campaigns/{campaign}"), |campaign| campaign["status"] == status).await
    }
}

/// `+14155550000`, `+14155550001`, …
fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|nth| format!("+1415555{nth:04}")).collect()
}

const EVERY_DAY: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Hours of every day that open in three hours and close in four, and when that is.
fn hours_later() -> (Value, DateTime<Utc>) {
    let opens = Utc::now() + TimeDelta::hours(3);
    let opens = opens.with_minute(0).and_then(|at| at.with_second(0)).and_then(|at| at.with_nanosecond(0)).unwrap();
    let closes = opens + TimeDelta::hours(1);
    let hours = json!([{"days": EVERY_DAY, "opens": opens.format("%H:%M").to_string(), "closes": closes.format("%H:%M").to_string()}]);
    (hours, opens)
}

fn any_hour() -> Value {
    json!([{"days": EVERY_DAY, "opens": "00:00", "closes": "00:00"}])
}

/// From the first number to the last call; the campaign ends by itself, new numbers open it again, counts are exact throughout.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_ends_by_itself_and_counts_exactly() {
    let service = service(&[("OUTDIAL_SIMULATOR__SUCCESS_RATE", "1")]).await;
    let id = service.campaign(json!({})).await;
    let (_, fresh) = service.get(&format!("/api/v1/campaigns/{id}")).await;
    let fresh = &fresh["data"];
    assert_eq!(fresh["status"], "pending", "an empty campaign waits, it is not paused");
    assert_eq!((&fresh["maxConcurrentCalls"], &fresh["maxRetries"]), (&json!(5), &json!(3)));
    assert_eq!((&fresh["retryDelaySeconds"], &fresh["paused"]), (&json!(300), &json!(false)));
    let added = service.add(&id, &numbers(40)).await;
    assert_eq!((&added["accepted"], &added["rejected"]), (&json!(40), &json!(0)));
    service.wait_for_campaign(&id, "completed").await;
    let stats = service.stats(&id).await;
    assert_eq!(
        (&stats["total"], &stats["completed"], &stats["pending"]),
        (&json!(40), &json!(40), &json!(0)),
        "{stats}"
    );
    assert_eq!((&stats["progressRate"], &stats["completionRate"]), (&json!(1.0), &json!(1.0)));
    assert_eq!(service.get(&format!("/api/v1/campaigns/{id}/calls?limit=5")).await.1["pagination"]["total"], 40);
    let (status, _) = service.post(&format!("/api/v1/campaigns/{id}/pause"), json!({})).await;
    assert_eq!(status, 200);
    let one =
        json!({"number": "(415) 555-0999".replace("(415)", "+1 415"), "name": "Jo", "variables": {"city": "Rome"}});
    let (status, call) = service.post(&format!("/api/v1/campaigns/{id}/phone-numbers"), one.clone()).await;
    assert_eq!(status, 201, "{call}");
    assert_eq!(call["data"]["payload"]["variables"], json!({"city": "Rome", "prospectName": "Jo"}));
    assert_eq!(service.wait_for_campaign(&id, "paused").await["paused"], true);
    let (status, again) = service.post(&format!("/api/v1/campaigns/{id}/phone-numbers"), one).await;
    assert_eq!((status, &again["code"]), (409, &json!("duplicate_in_campaign")));
    for _ in 0..2 {
        let (status, _) = service.post(&format!("/api/v1/campaigns/{id}/start"), json!({})).await;
        assert_eq!(status, 200, "start is resume, and does no harm twice");
    }
    service.wait_for_campaign(&id, "completed").await;
    assert_eq!(service.stats(&id).await["completed"], 41);
    service.finish().await;
}

/// `paused` at creation is honoured; while paused nothing is dialed and everybody is told why; resume dials.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_campaign_dials_nobody() {
    let provider = FakeProvider::start(CALM).await;
    let service = service_at(&provider).await;
    let id = service.campaign(json!({"paused": true, "maxConcurrentCalls": 2})).await;
    let added = service.add(&id, &numbers(8)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(provider.account().calls.is_empty(), "dialed while paused");
    assert_eq!(
        service.explain(&id).await,
        json!({"waiting": 8, "reasons": [{"reason": "CAMPAIGN_PAUSED", "count": 8, "clearsAt": null}]})
    );
    let call = added["rows"][0]["callId"].as_str().unwrap();
    let (_, call) = service.get(&format!("/api/v1/calls/{call}")).await;
    assert_eq!(call["data"]["waiting"]["reason"], "CAMPAIGN_PAUSED");
    service.post(&format!("/api/v1/campaigns/{id}/resume"), json!({})).await;
    service.wait_for_campaign(&id, "in-progress").await;
    // Paused in the middle: once that is answered, nothing more is dialed.
    service.wait_until(&format!("/api/v1/campaigns/{id}/stats"), |stats| stats["completed"].as_i64() >= Some(2)).await;
    let (status, _) = service.post(&format!("/api/v1/campaigns/{id}/pause"), json!({})).await;
    assert_eq!(status, 200);
    let dialed = provider.account().calls.len();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(provider.account().calls.len(), dialed, "dialed after the pause was answered");
    // Changed while it runs: more at once.
    let (status, _) = service
        .patch(&format!("/api/v1/campaigns/{id}"), json!({"maxConcurrentCalls": 4, "paused": false, "scriptId": "new"}))
        .await;
    assert_eq!(status, 200);
    service.wait_for_campaign(&id, "completed").await;
    {
        let account = provider.account();
        assert_eq!(account.calls.len(), 8);
        assert_eq!(account.live_max_of["hello"], 2, "the limit is used, and held");
        assert!(account.live_max <= 4);
        assert!(account.calls[dialed..].iter().all(|call| call.script == "new"), "an edited script holds from then on");
    }
    service.finish().await;
}

/// A list and a file get a verdict for each row; good rows are kept; the same file again adds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_a_list_gets_its_verdict() {
    let service = service(&[NO_DIALS]).await;
    let id = service.campaign(json!({"paused": true})).await;
    service.post("/api/v1/suppressions", json!({"number": "+14155550007"})).await;
    service.post("/api/v1/phone-numbers", json!({"number": "+14155550008", "status": "do_not_call"})).await;
    service.post("/api/v1/phone-numbers", json!({"number": "+14155550009", "status": "invalid"})).await;
    let rows = json!(["+14155550001", {"number": "+14155550002", "timeZone": "America/Denver"}, "12", "+14155550001", "+14155550007",
        "+14155550008", "+14155550009", {"number": "+14155550003", "timeZone": "Mars/Olympus"}, {"phone": "+14155550004"}, 5]);
    let (status, report) =
        service.post(&format!("/api/v1/campaigns/{id}/phone-numbers"), json!({"numbers": rows})).await;
    assert_eq!(status, 201, "{report}");
    let reasons: Vec<&str> =
        report["data"]["rows"].as_array().unwrap().iter().map(|row| row["reason"].as_str().unwrap_or("")).collect();
    assert_eq!(
        reasons[..8],
        [
            "",
            "",
            "INVALID_NUMBER",
            "DUPLICATE_IN_CAMPAIGN",
            "DO_NOT_CALL",
            "DO_NOT_CALL",
            "INVALID_NUMBER",
            "INVALID_TIME_ZONE"
        ]
    );
    assert!(reasons[8].contains("phone") && !reasons[9].is_empty(), "{reasons:?}");
    assert_eq!((&report["data"]["accepted"], &report["data"]["rejected"]), (&json!(2), &json!(8)));

    let file = "\u{feff}Phone;Name;city\r\n'+14155550010;Jo;Rome\r\n+1 (415) 555-0011;;\r\nnobody;;\r\n'+14155550010;;\r\n+14155550007;;\r\n";
    for (accepted, rejected) in [(2, 3), (0, 5)] {
        let upload = service.upload(&id, file).await;
        assert_eq!((&upload["status"], &upload["error"]), (&json!("done"), &Value::Null), "{upload}");
        assert_eq!(
            (&upload["rowsDone"], &upload["accepted"], &upload["rejected"]),
            (&json!(5), &json!(accepted), &json!(rejected))
        );
        assert_eq!(upload["bytesDone"], upload["bytes"]);
        let verdicts =
            service.client.get(format!("{}/api/v1/uploads/{}", service.base, upload["id"].as_str().unwrap()));
        let text = verdicts.header("Accept", "text/csv").send().await.unwrap().text().await.unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(
            lines[3].ends_with("rejected,,INVALID_NUMBER") && lines[4].ends_with("rejected,,DUPLICATE_IN_CAMPAIGN"),
            "{text}"
        );
    }
    assert_eq!(service.stats(&id).await["total"], 4);
    let upload = service.upload(&id, "name;city\nJo;Rome\n").await;
    assert_eq!(upload["status"], "failed");
    assert!(upload["error"].as_str().unwrap().contains("number or phone"), "{upload}");
    let (status, _) = service.post(&format!("/api/v1/campaigns/{id}/cancel"), json!({})).await;
    assert_eq!(status, 200);
    let late = service.post(&format!("/api/v1/campaigns/{id}/phone-numbers"), json!({"number": "+14155550020"})).await;
    assert_eq!((late.0, &late.1["code"]), (409, &json!("wrong_state")));
    assert_eq!(service.stats(&id).await["canceled"], 4);
    service.finish().await;
}

/// A reader of a file that dies anywhere is followed by another, which goes on: each row once, with its verdict.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_read_on_after_a_crash() {
    let test_db = TestDb::new().await;
    let pool = test_db.pool().clone();
    let service = TestService::start_on(test_db, Role::Api, &[]).await;
    let id = service.campaign(json!({"paused": true})).await;
    let text = format!("number\n{}", (0..4500).map(|nth| format!("+1212{:07}\n", 2_000_000 + nth)).collect::<String>());
    let request = service.client.post(format!("{}/api/v1/campaigns/{id}/phone-numbers", service.base));
    let (status, receipt) = answer(request.header("Content-Type", "text/csv; charset=utf-8").body(text)).await;
    assert_eq!(status, 202, "{receipt}");
    let (mut deaths, began) = (0, std::time::Instant::now());
    loop {
        // A lease of no time: who comes next takes over at once, even from a reader that still lives.
        let bell = Doorbell::default();
        let reading =
            imports::read_next(&pool, &bell, imports::Limits { lease_secs: 0.0, patience: Duration::from_secs(30) });
        match tokio::time::timeout(Duration::from_millis(60 << deaths), reading).await {
            // None to take: the statement of the one that died still has the row.
            Ok(read) => _ = read.expect("read"),
            Err(_) => deaths += 1,
        }
        let (_, upload) =
            service.get(&format!("/api/v1/uploads/{}", receipt["data"]["uploadId"].as_str().unwrap())).await;
        if upload["data"]["status"] == "done" {
            assert_eq!(
                (&upload["data"]["rowsDone"], &upload["data"]["accepted"]),
                (&json!(4500), &json!(4500)),
                "{upload}"
            );
            break;
        }
        assert!(
            upload["data"]["status"] == "running" && began.elapsed() < Duration::from_secs(20),
            "not done: {upload}"
        );
    }
    assert!(deaths > 0, "nobody died");
    assert_eq!(service.stats(&id).await["total"], 4500);
    service.finish().await;
}

/// Hours that change act at once on what waits, and the next valid time is shown; legal hours and unknown zones too.
#[tokio::test(flavor = "multi_thread")]
async fn hours_act_at_once_on_what_waits() {
    let service = service(&[]).await;
    let (later, opens) = hours_later();
    let schedule = service.schedule(json!({"hours": later})).await;
    let id = service.campaign(json!({"scheduleId": schedule})).await;
    let added = service.add(&id, &numbers(3)).await;
    let call = added["rows"][0]["callId"].as_str().unwrap().to_owned();
    let (_, detail) = service.get(&format!("/api/v1/calls/{call}")).await;
    let time = |value: &Value| value.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    assert_eq!(detail["data"]["waiting"]["reason"], "WINDOW_CLOSED");
    assert_eq!(time(&detail["data"]["waiting"]["clearsAt"]), opens);
    assert_eq!(time(&detail["data"]["nextAttemptAt"]), opens, "the next valid time is shown");
    assert_eq!(service.explain(&id).await["reasons"][0]["reason"], "WINDOW_CLOSED");

    // Closed by the calendar, for ever, by the law, then open.
    let dates: Vec<String> =
        (0..3).map(|days| (Utc::now() + TimeDelta::days(days)).format("%Y-%m-%d").to_string()).collect();
    let path = format!("/api/v1/schedules/{schedule}");
    assert_eq!(service.patch(&path, json!({"hours": any_hour(), "closedDates": dates})).await.0, 200);
    assert_eq!(service.explain(&id).await["reasons"][0]["reason"], "CLOSED_DATE");
    let law = json!({"area": "US", "hours": hours_later().0, "source": "a test", "asOf": "2026-11-21"});
    assert_eq!(service.post("/api/v1/legal-hours", law).await.0, 200);
    assert_eq!(service.patch(&path, json!({"closedDates": []})).await.0, 200);
    assert_eq!(service.explain(&id).await["reasons"][0]["reason"], "LEGAL_HOURS");
    assert_eq!(service.delete("/api/v1/legal-hours/US").await, 204);
    service.wait_for_campaign(&id, "completed").await;

    // Toll-free: nobody knows where that rings.
    let held = service.campaign(json!({"zonePolicy": "hold"})).await;
    service.add(&held, &["+18005550100".to_owned()]).await;
    assert_eq!(service.explain(&held).await["reasons"][0]["reason"], "ZONE_UNKNOWN");
    let (status, _) = service
        .patch(&format!("/api/v1/campaigns/{held}"), json!({"zonePolicy": "user", "scheduleId": schedule}))
        .await;
    assert_eq!(status, 200);
    service.wait_for_campaign(&held, "completed").await;

    // Hours that meet no legal hour never open: said at once.
    let never = service.schedule(json!({"timeZone": "America/Los_Angeles", "hours": [{"days": ["mon"], "opens": "03:00", "closes": "04:00"}]})).await;
    let law = json!({"area": "*", "hours": [{"days": EVERY_DAY, "opens": "08:00", "closes": "21:00"}], "source": "a test", "asOf": "2026-11-21"});
    assert_eq!(service.post("/api/v1/legal-hours", law).await.0, 200);
    let hopeless = service.campaign(json!({"scheduleId": never})).await;
    let rows = service.add(&hopeless, &numbers(1)).await;
    assert_eq!(rows["rows"][0]["reason"], "WINDOW_NEVER_OPENS");
    // On the callee's clock the same hours are judged where the phone rings.
    let (status, body) = service
        .patch(&format!("/api/v1/campaigns/{hopeless}"), json!({"hoursIn": "callee", "scheduleId": schedule}))
        .await;
    assert_eq!((status, &body["data"]["hoursIn"]), (200, &json!("callee")));
    assert_eq!(service.delete(&format!("/api/v1/schedules/{schedule}")).await, 409, "campaigns use it");
    service.finish().await;
}

/// Numbers that come onto a list while they wait are never dialed, whichever list: everybody's, the user's, or a number's status.
#[tokio::test(flavor = "multi_thread")]
async fn do_not_call_reaches_what_waits() {
    let provider = FakeProvider::start(CALM).await;
    let service = service_at(&provider).await;
    let id = service.campaign(json!({"paused": true})).await;
    let added = service.add(&id, &numbers(5)).await;
    let calls: Vec<&str> =
        added["rows"].as_array().unwrap().iter().map(|row| row["callId"].as_str().unwrap()).collect();
    assert_eq!(service.post("/api/v1/suppressions", json!({"number": "+14155550000"})).await.0, 201);
    assert_eq!(
        service
            .post("/api/v1/users/operator/suppressions", json!({"number": "+14155550001", "reason": "asked"}))
            .await
            .0,
        201
    );
    assert_eq!(
        service
            .post("/api/v1/phone-numbers", json!({"number": "+14155550002", "status": "valid", "externalId": "n2"}))
            .await
            .0,
        201
    );
    assert_eq!(service.patch("/api/v1/phone-numbers/n2", json!({"status": "do_not_call"})).await.0, 200);
    for call in &calls[..3] {
        let call = service.wait_for_status(call, "CANCELED").await;
        assert_eq!(call["disposition"], "DO_NOT_CALL");
    }
    // Written past the front door: the claim itself looks at the list.
    service.test_db.run("insert into suppressions (phone, user_id) select '+14155550003', id from users where external_id = 'operator'").await;
    service.post(&format!("/api/v1/campaigns/{id}/resume"), json!({})).await;
    service.wait_for_status(calls[4], "COMPLETED").await;
    assert_eq!(service.wait_for_status(calls[3], "CANCELED").await["disposition"], "DO_NOT_CALL");
    assert_eq!(provider.account().calls.len(), 1, "only who may be called was called");
    assert_eq!(service.stats(&id).await["canceled"], 4);
    service.finish().await;
}

/// Users, schedules, numbers and campaigns are made, found by either id, changed by PATCH and PUT, and deleted; faults name the field.
#[tokio::test(flavor = "multi_thread")]
async fn resources_are_kept_as_people_expect() {
    let service = service(&[NO_DIALS]).await;
    let (status, user) =
        service.post("/api/v1/users", json!({"name": "Ann", "email": "ann@example.com", "externalId": "ann"})).await;
    assert_eq!(status, 201, "{user}");
    let twin = service.post("/api/v1/users", json!({"name": "Ann", "email": "ann@example.com"})).await;
    assert_eq!(twin.0, 409, "{twin:?}");
    let hours = json!([{"days": ["mon"], "opens": "09:00", "closes": "17:00"}]);
    let (_, schedule) = service.post("/api/v1/schedules", json!({"userId": "ann", "name": "s", "externalId": "sched", "timeZone": "America/New_York", "hours": hours})).await;
    assert_eq!(schedule["data"]["timeZone"], "America/New_York", "{schedule}");
    for (path, body, field) in [
        ("schedules", json!({"name": "s", "timeZone": "Mars/Olympus", "hours": hours}), "timeZone"),
        (
            "schedules",
            json!({"name": "s", "timeZone": "Etc/UTC", "hours": [{"days": ["mon"], "opens": "9:00", "closes": "17:00"}]}),
            "hours",
        ),
        (
            "schedules",
            json!({"name": "s", "timeZone": "Etc/UTC", "hours": [{"days": [], "opens": "09:00", "closes": "17:00"}]}),
            "hours.0.days",
        ),
        ("campaigns", json!({"name": "", "scriptId": "s"}), "name"),
        ("campaigns", json!({"name": "c", "scriptId": "s", "maxConcurrentCalls": 0}), "maxConcurrentCalls"),
        ("campaigns", json!({"name": "c", "scriptId": "s", "maxRetries": -1}), "maxRetries"),
        ("campaigns", json!({"name": "c", "scriptId": "s", "scheduleId": "sched"}), "scheduleId"),
        ("phone-numbers", json!({"number": "12"}), "number"),
    ] {
        let (status, body) = service.post(&format!("/api/v1/{path}"), body).await;
        assert_eq!(status, 400, "{path} {body}");
        assert!(body.to_string().contains(&format!("\"{field}")), "{field}: {body}");
    }
    let (status, campaign) = service
        .post(
            "/api/v1/campaigns",
            json!({"userId": "ann", "name": "c", "scriptId": "s", "scheduleId": "sched", "externalId": "camp"}),
        )
        .await;
    assert_eq!(status, 201, "{campaign}");
    assert_eq!(service.get("/api/v1/campaigns/camp?userId=ann").await.1["data"]["id"], campaign["data"]["id"]);
    assert_eq!(service.get("/api/v1/campaigns?userId=ann").await.1["pagination"]["total"], 1);
    let put = service.client.put(format!("{}/api/v1/campaigns/camp", service.base)).json(&json!({"name": "renamed"}));
    assert_eq!(answer(put).await.1["data"]["name"], "renamed");
    assert_eq!(service.delete("/api/v1/users/ann").await, 409, "a user with campaigns stays");
    assert_eq!(service.delete("/api/v1/campaigns/camp").await, 204);
    assert_eq!(service.get("/api/v1/campaigns/camp").await.0, 404);
    assert_eq!(service.post("/api/v1/phone-numbers", json!({"userId": "ann", "number": "+14155550100"})).await.0, 201);
    let twin = service.post("/api/v1/phone-numbers", json!({"userId": "ann", "number": "+1 415 555 0100"})).await;
    assert_eq!(twin.0, 409, "{twin:?}");
    service.finish().await;
}

// --- on the queue itself ---------------------------------------------------------------------------------------------------

async fn claim(connection: &mut PgConnection, want: usize) -> Vec<Claimed> {
    support::claim(connection, room(want)).await.calls
}

async fn settle(pool: &PgPool, attempts: impl IntoIterator<Item = AttemptId>, disposition: Disposition) {
    let heard: Vec<Heard> =
        attempts.into_iter().map(|id| Heard::about(id, Word::ended(disposition, None), "test")).collect();
    let mut settling = queue::feed(pool).await.expect("feed");
    outcome::settle(
        &mut settling,
        &heard,
        &rules_of(&config(&[("OUTDIAL_SIMULATOR__SPEED", "1")])),
        &mut Memory::new(),
    )
    .await
    .expect("settle");
    settling.commit().await.expect("commit");
}

/// A campaign of a new user with these settings, made as the API makes it.
async fn make_campaign(test_db: &TestDb, concurrent: i32, schedule: Option<ScheduleId>) -> recruit::Into {
    let user = outdial::domain::ids::UserId(new_id());
    sqlx::query("insert into users (id, name) values ($1, 'u')")
        .bind(user)
        .execute(test_db.pool())
        .await
        .expect("user");
    support::campaign_of(test_db, user, concurrent, schedule).await
}

async fn add(test_db: &TestDb, into: &recruit::Into, numbers: &[String]) {
    let rows = numbers.iter().map(|number| Recruit { number: number.clone(), ..Recruit::default() }).collect();
    let base = new_id();
    let verdicts = recruit(test_db.pool(), into, rows, |nth| {
        outdial::domain::ids::CallId(outdial::domain::ids::grown_from(base, nth))
    })
    .await;
    assert!(verdicts.expect("recruit").iter().all(Result::is_ok));
}

/// Whatever waits for a retry is due.
const LATER: &str = "update calls set due_at = clock() where state = 'waiting';
    update lanes set next_at = clock() where campaign_id is not null;
    update user_turns set next_at = clock()";

/// A retry waits the campaign's delay, in seconds; three retries are four dials; retries go before new calls; one failed call does
/// not fail the campaign, and a campaign of nothing but failures says so.
#[tokio::test(flavor = "multi_thread")]
async fn retries_wait_as_the_campaign_says() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let into = make_campaign(&test_db, 1, None).await;
    add(&test_db, &into, &["+14155550100".to_owned()]).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let calls = claim(&mut connection, 5).await;
    settle(test_db.pool(), [calls[0].attempt_id], Disposition::NoAnswer).await;
    let delay = test_db.count("select round(extract(epoch from due_at - clock()))::bigint from calls").await;
    assert!((298..=300).contains(&delay), "a retry in {delay} s");
    assert!(claim(&mut connection, 5).await.is_empty(), "not before its time");
    let reason: String =
        sqlx::query_scalar("select reason from ops.waiting").fetch_one(test_db.pool()).await.expect("reason");
    assert_eq!(reason, "RETRY_LATER");
    add(&test_db, &into, &["+14155550201", "+14155550202", "+14155550203"].map(str::to_owned)).await;
    for dial in 2..=4 {
        // Five minutes later; there is room for one, and new numbers wait too.
        test_db.run(LATER).await;
        let calls = claim(&mut connection, 5).await;
        assert_eq!(calls.len(), 1, "dial {dial}");
        assert_eq!(calls[0].phone.as_str(), "+14155550100", "a retry goes before new calls");
        settle(test_db.pool(), [calls[0].attempt_id], Disposition::NoAnswer).await;
    }
    let status = "select count(*) from calls where phone = '+14155550100' and state = 'failed' and disposition = 'NO_ANSWER' and dials = 4";
    assert_eq!(test_db.count(status).await, 1);
    assert_eq!(test_db.count("select retries_attempted from ops.campaigns").await, 3);
    let shown = "select count(*) from ops.campaigns where status = $$in-progress$$";
    assert_eq!(test_db.count(shown).await, 1, "others of it wait");
    for nth in 0..3 {
        let calls = claim(&mut connection, 5).await;
        assert_eq!(calls.len(), 1, "one at a time");
        settle(
            test_db.pool(),
            [calls[0].attempt_id],
            if nth == 0 { Disposition::Completed } else { Disposition::WrongNumber },
        )
        .await;
    }
    assert_eq!(
        test_db.count("select count(*) from ops.campaigns where status = 'completed' and pending = 0").await,
        1,
        "one of four was reached"
    );
    let hopeless = make_campaign(&test_db, 1, None).await;
    add(&test_db, &hopeless, &["+14155550300".to_owned()]).await;
    let changes = CampaignChanges { max_retries: Some(0), ..CampaignChanges::default() };
    queue::update_campaign(test_db.pool(), hopeless.campaign, &changes).await.expect("edit");
    let calls = claim(&mut connection, 5).await;
    settle(test_db.pool(), [calls[0].attempt_id], Disposition::NoAnswer).await;
    assert_eq!(
        test_db.count("select count(*) from ops.campaigns where status = 'failed'").await,
        1,
        "fewer retries hold at once"
    );
    test_db.assert_sound().await;
}

/// A retry that falls into closed hours waits for the window: it is not dialed at night.
#[tokio::test(flavor = "multi_thread")]
async fn retries_stay_in_the_window() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let into = make_campaign(&test_db, 5, None).await;
    add(&test_db, &into, &["+14155550100".to_owned()]).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let calls = claim(&mut connection, 5).await;
    // The window closes while the call is on.
    test_db.run("update lanes set closes_at = clock() + interval '100 milliseconds', refresh_at = 'infinity' where campaign_id is not null").await;
    settle(test_db.pool(), [calls[0].attempt_id], Disposition::Busy).await;
    tokio::time::sleep(Duration::from_millis(120)).await;
    test_db.run(LATER).await;
    assert!(claim(&mut connection, 5).await.is_empty(), "late means closed");
    let reason: String =
        sqlx::query_scalar("select reason from ops.waiting").fetch_one(test_db.pool()).await.expect("reason");
    assert_eq!(reason, "WINDOW_CLOSED");
    windows::commit(
        test_db.pool(),
        windows::change(test_db.pool()).await.expect("change"),
        Scope::Campaign(into.campaign),
    )
    .await
    .expect("reopen");
    assert_eq!(claim(&mut connection, 5).await.len(), 1);
    test_db.assert_sound().await;
}

/// The provider's rate holds over claims, however many ask: never more than a second's worth at once and the rate after that.
#[tokio::test(flavor = "multi_thread")]
async fn dials_per_second_hold_over_all_instances() {
    let test_db = TestDb::new().await;
    let all = numbers(300);
    test_db.enqueue(&all.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let began = std::time::Instant::now();
    let claiming = (0..3).map(|_| {
        let pool = test_db.pool().clone();
        tokio::spawn(async move {
            let mut connection = pool.acquire().await.expect("a connection");
            let mut claimed = 0;
            while began.elapsed() < Duration::from_millis(2500) {
                claimed +=
                    support::claim(&mut connection, Room { dials_per_second: 20.0, ..room(10) }).await.calls.len();
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
            claimed
        })
    });
    let claimed: usize =
        futures::future::join_all(claiming).await.into_iter().map(|each| each.expect("no panic")).sum();
    let most = 20.0 + 20.0 * began.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a few dozen")]
    let claimed = claimed as f64;
    assert!(claimed <= most, "{claimed} dials, {most} allowed");
    assert!(claimed >= 20.0 + 20.0 * 2.0, "only {claimed} dials: the rate is not used");
    let reason: String =
        sqlx::query_scalar("select reason from ops.waiting limit 1").fetch_one(test_db.pool()).await.expect("reason");
    assert!(reason == "PROVIDER_RATE" || reason == "DUE_NOW", "{reason}");
    test_db.assert_sound().await;
}

/// Ten calls of one user beside half a million of another's are dialed at once: the ring is of users.
#[tokio::test(flavor = "multi_thread")]
async fn ten_calls_do_not_wait_behind_half_a_million() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let large = make_campaign(&test_db, 1000, None).await;
    fill(&test_db, &large, 500_000).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    // The large one has all the slots when the small one comes.
    let mut live: Vec<AttemptId> = support::claim(&mut connection, Room { global_limit: 30, ..room(30) })
        .await
        .calls
        .iter()
        .map(|call| call.attempt_id)
        .collect();
    assert_eq!(live.len(), 30);
    let small = make_campaign(&test_db, 5, None).await;
    add(&test_db, &small, &numbers(10)).await;
    let (mut rounds, mut dialed) = (0, 0);
    while dialed < 10 {
        // A third of the calls end, and their slots are given anew.
        settle(test_db.pool(), live.drain(..10), Disposition::Completed).await;
        let calls = support::claim(&mut connection, Room { global_limit: 30, ..room(30) }).await.calls;
        assert_eq!(calls.len(), 10, "every freed slot is used");
        live.extend(calls.iter().map(|call| call.attempt_id));
        dialed = usize::try_from(
            test_db.count("select count(distinct call_id) from attempts where phone like '+1415555%'").await,
        )
        .unwrap();
        rounds += 1;
        assert!(rounds <= 8, "{dialed} of the ten after {rounds} rounds");
    }
    println!("ten calls beside 500,000: dialed in {rounds} rounds of ten slots");
}

/// Waiting calls of a campaign in bulk, with their counts, in the lane of one zone.
async fn fill(test_db: &TestDb, into: &recruit::Into, count: usize) {
    add(test_db, into, &["+12125550100".to_owned()]).await;
    let (campaign, user) = (into.campaign.0, into.user.0);
    let sql = format!(
        "with lane as (select id from lanes where campaign_id = '{campaign}' limit 1),
         added as (
           insert into calls (id, user_id, lane_id, campaign_id, due_at, phone, script_id, dials_max)
           select gen_random_uuid(), '{user}', lane.id, '{campaign}', now() - interval '1 hour', '+1' || (2130000000 + g), 's', 4
           from generate_series(1, {count}) g, lane)
         insert into tally_deltas (lane_id, user_id, campaign_id, what, n) select id, '{user}', '{campaign}', 'PENDING', {count} from lane"
    );
    // On a connection without the service's time limits.
    let mut connection = PgConnection::connect_with(&test_db.options).await.expect("connect");
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("fill");
    test_db.run("update lanes set next_at = now() where campaign_id is not null and blocked_on is null; update user_turns set next_at = now() where next_at > now()").await;
    connection.execute(sqlx::raw_sql("vacuum analyze calls")).await.expect("vacuum");
}

/// Rows of any table written since a transaction.
async fn rows_written_since(test_db: &TestDb, since: i64) -> i64 {
    let tables =
        ["calls", "attempts", "lanes", "campaigns", "schedules", "user_turns", "users", "tallies", "tally_deltas"];
    let mut written = 0;
    for table in tables {
        let sql = format!("select count(*) from {table} where xmin::text::bigint >= {since}");
        written +=
            sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).fetch_one(test_db.pool()).await.expect("count");
    }
    written
}

/// A million numbers: pausing, resuming and new hours each write a handful of rows; counts and reasons are read without looking
/// at the calls. The time each takes is printed.
#[tokio::test(flavor = "multi_thread")]
async fn a_million_numbers_are_steered_by_a_handful_of_rows() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let schedule = ScheduleId(new_id());
    let hours = "[{\"days\":[\"mon\",\"tue\",\"wed\",\"thu\",\"fri\",\"sat\",\"sun\"],\"opens\":\"00:00\",\"closes\":\"00:00\"}]";
    let into = make_campaign(&test_db, 5, None).await;
    sqlx::query(
        "insert into schedules (id, user_id, name, time_zone, hours) values ($1, $2, 's', 'Etc/UTC', $3::jsonb)",
    )
    .bind(schedule.0)
    .bind(into.user)
    .bind(hours)
    .execute(test_db.pool())
    .await
    .expect("a schedule");
    let changes = CampaignChanges { schedule_id: Some(Some(schedule)), ..CampaignChanges::default() };
    queue::update_campaign(test_db.pool(), into.campaign, &changes).await.expect("schedule");
    let service = TestService::start_on(test_db, Role::Api, &[]).await;
    let (id, test_db) = (into.campaign, &service.test_db);
    fill(test_db, &into, 1_000_000).await;
    let (schedule_path, campaign_path) = (format!("/api/v1/schedules/{schedule}"), format!("/api/v1/campaigns/{id}"));
    for (what, path, body) in [
        ("pause", &campaign_path, json!({"paused": true})),
        ("resume", &campaign_path, json!({"paused": false})),
        ("hours", &schedule_path, json!({"hours": hours_later().0})),
        ("hours", &schedule_path, json!({"hours": any_hour()})),
        ("limit", &campaign_path, json!({"maxConcurrentCalls": 7, "maxRetries": 1})),
    ] {
        let since = test_db.count("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").await;
        let began = std::time::Instant::now();
        let (status, answered) = service.patch(path, body).await;
        let took = began.elapsed();
        assert_eq!(status, 200, "{answered}");
        let written = rows_written_since(test_db, since).await;
        println!("{what}: {written} rows written, {took:?}");
        assert!((1..=6).contains(&written), "{what} wrote {written} rows");
    }
    let began = std::time::Instant::now();
    let stats = service.stats(&id.to_string()).await;
    println!("stats of a million: {:?}", began.elapsed());
    assert_eq!(stats["pending"], 1_000_001);
    let began = std::time::Instant::now();
    let explained = service.explain(&id.to_string()).await;
    println!("reasons of a million: {:?}", began.elapsed());
    assert_eq!(explained["waiting"], 1_000_001);
    // Half of them are to be called again within the day to come: nobody looks at those either.
    let mut connection = PgConnection::connect_with(&test_db.options).await.expect("connect");
    let later = format!(
        "update calls set rank = 2, due_at = clock() + interval '1 hour' + (right(phone, 7)::int) * interval '50 milliseconds'
         where campaign_id = '{id}' and phone ~ '[02468]$'"
    );
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(later))).await.expect("later");
    while test_db.count("select count(*) from later_deltas").await > 0 {
        queue::fold_tallies(test_db.pool()).await.expect("fold");
    }
    // As autovacuum does, which comes once a minute.
    connection.execute(sqlx::raw_sql("vacuum later_deltas")).await.expect("vacuum");
    let explained = service.explain(&id.to_string()).await;
    let reason =
        |word| explained["reasons"].as_array().unwrap().iter().find(|reason| reason["reason"] == word).unwrap();
    assert_eq!((&reason("RETRY_LATER")["count"], &reason("DUE_NOW")["count"]), (&json!(500_001), &json!(500_000)));
    // What they read does not grow with the calls.
    for (name, query) in [
        ("stats", format!("select * from ops.campaigns where id = '{id}'")),
        ("explain", format!("select * from ops.explain('{id}')")),
    ] {
        let mut connection = test_db.pool().acquire().await.expect("a connection");
        let buffers = buffers_of(&mut connection, &query).await;
        println!("{name}: {buffers} buffers");
        assert!(buffers < 500, "{name} of a million calls reads {buffers} buffers");
    }
    service.finish().await;
}

/// Three dispatchers storm a lane that closes: by the provider's own clock nothing is dialed at that instant or after it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dialed_at_a_closing_instant() {
    let provider = FakeProvider::start(Manners { lasts_ms: (1, 10), ..CALM }).await;
    let settings = provider.settings();
    let mut pairs: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    pairs.push(("OUTDIAL_SCHEDULER__TICK_MS", "60000"));
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let name = test_db.options.get_database().expect("a name").to_owned();
    let (second, third) = (test_db.on(&name), test_db.on(&name));
    let first = TestService::start_on(test_db, Role::All, &pairs).await;
    report_to(&provider, &first);
    let second = TestService::start_on(second, Role::Worker, &pairs).await;
    let third = TestService::start_on(third, Role::Worker, &pairs).await;
    let test_db = &first.test_db;
    let into = make_campaign(test_db, 1000, None).await;
    fill(test_db, &into, 20_000).await;
    // The end of a window, a little later than the guard before it.
    let guard = config(&[]).calls.dial_guard_secs;
    let sql = "update lanes set closes_at = date_trunc('milliseconds', clock()) + make_interval(secs => $2) where campaign_id = $1 returning closes_at";
    let closes: DateTime<Utc> =
        sqlx::query_scalar(sql).bind(into.campaign).bind(guard + 1.2).fetch_one(test_db.pool()).await.expect("close");
    first
        .client
        .post(format!("{}/api/v1/campaigns/{}/resume", first.base, into.campaign))
        .send()
        .await
        .expect("a bell");
    tokio::time::sleep((closes + TimeDelta::milliseconds(700) - Utc::now()).to_std().expect("later")).await;
    {
        let account = provider.account();
        let last = account.calls.iter().map(|call| call.at).max().expect("some were dialed");
        println!("{} dialed, the last {} ms before the end", account.calls.len(), (closes - last).num_milliseconds());
        assert!(last < closes, "dialed at {last}, closed at {closes}");
        assert!(account.calls.len() > 100, "no storm: {}", account.calls.len());
    }
    for service in [first, second, third] {
        service.finish().await;
    }
}
