//! A long walk of random moves over the queue: whatever happens in whatever order, no limit is ever exceeded, no invariant broken,
//! and in the end every call has ended.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use outdial::domain::call::rank;
use outdial::domain::disposition::Disposition;
use outdial::domain::ids::{AttemptId, CallId, CampaignId, InstanceId, LaneId, UserId, new_id};
use outdial::domain::phone::PhoneNumber;
use outdial::domain::retry::Policy;
use outdial::domain::word::{Ended, Outcome, Weight, Word};
use outdial::outcome::decide::Rules;
use outdial::outcome::inbox::Heard;
use outdial::outcome::{self, Memory};
use outdial::queue::{self, Amendment, NewCall, Room};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use sqlx::PgConnection;

use crate::support::{ANY_HOUR, TestDb, call_to};

const GLOBAL_LIMIT: i32 = 7;

struct World {
    test_db: TestDb,
    dice: StdRng,
    /// Lanes with their user and campaign.
    lanes: Vec<(LaneId, UserId, Option<CampaignId>)>,
    calls: Vec<CallId>,
    live: Vec<AttemptId>,
    rules: Rules,
    /// How many numbers there are to be called.
    numbers: u32,
    /// Power of ten of the milliseconds up to which calls are scheduled.
    farthest: f64,
}

