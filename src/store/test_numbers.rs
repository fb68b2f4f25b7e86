//! Numbers of people who test: called as often as somebody likes.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use crate::domain::phone::PhoneNumber;

/// A number of somebody who tests.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TestNumber)]
pub struct Row {
    #[serde(rename = "number")]
    pub phone: String,
    pub note: Option<String>,
    pub created_at: DateTime<Utc>,
}

/// Lists a number; one that is listed gets the note.
///
/// # Errors
/// Postgres is away.
pub async fn put(pool: &PgPool, number: &PhoneNumber, note: Option<&str>) -> sqlx::Result<Row> {
    sqlx::query_file_as!(Row, "sql/store/test_number_put.sql", number.as_str(), note).fetch_one(pool).await
}

/// Numbers above another, by number.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, above: Option<&str>, limit: i64) -> sqlx::Result<Vec<Row>> {
    sqlx::query_file_as!(Row, "sql/store/test_number_list.sql", above, limit).fetch_all(pool).await
}

/// Takes a number off; false: it was not on it.
///
/// # Errors
/// Postgres is away.
pub async fn delete(pool: &PgPool, number: &PhoneNumber) -> sqlx::Result<bool> {
    let gone = sqlx::query_file!("sql/store/test_number_delete.sql", number.as_str()).execute(pool).await?;
    Ok(gone.rows_affected() > 0)
}
