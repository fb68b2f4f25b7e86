//! API keys. Only hashes are kept.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::PgPool;
use utoipa::ToSchema;
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

/// A key that nobody guesses: 256 random bits.
#[must_use]
pub fn fresh() -> String {
    use base64::Engine;
    format!("od_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>()))
}

/// The hashes of all keys that are still good, and whose they are.
///
/// # Errors
/// Postgres is away.
pub async fn hashes(pool: &PgPool) -> sqlx::Result<Vec<(Vec<u8>, Owner)>> {
    let rows = sqlx::query_file!("sql/store/key_hashes.sql").fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.hash, Owner(row.user_id.map(UserId)))).collect())
}

/// A key that is still good.
#[derive(Clone, Debug)]
pub struct Good {
    pub owner: Owner,
    pub scopes: Vec<String>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Who owns this key, if anybody and if it is still good; notes that it was used, and from where.
///
/// # Errors
/// Postgres is away.
pub async fn owner(pool: &PgPool, hash: &[u8], from: Option<IpAddr>) -> sqlx::Result<Option<Good>> {
    let from = from.map(|address| address.to_string());
    let row = sqlx::query_file!("sql/store/key_owner.sql", hash, from).fetch_optional(pool).await?;
    Ok(row.map(|row| Good { owner: Owner(row.user_id.map(UserId)), scopes: row.scopes, expires_at: row.expires_at }))
}

/// Keeps a new key.
///
/// # Errors
/// Postgres is away.
pub async fn create(
    pool: &PgPool,
    user: Option<UserId>,
    name: &str,
    key: &str,
    scopes: &[&str],
    expires_at: Option<DateTime<Utc>>,
) -> sqlx::Result<Uuid> {
    let id = new_id();
    let user = user.map(|user| user.0);
    let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
    sqlx::query_file!("sql/store/key_create.sql", id, user, name, hash(key), expires_at, &scopes).execute(pool).await?;
    Ok(id)
}

/// A key as it is shown: never the key itself.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub struct Row {
    pub id: Uuid,
    pub name: String,
    pub created_at: DateTime<Utc>,
    /// What it may do: read, write, dial, admin.
    pub scopes: Vec<String>,
    /// To the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The address of the connection it was last used on: a proxy's, where there is one.
    pub last_used_from: Option<String>,
    /// It opens nothing from then on; null: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A user's keys, newest first; of nobody: the admins'.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, user: Option<UserId>) -> sqlx::Result<Vec<Row>> {
    sqlx::query_file_as!(Row, "sql/store/key_list.sql", user.map(|user| user.0) as _).fetch_all(pool).await
}

/// Revokes a user's key, or of nobody: an admin's; false: there is none.
///
/// # Errors
/// Postgres is away.
pub async fn delete(pool: &PgPool, user: Option<UserId>, id: Uuid) -> sqlx::Result<bool> {
    let deleting = sqlx::query_file!("sql/store/key_delete.sql", user.map(|user| user.0) as _, id);
    Ok(deleting.execute(pool).await?.rows_affected() > 0)
}

/// Whether there is any admin key.
///
/// # Errors
/// Postgres is away.
pub async fn any_admin(pool: &PgPool) -> sqlx::Result<bool> {
    sqlx::query_file_scalar!("sql/store/key_any_admin.sql").fetch_one(pool).await
}
