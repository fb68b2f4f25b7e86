//! Whom calls may ring, where, when and how often: whatever road a call comes by.

use outdial::db::doorbell::Doorbell;
use outdial::domain::call::rank;
use outdial::domain::disposition::Disposition;
use outdial::domain::ids::{AttemptId, CallId, LaneId, OPERATOR, UserId, grown_from, new_id};
use outdial::domain::phone::PhoneNumber;
use outdial::domain::window::ClosedBy;
use outdial::domain::word::{Outcome, Weight, Word};
use outdial::outcome::inbox::Heard;
use outdial::outcome::{self, Memory};
use outdial::queue::recruit::{self, Reason, Recruit, recruit};
use outdial::queue::windows::{self, InForce};
use outdial::queue::{self, Frequency, NewCall, Room, Verdict};
use outdial::service::{Role, rules_of};
use outdial::store::installation;
use serde_json::json;
use sqlx::{Executor, Row};

use crate::support::{self, ANY_HOUR, TestDb, TestService, call_to, config, room};

/// As with a provider that rings phones.
fn strict(countries: &[&str]) -> InForce {
    let countries: Vec<String> = countries.iter().map(|code| (*code).to_owned()).collect();
    InForce {
        obeys_hours: true,
        obeys_destinations: true,
        sorts_operator: true,
        countries: Some(countries).filter(|countries| !countries.is_empty()),
    }
}

const THREE_A_DAY: Frequency = Frequency { dials_per_day: 3, gap_secs: 900.0 };

async fn claim(test_db: &TestDb, frequency: Frequency) -> Vec<(AttemptId, CallId, String)> {
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let claim = support::claim(&mut connection, Room { frequency, ..room(50) }).await;
    claim.calls.iter().map(|call| (call.attempt_id, call.call_id, call.phone.as_str().to_owned())).collect()
}

async fn settle(test_db: &TestDb, attempt: AttemptId, word: Word) {
    let mut settling = queue::feed(test_db.pool()).await.expect("feed");
    let rules = rules_of(&config(&[("OUTDIAL_SIMULATOR__SPEED", "1")]));
    let heard = [Heard::about(attempt, word, "test")];
    outcome::settle(&mut settling, &heard, &rules, &mut Memory::new()).await.expect("settle");
    settling.commit().await.expect("commit");
}

async fn settle_rules(test_db: &TestDb, rules: &InForce) {
    let quota = config(&[]).quota;
    installation::settle_in(test_db.pool(), &[7; 32], 1000, "test", 0.0, &quota).await.expect("settle in");
    windows::settle_rules(test_db.pool(), rules).await.expect("rules");
    housekeep(test_db).await;
}

async fn housekeep(test_db: &TestDb) {
    queue::canonize(test_db.pool(), 100).await.expect("canonize");
    windows::sort(test_db.pool(), 100).await.expect("sort");
    windows::reopen_due(test_db.pool(), 100).await.expect("reopen");
}

/// By plain SQL, as anybody may.
async fn enqueue_by_sql(test_db: &TestDb, number: &str, user: &str) -> Result<(), String> {
    let call = sqlx::query("select ops.enqueue($1, 's', \"user\" => $2)").bind(number).bind(user);
    call.execute(test_db.pool()).await.map(drop).map_err(|error| error.to_string())
}

async fn reasons(test_db: &TestDb) -> Vec<(String, String)> {
    let sql =
        "select coalesce(c.given, c.phone), w.reason from ops.waiting w join calls c on c.id = w.call_id order by 1";
    let rows = test_db.pool().fetch_all(sql).await.expect("reasons");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn user(test_db: &TestDb, name: &'static str) -> UserId {
    let id = UserId(new_id());
    let new =
        sqlx::query("insert into users (id, name, external_id, time_zone) values ($1, $2, $2, 'America/New_York')")
            .bind(id)
            .bind(name);
    new.execute(test_db.pool()).await.expect("a user");
    id
}

/// Lets a rule's time pass: what stands in the ledger is so much older, and what waits is due.
async fn hours_later(test_db: &TestDb, hours: i32) {
    let older = format!(
        "update dials set dialed_at = dialed_at - interval '{hours} hours';
        update calls set due_at = clock() where state = 'waiting';
        update lanes set next_at = clock() where country <> '?'; update user_turns set next_at = clock()"
    );
    test_db.pool().execute(sqlx::raw_sql(sqlx::AssertSqlSafe(older))).await.expect("later");
}

/// However a number is written, it is one: on a do-not-call list, while it is on a call, in a campaign; by every road. (95e55f8 called
/// each of these, and two at once.)
#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_one_however_it_is_written() {
    for (listed, written) in [
        ("+54 11 1234 5678", "+54 9 11 1234 5678"),
        ("+54 9 11 1234 5678", "+54 11 1234 5678"),
        ("+52 55 1234 5678", "+52 1 55 1234 5678"),
        ("+44 20 7946 0018", "+44 (0)20 7946 0018"),
        ("+49 151 1234 5678", "+49 (0)151 1234 5678"),
    ] {
        let number = |text: &str| PhoneNumber::parse(text).expect(text);
        let test_db = TestDb::new().await;
        test_db.run(ANY_HOUR).await;
        settle_rules(&test_db, &strict(&[])).await;
        let ann = user(&test_db, "ann").await;
        // On a call.
        enqueue_by_sql(&test_db, listed, "ann").await.expect("a call");
        enqueue_by_sql(&test_db, written, "operator").await.expect("a call");
        housekeep(&test_db).await;
        let first = claim(&test_db, Frequency::default()).await;
        assert_eq!(first.len(), 1, "{listed} {written}: two live calls to one number");
        settle(&test_db, first[0].0, Word::ended(Disposition::Completed, None)).await;
        assert_eq!(claim(&test_db, Frequency::default()).await.len(), 1, "{listed} {written}: the other, then");
        test_db.assert_sound().await;
        // On a list: each door refuses it, or holds it.
        queue::suppress(test_db.pool(), OPERATOR, &[number(listed)], None).await.expect("suppress");
        let mut call = [NewCall { user_id: ann, ..call_to(written) }];
        windows::place(test_db.pool(), &mut call, true).await.expect("place");
        assert_eq!(queue::enqueue(test_db.pool(), &call).await.expect("enqueue"), [Verdict::Suppressed], "{written}");
        let _ = enqueue_by_sql(&test_db, written, "ann").await;
        housekeep(&test_db).await;
        assert!(claim(&test_db, Frequency::default()).await.is_empty(), "{written}: on the list as {listed}");
        // In a campaign, once.
        let into = campaign_of(&test_db, ann).await;
        queue::unsuppress(test_db.pool(), OPERATOR, &number(written), None).await.expect("unsuppress");
        let rows = [listed, written].map(|text| Recruit { number: text.to_owned(), ..Recruit::default() });
        let base = new_id();
        let verdicts = recruit(test_db.pool(), &into, rows.into(), |nth| CallId(grown_from(base, nth))).await;
        let verdicts = verdicts.expect("recruit");
        assert!(verdicts[0].is_ok() && verdicts[1] == Err(Reason::DuplicateInCampaign), "{written}: {verdicts:?}");
        // What SQL puts onto a list ends what waits, however it is written there.
        let raw: String = written.chars().filter(|c| !matches!(c, ' ' | '(' | ')')).collect();
        let listing = sqlx::query("insert into suppressions (phone, user_id) values ($1, $2)").bind(raw).bind(ann);
        listing.execute(test_db.pool()).await.expect("listed");
        housekeep(&test_db).await;
        assert!(claim(&test_db, Frequency::default()).await.is_empty(), "{written}: listed by SQL");
        test_db.assert_sound().await;
    }
}

