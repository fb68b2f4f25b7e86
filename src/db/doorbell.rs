//! LISTEN and NOTIFY: a hint that somebody should look, never the truth. The poll is the truth.
//!
//! A NOTIFY takes a database-wide lock until its commit is on disk, so it never rides in a business transaction: one task a
//! process rings after commit, at once for the first ring and then at most every [`QUIET`].

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPool};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::db::fault::within;

const CHANNEL: &str = "outdial";
/// What a NOTIFY of plain SQL says (migration 0025).
const BY_SQL: &str = "sql";
/// At least so long between two rings.
const QUIET: Duration = Duration::from_millis(25);
const RECONNECT_AFTER: Duration = Duration::from_secs(1);
/// A listener that hears nothing for so long is asked whether it still listens.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Wakes this process at once, and the others through Postgres.
#[derive(Clone, Debug, Default)]
pub struct Doorbell {
    /// Heard by the dispatcher of this process.
    pub local: Arc<Notify>,
    /// Heard by the scheduler of this process: plain SQL has written something ([`BY_SQL`]).
    pub by_sql: Arc<Notify>,
    /// Heard by the ringing task.
    remote: Arc<Notify>,
}

impl Doorbell {
    /// Somebody has work: this process looks now, the others as soon as the bell has rung.
    pub fn ring(&self) {
        self.local.notify_one();
        self.remote.notify_one();
    }

    /// Rings in Postgres for as long as the process lives. A ring that fails is forgotten: others poll.
    pub async fn ring_others(self, pool: PgPool, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.remote.notified() => {}
            }
            let ringing = sqlx::query_file!("sql/store/ring.sql", CHANNEL).fetch_one(&pool);
            if let Err(error) = within(HEARTBEAT, ringing).await {
                tracing::debug!(%error, "the doorbell did not ring");
            }
            tokio::time::sleep(QUIET).await;
        }
    }

    /// Listens for the others for as long as the process lives; after a lost connection it looks once, then listens again.
    pub async fn hear_others(self, options: PgConnectOptions, stop: CancellationToken) {
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.listen(&options) => ended,
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "lost the doorbell; polling until it is back");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RECONNECT_AFTER) => {}
            }
        }
    }

    async fn listen(&self, options: &PgConnectOptions) -> Result<(), sqlx::Error> {
        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
        let connecting = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        let mut listener = within(HEARTBEAT, connecting).await?;
        // What was rung between the last connection and this one is lost: look.
        self.local.notify_one();
        self.by_sql.notify_one();
        loop {
            match tokio::time::timeout(HEARTBEAT, listener.try_recv()).await {
                Ok(Ok(Some(rung))) if rung.payload() == BY_SQL => self.by_sql.notify_one(),
                Ok(Ok(Some(_))) => self.local.notify_one(),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                // Silence may be a connection that swallows: it has to answer.
                Err(_) => {
                    within(HEARTBEAT, listener.listen(CHANNEL)).await?;
                }
            }
        }
    }
}
