//! What this process last did, as moments: written by its loops, told with the renewal of its lease, shown by `/health` and `doctor`.
//!
//! **Invariant:** costs the loops an atomic store; asks nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use uuid::Uuid;

/// Something a process does again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vital {
    /// A turn of the worker loop that succeeded.
    Turn,
    /// Something heard was settled.
    Settle,
    Planning,
    /// Events to customers were taken and sent.
    Delivery,
    Housekeeping,
    /// A provider said something, by webhook or when asked.
    Word,
}

const COUNT: usize = 6;

/// When each was last done; the process's own monotonic clock.
#[derive(Debug)]
pub struct Vitals {
    began: Instant,
    /// Milliseconds since `began`, plus one; 0: never.
    at: [AtomicU64; COUNT],
    /// The newest attempt whose claim this process knows to be committed.
    newest_attempt: Mutex<Option<Uuid>>,
}

impl Default for Vitals {
    fn default() -> Self {
        Self { began: Instant::now(), at: Default::default(), newest_attempt: Mutex::new(None) }
    }
}

impl Vitals {
    /// It was done just now.
    pub fn beat(&self, vital: Vital) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.slot(vital).store(now + 1, Ordering::Relaxed);
    }

    /// It was done just now, if so.
    pub fn beat_if(&self, vital: Vital, done: bool) {
        if done {
            self.beat(vital);
        }
    }

    /// Seconds since it was last done; none: never.
    #[must_use]
    pub fn secs_since(&self, vital: Vital) -> Option<f64> {
        let at = self.slot(vital).load(Ordering::Relaxed).checked_sub(1)?;
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Some(std::time::Duration::from_millis(now.saturating_sub(at)).as_secs_f64())
    }

    /// Remembers what must be in the database from now on.
    pub fn committed(&self, attempt: Uuid) {
        *self.newest_attempt.lock().unwrap_or_else(PoisonError::into_inner) = Some(attempt);
    }

    /// An attempt that must be in the database, if this is the one it was written to.
    #[must_use]
    pub fn newest_attempt(&self) -> Option<Uuid> {
        *self.newest_attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, vital: Vital) -> &AtomicU64 {
        let [turn, settle, planning, delivery, housekeeping, word] = &self.at;
        match vital {
            Vital::Turn => turn,
            Vital::Settle => settle,
            Vital::Planning => planning,
            Vital::Delivery => delivery,
            Vital::Housekeeping => housekeeping,
            Vital::Word => word,
        }
    }
}
