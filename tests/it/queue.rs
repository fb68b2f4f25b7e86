//! What a claim takes and what it leaves, and the doors that are not the API.

use outdial::domain::call::{CallState, rank};
use outdial::domain::disposition::Disposition;
use outdial::domain::ids::{OPERATOR, UserId, new_id};
use outdial::domain::word::{Outcome, Word};
use outdial::outcome::inbox::Heard;
use outdial::outcome::{self, Memory};
use outdial::queue::{self, Claim, NewCall, Room};
use outdial::service::rules_of;

use crate::support::{self, TestDb, call_to, config, room};

/// Claims up to `want` and tidies; the numbers claimed, in order of claiming.
async fn claim(test_db: &TestDb, want: usize) -> (Claim, Vec<String>) {
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let claim = support::claim(&mut connection, Room { global_limit: 100, ..room(want) }).await;
    let numbers = claim.calls.iter().map(|call| call.phone.as_str().to_owned()).collect();
    (claim, numbers)
}

async fn settle(test_db: &TestDb, heard: Vec<Heard>) -> outcome::Report {
    settle_remembering(test_db, heard, &mut Memory::new()).await
}

/// As one process does, which remembers what it settled.
async fn settle_remembering(test_db: &TestDb, heard: Vec<Heard>, memory: &mut Memory) -> outcome::Report {
    let mut transaction = queue::feed(test_db.pool()).await.expect("feed");
    let rules = rules_of(&config(&[]));
    let report = outcome::settle(&mut transaction, &heard, &rules, memory).await.expect("settle");
    transaction.commit().await.expect("commit");
    report
}

/// Ranks go first in their order, then the longest due: promised, high, retry, normal, low.
#[tokio::test(flavor = "multi_thread")]
async fn ranks_are_dialed_in_their_order() {
    let test_db = TestDb::new().await;
    let ranks = [rank::LOW, rank::NORMAL, rank::RETRY, rank::HIGH, rank::PROMISED];
    let calls: Vec<NewCall> = ranks
        .iter()
        .map(|rank| NewCall { rank: *rank, priority: rank::NORMAL, ..call_to(&format!("+1415555010{rank}")) })
        .collect();
    queue::enqueue(test_db.pool(), &calls).await.expect("enqueue");
    let mut order = Vec::new();
    for _ in 0..5 {
        order.extend(claim(&test_db, 1).await.1);
    }
    assert_eq!(order, ["+14155550100", "+14155550101", "+14155550102", "+14155550103", "+14155550104"]);
    test_db.assert_sound().await;
}

/// A user with a thousand calls and a user with ten share the slots evenly from the first claim.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_user_is_not_starved_by_a_large_one() {
    let test_db = TestDb::new().await;
    let small = UserId(new_id());
    sqlx::query("insert into users (id, name) values ($1, 'small')")
        .bind(small)
        .execute(test_db.pool())
        .await
        .expect("a user");
    let large = (0..1000).map(|nth| call_to(&format!("+1415555{nth:04}")));
    let few = (0..10).map(|nth| NewCall {
        user_id: small,
        lane_id: small.own_lane(),
        ..call_to(&format!("+1212555{nth:04}"))
    });
    queue::enqueue(test_db.pool(), &large.chain(few).collect::<Vec<_>>()).await.expect("enqueue");
    let (_, numbers) = claim(&test_db, 10).await;
    assert_eq!(numbers.iter().filter(|number| number.starts_with("+1212")).count(), 5, "{numbers:?}");
    test_db.assert_sound().await;
}

