//! Users, by either of their ids.

use sqlx::PgPool;

use crate::domain::ids::UserId;

/// The user with this id or external id.
///
/// # Errors
/// Postgres is away.
pub async fn find(pool: &PgPool, id_or_external: &str) -> sqlx::Result<Option<UserId>> {
    let id = sqlx::query_file_scalar!("sql/store/user_find.sql", id_or_external).fetch_optional(pool).await?;
    Ok(id.map(UserId))
}
