//! Endpoints of users, and events on their way to them. Events are written by triggers (migrations 0008 and 0012).

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::db::bit_by_bit;
use crate::domain::ids::UserId;
use crate::store::{ROWS_AT_ONCE, Slice};

/// Events an endpoint may want.
pub const EVENTS: &[&str] = &[
    "call.completed",
    "call.failed",
    "call.expired",
    "call.canceled",
    "call.rescheduled",
    "appointment.created",
    "endpoint.disabled",
];

/// Endpoints one take looks at.
const LOOKED_MAX: i64 = 1000;

/// An endpoint as it is shown: without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    pub id: Uuid,
    pub user_id: Uuid,
    #[schema(example = "https://example.com/hooks")]
    pub url: String,
    pub events: Vec<String>,
    /// Nothing is sent since then.
    pub disabled_at: Option<DateTime<Utc>>,
    /// REQUESTED, GONE (it answered 410) or FAILING (for days it took nothing).
    pub disabled_reason: Option<String>,
    /// The first failure since the last success; null: it is well.
    pub failing_since: Option<DateTime<Utc>>,
    /// Of the newest failure since the last success.
    pub last_error: Option<String>,
    /// Nothing is sent before; null: there is nothing to wait for.
    pub retry_at: Option<DateTime<Utc>>,
    /// The secret before the present one signs beside it until then.
    pub previous_secret_until: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Keeps a new endpoint; a repeat with the same id changes nothing.
///
/// # Errors
/// Postgres is away.
pub async fn create(
    pool: &PgPool,
    id: Uuid,
    user: UserId,
    url: &str,
    secret: &str,
    events: &[String],
) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/endpoint_create.sql", id, user.0, url, secret, events).execute(pool).await?;
    Ok(())
}

/// A user's endpoints, newest first.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, user: UserId) -> sqlx::Result<Vec<Endpoint>> {
    sqlx::query_file_as!(Endpoint, "sql/store/endpoint_list.sql", user.0).fetch_all(pool).await
}

/// One endpoint of a user.
///
/// # Errors
/// Postgres is away.
pub async fn get(pool: &PgPool, user: UserId, id: Uuid) -> sqlx::Result<Option<Endpoint>> {
    sqlx::query_file_as!(Endpoint, "sql/store/endpoint_get.sql", user.0, id).fetch_optional(pool).await
}

/// Changes an endpoint; none keeps a field. What is on its way to one that is disabled is given up.
///
/// # Errors
/// Postgres is away.
pub async fn update(
    pool: &PgPool,
    user: UserId,
    id: Uuid,
    url: Option<&str>,
    events: Option<&[String]>,
    disabled: Option<bool>,
) -> sqlx::Result<()> {
    let changed = sqlx::query_file!("sql/store/endpoint_update.sql", user.0, id, url, events, disabled);
    if changed.execute(pool).await?.rows_affected() > 0 && disabled == Some(true) {
        give_up(pool, id, Some("REQUESTED")).await?;
    }
    Ok(())
}

/// Gives an endpoint another secret; the present one signs beside it for so many seconds.
///
/// # Errors
/// Postgres is away.
pub async fn rotate(pool: &PgPool, user: UserId, id: Uuid, secret: &str, overlap_secs: f64) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/endpoint_rotate.sql", user.0, id, secret, overlap_secs).execute(pool).await?;
    Ok(())
}

/// Deletes an endpoint and what is on its way to it; false: there is none.
///
/// # Errors
/// Postgres is away.
pub async fn delete(pool: &PgPool, user: UserId, id: Uuid) -> sqlx::Result<bool> {
    let known = sqlx::query_file!("sql/store/endpoint_delete.sql", user.0, id).execute(pool).await?.rows_affected() > 0;
    if known {
        give_up(pool, id, None).await?;
    }
    Ok(known)
}

