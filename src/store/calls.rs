//! Calls as people read them.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::domain::call::{AttemptState, CallState, CallStatus};
use crate::domain::ids::{CallId, CampaignId, UserId};
use crate::domain::raw_json::RawJson;

/// A call's row.
#[derive(Clone, Debug)]
pub struct Row {
    pub id: Uuid,
    pub user_id: Uuid,
    pub lane_id: Uuid,
    pub campaign_id: Option<Uuid>,
    pub external_id: Option<String>,
    pub phone: String,
    pub script_id: String,
    pub metadata: RawJson,
    pub variables: RawJson,
    pub state: CallState,
    pub dials: i16,
    pub dials_max: i16,
    pub priority: i16,
    pub due_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub time_zone: Option<String>,
    pub disposition: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
    /// When it may be dialed, as far as its lane tells.
    pub next_at: Option<DateTime<Utc>>,
}

/// An attempt's row.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    pub id: Uuid,
    pub number: i32,
    pub state: AttemptState,
    pub dialed: bool,
    pub provider: String,
    pub provider_call_id: Option<String>,
    pub claimed_at: DateTime<Utc>,
    pub accepted_at: Option<DateTime<Utc>>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub disposition: Option<String>,
    pub hangup_cause: Option<String>,
    pub duration_secs: Option<i32>,
    pub told: Option<RawJson>,
}

/// Why a call waits; the reasons are listed in the view ops.waiting.
#[derive(Clone, Debug)]
pub struct WaitingRow {
    pub reason: String,
    pub clears_at: Option<DateTime<Utc>>,
    pub detail: Option<String>,
}

/// Which calls to list; none: any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub user: Option<UserId>,
    pub status: Option<CallStatus>,
    pub phone: Option<String>,
    pub campaign: Option<CampaignId>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

/// One call of this user (none: of anybody).
///
/// # Errors
/// Postgres is away.
pub async fn get(pool: &PgPool, call: CallId, user: Option<UserId>) -> sqlx::Result<Option<Row>> {
    sqlx::query_file_as!(Row, "sql/store/call_get.sql", call.0, user.map(|u| u.0)).fetch_optional(pool).await
}

/// What an external id means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByExternalId {
    One(CallId),
    None,
    /// Rows of several users have it.
    Several,
}

/// The call with this external id.
///
/// # Errors
/// Postgres is away.
pub async fn find_external(pool: &PgPool, external_id: &str, user: Option<UserId>) -> sqlx::Result<ByExternalId> {
    let ids = sqlx::query_file_scalar!("sql/store/call_find_external.sql", external_id, user.map(|u| u.0))
        .fetch_all(pool)
        .await?;
    Ok(match ids.as_slice() {
        [] => ByExternalId::None,
        [id] => ByExternalId::One(CallId(*id)),
        _ => ByExternalId::Several,
    })
}

/// The attempts of a call, oldest first.
///
/// # Errors
/// Postgres is away.
pub async fn attempts(pool: &PgPool, call: CallId) -> sqlx::Result<Vec<AttemptRow>> {
    sqlx::query_file_as!(AttemptRow, "sql/store/call_attempts.sql", call.0).fetch_all(pool).await
}

/// Why a call waits; none when it does not.
///
/// # Errors
/// Postgres is away.
pub async fn waiting(pool: &PgPool, call: CallId) -> sqlx::Result<Option<WaitingRow>> {
    sqlx::query_file_as!(WaitingRow, "sql/store/call_waiting.sql", call.0).fetch_optional(pool).await
}

/// Calls, newest first.
///
/// # Errors
/// Postgres is away.
pub async fn list(
    pool: &PgPool,
    filter: &Filter,
    below: Option<CallId>,
    limit: i64,
    offset: i64,
) -> sqlx::Result<Vec<Row>> {
    sqlx::query_file_as!(
        Row,
        "sql/store/call_list.sql",
        filter.user.map(|u| u.0),
        filter.status.map(CallStatus::as_str),
        filter.phone,
        filter.campaign.map(|c| c.0),
        filter.since,
        filter.until,
        below.map(|id| id.0),
        limit,
        offset,
    )
    .fetch_all(pool)
    .await
}

/// Totals beyond this are given as this.
const COUNT_MAX: i64 = 100_000;

/// How many calls the filter has: from the tallies where they can tell, else counted up to 100,000.
///
/// # Errors
/// Postgres is away.
pub async fn count(pool: &PgPool, filter: &Filter) -> sqlx::Result<i64> {
    if filter.phone.is_none() && filter.since.is_none() && filter.until.is_none() {
        let tallies = tallies(pool, filter.user, filter.campaign).await?;
        let counted = tallies.iter().filter(|(status, _)| filter.status.is_none_or(|wanted| wanted.as_str() == status));
        return Ok(counted.map(|(_, n)| n).sum());
    }
    sqlx::query_file_scalar!(
        "sql/store/call_count.sql",
        filter.user.map(|u| u.0),
        filter.status.map(CallStatus::as_str),
        filter.phone,
        filter.campaign.map(|c| c.0),
        filter.since,
        filter.until,
        COUNT_MAX,
    )
    .fetch_one(pool)
    .await
}

/// Calls by status, exact at any moment.
///
/// # Errors
/// Postgres is away.
pub async fn tallies(
    pool: &PgPool,
    user: Option<UserId>,
    campaign: Option<CampaignId>,
) -> sqlx::Result<Vec<(String, i64)>> {
    let rows = sqlx::query_file!("sql/store/call_tallies.sql", user.map(|u| u.0), campaign.map(|c| c.0))
        .fetch_all(pool)
        .await?;
    let known = |status: &str| CallStatus::ALL.iter().any(|s| s.as_str() == status);
    Ok(rows.into_iter().filter(|row| known(&row.status)).map(|row| (row.status, row.n)).collect())
}
