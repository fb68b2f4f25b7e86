//! How much a tenant may have waiting and stored: looked at before more comes in, shown on request.
//!
//! A figure is remembered for some seconds, and what this process lets in meanwhile is added: the bound is on what a tenant piles up,
//! not on the last call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::api::auth::Caller;
use crate::api::envelope::Data;
use crate::api::error::{Error, Problems};
use crate::api::extract::Id;
use crate::api::owner::user_in_path;
use crate::api::{Api, State};
use crate::db::fault::within;
use crate::domain::ids::UserId;
use crate::store::usage::{self, Usage};

const REMEMBERED: Duration = Duration::from_secs(5);
/// Tenants remembered at once; beyond that all are forgotten.
const KNOWN_MAX: usize = 10_000;

/// What is remembered of tenants.
#[derive(Debug, Default)]
pub struct Known(Mutex<HashMap<UserId, Tenant>>);

/// One tenant's, and when it was looked up. Whoever looks holds it meanwhile: the others wait for that look.
type Tenant = Arc<tokio::sync::Mutex<Option<(Instant, Usage)>>>;

impl Known {
    fn of(&self, user: UserId) -> Tenant {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        Arc::clone(known.entry(user).or_default())
    }
}

/// Has what a user uses looked at, and what comes in added to it.
async fn admit(api: &Api, user: UserId, add: impl FnOnce(&mut Usage) -> Result<(), Error>) -> Result<(), Error> {
    let tenant = api.known.of(user);
    let mut known = tenant.lock().await;
    let usage = match known.take() {
        Some((at, usage)) if at.elapsed() < REMEMBERED => known.insert((at, usage)),
        _ => {
            let usage = within(api.limits.patience, usage::of(&api.db.read, user)).await?;
            known.insert((Instant::now(), usage))
        }
    };
    add(&mut usage.1)
}

/// Lets so many more calls of a user wait.
///
/// # Errors
/// 429 when the user has as many waiting as it may.
pub async fn admit_calls(api: &Api, user: UserId, more: usize) -> Result<(), Error> {
    let more = i64::try_from(more).unwrap_or(i64::MAX);
    admit(api, user, |usage| {
        if usage.calls_left() < more {
            return Err(Error::quota(format!(
                "the user has {} calls waiting, and may have {} (quota.waiting_calls_max): wait until some are dialed, or cancel some",
                usage.waiting_calls, usage.waiting_calls_max
            )));
        }
        usage.waiting_calls = usage.waiting_calls.saturating_add(more);
        Ok(())
    })
    .await
}

/// Lets so many more bytes of a user's file be stored.
///
/// # Errors
/// 429 when the user has stored as much as it may.
pub async fn admit_bytes(api: &Api, user: UserId, more: usize) -> Result<(), Error> {
    let more = i64::try_from(more).unwrap_or(i64::MAX);
    admit(api, user, |usage| {
        if usage.upload_bytes_max - usage.upload_bytes < more {
            return Err(Error::quota(format!(
                "the user's files take {} bytes, and may take {} (quota.upload_bytes_max): wait until they are read",
                usage.upload_bytes, usage.upload_bytes_max
            )));
        }
        usage.upload_bytes = usage.upload_bytes.saturating_add(more);
        Ok(())
    })
    .await
}

/// Lets another answer be kept for the caller.
///
/// # Errors
/// 429 when as much is kept as may be.
pub async fn admit_answer(api: &Api, user: UserId) -> Result<(), Error> {
    admit(api, user, |usage| {
        if usage.kept_answer_bytes < usage.kept_answer_bytes_max {
            return Ok(());
        }
        Err(Error::quota(format!(
            "the answers kept for Idempotency-Keys take {} bytes, and may take {} (quota.kept_answer_bytes_max): send no key, or wait until some are a day old",
            usage.kept_answer_bytes, usage.kept_answer_bytes_max
        )))
    })
    .await
}

/// What a user has waiting and stored, and how much that may be.
#[utoipa::path(get, path = "/users/{id}/usage", tag = "users", params(("id" = String, Path, description = "Id or external id")),
    responses((status = 200, description = "What is used, and what may be", body = Data<Usage>), Problems))]
pub async fn get_usage(state: State, caller: Caller, Id(id): Id) -> Result<axum::Json<Data<Usage>>, Error> {
    let user = user_in_path(&state.0, caller, &id).await?;
    Ok(axum::Json(Data::of(usage::of(&state.0.db.read, user).await?)))
}