/// Gives up what waits for an endpoint that is disabled for this reason, or deleted.
async fn give_up(pool: &PgPool, endpoint: Uuid, reason: Option<&str>) -> sqlx::Result<()> {
    let error = reason
        .map_or_else(|| "the endpoint was deleted".to_owned(), |reason| format!("the endpoint is disabled ({reason})"));
    let error = &error;
    bit_by_bit(ROWS_AT_ONCE, |limit| async move {
        let given_up = sqlx::query_file!("sql/store/delivery_give_up.sql", endpoint, error, limit);
        Ok(given_up.execute(pool).await?.rows_affected())
    })
    .await
}

/// Gives up what still waits for endpoints that are disabled or deleted.
///
/// # Errors
/// Postgres is away.
pub async fn sweep(pool: &PgPool) -> sqlx::Result<()> {
    for lost in sqlx::query_file!("sql/store/delivery_sweep.sql").fetch_all(pool).await? {
        give_up(pool, lost.id, lost.reason.as_deref()).await?;
    }
    Ok(())
}

/// A delivery as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The webhook-id.
    pub id: Uuid,
    /// Null: it is about no call.
    pub call_id: Option<Uuid>,
    pub r#type: String,
    /// waiting, delivered or dead.
    pub state: String,
    pub attempts: i32,
    pub last_status: Option<i32>,
    pub last_error: Option<String>,
    /// When it is tried next; null: it is not.
    pub next_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// Deliveries to an endpoint, newest first, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn of_endpoint(pool: &PgPool, endpoint: Uuid, slice: &Slice) -> sqlx::Result<(Vec<Delivery>, i64)> {
    let rows =
        sqlx::query_file_as!(Delivery, "sql/store/delivery_list.sql", endpoint, slice.below, slice.limit, slice.offset);
    let total = sqlx::query_file_scalar!("sql/store/delivery_count.sql", endpoint).fetch_one(pool).await?;
    Ok((rows.fetch_all(pool).await?, total))
}

/// Sends an ended delivery again, with a day of tries; false: there is none, it waits already, or its endpoint is disabled.
///
/// # Errors
/// Postgres is away.
pub async fn replay(pool: &PgPool, endpoint: Uuid, id: Uuid) -> sqlx::Result<bool> {
    Ok(sqlx::query_file!("sql/store/delivery_replay.sql", endpoint, id).execute(pool).await?.rows_affected() > 0)
}

/// A delivery to be tried now, by this process alone for a while.
#[derive(Clone, Debug)]
pub struct Due {
    pub id: Uuid,
    pub endpoint_id: Uuid,
    pub user_id: Uuid,
    pub url: String,
    pub secret: SecretString,
    /// Signs beside it.
    pub previous_secret: Option<SecretString>,
    /// As Postgres writes it; nothing here reads it.
    pub payload: String,
    /// This one included.
    pub attempts: i32,
    /// Failures of its endpoint in a row before this try; above 0 it is a probe.
    pub failures: i32,
}

/// What one take may hand out.
#[derive(Clone, Debug)]
pub struct Share {
    pub limit: i64,
    /// On their way to one endpoint, and of one user, at most.
    pub each: i64,
    pub of_user: i64,
    /// Of the limit, to endpoints that fail.
    pub probes: i64,
    pub lease_secs: f64,
    /// On their way already, by endpoint and by user.
    pub endpoints: HashMap<Uuid, i64>,
    pub users: HashMap<Uuid, i64>,
}

/// What was taken, and after which endpoint to look further; none: all were looked at.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    pub due: Vec<Due>,
    pub upto: Option<Uuid>,
}

