//! The three races of admission, each against a claim: an insert, a settling at the limit, a settling at a busy number.
//!
//! Each is played twice. With the lock, whoever comes second waits and sees the other's commit. Without it, by the same
//! statements in the same order but begun without the lock, the call is stranded: so these tests fail when the lock is taken
//! out of sql/queue/admit.sql or feed.sql.

use std::time::Duration;

use outdial::domain::ids::{AttemptId, new_id};
use outdial::domain::word::Word;
use outdial::outcome::inbox::Heard;
use outdial::outcome::{self, Memory};
use outdial::queue::{self, Claim, Room};
use outdial::service::rules_of;
use sqlx::{PgConnection, Postgres, Transaction};

use crate::support::{self, TestDb, call_to, config};

/// Room for ten calls under a limit over all.
fn room(global_limit: i32) -> Room<'static> {
    Room { global_limit, ..support::room(10) }
}

async fn claim_and_tend(connection: &mut PgConnection, limit: i32) -> Claim {
    support::claim(connection, room(limit)).await
}

async fn settle_completed(transaction: &mut Transaction<'_, Postgres>, attempt: AttemptId) {
    let word = Word::ended(outdial::domain::disposition::Disposition::Completed, None);
    let heard = [Heard::about(attempt, word, "test")];
    let rules = rules_of(&config(&[]));
    outcome::settle(transaction, &heard, &rules, &mut Memory::new()).await.expect("settle");
}

/// Runs `second` beside a half-done `first`: it must not get anywhere until the first has committed.
async fn waits_for<T>(second: impl Future<Output = T> + Send + 'static, commit: impl Future<Output = ()>) -> T
where
    T: Send + 'static,
{
    let mut second = tokio::spawn(second);
    let early = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
    assert!(early.is_err(), "it ran beside a half-done transaction: the admission lock is missing");
    commit.await;
    tokio::time::timeout(Duration::from_secs(5), second).await.expect("it goes on after the commit").expect("no panic")
}

/// Insert against "the lane is empty, let it sleep": the sleeper waits for the half-done insert and then sees the call.
#[tokio::test(flavor = "multi_thread")]
async fn an_insert_is_not_slept_over() {
    let test_db = TestDb::new().await;
    test_db.enqueue(&["+14155550100"]).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    assert_eq!(claim_and_tend(&mut connection, 30).await.calls.len(), 1);
    // The lane is awake and empty; an insert is under way, not committed.
    test_db
        .run("update lanes set next_at = now() where blocked_on is null; update user_turns set next_at = now()")
        .await;
    let mut feeder = queue::feed(test_db.pool()).await.expect("feed");
    sqlx::query(INSERT).bind(new_id()).execute(&mut *feeder).await.expect("insert");
    let claiming = async move { claim_and_tend(&mut connection, 30).await };
    let claim = waits_for(claiming, async { feeder.commit().await.expect("commit") }).await;
    assert_eq!(claim.calls.len(), 1, "the claim after the insert takes the call");
    test_db.assert_sound().await;
}

const INSERT: &str = "with c as (
    insert into calls (id, user_id, lane_id, due_at, phone, script_id, dials_max)
    select $1, id, id, now(), '+14155550101', 's', 3 from users where external_id = 'operator' returning user_id
  ) insert into tally_deltas (lane_id, user_id, what, n) select user_id, user_id, 'PENDING', 1 from c";

/// Settle against "the campaign is at its limit, let its lane sleep": the sleeper waits for the half-done settling, and the
/// settler wakes whoever slept before.
#[tokio::test(flavor = "multi_thread")]
async fn a_settling_at_the_limit_is_not_slept_over() {
    let test_db = TestDb::new().await;
    let lane = campaign_with_limit_1(&test_db).await;
    let attempt = first_of_two(&test_db, lane, ["+14155550100", "+14155550101"]).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let mut settling = queue::feed(test_db.pool()).await.expect("feed");
    settle_completed(&mut settling, attempt).await;
    let claiming = async move { claim_and_tend(&mut connection, 30).await };
    let claim = waits_for(claiming, async { settling.commit().await.expect("commit") }).await;
    assert_eq!(claim.calls.len(), 1, "the freed slot of the campaign is used");
    test_db.assert_sound().await;
}

/// The other order: the lane slept first; the settling that comes later wakes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_settling_wakes_what_slept_at_the_limit() {
    let test_db = TestDb::new().await;
    let lane = campaign_with_limit_1(&test_db).await;
    let attempt = first_of_two(&test_db, lane, ["+14155550100", "+14155550101"]).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    assert_eq!(claim_and_tend(&mut connection, 30).await.calls.len(), 0);
    assert_eq!(test_db.count("select count(*) from lanes where blocked_on = 'campaign'").await, 1, "it sleeps");
    let mut settling = queue::feed(test_db.pool()).await.expect("feed");
    settle_completed(&mut settling, attempt).await;
    settling.commit().await.expect("commit");
    assert_eq!(claim_and_tend(&mut connection, 30).await.calls.len(), 1);
    test_db.assert_sound().await;
}

