//! The lease of a process in `instances`, of every role, renewed while it lives: whether it may claim and dial, and what it last did.
//!
//! Others take our dials for doubtful once the lease has run out by the database's clock. So we stop a margin earlier by our
//! own monotonic clock, counted from before the renewal was sent: a process that was frozen wakes up knowing that it is late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db::fault::within;
use crate::domain::ids::InstanceId;
use crate::executor::high_water::HighWater;
use crate::store::instances;
use crate::telemetry::vitals::Vitals;

/// We consider the lease gone so much before others do.
const MARGIN: Duration = Duration::from_secs(2);

/// The lease of this process.
#[derive(Debug)]
pub struct Lease {
    pub instance: InstanceId,
    pub lasts: Duration,
    good_until: Mutex<Option<Instant>>,
    vitals: Arc<Vitals>,
    /// Dialing is held, and that is logged.
    held: AtomicBool,
}

impl Lease {
    #[must_use]
    pub fn new(instance: InstanceId, lasts: Duration, vitals: Arc<Vitals>) -> Self {
        Self { instance, lasts, good_until: Mutex::new(None), vitals, held: AtomicBool::new(false) }
    }

    /// Whether others still take us for alive, with a margin.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let good_until = self.good_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        good_until.is_some_and(|at| Instant::now() < at)
    }

    /// Renews once.
    ///
    /// # Errors
    /// Postgres is away; the lease runs on until it ends.
    pub async fn renew(&self, pool: &PgPool, role: &str, host: &str) -> sqlx::Result<()> {
        let asked = Instant::now();
        let renewing = instances::renew(pool, self.instance, self.lasts.as_secs_f64(), role, host, &self.vitals);
        let held = within(self.lasts / 3, renewing).await?;
        if let Some(reason) = &held
            && !self.held.swap(true, Ordering::Relaxed)
        {
            tracing::error!(
                reason,
                "dialing is held: this database does not know what was dialed last; outdial reconcile asks the provider, outdial reconcile --lift-hold goes on"
            );
        }
        if held.is_none() {
            self.held.store(false, Ordering::Relaxed);
        }
        let mut good_until = self.good_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *good_until = Some(asked + self.lasts.saturating_sub(MARGIN));
        Ok(())
    }

    /// Renews until `stop`, four times in a lease.
    pub async fn keep(
        &self,
        pool: PgPool,
        role: String,
        host: String,
        high_water: Arc<HighWater>,
        stop: CancellationToken,
    ) {
        let every = self.lasts / 4;
        loop {
            let wait = match self.renew(&pool, &role, &host).await {
                Ok(()) => {
                    high_water.note(self.vitals.newest_attempt()).await;
                    every
                }
                Err(error) => {
                    tracing::warn!(%error, good = self.is_good(), "could not renew the lease of this process");
                    every.min(Duration::from_millis(500))
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
