//! What people did by hand that the system would not do by itself. Rows are written before the act and never changed.

use sqlx::PgPool;

use crate::domain::raw_json::RawJson;

/// Notes an act: who does what to whom, how it was, and how it is to be.
///
/// # Errors
/// Postgres is away; then the act must not be done.
pub async fn write(
    pool: &PgPool,
    actor: &str,
    action: &str,
    subject: &str,
    before: &RawJson,
    after: &RawJson,
) -> sqlx::Result<()> {
    let (before, after) = (Some(before.clone()), Some(after.clone()));
    sqlx::query_file!("sql/store/audit_write.sql", actor, action, subject, before as _, after as _)
        .execute(pool)
        .await?;
    Ok(())
}
