//! Requests that create, by `Idempotency-Key`: the first answer is kept and given again.
//!
//! The row also holds the seed of the ids the request creates. A request that died half-way is run again with the same ids, and
//! what it had created is found instead of created twice.

use sqlx::PgPool;
use uuid::Uuid;

use crate::db::bit_by_bit;
use crate::domain::ids::{UserId, new_id};
use crate::store::ROWS_AT_ONCE;

/// What a key means for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Ours to run, with ids grown from this seed.
    Run { seed: Uuid },
    /// The same request was answered: give this again.
    Replay { status: u16, body: Vec<u8> },
    /// The first one is still running.
    Running,
    /// The key was used for another request.
    Mismatch,
}

/// A request that has run for longer is taken for dead. Should it live after all, both create the same ids, so the second finds
/// what the first made: being told "still running" is a courtesy, not what keeps calls from doubling.
const RUNNING_SECS_MAX: f64 = 5.0;

/// Begins a request under a key.
///
/// # Errors
/// Postgres is away.
pub async fn begin(pool: &PgPool, user: UserId, key: &str, fingerprint: &[u8]) -> sqlx::Result<Begun> {
    let seed = new_id();
    let row = sqlx::query_file!("sql/store/idempotency_begin.sql", user.0, key, seed, fingerprint, RUNNING_SECS_MAX)
        .fetch_one(pool)
        .await?;
    if row.fingerprint != fingerprint {
        return Ok(Begun::Mismatch);
    }
    Ok(match (row.status, row.body) {
        (Some(status), Some(body)) => Begun::Replay { status: u16::try_from(status).unwrap_or(500), body },
        _ if row.ours => Begun::Run { seed: row.seed },
        _ => Begun::Running,
    })
}

/// Keeps the answer.
///
/// # Errors
/// Postgres is away; a repeat then runs again, with the same ids.
pub async fn finish(pool: &PgPool, user: UserId, key: &str, status: u16, body: &[u8]) -> sqlx::Result<()> {
    let status = i16::try_from(status).unwrap_or(500);
    sqlx::query_file!("sql/store/idempotency_finish.sql", user.0, key, status, body).execute(pool).await?;
    Ok(())
}

/// The request failed without a final answer: a repeat may run at once, with the same ids.
///
/// # Errors
/// Postgres is away.
pub async fn release(pool: &PgPool, user: UserId, key: &str) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/idempotency_release.sql", user.0, key).execute(pool).await?;
    Ok(())
}

/// Forgets answers older than `hours`.
///
/// # Errors
/// Postgres is away.
pub async fn prune(pool: &PgPool, hours: i32) -> sqlx::Result<()> {
    bit_by_bit(ROWS_AT_ONCE, |limit| async move {
        Ok(sqlx::query_file!("sql/store/idempotency_prune.sql", hours, limit).execute(pool).await?.rows_affected())
    })
    .await
}
