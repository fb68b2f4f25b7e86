//! kill -9 between the acceptance by Ultravox or Telnyx and our commit, over and over. The fakes send no webhook here, so what happened
//! is only to be had by asking: an accepted call is adopted by look-up every time, and nobody is called again while doubt lasts.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use outdial::domain::ids::splitmix;
use outdial::fake_providers::{Ending, KEY, Manners, World};
use serde_json::json;
use sqlx::PgPool;

use crate::support::{Folder, Process, TestDb, answer, assert_sound, client};
use crate::ultravox::{fakes, settings};

/// Services that are killed side by side, each with a database and fakes of its own.
const SIDE_BY_SIDE: u64 = 12;
/// Dials a call may take: a second one would be allowed.
const ATTEMPTS_MAX: i64 = 2;
/// Calls ordered in each life.
const CALLS_PER_LIFE: u64 = 3;

/// Everybody answers, and nothing is ever reported.
fn silent(seed: u64) -> Manners {
    let gentle = Manners::gentle(seed, 50.0);
    Manners { busy: 0, no_answer: 0, machine: 0, not_found: 0, undelivered: 100, tools_unheard: 100, ..gentle }
}

fn seed() -> u64 {
    let seed = std::env::var("STORM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    println!("seed {seed} (STORM_SEED=… repeats it)");
    seed
}

struct Side {
    world: World,
    test_db: TestDb,
    folder: Folder,
    mode: &'static str,
    ordered: u64,
    client: reqwest::Client,
}

impl Side {
    async fn new(mode: &'static str, seed: u64) -> Self {
        let (world, test_db) = (fakes(silent(seed)).await, TestDb::new().await);
        test_db.run("delete from legal_hours").await;
        Self { world, test_db, folder: Folder::new("ultravox"), mode, ordered: 0, client: client() }
    }

    fn start(&self, failpoint: Option<String>) -> Process {
        let mut pairs = settings(&self.world, self.mode, 0);
        pairs.retain(|(name, _)| name != "PORT" && name != "SERVICE_URL");
        for (name, value) in [
            ("OUTDIAL_CALLS__LEASE_SECS", "4"),
            ("OUTDIAL_DATABASE__WORK_CONNECTIONS", "5"),
            ("OUTDIAL_DATABASE__READ_CONNECTIONS", "1"),
            ("DATABASE_URL", &self.test_db.url()),
        ] {
            pairs.push((name.to_owned(), value.to_owned()));
        }
        pairs.extend(failpoint.map(|point| ("OUTDIAL_FAILPOINT".to_owned(), point)));
        Process::start(&self.folder.0.join("log"), &pairs)
    }

    /// Waits until nothing is in doubt or under way.
    async fn settle(&self, process: &mut Process) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.test_db.count("select count(*) from attempts where ended_at is null").await > 0
            && !process.has_ended()
        {
            assert!(Instant::now() < deadline, "still in doubt after a minute: {}", self.doubt().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn doubt(&self) -> String {
        self.test_db
            .text("select coalesce(string_agg(to_jsonb(a)::text, E'\\n'), '') from attempts a where ended_at is null")
            .await
    }

    async fn order(&mut self, process: &Process) {
        for _ in 0..CALLS_PER_LIFE {
            let number = format!("+1415555{:04}", self.ordered);
            self.ordered += 1;
            let body =
                json!({"to": number, "scriptId": "You sell tea.", "ignoreWindow": true, "maxAttempts": ATTEMPTS_MAX});
            let request = self.client.post(format!("{}/api/v1/calls", process.base())).json(&body);
            // It may die of the calls before this one.
            if let Ok(response) = request.send().await {
                assert_eq!(response.status().as_u16(), 201);
            }
        }
    }

    /// One life: what the last one left is settled, calls are ordered, and it dies at `failpoint`. Returns how many calls had been accepted
    /// without our having written it down.
    async fn life(&mut self, failpoint: String) -> usize {
        let mut process = self.start(Some(failpoint.clone()));
        // A call that waits to be tried again may be dialed, and it may die of that, before it is up.
        if process.wait_until_up(&self.client).await {
            self.settle(&mut process).await;
            self.order(&process).await;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while !process.has_ended() {
            if Instant::now() >= deadline {
                let calls = "select string_agg(c::text, E'\\n') from (select phone, state, dials, due_at, disposition from calls order by id desc limit 8) c";
                let log = std::fs::read_to_string(self.folder.0.join("log")).unwrap_or_default();
                let end: Vec<&str> = log.lines().rev().take(30).collect();
                panic!(
                    "{failpoint} was never reached\n{}\n{}\n{}",
                    self.doubt().await,
                    self.test_db.text(calls).await,
                    end.join("\n")
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let unwritten: Vec<String> = sqlx::query_scalar("select id::text from attempts where state = 'dialing'")
            .fetch_all(self.test_db.pool())
            .await
            .expect("attempts");
        self.world.rung().iter().filter(|rung| unwritten.contains(&rung.attempt)).count()
    }

    /// A last life in peace; then every call has ended, and no phone rang twice for one attempt, nor after a talk.
    async fn finish(self) -> usize {
        let mut process = self.start(None);
        assert!(process.wait_until_up(&self.client).await);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.test_db.count("select count(*) from calls where state in ('waiting', 'parked', 'live')").await > 0 {
            assert!(Instant::now() < deadline, "a call never ended: {}", self.doubt().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let (status, _) = answer(self.client.get(format!("{}/health", process.base()))).await;
        assert_eq!(status, 200);
        process.kill();
        let pool: &PgPool = self.test_db.pool();
        assert_sound(pool).await;
        let rung = self.world.rung();
        assert_eq!(self.world.overlaps(), 0);
        let (mut of_attempt, mut of_number) = (HashMap::<&str, u32>::new(), HashMap::<&str, i64>::new());
        for one in &rung {
            *of_attempt.entry(&one.attempt).or_default() += 1;
            let talks = of_number.entry(&one.to).or_default();
            // On a busy machine an agent may have given up before its phone was asked for: nobody was talked to.
            assert!(matches!(one.ending, Ending::Person | Ending::Deaf), "{one:?}");
            *talks += i64::from(one.ending == Ending::Person);
        }
        assert!(of_attempt.values().all(|times| *times == 1), "a phone rang twice for one attempt");
        assert!(
            of_number.values().all(|times| *times <= 1),
            "somebody who was talked to was called again: {of_number:?}"
        );
        let rows: Vec<(String, String, i64, i64)> = sqlx::query_as(
            "select phone, state::text, dials::bigint, (select count(*) from attempts a where a.call_id = c.id and a.dialed) from calls c",
        )
        .fetch_all(pool)
        .await
        .expect("calls");
        for (phone, state, dials, dialed) in rows {
            let talks = of_number.get(phone.as_str()).copied().unwrap_or_default();
            let rings = i64::try_from(rung.iter().filter(|one| one.to == phone).count()).unwrap();
            assert_eq!(dials, dialed, "{phone}");
            assert!(dials >= rings && dials <= ATTEMPTS_MAX, "{phone}: {rings} rings, {dials} dials");
            assert_eq!(state, if talks == 1 { "completed" } else { "failed" }, "{phone}: {talks} talks");
        }
        rung.len()
    }
}

/// Lives side by side, `lives` each; the failpoints go round. Returns lives, phones that rang, and acceptances nobody had written down.
async fn lives(mode: &'static str, lives: u64, failpoints: &'static [&'static str]) -> (u64, usize, usize) {
    let seed = seed();
    let sides = (0..SIDE_BY_SIDE).map(|nth| async move {
        let seed = splitmix(seed ^ nth);
        let mut side = Side::new(mode, seed).await;
        let mut unwritten = 0;
        for life in 0..lives {
            let roll = splitmix(seed ^ (life << 8));
            let names = u64::try_from(failpoints.len()).unwrap();
            let point = failpoints[usize::try_from(roll % names).unwrap()];
            let left = side.life(format!("{point}:{}", 1 + (roll >> 16) % CALLS_PER_LIFE)).await;
            // Past the request something was accepted in every life, and not written down.
            assert!(left >= 1 || !point.starts_with("dial.after_request"), "{point}: nothing was accepted");
            unwritten += left;
        }
        (side.finish().await, unwritten)
    });
    let sides = futures::future::join_all(sides).await;
    let (rings, unwritten) = sides.iter().fold((0, 0), |sum, side| (sum.0 + side.0, sum.1 + side.1));
    println!(
        "{mode}: {} lives, {rings} phones rang, {unwritten} acceptances not written down when it was killed",
        lives * SIDE_BY_SIDE
    );
    (lives * SIDE_BY_SIDE, rings, unwritten)
}

/// Ultravox dials: over 200 lives, each ended between the acceptance and our commit. Every accepted call is adopted: each ordered phone
/// rings once, though a second dial would have been allowed.
#[tokio::test(flavor = "multi_thread")]
async fn accepted_calls_are_adopted_every_time() {
    let (lives, rings, unwritten) = lives("ultravox-dials", 17, &["dial.after_request", "answer.before_settle"]).await;
    assert!(lives >= 200 && unwritten >= 200, "{lives} lives, {unwritten} unwritten");
    assert!(rings >= unwritten);
}

/// We dial, in two steps: killed after the first, before, after and past the second. Nobody's phone rings again while it is in doubt.
#[tokio::test(flavor = "multi_thread")]
async fn two_steps_are_never_taken_twice() {
    let points = &["dial.after_prepare", "dial.before_request", "dial.after_request", "answer.before_settle"];
    let (_, rings, unwritten) = lives("telnyx-dials", 4, points).await;
    assert!(rings > 0 && unwritten > 0);
}

/// A process dies between the two steps, and the agent of the first is gone when the next one looks: taken back before the end, or
/// erased by somebody. Nothing tells any more whether a phone rang, and none rings now: the attempt counts, its end stays unknown, and
/// its slot is free at once, not at the maximum call time. Nobody is called again on a guess.
#[tokio::test(flavor = "multi_thread")]
async fn doubt_ends_though_the_agent_is_gone() {
    let mut side = Side::new("telnyx-dials", seed()).await;
    let mut process = side.start(Some("dial.after_prepare".to_owned()));
    assert!(process.wait_until_up(&side.client).await);
    side.order(&process).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while !process.has_ended() {
        assert!(Instant::now() < deadline, "nothing was prepared");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let prepared =
        "select id::text, provider_call_id from attempts where state = 'dialing' and provider_call_id is not null";
    let prepared: Vec<(String, String)> =
        sqlx::query_as(prepared).fetch_all(side.test_db.pool()).await.expect("attempts");
    assert!(!prepared.is_empty());
    for (_, agent) in &prepared {
        let url = format!("{}/api/calls/{agent}", side.world.url());
        assert_eq!(answer(side.client.delete(url).header("x-api-key", KEY)).await.0, 204);
    }
    let mut process = side.start(None);
    assert!(process.wait_until_up(&side.client).await);
    side.settle(&mut process).await;
    for (attempt, _) in prepared {
        let fate = "select concat_ws(' ', state, disposition, dialed, hangup_cause) from attempts where id::text = $1";
        let fate: String =
            sqlx::query_scalar(fate).bind(attempt).fetch_one(side.test_db.pool()).await.expect("an attempt");
        assert_eq!(fate, "ended UNKNOWN t gone");
    }
    process.kill();
    side.finish().await;
}
