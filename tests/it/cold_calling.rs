//! Prospects: planned by the users' settings, called, and settled, with minutes and days that add up.

use std::process::Command;

use outdial::db::embedded;
use outdial::domain::disposition::Disposition;
use outdial::domain::ids::{AttemptId, UserId, new_id};
use outdial::domain::word::{Ended, Outcome, Weight, Word};
use outdial::outcome::inbox::Heard;
use outdial::outcome::{self, Memory};
use outdial::planner::{self, Limits};
use outdial::queue::{self, Claimed, ProspectChanges};
use outdial::service::{Role, rules_of};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::fake_provider::{FakeProvider, Manners};
use crate::support::{self, ANY_HOUR, TestDb, TestService, answer, buffers_of, config, room};

/// What the calling platform's own scripts insert, as they are.
const SEED: &str = r#"
     INSERT INTO "User" (id, name, email, clerkId, createdAt, updatedAt)
     VALUES ('user1-id', 'User1', 'user1@example.com', 'clerk1', NOW(), NOW());
     INSERT INTO "Prospect" (id, name, phone, userId, status, lastContacted, rescheduledFor)
     VALUES ('p1-id', 'Prospect1', '+1234567890', 'user1-id', 'INITIAL', NULL, NULL);
     INSERT INTO "Setting" (id, userId, theme) VALUES ('setting1-id', 'user1-id', 'LIGHT');
     INSERT INTO "AdvancedSetting" (id, settingId, timeZone, startAt, endAt)
     VALUES ('adv1-id', 'setting1-id', 'America/New_York', '2025-02-25 09:00:00', '2025-02-25 17:00:00');
     INSERT INTO "ScriptSetting" (id, settingId, initial, followUp)
     VALUES ('script1-id', 'setting1-id', 'Hello...', 'Hi, calling back...');
     INSERT INTO "AgentSetting" (id, settingId, language, voice, firstMessage)
     VALUES ('agent1-id', 'setting1-id', 'en', 'female', 'Hi {prospectName}');
     INSERT INTO "Plan" (id, name, price, minutes, duration, perDay)
     VALUES ('plan1-id', 'Basic', 10.0, 600, 30, 10);
     INSERT INTO "Subscription" (id, userId, planId, minutesLeft, status)
     VALUES ('sub1-id', 'user1-id', 'plan1-id', 600, 'ACTIVE');
"#;

