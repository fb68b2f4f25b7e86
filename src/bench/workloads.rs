//! The workloads, one function each; what they mean stands in the README's table.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::bench::{Bench, Options, call_to, number, own_lane};
use crate::domain::ids::{CallId, CampaignId, LaneId, OPERATOR, new_id};
use crate::queue::NewCall;

/// Slots where a limit must be on, but wide.
const WIDE: usize = 1000;
/// Slots where a limit is what is measured.
const NARROW: usize = 30;

pub(super) async fn run(workload: &str, n: usize, options: &Options) -> anyhow::Result<Value> {
    match workload {
        "enqueue_single" => enqueue_single(n, options).await,
        "enqueue_bulk" => enqueue_bulk(n, options).await,
        "drain" => drain(n, options).await,
        "latency" => latency(n, options).await,
        "keyed" => keyed(n, options).await,
        "backlog" => backlog(n, options).await,
        "lanes" => lanes(n, options).await,
        "lateness" => lateness(n, options).await,
        "mvcc" => mvcc(n, options).await,
        other => bail!(
            "no workload {other}: enqueue_single, enqueue_bulk, drain, latency, keyed, backlog, lanes, lateness or mvcc"
        ),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts of a measurement are far below 2^53")]
fn per_second(count: usize, since: Instant) -> f64 {
    (count as f64 / since.elapsed().as_secs_f64() * 10.0).round() / 10.0
}

fn secs(since: Instant) -> f64 {
    rounded(since.elapsed().as_secs_f64())
}

/// The nearest-rank percentile, in milliseconds.
fn percentile(sorted: &[f64], percent: usize) -> Value {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank.min(sorted.len().saturating_sub(1))).map_or(Value::Null, |ms| json!(rounded(*ms)))
}

fn milliseconds(mut durations: Vec<Duration>) -> Vec<f64> {
    durations.sort_unstable();
    durations.iter().map(|d| d.as_secs_f64() * 1e3).collect()
}

fn nth_number(range: u32, nth: usize) -> crate::domain::phone::PhoneNumber {
    number(range, u32::try_from(nth % 10_000_000).unwrap_or_default())
}

/// 16 producers, each waiting for the commit of its call before the next.
async fn enqueue_single(n: usize, options: &Options) -> anyhow::Result<Value> {
    let bench = Bench::prepare(NARROW, Duration::ZERO).await?;
    bench.enqueuer.enqueue(vec![call_to(nth_number(990, 0))]).await?;
    let cap = Duration::from_secs_f64(options.number("cap", 60.0)?);
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut producers = JoinSet::new();
    for _ in 0..16 {
        let (enqueuer, next) = (bench.enqueuer.clone(), Arc::clone(&next));
        producers.spawn(async move {
            let mut done = 0;
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= n || began.elapsed() > cap {
                    return anyhow::Ok(done);
                }
                enqueuer.enqueue(vec![call_to(nth_number(200, nth))]).await?;
                done += 1;
            }
        });
    }
    let mut done = 0;
    while let Some(producer) = producers.join_next().await {
        done += producer??;
    }
    Ok(json!({"jobs_per_s": per_second(done, began), "n": done, "secs": secs(began), "capped": done < n}))
}

async fn enqueue_bulk(n: usize, options: &Options) -> anyhow::Result<Value> {
    let bench = Bench::prepare(NARROW, Duration::ZERO).await?;
    let began = Instant::now();
    bench.load(n, options.count("conc", 4)?, |nth| call_to(nth_number(200, nth))).await?;
    Ok(json!({"jobs_per_s": per_second(n, began), "n": n, "secs": secs(began)}))
}

/// Preloaded calls to distinct numbers, from the start of the worker to the last commit.
async fn drain(n: usize, options: &Options) -> anyhow::Result<Value> {
    let limit = if options.text("mode", "tuned") == "c30" { NARROW } else { WIDE };
    let bench = Bench::prepare(limit, Duration::ZERO).await?;
    bench.load(n, 4, |nth| call_to(nth_number(200, nth))).await?;
    bench.analyze().await?;
    let (ok, done, began) = run_worker(&bench, n, options).await?;
    let remaining = n - done;
    Ok(
        json!({"jobs_per_s": per_second(done, began), "n": done, "secs": secs(began), "capped": !ok, "remaining_after": remaining}),
    )
}

