//! Users, by either of their ids.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::ids::UserId;
use crate::domain::script::Allowances;
use crate::store::Slice;

/// A user as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = User)]
pub struct Row {
    pub id: Uuid,
    pub name: String,
    pub email: Option<String>,
    /// Your own id for it.
    pub external_id: Option<String>,
    /// Live calls it may have at once; null: only the global limit counts.
    pub max_concurrent_calls: Option<i32>,
    pub time_zone: Option<String>,
    /// Countries it may have called (ISO 3166, `*` for any); null: those of the installation.
    pub allowed_countries: Option<Vec<String>>,
    /// Kinds of numbers it may have called beside ordinary ones.
    pub allowed_destinations: Vec<String>,
    /// Agents kept at the provider that its scripts may name, `*` for any.
    pub allowed_agents: Vec<String>,
    /// Tools kept at the provider that its scripts may name, by name or id, `*` for any.
    pub allowed_tools: Vec<String>,
    /// The most `maxConcurrentCalls` it may give itself; null: only the global limit counts.
    pub max_concurrent_calls_allowed: Option<i32>,
    /// Minutes its calls may last in a day (UTC); null: any.
    pub daily_minutes_max: Option<i32>,
    /// What its calls may cost in a day (UTC), by the rates; null: anything.
    pub daily_cost_max: Option<f64>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// The user with this id or external id.
///
/// # Errors
/// Postgres is away.
pub async fn find(pool: &PgPool, id_or_external: &str) -> sqlx::Result<Option<UserId>> {
    let id = sqlx::query_file_scalar!("sql/store/user_find.sql", id_or_external).fetch_optional(pool).await?;
    Ok(id.map(UserId))
}

/// Creates a user; a repeat with the same id changes nothing.
///
/// # Errors
/// Postgres is away, or another user has this external id or address.
pub async fn create(
    pool: &PgPool,
    id: UserId,
    name: &str,
    email: Option<&str>,
    external_id: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/user_create.sql", id.0, name, email, external_id).execute(pool).await?;
    Ok(())
}

/// One user.
///
/// # Errors
/// Postgres is away.
pub async fn get(pool: &PgPool, id: UserId) -> sqlx::Result<Option<Row>> {
    sqlx::query_file_as!(Row, "sql/store/user_get.sql", id.0).fetch_optional(pool).await
}

/// Users, newest first, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, slice: &Slice) -> sqlx::Result<(Vec<Row>, i64)> {
    let user = slice.user.map(|user| user.0);
    let rows = sqlx::query_file_as!(Row, "sql/store/user_list.sql", user, slice.below, slice.limit, slice.offset);
    let total = sqlx::query_file_scalar!("sql/store/user_count.sql", user).fetch_one(pool).await?;
    Ok((rows.fetch_all(pool).await?, total))
}

/// What becomes of a user; none keeps a field, `Some(None)` empties it.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub name: Option<String>,
    pub email: Option<Option<String>>,
    pub allowed_countries: Option<Option<Vec<String>>>,
    pub allowed_destinations: Option<Vec<String>>,
    pub allowed_agents: Option<Vec<String>>,
    pub allowed_tools: Option<Vec<String>>,
    pub max_concurrent_calls_allowed: Option<Option<i32>>,
    pub daily_minutes_max: Option<Option<i32>>,
    pub daily_cost_max: Option<Option<f64>>,
}

/// Changes a user. False: there is none. Where it may call is in force with this: its lanes are closed until they are looked at.
///
/// # Errors
/// Postgres is away, or another user has this address.
pub async fn update(pool: &PgPool, id: UserId, to: &Changes) -> sqlx::Result<bool> {
    let done = sqlx::query_file!(
        "sql/store/user_update.sql",
        id.0,
        to.name,
        to.email.is_some(),
        to.email.as_ref().and_then(Option::as_deref),
        to.allowed_countries.is_some(),
        to.allowed_countries.as_ref().and_then(Option::as_deref) as _,
        to.allowed_destinations.as_deref() as _,
        to.allowed_agents.as_deref() as _,
        to.allowed_tools.as_deref() as _,
        to.max_concurrent_calls_allowed.is_some(),
        to.max_concurrent_calls_allowed.flatten(),
        to.daily_minutes_max.is_some(),
        to.daily_minutes_max.flatten(),
        to.daily_cost_max.is_some(),
        to.daily_cost_max.flatten()
    );
    Ok(done.execute(pool).await?.rows_affected() > 0)
}

/// What a user may name and have.
#[derive(Clone, Debug)]
pub struct Allowed {
    pub scripts: Allowances,
    /// The most live calls it may give itself.
    pub live_max: Option<i32>,
}

/// What a user may name and have; nothing for a user there is none of.
///
/// # Errors
/// Postgres is away.
pub async fn allowed(pool: &PgPool, id: UserId) -> sqlx::Result<Allowed> {
    let row = sqlx::query_file!("sql/store/user_allowances.sql", id.0).fetch_optional(pool).await?;
    let none = Allowed { scripts: Allowances::default(), live_max: None };
    Ok(row.map_or(none, |row| Allowed {
        scripts: Allowances { agents: row.agents, tools: row.tools },
        live_max: row.live_max,
    }))
}

/// Deletes a user that owns nothing; false: it owns calls, or is the operator.
///
/// # Errors
/// Postgres is away, or it owns something that refers to it.
pub async fn delete(pool: &PgPool, id: UserId) -> sqlx::Result<bool> {
    Ok(sqlx::query_file_scalar!("sql/store/user_delete.sql", id.0).fetch_optional(pool).await?.is_some())
}