/// Runs statements in psql, at a time of the database's clock.
fn psql(test_db: &TestDb, at: &str, sql: &str) {
    let bin = embedded::find_binaries(std::path::Path::new("")).expect("Postgres").join("psql");
    let output = Command::new(bin)
        .args(["-v", "ON_ERROR_STOP=1", "-q", "-U", "postgres", "-h"])
        .arg(test_db.options.get_socket().expect("a socket"))
        .args(["-d", test_db.options.get_database().expect("a name"), "-c", sql])
        .env("PGOPTIONS", format!("-c outdial.now={at}"))
        .output()
        .expect("psql runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A provider that says nothing by itself.
const SILENT: Manners = Manners { seed: 1, lasts_ms: (3_600_000, 3_600_000), answers_lost: 0, webhooks_doubled: 0 };

/// The service at one moment of the story; its database's clock stands still.
async fn service_at(test_db: &TestDb, provider: &FakeProvider, at: &str) -> TestService {
    let settings = provider.settings();
    let pairs: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    TestService::start_on(test_db.at(at), Role::All, &pairs).await
}

/// The platform's example day, step by step: planned at 14:00 UTC, called at 14:00 and 14:15, settled at 14:05 and 14:16.
#[tokio::test(flavor = "multi_thread")]
async fn the_example_day_goes_as_written() {
    let test_db = TestDb::new().await;
    let provider = FakeProvider::start(SILENT).await;
    psql(&test_db, "2025-02-25T13:59:00Z", SEED);
    let second = r#"INSERT INTO "Prospect" (id, name, phone, userId, status, lastContacted, rescheduledFor)
        VALUES ('p2-id', 'Prospect2', '+1234567891', 'user1-id', 'RESCHEDULED', NULL, '2025-02-25 14:15:00Z')"#;
    psql(&test_db, "2025-02-25T13:59:00Z", second);
    let conversation = "select a.id::text from attempts a join calls c on c.id = a.call_id join prospects p on p.id = c.prospect_id where p.external_id = $1";
    let conversation = async |prospect: &str| -> String {
        sqlx::query_scalar(conversation).bind(prospect).fetch_one(&test_db.db.read).await.expect("a conversation")
    };

    // 14:00 UTC, 9:00 in New York: P1 is planned for now, P2 stands at 14:15; P1 is called.
    let service = service_at(&test_db, &provider, "2025-02-25T14:00:00Z").await;
    service.wait_until("/api/v1/users/user1-id/planning", |report| report["planned"].is_array()).await;
    let (_, report) = service.get("/api/v1/users/user1-id/planning").await;
    let times: Vec<&str> =
        report["data"]["planned"].as_array().unwrap().iter().map(|p| p["scheduledTime"].as_str().unwrap()).collect();
    assert_eq!(times.len(), 2, "{report}");
    assert!(times.contains(&"2025-02-25T14:00:00Z") && times.contains(&"2025-02-25T14:15:00Z"), "{times:?}");
    let status = async |service: &TestService, prospect: &str| {
        let (_, body) = service.get(&format!("/api/v1/users/user1-id/prospects/{prospect}")).await;
        body["data"]["status"].as_str().unwrap_or_default().to_owned()
    };
    service.wait_until("/api/v1/users/user1-id/prospects/p1-id", |prospect| prospect["status"] == "IN_CALL").await;
    assert_eq!(status(&service, "p2-id").await, "RESCHEDULED");
    test_db.wait_for("select count(*) from attempts where state = 'accepted'", 1).await;
    let (_, subscription) = service.get("/api/v1/users/user1-id/subscription").await;
    assert_eq!(
        (&subscription["data"]["minutesLeft"], &subscription["data"]["minutesReserved"]),
        (&json!(600), &json!(10))
    );
    {
        let account = provider.account();
        assert_eq!((account.calls.len(), account.calls[0].to.as_str()), (1, "+1234567890"));
        assert_eq!(account.calls[0].script, "Hello...", "a first contact");
        assert_eq!(account.agents[0], json!({"language": "en", "voice": "female", "firstMessage": "Hi Prospect1"}));
    }
    service.finish().await;

    // 14:05: booked. Told twice, it counts once.
    let service = service_at(&test_db, &provider, "2025-02-25T14:05:00Z").await;
    let booked = json!({"eventType": "call.completed", "conversationId": conversation("p1-id").await, "duration": 240, "transcript": "Booked!",
        "outcome": {"type": "APPOINTMENT_SET", "appointmentTime": "2025-02-26T15:00:00Z"}});
    for _ in 0..2 {
        assert_eq!(service.post("/webhooks/outcome", booked.clone()).await.0, 200);
    }
    assert_eq!(status(&service, "p1-id").await, "BOOKED");
    let (_, appointments) = service.get("/api/v1/appointments?userId=user1-id").await;
    assert_eq!(appointments["pagination"]["total"], 1, "{appointments}");
    assert_eq!(appointments["data"][0]["startsAt"], "2025-02-26T15:00:00Z");
    let (_, subscription) = service.get("/api/v1/users/user1-id/subscription").await;
    assert_eq!(
        (&subscription["data"]["minutesLeft"], &subscription["data"]["minutesReserved"]),
        (&json!(596), &json!(0))
    );
    let (_, talk) = service.get(&format!("/api/v1/conversations/{}", conversation("p1-id").await)).await;
    assert_eq!((&talk["data"]["transcript"], &talk["data"]["minutes"]), (&json!("Booked!"), &json!(4)), "{talk}");
    service.finish().await;

    // 14:15: P2, as promised.
    let service = service_at(&test_db, &provider, "2025-02-25T14:15:00Z").await;
    service.wait_until("/api/v1/users/user1-id/prospects/p2-id", |prospect| prospect["status"] == "IN_CALL").await;
    test_db.wait_for("select count(*) from attempts where state = 'accepted'", 1).await;
    assert_eq!(provider.account().calls[1].script, "Hi, calling back...", "a later contact");
    service.finish().await;

    // 14:16: unreachable; users made this way have one dial.
    let service = service_at(&test_db, &provider, "2025-02-25T14:16:00Z").await;
    let failed = json!({"eventType": "call.failed", "conversationId": conversation("p2-id").await, "failureReason": "Unreachable"});
    assert_eq!(service.post("/webhooks/outcome", failed).await.0, 200);
    assert_eq!(status(&service, "p2-id").await, "FAILED");
    assert_eq!(provider.account().calls.len(), 2);
    let (_, subscription) = service.get("/api/v1/users/user1-id/subscription").await;
    assert_eq!(subscription["data"]["minutesLeft"], 596);
    assert_eq!(subscription["data"]["dialsToday"], 2);
    service.finish().await;
}

// --- on the queue itself -----------------------------------------------------------------------------------------------------

async fn claim(connection: &mut PgConnection, want: usize) -> Vec<Claimed> {
    support::claim(connection, room(want)).await.calls
}

fn ended(disposition: Disposition, duration_secs: Option<i32>, outcome: Option<Outcome>) -> Word {
    let weight = if outcome.is_some() { Weight::Explicit } else { Weight::Status };
    Word::Ended(Ended { outcome, duration_secs, ..Ended::of(disposition, weight) })
}

async fn settle(test_db: &TestDb, attempt: AttemptId, word: Word) {
    settle_by_memory(test_db, attempt, word, &mut Memory::new()).await;
}

/// As the process that dials does: on what it remembers, fenced by the revision.
async fn settle_by_memory(test_db: &TestDb, attempt: AttemptId, word: Word, memory: &mut Memory) {
    let mut settling = queue::feed(test_db.pool()).await.expect("feed");
    let rules = rules_of(&config(&[("OUTDIAL_SIMULATOR__SPEED", "1")]));
    outcome::settle(&mut settling, &[Heard::about(attempt, word, "test")], &rules, memory).await.expect("settle");
    settling.commit().await.expect("commit");
}

/// A user with settings, `minutes`, and dials a day.
async fn user_with(test_db: &TestDb, minutes: i32, per_day: Option<i32>) -> UserId {
    let user = UserId(new_id());
    let sql = "with u as (insert into users (id, name, time_zone) values ($1, 'u', 'America/New_York') returning id),
        s as (insert into user_settings (user_id, opens, closes, script_initial, script_follow_up) select id, '00:00', '00:00', 'first {prospectName}', 'again {prospectName}' from u),
        p as (insert into plans (id, name, minutes, duration_days, per_day) values ($1, 'plan', $2, 30, $3) returning id)
        insert into subscriptions (user_id, plan_id, minutes_left, period_ends_at) select $1, $1, $2, clock() + interval '30 days' from u, p";
    sqlx::query(sql).bind(user).bind(minutes).bind(per_day).execute(test_db.pool()).await.expect("a user");
    queue::turn_days(test_db.pool(), 100).await.expect("days");
    user
}

/// Prospects of a user, `count` of them.
async fn prospects(test_db: &TestDb, user: UserId, from: i64, count: i64) {
    let sql = "insert into prospects (id, user_id, name, phone)
        select uuid_v7(), $1, 'Jo ' || g, '+1415' || (2000000 + g) from generate_series($2::bigint, $2 + $3 - 1) g";
    sqlx::query(sql).bind(user).bind(from).bind(count).execute(test_db.pool()).await.expect("prospects");
}

const LIMITS: Limits = Limits { users: 5, calls_per_user: 100, interval_secs: 1800.0 };

/// Minutes are reserved when a call is dialed and settled by its length: with a hundred calls waiting the balance never goes below
/// zero, what is talked beyond it is recorded, and a new period refills it.
#[tokio::test(flavor = "multi_thread")]
async fn minutes_are_held_and_settled() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let user = user_with(&test_db, 25, None).await;
    prospects(&test_db, user, 0, 100).await;
    let reports = planner::plan(test_db.pool(), LIMITS).await.expect("plan");
    assert_eq!(reports[0].planned.len(), 3, "25 minutes are three calls of ten at most: {reports:?}");
    // More wait than there are minutes for.
    test_db.enqueue_for(user, 20).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let calls = claim(&mut connection, 100).await;
    let mut reserved: Vec<i32> = calls.iter().filter_map(|call| call.minutes_max).collect();
    reserved.sort_unstable();
    assert_eq!(reserved, [5, 10, 10]);
    assert!(claim(&mut connection, 100).await.is_empty(), "nothing is left to reserve");
    let reason = "select count(*) from ops.waiting where reason = 'QUOTA_MINUTES'";
    assert_eq!(test_db.count(reason).await, 20);
    // One was short, one no dial at all: their minutes come back, and wake what slept.
    settle(&test_db, calls[0].attempt_id, ended(Disposition::Completed, Some(61), None)).await;
    settle(&test_db, calls[1].attempt_id, Word::NotSent { reason: "test".to_owned() }).await;
    let left = "select minutes_left from subscriptions";
    assert_eq!(test_db.count(left).await, 23);
    let more = claim(&mut connection, 100).await;
    assert_eq!(more.len(), 2, "10 and what is left");
    // They talk far longer than reserved: never below zero, the rest is overage.
    for call in more.iter().chain([&calls[2]]) {
        settle(&test_db, call.attempt_id, ended(Disposition::Completed, Some(20 * 60), None)).await;
    }
    assert_eq!(test_db.count(left).await, 0);
    assert_eq!(test_db.count("select overage_minutes from subscriptions").await, 60 - 23);
    // A later word corrects the length.
    settle(&test_db, calls[0].attempt_id, ended(Disposition::Completed, Some(61), None)).await;
    assert_eq!(test_db.count("select overage_minutes from subscriptions").await, 37, "told again, it changes nothing");
    assert!(claim(&mut connection, 100).await.is_empty());
    test_db.run("update subscriptions set period_ends_at = clock() - interval '1 hour'").await;
    assert_eq!(queue::refill(test_db.pool(), 10).await.expect("refill"), 1);
    assert_eq!(test_db.count("select minutes_left - overage_minutes from subscriptions where period_ends_at > clock() + interval '29 days'").await, 25);
    assert_eq!(claim(&mut connection, 100).await.len(), 3, "a new period wakes what slept");
    test_db.assert_sound().await;
}

/// Words about one call that are settled together are all heard: an end, how long it was, and what came of it.
#[tokio::test(flavor = "multi_thread")]
async fn words_that_come_together_are_all_heard() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let user = user_with(&test_db, 100, None).await;
    test_db.enqueue_for(user, 2).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let calls = claim(&mut connection, 10).await;
    let booked = Outcome { appointment_time: Some(chrono::Utc::now()), ..Outcome::of(Disposition::AppointmentSet) };
    let words = [
        (0, ended(Disposition::Completed, None, None)),
        (0, ended(Disposition::Completed, Some(61), None)),
        (0, ended(Disposition::AppointmentSet, None, Some(booked))),
        (1, Word::Doubt { reason: "test".to_owned(), sent_ms_ago: 0 }),
        (1, ended(Disposition::Completed, Some(5), None)),
    ];
    let heard: Vec<Heard> =
        words.into_iter().map(|(nth, word)| Heard::about(calls[nth].attempt_id, word, "test")).collect();
    let mut settling = queue::feed(test_db.pool()).await.expect("feed");
    let rules = rules_of(&config(&[]));
    let report = outcome::settle(&mut settling, &heard, &rules, &mut Memory::new()).await.expect("settle");
    settling.commit().await.expect("commit");
    assert!(report.became.iter().all(|became| *became == outcome::Became::Applied), "{:?}", report.became);
    assert_eq!(test_db.count("select minutes_left from subscriptions").await, 97);
    assert_eq!(test_db.count("select count(*) from appointments").await, 1);
    test_db.assert_sound().await;
}

