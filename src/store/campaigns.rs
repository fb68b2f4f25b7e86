//! Campaigns as people read them. What is done to them is in `queue`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::ids::{CampaignId, UserId};
use crate::store::{Named, Slice};

/// A campaign as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Campaign)]
pub struct Row {
    pub id: Uuid,
    pub user_id: Uuid,
    pub external_id: Option<String>,
    pub name: String,
    pub schedule_id: Option<Uuid>,
    pub script_id: String,
    pub max_concurrent_calls: i32,
    /// Dials after the first.
    pub max_retries: i32,
    pub retry_delay_seconds: i32,
    /// Whose clock the schedule's hours are on: schedule or callee.
    pub hours_in: String,
    /// For callees whose zone is unknown: user or hold; null: as the provider wants it.
    pub zone_policy: Option<String>,
    pub paused: bool,
    /// paused, pending, in-progress, completed, failed or canceled.
    #[schema(example = "in-progress")]
    pub status: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub canceled_at: Option<DateTime<Utc>>,
}

/// Those this name means: none, one, or (of several users) two.
///
/// # Errors
/// Postgres is away.
pub async fn find(pool: &PgPool, named: &Named, user: Option<UserId>) -> sqlx::Result<Vec<Row>> {
    let user = user.map(|user| user.0);
    sqlx::query_file_as!(Row, "sql/store/campaign_find.sql", named.id, named.external_id, user).fetch_all(pool).await
}

/// Campaigns, newest first, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, slice: &Slice) -> sqlx::Result<(Vec<Row>, i64)> {
    let user = slice.user.map(|user| user.0);
    let rows = sqlx::query_file_as!(Row, "sql/store/campaign_list.sql", user, slice.below, slice.limit, slice.offset);
    let total = sqlx::query_file_scalar!("sql/store/campaign_count.sql", user).fetch_one(pool).await?;
    Ok((rows.fetch_all(pool).await?, total))
}

/// Counts of a campaign's calls.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CampaignCounts)]
pub struct Counts {
    pub total: i64,
    pub pending: i64,
    pub in_progress: i64,
    pub completed: i64,
    pub failed: i64,
    pub expired: i64,
    pub canceled: i64,
    /// Dials after a call's first.
    pub retries_attempted: i64,
}

/// Counts, exact at any moment.
///
/// # Errors
/// Postgres is away.
pub async fn stats(pool: &PgPool, id: CampaignId) -> sqlx::Result<Counts> {
    sqlx::query_file_as!(Counts, "sql/store/campaign_stats.sql", id.0).fetch_one(pool).await
}

/// Why some calls wait.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitingReason {
    #[schema(example = "WINDOW_CLOSED")]
    pub reason: String,
    pub count: i64,
    /// When the first of them clears by itself; null when a person or another call must clear it.
    pub clears_at: Option<DateTime<Utc>>,
}

/// Why the calls of a campaign wait; the counts add up to what is pending.
///
/// # Errors
/// Postgres is away.
pub async fn explain(pool: &PgPool, id: CampaignId) -> sqlx::Result<Vec<WaitingReason>> {
    sqlx::query_file_as!(WaitingReason, "sql/store/campaign_explain.sql", id.0).fetch_all(pool).await
}
