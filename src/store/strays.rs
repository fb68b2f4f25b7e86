//! Events that never matched a call.

use sqlx::PgPool;

use crate::db::bit_by_bit;
use crate::store::ROWS_AT_ONCE;

/// Forgets strays older than `days`.
///
/// # Errors
/// Postgres is away.
pub async fn prune(pool: &PgPool, days: i32) -> sqlx::Result<()> {
    bit_by_bit(ROWS_AT_ONCE, |limit| async move {
        Ok(sqlx::query_file!("sql/store/stray_prune.sql", days, limit).execute(pool).await?.rows_affected())
    })
    .await
}
