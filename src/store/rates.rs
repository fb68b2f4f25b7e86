//! What a minute costs, by the first digits of a number: for caps of cost. An admin loads them; none are shipped.

use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa::ToSchema;

/// What a minute costs to numbers that begin so.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rate {
    /// Digits without +, 0 to 15; the longest that fits counts, an empty one fits all.
    #[schema(pattern = "^[0-9]{0,15}$", example = "1415")]
    pub prefix: String,
    /// In the currency of your caps.
    #[schema(minimum = 0, maximum = 100000, example = 0.014)]
    pub per_minute: f64,
}

/// Whether rates are needed, and there.
#[derive(Clone, Copy, Debug)]
pub struct Needed {
    /// Somebody has a cap of cost.
    pub caps: bool,
    /// There is a rate for any number.
    pub default: bool,
}

/// # Errors
/// Postgres is away.
pub async fn needed(pool: &PgPool) -> sqlx::Result<Needed> {
    sqlx::query_file_as!(Needed, "sql/store/rates_needed.sql").fetch_one(pool).await
}

/// Puts these rates in place of all there are, for what is dialed from now on.
///
/// # Errors
/// Postgres is away; nothing has changed then.
pub async fn put(pool: &PgPool, rates: &[Rate]) -> sqlx::Result<()> {
    let prefixes: Vec<String> = rates.iter().map(|rate| rate.prefix.clone()).collect();
    let prices: Vec<f64> = rates.iter().map(|rate| rate.per_minute).collect();
    let mut transaction = pool.begin().await?;
    sqlx::query_file!("sql/store/rates_delete.sql").execute(&mut *transaction).await?;
    sqlx::query_file!("sql/store/rates_put.sql", &prefixes, &prices).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Rates above a prefix, by prefix.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, above: Option<&str>, limit: i64) -> sqlx::Result<Vec<Rate>> {
    sqlx::query_file_as!(Rate, "sql/store/rates_list.sql", above, limit).fetch_all(pool).await
}
