//! Housekeeping by the clock: rescue what dead processes left, open and close lanes, end what expired or lasted
//! too long, read uploaded lists ([`imports`]), sweep strays, fold counts, prune. Every tick takes no input and finds its own work, so that any number of instances may run it at once.
//!
//! **Invariant:** never asks a provider; it only changes the table, and the executor finds what changed.

pub mod imports;

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::db::doorbell::Doorbell;
use crate::domain::word::Word;
use crate::outcome;
use crate::outcome::inbox::{Heard, Inbox};
use crate::planner;
use crate::queue;
use crate::queue::windows;
use crate::store::{deliveries, idempotency, instances, strays, uploads};

/// Rows one tick moves at most of each kind; the next tick is soon.
const BATCH_MAX: i64 = 1000;
/// The slower rounds run once in so many ticks.
const SLOW_EVERY: u64 = 60;

/// What the scheduler follows; see config.toml for each.
#[derive(Clone, Debug)]
pub struct Settings {
    pub tick: Duration,
    pub max_call: Duration,
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
    pub pool: PgPool,
    pub inbox: Inbox,
    pub doorbell: Doorbell,
    pub settings: Settings,
}

/// What one tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub doubted: usize,
    pub overdue: usize,
    pub opened: usize,
    pub expired: usize,
    pub canceled: i64,
    pub strays: usize,
}

impl Scheduler {
    /// Ticks until `stop`. A tick that fails is made good by the next.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.settings.tick) => {}
            }
            self.tick().await;
            if ticks % SLOW_EVERY == 0
                && let Err(error) = self.slow_tick().await
            {
                tracing::warn!(%error, "a slow scheduler tick failed");
            }
            ticks += 1;
        }
    }

    /// Rescue, refill, place, plan, open lanes, expire, sweep, fold: a step that fails does not keep the others from theirs.
    pub async fn tick(&self) -> Report {
        let doubted = done("rescue", queue::doubt_of_the_dead(&self.pool, BATCH_MAX).await);
        for attempt in &doubted {
            tracing::warn!(attempt.id = %attempt, "its process died while dialing; it is looked up");
        }
        let overdue = queue::overdue(&self.pool, self.settings.max_call.as_secs_f64(), BATCH_MAX).await;
        let overdue = done("overdue", overdue);
        for attempt in &overdue {
            tracing::warn!(attempt.id = %attempt, "no word until the maximum call time; its end stays unknown");
            self.inbox.tell(Heard::about(*attempt, Word::Overdue, "rescue"));
        }
        done("refill", queue::refill(&self.pool, BATCH_MAX).await);
        done("days", queue::turn_days(&self.pool, BATCH_MAX).await);
        let sorted = done("sort", windows::sort(&self.pool, BATCH_MAX).await);
        let planned = done("plan", planner::plan_if_due(&self.pool, self.settings.planner).await);
        let opened = done("windows", windows::reopen_due(&self.pool, BATCH_MAX).await);
        let expired = done("expire", queue::expire(&self.pool, BATCH_MAX).await);
        let canceled = done("sweep", queue::sweep_canceled(&self.pool, None, BATCH_MAX).await);
        let strays = done("strays", outcome::sweep_strays(&self.pool, &self.inbox, BATCH_MAX).await);
        done("fold", queue::fold_tallies(&self.pool).await);
        done("measure", self.measure().await);
        if opened > 0 || sorted > 0 || planned.is_some() || expired > 0 || canceled > 0 {
            self.doorbell.ring();
        }
        Report { doubted: doubted.len(), overdue: overdue.len(), opened, expired, canceled, strays }
    }

    /// Prunes, and looks for what must not be.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn slow_tick(&self) -> sqlx::Result<()> {
        idempotency::prune(&self.pool, self.settings.idempotency_hours).await?;
        strays::prune(&self.pool, self.settings.stray_event_days).await?;
        uploads::prune(&self.pool, self.settings.upload_days).await?;
        deliveries::prune(&self.pool, self.settings.delivery_days).await?;
        deliveries::sweep(&self.pool).await?;
        instances::prune(&self.pool).await?;
        let orphans = queue::release_orphans(&self.pool, BATCH_MAX).await?;
        if orphans > 0 {
            metrics::counter!("outdial_orphans_total").increment(u64::try_from(orphans).unwrap_or_default());
            tracing::error!(orphans, "parked calls had nothing to wake them; released");
            self.doorbell.ring();
        }
        Ok(())
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

/// What a step did; nothing, when it failed: the next tick makes it good.
fn done<T: Default>(step: &'static str, result: sqlx::Result<T>) -> T {
    result.unwrap_or_else(|error| {
        tracing::warn!(step, %error, "a step of the scheduler failed");
        T::default()
    })
}
