//! What people do to a call that exists: cancel it, try it again, change it. Each is one statement, decided by the row.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgPool;

use crate::domain::call::CallState;
use crate::domain::ids::{CallId, CampaignId, LaneId, UserId};
use crate::domain::phone::PhoneNumber;
use crate::domain::place::Place;
use crate::domain::zone;
use crate::queue::windows::{CampaignLane, lanes_for};
use crate::queue::{Wake, feed, unpark, wake};

/// What a cancel did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canceled {
    /// It waited, and is CANCELED.
    AtOnce,
    /// It is live: the hang-up is asked of the provider.
    Asked,
    /// It had ended.
    TooLate(CallState),
}

/// Cancels a call of this user (none: of anybody). `None` when there is no such call.
///
/// # Errors
/// Postgres is away.
pub async fn cancel(pool: &PgPool, call: CallId, user: Option<UserId>) -> sqlx::Result<Option<Canceled>> {
    let mut transaction = feed(pool).await?;
    let row =
        sqlx::query_file!("sql/queue/cancel.sql", call.0, user.map(|u| u.0)).fetch_optional(&mut *transaction).await?;
    let canceled = match row {
        None => None,
        Some(row) => Some(match row.state {
            Some(CallState::Canceled) => {
                // Its number may have had others parked behind it.
                unpark(&mut transaction, &row.phone.into_iter().collect::<Vec<_>>()).await?;
                Canceled::AtOnce
            }
            Some(_) => Canceled::Asked,
            None => Canceled::TooLate(row.was),
        }),
    };
    transaction.commit().await?;
    Ok(canceled)
}

/// What a retry did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    Waiting,
    Suppressed,
    /// Only FAILED and EXPIRED calls get another round.
    NotEnded(CallState),
}

/// Gives a FAILED or EXPIRED call one more round of dials. `None` when there is no such call.
///
/// # Errors
/// Postgres is away.
pub async fn retry(
    pool: &PgPool,
    call: CallId,
    user: Option<UserId>,
    dials_more: i16,
) -> sqlx::Result<Option<Retried>> {
    let mut transaction = feed(pool).await?;
    let row = sqlx::query_file!("sql/queue/retry.sql", call.0, user.map(|u| u.0), dials_more);
    let Some(row) = row.fetch_optional(&mut *transaction).await? else {
        return Ok(None);
    };
    let (Some(lane_id), Some(rank)) = (row.lane_id, row.rank) else {
        return Ok(Some(if row.suppressed { Retried::Suppressed } else { Retried::NotEnded(row.was) }));
    };
    wake(&mut transaction, &[Wake { lane_id: LaneId(lane_id), at: row.due_at, rank }]).await?;
    transaction.commit().await?;
    Ok(Some(Retried::Waiting))
}

/// Fields to change; none keeps what is.
#[derive(Clone, Debug, Default)]
pub struct Amendment {
    pub phone: Option<PhoneNumber>,
    pub script_id: Option<String>,
    pub metadata: Option<Value>,
    pub priority: Option<i16>,
    pub due_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// What an amendment did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    Done,
    Suppressed,
    /// The campaign's hours and the legal hours of the new number never meet.
    NeverOpens,
    /// Only a call that waits can be changed.
    NotWaiting(CallState),
}

/// Changes a call while it waits. `None` when there is no such call.
///
/// # Errors
/// Postgres is away.
pub async fn amend(pool: &PgPool, call: CallId, user: Option<UserId>, to: &Amendment) -> sqlx::Result<Option<Amended>> {
    let lane = match lane_for(pool, call, user, to.phone.as_ref()).await? {
        Some(lane) if lane.never_opens => return Ok(Some(Amended::NeverOpens)),
        lane => lane.map(|lane| lane.id.0),
    };
    let mut transaction = feed(pool).await?;
    let row = sqlx::query_file!(
        "sql/queue/amend.sql",
        call.0,
        user.map(|u| u.0),
        to.phone.as_ref().map(PhoneNumber::as_str),
        to.script_id,
        to.metadata,
        to.priority,
        to.due_at,
        to.expires_at,
        lane,
    );
    let Some(row) = row.fetch_optional(&mut *transaction).await? else {
        return Ok(None);
    };
    let (Some(lane_id), Some(rank)) = (row.lane_id, row.rank) else {
        return Ok(Some(if row.suppressed { Amended::Suppressed } else { Amended::NotWaiting(row.was) }));
    };
    wake(&mut transaction, &[Wake { lane_id: LaneId(lane_id), at: row.due_at, rank }]).await?;
    // The head of its old number may have left, or moved to a later time.
    unpark(&mut transaction, &[row.phone_was]).await?;
    transaction.commit().await?;
    Ok(Some(Amended::Done))
}

/// The lane of its campaign that a call belongs to with a new number; none: it stays where it is.
async fn lane_for(
    pool: &PgPool,
    call: CallId,
    user: Option<UserId>,
    number: Option<&PhoneNumber>,
) -> sqlx::Result<Option<CampaignLane>> {
    let Some(number) = number else { return Ok(None) };
    let row =
        sqlx::query_file!("sql/queue/campaign_of_call.sql", call.0, user.map(|u| u.0)).fetch_optional(pool).await?;
    let Some((campaign, given)) = row.and_then(|row| Some((CampaignId(row.campaign_id?), row.time_zone))) else {
        return Ok(None);
    };
    let place = Place::of(number);
    let place = match given.as_deref().and_then(zone::canonical) {
        Some(zone) => place.in_zone(zone),
        None => place,
    };
    Ok(lanes_for(pool, campaign, [&place]).await?.remove(&place))
}
