//! Whether the provider answers: what this process sees of it, reported to the circuit breaker all processes share.
//!
//! Failures are reported at once. Answers are only counted, and reported with the next failure, or when the breaker waits for
//! one: a provider that is well costs no write.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use sqlx::PgPool;

use crate::queue::{self, Breaker};

/// The pulse of the provider, as this process feels it.
#[derive(Debug)]
pub struct Pulse {
    answered: AtomicI32,
    /// The breaker may be waiting for an answer.
    awaited: AtomicBool,
}

impl Default for Pulse {
    /// An opening may be left from a time before this process: the first answer is reported.
    fn default() -> Self {
        Self { answered: AtomicI32::new(0), awaited: AtomicBool::new(true) }
    }
}

impl Pulse {
    /// The claim says that the breaker waits for an answer.
    pub fn is_awaited(&self) {
        self.awaited.store(true, Ordering::Relaxed);
    }

    /// The provider answered, in whatever sense.
    pub async fn answered(&self, pool: &PgPool, provider: &str, breaker: &Breaker) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if self.awaited.swap(false, Ordering::Relaxed) {
            self.report(pool, provider, 0, breaker).await;
        }
    }

    /// It could not be reached, refuses us, or left us in doubt.
    pub async fn failed(&self, pool: &PgPool, provider: &str, breaker: &Breaker) {
        self.awaited.store(true, Ordering::Relaxed);
        self.report(pool, provider, 1, breaker).await;
    }

    async fn report(&self, pool: &PgPool, provider: &str, failed: i32, breaker: &Breaker) {
        let answered = self.answered.swap(0, Ordering::Relaxed);
        match queue::judge_provider(pool, provider, answered, failed, breaker).await {
            Ok(judged) => {
                if judged.half_open {
                    self.is_awaited();
                }
                if let Some(secs) = judged.open_secs.filter(|_| failed > 0) {
                    tracing::error!(
                        provider,
                        hold_secs = secs,
                        "circuit breaker open: the provider does not answer; nothing is dialed meanwhile"
                    );
                }
            }
            // A courtesy: without it the next claim tries sooner. The claim itself fails while Postgres is away.
            Err(error) => tracing::warn!(%error, "could not note how the provider answers"),
        }
    }
}
