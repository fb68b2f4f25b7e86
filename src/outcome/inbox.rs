//! Where everything that is said about calls arrives, from webhooks, polls, dials and the simulator, and is settled in batches.
//!
//! Whoever settles takes a batch, commits, and answers each sender: a webhook is told 2xx only after that. That is the dispatcher, in
//! the transaction of its claim where it claims. What Postgres will not take is found by halves and set aside alone
//! ([`crate::outcome::conclude`]); what it cannot take now is kept.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::domain::ids::AttemptId;
use crate::domain::word::Word;
use crate::outcome::{Became, Report, storable};

/// Which attempt is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meant {
    Attempt(AttemptId),
    /// By the provider's id of the call.
    ProviderCall(String),
}

/// Something said about an attempt.
#[derive(Clone, Debug)]
pub struct Heard {
    pub about: Meant,
    pub word: Word,
    /// The sender's id of the event.
    pub key: Option<String>,
    /// Where it came from: webhook, poll, dial, simulator, rescue.
    pub source: &'static str,
    /// What was received, for the event store; none: the word itself.
    pub body: Option<Value>,
}

impl Heard {
    /// A word about an attempt of ours.
    #[must_use]
    pub fn about(attempt: AttemptId, word: Word, source: &'static str) -> Self {
        Self { about: Meant::Attempt(attempt), word, key: None, source, body: None }
    }

    /// The attempt it names, if it names ours.
    fn attempt(&self) -> Option<AttemptId> {
        match self.about {
            Meant::Attempt(attempt) => Some(attempt),
            Meant::ProviderCall(_) => None,
        }
    }

    /// Without what Postgres cannot keep: NUL characters, and times no program computes with (an agent's slip of the tongue).
    fn storable(self) -> Self {
        Self { word: self.word.storable(), body: self.body.map(storable), ..self }
    }

    /// Whether it is kept as an event: what others said, and what went wrong. That a dial was accepted stands in the attempt.
    #[must_use]
    pub fn is_evidence(&self) -> bool {
        self.body.is_some() || !matches!(self.word, Word::Accepted { .. })
    }

    /// An acceptance frees nothing and nobody waits for it: it may ride with whatever is written next.
    fn can_wait(&self) -> bool {
        matches!(self.word, Word::Accepted { .. })
    }
}

/// The database was away: what was said is not stored, say it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not stored: the database is away")]
pub struct NotStored;

#[derive(Debug, Default)]
struct Lines {
    /// Parts of batches that Postgres would not take: each is tried by itself, until the one at fault is alone. Every other batch is one.
    suspects: VecDeque<Vec<Pending>>,
    /// The last batch was a part.
    suspected_last: bool,
    /// Things alone whose rows somebody holds: each is tried again after a while.
    held_back: VecDeque<(Instant, Pending)>,
    /// Attempts whose rows somebody holds, and until when nothing about them is tried: no batch is spoiled twice by them.
    held: HashMap<AttemptId, Instant>,
    /// What somebody waits for, or what frees a slot.
    urgent: VecDeque<Pending>,
    /// Acceptances, which may ride with whatever is written next.
    patient: VecDeque<Pending>,
}

#[derive(Debug)]
struct Pending {
    heard: Heard,
    since: Instant,
    sender: Sender,
}

/// What somebody holds a row of is tried again after so long.
const HELD_BACK: Duration = Duration::from_secs(1);

impl Lines {
    /// Until when nothing about this attempt is tried; forgets those whose time is over.
    fn held_until(&mut self, attempt: Option<AttemptId>) -> Option<Instant> {
        if self.held.is_empty() {
            return None;
        }
        let now = Instant::now();
        self.held.retain(|_, until| *until > now);
        self.held.get(&attempt?).copied()
    }
}

/// Who said it, and what they are told.
#[derive(Debug)]
enum Sender {
    /// Waits for the answer, and says it again when the database is away.
    Waits(oneshot::Sender<Result<Became, NotStored>>),
    /// Says it once: it must not be lost while the process lives. Is told in the end, if it asked.
    Trusts(Option<oneshot::Sender<Became>>),
}

impl Sender {
    /// The sender may have gone; the event is stored all the same.
    fn told(self, became: Became) {
        match self {
            Self::Waits(answer) => drop(answer.send(Ok(became))),
            Self::Trusts(Some(answer)) => drop(answer.send(became)),
            Self::Trusts(None) => {}
        }
    }
}