/// Settle against "the number is busy, park": the parker waits for the half-done settling and finds the number free.
#[tokio::test(flavor = "multi_thread")]
async fn a_settling_at_a_busy_number_is_not_parked_behind() {
    let test_db = TestDb::new().await;
    let own = outdial::domain::ids::OPERATOR.own_lane();
    let attempt = first_of_two(&test_db, own, ["+14155550100", "+14155550100"]).await;
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let mut settling = queue::feed(test_db.pool()).await.expect("feed");
    settle_completed(&mut settling, attempt).await;
    let claiming = async move { claim_and_tend(&mut connection, 30).await };
    let claim = waits_for(claiming, async { settling.commit().await.expect("commit") }).await;
    assert_eq!(claim.calls.len(), 1, "the number is free, so its next call is dialed");
    assert_eq!(test_db.count("select count(*) from calls where state = 'parked'").await, 0);
    test_db.assert_sound().await;
}

/// A claim beside a half-done one waits for it, and counts what it took.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_counts_what_another_is_taking() {
    let test_db = TestDb::new().await;
    let numbers: Vec<String> = (0..20).map(|nth| format!("+1415555{nth:04}")).collect();
    test_db.enqueue(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut one = test_db.pool().acquire().await.expect("a connection");
    let mut two = test_db.pool().acquire().await.expect("a connection");
    let mut first = queue::admit(&mut one).await.expect("admission");
    let taken = queue::claim(&mut first, Room { want: 7, ..room(7) }).await.expect("claim");
    assert_eq!(taken.calls.len(), 7);
    let claiming = async move { claim_and_tend(&mut two, 7).await };
    let second = waits_for(claiming, async { first.commit().await.expect("commit") }).await;
    assert_eq!(second.calls.len(), 0, "the limit is reached");
    test_db.assert_sound().await;
}

/// Two claims at once admit the limit and not one more, over many rounds.
#[tokio::test(flavor = "multi_thread")]
async fn two_claims_never_admit_more_than_the_limit() {
    let test_db = TestDb::new().await;
    for round in 0..20 {
        let numbers: Vec<String> = (0..20).map(|nth| format!("+1415555{:04}", round * 20 + nth)).collect();
        test_db.enqueue(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let (mut one, mut two) = (
            test_db.pool().acquire().await.expect("a connection"),
            test_db.pool().acquire().await.expect("a connection"),
        );
        let (first, second) = tokio::join!(claim_and_tend(&mut one, 7), claim_and_tend(&mut two, 7));
        assert_eq!(first.calls.len() + second.calls.len(), 7);
        let mut settling = queue::feed(test_db.pool()).await.expect("feed");
        for call in first.calls.iter().chain(&second.calls) {
            settle_completed(&mut settling, call.attempt_id).await;
        }
        settling.commit().await.expect("commit");
    }
    test_db.assert_sound().await;
}

async fn campaign_with_limit_1(test_db: &TestDb) -> outdial::domain::ids::LaneId {
    let lane = sqlx::query_scalar(
        "with g as (
           insert into campaigns (id, user_id, name, script_id, max_concurrent_calls)
           select gen_random_uuid(), id, 'one', 's', 1 from users where external_id = 'operator' returning id, user_id
         ) insert into lanes (id, user_id, campaign_id) select gen_random_uuid(), user_id, id from g returning id",
    );
    lane.fetch_one(test_db.pool()).await.expect("a campaign")
}

/// Two due calls in a lane, the first of them claimed; without tidying, so that the lane is still awake.
async fn first_of_two(test_db: &TestDb, lane: outdial::domain::ids::LaneId, numbers: [&str; 2]) -> AttemptId {
    let campaign = sqlx::query_scalar("select campaign_id from lanes where id = $1").bind(lane);
    let campaign: Option<uuid::Uuid> = campaign.fetch_one(test_db.pool()).await.expect("the lane");
    let calls: Vec<_> = numbers
        .iter()
        .map(|number| queue::NewCall { lane_id: lane, campaign_id: campaign.map(Into::into), ..call_to(number) })
        .collect();
    queue::enqueue(test_db.pool(), &calls).await.expect("enqueue");
    let mut connection = test_db.pool().acquire().await.expect("a connection");
    let mut transaction = queue::admit(&mut connection).await.expect("admission");
    let claim = queue::claim(&mut transaction, room(30)).await.expect("claim");
    transaction.commit().await.expect("commit");
    assert_eq!(claim.calls.len(), 1);
    claim.calls[0].attempt_id
}
