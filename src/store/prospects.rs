//! Prospects as people read them, and what came of their calls. They are written in `queue`.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::ids::{AttemptId, UserId};
use crate::domain::raw_json::RawJson;
use crate::store::{Named, Slice};

/// A prospect as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Prospect)]
pub struct Row {
    pub id: Uuid,
    pub user_id: Uuid,
    pub external_id: Option<String>,
    pub name: Option<String>,
    #[schema(example = "+14155550100")]
    pub phone: String,
    /// INITIAL, SCHEDULED, IN_CALL, RESCHEDULED, BOOKED, NOT_INTERESTED, DO_NOT_CALL or FAILED.
    #[schema(example = "INITIAL")]
    pub status: String,
    pub time_zone: Option<String>,
    /// A promised time.
    pub rescheduled_for: Option<DateTime<Utc>>,
    pub reschedules: i32,
    pub last_contacted_at: Option<DateTime<Utc>>,
    /// How the newest call ended.
    pub disposition: Option<String>,
    #[schema(value_type = Object)]
    pub variables: RawJson,
    /// The newest call.
    pub call_id: Option<Uuid>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// The user's prospect this name means.
///
/// # Errors
/// Postgres is away.
pub async fn find(pool: &PgPool, user: UserId, named: &Named) -> sqlx::Result<Vec<Row>> {
    sqlx::query_file_as!(Row, "sql/store/prospect_find.sql", named.id, named.external_id, user.0).fetch_all(pool).await
}

/// A user's prospects, newest first, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn list(pool: &PgPool, user: UserId, slice: &Slice) -> sqlx::Result<(Vec<Row>, i64)> {
    let rows = sqlx::query_file_as!(Row, "sql/store/prospect_list.sql", user.0, slice.below, slice.limit, slice.offset);
    let total = sqlx::query_file_scalar!("sql/store/prospect_count.sql", user.0).fetch_one(pool).await?;
    Ok((rows.fetch_all(pool).await?, total))
}

/// An appointment agreed in a call.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Appointment {
    pub id: Uuid,
    pub user_id: Uuid,
    pub prospect_id: Option<Uuid>,
    pub call_id: Uuid,
    pub conversation_id: Uuid,
    /// As it was told; null: no time was told.
    pub starts_at: Option<DateTime<Utc>>,
    /// The agent told a time that had passed: somebody has to ask again.
    pub in_past: bool,
    pub created_at: DateTime<Utc>,
}

/// Appointments, newest first, and how many there are.
///
/// # Errors
/// Postgres is away.
pub async fn appointments(pool: &PgPool, slice: &Slice) -> sqlx::Result<(Vec<Appointment>, i64)> {
    let user = slice.user.map(|user| user.0);
    let rows = sqlx::query_file_as!(
        Appointment,
        "sql/store/appointment_list.sql",
        user,
        slice.below,
        slice.limit,
        slice.offset
    );
    let total = sqlx::query_file_scalar!("sql/store/appointment_count.sql", user).fetch_one(pool).await?;
    Ok((rows.fetch_all(pool).await?, total))
}

/// A conversation with what was said in it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transcribed {
    pub conversation_id: Uuid,
    pub call_id: Uuid,
    pub user_id: Uuid,
    pub prospect_id: Option<Uuid>,
    pub number: i32,
    /// DIALING, UNKNOWN, ACCEPTED or ENDED.
    pub state: String,
    pub dialed: bool,
    /// The provider's id of the call.
    pub external_call_id: Option<String>,
    /// The carrier's id of the leg to the phone, where it is another.
    pub carrier_call_id: Option<String>,
    pub claimed_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub ended_at: Option<DateTime<Utc>>,
    pub disposition: Option<String>,
    /// Length in seconds, as the provider says.
    pub duration: Option<i32>,
    /// Minutes taken from the subscription for it.
    pub minutes: Option<i32>,
    #[schema(value_type = Option<Object>)]
    pub outcome: Option<RawJson>,
    /// The cause in the provider's or carrier's own words.
    pub hangup_cause: Option<String>,
    pub transcript: Option<String>,
    /// What the provider made of it, in a few words.
    pub summary: Option<String>,
}

/// One conversation of a user (none: of anybody).
///
/// # Errors
/// Postgres is away.
pub async fn conversation(pool: &PgPool, id: AttemptId, user: Option<UserId>) -> sqlx::Result<Option<Transcribed>> {
    sqlx::query_file_as!(Transcribed, "sql/store/conversation_get.sql", id.0, user.map(|user| user.0))
        .fetch_optional(pool)
        .await
}
