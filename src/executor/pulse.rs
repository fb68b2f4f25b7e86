//! Whether the provider answers: what this process sees of it, reported to the circuit breaker all processes share.
//!
//! Failures are reported at once. Answers are only counted, and reported with the next failure, or when the breaker waits for
//! one: a provider that is well costs no write.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;

use crate::db::fault::within;
use crate::domain::ids::AttemptId;

use crate::queue::{self, Breaker};

/// A dial does not wait longer for its note of how it went.
const NOTE_PATIENCE: Duration = Duration::from_secs(5);

/// The pulse of the provider, as this process feels it.
#[derive(Debug)]
pub struct Pulse {
    answers: Mutex<Answers>,
    /// The breaker may be waiting for an answer.
    awaited: AtomicBool,
    /// This process has seen it open, and no answer since.
    open: AtomicBool,
    /// Somebody's calls are refused in a row, for all this process knows.
    rows: AtomicBool,
}

/// Answers not reported yet. Those older than the breaker's window say nothing of today.
#[derive(Debug)]
struct Answers {
    since: Instant,
    count: i32,
}

impl Default for Pulse {
    /// An opening may be left from a time before this process: the first answer is reported.
    fn default() -> Self {
        Self {
            answers: Mutex::new(Answers { since: Instant::now(), count: 0 }),
            awaited: AtomicBool::new(true),
            open: AtomicBool::new(false),
            rows: AtomicBool::new(true),
        }
    }
}

impl Pulse {
    /// The claim says that the breaker waits for an answer.
    pub fn is_awaited(&self) {
        self.awaited.store(true, Ordering::Relaxed);
    }

    /// A call was refused in words that say nothing of its number.
    pub fn sees_rows(&self) {
        self.rows.store(true, Ordering::Relaxed);
    }

    /// A call was accepted: refusals of its user in a row are over. Costs nothing while there are none.
    pub async fn ends_rows(&self, pool: &PgPool, provider: &str, attempt: AttemptId) {
        if !self.rows.load(Ordering::Relaxed) {
            return;
        }
        match within(NOTE_PATIENCE, queue::accepted_again(pool, provider, attempt)).await {
            Ok(left) => self.rows.store(left > 0, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "could not note that a call was accepted"),
        }
    }

    /// The provider answered, in whatever sense.
    pub async fn answered(&self, pool: &PgPool, provider: &str, breaker: &Breaker) {
        {
            let mut answers = self.answers(breaker);
            answers.count = answers.count.saturating_add(1);
        }
        if self.awaited.swap(false, Ordering::Relaxed) {
            self.report(pool, provider, 0, breaker).await;
            if self.open.swap(false, Ordering::Relaxed) {
                tracing::info!(provider, "the provider answers again");
            }
        }
    }

    /// It could not be reached, refuses us, or left us in doubt.
    pub async fn failed(&self, pool: &PgPool, provider: &str, breaker: &Breaker, reason: &str) {
        self.is_awaited();
        if let Some(secs) = self.report(pool, provider, 1, breaker).await {
            self.open.store(true, Ordering::Relaxed);
            tracing::error!(
                provider,
                hold_secs = secs,
                reason,
                "circuit breaker open: dials go unanswered, or are refused to us as such; nothing is dialed meanwhile (outdial doctor asks for the cause)"
            );
        }
    }

    /// The answers of the window, which begins anew when it is over.
    fn answers(&self, breaker: &Breaker) -> MutexGuard<'_, Answers> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.since.elapsed() > breaker.window {
            *answers = Answers { since: Instant::now(), count: 0 };
        }
        answers
    }

    /// Reports, and gives for how long the breaker is open by that.
    async fn report(&self, pool: &PgPool, provider: &str, failed: i32, breaker: &Breaker) -> Option<f64> {
        let answered = std::mem::take(&mut self.answers(breaker).count);
        match within(NOTE_PATIENCE, queue::judge_provider(pool, provider, answered, failed, breaker)).await {
            Ok(judged) => {
                if judged.half_open {
                    self.is_awaited();
                }
                judged.open_secs
            }
            // A courtesy: without it the next claim tries sooner. The claim itself fails while Postgres is away.
            Err(error) => {
                tracing::warn!(%error, "could not note how the provider answers");
                None
            }
        }
    }
}