async fn campaign_of(test_db: &TestDb, user: UserId) -> recruit::Into {
    support::campaign_of(test_db, user, 5, None).await
}

/// Countries and kinds of numbers that a user may not have called are not called, by any road; an admin allows them. (95e55f8 called
/// satellites, premium numbers and numbers of nobody.)
#[tokio::test(flavor = "multi_thread")]
async fn destinations_are_allowed_first() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    settle_rules(&test_db, &strict(&["US"])).await;
    let ann = user(&test_db, "ann").await;
    let not_allowed = ["+19005550100", "+881612345678", "+442079460018", "+449098790000", "+15551234567"];
    let closed = |number: &'static str| {
        let test_db = &test_db;
        async move {
            let mut call = [NewCall { user_id: ann, ..call_to(number) }];
            windows::place(test_db.pool(), &mut call, true).await.expect("place")[0]
        }
    };
    for number in not_allowed {
        assert_eq!(closed(number).await, Some(ClosedBy::Destination), "{number}");
        enqueue_by_sql(&test_db, number, "ann").await.expect(number);
    }
    assert_eq!(closed("+1415555010099").await, Some(ClosedBy::InvalidNumber));
    assert_eq!(closed("+14155550100").await, None);
    enqueue_by_sql(&test_db, "+1234567890", "operator").await.expect("syntax is enough for SQL");
    enqueue_by_sql(&test_db, "+19005550101", "operator").await.expect("syntax is enough for SQL");
    // Whoever ignores windows does not ignore this.
    let mut call = [NewCall { ignore_window: true, ..call_to("+19005550102") }];
    assert_eq!(windows::place(test_db.pool(), &mut call, true).await.expect("place"), [Some(ClosedBy::Destination)]);
    housekeep(&test_db).await;
    assert!(claim(&test_db, Frequency::default()).await.is_empty());
    let held = reasons(&test_db).await;
    assert_eq!(held.len(), not_allowed.len() + 2);
    for (number, reason) in held {
        let expected = if number == "+1234567890" { "INVALID_NUMBER" } else { "DESTINATION_NOT_ALLOWED" };
        assert_eq!(reason, expected, "{number}");
    }
    test_db
        .run("update users set allowed_countries = '{US,GB}', allowed_destinations = '{PREMIUM}' where external_id = 'ann'")
        .await;
    assert!(claim(&test_db, Frequency::default()).await.is_empty(), "closed until the rules are read anew");
    housekeep(&test_db).await;
    let mut called: Vec<String> =
        claim(&test_db, Frequency::default()).await.into_iter().map(|(.., number)| number).collect();
    called.sort_unstable();
    assert_eq!(called, ["+19005550100", "+442079460018", "+449098790000"]);
    test_db.assert_sound().await;
}