/// Things heard and not settled yet.
#[derive(Clone, Debug)]
pub struct Inbox {
    lines: Arc<Mutex<Lines>>,
    /// Told of everything that cannot wait.
    arrived: Arc<Notify>,
    /// How long an acceptance may wait for company.
    flush_after: Duration,
    /// Ends of calls applied and committed since the start.
    ends: Arc<AtomicU64>,
}

/// A batch taken for settling; its senders are answered by [`Batch::settled`] or it goes back by [`Batch::failed`].
#[derive(Debug, Default)]
pub struct Batch {
    pub heard: Vec<Heard>,
    since: Vec<Instant>,
    senders: Vec<Sender>,
}

impl Inbox {
    #[must_use]
    pub fn new(flush_after: Duration) -> Self {
        Self { lines: Arc::default(), arrived: Arc::default(), flush_after, ends: Arc::default() }
    }

    /// Says something and waits until it is committed.
    ///
    /// # Errors
    /// The database was away.
    pub async fn hear(&self, heard: Heard) -> Result<Became, NotStored> {
        let (answer, answered) = oneshot::channel();
        self.put(heard, Sender::Waits(answer));
        answered.await.map_err(|_| NotStored)?
    }

    /// Says something that is kept in memory until it is settled, however long the database is away.
    pub fn tell(&self, heard: Heard) {
        self.put(heard, Sender::Trusts(None));
    }

    /// As [`Inbox::tell`], at once; what it returns gives what became of it, once that is committed.
    pub fn tell_and_learn(&self, heard: Heard) -> impl Future<Output = Option<Became>> + use<> {
        let (answer, answered) = oneshot::channel();
        self.put(heard, Sender::Trusts(Some(answer)));
        async { answered.await.ok() }
    }

    fn put(&self, heard: Heard, sender: Sender) {
        let pending = Pending { heard: heard.storable(), since: Instant::now(), sender };
        let mut lines = self.lock();
        if let Some(until) = lines.held_until(pending.heard.attempt()) {
            match pending.sender {
                Sender::Waits(answer) => drop(answer.send(Err(NotStored))),
                Sender::Trusts(_) => lines.held_back.push_back((until, pending)),
            }
        } else if pending.heard.can_wait() && matches!(pending.sender, Sender::Trusts(None)) {
            lines.patient.push_back(pending);
        } else {
            lines.urgent.push_back(pending);
            self.arrived.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        // Nothing panics while it is held; a poisoned lock still holds good lines.
        self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until something cannot wait any longer.
    pub async fn ready(&self) {
        loop {
            let (urgent, due) = {
                let lines = self.lock();
                let oldest = lines.patient.front().map(|item| item.since + self.flush_after);
                let again = lines.held_back.iter().map(|(at, _)| *at).min();
                (!lines.urgent.is_empty() || !lines.suspects.is_empty(), [oldest, again].into_iter().flatten().min())
            };
            if urgent {
                return;
            }
            let flush = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.arrived.notified() => {}
                () = flush => return,
            }
        }
    }

    /// Up to `max` things heard, oldest first. Acceptances come along when they have waited long enough, or when more was heard
    /// about their attempt: then both are written at once.
    #[must_use]
    pub fn take(&self, max: usize) -> Batch {
        let mut lines = self.lock();
        let mut batch = Batch::default();
        let now = Instant::now();
        // One at a time: each may cost everybody the wait for its row.
        if lines.suspects.is_empty()
            && let Some((_, item)) = lines.held_back.pop_front_if(|(at, _)| now >= *at)
        {
            lines.suspects.push_back(vec![item]);
        }
        let turn_of_others = lines.suspected_last && !(lines.urgent.is_empty() && lines.patient.is_empty());
        let part = if turn_of_others { None } else { lines.suspects.pop_front() };
        lines.suspected_last = part.is_some();
        if let Some(part) = part {
            part.into_iter().for_each(|item| batch.push(item));
            return batch;
        }
        let count = lines.urgent.len().min(max);
        let spoken_of: HashSet<AttemptId> = lines.urgent.iter().take(count).filter_map(|p| p.heard.attempt()).collect();
        let patient = std::mem::take(&mut lines.patient);
        for item in patient {
            let due = now >= item.since + self.flush_after;
            let goes_along = item.heard.attempt().is_some_and(|attempt| spoken_of.contains(&attempt));
            if (due || goes_along) && batch.heard.len() < max {
                batch.push(item);
            } else {
                lines.patient.push_back(item);
            }
        }
        for item in lines.urgent.drain(..count) {
            batch.push(item);
        }
        batch
    }

    /// How many calls have ended since the start: counted after the commit.
    #[must_use]
    pub fn ends(&self) -> u64 {
        self.ends.load(Ordering::Relaxed)
    }

    /// How many things from this source wait to be settled.
    #[must_use]
    pub fn waiting_from(&self, source: &str) -> usize {
        let lines = self.lock();
        let alone = lines.suspects.iter().flatten().chain(lines.held_back.iter().map(|(_, pending)| pending));
        let all = lines.urgent.iter().chain(&lines.patient).chain(alone);
        all.filter(|pending| pending.heard.source == source).count()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        let lines = self.lock();
        lines.urgent.is_empty() && lines.patient.is_empty() && lines.suspects.is_empty() && lines.held_back.is_empty()
    }
}

impl Batch {
    fn push(&mut self, item: Pending) {
        self.heard.push(item.heard);
        self.since.push(item.since);
        self.senders.push(item.sender);
    }