/// 600 moves by a printed seed: enqueue, claim, settle, cancel, change, retry, pause; limits are looked at after each.
#[tokio::test(flavor = "multi_thread")]
async fn a_random_walk_keeps_every_limit() {
    let seed = std::env::var("WALK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(42);
    println!("walk seed {seed} (WALK_SEED=… repeats it)");
    let mut world = World::new(seed).await;
    let mut connection = world.test_db.pool().acquire().await.expect("a connection");
    for step in 0..600 {
        world.step(&mut connection).await;
        world.assert_limits(step).await;
        if step % 5 == 0 {
            world.assert_explained(step, 0.0).await;
        }
        if step % 25 == 0 {
            world.test_db.assert_sound().await;
        }
    }
    world.resume_all().await;
    world.finish_everything(&mut connection).await;
    world.test_db.assert_sound().await;
}

/// The same walk with calls of any time within the year to come: what a campaign says of those of a later time is exact, now and
/// as seen from any later moment, whatever its lanes' windows.
#[tokio::test(flavor = "multi_thread")]
async fn reasons_are_exact_from_any_moment() {
    let seed = std::env::var("WALK_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(43);
    println!("walk seed {seed} (WALK_SEED=… repeats it)");
    let mut world = World::new(seed).await;
    (world.numbers, world.farthest) = (1000, 10.5);
    let mut connection = world.test_db.pool().acquire().await.expect("a connection");
    for step in 0..400 {
        world.step(&mut connection).await;
        let power = world.dice.random_range(0.0..world.farthest);
        world.assert_explained(step, 10_f64.powf(power)).await;
        if step % 25 == 0 {
            world.test_db.assert_sound().await;
            queue::fold_tallies(world.test_db.pool()).await.expect("fold");
        }
    }
    let later = "select count(*) from calls where state = 'waiting' and due_at > now()";
    assert!(world.test_db.count(later).await > 10, "a walk without later calls shows nothing");
    assert!(world.test_db.count("select count(*) from later_tallies where n <> 0").await > 40);
}

impl World {
    async fn new(seed: u64) -> Self {
        let test_db = TestDb::new().await;
        // Numbers that change move to lanes of their zones: the hour of the test must not matter.
        test_db.run(ANY_HOUR).await;
        let mut lanes = Vec::new();
        for (user_limit, campaign_limits) in [(Some(2), vec![1, 5]), (Some(3), vec![2]), (None, vec![1, 3])] {
            let user = UserId(new_id());
            sqlx::query("insert into users (id, name, max_concurrent_calls) values ($1, 'u', $2)")
                .bind(user)
                .bind(user_limit)
                .execute(test_db.pool())
                .await
                .expect("a user");
            lanes.push((user.own_lane(), user, None));
            for limit in campaign_limits {
                let (campaign, lane) = (CampaignId(new_id()), LaneId(new_id()));
                let sql = "with g as (insert into campaigns (id, user_id, name, script_id, max_concurrent_calls, retry_delay_secs)
                             values ($1, $2, 'c', 's', $3, 0))
                           insert into lanes (id, user_id, campaign_id) values ($4, $2, $1)";
                let insert = sqlx::query(sql).bind(campaign).bind(user).bind(limit).bind(lane);
                insert.execute(test_db.pool()).await.expect("a campaign");
                lanes.push((lane, user, Some(campaign)));
            }
        }
        let rules = Rules {
            retry: Policy { base: Duration::ZERO, factor: 1.0, max: Duration::ZERO, jitter: 0.0 },
            time_divisor: 1.0,
            dial_timeout: Duration::ZERO,
            lookup_grace: Duration::ZERO,
            inquiry: Duration::from_secs(30),
            max_attempts: 3,
            callbacks_max: 3,
            record_after: None,
            full_hold: Duration::ZERO,
            global_limit: GLOBAL_LIMIT,
            ceiling_recovery: Duration::from_secs(300),
        };
        Self {
            test_db,
            dice: StdRng::seed_from_u64(seed),
            lanes,
            calls: Vec::new(),
            live: Vec::new(),
            rules,
            numbers: 12,
            farthest: 3.5,
        }
    }

    async fn step(&mut self, connection: &mut PgConnection) {
        match self.dice.random_range(0..100) {
            0..30 => self.enqueue().await,
            30..60 => self.claim(connection).await,
            60..80 => self.settle_one().await,
            80..86 => {
                if let Some(call) = self.calls.choose(&mut self.dice) {
                    queue::cancel(self.test_db.pool(), *call, None).await.expect("cancel");
                }
            }
            86..92 => self.amend().await,
            92..95 => {
                if let Some(call) = self.calls.choose(&mut self.dice) {
                    queue::retry(self.test_db.pool(), *call, None, 1).await.expect("retry");
                }
            }
            95..97 => self.pause_or_resume().await,
            97..99 => {
                queue::expire(self.test_db.pool(), 100).await.expect("expire");
            }
            _ => {
                queue::fold_tallies(self.test_db.pool()).await.expect("fold");
            }
        }
    }

    fn number(&mut self) -> PhoneNumber {
        PhoneNumber::parse(&format!("+1415555{:04}", self.dice.random_range(0..self.numbers))).expect("a number")
    }

    async fn enqueue(&mut self) {
        let calls: Vec<NewCall> = (0..self.dice.random_range(1..4))
            .map(|_| {
                let (lane_id, user_id, campaign_id) = *self.lanes.choose(&mut self.dice).expect("a lane");
                let rank =
                    *[rank::PROMISED, rank::HIGH, rank::NORMAL, rank::LOW].choose(&mut self.dice).expect("a rank");
                let expires = self.dice.random_bool(0.1);
                NewCall {
                    lane_id,
                    user_id,
                    campaign_id,
                    rank,
                    priority: if rank == rank::PROMISED { rank::NORMAL } else { rank },
                    expires_at: expires.then(|| Utc::now() + TimeDelta::milliseconds(50)),
                    due_at: self.later(0.3),
                    phone: self.number(),
                    dials_max: 2,
                    ..call_to("+14155550100")
                }
            })
            .collect();
        self.calls.extend(calls.iter().map(|call| call.id));
        queue::enqueue(self.test_db.pool(), &calls).await.expect("enqueue");
    }

    async fn claim(&mut self, connection: &mut PgConnection) {
        let room = Room {
            want: self.dice.random_range(1..6),
            global_limit: GLOBAL_LIMIT,
            instance: InstanceId(new_id()),
            provider: "test",
            dial_guard_secs: 2.0,
            lanes_max: 8,
            lease_secs: 15.0,
            dials_per_second: 0.0,
            frequency: queue::Frequency::default(),
        };
        let mut transaction = queue::admit(connection).await.expect("admission");
        let claim = queue::claim(&mut transaction, room).await.expect("claim");
        transaction.commit().await.expect("commit");
        self.live.extend(claim.calls.iter().map(|call| call.attempt_id));
        if claim.wants_tending(claim.calls.len()) {
            let mut transaction = queue::admit(connection).await.expect("admission");
            queue::tend(&mut transaction, &claim.looked, &room).await.expect("tend");
            transaction.commit().await.expect("commit");
        }
    }

    async fn settle_one(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let attempt = self.live[self.dice.random_range(0..self.live.len())];
        let word = self.word();
        self.settle(attempt, word).await;
    }

    fn word(&mut self) -> Word {
        let ended = |disposition, outcome: Option<Outcome>| {
            let weight = if outcome.is_some() { Weight::Explicit } else { Weight::Status };
            Word::Ended(Ended { outcome, duration_secs: Some(1), ..Ended::of(disposition, weight) })
        };
        match self.dice.random_range(0..10) {
            0..4 => ended(Disposition::Completed, None),
            4..6 => ended(Disposition::Busy, None),
            6 => Word::Accepted { provider_call_id: None, carrier_call_id: None },
            7 => Word::NotSent { reason: "test".to_owned() },
            8 => Word::Doubt { reason: "test".to_owned(), sent_ms_ago: 0 },
            _ => ended(
                Disposition::CallbackRequested,
                Some(Outcome { callback_time: Some(Utc::now()), ..Outcome::of(Disposition::CallbackRequested) }),
            ),
        }
    }

    async fn settle(&mut self, attempt: AttemptId, word: Word) {
        let mut transaction = queue::feed(self.test_db.pool()).await.expect("feed");
        let heard = [Heard::about(attempt, word, "test")];
        let report = outcome::settle(&mut transaction, &heard, &self.rules, &mut Memory::new()).await.expect("settle");
        transaction.commit().await.expect("commit");
        self.live.retain(|live| !report.ended.contains(live));
    }

    /// A later time, with this probability: as likely within milliseconds as within hours, up to the farthest.
    fn later(&mut self, probability: f64) -> Option<DateTime<Utc>> {
        let power = self.dice.random_range(0.0..self.farthest);
        self.dice.random_bool(probability).then(|| Utc::now() + Duration::from_secs_f64(10_f64.powf(power) / 1000.0))
    }

    async fn amend(&mut self) {
        let (number, due_at) = (self.number(), self.later(0.3));
        if let Some(call) = self.calls.choose(&mut self.dice) {
            let amendment = Amendment { phone: Some(number), due_at, ..Amendment::default() };
            match queue::amend(self.test_db.pool(), *call, None, &amendment).await {
                // The campaign has a call to that number already.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
                amended => {
                    amended.expect("amend");
                }
            }
        }
    }

    async fn pause_or_resume(&mut self) {
        let (lane, ..) = *self.lanes.choose(&mut self.dice).expect("a lane");
        self.flip(lane).await;
    }

    /// A lane that is paused says so, and wakes when it no longer is.
    async fn flip(&self, lane: LaneId) {
        let mut transaction = queue::feed(self.test_db.pool()).await.expect("feed");
        let flip = sqlx::query_scalar("update lanes set paused = not paused where id = $1 returning paused").bind(lane);
        let paused: bool = flip.fetch_one(&mut *transaction).await.expect("flip");
        if !paused {
            sqlx::query("update lanes set blocked_on = null where id = $1 and blocked_on = 'pause'")
                .bind(lane)
                .execute(&mut *transaction)
                .await
                .expect("resume");
            let wakes = [queue::Wake { lane_id: lane, at: None, rank: 0 }];
            queue::wake(&mut transaction, &wakes).await.expect("wake");
        }
        transaction.commit().await.expect("commit");
    }

    async fn resume_all(&self) {
        let paused: Vec<LaneId> = sqlx::query_scalar("select id from lanes where paused")
            .fetch_all(self.test_db.pool())
            .await
            .expect("lanes");
        for lane in paused {
            self.flip(lane).await;
        }
    }

    /// Nobody is left waiting for ever.
    async fn finish_everything(&mut self, connection: &mut PgConnection) {
        for _ in 0..3000 {
            self.claim(connection).await;
            for attempt in self.live.clone() {
                self.settle(attempt, Word::ended(Disposition::Completed, None)).await;
            }
            queue::expire(self.test_db.pool(), 100).await.expect("expire");
            let open = "select count(*) from calls where state in ('waiting', 'parked', 'live')";
            if self.test_db.count(open).await == 0 {
                return;
            }
        }
        let rows =
            "select c.state::text || ' due ' || c.due_at || ' lane ' || l.next_at || ' ' || coalesce(l.blocked_on, '-')
                      || ' turn ' || t.next_at || ' ' || coalesce(t.blocked_on, '-')
                    from calls c join lanes l on l.id = c.lane_id join user_turns t on t.user_id = c.user_id
                    where c.state in ('waiting', 'parked', 'live') limit 10";
        let left: Vec<String> = sqlx::query_scalar(rows).fetch_all(self.test_db.pool()).await.expect("rows");
        panic!("calls left waiting for ever: {left:?}");
    }

    async fn assert_limits(&self, step: usize) {
        let over = sqlx::query_scalar(
            "with open as (select * from attempts where ended_at is null)
             select 'global' from open having count(*) > $1
             union all
             select 'user' from open o join users u on u.id = o.user_id group by u.id, u.max_concurrent_calls
             having count(*) > u.max_concurrent_calls
             union all
             select 'campaign' from open o join campaigns g on g.id = o.campaign_id group by g.id, g.max_concurrent_calls
             having count(*) > g.max_concurrent_calls
             union all
             select 'number' from open group by phone having count(*) > 1",
        );
        let over: Vec<String> = over.bind(GLOBAL_LIMIT).fetch_all(&self.test_db.db.read).await.expect("limits");
        assert!(over.is_empty(), "step {step}: over the limit: {over:?}");
    }

    /// What a campaign says of its waiting calls, made from counts, is what the calls say one by one; so many milliseconds ahead, with
    /// windows thrown anew.
    async fn assert_explained(&mut self, step: usize, ahead_ms: f64) {
        let sql = "select coalesce(g.id, w.campaign_id) || ' ' || coalesce(e.reason, w.reason) || ' ' || coalesce(e.count, 0) || ' for ' || coalesce(w.n, 0)
               || ', ' || coalesce(e.clears_at::text, '-') || ' for ' || coalesce(w.clears_at::text, '-')
             from campaigns g
             cross join lateral (select * from ops.explain(g.id)) e
             full join (select campaign_id, reason, count(*) as n, min(clears_at) as clears_at from ops.waiting
                        where campaign_id is not null group by 1, 2) w
               on w.campaign_id = g.id and w.reason = e.reason
             where e.count is distinct from w.n or e.clears_at is distinct from w.clears_at";
        // At one time for both, or a call falls due in between.
        let mut transaction = self.test_db.pool().begin().await.expect("begin");
        let now = sqlx::query("select set_config('outdial.now', (clock() + make_interval(secs => $1))::text, true)")
            .bind(ahead_ms / 1000.0);
        now.execute(&mut *transaction).await.expect("set");
        if ahead_ms > 0.0 {
            for (lane, ..) in &self.lanes {
                let mut edge = || {
                    self.dice.random_bool(0.7).then(|| {
                        let side = if self.dice.random_bool(0.5) { 1.0 } else { -1.0 };
                        side * 10_f64.powf(self.dice.random_range(0.0..self.farthest)) / 1000.0
                    })
                };
                let (opens, lasts) = (edge(), edge());
                let window = sqlx::query(
                    "update lanes set opens_at = o.at, closes_at = coalesce(greatest(o.at, clock()) + make_interval(secs => abs($3)), 'infinity')
                     from (select coalesce(date_trunc('second', clock() + make_interval(secs => $2)), '-infinity') as at) o
                     where id = $1",
                );
                window.bind(lane).bind(opens).bind(lasts).execute(&mut *transaction).await.expect("windows");
            }
        }
        let off: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *transaction).await.expect("explain");
        transaction.rollback().await.expect("rollback");
        assert!(off.is_empty(), "step {step}, {ahead_ms} ms ahead: {off:#?}");
    }
}