/// Dials a day are counted on the user's clock; what was no dial is given back; the next day begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn days_are_counted_on_the_users_clock() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let user = user_with(&test_db, 1000, Some(3)).await;
    test_db.enqueue_for(user, 10).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let calls = claim(&mut connection, 100).await;
    assert_eq!(calls.len(), 3);
    settle(&test_db, calls[0].attempt_id, ended(Disposition::Completed, Some(30), None)).await;
    assert!(claim(&mut connection, 100).await.is_empty(), "a finished dial still counts");
    settle(&test_db, calls[1].attempt_id, Word::Capacity { retry_after_ms: 1 }).await;
    assert_eq!(claim(&mut connection, 100).await.len(), 1, "a refusal for capacity is no dial");
    let (reason, ends): (String, bool) = sqlx::query_as(
        "select w.reason, w.clears_at = s.day_ends_at from ops.waiting w join subscriptions s on s.user_id = w.user_id limit 1",
    )
    .fetch_one(test_db.pool())
    .await
    .expect("a reason");
    assert_eq!((reason.as_str(), ends), ("QUOTA_PER_DAY", true));
    test_db.assert_sound().await;
    test_db.run("update subscriptions set day = day - 1, day_ends_at = clock() - interval '1 second'; update attempts set counted_on = counted_on - 1").await;
    assert!(claim(&mut connection, 100).await.is_empty(), "closed until the day is turned");
    queue::turn_days(test_db.pool(), 10).await.expect("turn");
    assert_eq!(claim(&mut connection, 100).await.len(), 3);
    test_db.assert_sound().await;
}

