//! The one row every process of this installation shares.

use sqlx::PgPool;

/// The key of the tokens in webhook URLs; the first process makes it. Also notes the limit, provider and rate in force, for views.
///
/// # Errors
/// Postgres is away.
pub async fn settle_in(
    pool: &PgPool,
    candidate: &[u8],
    max_concurrent: i32,
    provider: &str,
    dials_per_second: f64,
    reserve_minutes: i32,
) -> sqlx::Result<Vec<u8>> {
    let row = sqlx::query_file_scalar!(
        "sql/store/installation_settle_in.sql",
        candidate,
        max_concurrent,
        provider,
        dials_per_second,
        reserve_minutes
    );
    row.fetch_one(pool).await
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
