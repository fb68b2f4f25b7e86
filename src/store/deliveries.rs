//! Endpoints of users, and events on their way to them. Events are written by triggers (migration 0008).

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::ids::UserId;
use crate::store::Slice;

/// Events an endpoint may want.
pub const EVENTS: &[&str] =
    &["call.completed", "call.failed", "call.expired", "call.canceled", "call.rescheduled", "appointment.created"];

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

/// Changes an endpoint; none keeps a field.
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
    sqlx::query_file!("sql/store/endpoint_update.sql", user.0, id, url, events, disabled).execute(pool).await?;
    Ok(())
}

/// Deletes an endpoint and what is on its way to it; false: there is none.
///
/// # Errors
/// Postgres is away.
pub async fn delete(pool: &PgPool, user: UserId, id: Uuid) -> sqlx::Result<bool> {
    let known = get(pool, user, id).await?.is_some();
    sqlx::query_file!("sql/store/endpoint_delete.sql", user.0, id).execute(pool).await?;
    Ok(known)
}

/// A delivery as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The webhook-id.
    pub id: Uuid,
    pub call_id: Uuid,
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

/// Sends an ended delivery again, with a day of tries; false: there is none, or it waits already.
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
    pub url: String,
    pub secret: String,
    pub payload: Value,
    /// This one included.
    pub attempts: i32,
}

/// Takes what is due, the first of each call and endpoint, up to `each` of one endpoint and none of the `busy` ones.
///
/// # Errors
/// Postgres is away.
pub async fn take(pool: &PgPool, limit: i64, lease_secs: f64, busy: &[Uuid], each: i64) -> sqlx::Result<Vec<Due>> {
    sqlx::query_file_as!(Due, "sql/store/delivery_take.sql", limit, lease_secs, busy, each).fetch_all(pool).await
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
        again_secs: f64,
        /// Tried for long enough.
        dead: bool,
    },
}

/// Notes what came of a try.
///
/// # Errors
/// Postgres is away; it is tried again.
pub async fn settle(pool: &PgPool, id: Uuid, result: &Result) -> sqlx::Result<()> {
    let (state, status, error, again_secs) = match result {
        Result::Delivered { status } => ("delivered", Some(*status), None, 0.0),
        Result::Gone => ("dead", Some(410), Some("the endpoint says it is gone (410); it is disabled"), 0.0),
        Result::Failed { status, error, dead: true, .. } => ("dead", *status, Some(error.as_str()), 0.0),
        Result::Failed { status, error, again_secs, dead: false } => {
            ("waiting", *status, Some(error.as_str()), *again_secs)
        }
    };
    let gone = *result == Result::Gone;
    sqlx::query_file!("sql/store/delivery_settle.sql", id, state, status, error, again_secs, gone)
        .execute(pool)
        .await?;
    Ok(())
}

/// Drops deliveries that ended so many days ago.
///
/// # Errors
/// Postgres is away.
pub async fn prune(pool: &PgPool, days: i32) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/delivery_prune.sql", days).execute(pool).await?;
    Ok(())
}