/// A user without settings, subscription, minutes or prospects is skipped with that reason; ten users are covered in two batches.
#[tokio::test(flavor = "multi_thread")]
async fn users_take_turns_and_skips_say_why() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let mut users = Vec::new();
    for nth in 0..10 {
        let user = user_with(&test_db, 600, Some(10)).await;
        if nth != 9 {
            prospects(&test_db, user, nth * 100, 2).await;
        }
        users.push(user);
    }
    for (nth, sql) in [
        (0, "update user_settings set opens = null, closes = null where user_id = $1"),
        (1, "delete from subscriptions where user_id = $1"),
        (2, "update subscriptions set status = 'PAUSED' where user_id = $1"),
        (3, "update subscriptions set minutes_left = 0 where user_id = $1"),
        (4, "update subscriptions set day_dials = 10 where user_id = $1"),
        (5, "update prospects set variables = '{\"prospectName\": \"\"}' where user_id = $1"),
    ] {
        sqlx::query(sql).bind(users[nth]).execute(test_db.pool()).await.expect(sql);
    }
    let mut reports = planner::plan(test_db.pool(), LIMITS).await.expect("first batch");
    assert_eq!(reports.len(), 5);
    reports.extend(planner::plan(test_db.pool(), LIMITS).await.expect("second batch"));
    let of = |user: UserId| reports.iter().find(|report| report.user_id == user.0).expect("every user had a turn");
    let skipped: Vec<&str> = users.iter().map(|user| of(*user).skipped.as_deref().unwrap_or("")).collect();
    assert_eq!(
        skipped,
        [
            "NO_SETTINGS",
            "NO_SUBSCRIPTION",
            "SUBSCRIPTION_INACTIVE",
            "QUOTA_MINUTES",
            "QUOTA_PER_DAY",
            "",
            "",
            "",
            "",
            "NO_PROSPECTS"
        ]
    );
    assert!(of(users[5]).not_planned.iter().all(|refused| refused.reason == "VARIABLE_MISSING"));
    assert_eq!((of(users[5]).not_planned.len(), of(users[6]).planned.len()), (2, 2));
    // Again: nothing is planned twice.
    for _ in 0..2 {
        planner::plan(test_db.pool(), LIMITS).await.expect("again");
    }
    assert_eq!(test_db.count("select count(*) from calls").await, 6);
    // By the clock, one batch in an interval over all processes.
    assert!(planner::plan_if_due(test_db.pool(), LIMITS).await.expect("due").is_some());
    assert!(planner::plan_if_due(test_db.pool(), LIMITS).await.expect("due").is_none());
}