async fn run_worker(bench: &Bench, n: usize, options: &Options) -> anyhow::Result<(bool, usize, Instant)> {
    let cap = Duration::from_secs_f64(options.number("cap", 60.0)?);
    let began = Instant::now();
    bench.start_worker().await?;
    let ok = bench.wait_for_ends(u64::try_from(n)?, began + cap).await;
    let done = usize::try_from(bench.inbox.ends())?.min(n);
    Ok((ok, done, began))
}

/// An idle worker, one call each interval: from the call of enqueue to the provider being asked.
async fn latency(n: usize, options: &Options) -> anyhow::Result<Value> {
    let bench = Bench::prepare(NARROW, Duration::ZERO).await?;
    bench.start_worker().await?;
    let interval = Duration::from_secs_f64(options.number("interval", 20.0)? / 1e3);
    singles(&bench, 20, interval, 990).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (asked, enqueued) = singles(&bench, n, interval, 200).await?;
    Ok(json!({
        "n": asked.len(), "p50_ms": percentile(&asked, 50), "p95_ms": percentile(&asked, 95), "p99_ms": percentile(&asked, 99),
        "max_ms": percentile(&asked, 100), "enqueue_p50_ms": percentile(&enqueued, 50),
    }))
}

/// Single calls, one each interval; milliseconds until each was asked for, and until each was committed, sorted.
async fn singles(bench: &Bench, n: usize, interval: Duration, range: u32) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let mut producers = JoinSet::new();
    let ends_before = bench.inbox.ends();
    let first = tokio::time::Instant::now();
    for nth in 0..n {
        tokio::time::sleep_until(first + interval * u32::try_from(nth)?).await;
        let (enqueuer, call) = (bench.enqueuer.clone(), call_to(nth_number(range, nth)));
        producers.spawn(async move {
            let (began, id) = (Instant::now(), call.id);
            enqueuer.enqueue(vec![call]).await?;
            anyhow::Ok((id, began, began.elapsed()))
        });
    }
    let mut started: Vec<(CallId, Instant)> = Vec::new();
    let mut enqueued = Vec::new();
    while let Some(producer) = producers.join_next().await {
        let (id, began, took) = producer??;
        started.push((id, began));
        enqueued.push(took);
    }
    bench.wait_for_ends(ends_before + u64::try_from(n)?, Instant::now() + Duration::from_secs(30)).await;
    let seen = bench.provider.seen();
    let asked = started.iter().filter_map(|(id, began)| Some(seen.asked.get(id)?.duration_since(*began))).collect();
    Ok((milliseconds(asked), milliseconds(enqueued)))
}

/// Calls over few numbers at a limit of 30, each lasting a while; the provider counts overlaps.
async fn keyed(n: usize, options: &Options) -> anyhow::Result<Value> {
    let keys = u32::try_from(options.count("keys", 5000)?)?;
    let hot = u32::try_from(options.count("hot", 0)?)?;
    let bench = Bench::prepare(NARROW, Duration::from_secs_f64(options.number("sleep", 5.0)? / 1e3)).await?;
    bench.load(n, 1, |nth| call_to(key_of(nth, keys, hot))).await?;
    bench.analyze().await?;
    let (ok, done, began) = run_worker(&bench, n, options).await?;
    let rate = per_second(done, began);
    let seen = bench.provider.seen();
    Ok(json!({
        "jobs_per_s": rate, "n": done, "secs": secs(began), "capped": !ok, "key_violations": seen.key_violations,
        "global_violations": seen.global_violations, "max_running": seen.max_running, "duplicates": seen.duplicates,
    }))
}

/// The same spread of numbers as every other contender's (murmur's finalizer).
fn key_of(nth: usize, keys: u32, hot: u32) -> crate::domain::phone::PhoneNumber {
    fn mix(h: u32) -> u32 {
        let mut h = h.wrapping_add(0x9e37_79b9);
        h ^= h >> 16;
        h = h.wrapping_mul(0x85eb_ca6b);
        h ^= h >> 13;
        h = h.wrapping_mul(0xc2b2_ae35);
        h ^ (h >> 16)
    }
    let nth = u32::try_from(nth).unwrap_or_default();
    if hot > 0 && mix(nth.wrapping_add(1_000_003)).is_multiple_of(10) {
        number(201, mix(nth) % hot)
    } else {
        number(200, mix(nth) % keys)
    }
}

