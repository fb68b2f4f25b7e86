//! Tells users what became of their calls: the outbox is emptied to their endpoints, signed, at least once, in order for each call.
//!
//! Events are written by the statement that makes the news (migration 0008); any number of processes may empty the outbox, since a
//! delivery is leased to one at a time. What is on its way is shared out: each user has a share, each endpoint a smaller one, an
//! endpoint that fails sleeps as a whole and is then tried with one delivery, and all such tries together have half the room, so
//! that nobody's slowness or backlog stops the others. An endpoint that fails for days is disabled (`delivery_settle.sql`).
//! **Invariant:** never asks a provider, never moves a call; internal addresses are refused when an endpoint is registered and again
//! when its name is resolved ([`gate`]).

pub mod gate;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use futures::FutureExt;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode, redirect};
use secrecy::ExposeSecret;
use sqlx::PgPool;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::db::fault::within;
use crate::domain::ids::splitmix;
use crate::domain::retry;
use crate::provider::signature;
use crate::store::deliveries::{self, Due, Result as Told, Share, Taken};
use crate::telemetry::vitals::{Vital, Vitals};

/// What the notifier follows; see config.toml.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often it looks for something to send.
    pub tick: Duration,
    /// From the connection to the answer. Bodies of answers are not read.
    pub timeout: Duration,
    /// Sent at once, of all users and of one.
    pub in_flight: usize,
    pub in_flight_per_user: usize,
    /// An endpoint that fails for so long without a success is disabled.
    pub disable_after_days: u32,
    /// Also to addresses of this machine and its network.
    pub allow_internal: bool,
    /// A statement that has not answered for so long never will.
    pub patience: Duration,
}

/// Seconds until the next try after so many failures; about a day in all, then the event is dead until it is replayed.
const DELAYS_SECS: [f64; 9] = [5.0, 60.0, 300.0, 1800.0, 7200.0, 14_400.0, 18_000.0, LAST_DELAY_SECS, LAST_DELAY_SECS];
/// An endpoint that has failed more often is tried so often.
const LAST_DELAY_SECS: f64 = 21_600.0;
/// An endpoint that asks for a longer pause is tried after so long.
const RETRY_AFTER_SECS_MAX: f64 = 3600.0;
const ERROR_CHARS_MAX: usize = 200;
/// On their way to one endpoint at once: a slow one leaves room for the others.
const EACH_MAX: i64 = 4;
/// After a panic of the loop itself.
const PAUSE: Duration = Duration::from_secs(1);

/// Empties the outbox until `stop`. What is on its way when it stops is sent again by whoever comes after its lease.
///
/// # Errors
/// The client cannot be built.
pub async fn run(pool: PgPool, settings: Settings, vitals: Arc<Vitals>, stop: CancellationToken) -> anyhow::Result<()> {
    let client = client(settings)?;
    let send = move |due: Arc<Due>| {
        let client = client.clone();
        async move { tell(&client, &due, settings).await }
    };
    run_with(pool, settings, vitals, stop, send).await;
    Ok(())
}