/// Wished for first, then the longest since last contact, fewer reschedules, oldest.
#[tokio::test(flavor = "multi_thread")]
async fn prospects_are_planned_in_order() {
    let test_db = TestDb::new().await;
    let user = user_with(&test_db, 600, None).await;
    let rows = "insert into prospects (id, user_id, external_id, name, phone, status, last_contacted_at, reschedules, created_at) values
        (uuid_v7(), $1, 'recent', 'a', '+14155550101', 'INITIAL', now() - interval '1 day', 0, now() - interval '9 days'),
        (uuid_v7(), $1, 'long ago', 'a', '+14155550102', 'INITIAL', now() - interval '8 days', 0, now() - interval '9 days'),
        (uuid_v7(), $1, 'never, young', 'a', '+14155550103', 'INITIAL', null, 0, now()),
        (uuid_v7(), $1, 'never, old', 'a', '+14155550104', 'INITIAL', null, 0, now() - interval '5 days'),
        (uuid_v7(), $1, 'never, moved', 'a', '+14155550105', 'INITIAL', null, 2, now() - interval '6 days'),
        (uuid_v7(), $1, 'wished', 'a', '+14155550106', 'RESCHEDULED', now() - interval '1 day', 3, now()),
        (uuid_v7(), $1, 'booked', 'a', '+14155550107', 'BOOKED', null, 0, now())";
    sqlx::query(rows).bind(user).execute(test_db.pool()).await.expect("prospects");
    planner::plan(test_db.pool(), LIMITS).await.expect("plan");
    let order: Vec<String> =
        sqlx::query_scalar("select p.external_id from calls c join prospects p on p.id = c.prospect_id order by c.id")
            .fetch_all(test_db.pool())
            .await
            .expect("calls");
    assert_eq!(order, ["wished", "never, old", "never, young", "never, moved", "long ago", "recent"]);
}

/// What each outcome makes of a prospect; a callback keeps its promised time; the user's own retry rules hold.
#[tokio::test(flavor = "multi_thread")]
async fn outcomes_become_statuses() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let user = user_with(&test_db, 6000, None).await;
    let rules = "update user_settings set max_attempts = 2, retry_rules = '{\"BUSY\": {\"delaySeconds\": 7}, \"VOICEMAIL\": {\"maxDials\": 1}}'";
    test_db.run(rules).await;
    prospects(&test_db, user, 0, 10).await;
    planner::plan(test_db.pool(), LIMITS).await.expect("plan");
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let calls = claim(&mut connection, 100).await;
    assert_eq!(calls.len(), 10);
    let tomorrow = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let told = |disposition, callback_time| Some(Outcome { callback_time, ..Outcome::of(disposition) });
    use Disposition as D;
    let stories = [
        (D::AppointmentSet, told(D::AppointmentSet, None), "BOOKED"),
        (D::NotInterested, told(D::NotInterested, None), "NOT_INTERESTED"),
        (D::DoNotCall, told(D::DoNotCall, None), "DO_NOT_CALL"),
        (D::CallbackRequested, told(D::CallbackRequested, Some(tomorrow)), "RESCHEDULED"),
        (D::CallbackRequested, told(D::CallbackRequested, None), "RESCHEDULED"),
        (D::WrongNumber, told(D::WrongNumber, None), "FAILED"),
        (D::Completed, None, "FAILED"),
        (D::Voicemail, None, "FAILED"),
        (D::Busy, None, "SCHEDULED"),
        (D::NoAnswer, None, "SCHEDULED"),
    ];
    for (call, (disposition, outcome, status)) in calls.iter().zip(&stories) {
        settle(&test_db, call.attempt_id, ended(*disposition, Some(60), outcome.clone())).await;
        let now: (String, Option<chrono::DateTime<chrono::Utc>>) =
            sqlx::query_as("select p.status, p.rescheduled_for from ops.prospects p join calls c on c.prospect_id = p.id where c.id = $1")
                .bind(call.call_id)
                .fetch_one(test_db.pool())
                .await
                .expect("a prospect");
        assert_eq!(now.0, *status, "{disposition:?}");
        let promised = outcome.as_ref().and_then(|outcome| outcome.callback_time);
        assert_eq!(now.1.map(|at| at.timestamp_millis()), promised.map(|at| at.timestamp_millis()), "{disposition:?}");
    }
    let delay = "select round(extract(epoch from due_at - clock()))::bigint from calls where disposition = 'BUSY'";
    assert!((6..=7).contains(&test_db.count(delay).await), "the user's own delay");
    assert_eq!(test_db.count("select count(*) from appointments").await, 1);
    assert_eq!(test_db.count("select count(*) from suppressions").await, 1);
    // The wish without a time is planned again, the next day; nobody else is. (95e55f8: by the next batch, and each after it.)
    let planned = async || {
        let report = planner::plan(test_db.pool(), LIMITS).await.expect("plan");
        report[0].planned.iter().filter(|planned| !planned.promised).count()
    };
    assert_eq!(planned().await, 0);
    test_db.run("update prospects set last_contacted_at = last_contacted_at - interval '1 day'").await;
    assert_eq!(planned().await, 1);
    assert_eq!(test_db.count("select minutes_left from subscriptions").await, 6000 - 10);
    test_db.assert_sound().await;
}

