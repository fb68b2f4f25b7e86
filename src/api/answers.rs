//! Room for answers: what was read for a client is in memory until the client has it.
//!
//! **Invariant:** a read begins only while answers take less than `server.answers_bytes_max` in this process, so that readers who take their
//! time fill no memory: beyond it are at most the answers of the reads that had begun, no more of them than connections for reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// What an answer counts for until it is there.
const EXPECTED_BYTES: usize = 64 * 1024;

/// The answers of this process.
#[derive(Debug)]
pub struct Answers {
    bytes_max: usize,
    taken: Arc<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    bytes: AtomicUsize,
    given_back: Notify,
}

/// What one answer takes; given back when dropped.
#[derive(Debug)]
pub struct Held {
    bytes: usize,
    taken: Arc<Taken>,
}

impl Answers {
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, taken: Arc::default() }
    }

    /// Room for an answer; none: there was none within `patience`.
    pub async fn room(&self, patience: Duration) -> Option<Held> {
        let deadline = Instant::now() + patience;
        loop {
            // Hears what is given back from here on, not from the wait on.
            let given_back = self.taken.given_back.notified();
            let more = |bytes: usize| (bytes < self.bytes_max).then(|| bytes + EXPECTED_BYTES);
            if self.taken.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok() {
                return Some(Held { bytes: EXPECTED_BYTES, taken: Arc::clone(&self.taken) });
            }
            tokio::time::timeout_at(deadline, given_back).await.ok()?;
        }
    }
}

impl Held {
    /// It is there, and so large.
    pub fn weighs(&mut self, bytes: usize) {
        self.taken.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.give_back();
        self.bytes = bytes;
    }

    fn give_back(&self) {
        self.taken.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.taken.given_back.notify_waiters();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    /// Answers that are there count as they are; nobody begins while they take all the room, and who waits goes on when some is back.
    #[tokio::test]
    async fn reads_begin_while_there_is_room() {
        let answers = Answers::new(EXPECTED_BYTES * 2);
        let mut first = answers.room(SOON).await.expect("room");
        first.weighs(EXPECTED_BYTES * 3);
        assert!(answers.room(SOON).await.is_none());
        let (waited, ()) = tokio::join!(answers.room(Duration::from_secs(20)), async { first.weighs(10) });
        let second = waited.expect("room again");
        drop((first, second));
        assert_eq!(answers.taken.bytes.load(Ordering::Relaxed), 0);
    }
}
