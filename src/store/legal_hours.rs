//! When the law lets people be called: data, with source and date.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;

use crate::domain::hours::Span;
use crate::domain::raw_json::RawJson;

/// The rule of an area.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LegalHours)]
pub struct Row {
    /// An IANA time zone, an ISO 3166 country, or * for everywhere else.
    #[schema(example = "AE")]
    pub area: String,
    #[schema(value_type = Vec<Span>)]
    pub hours: RawJson,
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
    let hours = RawJson::of(&hours);
    sqlx::query_file!("sql/store/legal_hours_put.sql", area, hours as _, source, as_of).execute(connection).await?;
    Ok(())
}

/// Drops the rule of an area; false: there was none, or it is the general one.
///
/// # Errors
/// Postgres is away.
pub async fn delete(connection: &mut PgConnection, area: &str) -> sqlx::Result<bool> {
    Ok(sqlx::query_file!("sql/store/legal_hours_delete.sql", area).execute(connection).await?.rows_affected() > 0)
}