/// A call whose number came onto the do-not-call list while it waited is never dialed: it ends CANCELED, DO_NOT_CALL.
#[tokio::test(flavor = "multi_thread")]
async fn a_suppressed_number_is_never_claimed() {
    let test_db = TestDb::new().await;
    test_db.enqueue(&["+14155550100", "+14155550100", "+14155550101"]).await;
    sqlx::query("insert into suppressions (phone, user_id) values ('+14155550100', $1)")
        .bind(OPERATOR)
        .execute(test_db.pool())
        .await
        .expect("suppress");
    assert_eq!(claim(&test_db, 10).await.1, ["+14155550101"]);
    let dropped = "select count(*) from calls where state = 'canceled' and disposition = 'DO_NOT_CALL'";
    assert_eq!(test_db.count(dropped).await, 2);
    test_db.assert_sound().await;
}

/// Calls to one number wait behind each other, also when the claim meets a hundred of them at once; each gets its turn.
#[tokio::test(flavor = "multi_thread")]
async fn calls_to_one_number_take_turns() {
    let test_db = TestDb::new().await;
    let numbers = vec!["+14155550100"; 100];
    test_db.enqueue(&numbers).await;
    for turn in 0..100 {
        let (claim, _) = claim(&test_db, 10).await;
        assert_eq!(claim.calls.len(), 1, "turn {turn}");
        test_db.assert_sound().await;
        let word = Word::ended(Disposition::Completed, None);
        settle(&test_db, vec![Heard::about(claim.calls[0].attempt_id, word, "test")]).await;
    }
    assert_eq!(test_db.count("select count(*) from calls where state = 'completed'").await, 100);
    test_db.assert_sound().await;
}

/// Expired calls at the head of a lane are tidied away behind the claim that meets them, and do not hide those behind them.
#[tokio::test(flavor = "multi_thread")]
async fn expired_calls_do_not_block_the_lane() {
    let test_db = TestDb::new().await;
    let soon = chrono::Utc::now() + chrono::TimeDelta::milliseconds(20);
    let expiring: Vec<NewCall> =
        (0..50).map(|nth| NewCall { expires_at: Some(soon), ..call_to(&format!("+1415555{nth:04}")) }).collect();
    queue::enqueue(test_db.pool(), &expiring).await.expect("enqueue");
    test_db.enqueue(&["+12125550100"]).await;
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    // Each claim looks at a bounded number of calls, and what it cannot dial is tidied away behind it.
    let mut claims = 0;
    while claim(&test_db, 5).await.1 != ["+12125550100"] {
        claims += 1;
        assert!(claims < 10, "the expired calls hide the one behind them");
    }
    assert_eq!(test_db.count("select count(*) from calls where state = 'expired'").await, 50);
    test_db.assert_sound().await;
}

/// An outcome told during the call acts when the call ends, and a callback becomes a promise of the same call.
#[tokio::test(flavor = "multi_thread")]
async fn a_promised_callback_waits_for_its_time() {
    let test_db = TestDb::new().await;
    test_db.enqueue(&["+14155550100"]).await;
    let (claim_1, _) = claim(&test_db, 1).await;
    let attempt = claim_1.calls[0].attempt_id;
    let at = chrono::Utc::now() + chrono::TimeDelta::hours(2);
    let outcome = Outcome { callback_time: Some(at), ..Outcome::of(Disposition::CallbackRequested) };
    settle(&test_db, vec![Heard::about(attempt, Word::Told { outcome }, "test")]).await;
    assert_eq!(test_db.count("select count(*) from calls where state = 'live'").await, 1, "the call goes on");
    settle(&test_db, vec![Heard::about(attempt, Word::ended(Disposition::Completed, None), "test")]).await;
    let row: (CallState, i16, chrono::DateTime<chrono::Utc>, String) =
        sqlx::query_as("select state, rank, due_at, disposition from calls")
            .fetch_one(test_db.pool())
            .await
            .expect("a call");
    assert_eq!((row.0, row.1, row.3.as_str()), (CallState::Waiting, rank::PROMISED, "CALLBACK_REQUESTED"));
    assert!((row.2 - at).num_milliseconds().abs() <= 1, "{} for {at}", row.2);
    test_db.assert_sound().await;
}

