//! Housekeeping by the clock: open and close lanes, end what expired, plan, read uploaded lists ([`imports`]), sweep strays, fold counts,
//! prune. Every tick takes no input and finds its own work, so that any number of instances may run it at once.
//!
//! **Invariant:** never asks a provider; it only changes the table, and the executor finds what changed. A step that fails, hangs or
//! panics ends that step only.

pub mod imports;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db::doorbell::Doorbell;
use crate::db::fault::{caught, within};
use crate::outcome;
use crate::outcome::inbox::Inbox;
use crate::planner;
use crate::queue;
use crate::queue::windows;
use crate::store::{deliveries, idempotency, instances, strays, uploads};
use crate::telemetry::vitals::{Vital, Vitals};

/// Rows one tick moves at most of each kind; the next tick is soon.
const BATCH_MAX: i64 = 1000;
/// At least so long between two looks at what plain SQL has written.
const QUIET: Duration = Duration::from_millis(25);
/// The slower rounds run once in so many ticks.
const SLOW_EVERY: u64 = 60;

/// What the scheduler follows; see config.toml for each.
#[derive(Clone, Debug)]
pub struct Settings {
    pub tick: Duration,
    /// A step that takes longer is given up.
    pub step_patience: Duration,
    pub global_limit: i32,
    pub idempotency_hours: i32,
    pub stray_event_days: i32,
    pub upload_days: i32,
    pub delivery_days: i32,
    pub planner: planner::Limits,
}

/// The scheduler of one process.
#[derive(Debug)]
pub struct Scheduler {
    pub vitals: Arc<Vitals>,
    pub pool: PgPool,
    pub inbox: Inbox,
    pub doorbell: Doorbell,
    pub settings: Settings,
}

/// What one tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub opened: usize,
    pub expired: usize,
    pub canceled: i64,
    pub strays: usize,
}

impl Scheduler {
    /// Ticks until `stop`. A tick that fails is made good by the next.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = 0;
        let mut next = Instant::now() + self.settings.tick;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.doorbell.by_sql.notified() => {
                    self.take_in().await;
                    tokio::time::sleep(QUIET).await;
                    continue;
                }
                () = tokio::time::sleep_until(next) => {}
            }
            self.tick().await;
            next = Instant::now() + self.settings.tick;
            if ticks % SLOW_EVERY == 0 {
                self.slow_tick().await;
            }
            ticks += 1;
        }
    }

    /// Takes in what plain SQL has written: changes first, then calls that are in no lane yet. Goes on at once while there is more.
    async fn take_in(&self) {
        let changed = self.step("plain sql", queue::take_in(&self.pool)).await.unwrap_or_default();
        let sorted = self.step("sort", windows::sort(&self.pool, BATCH_MAX)).await.unwrap_or_default();
        if changed > 0 || sorted > 0 {
            self.doorbell.ring();
            self.doorbell.by_sql.notify_one();
        }
    }

    /// Refill, place, plan, open lanes, expire, sweep, fold: a step that fails does not keep the others from theirs.
    pub async fn tick(&self) -> Report {
        self.step("refill", queue::refill(&self.pool, BATCH_MAX)).await;
        self.step("days", queue::turn_days(&self.pool, BATCH_MAX)).await;
        self.step("caps", queue::turn_caps_day(&self.pool)).await;
        let canonized = self.step("do not call", queue::canonize(&self.pool, BATCH_MAX)).await.unwrap_or_default();
        self.take_in().await;
        let planned = self.step("plan", planner::plan_if_due(&self.pool, self.settings.planner)).await.flatten();
        self.vitals.beat_if(Vital::Planning, planned.is_some());
        let opened = self.step("windows", windows::reopen_due(&self.pool, BATCH_MAX)).await.unwrap_or_default();
        let expired = self.step("expire", queue::expire(&self.pool, BATCH_MAX)).await.unwrap_or_default();
        let canceled = self.step("sweep", queue::sweep_canceled(&self.pool, None, BATCH_MAX)).await.unwrap_or_default();
        let sweeping = outcome::sweep_strays(&self.pool, &self.inbox, BATCH_MAX);
        let strays = self.step("strays", sweeping).await.unwrap_or_default();
        let folded = self.step("fold", queue::fold_tallies(&self.pool)).await;
        self.vitals.beat_if(Vital::Housekeeping, folded.is_some());
        self.step("measure", self.measure()).await;
        if opened > 0 || canonized > 0 || planned.is_some() || expired > 0 || canceled > 0 {
            self.doorbell.ring();
        }
        Report { opened, expired, canceled, strays }
    }

    /// Prunes, and looks for what must not be.
    pub async fn slow_tick(&self) {
        let settings = &self.settings;
        self.step("prune answers", idempotency::prune(&self.pool, settings.idempotency_hours)).await;
        self.step("prune strays", strays::prune(&self.pool, settings.stray_event_days)).await;
        self.step("prune uploads", uploads::prune(&self.pool, settings.upload_days)).await;
        self.step("prune deliveries", deliveries::prune(&self.pool, settings.delivery_days)).await;
        self.step("sweep deliveries", deliveries::sweep(&self.pool)).await;
        self.step("prune processes", instances::prune(&self.pool)).await;
        let orphans = self.step("orphans", queue::release_orphans(&self.pool, BATCH_MAX)).await.unwrap_or_default();
        if orphans > 0 {
            metrics::counter!("outdial_orphans_total").increment(u64::try_from(orphans).unwrap_or_default());
            tracing::error!(orphans, "parked calls had nothing to wake them; released");
            self.doorbell.ring();
        }
    }

    /// What a step did; none when it failed, hung or panicked: the next tick makes it good.
    async fn step<T>(&self, step: &'static str, work: impl Future<Output = sqlx::Result<T>>) -> Option<T> {
        let done = caught(step, within(self.settings.step_patience, work)).await;
        done.inspect_err(|error| tracing::warn!(step, %error, "a step of the scheduler failed")).ok()
    }

    async fn measure(&self) -> sqlx::Result<()> {
        let used = queue::slots_used(&self.pool).await?;
        let ceiling = used.provider_ceiling.unwrap_or(self.settings.global_limit);
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "gauges are f64; counts are small")]
        let (live, unknown) = (used.live as f64, used.unknown as f64);
        metrics::gauge!("outdial_slots_used", "scope" => "global").set(live);
        metrics::gauge!("outdial_slots_allowed", "scope" => "global").set(f64::from(self.settings.global_limit));
        metrics::gauge!("outdial_slots_allowed", "scope" => "provider").set(f64::from(ceiling));
        metrics::gauge!("outdial_breaker_open").set(f64::from(u8::from(used.breaker_open)));
        metrics::gauge!("outdial_unknown_attempts").set(unknown);
        Ok(())
    }
}