/// Single calls of the operator and of users without hours keep to the law of the callee, a zone that was given comes on top of it; where
/// calls are only told about, they are dialed. (95e55f8 dialed them at any hour; a zone of Europe had a Japanese number called at night.)
#[tokio::test(flavor = "multi_thread")]
async fn single_calls_keep_to_the_law() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    // Nobody may be called in Japan now: the law's hours lie some hours away.
    test_db
        .run(
            "insert into legal_hours (area, hours, source, as_of)
            select 'JP', jsonb_build_array(jsonb_build_object('days', '[\"mon\",\"tue\",\"wed\",\"thu\",\"fri\",\"sat\",\"sun\"]'::jsonb,
              'opens', to_char(t + interval '3 hours', 'HH24:MI'), 'closes', to_char(t + interval '14 hours', 'HH24:MI'))), 's', '2026-01-01'
            from (select now() at time zone 'Asia/Tokyo' as t) x",
        )
        .await;
    settle_rules(&test_db, &strict(&[])).await;
    let ann = user(&test_db, "ann").await;
    enqueue_by_sql(&test_db, "+81312345678", "operator").await.expect("a call");
    let london = Some("Europe/London".to_owned());
    for call in [
        NewCall { user_id: ann, ..call_to("+81312345679") },
        NewCall { time_zone: london.clone(), ..call_to("+81312345670") },
        NewCall { user_id: ann, time_zone: london, ..call_to("+81312345671") },
        // A promise: rank 0.
        NewCall { rank: rank::PROMISED, ..call_to("+81312345672") },
    ] {
        let mut call = [call];
        assert_eq!(windows::place(test_db.pool(), &mut call, true).await.expect("place"), [None]);
        queue::enqueue(test_db.pool(), &call).await.expect("enqueue");
    }
    housekeep(&test_db).await;
    assert!(claim(&test_db, Frequency::default()).await.is_empty());
    let held = reasons(&test_db).await;
    assert_eq!(held.len(), 5);
    assert!(held.iter().all(|(_, reason)| reason == "LEGAL_HOURS"), "{held:?}");
    // An admin who says so may.
    let mut call = [NewCall { ignore_window: true, ..call_to("+81312345673") }];
    windows::place(test_db.pool(), &mut call, true).await.expect("place");
    queue::enqueue(test_db.pool(), &call).await.expect("enqueue");
    assert_eq!(claim(&test_db, Frequency::default()).await.len(), 1);
    settle_rules(&test_db, &InForce { obeys_hours: false, ..strict(&[]) }).await;
    assert_eq!(claim(&test_db, Frequency::default()).await.len(), 5);
    test_db.assert_sound().await;
}

/// A user's calls ring one phone three times in 24 hours, whatever their retries say, and different calls leave a quarter of an hour
/// between them; what rang no phone is not counted, a promised callback keeps its time, and those who test are exempt. (95e55f8: one phone
/// rang 101 times in 12 s.)
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_called_too_often() {
    let test_db = TestDb::new().await;
    let again = "update calls set due_at = clock() where state = 'waiting'; update lanes set next_at = clock() where blocked_on is null; update user_turns set next_at = clock()";
    queue::enqueue(test_db.pool(), &[NewCall { dials_max: 100, ..call_to("+14155550100") }]).await.expect("enqueue");
    // The provider had no room: no phone rang.
    let none = claim(&test_db, THREE_A_DAY).await;
    assert_eq!(test_db.count("select count(*) from dials").await, 1);
    settle(&test_db, none[0].0, Word::Capacity { retry_after_ms: 1 }).await;
    assert_eq!(test_db.count("select count(*) from dials").await, 0, "taken back");
    for dial in 1..=3 {
        test_db.run(again).await;
        let calls = claim(&test_db, THREE_A_DAY).await;
        assert_eq!(calls.len(), 1, "dial {dial}");
        settle(&test_db, calls[0].0, Word::ended(Disposition::NoAnswer, None)).await;
    }
    test_db.run(again).await;
    assert!(claim(&test_db, THREE_A_DAY).await.is_empty(), "a fourth");
    let (reason, on_time): (String, bool) = sqlx::query_as(
        "select w.reason, w.clears_at = (select min(dialed_at) from dials) + interval '24 hours' from ops.waiting w",
    )
    .fetch_one(test_db.pool())
    .await
    .expect("a reason");
    assert_eq!((reason.as_str(), on_time), ("FREQUENCY_CAP", true));
    test_db.assert_sound().await;
    // Another call of the user's meets the same ledger, another user's does not.
    let ann = user(&test_db, "ann").await;
    let others =
        [call_to("+14155550100"), NewCall { user_id: ann, lane_id: ann.own_lane(), ..call_to("+14155550100") }];
    queue::enqueue(test_db.pool(), &others).await.expect("enqueue");
    let calls = claim(&test_db, THREE_A_DAY).await;
    assert_eq!(calls.iter().map(|(_, call, _)| *call).collect::<Vec<_>>(), [others[1].id]);
    settle(&test_db, calls[0].0, Word::ended(Disposition::Completed, None)).await;
    // A day later.
    hours_later(&test_db, 24).await;
    let calls = claim(&test_db, THREE_A_DAY).await;
    assert_eq!(calls.len(), 1);
    settle(&test_db, calls[0].0, Word::ended(Disposition::Completed, None)).await;
    // The user's other call comes a quarter of an hour after it.
    hours_later(&test_db, 0).await;
    assert!(claim(&test_db, THREE_A_DAY).await.is_empty(), "too soon");
    assert_eq!(reasons(&test_db).await, [("+14155550100".to_owned(), "FREQUENCY_CAP".to_owned())]);
    let soon = "select count(*) from ops.waiting w where w.clears_at between clock() + interval '14 minutes' and clock() + interval '15 minutes'";
    assert_eq!(test_db.count(soon).await, 1);
    // What was promised is kept.
    let promised = NewCall { rank: rank::PROMISED, ..call_to("+14155550100") };
    queue::enqueue(test_db.pool(), std::slice::from_ref(&promised)).await.expect("enqueue");
    let calls = claim(&test_db, THREE_A_DAY).await;
    assert_eq!(calls.iter().map(|(_, call, _)| *call).collect::<Vec<_>>(), [promised.id]);
    settle(&test_db, calls[0].0, Word::ended(Disposition::Completed, None)).await;
    // Who tests is called as often as anybody likes.
    test_db.run("insert into test_numbers (phone) values ('+14155550100')").await;
    hours_later(&test_db, 0).await;
    assert_eq!(claim(&test_db, THREE_A_DAY).await.len(), 1);
    test_db.assert_sound().await;
}

