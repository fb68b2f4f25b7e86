//! New calls. Requests that arrive together share one insert and one commit.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::db::Kept;
use crate::db::doorbell::Doorbell;
use crate::db::fault::{self, within};
use crate::domain::failpoint;
use crate::domain::ids::{CallId, CampaignId, LaneId, ProspectId, UserId};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;

/// A call as it enters its lane.
#[derive(Clone, Debug)]
pub struct NewCall {
    pub id: CallId,
    pub user_id: UserId,
    pub lane_id: LaneId,
    pub campaign_id: Option<CampaignId>,
    pub rank: i16,
    pub priority: i16,
    /// None: now, by the database's clock.
    pub due_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub phone: PhoneNumber,
    pub script_id: String,
    pub metadata: RawJson,
    pub variables: RawJson,
    pub external_id: Option<String>,
    pub time_zone: Option<String>,
    pub ignore_window: bool,
    /// The person it is for; one open call each.
    pub prospect_id: Option<ProspectId>,
    pub dials_max: i16,
    /// Refuse a second waiting or live call of this user to the number.
    pub reject_duplicate: bool,
}

/// What became of a new call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Created {
        created_at: DateTime<Utc>,
        due_at: DateTime<Utc>,
    },
    /// The number is on a do-not-call list.
    Suppressed,
    /// `reject_duplicate`, and this call of the user is waiting or live.
    Duplicate {
        of: CallId,
    },
    /// A call with this id or external id exists: a repeat, or a clash for the caller to tell apart.
    Exists,
}

/// Puts calls into their lanes in one commit of their own; verdicts come in the order of the calls.
///
/// # Errors
/// Postgres is away; nothing was enqueued then, or the answer was lost (repeat with the same ids).
pub async fn enqueue(pool: &PgPool, calls: &[NewCall]) -> sqlx::Result<Vec<Verdict>> {
    enqueue_on(&mut *pool.acquire().await?, calls).await
}

async fn enqueue_on(connection: &mut PgConnection, calls: &[NewCall]) -> sqlx::Result<Vec<Verdict>> {
    fn column<T>(calls: &[NewCall], field: impl Fn(&NewCall) -> T) -> Vec<T> {
        calls.iter().map(field).collect()
    }
    failpoint::hit("enqueue.before_commit");
    let rows = sqlx::query_file!(
        "sql/queue/enqueue.sql",
        &column(calls, |c| c.id) as _,
        &column(calls, |c| c.user_id) as _,
        &column(calls, |c| c.lane_id) as _,
        &column(calls, |c| c.campaign_id) as _,
        &column(calls, |c| c.rank),
        &column(calls, |c| c.priority),
        &column(calls, |c| c.due_at) as _,
        &column(calls, |c| c.expires_at) as _,
        &column(calls, |c| c.phone.as_str().to_owned()),
        &column(calls, |c| c.script_id.clone()),
        &column(calls, |c| c.metadata.clone()) as _,
        &column(calls, |c| c.variables.clone()) as _,
        &column(calls, |c| c.external_id.clone()) as _,
        &column(calls, |c| c.time_zone.clone()) as _,
        &column(calls, |c| c.ignore_window),
        &column(calls, |c| c.dials_max),
        &column(calls, |c| c.reject_duplicate),
        &column(calls, |c| c.prospect_id) as _,
    )
    .fetch_all(connection)
    .await?;
    failpoint::hit("enqueue.after_commit");
    let verdicts = rows.into_iter().map(|row| match (row.created_at, row.due_at) {
        (Some(created_at), Some(due_at)) => Verdict::Created { created_at, due_at },
        _ if row.suppressed => Verdict::Suppressed,
        _ => row.twin_id.map_or(Verdict::Exists, |id| Verdict::Duplicate { of: CallId(id) }),
    });
    Ok(verdicts.collect())
}

type Waiter = (Vec<NewCall>, oneshot::Sender<Result<Vec<Verdict>, Arc<sqlx::Error>>>);

/// Where requests meet: those that arrive while a commit is under way share the next one.
#[derive(Clone, Debug)]
pub struct Enqueuer {
    queue: mpsc::Sender<Waiter>,
}

/// Requests that may wait for the next insert.
const BACKLOG_MAX: usize = 4096;
/// Inserts under way at once.
const LINES: usize = 2;
/// No more requests are taken along once an insert has so many calls.
const BATCH_MAX: usize = 1000;