/// Doubt is not ended by a guess: too early a "not found" does not count, the second one after the quiet time releases.
#[tokio::test(flavor = "multi_thread")]
async fn doubt_ends_after_two_misses_in_the_quiet() {
    let test_db = TestDb::new().await;
    test_db.enqueue(&["+14155550100"]).await;
    let (claim_1, _) = claim(&test_db, 1).await;
    let attempt = claim_1.calls[0].attempt_id;
    let state = "select count(*) from attempts where state = 'unknown' and ended_at is null";
    let memory = &mut Memory::new();
    let doubt = Word::Doubt { reason: "timeout".to_owned(), sent_ms_ago: 10_000 };
    settle_remembering(&test_db, vec![Heard::about(attempt, doubt, "dial")], memory).await;
    for _ in 0..3 {
        settle_remembering(&test_db, vec![Heard::about(attempt, Word::NotFound, "poll")], memory).await;
        assert_eq!(test_db.count(state).await, 1, "the quiet time is not over");
    }
    test_db.run("update attempts set sent_at = sent_at - interval '1 minute'").await;
    settle_remembering(&test_db, vec![Heard::about(attempt, Word::NotFound, "poll")], memory).await;
    assert_eq!(test_db.count(state).await, 1, "once is not enough");
    settle_remembering(&test_db, vec![Heard::about(attempt, Word::NotFound, "poll")], memory).await;
    assert_eq!(test_db.count(state).await, 0);
    assert_eq!(test_db.count("select count(*) from calls where state = 'waiting' and dials = 0").await, 1);
    test_db.assert_sound().await;
}

/// The supported door for plain SQL: a normalized number in its lane, and a claim that finds it; nonsense is refused.
#[tokio::test(flavor = "multi_thread")]
async fn plain_sql_can_enqueue() {
    let test_db = TestDb::new().await;
    test_db.run("select ops.enqueue('+1 (415) 555-0100', 'hello', priority => 'high')").await;
    assert_eq!(queue::windows::sort(test_db.pool(), 10).await.expect("sort"), 1);
    assert_eq!(queue::windows::sort(test_db.pool(), 10).await.expect("sort"), 0);
    assert_eq!(claim(&test_db, 5).await.1, ["+14155550100"]);
    for bad in [
        "select ops.enqueue('12', 's')",
        "select ops.enqueue('+14155550100', 's', priority => 'now')",
        "select ops.enqueue('+14155550100', 's', scheduled_at => 'infinity')",
    ] {
        let refused = sqlx::query(bad).execute(&test_db.db.read).await.expect_err(bad);
        assert_eq!(refused.as_database_error().and_then(|e| e.code()).as_deref(), Some("22023"), "{refused}");
    }
    test_db.assert_sound().await;
}

/// SQL and Rust use the same public word for every state.
#[tokio::test(flavor = "multi_thread")]
async fn sql_and_rust_agree_on_statuses() {
    let test_db = TestDb::new().await;
    let rows: Vec<(CallState, String)> =
        sqlx::query_as("select s, public_status(s) from unnest(enum_range(null::call_state)) as s")
            .fetch_all(test_db.pool())
            .await
            .expect("states");
    assert_eq!(rows.len(), 7);
    for (state, status) in rows {
        assert_eq!(state.status().as_str(), status, "{state:?}");
    }
}

/// Every ready-made inspection query runs.
#[tokio::test(flavor = "multi_thread")]
async fn inspection_queries_run() {
    let test_db = TestDb::new().await;
    test_db.enqueue(&["+14155550100"]).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/inspect");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("sql/inspect") {
        let path = entry.expect("an entry").path();
        let sql = std::fs::read_to_string(&path).expect("a file");
        let run = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&test_db.db.read).await;
        assert!(run.is_ok(), "{}: {run:?}", path.display());
        files += 1;
    }
    assert!(files >= 5, "{files} files");
}
