//! New calls. Requests that arrive together share one insert and one commit.

use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

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

/// A request whose lane another session holds is tried again after so long, for so long; then it is told to come again.
const HELD_PAUSE: Duration = Duration::from_millis(500);
const HELD_FOR_MAX: Duration = Duration::from_secs(6);
/// So many requests wait beside the others at most.
const HELD_MAX: usize = 100;
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
            let (held, turn) = (TaskTracker::new(), Arc::<Mutex<()>>::default());
            for _ in 0..LINES {
                let line = Line {
                    kept: Kept::of(pool.clone()),
                    doorbell: doorbell.clone(),
                    patience,
                    beside: Beside { pool: pool.clone(), turn: Arc::clone(&turn), tasks: held.clone() },
                };
                lines.spawn(line.run(Arc::clone(&receiver), stop.clone()));
            }
            lines.join_all().await;
            held.close();
            held.wait().await;
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

/// One of the lines that insert.
struct Line {
    kept: Kept,
    doorbell: Doorbell,
    patience: Duration,
    beside: Beside,
}

/// Where requests wait whose lane another session holds: nobody else waits with them.
struct Beside {
    pool: PgPool,
    /// One tries at a time, so that they never take all connections.
    turn: Arc<Mutex<()>>,
    tasks: TaskTracker,
}

impl Line {
    async fn run(mut self, queue: Arc<Mutex<mpsc::Receiver<Waiter>>>, stop: CancellationToken) {
        while let Some(mut waiters) = next_batch(&queue, &stop).await {
            // Whoever waits for a batch that panics is told 503.
            if AssertUnwindSafe(self.serve(&mut waiters)).catch_unwind().await.is_err() {
                tracing::error!("an insert panicked; the next starts afresh");
                self.kept.discard().await;
            }
        }
    }

    /// One commit for all. One bad request does not spoil the others': what says something of the values is tried by itself; where a
    /// lane is held, the others go on without it.
    async fn serve(&mut self, waiters: &mut Vec<Waiter>) {
        match self.enqueue_all(waiters).await {
            Ok(()) => {}
            Err(error) if fault::is_of_the_values(&error) && waiters.len() > 1 => {
                for waiter in waiters.drain(..) {
                    let mut alone = vec![waiter];
                    if let Err(error) = self.enqueue_all(&mut alone).await {
                        refuse(&mut alone, error);
                    }
                }
            }
            Err(error) if fault::is_of_the_rows(&error) => {
                tracing::warn!(%error, "another session holds a lane that calls enter; they wait for it, others do not");
                let held = self.held_lanes(waiters).await.unwrap_or_default();
                let waits = |(calls, _): &mut Waiter| calls.iter().any(|call| held.contains(&call.lane_id));
                waiters.extract_if(.., waits).for_each(|waiter| self.set_beside(waiter));
                if self.enqueue_all(waiters).await.is_err() {
                    // Not a lane, then: a call of the same id or external id that somebody has not committed yet.
                    waiters.drain(..).for_each(|waiter| self.set_beside(waiter));
                }
            }
            Err(error) => refuse(waiters, error),
        }
    }

    /// Enqueues what these ask for and tells them; where it fails they are as they were.
    async fn enqueue_all(&mut self, waiters: &mut Vec<Waiter>) -> sqlx::Result<()> {
        if waiters.is_empty() {
            return Ok(());
        }
        let together: Vec<NewCall> = waiters.iter().flat_map(|(calls, _)| calls.iter().cloned()).collect();
        let mut verdicts = enqueue_kept(&mut self.kept, &together, self.patience).await?.into_iter();
        self.doorbell.ring();
        for (calls, answer) in waiters.drain(..) {
            // The one who asked may have gone; the call is enqueued all the same.
            let _ = answer.send(Ok(verdicts.by_ref().take(calls.len()).collect()));
        }
        Ok(())
    }

    async fn held_lanes(&mut self, waiters: &[Waiter]) -> sqlx::Result<HashSet<LaneId>> {
        let lanes: Vec<LaneId> = waiters.iter().flat_map(|(calls, _)| calls.iter().map(|call| call.lane_id)).collect();
        let looking = async {
            let looking = sqlx::query_file_scalar!("sql/queue/held_lanes.sql", &lanes as _);
            looking.fetch_all(self.kept.get().await?).await
        };
        let held = within(self.patience, looking).await;
        if held.is_err() {
            self.kept.discard().await;
        }
        Ok(held?.into_iter().collect())
    }

    /// Tries again by itself, a few times.
    fn set_beside(&self, (calls, answer): Waiter) {
        let (pool, turn, doorbell) = (self.beside.pool.clone(), Arc::clone(&self.beside.turn), self.doorbell.clone());
        if self.beside.tasks.len() >= HELD_MAX {
            let _ = answer.send(Err(Arc::new(held_too_long())));
            return;
        }
        let (patience, deadline) = (self.patience, Instant::now() + HELD_FOR_MAX);
        self.beside.tasks.spawn(async move {
            let done = loop {
                tokio::time::sleep(HELD_PAUSE).await;
                let _turn = turn.lock().await;
                if answer.is_closed() || Instant::now() > deadline {
                    break Err(held_too_long());
                }
                match within(patience, enqueue(&pool, &calls)).await {
                    Err(error) if fault::is_of_the_rows(&error) => {}
                    done => break done,
                }
            };
            doorbell.ring();
            let _ = answer.send(done.map_err(Arc::new));
        });
    }
}

/// What stands for 503.
fn held_too_long() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::WouldBlock, "another session holds the lane"))
}

fn refuse(waiters: &mut Vec<Waiter>, error: sqlx::Error) {
    let error = Arc::new(error);
    for (_, answer) in waiters.drain(..) {
        let _ = answer.send(Err(Arc::clone(&error)));
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
