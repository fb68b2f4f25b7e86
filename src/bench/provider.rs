//! The provider under measurement: answers at once, ends each call after a while, and counts what must never happen.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::domain::disposition::Disposition;
use crate::domain::ids::{AttemptId, CallId};
use crate::domain::phone::PhoneNumber;
use crate::domain::word::{Ended, Weight, Word};
use crate::provider::{Dial, Ear, Found, HungUp, Placed, Provider, Question, Said};

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    running: HashMap<PhoneNumber, u32>,
    total: usize,
    called: HashSet<CallId>,
    pub(super) max_running: usize,
    /// Calls placed to a number that was on a call.
    pub(super) key_violations: u64,
    /// Calls placed while the limit was reached.
    pub(super) global_violations: u64,
    /// Calls placed twice.
    pub(super) duplicates: u64,
    /// When each timed call was asked for.
    pub(super) asked: HashMap<CallId, Instant>,
}

/// Answers at once; a call lasts `lasts`, one to `endless` for ever.
#[derive(Debug)]
pub(super) struct BenchProvider {
    lasts: Duration,
    limit: usize,
    ear: Ear,
    seen: Arc<Mutex<Seen>>,
    /// The number whose call never ends.
    pub(super) endless: Mutex<Option<PhoneNumber>>,
}

impl BenchProvider {
    pub(super) fn new(lasts: Duration, limit: usize, ear: Ear) -> Self {
        Self { lasts, limit, ear, seen: Arc::default(), endless: Mutex::default() }
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn begin(&self, dial: &Dial) {
        let mut seen = self.seen();
        seen.asked.insert(dial.call_id, Instant::now());
        let running = seen.running.entry(dial.to.clone()).or_default();
        *running += 1;
        let overlaps = *running > 1;
        seen.key_violations += u64::from(overlaps);
        seen.total += 1;
        seen.max_running = seen.max_running.max(seen.total);
        let over_limit = seen.total > self.limit;
        seen.global_violations += u64::from(over_limit);
        let again = !seen.called.insert(dial.call_id);
        seen.duplicates += u64::from(again);
    }

    fn is_endless(&self, phone: &PhoneNumber) -> bool {
        let endless = self.endless.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        endless.as_ref() == Some(phone)
    }
}

impl Seen {
    fn end(&mut self, phone: &PhoneNumber) {
        self.total -= 1;
        if let Some(running) = self.running.get_mut(phone) {
            *running -= 1;
            if *running == 0 {
                self.running.remove(phone);
            }
        }
    }
}

fn say_ended(ear: &Ear, attempt: AttemptId) {
    let word = Word::Ended(Ended {
        provider_call_id: Some(format!("bench-{attempt}")),
        duration_secs: Some(1),
        ..Ended::of(Disposition::Completed, Weight::Status)
    });
    // The listener ends with the measurement.
    let _ = ear.send(Said { attempt_id: attempt, word, at: None });
}

#[async_trait]
impl Provider for BenchProvider {
    fn name(&self) -> &'static str {
        "bench"
    }

    async fn place(&self, dial: &Dial) -> Placed {
        self.begin(dial);
        let attempt = dial.attempt_id;
        if self.is_endless(&dial.to) {
            // Holds its slot and its number.
        } else if self.lasts.is_zero() {
            self.seen().end(&dial.to);
            say_ended(&self.ear, attempt);
        } else {
            let (ear, seen) = (self.ear.clone(), Arc::clone(&self.seen));
            let (lasts, phone) = (self.lasts, dial.to.clone());
            // The call goes on after this answer.
            tokio::spawn(async move {
                tokio::time::sleep(lasts).await;
                seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).end(&phone);
                say_ended(&ear, attempt);
            });
        }
        Placed::Accepted { provider_call_id: Some(format!("bench-{attempt}")), carrier_call_id: None }
    }

    async fn find_by_attempt(&self, _: &Question) -> Found {
        Found::CannotSay
    }

    async fn status(&self, _: &Question) -> Found {
        Found::CannotSay
    }

    async fn hang_up(&self, _: &Question) -> HungUp {
        HungUp::NoWay
    }
}
