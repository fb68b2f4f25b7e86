//! The provider of the simulation: it holds every request until a step of the seed answers it, and remembers which phones ring.
//!
//! It knows nothing of Postgres. What it sees is the truth that the queue is judged by: [`Exchange::faults`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use outdial::domain::disposition::Disposition;
use outdial::domain::ids::{AttemptId, CallId};
use outdial::domain::word::{Ended, Weight, Word};
use outdial::provider::{Dial, Found, HungUp, Placed, Prepared, Provider, Question};
use secrecy::SecretString;
use tokio::sync::oneshot;

/// The provider lets no call last longer: less than a process waits for its end.
const LONGEST: TimeDelta = TimeDelta::seconds(3300);

/// What all processes of a simulation dial by.
#[derive(Debug)]
pub struct Exchange {
    /// The time of the simulation.
    pub now: DateTime<Utc>,
    /// Requests that are on their way, or wait for an answer.
    pub requests: BTreeMap<AttemptId, Request>,
    pub legs: BTreeMap<AttemptId, Leg>,
    /// Phones that begin to ring late: the request is still on its way.
    pub late: Vec<(DateTime<Utc>, AttemptId, CallId, String)>,
    /// What must never happen, and did.
    pub faults: Vec<String>,
    /// No more phones than these may ring at once.
    pub limit: usize,
    /// Calls take two steps.
    pub two_steps: bool,
    /// Questions are answered.
    pub answers: bool,
}

#[derive(Debug)]
pub struct Request {
    pub process: usize,
    pub call: CallId,
    pub number: String,
    pub arrived_at: DateTime<Utc>,
    answer: oneshot::Sender<Placed>,
}

/// A phone that rings, is talked into, or was.
#[derive(Clone, Debug)]
pub struct Leg {
    pub call: CallId,
    pub number: String,
    pub rang_at: DateTime<Utc>,
    pub end: Option<Ended>,
}

pub type Shared = Arc<Mutex<Exchange>>;

/// Nothing panics while it is held but what ends the test.
pub fn lock(exchange: &Shared) -> MutexGuard<'_, Exchange> {
    exchange.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub fn id_at_provider(attempt: AttemptId) -> String {
    format!("p-{attempt}")
}

impl Exchange {
    pub fn new(now: DateTime<Utc>, limit: usize, two_steps: bool) -> Shared {
        Arc::new(Mutex::new(Self {
            now,
            requests: BTreeMap::new(),
            legs: BTreeMap::new(),
            late: Vec::new(),
            faults: Vec::new(),
            limit,
            two_steps,
            answers: true,
        }))
    }

    /// Requests of a process that have arrived and are waited for.
    pub fn requests_of(&self, process: usize) -> usize {
        self.requests.values().filter(|request| request.process == process && !request.answer.is_closed()).count()
    }

    /// Requests that may still be answered.
    pub fn open_requests(&self) -> Vec<(AttemptId, CallId, String)> {
        self.requests.iter().map(|(id, request)| (*id, request.call, request.number.clone())).collect()
    }

    /// A phone rings from now on.
    pub fn ring(&mut self, attempt: AttemptId, call: CallId, number: &str, at: DateTime<Utc>) {
        if self.legs.contains_key(&attempt) {
            return;
        }
        let on_a_call = |leg: &&Leg| leg.end.is_none();
        if self.legs.values().filter(on_a_call).any(|leg| leg.number == number) {
            self.faults.push(format!("a phone rings twice at once: {number}"));
        }
        if self.legs.values().filter(on_a_call).any(|leg| leg.call == call) {
            self.faults.push(format!("call {call} is dialed while it is being talked to"));
        }
        let leg = Leg { call, number: number.to_owned(), rang_at: at, end: None };
        self.legs.insert(attempt, leg);
        let live = self.legs.values().filter(on_a_call).count();
        if live > self.limit {
            self.faults.push(format!("{live} phones at once, {} are allowed", self.limit));
        }
    }

    /// The request is answered; false: nobody waits for the answer any more.
    pub fn answer(&mut self, attempt: AttemptId, placed: Placed) -> bool {
        self.requests.remove(&attempt).is_some_and(|request| request.answer.send(placed).is_ok())
    }

    /// Requests whose process has given them up; their phones may ring all the same.
    pub fn given_up(&mut self) -> Vec<(AttemptId, Request)> {
        let gone: Vec<AttemptId> =
            self.requests.iter().filter(|(_, request)| request.answer.is_closed()).map(|(id, _)| *id).collect();
        gone.into_iter().filter_map(|id| self.requests.remove(&id).map(|request| (id, request))).collect()
    }

    /// Lets those ring whose time has come, and ends calls that last too long.
    pub fn pass_time(&mut self, now: DateTime<Utc>) {
        self.now = now;
        for (attempt, leg) in &mut self.legs {
            if leg.end.is_none() && now > leg.rang_at + LONGEST {
                leg.end = Some(Ended {
                    provider_call_id: Some(id_at_provider(*attempt)),
                    duration_secs: Some(3300),
                    ..Ended::of(Disposition::Completed, Weight::Status)
                });
            }
        }
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(at, ..)| *at <= now);
        self.late = later;
        let due: Vec<_> = due;
        for (at, attempt, call, number) in due {
            self.ring(attempt, call, &number, at);
        }
    }

    fn found(&self, attempt: AttemptId) -> Found {
        match self.legs.get(&attempt) {
            _ if !self.answers => Found::CannotSay,
            None => Found::NotFound,
            Some(Leg { end: Some(end), .. }) => Found::Known(Word::Ended(end.clone())),
            Some(Leg { end: None, .. }) => {
                Found::Known(Word::Accepted { provider_call_id: Some(id_at_provider(attempt)), carrier_call_id: None })
            }
        }
    }
}

/// The exchange, as one process sees it.
#[derive(Debug)]
pub struct Trunk {
    pub process: usize,
    pub exchange: Shared,
}

#[async_trait]
impl Provider for Trunk {
    fn name(&self) -> &'static str {
        "simulation"
    }

    async fn prepare(&self, dial: &Dial) -> Result<Option<Prepared>, Placed> {
        let prepared = Prepared {
            provider_call_id: id_at_provider(dial.attempt_id),
            join_url: SecretString::from("sip:simulation".to_owned()),
        };
        Ok(lock(&self.exchange).two_steps.then_some(prepared))
    }

    async fn place(&self, dial: &Dial) -> Placed {
        let (answer, answered) = oneshot::channel();
        {
            let mut exchange = lock(&self.exchange);
            let request = Request {
                process: self.process,
                call: dial.call_id,
                number: dial.to.identity().into_owned(),
                arrived_at: exchange.now,
                answer,
            };
            exchange.requests.insert(dial.attempt_id, request);
        }
        answered.await.unwrap_or_else(|_| Placed::Ambiguous { reason: "the line broke".to_owned() })
    }

    async fn find_by_attempt(&self, question: &Question) -> Found {
        lock(&self.exchange).found(question.attempt_id)
    }

    async fn status(&self, question: &Question) -> Found {
        lock(&self.exchange).found(question.attempt_id)
    }

    async fn hang_up(&self, question: &Question) -> HungUp {
        let mut exchange = lock(&self.exchange);
        match exchange.legs.get_mut(&question.attempt_id) {
            Some(leg) if leg.end.is_none() => {
                leg.end = Some(Ended {
                    provider_call_id: Some(id_at_provider(question.attempt_id)),
                    duration_secs: Some(1),
                    ..Ended::of(Disposition::Canceled, Weight::Status)
                });
                HungUp::Asked
            }
            _ => HungUp::Failed,
        }
    }
}
