//! The worker loop. Each turn settles what was heard and claims what is due in one transaction, so that a freed slot is
//! refilled in the same commit; then the claimed calls are dialed, each in a task of its own.
//!
//! It sleeps until something is heard, a bell rings, the next call falls due, or the poll; the poll alone would be correct.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::db::Kept;
use crate::db::doorbell::Doorbell;
use crate::domain::failpoint;
use crate::domain::ids::AttemptId;
use crate::domain::word::Word;
use crate::executor::Settings;
use crate::executor::dial::{Line, dial};
use crate::outcome::decide::Rules;
use crate::outcome::inbox::{Batch, Heard};
use crate::outcome::{self, Memory};
use crate::queue::{self, Claim, Claimed, Room, Tended};

/// While every slot is taken, bells are answered at most this often: only a settling frees a slot.
const BELL_DEBOUNCE: Duration = Duration::from_millis(10);
/// After a turn that found due calls but could move none (somebody holds their rows).
const STUCK_PAUSE: Duration = Duration::from_millis(5);
/// Calls remembered; those that ended elsewhere are forgotten with the rest, and read anew.
const MEMORY_MAX: usize = 10_000;
const OUTAGE_PAUSE: Duration = Duration::from_millis(250);

/// The worker loop of one process.
pub struct Dispatcher {
    line: Arc<Line>,
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
}

/// When to take the next turn.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    Now,
    /// In this long at the latest; `full`: every slot is taken.
    Wait {
        at_most: Duration,
        full: bool,
    },
}

impl Dispatcher {
    #[must_use]
    pub fn new(line: Arc<Line>, rules: Rules, doorbell: Doorbell) -> Self {
        let permits = Arc::new(Semaphore::new(line.settings.dials_in_flight));
        Self {
            kept: Kept::of(line.pool.clone()),
            line,
            rules,
            doorbell,
            permits,
            dials: JoinSet::new(),
            dialing: HashMap::new(),
            launched: HashSet::new(),
            memory: Memory::new(),
            commit_in_doubt: false,
        }
    }

    fn pool(&self) -> &PgPool {
        &self.line.pool
    }

    fn settings(&self) -> &Settings {
        &self.line.settings
    }