/// A prospect that is changed by hand takes its call along: a promise is enqueued and moved by the statement that writes it, a number
/// that changes is placed anew, and who is not to be called has no call.
#[tokio::test(flavor = "multi_thread")]
async fn calls_follow_their_prospects() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let service = TestService::start_on(test_db, Role::Api, &[]).await;
    let (_, user) = service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await;
    assert_eq!(user["data"]["externalId"], "ann");
    let settings = json!({"timeZone": "America/New_York", "callingHours": {"startAt": "00:00", "endAt": "00:00"},
        "script": {"initial": "Hi {prospectName}", "followUp": "Hi again"}, "maxConcurrentCalls": 2});
    let put = service.client.put(format!("{}/api/v1/users/ann/settings", service.base)).json(&settings);
    assert_eq!(answer(put).await.0, 200);
    service.post("/api/v1/plans", json!({"name": "p", "externalId": "p", "minutes": 1000, "duration": 30})).await;
    let put =
        service.client.put(format!("{}/api/v1/users/ann/subscription", service.base)).json(&json!({"planId": "p"}));
    assert_eq!(answer(put).await.0, 200);
    let at = chrono::Utc::now() + chrono::TimeDelta::hours(5);
    let person = json!({"name": "Jo", "phone": "+1 415 555 0100", "externalId": "jo", "rescheduledFor": at});
    let (status, jo) = service.post("/api/v1/users/ann/prospects", person.clone()).await;
    assert_eq!((status, &jo["data"]["status"]), (201, &json!("RESCHEDULED")), "{jo}");
    let (status, twin) = service.post("/api/v1/users/ann/prospects", person).await;
    assert_eq!((status, &twin["code"]), (409, &json!("duplicate_prospect")));
    let call = jo["data"]["callId"].as_str().expect("a call").to_owned();
    let (_, shown) = service.get(&format!("/api/v1/calls/{call}")).await;
    assert_eq!(shown["data"]["waiting"]["reason"], "SCHEDULED_LATER", "{shown}");
    let sorted = "select count(*) from calls c join lanes l on l.id = c.lane_id where l.country = 'US' and 'America/Los_Angeles' = any (l.zones) and c.rank = 0";
    assert_eq!(service.test_db.count(sorted).await, 1, "it waits in the lane of its zone, first");
    let later = at + chrono::TimeDelta::hours(1);
    let path = "/api/v1/users/ann/prospects/jo";
    assert_eq!(service.patch(path, json!({"rescheduledFor": later, "phone": "+12125550100"})).await.0, 200);
    let (_, shown) = service.get(&format!("/api/v1/calls/{call}")).await;
    assert_eq!(shown["data"]["payload"]["to"], "+12125550100");
    assert_eq!(shown["data"]["scheduledAt"].as_str().unwrap()[..19], later.to_rfc3339()[..19]);
    assert_eq!(service.patch(path, json!({"status": "NOT_INTERESTED"})).await.1["data"]["status"], "NOT_INTERESTED");
    service.wait_for_status(&call, "CANCELED").await;
    assert_eq!(service.delete(path).await, 204);
    assert_eq!(service.get(path).await.0, 404);
    for (body, field) in [
        (json!({"phone": "12"}), "phone"),
        (json!({"phone": "+14155550101", "timeZone": "Mars/Olympus"}), "timeZone"),
        (json!({"phone": "+14155550101", "status": "BOOKED", "rescheduledFor": later}), "rescheduledFor"),
        (json!({"phone": "+14155550101", "status": "SCHEDULED"}), "status"),
    ] {
        let (status, body) = service.post("/api/v1/users/ann/prospects", body).await;
        assert!(status == 400 && body.to_string().contains(&format!("\"{field}")), "{field}: {body}");
    }
    service.finish().await;
}

/// A batch costs the same with 10,000 users of 100 prospects as with ten, and takes the users longest unplanned.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_costs_the_same_as_users_grow() {
    let mut buffers = Vec::new();
    for users in [10, 10_000] {
        let test_db = TestDb::new().await;
        let mut connection = PgConnection::connect_with(&test_db.options).await.expect("connect");
        let fill = format!(
            "set outdial.service = 'on'; insert into users (id, name, time_zone) select md5('u' || g)::uuid, 'u', 'America/New_York' from generate_series(1, {users}) g;
             insert into user_settings (user_id, opens, closes, script_initial, script_follow_up)
               select md5('u' || g)::uuid, '00:00', '00:00', 'hi', 'hi' from generate_series(1, {users}) g;
             insert into plans (id, name, minutes, duration_days) values (md5('plan')::uuid, 'p', 600, 30);
             insert into subscriptions (user_id, plan_id, minutes_left, period_ends_at)
               select md5('u' || g)::uuid, md5('plan')::uuid, 600, now() + interval '30 days' from generate_series(1, {users}) g;
             alter table prospects disable trigger user;
             insert into prospects (id, user_id, name, phone)
               select gen_random_uuid(), md5('u' || g)::uuid, 'Jo', '+1' || (2000000000::bigint + g * 100 + n) from generate_series(1, {users}) g, generate_series(1, 100) n;
             alter table prospects enable trigger user;
             update planning set planned_at = now() - interval '1 hour';
             update planning set planned_at = '2020-01-01' where user_id in (md5('u3')::uuid, md5('u7')::uuid)"
        );
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(fill))).await.expect("fill");
        connection.execute("vacuum analyze").await.expect("vacuum");
        // As the service's connections are.
        connection.execute("set jit = off; set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off").await.expect("set");
        let mut total = 0;
        let user = "'".to_owned()
            + &sqlx::query_scalar::<_, String>("select md5('u3')::uuid::text")
                .fetch_one(&mut connection)
                .await
                .expect("id")
            + "'";
        for (name, types, sql, arguments) in [
            ("take", "bigint", include_str!("../../sql/store/planning_take.sql"), "5".to_owned()),
            ("facts", "uuid", include_str!("../../sql/store/planning_facts.sql"), user.clone()),
            (
                "candidates",
                "uuid, bigint",
                include_str!("../../sql/store/planning_candidates.sql"),
                format!("{user}, 150"),
            ),
            (
                "promises",
                "uuid, float8",
                include_str!("../../sql/store/planning_promises.sql"),
                format!("{user}, 1800"),
            ),
        ] {
            connection
                .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("prepare {name} ({types}) as {sql}"))))
                .await
                .expect(name);
            let touched = buffers_of(&mut connection, &format!("execute {name}({arguments})")).await;
            println!("{users} users: {name} touches {touched} buffers");
            total += touched;
        }
        buffers.push(total);
        let first = outdial::store::planning::take_users(test_db.pool(), 2).await.expect("take");
        let longest = test_db.count("select count(*) from planning where user_id in (md5('u3')::uuid, md5('u7')::uuid) and planned_at > '2021-01-01'").await;
        assert_eq!((first.len(), longest), (2, 2), "those longest unplanned come first");
    }
    println!("a batch touches {} buffers with 10 users, {} with 10,000", buffers[0], buffers[1]);
    #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a few hundred")]
    let (few, many) = (buffers[0] as f64, buffers[1] as f64);
    assert!(many <= few * 1.5 + 20.0, "{many} buffers, {few} with ten users");
}

