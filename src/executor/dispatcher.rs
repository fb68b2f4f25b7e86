//! The worker loop, of every role. Each turn settles what was heard and, where this process dials, claims what is due in the same
//! transaction and round trip, so that a freed slot is refilled in the same commit; then the claimed calls are dialed, each in a task of its own.
//!
//! It sleeps until something is heard, a bell rings, the next call falls due, or the poll; the poll alone would be correct.
//! **Invariant:** a turn that fails, hangs or panics ends that turn only; what it had heard is kept, or set aside alone
//! ([`outcome::conclude`]).

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use sqlx::{Connection, PgPool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::db::doorbell::Doorbell;
use crate::db::fault::{self, within};
use crate::db::{Db, Kept};
use crate::domain::failpoint;
use crate::domain::ids::AttemptId;
use crate::domain::word::Word;
use crate::executor::Settings;
use crate::executor::dial::{Line, dial};
use crate::outcome::decide::Rules;
use crate::outcome::inbox::{Batch, Heard, Inbox};
use crate::outcome::{self, Memory, Unsettled};
use crate::queue::{self, Claim, Claimed, Failed, Room, Stage, Tended, Unreadable};
use crate::telemetry::vitals::{Vital, Vitals};

/// While every slot is taken, bells are answered at most this often: only a settling frees a slot.
const BELL_DEBOUNCE: Duration = Duration::from_millis(10);
/// After a turn that found due calls but could move none (somebody holds their rows).
const STUCK_PAUSE: Duration = Duration::from_millis(5);
/// Calls remembered; those that ended elsewhere are forgotten with the rest, and read anew.
const MEMORY_MAX: usize = 10_000;
const OUTAGE_PAUSE: Duration = Duration::from_millis(250);
/// Lanes are not tidied for so long after one was held by another session: to wait for it again and again would be everybody's wait.
const TEND_PAUSE: Duration = Duration::from_secs(1);
/// A turn that has nothing to do but what is paused waits so long.
const PAUSED_WAIT: Duration = Duration::from_millis(200);
/// No claims for so long after one that failed for what it read, or panicked; settling goes on.
const POISON_PAUSE: Duration = Duration::from_secs(1);
/// No claims for so long after one that failed for any other reason: the next turn, which comes after [`OUTAGE_PAUSE`], settles alone.
const CLAIM_PAUSE: Duration = Duration::from_millis(400);

/// The worker loop of one process.
pub struct Dispatcher {
    pool: PgPool,
    inbox: Inbox,
    settings: Settings,
    vitals: Arc<Vitals>,
    /// None: this process does not dial.
    line: Option<Arc<Line>>,
    /// The connection of the turns.
    kept: Kept,
    rules: Rules,
    doorbell: Doorbell,
    /// Requests that may still be started; a permit is taken before the claim and travels into the dial.
    permits: Arc<Semaphore>,
    dials: JoinSet<()>,
    /// Which attempt each dial task is about, for the one that panics.
    dialing: HashMap<Id, AttemptId>,
    /// Attempts claimed by us whose answer is not settled yet.
    launched: HashSet<AttemptId>,
    /// What we know of the calls we dialed.
    memory: Memory,
    /// The last turn may have committed claims we never heard of.
    commit_in_doubt: bool,
    /// No claims before this: the last one failed for what it read.
    claims_after: Instant,
    /// No tidying before this: another session holds a lane.
    tends_after: Instant,
}

/// When to take the next turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    Now,
    /// After [`OUTAGE_PAUSE`], whatever is heard: this one failed.
    Later,
    /// In this long at the latest; `full`: every slot is taken.
    Wait {
        at_most: Duration,
        full: bool,
    },
}