/// A campaign's fourth dial waits for the next day, and its own counts say why.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaigns_fourth_dial_waits_for_the_next_day() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let ann = user(&test_db, "ann").await;
    let into = campaign_of(&test_db, ann).await;
    let rows = vec![Recruit { number: "+14155550100".to_owned(), ..Recruit::default() }];
    let base = new_id();
    recruit(test_db.pool(), &into, rows, |nth| CallId(grown_from(base, nth))).await.expect("recruit")[0].expect("in");
    for dial in 1..=3 {
        hours_later(&test_db, 0).await;
        let calls = claim(&test_db, THREE_A_DAY).await;
        assert_eq!(calls.len(), 1, "dial {dial}");
        settle(&test_db, calls[0].0, Word::ended(Disposition::NoAnswer, None)).await;
    }
    assert_eq!(reasons(&test_db).await[0].1, "RETRY_LATER");
    hours_later(&test_db, 0).await;
    assert!(claim(&test_db, THREE_A_DAY).await.is_empty());
    for _ in 0..2 {
        let counted: (String, i64, bool) = sqlx::query_as(
            "select e.reason, e.count, e.clears_at = (select capped_until from calls) from ops.explain($1) e",
        )
        .bind(into.campaign)
        .fetch_one(test_db.pool())
        .await
        .expect("explain");
        assert_eq!(counted, ("FREQUENCY_CAP".to_owned(), 1, true));
        test_db.assert_sound().await;
        queue::fold_tallies(test_db.pool()).await.expect("fold");
    }
    hours_later(&test_db, 24).await;
    assert_eq!(claim(&test_db, THREE_A_DAY).await.len(), 1, "the fourth");
    test_db.assert_sound().await;
}

/// A wish for a time that has passed is no promise, and nobody puts a call off for ever: it is complete, and says what was wished.
/// (95e55f8: 90 calls to one person in 20 s.)
#[tokio::test(flavor = "multi_thread")]
async fn a_callee_puts_a_call_off_a_few_times() {
    let wish = |secs: i64| {
        let at = chrono::Utc::now() + chrono::TimeDelta::seconds(secs);
        let outcome = Outcome {
            disposition: Disposition::CallbackRequested,
            appointment_time: None,
            callback_time: Some(at),
            weight: Weight::Explicit,
        };
        outdial::domain::word::Ended {
            outcome: Some(outcome),
            ..outdial::domain::word::Ended::of(Disposition::CallbackRequested, Weight::Explicit)
        }
    };
    let state = "select case state when 'waiting' then 1 when 'completed' then 2 else 0 end from calls";
    let test_db = TestDb::new().await;
    queue::enqueue(test_db.pool(), &[call_to("+14155550100")]).await.expect("enqueue");
    let calls = claim(&test_db, Frequency::default()).await;
    settle(&test_db, calls[0].0, Word::Ended(wish(-5))).await;
    assert_eq!(test_db.count(state).await, 2, "a time that has passed");
    let test_db = TestDb::new().await;
    queue::enqueue(test_db.pool(), &[call_to("+14155550100")]).await.expect("enqueue");
    for nth in 1..=4 {
        hours_later(&test_db, 0).await;
        let calls = claim(&test_db, Frequency::default()).await;
        assert_eq!(calls.len(), 1, "call {nth}");
        // Told during the call, and again as it ends.
        let ended = wish(3600);
        let outcome = ended.outcome.clone().expect("an outcome");
        settle(&test_db, calls[0].0, Word::Told { outcome }).await;
        settle(&test_db, calls[0].0, Word::Ended(ended)).await;
        assert_eq!(test_db.count(state).await, if nth <= 3 { 1 } else { 2 }, "wish {nth}");
    }
    test_db.assert_sound().await;
}

/// What a list says of people is heeded: who is not to be called goes onto the list of those, by either kind of list. (95e55f8 dialed them at
/// once.)
#[tokio::test(flavor = "multi_thread")]
async fn a_list_says_who_is_not_to_be_called() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let ann = user(&test_db, "ann").await;
    let row = |number: &str, status: &str| Recruit {
        number: number.to_owned(),
        status: Some(status.to_owned()),
        ..Recruit::default()
    };
    let into = campaign_of(&test_db, ann).await;
    let rows = vec![row("+14155550100", "Do-not-call"), row("+14155550101", "invalid"), row("+14155550102", "warm")];
    let base = new_id();
    let verdicts = recruit(test_db.pool(), &into, rows, |nth| CallId(grown_from(base, nth))).await.expect("recruit");
    assert_eq!(verdicts[..2], [Err(Reason::DoNotCall), Err(Reason::InvalidNumber)]);
    assert!(verdicts[2].is_ok());
    let rows = vec![
        row("+14155550200", "DO_NOT_CALL"),
        row("+14155550201", "booked"),
        row("+14155550202", "gone fishing"),
        Recruit { rescheduled_for: Some("2026-12-01T10:00:00Z".to_owned()), ..row("+14155550203", "") },
        Recruit { rescheduled_for: Some("tomorrow".to_owned()), ..row("+14155550204", "") },
        row("+14155550205", ""),
    ];
    let ids = |nth| outdial::domain::ids::ProspectId(grown_from(base, 100 + nth));
    let verdicts = queue::enlist(test_db.pool(), ann, rows, ids).await.expect("enlist");
    let bad: Vec<usize> = (0..6).filter(|nth| verdicts[*nth] == Err(Reason::InvalidStatus)).collect();
    assert_eq!(bad, [2, 4]);
    let statuses: Vec<String> = sqlx::query_scalar("select status from prospects order by phone")
        .fetch_all(test_db.pool())
        .await
        .expect("rows");
    assert_eq!(statuses, ["DO_NOT_CALL", "BOOKED", "RESCHEDULED", "INITIAL"]);
    let listed: Vec<String> = sqlx::query_scalar("select phone from suppressions order by phone")
        .fetch_all(test_db.pool())
        .await
        .expect("rows");
    assert_eq!(listed, ["+14155550100", "+14155550200"]);
    test_db.assert_sound().await;
}

