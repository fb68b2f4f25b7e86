//! When the law lets people be called: data, with source and date.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;

use crate::domain::hours::Span;

/// The rule of an area.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LegalHours)]
pub struct Row {
    /// An IANA time zone, an ISO 3166 country, or * for everywhere else.
    #[schema(example = "AE")]
    pub area: String,
    #[schema(value_type = Vec<Span>)]
    pub hours: Value,
    /// The law or regulation.
    pub source: String,
    /// When somebody looked it up.
    pub as_of: NaiveDate,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// All rules.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool) -> sqlx::Result<Vec<Row>> {
    sqlx::query_file_as!(Row, "sql/store/legal_hours_list.sql").fetch_all(pool).await
}

/// Writes the rule of an area. In the transaction of `queue::windows::change`.
///
/// # Errors
/// Postgres is away.
pub async fn put(
    connection: &mut PgConnection,
    area: &str,
    hours: &[Span],
    source: &str,
    as_of: NaiveDate,
) -> sqlx::Result<()> {
    let hours = serde_json::to_value(hours).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query_file!("sql/store/legal_hours_put.sql", area, hours, source, as_of).execute(connection).await?;
    Ok(())
}

/// Drops the rule of an area; false: there was none, or it is the general one.
///
/// # Errors
/// Postgres is away.
pub async fn delete(connection: &mut PgConnection, area: &str) -> sqlx::Result<bool> {
    Ok(sqlx::query_file!("sql/store/legal_hours_delete.sql", area).execute(connection).await?.rows_affected() > 0)
}