/// What a person says while the call is on stands: who is not to be called any more is not dialed again, whatever the call comes to,
/// and a time that is promised meanwhile is kept.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_during_a_call_stands() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let user = user_with(&test_db, 6000, None).await;
    prospects(&test_db, user, 0, 5).await;
    planner::plan(test_db.pool(), LIMITS).await.expect("plan");
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let calls = claim(&mut connection, 100).await;
    assert_eq!(calls.len(), 5);
    let tomorrow = chrono::Utc::now() + chrono::TimeDelta::days(1);
    let ids: Vec<uuid::Uuid> = calls.iter().map(|call| call.prospect_id.expect("a prospect").0).collect();
    let say = async |nth: usize, status: &'static str, at: Option<chrono::DateTime<chrono::Utc>>, deleted: bool| {
        let to = ProspectChanges {
            status: (!deleted).then_some(status),
            rescheduled_for: at.map(Some),
            deleted,
            ..ProspectChanges::default()
        };
        queue::update_prospect(test_db.pool(), ids[nth], &to).await.expect("say");
    };
    say(0, "NOT_INTERESTED", None, false).await;
    say(1, "BOOKED", None, false).await;
    say(2, "", None, true).await;
    say(3, "RESCHEDULED", Some(tomorrow), false).await;
    say(4, "RESCHEDULED", Some(tomorrow), false).await;
    let mut memory: Memory = calls.iter().map(|call| (call.attempt_id, call.facts.clone())).collect();
    let callback = Outcome { callback_time: Some(tomorrow), ..Outcome::of(Disposition::CallbackRequested) };
    settle_by_memory(&test_db, calls[0].attempt_id, ended(Disposition::Busy, None, None), &mut memory).await;
    settle_by_memory(
        &test_db,
        calls[1].attempt_id,
        ended(Disposition::CallbackRequested, Some(60), Some(callback)),
        &mut memory,
    )
    .await;
    settle_by_memory(&test_db, calls[2].attempt_id, ended(Disposition::NoAnswer, None, None), &mut memory).await;
    settle_by_memory(&test_db, calls[3].attempt_id, ended(Disposition::Busy, None, None), &mut memory).await;
    settle_by_memory(&test_db, calls[4].attempt_id, ended(Disposition::WrongNumber, Some(5), None), &mut memory).await;
    let now = async |nth: usize| -> (String, Option<String>) {
        sqlx::query_as("select p.status, (select c.state::text || ' ' || c.rank || ' ' || (c.due_at = $2) from calls c where c.prospect_id = p.id and c.state in ('waiting', 'parked', 'live')) from prospects p where p.id = $1")
            .bind(ids[nth]).bind(tomorrow).fetch_one(test_db.pool()).await.expect("a prospect")
    };
    assert_eq!(now(0).await, ("NOT_INTERESTED".to_owned(), None));
    assert_eq!(now(1).await, ("BOOKED".to_owned(), None));
    assert_eq!(now(2).await.1, None, "deleted: no call");
    let kept = Some("waiting 0 true".to_owned());
    assert_eq!(now(3).await, ("RESCHEDULED".to_owned(), kept.clone()), "the same call, at the new time");
    assert_eq!(now(4).await, ("RESCHEDULED".to_owned(), kept), "a new call, at the new time");
    test_db.run("update calls set due_at = clock() where state = 'waiting' and rank <> 0; update lanes set next_at = clock() where blocked_on is null; update user_turns set next_at = clock()").await;
    assert!(claim(&mut connection, 100).await.is_empty(), "nobody is dialed again");
    assert_eq!(
        planner::plan(test_db.pool(), LIMITS).await.expect("plan")[0]
            .planned
            .iter()
            .filter(|planned| !planned.promised)
            .count(),
        0
    );
    test_db.assert_sound().await;
}