/// Promises to prospects need a subscription as plans do; one that goes takes them along until there is one again. (95e55f8 called
/// promised prospects for nothing.)
#[tokio::test(flavor = "multi_thread")]
async fn prospects_are_not_called_for_free() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let ann = user(&test_db, "ann").await;
    let subscribe = "insert into subscriptions (user_id, plan_id, minutes_left, period_ends_at)
        select u.id, p.id, 100, clock() + interval '30 days' from users u, plans p where u.external_id = 'ann'";
    test_db
        .run(
            "insert into user_settings (user_id, opens, closes, script_initial, script_follow_up)
               select id, '00:00', '00:00', 'a', 'b' from users where external_id = 'ann';
             insert into plans (id, name, minutes, duration_days) values (uuid_v7(), 'p', 100, 30)",
        )
        .await;
    let promise = "insert into prospects (id, user_id, name, phone, status, rescheduled_for) values (uuid_v7(), $1, 'Jo', '+14155550100', 'RESCHEDULED', clock())";
    sqlx::query(promise).bind(ann).execute(test_db.pool()).await.expect("a promise");
    housekeep(&test_db).await;
    assert!(claim(&test_db, Frequency::default()).await.is_empty(), "no subscription");
    test_db.run(subscribe).await;
    queue::turn_days(test_db.pool(), 10).await.expect("days");
    housekeep(&test_db).await;
    test_db.run("delete from subscriptions").await;
    housekeep(&test_db).await;
    assert!(claim(&test_db, Frequency::default()).await.is_empty(), "it has gone");
    test_db.assert_sound().await;
    test_db.run(subscribe).await;
    queue::turn_days(test_db.pool(), 10).await.expect("days");
    housekeep(&test_db).await;
    assert_eq!(claim(&test_db, Frequency::default()).await.len(), 1);
    test_db.assert_sound().await;
}

/// What waited when the rules were others is looked at before anything is dialed: it goes where it belongs by now, numbers get their form,
/// and a number that is in its campaign twice, written two ways, is called once.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_placed_by_the_present_rules() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let ann = user(&test_db, "ann").await;
    let into = campaign_of(&test_db, ann).await;
    // As an older version left it: one lane, one zone, numbers as they were given.
    let lane = "insert into lanes (id, user_id, campaign_id, country, zones, next_at) values (gen_random_uuid(), $1, $2, 'US', '{America/New_York}', clock())";
    sqlx::query(lane).bind(ann).bind(into.campaign).execute(test_db.pool()).await.expect("a lane");
    let calls = "insert into calls (id, user_id, lane_id, campaign_id, state, due_at, phone, script_id, dials_max)
        select uuid_v7(), l.user_id, l.id, l.campaign_id, 'waiting', clock(), n, 's', 3
        from lanes l, unnest('{+18505550142,+12125550100,+525512345678,+5215512345678}'::text[]) n where l.campaign_id is not null";
    test_db.run(calls).await;
    test_db
        .run("insert into tally_deltas (lane_id, user_id, campaign_id, what, n) select lane_id, user_id, campaign_id, 'PENDING', count(*) from calls group by 1, 2, 3")
        .await;
    let quota = config(&[]).quota;
    installation::settle_in(test_db.pool(), &[7; 32], 1000, "test", 0.0, &quota).await.expect("settle in");
    for _ in 0..2 {
        windows::settle_rules(test_db.pool(), &strict(&[])).await.expect("rules");
        let places: Vec<(String, String, String)> = sqlx::query_as(
            "select c.phone, array_to_string(l.zones, ' '), c.state::text from calls c join lanes l on l.id = c.lane_id order by c.phone, c.state",
        )
        .fetch_all(test_db.pool())
        .await
        .expect("places");
        let place = |number: &str| {
            let found: Vec<(&str, &str)> = places
                .iter()
                .filter(|(n, ..)| n == number)
                .map(|(_, zones, state)| (zones.as_str(), state.as_str()))
                .collect();
            found
        };
        assert_eq!(place("+18505550142"), [("America/Chicago America/New_York", "waiting")]);
        assert_eq!(place("+12125550100"), [("America/New_York", "waiting")]);
        assert_eq!(place("+525512345678").len(), 1);
        assert_eq!(place("+5215512345678").first().map(|(_, state)| *state), Some("canceled"));
        test_db.assert_sound().await;
    }
}

