//! Plans, and who subscribes to them. What subscriptions hold back and let go is moved in `queue`.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::ids::UserId;
use crate::store::{Named, Slice};

/// A plan.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Plan)]
pub struct Row {
    pub id: Uuid,
    pub external_id: Option<String>,
    pub name: String,
    pub price: f64,
    /// Of each period.
    pub minutes: i32,
    /// Days of a period.
    pub duration: i32,
    /// Dials a day on the user's clock; null: any number.
    pub per_day: Option<i32>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// A plan as it is written.
#[derive(Clone, Debug)]
pub struct Plan {
    pub id: Uuid,
    pub external_id: Option<String>,
    pub name: String,
    pub price: f64,
    pub minutes: i32,
    pub duration: i32,
    pub per_day: Option<i32>,
}

/// Creates a plan; a repeat with the same id changes nothing.
///
/// # Errors
/// Postgres is away, or another plan has this external id.
pub async fn create(pool: &PgPool, plan: &Plan) -> sqlx::Result<()> {
    sqlx::query_file!(
        "sql/store/plan_create.sql",
        plan.id,
        plan.external_id,
        plan.name,
        plan.price,
        plan.minutes,
        plan.duration,
        plan.per_day
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Writes a plan anew; those who subscribe to it follow.
///
/// # Errors
/// Postgres is away.
pub async fn update(pool: &PgPool, plan: &Plan) -> sqlx::Result<()> {
    sqlx::query_file!(
        "sql/store/plan_update.sql",
        plan.id,
        plan.name,
        plan.price,
        plan.minutes,
        plan.duration,
        plan.per_day
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Those this name means.
///
/// # Errors
/// Postgres is away.
pub async fn find(pool: &PgPool, named: &Named) -> sqlx::Result<Vec<Row>> {
    sqlx::query_file_as!(Row, "sql/store/plan_find.sql", named.id, named.external_id).fetch_all(pool).await
}

/// Plans, newest first, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, slice: &Slice) -> sqlx::Result<(Vec<Row>, i64)> {
    let rows = sqlx::query_file_as!(Row, "sql/store/plan_list.sql", slice.below, slice.limit, slice.offset);
    let total = sqlx::query_file_scalar!("sql/store/plan_count.sql").fetch_one(pool).await?;
    Ok((rows.fetch_all(pool).await?, total))
}

/// Deletes a plan nobody subscribes to.
///
/// # Errors
/// Postgres is away, or somebody subscribes to it.
pub async fn delete(pool: &PgPool, id: Uuid) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/plan_delete.sql", id).execute(pool).await?;
    Ok(())
}

/// A user's subscription as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    pub user_id: Uuid,
    pub plan_id: Uuid,
    /// ACTIVE, PAUSED or CANCELED.
    #[schema(example = "ACTIVE")]
    pub status: String,
    /// The settled balance.
    pub minutes_left: i32,
    /// Held by live calls; not taken yet.
    pub minutes_reserved: i32,
    /// Talked beyond the balance, in this period.
    pub overage_minutes: i32,
    pub period_ends_at: DateTime<Utc>,
    /// The day on the user's clock that `dialsToday` counts.
    pub day: Option<NaiveDate>,
    pub dials_today: i32,
    pub per_day: Option<i32>,
    /// SUBSCRIPTION_INACTIVE, QUOTA_MINUTES or QUOTA_PER_DAY: why nobody is dialed; null: somebody may be.
    pub blocked_by: Option<String>,
    pub updated_at: DateTime<Utc>,
}

/// A user's subscription; none: it has none, and is held to no quota.
///
/// # Errors
/// Postgres is away.
pub async fn subscription(pool: &PgPool, user: UserId) -> sqlx::Result<Option<Subscription>> {
    sqlx::query_file_as!(Subscription, "sql/store/subscription_get.sql", user.0).fetch_optional(pool).await
}