/// A promise to somebody whose user has no hours or scripts yet waits for them; the planner is not held up by those it cannot plan; a
/// lane whose zone is nonsense closes itself alone.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_called_without_settings_and_nobody_holds_up_others() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    psql(
        &test_db,
        &chrono::Utc::now().to_rfc3339(),
        r#"INSERT INTO "User" (id, name) VALUES ('bare', 'Bare');
        INSERT INTO "Prospect" (id, name, phone, userId, status, rescheduledFor) VALUES ('jo', 'Jo', '+14155550100', 'bare', 'INITIAL', NOW())"#,
    );
    queue::take_in(test_db.pool()).await.expect("take in");
    queue::windows::sort(test_db.pool(), 100).await.expect("sort");
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    assert!(claim(&mut connection, 10).await.is_empty(), "no hours, no script: not called");
    psql(
        &test_db,
        &chrono::Utc::now().to_rfc3339(),
        r#"INSERT INTO "Setting" (id, userId, theme) VALUES ('s', 'bare', 'LIGHT');
        INSERT INTO "AdvancedSetting" (id, settingId, timeZone, startAt, endAt) VALUES ('a', 's', 'America/New_York', '2025-01-01 00:00', '2025-01-01 00:00');
        INSERT INTO "ScriptSetting" (id, settingId, initial, followUp) VALUES ('x', 's', 'Hello {prospectName}', NULL);
        UPDATE "Prospect" SET phone = '+12125550100' WHERE id = 'jo'"#,
    );
    queue::take_in(test_db.pool()).await.expect("take in");
    queue::windows::sort(test_db.pool(), 100).await.expect("sort");
    assert!(claim(&mut connection, 10).await.is_empty(), "no subscription: a promise is not called for free");
    psql(
        &test_db,
        &chrono::Utc::now().to_rfc3339(),
        r#"INSERT INTO "Plan" (id, name, price, minutes, duration, perDay) VALUES ('plan', 'Basic', 10.0, 600, 30, 10);
        INSERT INTO "Subscription" (id, userId, planId, minutesLeft, status) VALUES ('sub', 'bare', 'plan', 600, 'ACTIVE')"#,
    );
    queue::turn_days(test_db.pool(), 100).await.expect("days");
    queue::take_in(test_db.pool()).await.expect("take in");
    queue::windows::sort(test_db.pool(), 100).await.expect("sort");
    queue::windows::reopen_due(test_db.pool(), 100).await.expect("reopen");
    let calls = claim(&mut connection, 10).await;
    assert_eq!(calls.len(), 1, "{:?}", test_db.count("select count(*) from ops.waiting").await);
    assert_eq!((calls[0].script_id.as_str(), calls[0].phone.as_str()), ("Hello {prospectName}", "+12125550100"));
    // Ten who must not be called and sixty who cannot be named stand first; the eleventh is planned.
    let user = user_with(&test_db, 600, Some(10)).await;
    prospects(&test_db, user, 0, 71).await;
    let spoil = "update prospects set name = null where user_id = $1 and phone < '+14152000060'";
    sqlx::query(spoil).bind(user).execute(test_db.pool()).await.expect("spoil");
    test_db.run("insert into suppressions (phone, user_id) select '+1415' || (2000000 + g), id from generate_series(60, 69) g, users where external_id = 'operator'").await;
    for _ in 0..4 {
        planner::plan(test_db.pool(), LIMITS).await.expect("plan");
    }
    assert_eq!(test_db.count("select count(*) from calls where phone = '+14152000070'").await, 1);
    let other = user_with(&test_db, 600, None).await;
    test_db.enqueue_for(other, 1).await;
    sqlx::query("update lanes set zones = '{Mars/Phobos}' where user_id = $1 and zones <> '{}'")
        .bind(user)
        .execute(test_db.pool())
        .await
        .expect("nonsense");
    test_db.run("update lanes set refresh_at = '-infinity' where refresh_at < 'infinity'").await;
    queue::windows::reopen_due(test_db.pool(), 100).await.expect("the others are written");
    assert_eq!(
        test_db.count("select count(*) from lanes where closed_by = 'ZONE_UNKNOWN' and zones = '{Mars/Phobos}'").await,
        1
    );
    assert_eq!(claim(&mut connection, 10).await.len(), 1, "the other user is called");
    test_db.assert_sound().await;
}

/// A file of prospects is read like one of numbers: a verdict for each row, the same file again adds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_prospects_is_read() {
    let service = TestService::start(&[]).await;
    service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await;
    let file = "Phone;Name;Time Zone;city;external_id\r\n'+14155550100;Jo;US/Pacific;Rome;jo\r\nnobody;Al;;;\r\n+12125550101;Bo;Mars/Olympus;;\r\n+12125550102;;;;\r\n";
    for (accepted, rejected) in [(2, 2), (0, 4)] {
        let request = service
            .client
            .post(format!("{}/api/v1/users/ann/prospects", service.base))
            .header("Content-Type", "text/csv");
        let (status, receipt) = answer(request.body(file)).await;
        assert_eq!(status, 202, "{receipt}");
        let path = format!("/api/v1/uploads/{}", receipt["data"]["uploadId"].as_str().unwrap());
        let upload = service.wait_until(&path, |upload| upload["status"] == "done").await;
        assert_eq!(
            (&upload["accepted"], &upload["rejected"], &upload["campaignId"]),
            (&json!(accepted), &json!(rejected), &Value::Null)
        );
    }
    let (_, jo) = service.get("/api/v1/users/ann/prospects/jo").await;
    assert_eq!(
        (&jo["data"]["name"], &jo["data"]["timeZone"], &jo["data"]["variables"]),
        (&json!("Jo"), &json!("America/Los_Angeles"), &json!({"city": "Rome"}))
    );
    service.finish().await;
}
