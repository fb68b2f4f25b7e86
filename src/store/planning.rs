//! What the planner reads of a user, and what it did.

use chrono::{DateTime, NaiveTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use crate::domain::ids::UserId;
use crate::domain::raw_json::RawJson;

/// What decides how much is planned for a user.
#[derive(Clone, Debug)]
pub struct Facts {
    pub now: DateTime<Utc>,
    pub time_zone: Option<String>,
    pub opens: Option<NaiveTime>,
    pub closes: Option<NaiveTime>,
    pub script_initial: Option<String>,
    pub script_follow_up: Option<String>,
    pub first_message: Option<String>,
    pub max_attempts: i16,
    pub has_subscription: bool,
    /// Why nothing more may be dialed, as in the view quotas.
    pub quota_reason: Option<String>,
    /// Calls the quota still allows.
    pub calls_left: i64,
    /// Prospects' calls that wait already.
    pub waiting: i64,
}

/// Whether a batch is due; if it is, the next one is after so many seconds. Of several processes one is told yes.
///
/// # Errors
/// Postgres is away.
pub async fn take_turn(pool: &PgPool, interval_secs: f64) -> sqlx::Result<bool> {
    let taken = sqlx::query_file_scalar!("sql/store/planning_turn.sql", interval_secs).fetch_optional(pool).await?;
    Ok(taken.is_some())
}

/// Takes the users longest unplanned, in that order.
///
/// # Errors
/// Postgres is away.
pub async fn take_users(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<UserId>> {
    let users = sqlx::query_file_scalar!("sql/store/planning_take.sql", limit).fetch_all(pool).await?;
    Ok(users.into_iter().map(UserId).collect())
}

/// One user.
///
/// # Errors
/// Postgres is away.
pub async fn facts(pool: &PgPool, user: UserId) -> sqlx::Result<Facts> {
    sqlx::query_file_as!(Facts, "sql/store/planning_facts.sql", user.0).fetch_one(pool).await
}

/// A prospect that may be planned.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: Uuid,
    pub phone: String,
    pub time_zone: Option<String>,
    pub variables: RawJson,
    /// Spoken to before: the follow-up script is theirs.
    pub known: bool,
}

/// Prospects in the order they are to be called: wished for first, then the longest since last contact, fewer reschedules, oldest.
///
/// # Errors
/// Postgres is away.
pub async fn candidates(pool: &PgPool, user: UserId, limit: i64) -> sqlx::Result<Vec<Candidate>> {
    sqlx::query_file_as!(Candidate, "sql/store/planning_candidates.sql", user.0, limit).fetch_all(pool).await
}

/// A promised call.
#[derive(Clone, Debug)]
pub struct Promise {
    pub prospect_id: Uuid,
    pub call_id: Uuid,
    pub due_at: DateTime<Utc>,
}

/// Promised calls of a user within so many seconds.
///
/// # Errors
/// Postgres is away.
pub async fn promises(pool: &PgPool, user: UserId, within_secs: f64) -> sqlx::Result<Vec<Promise>> {
    sqlx::query_file_as!(Promise, "sql/store/planning_promises.sql", user.0, within_secs).fetch_all(pool).await
}

/// Has prospects that could not be planned come after the others.
///
/// # Errors
/// Postgres is away.
pub async fn refuse(pool: &PgPool, prospects: &[Uuid]) -> sqlx::Result<()> {
    if !prospects.is_empty() {
        sqlx::query_file!("sql/store/planning_refuse.sql", prospects).execute(pool).await?;
    }
    Ok(())
}

/// Keeps what a batch did for a user.
///
/// # Errors
/// Postgres is away.
pub async fn keep_report(pool: &PgPool, user: UserId, report: &RawJson) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/planning_report.sql", user.0, report.clone() as _).execute(pool).await?;
    Ok(())
}

/// What the last batch did for a user; none: there was none yet.
///
/// # Errors
/// Postgres is away.
pub async fn last(pool: &PgPool, user: UserId) -> sqlx::Result<Option<RawJson>> {
    Ok(sqlx::query_file_scalar!("sql/store/planning_last.sql", user.0).fetch_optional(pool).await?.flatten())
}
