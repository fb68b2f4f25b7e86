//! A fake Ultravox and a fake Telnyx on a real socket, for trying the product and for its tests: `outdial fake-providers`.
//!
//! Made from their documents, and apart from our adapters: nothing is shared with them, so that a misreading on one side shows. They
//! refuse what the real ones refuse, keep their own account of every phone that rang ([`World::rung`]), and misbehave as they are told
//! ([`Manners`]). Times are divided by a speed. **Invariant:** nobody's phone rings.

#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for what is not there")]

mod delivery;
mod telnyx;
mod ultravox;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode};
use axum::middleware::Next;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::domain::ids::splitmix;

/// The key both are asked with; any other is refused.
pub const KEY: &str = "fakefake.fakefakefakefakefakefakefakefake";
/// The connection legs belong to.
pub const CONNECTION: &str = "1684641123236054244";
/// The public key of the fake Telnyx (its seed is the bytes 1 to 32).
pub const TELNYX_PUBLIC_KEY: &str = "ebVWLo/mVPlAeLES6KmLp5AfhTrmlb7X4OORC60ElmQ=";

/// Some questions have no answer; commands are left to those who take them.
async fn leave_unanswered(State(world): State<World>, request: Request, next: Next) -> Response<Body> {
    if request.method() != Method::GET {
        return next.run(request).await;
    }
    let luck = format!("question {}", world.nth_question());
    match world.dice(&luck, 50) {
        chance if chance >= world.manners.unanswered => next.run(request).await,
        0..3 => answer(429, &json!({"detail": "Not now."})),
        3..6 => cut_off(),
        _ => answer(500, &json!({})),
    }
}

/// An answer that breaks off.
fn cut_off() -> Response<Body> {
    let parts = [Ok::<_, std::io::Error>("{\"call"), Err(std::io::Error::other("cut"))];
    Response::new(Body::from_stream(futures::stream::iter(parts)))
}

/// A status with JSON.
fn answer(status: u16, body: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// How the list of live legs is paged; their documents know two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// `page[number]` and `page[size]`, with `total_pages` and `total_results`.
    Number,
    /// `page[limit]` and `page[after]`, with cursors.
    Cursor,
    /// Either, as it is asked; a cursor goes first.
    Both,
    /// By number, and all but the first page is empty, whatever the totals say.
    Broken,
}

/// How the fakes behave; chances are in a hundred.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manners {
    /// The same seed makes the same phones behave in the same way.
    pub seed: u64,
    /// Divides times.
    pub speed: f64,
    /// Calls at once; more are refused with 429 (Ultravox) or 90041 (Telnyx).
    pub concurrent_max: usize,
    /// What becomes of a phone that rings; the rest is a person who answers.
    pub busy: u64,
    pub no_answer: u64,
    pub machine: u64,
    pub not_found: u64,
    /// Answered, and the agent cannot be connected; only where legs and agents are apart.
    pub deaf: u64,
    /// Refused before anything is made: 429 with and without `Retry-After`, 503.
    pub refused: u64,
    /// Accepted, and the answer is lost: an error, a broken body, or silence.
    pub answers_lost: u64,
    /// Webhooks that come twice, late, with a bad signature first, or not at all.
    pub doubled: u64,
    pub delayed: u64,
    pub badly_signed: u64,
    pub undelivered: u64,
    /// Reports of the agent that do not arrive.
    pub tools_unheard: u64,
    /// Events of Telnyx without their envelope.
    pub flat: u64,
    /// Questions that are not answered: an error, "too many", or a body that breaks off.
    pub unanswered: u64,
    /// How live legs are listed, and how many on a page at most.
    pub paging: Paging,
    pub page_rows_max: usize,
}

impl Manners {
    /// Nothing goes wrong; people answer or do not.
    #[must_use]
    pub fn gentle(seed: u64, speed: f64) -> Self {
        Self {
            seed,
            speed,
            concurrent_max: 1000,
            busy: 15,
            no_answer: 20,
            machine: 10,
            not_found: 3,
            deaf: 0,
            refused: 0,
            answers_lost: 0,
            doubled: 0,
            delayed: 0,
            badly_signed: 0,
            undelivered: 0,
            tools_unheard: 0,
            flat: 0,
            unanswered: 0,
            paging: Paging::Both,
            page_rows_max: 20,
        }
    }