/// Takes what is due to endpoints above `after`: the first of each call and endpoint, as the shares allow.
///
/// # Errors
/// Postgres is away.
pub async fn take(pool: &PgPool, after: Uuid, share: &Share) -> sqlx::Result<Taken> {
    let (endpoints, to_each): (Vec<Uuid>, Vec<i64>) = share.endpoints.iter().unzip();
    let (users, of_each): (Vec<Uuid>, Vec<i64>) = share.users.iter().unzip();
    let rows = sqlx::query_file!(
        "sql/store/delivery_take.sql",
        after,
        LOOKED_MAX,
        share.limit,
        share.lease_secs,
        share.each,
        share.of_user,
        share.probes,
        &endpoints,
        &to_each,
        &users,
        &of_each
    );
    let mut taken = Taken::default();
    for row in rows.fetch_all(pool).await? {
        taken.upto = row.upto;
        let (Some(id), Some(endpoint_id), Some(user_id)) = (row.id, row.endpoint_id, row.user_id) else { continue };
        let (Some(url), Some(secret), Some(payload)) = (row.url, row.secret, row.payload) else { continue };
        let (attempts, failures) = (row.attempts.unwrap_or_default(), row.failures.unwrap_or_default());
        taken.due.push(Due {
            id,
            endpoint_id,
            user_id,
            url,
            secret: SecretString::from(secret),
            previous_secret: row.previous_secret.map(SecretString::from),
            payload,
            attempts,
            failures,
        });
    }
    Ok(taken)
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq)]
pub enum Result {
    Delivered {
        status: i32,
    },
    /// The endpoint says it is gone: it is disabled.
    Gone,
    Failed {
        status: Option<i32>,
        error: String,
        /// Until this delivery is tried again; none: it was tried for long enough.
        again_secs: Option<f64>,
        /// Until anything is sent to its endpoint again, and how long the endpoint asked for.
        sleep_secs: f64,
        after_secs: f64,
    },
}

impl Result {
    /// Its name in the metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { .. } => "delivered",
            Self::Gone => "gone",
            Self::Failed { again_secs: Some(_), .. } => "failed",
            Self::Failed { again_secs: None, .. } => "dead",
        }
    }
}

/// In place of the failures of an endpoint: it is left as it is.
pub const NOT_TO_BLAME: i32 = -1;

/// Notes what came of a try, of the delivery and, if it has still failed as often as `blame`, of its endpoint; the reason, when it
/// disabled the endpoint.
///
/// # Errors
/// Postgres is away; it is tried again.
pub async fn settle(
    pool: &PgPool,
    due: &Due,
    blame: i32,
    result: &Result,
    disable_days: f64,
) -> sqlx::Result<Option<String>> {
    let gone = "the endpoint says it is gone (410); it is disabled";
    let (state, status, error, again_secs, sleep_secs, after_secs) = match result {
        Result::Delivered { status } => ("delivered", Some(*status), None, 0.0, 0.0, 0.0),
        Result::Gone => ("dead", Some(410), Some(gone), 0.0, 0.0, 0.0),
        Result::Failed { status, error, again_secs, sleep_secs, after_secs } => {
            let state = if again_secs.is_some() { "waiting" } else { "dead" };
            (state, *status, Some(error.as_str()), again_secs.unwrap_or_default(), *sleep_secs, *after_secs)
        }
    };
    let disabled = sqlx::query_file!(
        "sql/store/delivery_settle.sql",
        due.id,
        due.attempts,
        state,
        status,
        error,
        again_secs,
        blame,
        sleep_secs,
        after_secs,
        *result == Result::Gone,
        disable_days
    );
    let Some(disabled) = disabled.fetch_optional(pool).await? else { return Ok(None) };
    give_up(pool, disabled.id, Some(&disabled.reason)).await?;
    Ok(Some(disabled.reason))
}

/// Drops deliveries that ended so many days ago.
///
/// # Errors
/// Postgres is away.
pub async fn prune(pool: &PgPool, days: i32) -> sqlx::Result<()> {
    bit_by_bit(ROWS_AT_ONCE, |limit| async move {
        Ok(sqlx::query_file!("sql/store/delivery_prune.sql", days, limit).execute(pool).await?.rows_affected())
    })
    .await
}
