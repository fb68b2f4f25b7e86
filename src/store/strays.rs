//! Events that never matched a call.

use sqlx::PgPool;

/// Forgets strays older than `days`.
///
/// # Errors
/// Postgres is away.
pub async fn prune(pool: &PgPool, days: i32) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/stray_prune.sql", days).execute(pool).await?;
    Ok(())
}
