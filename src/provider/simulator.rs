//! Calls that nobody answers: the default provider. Opens no socket.
//!
//! A call's course is a pure function of seed, attempt id and time of dialing: any instance can say how it went after the one
//! that dialed it has died. Calls last 10–30 s and succeed nine times in ten unless the settings say otherwise; `speed`
//! divides all times. Everything it does is logged, without numbers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::config;
use crate::domain::disposition::Disposition;
use crate::domain::ids::{AttemptId, splitmix};
use crate::domain::word::{Ended, Weight, Word};
use crate::provider::{Dial, Ear, Found, HungUp, Placed, Provider, Question, Said};

/// How a simulated call goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Course {
    /// From the claim to the end, already divided by speed.
    pub lasts: Duration,
    pub disposition: Disposition,
    /// The length of the conversation in simulated seconds, not divided.
    pub talked_secs: i32,
}

/// The simulator: a heap of calls under way, in order of their end.
#[derive(Debug)]
pub struct Simulator {
    settings: config::Simulator,
    ear: Ear,
    under_way: Mutex<BinaryHeap<Reverse<(Instant, AttemptId, bool)>>>,
    /// A call was added that may end before the next in line.
    added: Notify,
}

impl Simulator {
    #[must_use]
    pub fn new(settings: config::Simulator, ear: Ear) -> Self {
        Self { settings, ear, under_way: Mutex::default(), added: Notify::new() }
    }

    /// How the call of this attempt goes: always the same.
    #[must_use]
    pub fn course(&self, attempt: AttemptId) -> Course {
        let (high, low) = attempt.0.as_u64_pair();
        let mut dice = StdRng::seed_from_u64(splitmix(self.settings.seed ^ splitmix(high ^ splitmix(low))));
        let secs = dice.random_range(self.settings.duration_secs_min..=self.settings.duration_secs_max);
        let succeeds = dice.random_bool(self.settings.success_rate);
        let disposition = if succeeds {
            Disposition::Completed
        } else {
            match dice.random_range(0..3) {
                0 => Disposition::Busy,
                1 => Disposition::NoAnswer,
                _ => Disposition::Failed,
            }
        };
        #[expect(
            clippy::as_conversions,
            clippy::cast_possible_truncation,
            reason = "f64 to i32 has no other way; durations are small"
        )]
        let talked_secs = if succeeds { secs.round() as i32 } else { 0 };
        Course { lasts: Duration::from_secs_f64(secs / self.settings.speed), disposition, talked_secs }
    }

    /// What there is to say about the attempt at this moment.
    fn word_at(&self, attempt: AttemptId, claimed_at: DateTime<Utc>, now: DateTime<Utc>) -> Word {
        let course = self.course(attempt);
        if (now - claimed_at).to_std().unwrap_or_default() < course.lasts {
            return Word::Accepted { provider_call_id: Some(call_id_of(attempt)), carrier_call_id: None };
        }
        Word::Ended(Ended {
            provider_call_id: Some(call_id_of(attempt)),
            duration_secs: Some(course.talked_secs),
            ..Ended::of(course.disposition, Weight::Cause)
        })
    }

    fn put(&self, at: Instant, attempt: AttemptId, hung_up: bool) {
        if let Ok(mut under_way) = self.under_way.lock() {
            under_way.push(Reverse((at, attempt, hung_up)));
        }
        self.added.notify_one();
    }

    /// The next end, if it has come, or when it will.
    fn due(&self) -> Result<(AttemptId, bool), Option<Instant>> {
        let Ok(mut under_way) = self.under_way.lock() else {
            return Err(None);
        };
        match under_way.peek() {
            Some(Reverse((at, _, _))) if *at <= Instant::now() => {
                under_way.pop().map(|Reverse((_, attempt, hung_up))| (attempt, hung_up)).ok_or(None)
            }
            Some(Reverse((at, _, _))) => Err(Some(*at)),
            None => Err(None),
        }
    }

    /// Ends calls when their time has come, until `stop`. What is under way then is found again by look-up.
    pub async fn run(&self, stop: CancellationToken) {
        loop {
            match self.due() {
                Ok((attempt, hung_up)) => self.end(attempt, hung_up),
                Err(next) => {
                    let timer = async {
                        match next {
                            Some(at) => tokio::time::sleep_until(at).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.added.notified() => {}
                        () = timer => {}
                    }
                }
            }
        }
    }

    fn end(&self, attempt: AttemptId, hung_up: bool) {
        let course = self.course(attempt);
        let disposition = if hung_up { Disposition::Canceled } else { course.disposition };
        info!(attempt.id = %attempt, disposition = disposition.as_str(), "simulated call ends");
        let word = Word::Ended(Ended {
            provider_call_id: Some(call_id_of(attempt)),
            hangup_cause: hung_up.then(|| "originator_cancel".to_owned()),
            duration_secs: Some(if hung_up { 0 } else { course.talked_secs }),
            ..Ended::of(disposition, Weight::Cause)
        });
        // Nobody listens any more only when the process ends.
        let _ = self.ear.send(Said { attempt_id: attempt, word, at: Some(Utc::now()) });
    }
}