    /// Takes turns until `stop`; then claims no more, and settles until the dials under way have answered or `drain` ran out.
    pub async fn run(mut self, stop: CancellationToken, drain: Duration) {
        let mut next = Next::Now;
        while !stop.is_cancelled() {
            if let Next::Wait { at_most, full } = next {
                let Some(source) = self.wait(at_most, full, &stop).await else {
                    break;
                };
                metrics::counter!("outdial_wakes_total", "source" => source).increment(1);
            }
            next = match self.turn().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "a turn failed; nothing is claimed until Postgres is back");
                    self.forget().await;
                    self.commit_in_doubt = true;
                    tokio::time::sleep(OUTAGE_PAUSE).await;
                    Next::Now
                }
            };
        }
        if tokio::time::timeout(drain, self.drain()).await.is_err() {
            tracing::warn!(dials = self.dials.len(), "shutting down with dials under way: they will be looked up");
        }
    }

    async fn drain(&mut self) {
        self.permits.close();
        while !self.dials.is_empty() || !self.line.inbox.is_empty() {
            tokio::select! {
                Some(ended) = self.dials.join_next_with_id() => self.dial_ended(ended),
                () = self.line.inbox.ready() => {}
            }
            if let Err(error) = self.turn().await {
                tracing::warn!(%error, "could not settle while shutting down");
                tokio::time::sleep(OUTAGE_PAUSE).await;
            }
        }
    }

    /// Sleeps; returns what woke it, or none when it is to stop.
    async fn wait(&mut self, at_most: Duration, full: bool, stop: &CancellationToken) -> Option<&'static str> {
        let deadline = tokio::time::Instant::now() + at_most;
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
                () = self.line.inbox.ready() => return Some("settle"),
                Some(ended) = self.dials.join_next_with_id() => {
                    self.dial_ended(ended);
                    // Permits came back; worth a turn only where the want of them was the limit.
                    if full && self.permits.available_permits() == 1 {
                        return Some("permit");
                    }
                }
                () = bell => return Some("bell"),
                () = tokio::time::sleep_until(deadline) => {
                    return Some(if at_most < self.settings().poll { "timer" } else { "poll" });
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
        let batch = self.line.inbox.take(self.settings().batch_max);
        let permits = self.take_permits();
        let want = permits.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if want == 0 && batch.heard.is_empty() {
            return Ok(Next::Wait { at_most: self.settings().poll, full: true });
        }
        let batch_was_full = batch.heard.len() == self.settings().batch_max;
        match self.settle_and_claim(&batch, want).await {
            Ok((report, claim)) => {
                for attempt in batch.dialed() {
                    self.launched.remove(&attempt);
                }
                batch.settled(&self.line.inbox, &report);
                let mut claim = claim;
                if claim.probing {
                    self.line.pulse.is_awaited();
                }
                let calls = std::mem::take(&mut claim.calls);
                let claimed = calls.len();
                self.launch(calls, permits, claim.begun.unwrap_or(began));
                metrics::histogram!("outdial_turn_seconds").record(began.elapsed());
                // Tidying comes after the dials: nobody's phone waits for it.
                let tended = self.tend(&claim, claimed).await?;
                Ok(self.next_after(&claim, claimed, want, tended, batch_was_full))
            }
            Err(sqlx::Error::Database(error)) if !error.is_transient_in_transaction() && !batch.heard.is_empty() => {
                tracing::warn!(%error, "a batch did not settle; trying one by one");
                self.forget().await;
                self.settle_one_by_one(batch).await;
                Ok(Next::Now)
            }
            Err(error) => {
                batch.failed(&self.line.inbox);
                Err(error)
            }
        }
    }

    /// After a failure: the connection may be in any state, and so may what we believe of our calls.
    async fn forget(&mut self) {
        self.kept.discard().await;
        self.memory.clear();
    }

    fn room(&self, want: usize) -> Room<'static> {
        let settings = &self.line.settings;
        Room {
            want,
            global_limit: settings.global_limit,
            instance: self.line.lease.instance,
            provider: self.line.provider.name(),
            dial_guard_secs: settings.dial_guard_secs,
            lanes_max: settings.lanes_per_claim,
            lease_secs: settings.lease.as_secs_f64(),
            dials_per_second: settings.dials_per_second,
        }
    }

    async fn settle_and_claim(&mut self, batch: &Batch, want: usize) -> sqlx::Result<(outcome::Report, Claim)> {
        if want == 0 {
            return Ok((outcome::settle_alone(self.pool(), &batch.heard, &self.rules).await?, Claim::default()));
        }
        if self.memory.len() > MEMORY_MAX {
            self.memory.clear();
        }
        let room = self.room(want);
        let mut transaction = queue::admit(self.kept.get().await?).await?;
        let report = if batch.heard.is_empty() {
            outcome::Report::default()
        } else {
            outcome::settle(&mut transaction, &batch.heard, &self.rules, &mut self.memory).await?
        };
        let began = Instant::now();
        let claim = queue::claim(&mut transaction, room).await?;
        metrics::histogram!("outdial_claim_seconds").record(began.elapsed());
        if !claim.calls.is_empty() {
            failpoint::hit("claim.before_commit");
        }
        if !batch.heard.is_empty() {
            failpoint::hit("event.before_commit");
        }
        transaction.commit().await?;
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
        if !claim.wants_tending(claimed) {
            return Ok(None);
        }
        let room = self.room(claim.room);
        let mut transaction = queue::admit(self.kept.get().await?).await?;
        let tended = queue::tend(&mut transaction, &claim.looked, &room).await?;
        transaction.commit().await?;
        Ok(Some(tended))
    }

    /// As many permits as there are, up to a batch; none without a good lease.
    fn take_permits(&self) -> Option<OwnedSemaphorePermit> {
        if !self.line.lease.is_good() {
            return None;
        }
        let free = self.permits.available_permits().min(self.settings().batch_max);
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
        let poll = self.settings().poll;
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
        if claimed == 0 && tended.is_none_or(|tended| tended.moved == 0) {
            return Next::Wait { at_most: STUCK_PAUSE, full: false };
        }
        Next::Now
    }

    fn launch(&mut self, calls: Vec<Claimed>, permits: Option<OwnedSemaphorePermit>, claimed: Instant) {
        let Some(mut permits) = permits else { return };
        metrics::counter!("outdial_claimed_total").increment(u64::try_from(calls.len()).unwrap_or_default());
        for call in calls {
            self.memory.insert(call.attempt_id, call.facts.clone());
            let lateness = (call.claimed_at - call.due_at).as_seconds_f64().max(0.0);
            metrics::histogram!("outdial_dial_lateness_seconds").record(lateness);
            tracing::info!(call.id = %call.call_id, attempt.id = %call.attempt_id, attempt = call.attempt_number,
                late_secs = lateness, "dialing");
            let attempt = call.attempt_id;
            let line = Arc::clone(&self.line);
            let permit = permits.split(1);
            self.launched.insert(attempt);
            let task = self.dials.spawn(async move {
                dial(&line, call, claimed).await;
                drop(permit);
            });
            self.dialing.insert(task.id(), attempt);
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
                    self.line.inbox.tell(Heard::about(attempt, word, "dial"));
                }
            }
        }
    }

    /// Gives back what was committed in our name without our knowing.
    async fn disown_unsent(&mut self) -> sqlx::Result<()> {
        let known: Vec<AttemptId> = self.launched.iter().copied().collect();
        for attempt in queue::unsent(self.pool(), self.line.lease.instance, &known).await? {
            let word = Word::NotSent { reason: "the answer to the commit was lost".to_owned() };
            self.line.inbox.tell(Heard::about(attempt, word, "dial"));
        }
        Ok(())
    }

    async fn settle_one_by_one(&mut self, batch: Batch) {
        for single in batch.one_by_one() {
            match outcome::settle_alone(self.pool(), &single.heard, &self.rules).await {
                Ok(report) => single.settled(&self.line.inbox, &report),
                Err(sqlx::Error::Database(error)) if !error.is_transient_in_transaction() => {
                    tracing::error!(%error, "Postgres refuses an event; it is dropped");
                    single.refused();
                }
                Err(error) => {
                    tracing::warn!(%error, "could not settle an event");
                    single.failed(&self.line.inbox);
                }
            }
        }
    }
}

/// Errors after which the same batch may well succeed.
trait Transience {
    fn is_transient_in_transaction(&self) -> bool;
}

impl Transience for Box<dyn sqlx::error::DatabaseError> {
    /// Lock timeouts, deadlocks, shutdowns and lost connections (SQLSTATE classes 40, 53, 55, 57, 08).
    fn is_transient_in_transaction(&self) -> bool {
        self.code().is_some_and(|code| ["40", "53", "55", "57", "08"].iter().any(|class| code.starts_with(class)))
    }
}