    /// Everything that can go wrong does, often.
    #[must_use]
    pub fn rough(seed: u64, speed: f64) -> Self {
        Self {
            concurrent_max: 12,
            deaf: 4,
            refused: 10,
            answers_lost: 15,
            doubled: 25,
            delayed: 25,
            badly_signed: 15,
            undelivered: 10,
            tools_unheard: 20,
            flat: 20,
            unanswered: 3,
            page_rows_max: 4,
            ..Self::gentle(seed, speed)
        }
    }
}

/// What became of a phone that rang.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Busy,
    NoAnswer,
    NotFound,
    Machine,
    Person,
    /// A person who answered and heard nothing.
    Deaf,
    /// Hung up by whoever had called, before anybody answered.
    Canceled,
}

/// A phone that rang, as the fakes' own account has it.
#[derive(Clone, Debug)]
pub struct Rung {
    /// The attempt it was for, as the request said.
    pub attempt: String,
    pub to: String,
    pub at: DateTime<Utc>,
    pub ending: Ending,
    /// What the agent had to report.
    pub outcome: Option<&'static str>,
    /// What is billed, in seconds.
    pub billed_secs: u32,
    pub over: bool,
}

/// A request for a call, as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub body: Value,
}

#[derive(Debug, Default)]
struct Account {
    rung: Vec<Rung>,
    asked: Vec<Asked>,
    calls: HashMap<String, ultravox::Call>,
    legs: HashMap<String, telnyx::Leg>,
    /// Rings of each number, and requests of each attempt.
    rings: HashMap<String, u64>,
    tries: HashMap<String, u64>,
    questions: u64,
    badly_signed_taken: usize,
    /// Agents nobody had joined that were erased.
    erased: usize,
    overlaps: usize,
    most_at_once: usize,
}

/// The world of the fakes: their settings and their account.
#[derive(Clone, Debug)]
pub struct World {
    pub address: SocketAddr,
    manners: Manners,
    account: Arc<Mutex<Account>>,
    client: reqwest::Client,
    /// Told when a call or leg has changed.
    changed: Arc<Notify>,
}

