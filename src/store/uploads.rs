//! Uploaded lists: stored whole first, then read row by row, with a verdict for each.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::db::bit_by_bit;
use crate::domain::ids::{CampaignId, UploadId, UserId};

/// An upload as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Upload)]
pub struct Row {
    pub id: Uuid,
    pub user_id: Uuid,
    /// Null: a list of prospects.
    pub campaign_id: Option<Uuid>,
    /// receiving, running, done or failed.
    pub status: String,
    pub bytes: i64,
    /// How far it is read.
    pub bytes_done: i64,
    pub rows_done: i64,
    pub accepted: i64,
    pub rejected: i64,
    /// Why it could not be read.
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// Begins an upload; a repeat with the same id changes nothing.
///
/// # Errors
/// Postgres is away.
pub async fn create(pool: &PgPool, id: UploadId, user: UserId, campaign: Option<CampaignId>) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/upload_create.sql", id.0, user.0, campaign.map(|id| id.0)).execute(pool).await?;
    Ok(())
}

/// Keeps a piece of the body.
///
/// # Errors
/// Postgres is away.
pub async fn keep_part(pool: &PgPool, id: UploadId, nth: i32, body: &[u8]) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/upload_keep_part.sql", id.0, nth, body).execute(pool).await?;
    Ok(())
}

/// The body is whole.
///
/// # Errors
/// Postgres is away.
pub async fn received(pool: &PgPool, id: UploadId, bytes: i64) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/upload_received.sql", id.0, bytes).execute(pool).await?;
    Ok(())
}

/// One upload.
///
/// # Errors
/// Postgres is away.
pub async fn get(pool: &PgPool, id: UploadId, user: Option<UserId>) -> sqlx::Result<Option<Row>> {
    sqlx::query_file_as!(Row, "sql/store/upload_get.sql", id.0, user.map(|user| user.0)).fetch_optional(pool).await
}

/// An upload to be read.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub id: UploadId,
    pub user: UserId,
    /// None: the rows are prospects of the user.
    pub campaign: Option<CampaignId>,
    /// Rows that have their verdict already.
    pub rows_done: i64,
    /// Readers that have taken it since the last verdict.
    pub takes: i32,
}

/// Takes an upload nobody reads, for so many seconds.
///
/// # Errors
/// Postgres is away.
pub async fn take(pool: &PgPool, lease_secs: f64) -> sqlx::Result<Option<Taken>> {
    let row = sqlx::query_file!("sql/store/upload_take.sql", lease_secs).fetch_optional(pool).await?;
    Ok(row.map(|row| Taken {
        id: UploadId(row.id),
        user: UserId(row.user_id),
        campaign: row.campaign_id.map(CampaignId),
        rows_done: row.rows_done,
        takes: row.takes,
    }))
}

/// Lets others go first: it is taken up again when they have had their turn.
///
/// # Errors
/// Postgres is away.
pub async fn give_back(pool: &PgPool, id: UploadId) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/upload_give_back.sql", id.0).execute(pool).await?;
    Ok(())
}

/// Puts an upload back that could not be read for a fault of the database's, not of its own.
///
/// # Errors
/// Postgres is away; its lease runs out by itself, and the take counts.
pub async fn put_back(pool: &PgPool, id: UploadId) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/upload_put_back.sql", id.0).execute(pool).await?;
    Ok(())
}

/// Drops a body that was never received whole.
///
/// # Errors
/// Postgres is away; it is dropped within a day.
pub async fn discard(pool: &PgPool, id: UploadId) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/upload_discard.sql", id.0).execute(pool).await?;
    Ok(())
}

/// The nth piece of a body; none: that was all.
///
/// # Errors
/// Postgres is away.
pub async fn part(pool: &PgPool, id: UploadId, nth: i32) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_file_scalar!("sql/store/upload_part.sql", id.0, nth).fetch_optional(pool).await
}

/// Verdicts of some rows.
#[derive(Clone, Debug)]
pub struct Progress {
    pub first_row: i64,
    /// Lines of CSV.
    pub verdicts: String,
    pub rows: i64,
    pub accepted: i64,
    pub bytes_done: i64,
}

/// Keeps verdicts and the lease; false: somebody else reads it.
///
/// # Errors
/// Postgres is away.
pub async fn advance(pool: &PgPool, id: UploadId, to: &Progress, lease_secs: f64) -> sqlx::Result<bool> {
    let done = sqlx::query_file!(
        "sql/store/upload_advance.sql",
        id.0,
        to.first_row,
        to.verdicts,
        to.rows,
        to.accepted,
        to.bytes_done,
        lease_secs
    );
    Ok(done.execute(pool).await?.rows_affected() > 0)
}

/// It is read to its end, or cannot be read.
///
/// # Errors
/// Postgres is away.
pub async fn finish(pool: &PgPool, id: UploadId, error: Option<&str>) -> sqlx::Result<()> {
    sqlx::query_file!("sql/store/upload_finish.sql", id.0, error).execute(pool).await?;
    Ok(())
}

/// Some verdicts from a row on, and the row to go on from; none: that was all.
///
/// # Errors
/// Postgres is away.
pub async fn verdicts(pool: &PgPool, id: UploadId, from_row: i64) -> sqlx::Result<Option<(String, i64)>> {
    let rows = sqlx::query_file!("sql/store/upload_verdicts.sql", id.0, from_row).fetch_all(pool).await?;
    let next = rows.last().map(|row| row.first_row + 1);
    Ok(next.map(|next| (rows.into_iter().map(|row| row.verdicts).collect(), next)))
}

/// Uploads dropped in one transaction: each may have thousands of parts.
const UPLOADS_AT_ONCE: i64 = 10;

/// Drops what was never received whole, and uploads older than so many days.
///
/// # Errors
/// Postgres is away.
pub async fn prune(pool: &PgPool, days: i32) -> sqlx::Result<()> {
    bit_by_bit(UPLOADS_AT_ONCE, |limit| async move {
        Ok(sqlx::query_file_scalar!("sql/store/upload_prune.sql", days, limit).fetch_one(pool).await?.unsigned_abs())
    })
    .await
}