impl Dispatcher {
    /// The loop of a process; without a line it settles and does not dial.
    #[must_use]
    pub fn new(
        db: &Db,
        inbox: Inbox,
        settings: Settings,
        vitals: Arc<Vitals>,
        line: Option<Arc<Line>>,
        rules: Rules,
        doorbell: Doorbell,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(settings.dials_in_flight));
        Self {
            kept: Kept::of(db.work.clone()),
            pool: db.work.clone(),
            inbox,
            settings,
            vitals,
            line,
            rules,
            doorbell,
            permits,
            dials: JoinSet::new(),
            dialing: HashMap::new(),
            launched: HashSet::new(),
            memory: Memory::new(),
            commit_in_doubt: false,
            claims_after: Instant::now(),
            tends_after: Instant::now(),
        }
    }

    /// Takes turns until `claiming` stops; then claims no more, and settles until `settling` stops and nothing is left to settle, or
    /// `drain` ran out.
    pub async fn run(mut self, claiming: CancellationToken, settling: CancellationToken, drain: Duration) {
        let mut next = Next::Now;
        while !claiming.is_cancelled() {
            if let Next::Wait { at_most, full } = next {
                let Some(source) = self.wait(at_most, full, &claiming).await else {
                    break;
                };
                metrics::counter!("outdial_wakes_total", "source" => source).increment(1);
            }
            next = self.turn_and_pause().await;
        }
        self.permits.close();
        while !(settling.is_cancelled() && self.is_idle()) {
            if let Next::Wait { at_most, .. } = self.turn_and_pause().await {
                let waits = self.wait(at_most, false, &settling);
                // Asked to stop with dials under way: their answers are waited for.
                if waits.await.is_none() && !self.is_idle() && tokio::time::timeout(drain, self.drain()).await.is_err()
                {
                    tracing::warn!(
                        dials = self.dials.len(),
                        "shutting down with dials under way: they will be looked up"
                    );
                    return;
                }
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.dials.is_empty() && self.inbox.is_empty()
    }

    async fn drain(&mut self) {
        while !self.is_idle() {
            tokio::select! {
                Some(ended) = self.dials.join_next_with_id() => self.dial_ended(ended),
                () = self.inbox.ready() => {}
            }
            self.turn_and_pause().await;
        }
    }

    /// A turn, and a pause where it failed.
    async fn turn_and_pause(&mut self) -> Next {
        let next = self.guarded_turn().await;
        if next == Next::Later {
            tokio::time::sleep(OUTAGE_PAUSE).await;
        }
        next
    }

    /// Requests to the provider under way.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.settings.dials_in_flight.saturating_sub(self.permits.available_permits())
    }

    /// A turn that may fail or panic. It never sleeps, so that whoever drives it by itself (tests/simulation) decides what time it is.
    pub async fn guarded_turn(&mut self) -> Next {
        match AssertUnwindSafe(self.turn()).catch_unwind().await {
            Ok(Ok(next)) => {
                self.vitals.beat(Vital::Turn);
                next
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a turn failed; nothing is claimed until Postgres is back");
                self.start_over().await;
                Next::Later
            }
            Err(_) => {
                tracing::error!("a turn panicked; the next one starts afresh");
                self.start_over().await;
                Next::Later
            }
        }
    }

    /// After a failure: the connection may be in any state, so may what we believe of our calls, and claims may have been committed
    /// that we never heard of.
    async fn start_over(&mut self) {
        self.kept.discard().await;
        self.memory.clear();
        self.commit_in_doubt = true;
    }

    /// Sleeps; returns what woke it, or none when it is to stop.
    async fn wait(&mut self, at_most: Duration, full: bool, stop: &CancellationToken) -> Option<&'static str> {
        let deadline = Instant::now() + at_most;
        loop {
            let bell = async {
                self.doorbell.local.notified().await;
                if full {
                    tokio::time::sleep(BELL_DEBOUNCE).await;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = self.inbox.ready() => return Some("settle"),
                Some(ended) = self.dials.join_next_with_id() => {
                    self.dial_ended(ended);
                    // Permits came back; worth a turn only where the want of them was the limit.
                    if full && self.permits.available_permits() == 1 {
                        return Some("permit");
                    }
                }
                () = bell => return Some("bell"),
                () = tokio::time::sleep_until(deadline) => {
                    return Some(if at_most < self.settings.poll { "timer" } else { "poll" });
                }
            }
        }
    }

    /// One turn: settle, claim, commit, dial.
    ///
    /// # Errors
    /// Postgres is away, or the answer to the commit was lost.
    async fn turn(&mut self) -> sqlx::Result<Next> {
        if self.commit_in_doubt {
            self.disown_unsent().await?;
            self.commit_in_doubt = false;
        }
        while let Some(ended) = self.dials.try_join_next_with_id() {
            self.dial_ended(ended);
        }
        let began = Instant::now();
        let batch = self.inbox.take(self.settings.batch_max);
        let permits = self.take_permits();
        let want = permits.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if want == 0 && batch.heard.is_empty() {
            let pause = self.claims_after.saturating_duration_since(began);
            let at_most = if pause.is_zero() { self.settings.poll } else { pause.min(self.settings.poll) };
            return Ok(Next::Wait { at_most, full: true });
        }
        let batch_was_full = batch.heard.len() == self.settings.batch_max;
        let patience = self.settings.turn_patience;
        let turned =
            AssertUnwindSafe(tokio::time::timeout(patience, self.settle_and_claim(&batch, want))).catch_unwind();
        let failed = match turned.await {
            Ok(Ok(Ok((report, mut claim)))) => {
                for attempt in batch.dialed() {
                    self.launched.remove(&attempt);
                }
                self.vitals.beat_if(Vital::Settle, !batch.heard.is_empty());
                let settled_here = !batch.heard.is_empty() && self.line.is_none();
                outcome::conclude(&self.pool, &self.inbox, batch, Ok(&report)).await;
                if settled_here {
                    // Slots may be free now, for whoever dials.
                    self.doorbell.ring();
                }
                let (calls, unreadable) = (std::mem::take(&mut claim.calls), std::mem::take(&mut claim.unreadable));
                let claimed = calls.len() + unreadable.len();
                self.launch(calls, permits, &claim, began);
                self.withhold(unreadable);
                metrics::histogram!("outdial_turn_seconds").record(began.elapsed());
                // Tidying comes after the dials: nobody's phone waits for it, and a lane that somebody holds is tidied another time.
                let tended = match within(patience, self.tend(&claim, claimed)).await {
                    Err(error) if fault::is_of_the_rows(&error) => {
                        tracing::warn!(%error, "another session holds a lane; it is tidied another time");
                        self.tends_after = Instant::now() + TEND_PAUSE;
                        self.kept.discard().await;
                        None
                    }
                    tended => tended?,
                };
                return Ok(self.next_after(&claim, claimed, want, tended, batch_was_full));
            }
            Ok(Ok(Err(failed))) => Some(failed),
            Ok(Err(_)) => {
                Some(Failed { stage: Stage::Claiming, error: sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()) })
            }
            // It panicked.
            Err(_) => None,
        };
        self.kept.discard().await;
        self.memory.clear();
        let pause = match &failed {
            Some(Failed { stage: Stage::Claiming, error })
                if fault::is_of_the_values(error) || matches!(error, sqlx::Error::WorkerCrashed) =>
            {
                tracing::error!(%error, "a claim failed for what it read; settling goes on without it (outdial doctor)");
                Some(POISON_PAUSE)
            }
            Some(Failed { stage: Stage::Claiming, error }) => {
                tracing::warn!(%error, "a claim failed; what was heard is settled first");
                Some(CLAIM_PAUSE)
            }
            Some(Failed { stage: Stage::Admission | Stage::Settling, .. }) | None => None,
        };
        // Whoever is at fault where a turn claimed, it is not what was heard: that is kept, and settled by a turn that does not claim.
        if let Some(pause) = pause.filter(|_| want > 0) {
            self.commit_in_doubt = true;
            self.claims_after = Instant::now() + pause;
            batch.failed(&self.inbox);
            return Ok(Next::Later);
        }
        let unsettled = match failed {
            None => Unsettled::Panicked,
            Some(Failed { stage: Stage::Admission, error }) => Unsettled::NotBegun(error),
            Some(Failed { error, .. }) => Unsettled::Failed(error),
        };
        let heard_nothing = batch.heard.is_empty();
        if !outcome::conclude(&self.pool, &self.inbox, batch, Err(unsettled)).await || heard_nothing {
            self.commit_in_doubt = true;
            return Ok(Next::Later);
        }
        Ok(Next::Now)
    }

    fn room(&self, line: &Line, want: usize) -> Room<'static> {
        let settings = &self.settings;
        Room {
            want,
            global_limit: settings.global_limit,
            instance: line.lease.instance,
            provider: line.provider.name(),
            dial_guard_secs: settings.dial_guard_secs,
            lanes_max: settings.lanes_per_claim,
            lease_secs: settings.lease.as_secs_f64(),
            dials_per_second: settings.dials_per_second,
            frequency: settings.frequency,
        }
    }

    async fn settle_and_claim(&mut self, batch: &Batch, want: usize) -> Result<(outcome::Report, Claim), Failed> {
        if self.memory.len() > MEMORY_MAX {
            self.memory.clear();
        }
        let room = self.line.as_ref().filter(|_| want > 0).map(|line| self.room(line, want));
        let failed = |stage: Stage| move |error| Failed { stage, error };
        let connection = self.kept.get().await.map_err(failed(Stage::Admission))?;
        let turned = if failpoint::is_awaited(&["claim.before_commit", "event.before_commit"]) {
            let mut transaction = connection.begin().await.map_err(failed(Stage::Admission))?;
            let turned = outcome::turn(&mut transaction, &batch.heard, &self.rules, &mut self.memory, room).await;
            if turned.as_ref().is_ok_and(|(_, claim)| !claim.calls.is_empty()) {
                failpoint::hit("claim.before_commit");
            }
            if !batch.heard.is_empty() {
                failpoint::hit("event.before_commit");
            }
            transaction.commit().await.map_err(failed(Stage::Claiming))?;
            turned
        } else {
            outcome::turn(connection, &batch.heard, &self.rules, &mut self.memory, room).await
        };
        let (report, claim) = turned?;
        if !claim.calls.is_empty() {
            failpoint::hit("claim.after_commit");
        }
        if !batch.heard.is_empty() {
            failpoint::hit("event.after_commit");
        }
        Ok((report, claim))
    }

    /// Tidies the lanes the claim looked at, where there is something to tidy.
    async fn tend(&mut self, claim: &Claim, claimed: usize) -> sqlx::Result<Option<Tended>> {
        let may_tend = claim.wants_tending(claimed) && Instant::now() >= self.tends_after;
        let Some(line) = self.line.as_ref().filter(|_| may_tend) else {
            return Ok(None);
        };
        let room = self.room(line, claim.room);
        queue::tend(self.kept.get().await?, &claim.looked, &room).await.map(Some)
    }

    /// As many permits as there are, up to a batch; none without a good lease, or where nobody dials.
    fn take_permits(&self) -> Option<OwnedSemaphorePermit> {
        if !self.line.as_ref().is_some_and(|line| line.lease.is_good()) || Instant::now() < self.claims_after {
            return None;
        }
        let free = self.permits.available_permits().min(self.settings.batch_max);
        let free = u32::try_from(free).ok().filter(|free| *free > 0)?;
        Arc::clone(&self.permits).try_acquire_many_owned(free).ok()
    }

    fn next_after(
        &self,
        claim: &Claim,
        claimed: usize,
        want: usize,
        tended: Option<Tended>,
        batch_was_full: bool,
    ) -> Next {
        let poll = self.settings.poll;
        let in_secs = |secs: Option<f64>| secs.map_or(poll, |secs| Duration::from_secs_f64(secs.min(3600.0)).min(poll));
        if batch_was_full {
            return Next::Now;
        }
        if want == 0 || claimed >= claim.room {
            return Next::Wait { at_most: in_secs(claim.held_secs), full: true };
        }
        let next = in_secs(tended.map_or(claim.next_in_secs, |tended| tended.next_in_secs));
        if !next.is_zero() {
            return Next::Wait { at_most: next, full: false };
        }
        if claimed == 0 && Instant::now() < self.tends_after {
            return Next::Wait { at_most: PAUSED_WAIT, full: false };
        }
        if claimed == 0 && tended.is_none_or(|tended| tended.moved == 0) {
            return Next::Wait { at_most: STUCK_PAUSE, full: false };
        }
        Next::Now
    }

    fn launch(&mut self, calls: Vec<Claimed>, permits: Option<OwnedSemaphorePermit>, claim: &Claim, began: Instant) {
        let (Some(mut permits), Some(line)) = (permits, self.line.clone()) else { return };
        if claim.probing {
            line.pulse.is_awaited();
        }
        let claimed = claim.begun.unwrap_or(began);
        metrics::counter!("outdial_claimed_total").increment(u64::try_from(calls.len()).unwrap_or_default());
        for call in calls {
            self.memory.insert(call.attempt_id, call.facts.clone());
            let lateness = (call.claimed_at - call.due_at).as_seconds_f64().max(0.0);
            metrics::histogram!("outdial_dial_lateness_seconds").record(lateness);
            tracing::info!(call.id = %call.call_id, attempt.id = %call.attempt_id, attempt = call.attempt_number,
                late_secs = lateness, "dialing");
            let attempt = call.attempt_id;
            self.vitals.committed(attempt.0);
            let line = Arc::clone(&line);
            let permit = permits.split(1);
            self.launched.insert(attempt);
            let task = self.dials.spawn(async move {
                dial(&line, call, claimed).await;
                drop(permit);
            });
            self.dialing.insert(task.id(), attempt);
        }
    }

    /// Calls that were claimed and cannot be read end, each alone.
    fn withhold(&mut self, unreadable: Vec<Unreadable>) {
        for Unreadable { attempt_id, call_id, detail } in unreadable {
            tracing::error!(call.id = %call_id, detail, "what is stored for a call cannot be read; it is set aside, not dialed");
            self.launched.insert(attempt_id);
            let word = Word::Withheld { bar: "UNREADABLE".to_owned(), detail: Some(detail) };
            self.inbox.tell(Heard::about(attempt_id, word, "dial"));
        }
    }

    /// A dial task ended. One that panicked may have sent its request: doubt.
    fn dial_ended(&mut self, ended: Result<(Id, ()), JoinError>) {
        match ended {
            Ok((id, ())) => {
                self.dialing.remove(&id);
            }
            Err(error) => {
                if let Some(attempt) = self.dialing.remove(&error.id()) {
                    tracing::error!(attempt.id = %attempt, %error, "a dial panicked; its attempt is looked up");
                    let word = Word::Doubt { reason: "internal error".to_owned(), sent_ms_ago: 0 };
                    self.inbox.tell(Heard::about(attempt, word, "dial"));
                }
            }
        }
    }

    /// Gives back what was committed in our name without our knowing.
    async fn disown_unsent(&mut self) -> sqlx::Result<()> {
        let Some(line) = &self.line else { return Ok(()) };
        let known: Vec<AttemptId> = self.launched.iter().copied().collect();
        let unsent = queue::unsent(&self.pool, line.lease.instance, &known);
        for attempt in within(self.settings.turn_patience, unsent).await? {
            let word = Word::NotSent { reason: "the answer to the commit was lost".to_owned() };
            self.inbox.tell(Heard::about(attempt, word, "dial"));
        }
        Ok(())
    }
}