/// Where the provider has to prove that it is back, each probe is another user's: calls of one user that it bars keep nobody waiting.
/// (95e55f8: each probe was of the user whose calls had waited longest, for as long as it had any.)
#[tokio::test(flavor = "multi_thread")]
async fn probes_go_round() {
    let test_db = TestDb::new().await;
    let (ann, bob, cid) = (user(&test_db, "ann").await, user(&test_db, "bob").await, user(&test_db, "cid").await);
    test_db.run("insert into provider_states (provider, half_open, hold_until) values ('test', true, clock())").await;
    for (owner, count) in [(ann, 5), (bob, 5), (cid, 1)] {
        test_db.enqueue_for(owner, count).await;
        test_db.run("update calls set due_at = due_at - interval '1 minute'").await;
    }
    let mut probed = Vec::new();
    for _ in 0..3 {
        let calls = claim(&test_db, Frequency::default()).await;
        assert_eq!(calls.len(), 1, "one at a time");
        let owner: UserId = UserId(
            sqlx::query_scalar("select user_id from calls where id = $1")
                .bind(calls[0].1)
                .fetch_one(test_db.pool())
                .await
                .expect("a call"),
        );
        probed.push(owner);
        settle(&test_db, calls[0].0, Word::Barred { reason: "403".to_owned(), again_secs: 0.0 }).await;
        test_db
            .run("update lanes set next_at = clock() where blocked_on is null; update user_turns set next_at = clock()")
            .await;
    }
    probed.sort_unstable();
    let mut all = [ann, bob, cid];
    all.sort_unstable();
    assert_eq!(probed, all);
}