/// A backlog that cannot be dialed, in levels; then due calls beside it, and single ones.
async fn backlog(n: usize, options: &Options) -> anyhow::Result<Value> {
    let blocked = options.text("kind", "future") == "blocked";
    let (reps, cap) = (options.count("reps", 3)?, Duration::from_secs_f64(options.number("cap", 60.0)?));
    let bench = Bench::prepare(WIDE, Duration::ZERO).await?;
    let paused = if blocked { Some(occupy_and_pause(&bench).await?) } else { None };
    if !blocked {
        bench.start_worker().await?;
    }
    bench.enqueuer.enqueue(vec![call_to(nth_number(990, 1))]).await?;
    bench.wait_for_ends(1, Instant::now() + Duration::from_secs(10)).await;
    let mut have = 0;
    let mut levels = Map::new();
    for level in options.text("levels", "0,100000,500000").split(',') {
        let level: usize = level.parse()?;
        let began = Instant::now();
        load_backlog(&bench, have, level, paused).await?;
        have = have.max(level);
        bench.analyze().await?;
        let load_s = secs(began);
        tokio::time::sleep(Duration::from_millis(500)).await;
        levels.insert(level.to_string(), measure_level(&bench, n, reps, cap, load_s).await?);
    }
    Ok(json!({ "levels": levels }))
}

async fn measure_level(bench: &Bench, n: usize, reps: usize, cap: Duration, load_s: f64) -> anyhow::Result<Value> {
    let (mut rates, mut p50s, mut worst, mut capped) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..reps {
        let (before, began) = (bench.inbox.ends(), Instant::now());
        bench.load(n, 2, |nth| call_to(nth_number(300, nth))).await?;
        let ok = bench.wait_for_ends(before + u64::try_from(n)?, began + cap).await;
        let done = usize::try_from(bench.inbox.ends() - before)?;
        rates.push(per_second(done, began));
        capped += usize::from(!ok);
        let (asked, _) = singles(bench, 20, Duration::from_millis(20), 310).await?;
        p50s.push(percentile(&asked, 50));
        worst.push(percentile(&asked, 100));
    }
    Ok(json!({"load_s": load_s, "rate": rates, "single_p50": p50s, "single_max": worst, "capped": capped}))
}

/// A number that stays on a call, and a paused campaign; the worker runs.
async fn occupy_and_pause(bench: &Bench) -> anyhow::Result<(CampaignId, LaneId)> {
    let busy = number(320, 1);
    *bench.provider.endless.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(busy.clone());
    bench.start_worker().await?;
    bench.enqueuer.enqueue(vec![call_to(busy)]).await?;
    let (campaign, lane) = (CampaignId(new_id()), LaneId(new_id()));
    sqlx::query_file!("sql/store/bench_paused_campaign.sql", campaign.0, OPERATOR.0, lane.0)
        .execute(&bench.db.work)
        .await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok((campaign, lane))
}

/// Raises the backlog to `level`: in the future, or half to the busy number and half in the paused campaign, all older.
async fn load_backlog(
    bench: &Bench,
    have: usize,
    level: usize,
    paused: Option<(CampaignId, LaneId)>,
) -> anyhow::Result<()> {
    let now = chrono::Utc::now();
    let more = level.saturating_sub(have);
    bench
        .load(more, 4, |nth| {
            let nth = have + nth;
            let call = call_to(nth_number(400, nth));
            match paused {
                None => NewCall { due_at: Some(now + chrono::TimeDelta::days(1)), ..call },
                Some(_) if nth.is_multiple_of(2) => {
                    NewCall { due_at: Some(now - chrono::TimeDelta::hours(1)), phone: number(320, 1), ..call }
                }
                Some((campaign, lane)) => NewCall {
                    due_at: Some(now - chrono::TimeDelta::hours(1)),
                    campaign_id: Some(campaign),
                    lane_id: lane,
                    ..call
                },
            }
        })
        .await
}

/// N due calls over `lanes` open lanes of as many campaigns, at a limit of 30: what a claim costs as lanes grow.
async fn lanes(n: usize, options: &Options) -> anyhow::Result<Value> {
    let count = options.count("lanes", 100)?;
    let bench = Bench::prepare(NARROW, Duration::ZERO).await?;
    let campaigns: Vec<(CampaignId, LaneId)> = (0..count).map(|_| (CampaignId(new_id()), LaneId(new_id()))).collect();
    let ids: Vec<_> = campaigns.iter().map(|(campaign, _)| campaign.0).collect();
    let lane_ids: Vec<_> = campaigns.iter().map(|(_, lane)| lane.0).collect();
    sqlx::query_file!("sql/store/bench_campaigns.sql", &ids, OPERATOR.0, &lane_ids).execute(&bench.db.work).await?;
    bench
        .load(n.max(count), 4, |nth| {
            let (campaign, lane) = campaigns.get(nth % count).copied().unwrap_or((CampaignId(new_id()), own_lane()));
            NewCall { campaign_id: Some(campaign), lane_id: lane, ..call_to(nth_number(200, nth)) }
        })
        .await?;
    bench.analyze().await?;
    let mut costs = Vec::new();
    for _ in 0..options.count("reps", 200)? {
        costs.push(one_claim(&bench).await?);
    }
    let costs = milliseconds(costs);
    Ok(
        json!({"lanes": count, "claim_p50_ms": percentile(&costs, 50), "claim_p95_ms": percentile(&costs, 95), "n": costs.len()}),
    )
}

