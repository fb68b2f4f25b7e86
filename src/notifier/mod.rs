//! Tells users what became of their calls: the outbox is emptied to their endpoints, signed, at least once, in order for each call.
//!
//! Events are written by the statement that makes the news (migration 0008); any number of processes may empty the outbox, since a
//! delivery is leased to one at a time. **Invariant:** never asks a provider, never moves a call; internal addresses are refused
//! when an endpoint is registered and again when its name is resolved ([`gate`]).

pub mod gate;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Client, StatusCode, redirect};
use sqlx::PgPool;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::ids::splitmix;
use crate::provider::signature;
use crate::store::deliveries::{self, Due, Result as Told};

/// What the notifier follows; see config.toml.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How often it looks for something to send.
    pub tick: Duration,
    pub timeout: Duration,
    /// Sent at once.
    pub in_flight: usize,
    /// Also to addresses of this machine and its network.
    pub allow_internal: bool,
}

/// Seconds until the next try after so many failures; about a day in all, then the event is dead until it is replayed.
const DELAYS_SECS: [f64; 9] = [5.0, 60.0, 300.0, 1800.0, 7200.0, 14_400.0, 18_000.0, 21_600.0, 21_600.0];
const ERROR_CHARS_MAX: usize = 200;
/// On their way to one endpoint at once: a slow one leaves room for the others.
const EACH_MAX: usize = 4;

/// Empties the outbox until `stop`. What is on its way when it stops is sent again by whoever comes after its lease.
///
/// # Errors
/// The client cannot be built.
pub async fn run(pool: PgPool, settings: Settings, stop: CancellationToken) -> anyhow::Result<()> {
    let client = client(settings)?;
    let mut telling = JoinSet::new();
    let mut busy: HashMap<Uuid, usize> = HashMap::new();
    while !stop.is_cancelled() {
        let took = match take(&pool, settings, telling.len(), &busy).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(%error, "the outbox could not be read; it is tried again");
                Vec::new()
            }
        };
        let idle = took.is_empty();
        for delivery in took {
            *busy.entry(delivery.endpoint_id).or_default() += 1;
            let (client, pool) = (client.clone(), pool.clone());
            telling.spawn(async move {
                let endpoint = delivery.endpoint_id;
                deliver(&pool, &client, delivery, settings).await;
                endpoint
            });
        }
        tokio::select! {
            () = stop.cancelled() => {}
            Some(told) = telling.join_next() => {
                if let Ok(endpoint) = told
                    && let Some(count) = busy.get_mut(&endpoint)
                {
                    *count -= 1;
                }
                busy.retain(|_, count| *count > 0);
            }
            () = tokio::time::sleep(settings.tick), if idle || telling.len() >= settings.in_flight => {}
        }
    }
    Ok(())
}

async fn take(
    pool: &PgPool,
    settings: Settings,
    on_the_way: usize,
    busy: &HashMap<Uuid, usize>,
) -> sqlx::Result<Vec<Due>> {
    let room = settings.in_flight.saturating_sub(on_the_way);
    if room == 0 {
        return Ok(Vec::new());
    }
    let full: Vec<Uuid> = busy.iter().filter(|(_, count)| **count >= EACH_MAX).map(|(id, _)| *id).collect();
    let lease = settings.timeout.as_secs_f64() * 2.0;
    let limit = i64::try_from(room).unwrap_or(i64::MAX);
    deliveries::take(pool, limit, lease, &full, i64::try_from(EACH_MAX).unwrap_or(i64::MAX)).await
}

/// Sends what is due, and waits for it; returns how many were tried.
///
/// # Errors
/// Postgres is away; what was sent without being noted is sent again.
pub async fn send_due(pool: &PgPool, client: &Client, settings: Settings) -> sqlx::Result<usize> {
    let due = take(pool, settings, 0, &HashMap::new()).await?;
    let tried = due.len();
    futures::future::join_all(due.into_iter().map(|delivery| deliver(pool, client, delivery, settings))).await;
    Ok(tried)
}

async fn deliver(pool: &PgPool, client: &Client, delivery: Due, settings: Settings) {
    let told = tell(client, &delivery, settings).await;
    if let Told::Failed { error, dead: true, .. } = &told {
        tracing::warn!(delivery.id = %delivery.id, endpoint.id = %delivery.endpoint_id, error, "an event is given up; replay it when the endpoint is well");
    }
    if let Err(error) = deliveries::settle(pool, delivery.id, &told).await {
        tracing::warn!(delivery.id = %delivery.id, %error, "could not note what came of an event; it is sent again");
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
    let body = delivery.payload.to_string();
    let timestamp = chrono::Utc::now().timestamp();
    let id = delivery.id.to_string();
    let Some(signature) = signature::sign(&delivery.secret, &id, timestamp, body.as_bytes()) else {
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
            let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
            let status = response.status().as_u16();
            failed(delivery, Some(status.into()), format!("HTTP {status}"), after)
        }
        Err(error) => failed(delivery, None, error.without_url().to_string(), None),
    }
}

fn failed(delivery: &Due, status: Option<i32>, error: String, after: Option<f64>) -> Told {
    let nth = usize::try_from(delivery.attempts - 1).unwrap_or_default();
    let (high, low) = delivery.id.as_u64_pair();
    // Spread, so that a recovering endpoint is not met by all at once.
    let dice = f64::from(
        u32::try_from(splitmix(high ^ low ^ u64::try_from(nth).unwrap_or_default()) >> 32).unwrap_or_default(),
    ) / f64::from(u32::MAX);
    let delay = DELAYS_SECS.get(nth).map(|secs| (secs * (0.8 + 0.4 * dice)).max(after.unwrap_or_default().min(3600.0)));
    Told::Failed {
        status,
        error: error.chars().take(ERROR_CHARS_MAX).collect(),
        again_secs: delay.unwrap_or_default(),
        dead: delay.is_none(),
    }
}
