//! Measuring the queue: `outdial bench <workload> <N> [key=value …]` on an empty database.
//!
//! The workloads run through the real queue: the same tables, enqueuer, dispatcher, claim and settle, with the limits on. Only
//! the provider is replaced by one that answers at once and counts what it sees ([`provider`]). A completion counts when its
//! outcome is committed. The last line printed is one JSON object.

mod provider;
mod workloads;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bench::provider::BenchProvider;
use crate::config::{self, Config};
use crate::db::Db;
use crate::db::doorbell::Doorbell;
use crate::domain::call::rank;
use crate::domain::ids::{CallId, InstanceId, LaneId, OPERATOR, new_id};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::executor::dispatcher::Dispatcher;
use crate::outcome::inbox::Inbox;
use crate::queue::{self, Enqueuer, NewCall};
use crate::service;

/// `key=value` pairs; unknown keys are ignored, so that one command line serves several contenders.
pub struct Options(HashMap<String, String>);

impl Options {
    fn number(&self, key: &str, default: f64) -> anyhow::Result<f64> {
        self.0
            .get(key)
            .map_or(Ok(default), |text| text.parse().with_context(|| format!("{key}={text} is not a number")))
    }

    fn count(&self, key: &str, default: usize) -> anyhow::Result<usize> {
        self.0.get(key).map_or(Ok(default), |text| text.parse().with_context(|| format!("{key}={text} is not a count")))
    }

    fn text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.0.get(key).map_or(default, String::as_str)
    }
}

/// A queue under measurement.
pub struct Bench {
    db: Db,
    inbox: Inbox,
    doorbell: Doorbell,
    enqueuer: Enqueuer,
    provider: Arc<BenchProvider>,
    config: Config,
    stop: CancellationToken,
}

/// Runs a workload and prints its figures.
///
/// # Errors
/// An unknown workload, a database that is not empty, Postgres away.
pub async fn run(workload: &str, n: usize, pairs: &[String]) -> anyhow::Result<()> {
    let pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
    let options = Options(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
    let metrics = workloads::run(workload, n, &options).await?;
    let mode = options.text("mode", "tuned");
    let line = json!({"contender": "ours", "workload": workload, "mode": mode, "args": options.0, "metrics": metrics});
    print_line(&line);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are this command's product")]
fn print_line(line: &Value) {
    println!("{line}");
}

impl Bench {
    /// A migrated, empty database with `limit` slots; calls last `call_lasts`.
    async fn prepare(limit: usize, call_lasts: Duration) -> anyhow::Result<Self> {
        let mut config = config::load()?;
        config.calls.max_concurrent = i32::try_from(limit)?;
        config.executor.dials_in_flight = limit;
        let (db, server) = service::prepare_database(&config, Duration::ZERO).await?;
        if server.is_some() {
            bail!("bench wants a database of its own: DATABASE_URL=postgres://… of an empty one");
        }
        if !crate::store::calls::tallies(&db.read, None, None).await?.is_empty() {
            bail!("the database of DATABASE_URL has calls in it; bench wants an empty one");
        }
        let inbox = Inbox::new(Duration::from_millis(config.executor.answer_flush_ms));
        let doorbell = Doorbell::default();
        let stop = CancellationToken::new();
        let (enqueuer, enqueuing) =
            Enqueuer::new(db.work.clone(), doorbell.clone(), Duration::from_secs(40), stop.clone());
        tokio::spawn(enqueuing);
        tokio::spawn(doorbell.clone().ring_others(db.work.clone(), stop.clone()));
        let (ear, said) = mpsc::unbounded_channel();
        tokio::spawn(service::listen(said, inbox.clone(), stop.clone()));
        let provider = Arc::new(BenchProvider::new(call_lasts, limit, ear));
        Ok(Self { db, inbox, doorbell, enqueuer, provider, config, stop })
    }

    /// Starts the worker loop, as the service does.
    async fn start_worker(&self) -> anyhow::Result<()> {
        let instance = InstanceId(new_id());
        let provider: Arc<dyn crate::provider::Provider> = self.provider.clone();
        let line = service::line_of(&self.config, &self.db, &self.inbox, instance, provider, b"bench".to_vec());
        line.lease.renew(&self.db.work, "bench", "bench").await?;
        let line = Arc::new(line);
        let (keeping, pool, stop) = (Arc::clone(&line), self.db.work.clone(), self.stop.clone());
        tokio::spawn(async move {
            keeping.lease.keep(pool, "bench".to_owned(), "bench".to_owned(), Arc::default(), stop).await
        });
        tokio::spawn(self.doorbell.clone().hear_others(self.db.options.clone(), self.stop.clone()));
        let dispatcher = Dispatcher::new(
            &self.db,
            self.inbox.clone(),
            line.settings.clone(),
            Arc::clone(&line.vitals),
            Some(line),
            service::rules_of(&self.config),
            self.doorbell.clone(),
        );
        tokio::spawn(dispatcher.run(self.stop.clone(), self.stop.clone(), Duration::ZERO));
        Ok(())
    }

    /// `count` calls made by `make`, in batches of 1,000, `parallel` at a time.
    async fn load(&self, count: usize, parallel: usize, make: impl Fn(usize) -> NewCall) -> anyhow::Result<()> {
        use futures::{StreamExt, TryStreamExt};
        const BATCH: usize = 1000;
        let starts = (0..count).step_by(BATCH);
        let batches = starts.map(|start| (start..(start + BATCH).min(count)).map(&make).collect::<Vec<_>>());
        futures::stream::iter(batches)
            .map(|calls| async move {
                let verdicts = queue::enqueue(&self.db.work, &calls).await?;
                anyhow::ensure!(verdicts.len() == calls.len(), "a verdict for each call");
                self.doorbell.ring();
                Ok(())
            })
            .buffer_unordered(parallel)
            .try_collect::<()>()
            .await
    }

    /// Waits until `target` calls have ended, at most until `deadline`; whether they did.
    async fn wait_for_ends(&self, target: u64, deadline: Instant) -> bool {
        while self.inbox.ends() < target {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }

    async fn analyze(&self) -> anyhow::Result<()> {
        sqlx::raw_sql("analyze").execute(&self.db.work).await?;
        Ok(())
    }
}

/// A due call of the operator to a number.
fn call_to(phone: PhoneNumber) -> NewCall {
    NewCall {
        id: CallId(new_id()),
        user_id: OPERATOR,
        lane_id: OPERATOR.own_lane(),
        campaign_id: None,
        rank: rank::NORMAL,
        priority: rank::NORMAL,
        due_at: None,
        expires_at: None,
        phone,
        script_id: "bench".to_owned(),
        metadata: json!({"campaign": "c1"}).into(),
        variables: RawJson::empty_object(),
        prospect_id: None,
        external_id: None,
        time_zone: None,
        ignore_window: false,
        dials_max: 3,
        reject_duplicate: false,
    }
}

/// A number of a range of ten million.
fn number(range: u32, nth: u32) -> PhoneNumber {
    let text = format!("+1{range:03}{:07}", nth % 10_000_000);
    // Made of a plus and eleven digits, the first not zero.
    PhoneNumber::parse(&text).unwrap_or_else(|_| unreachable!("{text}"))
}

/// The lane of single calls.
fn own_lane() -> LaneId {
    OPERATOR.own_lane()
}
