//! Schedules: when campaigns may call.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::hours::Span;
use crate::domain::ids::{ScheduleId, UserId};
use crate::domain::raw_json::RawJson;
use crate::store::{Named, Slice};

/// A schedule as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Schedule)]
pub struct Row {
    pub id: Uuid,
    pub user_id: Uuid,
    pub external_id: Option<String>,
    pub name: String,
    pub time_zone: String,
    #[schema(value_type = Vec<Span>)]
    pub hours: RawJson,
    pub closed_dates: Vec<NaiveDate>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What a schedule is made of.
#[derive(Clone, Debug)]
pub struct New {
    pub id: ScheduleId,
    pub user_id: UserId,
    pub name: String,
    pub time_zone: String,
    pub hours: Vec<Span>,
    pub closed_dates: Vec<NaiveDate>,
    pub external_id: Option<String>,
}

/// Creates a schedule; a repeat with the same id changes nothing.
///
/// # Errors
/// Postgres is away, or the user has another with this external id.
pub async fn create(pool: &PgPool, new: &New) -> sqlx::Result<()> {
    sqlx::query_file!(
        "sql/store/schedule_create.sql",
        new.id.0,
        new.user_id.0,
        new.name,
        new.time_zone,
        RawJson::of(&new.hours) as _,
        &new.closed_dates,
        new.external_id
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Those this name means: none, one, or (of several users) two.
///
/// # Errors
/// Postgres is away.
pub async fn find(pool: &PgPool, named: &Named, user: Option<UserId>) -> sqlx::Result<Vec<Row>> {
    let user = user.map(|user| user.0);
    sqlx::query_file_as!(Row, "sql/store/schedule_find.sql", named.id, named.external_id, user).fetch_all(pool).await
}

/// Schedules, newest first, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, slice: &Slice) -> sqlx::Result<(Vec<Row>, i64)> {
    let user = slice.user.map(|user| user.0);
    let rows = sqlx::query_file_as!(Row, "sql/store/schedule_list.sql", user, slice.below, slice.limit, slice.offset);
    let total = sqlx::query_file_scalar!("sql/store/schedule_count.sql", user).fetch_one(pool).await?;
    Ok((rows.fetch_all(pool).await?, total))
}

/// Fields to change; none keeps what is.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub name: Option<String>,
    pub time_zone: Option<String>,
    pub hours: Option<Vec<Span>>,
    pub closed_dates: Option<Vec<NaiveDate>>,
}

/// Changes a schedule. The lanes that follow it are for `queue::windows` to write.
///
/// # Errors
/// Postgres is away.
pub async fn update(connection: &mut PgConnection, id: ScheduleId, to: &Changes) -> sqlx::Result<()> {
    let hours = to.hours.as_ref().map(RawJson::of);
    let closed_dates = to.closed_dates.as_deref();
    sqlx::query_file!("sql/store/schedule_update.sql", id.0, to.name, to.time_zone, hours as _, closed_dates)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes a schedule.
///
/// # Errors
/// Postgres is away, or a campaign follows it.
pub async fn delete(pool: &PgPool, id: ScheduleId) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/schedule_delete.sql", id.0).execute(pool).await?;
    Ok(())
}