impl World {
    /// Starts both on one port; they run as long as the process.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn start(port: u16, manners: Manners) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let world = Self {
            address: listener.local_addr()?,
            manners,
            account: Arc::default(),
            client: reqwest::Client::builder().timeout(Duration::from_secs(5)).build()?,
            changed: Arc::default(),
        };
        let router = Router::new().merge(ultravox::router()).merge(telnyx::router());
        let router = router
            .layer(axum::middleware::from_fn_with_state(world.clone(), leave_unanswered))
            .with_state(world.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(world)
    }

    /// Where both are.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The settings with which a service calls here, by the names people set.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        [
            ("ULTRAVOX_API_KEY", KEY.to_owned()),
            ("ULTRAVOX_API_URL", self.url()),
            ("TELNYX_API_KEY", KEY.to_owned()),
            ("TELNYX_API_URL", self.url()),
            ("TELNYX_CONNECTION_ID", CONNECTION.to_owned()),
            ("TELNYX_PUBLIC_KEY", TELNYX_PUBLIC_KEY.to_owned()),
            ("TELNYX_FROM_NUMBER", "+14155550000".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// How many questions were asked so far, this one included.
    fn nth_question(&self) -> u64 {
        let mut account = self.account();
        account.questions += 1;
        account.questions
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Every phone that rang, in order.
    #[must_use]
    pub fn rung(&self) -> Vec<Rung> {
        self.account().rung.clone()
    }

    /// Every request for a call that was well formed.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        self.account().asked.clone()
    }

    /// Phones that rang while they were on another call of ours.
    #[must_use]
    pub fn overlaps(&self) -> usize {
        self.account().overlaps
    }

    /// The most phones that rang or talked at once.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.account().most_at_once
    }

    /// Webhooks with a bad signature that were taken all the same.
    #[must_use]
    pub fn badly_signed_taken(&self) -> usize {
        self.account().badly_signed_taken
    }

    /// Agents that wait to be joined, by nobody's leg, and those that were taken back.
    #[must_use]
    pub fn idle_agents(&self) -> (usize, usize) {
        let account = self.account();
        let is_idle = |call: &&ultravox::Call| {
            call.joined.is_none() && call.ended.is_none() && !account.legs.values().any(|leg| leg.agent == call.id)
        };
        (account.calls.values().filter(is_idle).count(), account.erased)
    }

    /// Whether every phone that rang is silent again.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.account().rung.iter().all(|rung| rung.over)
    }

    fn secs(&self, secs: f64) -> Duration {
        Duration::from_secs_f64(secs / self.manners.speed)
    }

    async fn pause(&self, secs: f64) {
        tokio::time::sleep(self.secs(secs)).await;
    }

    /// A number from 0 to 99 for this key and purpose, always the same.
    fn dice(&self, key: &str, purpose: u64) -> u64 {
        let hash = key.bytes().fold(self.manners.seed, |hash, byte| splitmix(hash ^ u64::from(byte)));
        splitmix(hash ^ splitmix(purpose)) % 100
    }

    /// How often this attempt was asked for, this time included: a second try has other luck.
    fn nth_try(&self, attempt: &str) -> u64 {
        let mut account = self.account();
        let tries = account.tries.entry(attempt.to_owned()).or_default();
        *tries += 1;
        *tries
    }

    /// A phone begins to ring.
    fn ring(&self, attempt: &str, to: &str, by_leg: bool) -> Rung {
        let mut account = self.account();
        let nth = account.rings.entry(to.to_owned()).or_default();
        *nth += 1;
        let key = format!("{to} {nth}");
        let (roll, manners) = (self.dice(&key, 1), &self.manners);
        let bounds = [
            (Ending::Busy, manners.busy),
            (Ending::NoAnswer, manners.no_answer),
            (Ending::Machine, manners.machine),
            (Ending::NotFound, manners.not_found),
            (Ending::Deaf, if by_leg { manners.deaf } else { 0 }),
        ];
        let mut floor = 0;
        let ending = bounds.into_iter().find_map(|(ending, chance)| {
            floor += chance;
            (roll < floor).then_some(ending)
        });
        let ending = ending.unwrap_or(Ending::Person);
        let outcome = match (ending, self.dice(&key, 2)) {
            (Ending::Person, 0..30) => Some("APPOINTMENT_SET"),
            (Ending::Person, 30..55) => Some("NOT_INTERESTED"),
            (Ending::Person, 55..65) => Some("DO_NOT_CALL"),
            (Ending::Person, 65..90) => Some("COMPLETED"),
            // Without machine detection it is the agent who notices.
            (Ending::Machine, _) if !by_leg => Some("VOICEMAIL"),
            _ => None,
        };
        // Talk is billed in steps of six seconds.
        let talk = u32::try_from(self.dice(&key, 3)).unwrap_or_default();
        let billed_secs = match ending {
            Ending::Person => (5 + 2 * talk).next_multiple_of(6),
            Ending::Machine => 12,
            _ => 0,
        };
        if let Some(other) = account.rung.iter().find(|other| other.to == to && !other.over) {
            tracing::error!(to, attempt, other.attempt, other.at = %other.at, "a phone rings that is on another call of ours");
            account.overlaps += 1;
        }
        let rung = Rung {
            attempt: attempt.to_owned(),
            to: to.to_owned(),
            at: Utc::now(),
            ending,
            outcome,
            billed_secs,
            over: false,
        };
        account.rung.push(rung.clone());
        let at_once = account.rung.iter().filter(|rung| !rung.over).count();
        account.most_at_once = account.most_at_once.max(at_once);
        rung
    }

    /// The phone is silent again; `ending`: in another way than it seemed.
    fn rung_out(&self, rung: &Rung, ending: Option<Ending>) {
        self.amend(rung, |kept| {
            kept.over = true;
            kept.ending = ending.unwrap_or(kept.ending);
        });
    }

    /// Whoever answered hears nothing: the agent had given up.
    fn found_deaf(&self, rung: &Rung) {
        self.amend(rung, |kept| {
            kept.ending = Ending::Deaf;
            kept.outcome = None;
            kept.billed_secs = 0;
        });
    }

    fn amend(&self, rung: &Rung, change: impl FnOnce(&mut Rung)) {
        let mut account = self.account();
        let same = |other: &&mut Rung| other.attempt == rung.attempt && other.at == rung.at;
        if let Some(kept) = account.rung.iter_mut().find(same) {
            change(kept);
        }
    }
}