    /// The attempts whose dials it answers.
    pub fn dialed(&self) -> impl Iterator<Item = AttemptId> {
        self.heard.iter().filter(|heard| heard.source == "dial").filter_map(Heard::attempt)
    }

    /// Answers the senders after the commit.
    pub fn settled(self, inbox: &Inbox, report: &Report) {
        inbox.ends.fetch_add(u64::try_from(report.ended.len()).unwrap_or_default(), Ordering::Relaxed);
        for ((sender, became), heard) in self.senders.into_iter().zip(&report.became).zip(&self.heard) {
            let label = match became {
                Became::Applied => "applied",
                Became::Unchanged => "unchanged",
                Became::Stray => "stray",
                Became::SetAside => "set_aside",
            };
            metrics::counter!("outdial_events_total", "source" => heard.source, "became" => label).increment(1);
            sender.told(*became);
        }
    }

    /// The settling failed: those who wait are told, the rest goes back to the front of the line.
    pub fn failed(self, inbox: &Inbox) {
        let back = self.told_to_say_it_again();
        let mut lines = inbox.lock();
        for item in back.into_iter().rev() {
            lines.urgent.push_front(item);
        }
    }

    /// Somebody holds a row of it: those who wait are told, the rest is tried again after a while, and keeps nobody waiting meanwhile.
    pub fn held_back(self, inbox: &Inbox) {
        let again = Instant::now() + HELD_BACK;
        let about: Vec<AttemptId> = self.heard.iter().filter_map(Heard::attempt).collect();
        let back = self.told_to_say_it_again();
        let mut lines = inbox.lock();
        lines.held.extend(about.into_iter().map(|attempt| (attempt, again)));
        lines.held_back.extend(back.into_iter().map(|item| (again, item)));
    }

    /// Tells those who wait; gives back what must not be lost.
    fn told_to_say_it_again(self) -> Vec<Pending> {
        let mut back = Vec::new();
        for pending in self.into_pending() {
            match pending.sender {
                Sender::Waits(answer) => drop(answer.send(Err(NotStored))),
                Sender::Trusts(_) => back.push(pending),
            }
        }
        back
    }

    /// Postgres would not take it: the halves are tried by themselves.
    pub fn suspected(self, inbox: &Inbox) {
        let mut first: Vec<Pending> = self.into_pending().collect();
        let second = first.split_off(first.len() / 2);
        inbox.lock().suspects.extend([first, second].into_iter().filter(|part| !part.is_empty()));
    }

    /// It was set aside; those who wait need not say it again.
    pub fn set_aside(self) {
        for (sender, heard) in self.senders.into_iter().zip(&self.heard) {
            metrics::counter!("outdial_events_total", "source" => heard.source, "became" => "set_aside").increment(1);
            sender.told(Became::SetAside);
        }
    }

    fn into_pending(self) -> impl Iterator<Item = Pending> {
        let parts = self.heard.into_iter().zip(self.since).zip(self.senders);
        parts.map(|((heard, since), sender)| Pending { heard, since, sender })
    }
}