/// Where phones may ring, REST and lists refuse a number that no network takes, and say what is wrong with it; with the simulator every
/// door takes what has the form of a number.
#[tokio::test(flavor = "multi_thread")]
async fn impossible_numbers_are_refused_where_phones_ring() {
    const SAMPLE: &str = "+1234567890";
    for (obeys, pairs) in
        [(true, [("OUTDIAL_RULES__DESTINATIONS", "obey")]), (false, [("OUTDIAL_RULES__DESTINATIONS", "tell")])]
    {
        let test_db = TestDb::new().await;
        test_db.run(ANY_HOUR).await;
        let service = TestService::start_on(test_db, Role::Api, &pairs).await;
        assert_eq!(service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await.0, 201);
        assert_eq!(
            service
                .post(
                    "/api/v1/campaigns",
                    json!({"name": "c", "externalId": "c", "scriptId": "s", "userId": "ann", "paused": true})
                )
                .await
                .0,
            201
        );
        for (path, field, mut body) in [
            ("/api/v1/calls", "to", json!({"scriptId": "s", "userId": "ann"})),
            ("/api/v1/users/ann/prospects", "phone", json!({"name": "Jo"})),
            ("/api/v1/phone-numbers", "number", json!({"userId": "ann"})),
            ("/api/v1/campaigns/c/phone-numbers?userId=ann", "number", json!({})),
        ] {
            body[field] = json!(SAMPLE);
            let (status, answered) = service.post(path, body).await;
            assert_eq!(status, if obeys { 400 } else { 201 }, "{path}: {answered}");
            if obeys {
                assert_eq!(answered["errors"][0]["path"], field, "{answered}");
                let why = answered["errors"][0]["message"].as_str().unwrap();
                assert!(why.contains("too few digits") && why.contains("+14155550100"), "{path}: {why}");
            }
        }
        // A list says so for each row, and which character is wrong.
        let list = json!({"numbers": ["+1234567891", "+1415555010O", "+14155550100", "4155550100"]});
        let (_, report) = service.post("/api/v1/campaigns/c/phone-numbers?userId=ann", list).await;
        let of = |nth: usize| report["data"]["rows"][nth]["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(of(0).contains("too few digits"), obeys, "{report}");
        assert!(
            of(1).contains("character 12 is 'O'") && of(2).is_empty() && of(3).contains("start with +"),
            "{report}"
        );
        // As a file of prospects.
        let file = service.client.post(format!("{}/api/v1/users/ann/prospects", service.base));
        let file = file.header("content-type", "text/csv").body("name,number\nJo,+1234567892\nAl,+14155550111\n");
        let (status, receipt) = support::answer(file).await;
        assert_eq!(status, 202, "{receipt}");
        let patience = std::time::Duration::from_secs(60);
        let limits = outdial::scheduler::imports::Limits { lease_secs: 60.0, patience };
        outdial::scheduler::imports::read_next(service.test_db.pool(), &Doorbell::default(), limits)
            .await
            .expect("read");
        let kept = "select coalesce(string_agg(right(phone, 4), ' ' order by phone), '-') from prospects where phone in ('+1234567892', '+14155550111')";
        assert_eq!(service.test_db.text(kept).await, if obeys { "0111" } else { "7892 0111" });
        service.finish().await;
    }
}

/// A day's minutes and a day's cost are bounds: what live calls have reserved counts, what they did not need is free again, and the next
/// day begins anew. Who has neither is not metered.
#[tokio::test(flavor = "multi_thread")]
async fn a_days_minutes_and_cost_are_bounds() {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    test_db.run("insert into rates values ('', 1), ('1', 0.1), ('44', 5), ('1900', 60)").await;
    let (ann, bob, cid) = (user(&test_db, "ann").await, user(&test_db, "bob").await, user(&test_db, "cid").await);
    test_db.run("update users set daily_minutes_max = 25 where external_id = 'ann'; update users set daily_cost_max = 3 where external_id = 'bob'").await;
    let mut nth = 0;
    let mut add = async |user: UserId, start: &str, count: usize| {
        for _ in 0..count {
            nth += 1;
            let call =
                NewCall { user_id: user, lane_id: LaneId(user.0), ..call_to(&format!("{start}{:04}", 100 + nth)) };
            queue::enqueue(test_db.pool(), std::slice::from_ref(&call)).await.expect("enqueue");
        }
    };
    // Before the others, what the cap does not cover: a call that costs more than there is.
    add(ann, "+1415555", 5).await;
    add(bob, "+1212555", 5).await;
    add(cid, "+1305555", 2).await;
    let took = async || {
        let mut connection = test_db.pool().acquire().await.expect("a connection");
        let claim = support::claim(&mut connection, room(50)).await;
        let of = |user: &str| claim.calls.iter().filter(|call| call.phone.as_str().starts_with(user)).count();
        (of("+1415"), of("+1212"), of("+1305"))
    };
    assert_eq!(took().await, (3, 3, 2), "10 and 10 and 5 minutes; three times ten minutes at a tenth; any");
    assert_eq!(test_db.text("select string_agg(reserved_minutes::text, ' ' order by claimed_at, reserved_minutes desc) from attempts where phone like '+1415%'").await, "10 10 5");
    assert_eq!(took().await, (0, 0, 0));
    let why = "select string_agg(distinct u.external_id || ' ' || w.reason, ', ') from ops.waiting w join users u on u.id = w.user_id";
    assert_eq!(test_db.text(why).await, "ann DAILY_MINUTES, bob DAILY_COST");
    // Two minutes of ten: eight are free again. A call that rang nobody costs nothing.
    let end = async |like: &str, word: fn() -> Word| {
        let open = format!(
            "select id from attempts where phone like '{like}%' and ended_at is null order by reserved_minutes desc limit 1"
        );
        let id: uuid::Uuid =
            sqlx::query_scalar(sqlx::AssertSqlSafe(open)).fetch_one(test_db.pool()).await.expect("open");
        settle(&test_db, AttemptId(id), word()).await;
    };
    let talked = || Word::ended(Disposition::Completed, Some(std::time::Duration::from_secs(61)));
    end("+1415", talked).await;
    end("+1212", talked).await;
    assert_eq!(took().await, (1, 0, 0), "eight minutes; 0.8 of 1.0");
    end("+1212", || Word::ended(Disposition::Completed, Some(std::time::Duration::from_secs(1)))).await;
    assert_eq!(took().await, (0, 1, 0));
    assert_eq!(test_db.text("select string_agg(u.external_id || ' ' || d.minutes || ' ' || d.cost::float8, ', ' order by 1) from user_days d join users u on u.id = d.user_id").await, "ann 2 0, bob 3 0.3");
    test_db.assert_sound().await;
    // No rate, no dial; and one number that is too dear is not dialed at all.
    test_db.run("update users set daily_cost_max = 100 where external_id = 'bob'; delete from rates; update lanes set next_at = clock(), blocked_on = null where country <> '?'; update user_turns set next_at = clock(), blocked_on = null").await;
    assert_eq!(took().await, (0, 0, 0));
    test_db.run("insert into rates values ('', 1), ('1', 0.1), ('1212555', 60); update lanes set next_at = clock(), blocked_on = null where country <> '?'; update user_turns set next_at = clock(), blocked_on = null").await;
    assert_eq!(took().await, (0, 0, 0));
    test_db.run("delete from rates where prefix = '1212555'").await;
    assert_eq!(took().await.1, 1);
    // The next day.
    test_db.run("update user_days set day = day - 1; update attempts set spent_on = spent_on - 1; update installation set caps_day = caps_day - 1").await;
    assert_eq!(took().await.0, 0, "asleep");
    installation::settle_in(test_db.pool(), &[7; 32], 1000, "test", 0.0, &config(&[]).quota).await.expect("settle in");
    queue::turn_caps_day(test_db.pool()).await.expect("turned");
    assert_eq!(took().await.0, 1, "23 minutes of the new day are with calls that are live still");
    assert_eq!(
        test_db
            .text(
                "select reserved_minutes::text from attempts where phone like '+1415%' order by claimed_at desc limit 1"
            )
            .await,
        "2"
    );
    test_db.assert_sound().await;
}

/// Caps and rates are an admin's; a cap of cost needs a rate for any number.
#[tokio::test(flavor = "multi_thread")]
async fn caps_are_an_admins() {
    let service = TestService::start(&[]).await;
    assert_eq!(service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await.0, 201);
    let (status, refused) = service.patch("/api/v1/users/ann", json!({"dailyCostMax": 5})).await;
    assert_eq!((status, refused["code"].as_str()), (409, Some("rates_needed")), "{refused}");
    let put = async |body: serde_json::Value| {
        support::answer(service.client.put(format!("{}/api/v1/rates", service.base)).json(&body)).await
    };
    for (bad, path) in [
        (json!([{"prefix": "+1", "perMinute": 1}]), "rates.0.prefix"),
        (json!([{"prefix": "", "perMinute": 1}, {"prefix": "", "perMinute": 2}]), "rates.1.prefix"),
        (json!([{"prefix": "1", "perMinute": -1}]), "rates.0.perMinute"),
    ] {
        let (status, refused) = put(json!({"rates": bad})).await;
        assert_eq!((status, refused["errors"][0]["path"].as_str()), (400, Some(path)), "{refused}");
    }
    assert_eq!(
        put(json!({"rates": [{"prefix": "1", "perMinute": 0.02}, {"prefix": "", "perMinute": 3}]})).await.0,
        200
    );
    let (status, ann) = service.patch("/api/v1/users/ann", json!({"dailyCostMax": 5, "dailyMinutesMax": 60})).await;
    assert_eq!(
        (status, &ann["data"]["dailyCostMax"], &ann["data"]["dailyMinutesMax"]),
        (200, &json!(5.0), &json!(60)),
        "{ann}"
    );
    assert_eq!(
        put(json!({"rates": [{"prefix": "1", "perMinute": 0.02}]})).await.0,
        409,
        "ann's cap needs one for any number"
    );
    let (_, listed) = service.get("/api/v1/rates").await;
    assert_eq!(listed["data"], json!([{"prefix": "", "perMinute": 3.0}, {"prefix": "1", "perMinute": 0.02}]));
    // A number dearer than the day allows waits, whatever road it came by, until an admin allows it.
    let call = json!({"to": "+447400123456", "scriptId": "s", "userId": "ann", "ignoreWindow": true});
    let (_, call) = service.post("/api/v1/calls", call).await;
    let path = format!("/api/v1/calls/{}", call["data"]["id"].as_str().unwrap());
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let seen = service.get(&path).await.1["data"].clone();
    assert!(seen["status"] == "PENDING" && seen["attempts"] == 0, "{seen}");
    assert_eq!(service.patch("/api/v1/users/ann", json!({"dailyCostMax": null})).await.0, 200);
    service.wait_until(&path, |call| call["attempts"] == 1).await;
    service.finish().await;
}

/// The examples of the product's own documents, by the settings they come with, where phones ring: three attempts 30 and 60 s apart; a
/// second call to the number of the first waits a quarter of an hour; a campaign's retries are 300 s apart, and the cap holds the fourth
/// dial for the next day. Where nobody's phone rings, nothing is held.
#[tokio::test(flavor = "multi_thread")]
async fn the_documents_examples_are_called_as_they_say() {
    const SAMPLE: &str = "+966501234567";
    const ANY: Frequency = Frequency { dials_per_day: 0, gap_secs: 0.0 };
    let due_in = "select round(extract(epoch from due_at - clock()))::int from calls where state = 'waiting' order by id desc limit 1";
    for (rules, frequency, second_waits) in
        [(strict(&["SA", "US"]), THREE_A_DAY, true), (InForce::default(), ANY, false)]
    {
        let test_db = TestDb::new().await;
        test_db.run(ANY_HOUR).await;
        settle_rules(&test_db, &rules).await;
        let first = call_to(SAMPLE);
        queue::enqueue(test_db.pool(), std::slice::from_ref(&first)).await.expect("enqueue");
        housekeep(&test_db).await;
        for (nth, apart) in [(1, 30), (2, 60), (3, 0)] {
            let calls = claim(&test_db, frequency).await;
            assert_eq!(calls.iter().map(|(_, id, _)| *id).collect::<Vec<_>>(), [first.id], "attempt {nth}");
            settle(&test_db, calls[0].0, Word::ended(Disposition::NoAnswer, None)).await;
            if apart > 0 {
                let waits = test_db.count(due_in).await;
                assert!((apart * 8 / 10 - 1..=apart * 12 / 10).contains(&waits), "attempt {nth}: {waits} s");
                hours_later(&test_db, 0).await;
            }
        }
        assert_eq!(
            test_db.text("select state || ' ' || dials || ' ' || disposition from calls").await,
            "failed 3 NO_ANSWER"
        );
        // The other sample that rings the same number, after a first that was answered.
        test_db.run("delete from dials; delete from events; delete from attempts; delete from calls; delete from tally_deltas; delete from tallies").await;
        let (first, second) = (call_to(SAMPLE), call_to(SAMPLE));
        queue::enqueue(test_db.pool(), std::slice::from_ref(&first)).await.expect("enqueue");
        housekeep(&test_db).await;
        let calls = claim(&test_db, frequency).await;
        settle(&test_db, calls[0].0, Word::ended(Disposition::Completed, None)).await;
        queue::enqueue(test_db.pool(), std::slice::from_ref(&second)).await.expect("enqueue");
        housekeep(&test_db).await;
        assert_eq!(claim(&test_db, frequency).await.is_empty(), second_waits);
        if second_waits {
            assert_eq!(reasons(&test_db).await, [(SAMPLE.to_owned(), "FREQUENCY_CAP".to_owned())]);
            let soon = "select count(*) from ops.waiting where clears_at between clock() + interval '14 minutes' and clock() + interval '15 minutes'";
            assert_eq!(test_db.count(soon).await, 1);
        }
    }
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    let ann = user(&test_db, "ann").await;
    let into = campaign_of(&test_db, ann).await;
    let rows = vec![Recruit { number: "+14155550100".to_owned(), ..Recruit::default() }];
    let base = new_id();
    recruit(test_db.pool(), &into, rows, |nth| CallId(grown_from(base, nth))).await.expect("recruit")[0].expect("in");
    for dial in 1..=4 {
        hours_later(&test_db, if dial == 4 { 24 } else { 0 }).await;
        let calls = claim(&test_db, THREE_A_DAY).await;
        assert_eq!(calls.len(), 1, "dial {dial}");
        settle(&test_db, calls[0].0, Word::ended(Disposition::NoAnswer, None)).await;
        if dial < 4 {
            let waits = test_db.count(due_in).await;
            assert!((299..=300).contains(&waits), "dial {dial}: {waits} s");
        }
        if dial == 3 {
            hours_later(&test_db, 0).await;
            assert!(claim(&test_db, THREE_A_DAY).await.is_empty(), "the fourth on the same day");
        }
    }
    assert_eq!(test_db.text("select state || ' ' || dials from calls").await, "failed 4");
    test_db.assert_sound().await;
}
