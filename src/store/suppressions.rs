//! Do-not-call lists as people read them. Numbers get onto and off them in `queue`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use crate::domain::ids::UserId;

/// A number that must not be called.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Suppression)]
pub struct Row {
    #[schema(example = "+14155550100")]
    pub number: String,
    pub reason: Option<String>,
    /// The callee asked for it during a call.
    pub asked: bool,
    pub created_at: DateTime<Utc>,
}

/// A user's list (the operator's is everybody's) by number, behind one of them, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn list(
    pool: &PgPool,
    user: UserId,
    above: Option<&str>,
    limit: i64,
    offset: i64,
) -> sqlx::Result<(Vec<Row>, i64)> {
    let rows = sqlx::query_file_as!(Row, "sql/store/suppression_list.sql", user.0, above, limit, offset)
        .fetch_all(pool)
        .await?;
    let total = sqlx::query_file_scalar!("sql/store/suppression_count.sql", user.0).fetch_one(pool).await?;
    Ok((rows, total))
}
