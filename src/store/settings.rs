//! How a user's prospects and single calls are called.

use chrono::{DateTime, NaiveTime, Utc};
use sqlx::{PgConnection, PgPool};

use crate::domain::ids::UserId;
use crate::domain::raw_json::RawJson;

/// A user's settings.
#[derive(Clone, Debug)]
pub struct Row {
    pub time_zone: Option<String>,
    pub opens: Option<NaiveTime>,
    pub closes: Option<NaiveTime>,
    pub script_initial: Option<String>,
    pub script_follow_up: Option<String>,
    pub language: Option<String>,
    pub voice: Option<String>,
    pub first_message: Option<String>,
    pub max_attempts: i16,
    pub max_concurrent_calls: Option<i32>,
    pub zone_policy: Option<String>,
    pub retry_rules: RawJson,
    pub updated_at: DateTime<Utc>,
}

/// Writes a user's settings, whole. In the transaction of `queue::windows::change`.
///
/// # Errors
/// Postgres is away.
pub async fn put(connection: &mut PgConnection, user: UserId, to: &Row) -> sqlx::Result<()> {
    sqlx::query_file!(
        "sql/store/settings_put.sql",
        user.0,
        to.time_zone,
        to.opens,
        to.closes,
        to.script_initial,
        to.script_follow_up,
        to.language,
        to.voice,
        to.first_message,
        to.max_attempts,
        to.max_concurrent_calls,
        to.zone_policy,
        to.retry_rules.clone() as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// A user's settings; none: none were made.
///
/// # Errors
/// Postgres is away.
pub async fn get(pool: &PgPool, user: UserId) -> sqlx::Result<Option<Row>> {
    sqlx::query_file_as!(Row, "sql/store/settings_get.sql", user.0).fetch_optional(pool).await
}
