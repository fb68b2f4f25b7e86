//! Attempts that a provider has and this database does not know, since it is a copy or has lost commits: written down, so that nobody
//! is called again by it. Used by `outdial reconcile` alone.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::domain::ids::{AttemptId, CallId, InstanceId};
use crate::queue::admit;

/// What became of attempts that were not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Their calls waited and are live now.
    pub live: usize,
    /// Their calls are not known, have ended, or their number is on another call: a person must look.
    pub left: usize,
}

/// When this database dialed last, or its first call was made if it never has; none: it has no call.
///
/// # Errors
/// Postgres is away.
pub async fn newest_dial(pool: &PgPool) -> sqlx::Result<Option<DateTime<Utc>>> {
    sqlx::query_file_scalar!("sql/queue/newest_dial.sql").fetch_one(pool).await
}

/// Writes down those of these attempts (with their calls and the provider's ids) that are not known.
///
/// # Errors
/// Postgres is away; a repeat goes on.
pub async fn adopt(
    pool: &PgPool,
    provider: &str,
    instance: InstanceId,
    attempts: &[(AttemptId, CallId, String)],
) -> sqlx::Result<Adopted> {
    let ids: Vec<AttemptId> = attempts.iter().map(|(attempt, ..)| *attempt).collect();
    let unknown = sqlx::query_file_scalar!("sql/queue/unknown_attempts.sql", &ids as _).fetch_all(pool).await?;
    let mut adopted = Adopted::default();
    for (attempt, call, provider_call) in attempts.iter().filter(|(attempt, ..)| unknown.contains(&attempt.0)) {
        let mut connection = pool.acquire().await?;
        let mut transaction = admit(&mut connection).await?;
        let row =
            sqlx::query_file_scalar!("sql/queue/adopt.sql", attempt.0, call.0, provider_call, provider, instance.0);
        let live = row.fetch_optional(&mut *transaction).await?.is_some();
        transaction.commit().await?;
        if live {
            adopted.live += 1;
        } else {
            adopted.left += 1;
        }
    }
    Ok(adopted)
}
