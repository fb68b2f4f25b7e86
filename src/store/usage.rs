//! What a tenant has waiting and stored, and how much that may be.

use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use crate::domain::ids::UserId;

/// What a user has, and may have (`[quota]` in the settings).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// PENDING calls.
    pub waiting_calls: i64,
    pub waiting_calls_max: i64,
    /// Files that are not read yet, and verdicts that are kept.
    pub upload_bytes: i64,
    pub upload_bytes_max: i64,
    /// Answers kept for Idempotency-Keys.
    pub kept_answer_bytes: i64,
    pub kept_answer_bytes_max: i64,
}

impl Usage {
    /// How many more calls may wait.
    #[must_use]
    pub fn calls_left(&self) -> i64 {
        (self.waiting_calls_max - self.waiting_calls).max(0)
    }
}

/// Of one user; nothing of a user there is not.
///
/// # Errors
/// Postgres is away.
pub async fn of(pool: &PgPool, user: UserId) -> sqlx::Result<Usage> {
    let row = sqlx::query_file_as!(Usage, "sql/store/usage_get.sql", user.0).fetch_optional(pool).await?;
    Ok(row.unwrap_or_default())
}