impl Enqueuer {
    /// The meeting place, and the task that empties it: to be run until `stop`.
    /// An insert that does not answer within `patience` is given up.
    pub fn new(
        pool: PgPool,
        doorbell: Doorbell,
        patience: Duration,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(BACKLOG_MAX);
        let receiver = Arc::new(Mutex::new(receiver));
        // A task each, so that one line's commit and the other's insert overlap.
        let serving = async move {
            let mut lines = JoinSet::new();
            for _ in 0..LINES {
                lines.spawn(run(pool.clone(), doorbell.clone(), Arc::clone(&receiver), patience, stop.clone()));
            }
            lines.join_all().await;
        };
        (Self { queue: sender }, serving)
    }

    /// Enqueues calls together with whoever else is enqueuing now; answers when they are committed.
    ///
    /// # Errors
    /// As [`enqueue`]; also when the process is shutting down.
    pub async fn enqueue(&self, calls: Vec<NewCall>) -> Result<Vec<Verdict>, Arc<sqlx::Error>> {
        let (answer, answered) = oneshot::channel();
        let closed = || Arc::new(sqlx::Error::PoolClosed);
        self.queue.send((calls, answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

async fn run(
    pool: PgPool,
    doorbell: Doorbell,
    queue: Arc<Mutex<mpsc::Receiver<Waiter>>>,
    patience: Duration,
    stop: CancellationToken,
) {
    let mut kept = Kept::of(pool);
    while let Some(mut waiters) = next_batch(&queue, &stop).await {
        // Whoever waits for a batch that panics is told 503.
        if AssertUnwindSafe(serve(&mut kept, &doorbell, &mut waiters, patience)).catch_unwind().await.is_err() {
            tracing::error!("an insert panicked; the next starts afresh");
            kept.discard().await;
        }
    }
}

/// Waits for a request and takes along whoever else is in line; none: the line is closed and empty.
async fn next_batch(queue: &Mutex<mpsc::Receiver<Waiter>>, stop: &CancellationToken) -> Option<Vec<Waiter>> {
    let mut queue = queue.lock().await;
    let first = tokio::select! {
        biased;
        waiter = queue.recv() => waiter,
        () = stop.cancelled() => {
            // What is already in line is still served.
            queue.close();
            queue.recv().await
        }
    }?;
    let mut calls = first.0.len();
    let mut waiters = vec![first];
    while calls < BATCH_MAX {
        let Ok(waiter) = queue.try_recv() else { break };
        calls += waiter.0.len();
        waiters.push(waiter);
    }
    Some(waiters)
}

/// On a connection that has gone stale it is tried once more on a new one: the ids are the same, so a call that was created and not
/// told of is found.
async fn enqueue_kept(kept: &mut Kept, calls: &[NewCall], patience: Duration) -> sqlx::Result<Vec<Verdict>> {
    let mut stale = kept.is_used();
    loop {
        let enqueuing = async { enqueue_on(kept.get().await?, calls).await };
        match within(patience, enqueuing).await {
            Ok(verdicts) => return Ok(verdicts),
            Err(error) => {
                kept.discard().await;
                if !std::mem::take(&mut stale) || !fault::is_of_the_connection(&error) {
                    return Err(error);
                }
            }
        }
    }
}

/// One commit for all; if it fails for a reason other than the connection, each by itself, so that one bad request does not
/// spoil the others'.
async fn serve(kept: &mut Kept, doorbell: &Doorbell, waiters: &mut Vec<Waiter>, patience: Duration) {
    let together: Vec<NewCall> = waiters.iter().flat_map(|(calls, _)| calls.iter().cloned()).collect();
    match enqueue_kept(kept, &together, patience).await {
        Ok(verdicts) => {
            doorbell.ring();
            let mut verdicts = verdicts.into_iter();
            for (calls, answer) in waiters.drain(..) {
                // The one who asked may have gone; the call is enqueued all the same.
                let _ = answer.send(Ok(verdicts.by_ref().take(calls.len()).collect()));
            }
        }
        Err(error) if waiters.len() > 1 && fault::is_of_the_values(&error) => {
            for (calls, answer) in waiters.drain(..) {
                let verdicts = enqueue_kept(kept, &calls, patience).await.map_err(Arc::new);
                doorbell.ring();
                let _ = answer.send(verdicts);
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for (_, answer) in waiters.drain(..) {
                let _ = answer.send(Err(Arc::clone(&error)));
            }
        }
    }
}