/// One claim of 30 calls, rolled back.
async fn one_claim(bench: &Bench) -> anyhow::Result<Duration> {
    let mut connection = bench.db.work.acquire().await?;
    let mut transaction = crate::queue::admit(&mut connection).await?;
    let began = Instant::now();
    let room = crate::queue::Room {
        want: NARROW,
        global_limit: i32::try_from(NARROW)?,
        instance: crate::domain::ids::InstanceId(new_id()),
        provider: "bench",
        dial_guard_secs: 2.0,
        lanes_max: bench.config.calls.lanes_per_claim,
        lease_secs: 15.0,
        dials_per_second: 0.0,
        frequency: crate::queue::Frequency::default(),
    };
    let claim = crate::queue::claim(&mut transaction, room).await?;
    anyhow::ensure!(claim.calls.len() == NARROW, "the claim found {} calls", claim.calls.len());
    let took = began.elapsed();
    transaction.rollback().await?;
    Ok(took)
}

/// Calls scheduled ahead on an idle worker: how late each is asked for.
async fn lateness(n: usize, options: &Options) -> anyhow::Result<Value> {
    let bench = Bench::prepare(NARROW, Duration::ZERO).await?;
    bench.start_worker().await?;
    let interval = chrono::TimeDelta::milliseconds(i64::try_from(options.count("interval", 50)?)?);
    let first = chrono::Utc::now() + chrono::TimeDelta::seconds(2);
    let (wall, monotonic) = (chrono::Utc::now(), Instant::now());
    let mut due = Vec::new();
    for nth in 0..n {
        let at = first + interval * i32::try_from(nth)?;
        let call = NewCall { due_at: Some(at), ..call_to(nth_number(200, nth)) };
        due.push((call.id, monotonic + (at - wall).to_std()?));
        bench.enqueuer.enqueue(vec![call]).await?;
    }
    let last = due.last().map_or(monotonic, |(_, at)| *at);
    bench.wait_for_ends(u64::try_from(n)?, last + Duration::from_secs(10)).await;
    let seen = bench.provider.seen();
    let late = due.iter().filter_map(|(id, at)| Some(seen.asked.get(id)?.saturating_duration_since(*at))).collect();
    let late = milliseconds(late);
    Ok(
        json!({"n": late.len(), "p50_ms": percentile(&late, 50), "p99_ms": percentile(&late, 99), "max_ms": percentile(&late, 100)}),
    )
}

/// Churn in cycles of 10,000, with or without an idle snapshot held open.
async fn mvcc(n: usize, options: &Options) -> anyhow::Result<Value> {
    const CYCLE: usize = 10_000;
    let bench = Bench::prepare(WIDE, Duration::ZERO).await?;
    let mut pin = bench.db.read.acquire().await?;
    if options.text("pinned", "0") == "1" {
        sqlx::raw_sql("set idle_in_transaction_session_timeout = 0; begin isolation level repeatable read; select count(*) from pg_class")
            .execute(&mut *pin)
            .await?;
    }
    bench.start_worker().await?;
    let cap = Duration::from_secs_f64(options.number("cap", 60.0)?);
    let (mut rates, began, mut capped) = (Vec::new(), Instant::now(), false);
    while rates.len() * CYCLE < n && !capped {
        let (before, cycle) = (bench.inbox.ends(), Instant::now());
        let base = rates.len() * CYCLE;
        bench.load(CYCLE, 2, |nth| call_to(nth_number(200, base + nth))).await?;
        let ok = bench.wait_for_ends(before + u64::try_from(CYCLE)?, began + cap.max(Duration::from_secs(1))).await;
        rates.push(per_second(usize::try_from(bench.inbox.ends() - before)?, cycle));
        capped = !ok || began.elapsed() > cap;
    }
    let done = usize::try_from(bench.inbox.ends())?;
    Ok(json!({
        "n": rates.len() * CYCLE, "capped": capped, "first": rates.first(), "last": rates.last(),
        "jobs_per_s": per_second(done, began), "cycles": rates,
    }))
}
