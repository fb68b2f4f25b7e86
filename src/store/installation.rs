//! The one row every process of this installation shares.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use crate::config::Quota;

/// What the installation tells a process that starts.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The key of the tokens in webhook URLs; the first process makes it.
    pub token_key: Vec<u8>,
    /// Why dialing is held, if it is: RESTORED_DATABASE or LOST_COMMITS.
    pub held_for: Option<String>,
    /// It is no new database.
    pub has_calls: bool,
}

/// Notes the limit, provider and rate in force, for views; and looks whether this is the database that dialed last.
///
/// # Errors
/// Postgres is away.
pub async fn settle_in(
    pool: &PgPool,
    candidate: &[u8],
    max_concurrent: i32,
    provider: &str,
    dials_per_second: f64,
    quota: &Quota,
) -> sqlx::Result<Settled> {
    let row = sqlx::query_file_as!(
        Settled,
        "sql/store/installation_settle_in.sql",
        candidate,
        max_concurrent,
        provider,
        dials_per_second,
        quota.reserve_minutes,
        quota.waiting_calls_max,
        quota.upload_bytes_max,
        quota.kept_answer_bytes_max
    );
    row.fetch_one(pool).await
}

/// Holds dialing: calls were dialed that this database does not know of.
///
/// # Errors
/// Postgres is away.
pub async fn hold(pool: &PgPool) -> sqlx::Result<bool> {
    Ok(sqlx::query_file!("sql/store/installation_hold.sql").execute(pool).await?.rows_affected() > 0)
}

/// Lifts the hold, in the name of a person; false: nothing was held.
///
/// # Errors
/// Postgres is away.
pub async fn lift_hold(pool: &PgPool, actor: &str) -> sqlx::Result<bool> {
    Ok(sqlx::query_file!("sql/store/installation_lift_hold.sql", actor).execute(pool).await?.rows_affected() > 0)
}

/// Something that is wrong, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// Stable, for example NO_WORKER or PROVIDER_SILENT.
    #[schema(example = "PROVIDER_SILENT")]
    pub code: String,
    pub since: Option<DateTime<Utc>>,
    pub what: String,
    pub way_out: String,
}

/// What is wrong now; nothing when all is well.
///
/// # Errors
/// Postgres is away.
pub async fn alarms(pool: &PgPool) -> sqlx::Result<Vec<Alarm>> {
    sqlx::query_file_as!(Alarm, "sql/store/alarms.sql").fetch_all(pool).await
}

/// Running processes by role, and when any of them last did what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Processes {
    pub api: i64,
    pub worker: i64,
    pub scheduler: i64,
    /// A turn of the worker loop.
    pub turn: Option<DateTime<Utc>>,
    /// What was heard was settled.
    pub settle: Option<DateTime<Utc>>,
    /// A planning batch.
    pub planning: Option<DateTime<Utc>>,
    /// Events to customers.
    pub delivery: Option<DateTime<Utc>>,
    pub housekeeping: Option<DateTime<Utc>>,
    /// The provider said something, by webhook or when asked.
    pub provider_word: Option<DateTime<Utc>>,
}

/// Which processes run, and what they last did.
///
/// # Errors
/// Postgres is away.
pub async fn processes(pool: &PgPool) -> sqlx::Result<Processes> {
    sqlx::query_file_as!(Processes, "sql/store/processes.sql").fetch_one(pool).await
}

/// What a ping finds.
#[derive(Clone, Debug)]
pub struct Ping {
    pub writable: bool,
    /// closed, open or half-open; none before the first start.
    pub breaker: Option<String>,
    /// The most live calls the provider is asked for at the moment, where that was learned from its refusals.
    pub provider_ceiling: Option<i32>,
}

/// Whether Postgres answers and can be written to, and how the provider stands.
///
/// # Errors
/// It does not answer.
pub async fn ping(pool: &PgPool) -> sqlx::Result<Ping> {
    sqlx::query_file_as!(Ping, "sql/store/ping.sql").fetch_one(pool).await
}

/// Invariants that do not hold, and how often: nothing, ever.
///
/// # Errors
/// Postgres is away.
pub async fn broken(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    sqlx::query_file_scalar!("sql/store/broken.sql").fetch_all(pool).await
}