/// Enough of a script to know it by in a log.
fn beginning_of(script: &str) -> String {
    script.chars().take(80).collect()
}

fn call_id_of(attempt: AttemptId) -> String {
    format!("sim-{attempt}")
}

#[async_trait]
impl Provider for Simulator {
    fn name(&self) -> &'static str {
        "simulator"
    }

    async fn place(&self, dial: &Dial) -> Placed {
        let course = self.course(dial.attempt_id);
        info!(attempt.id = %dial.attempt_id, call.id = %dial.call_id, script = %beginning_of(&dial.script_id),
              lasts_ms = u64::try_from(course.lasts.as_millis()).unwrap_or(u64::MAX), "simulated call rings");
        self.put(Instant::now() + course.lasts, dial.attempt_id, false);
        Placed::Accepted { provider_call_id: Some(call_id_of(dial.attempt_id)), carrier_call_id: None }
    }

    async fn find_by_attempt(&self, question: &Question) -> Found {
        Found::Known(self.word_at(question.attempt_id, question.claimed_at, Utc::now()))
    }

    async fn status(&self, question: &Question) -> Found {
        self.find_by_attempt(question).await
    }

    async fn hang_up(&self, question: &Question) -> HungUp {
        self.put(Instant::now(), question.attempt_id, true);
        HungUp::Asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::new_id;
    use tokio::sync::mpsc;

    fn simulator() -> Simulator {
        let settings = config::from_parts(None, &std::collections::BTreeMap::new()).expect("defaults").simulator;
        Simulator::new(settings, mpsc::unbounded_channel().0)
    }

    /// Two simulators with one seed tell the same story, and the stories keep to the settings.
    #[test]
    fn courses_are_pure_and_within_bounds() {
        let (one, other) = (simulator(), simulator());
        let attempts: Vec<AttemptId> = (0..2000).map(|_| AttemptId(new_id())).collect();
        let mut reached = 0;
        for attempt in &attempts {
            let course = one.course(*attempt);
            assert_eq!(course, other.course(*attempt));
            assert!(course.lasts >= Duration::from_secs(10) && course.lasts <= Duration::from_secs(30), "{course:?}");
            reached += usize::from(course.disposition == Disposition::Completed);
        }
        assert!((1700..1900).contains(&reached), "{reached} of 2000 reached, 90 % expected");
    }

    /// A call that another process dialed is accepted while it lasts and ended after, with no memory of it.
    #[test]
    fn answers_for_calls_it_never_saw() {
        let simulator = simulator();
        let attempt = AttemptId(new_id());
        let claimed_at = Utc::now();
        let course = simulator.course(attempt);
        assert!(matches!(simulator.word_at(attempt, claimed_at, claimed_at), Word::Accepted { .. }));
        let later = claimed_at + course.lasts;
        assert!(
            matches!(simulator.word_at(attempt, claimed_at, later), Word::Ended(ended) if ended.disposition == course.disposition)
        );
    }
}
