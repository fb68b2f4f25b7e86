//! What users know of numbers. The do-not-call list itself is suppressions, where the claim looks.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::ids::UserId;
use crate::store::{Named, Slice};

/// A phone number as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = KnownNumber)]
pub struct Row {
    pub id: Uuid,
    pub user_id: Uuid,
    pub external_id: Option<String>,
    #[schema(example = "+14155550100")]
    pub number: String,
    /// valid, invalid (enters no campaign) or do_not_call (never dialed).
    pub status: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Those this name means: none, one, or (of several users) two.
///
/// # Errors
/// Postgres is away.
pub async fn find(pool: &PgPool, named: &Named, user: Option<UserId>) -> sqlx::Result<Vec<Row>> {
    let user = user.map(|user| user.0);
    sqlx::query_file_as!(Row, "sql/store/phone_number_find.sql", named.id, named.external_id, user)
        .fetch_all(pool)
        .await
}

/// Phone numbers, newest first, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, slice: &Slice) -> sqlx::Result<(Vec<Row>, i64)> {
    let user = slice.user.map(|user| user.0);
    let rows =
        sqlx::query_file_as!(Row, "sql/store/phone_number_list.sql", user, slice.below, slice.limit, slice.offset);
    let total = sqlx::query_file_scalar!("sql/store/phone_number_count.sql", user).fetch_one(pool).await?;
    Ok((rows.fetch_all(pool).await?, total))
}

/// Deletes a phone number.
///
/// # Errors
/// Postgres is away.
pub async fn delete(pool: &PgPool, id: Uuid) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/phone_number_delete.sql", id).execute(pool).await?;
    Ok(())
}
