//! API keys. Only hashes are kept.

use sha2::{Digest, Sha256};
use sqlx::PgPool;
use uuid::Uuid;

use crate::domain::ids::{UserId, new_id};

/// Whose key it is; none: an admin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner(pub Option<UserId>);

/// The hash a key is kept as. Keys are 256 random bits, so one round is enough.
#[must_use]
pub fn hash(key: &str) -> Vec<u8> {
    Sha256::digest(key.as_bytes()).to_vec()
}

/// Who owns this key, if anybody; notes that it was used.
///
/// # Errors
/// Postgres is away.
pub async fn owner(pool: &PgPool, key: &str) -> sqlx::Result<Option<Owner>> {
    let row = sqlx::query_file!("sql/store/key_owner.sql", hash(key)).fetch_optional(pool).await?;
    Ok(row.map(|row| Owner(row.user_id.map(UserId))))
}

/// Keeps a new key.
///
/// # Errors
/// Postgres is away.
pub async fn create(pool: &PgPool, user: Option<UserId>, name: &str, key: &str) -> sqlx::Result<Uuid> {
    let id = new_id();
    sqlx::query_file!("sql/store/key_create.sql", id, user.map(|u| u.0), name, hash(key)).execute(pool).await?;
    Ok(id)
}

/// Whether there is any admin key.
///
/// # Errors
/// Postgres is away.
pub async fn any_admin(pool: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_file_scalar!("sql/store/key_any_admin.sql").fetch_one(pool).await
}
