//! What all processes know of a provider: whether it is full, and whether it answers at all. The claim follows it.

use std::time::Duration;

use sqlx::PgPool;

use crate::domain::ids::{AttemptId, UserId};

/// When the circuit breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Answers and failures are counted over so long.
    pub window: Duration,
    /// It opens on so many failures,
    pub failures_min: i32,
    /// when they are at least this part of all.
    pub ratio: f64,
    /// The first hold; each opening in a row doubles it,
    pub open: Duration,
    /// up to this.
    pub open_max: Duration,
}

/// How the breaker stands after a report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// No call is claimed for so many seconds.
    pub open_secs: Option<f64>,
    /// After that one dial at a time is let through, until one is answered.
    pub half_open: bool,
}

/// Reports dials that were answered, in whatever sense, and those that were not.
///
/// # Errors
/// Postgres is away.
pub async fn judge_provider(
    pool: &PgPool,
    provider: &str,
    answered: i32,
    failed: i32,
    breaker: &Breaker,
) -> sqlx::Result<Judged> {
    let row = sqlx::query_file!(
        "sql/queue/judge_provider.sql",
        provider,
        answered,
        failed,
        breaker.window.as_secs_f64(),
        breaker.failures_min,
        breaker.ratio,
        breaker.open.as_secs_f64(),
        breaker.open_max.as_secs_f64(),
    )
    .fetch_one(pool)
    .await?;
    Ok(Judged { open_secs: row.open.then_some(row.held_secs), half_open: row.half_open })
}

/// Equal refusals in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InARow {
    pub user: UserId,
    /// Of this user's calls, this one included.
    pub count: i32,
    /// Another user's calls are refused in the same words.
    pub of_others_too: bool,
}

/// Counts a refusal that says nothing of the number; none: the attempt is not known.
///
/// # Errors
/// Postgres is away.
pub async fn refused_again(
    pool: &PgPool,
    provider: &str,
    attempt: AttemptId,
    reason: &str,
) -> sqlx::Result<Option<InARow>> {
    let row =
        sqlx::query_file!("sql/queue/refused_again.sql", provider, attempt.0, reason).fetch_optional(pool).await?;
    Ok(row.map(|row| InARow { user: UserId(row.user_id), count: row.n, of_others_too: row.others }))
}

/// A call was accepted: its user's refusals in a row are over. Gives how many users have some still.
///
/// # Errors
/// Postgres is away.
pub async fn accepted_again(pool: &PgPool, provider: &str, attempt: AttemptId) -> sqlx::Result<i64> {
    sqlx::query_file_scalar!("sql/queue/accepted_again.sql", provider, attempt.0).fetch_one(pool).await
}