/// The same, with another way to send. A panic of one delivery ends that delivery; the loop goes on after any.
pub async fn run_with<S, F>(pool: PgPool, settings: Settings, vitals: Arc<Vitals>, stop: CancellationToken, send: S)
where
    S: Fn(Arc<Due>) -> F + Send + Sync + 'static,
    F: Future<Output = Told> + Send + 'static,
{
    let mut round = Round {
        pool,
        settings,
        vitals,
        send: Arc::new(send),
        telling: JoinSet::new(),
        under_way: HashMap::new(),
        after: Uuid::nil(),
    };
    while !stop.is_cancelled() {
        if AssertUnwindSafe(round.turn(&stop)).catch_unwind().await.is_err() {
            tracing::error!("the notifier panicked; it goes on after a pause");
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

/// What one process has on its way.
struct Round<S> {
    pool: PgPool,
    settings: Settings,
    vitals: Arc<Vitals>,
    send: Arc<S>,
    telling: JoinSet<()>,
    under_way: HashMap<Id, Arc<Due>>,
    /// Endpoints above are looked at next.
    after: Uuid,
}

impl<S, F> Round<S>
where
    S: Fn(Arc<Due>) -> F + Send + Sync + 'static,
    F: Future<Output = Told> + Send + 'static,
{
    /// Takes what there is room for, and waits for one to end, for the next tick, or for nothing when there is more to look at.
    async fn turn(&mut self, stop: &CancellationToken) {
        let share = share(self.settings, self.under_way.values());
        if share.limit > 0 {
            let taken = within(self.settings.patience, deliveries::take(&self.pool, self.after, &share))
                .await
                .unwrap_or_else(|error| {
                    tracing::warn!(%error, "the outbox could not be read; it is tried again");
                    Taken::default()
                });
            self.after = taken.upto.unwrap_or_default();
            self.vitals.beat(Vital::Delivery);
            for due in taken.due {
                self.start(Arc::new(due));
            }
            if taken.upto.is_some() {
                while let Some(ended) = self.telling.try_join_next_with_id() {
                    self.end(ended);
                }
                return;
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(ended) = self.telling.join_next_with_id() => self.end(ended),
            () = tokio::time::sleep(self.settings.tick) => {}
        }
    }

    fn start(&mut self, due: Arc<Due>) {
        let (pool, settings, send, delivery) =
            (self.pool.clone(), self.settings, Arc::clone(&self.send), Arc::clone(&due));
        let task = self.telling.spawn(async move {
            let sent = AssertUnwindSafe(async { send(Arc::clone(&delivery)).await }).catch_unwind().await;
            settle(&pool, &delivery, sent.ok(), settings).await;
        });
        self.under_way.insert(task.id(), due);
    }

    fn end(&mut self, ended: Result<(Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let due = self.under_way.remove(&id);
        if let (Err(error), Some(due)) = (ended, due) {
            tracing::error!(delivery.id = %due.id, %error, "a delivery broke off; it is sent again after its lease");
        }
    }
}

/// What may be taken beside what is on its way.
fn share<'a>(settings: Settings, under_way: impl Iterator<Item = &'a Arc<Due>>) -> Share {
    let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let mut share = Share {
        limit: count(settings.in_flight),
        each: EACH_MAX,
        of_user: count(settings.in_flight_per_user),
        probes: count(settings.in_flight.div_ceil(2)),
        lease_secs: settings.timeout.as_secs_f64() * 2.0,
        endpoints: HashMap::new(),
        users: HashMap::new(),
    };
    for due in under_way {
        share.limit -= 1;
        share.probes -= i64::from(due.failures > 0);
        *share.endpoints.entry(due.endpoint_id).or_default() += 1;
        *share.users.entry(due.user_id).or_default() += 1;
    }
    share
}

/// Sends what is due, and waits for it; returns how many were tried.
///
/// # Errors
/// Postgres is away; what was sent without being noted is sent again.
pub async fn send_due(pool: &PgPool, client: &Client, settings: Settings) -> sqlx::Result<usize> {
    let due = deliveries::take(pool, Uuid::nil(), &share(settings, std::iter::empty())).await?.due;
    let tried = due.len();
    let deliver = async |due: Due| settle(pool, &due, Some(tell(client, &due, settings).await), settings).await;
    futures::future::join_all(due.into_iter().map(deliver)).await;
    Ok(tried)
}

/// Notes what came of a try; none: sending it panicked, for which its endpoint is not to blame.
async fn settle(pool: &PgPool, due: &Due, told: Option<Told>, settings: Settings) {
    let id = due.id;
    let blame = if told.is_some() { due.failures } else { deliveries::NOT_TO_BLAME };
    let told = told.unwrap_or_else(|| {
        tracing::error!(delivery.id = %id, "sending an event panicked; it is tried again as after any failure");
        failed(due, None, "it could not be sent".to_owned(), None)
    });
    metrics::counter!("outdial_deliveries_total", "result" => told.as_str()).increment(1);
    if let Told::Failed { error, again_secs: None, .. } = &told {
        tracing::warn!(delivery.id = %id, endpoint.id = %due.endpoint_id, error, "an event is given up; replay it when the endpoint is well");
    }
    let settling = deliveries::settle(pool, due, blame, &told, f64::from(settings.disable_after_days));
    match within(settings.patience, settling).await {
        Ok(None) => {}
        Ok(Some(reason)) => {
            tracing::warn!(endpoint.id = %due.endpoint_id, user.id = %due.user_id, reason, "an endpoint is disabled, and what waited for it is given up");
        }
        Err(error) => {
            tracing::warn!(delivery.id = %id, %error, "could not note what came of an event; it is sent again");
        }
    }
}

/// A client that follows nobody elsewhere, and finds no internal address.
///
/// # Errors
/// It cannot be built.
pub fn client(settings: Settings) -> anyhow::Result<Client> {
    let builder = Client::builder().timeout(settings.timeout).redirect(redirect::Policy::none()).no_proxy();
    let builder = if settings.allow_internal { builder } else { builder.dns_resolver(Arc::new(gate::PublicOnly)) };
    Ok(builder.user_agent(concat!("outdial/", env!("CARGO_PKG_VERSION"))).build()?)
}

async fn tell(client: &Client, delivery: &Due, settings: Settings) -> Told {
    if let Err(reason) = gate::check(&delivery.url, settings.allow_internal) {
        return failed(delivery, None, reason.to_string(), None);
    }
    // The body is signed as it is sent.
    let body = delivery.payload.clone();
    let timestamp = Utc::now().timestamp();
    let id = delivery.id.to_string();
    // While a secret is changed, one by each.
    let secrets = std::iter::once(&delivery.secret).chain(&delivery.previous_secret);
    let signatures: Option<Vec<String>> =
        secrets.map(|secret| signature::sign(secret.expose_secret(), &id, timestamp, body.as_bytes())).collect();
    let Some(signature) = signatures.map(|signatures| signatures.join(" ")) else {
        return failed(delivery, None, "the secret is no Standard Webhooks secret".to_owned(), None);
    };
    let request = client
        .post(&delivery.url)
        .header("content-type", "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", timestamp.to_string())
        .header("webhook-signature", signature)
        .body(body);
    match request.send().await {
        Ok(response) if response.status().is_success() => Told::Delivered { status: response.status().as_u16().into() },
        Ok(response) if response.status() == StatusCode::GONE => Told::Gone,
        Ok(response) => {
            let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let after = after.and_then(|value| retry::retry_after(value, Utc::now()));
            let status = response.status().as_u16();
            failed(delivery, Some(status.into()), format!("HTTP {status}"), after)
        }
        Err(error) => failed(delivery, None, error.without_url().to_string(), None),
    }
}

/// The delivery waits by its own failures, its endpoint by those in a row.
fn failed(due: &Due, status: Option<i32>, error: String, after: Option<Duration>) -> Told {
    let nth = usize::try_from(due.attempts - 1).unwrap_or_default();
    let (high, low) = due.id.as_u64_pair();
    // Spread, so that a recovering endpoint is not met by all at once.
    let dice = f64::from(
        u32::try_from(splitmix(high ^ low ^ u64::try_from(nth).unwrap_or_default()) >> 32).unwrap_or_default(),
    ) / f64::from(u32::MAX);
    let spread = |secs: f64| secs * (0.8 + 0.4 * dice);
    let after_secs = after.map_or(0.0, |after| after.as_secs_f64().min(RETRY_AFTER_SECS_MAX));
    let in_a_row = usize::try_from(due.failures).unwrap_or_default();
    Told::Failed {
        status,
        error: error.chars().take(ERROR_CHARS_MAX).collect(),
        again_secs: DELAYS_SECS.get(nth).map(|secs| spread(*secs).max(after_secs)),
        sleep_secs: spread(DELAYS_SECS.get(in_a_row).copied().unwrap_or(LAST_DELAY_SECS)),
        after_secs,
    }
}
