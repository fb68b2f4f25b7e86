//! What people do to a call that exists: cancel it, try it again, change it. Each is one statement, decided by the row.

use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::domain::call::CallState;
use crate::domain::ids::{CallId, CampaignId, LaneId, UserId};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::domain::window::ClosedBy;
use crate::queue::windows::{PlacedLane, Whose, lanes_for, place_of_single};
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
    /// Its campaign is canceled for good.
    CampaignOver,
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
        return Ok(Some(match row.was {
            _ if row.over => Retried::CampaignOver,
            _ if row.suppressed => Retried::Suppressed,
            was => Retried::NotEnded(was),
        }));
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
    pub metadata: Option<RawJson>,
    pub priority: Option<i16>,
    pub due_at: Option<DateTime<Utc>>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// What an amendment did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amended {
    Done,
    Suppressed,
    /// The new number may not be dialed, at no time.
    ClosedForGood(ClosedBy),
    /// A campaign's calls are dialed with its script.
    CampaignsScript,
    /// Only a call that waits can be changed.
    NotWaiting(CallState),
}

/// Changes a call while it waits. `None` when there is no such call.
///
/// # Errors
/// Postgres is away.
pub async fn amend(pool: &PgPool, call: CallId, user: Option<UserId>, to: &Amendment) -> sqlx::Result<Option<Amended>> {
    let lane = lane_for(pool, call, user, to.phone.as_ref()).await?;
    if let Some(why) = lane.and_then(|lane| lane.closed_for_good) {
        return Ok(Some(Amended::ClosedForGood(why)));
    }
    let lane = lane.map(|lane| lane.id.0);
    let mut transaction = feed(pool).await?;
    let row = sqlx::query_file!(
        "sql/queue/amend.sql",
        call.0,
        user.map(|u| u.0),
        to.phone.as_ref().map(PhoneNumber::as_str),
        to.script_id,
        to.metadata.clone() as _,
        to.priority,
        to.due_at,
        to.expires_at,
        lane,
    );
    let Some(row) = row.fetch_optional(&mut *transaction).await? else {
        return Ok(None);
    };
    if row.in_campaign && to.script_id.is_some() {
        return Ok(Some(Amended::CampaignsScript));
    }
    let (Some(lane_id), Some(rank)) = (row.lane_id, row.rank) else {
        return Ok(Some(if row.suppressed { Amended::Suppressed } else { Amended::NotWaiting(row.was) }));
    };
    wake(&mut transaction, &[Wake { lane_id: LaneId(lane_id), at: row.due_at, rank }]).await?;
    // The head of its old number may have left, or moved to a later time.
    unpark(&mut transaction, &[row.phone_was]).await?;
    transaction.commit().await?;
    Ok(Some(Amended::Done))
}

/// The lane of its campaign or user that a call belongs to with a new number; none: it stays where it is.
async fn lane_for(
    pool: &PgPool,
    call: CallId,
    user: Option<UserId>,
    number: Option<&PhoneNumber>,
) -> sqlx::Result<Option<PlacedLane>> {
    let Some(number) = number else { return Ok(None) };
    let row =
        sqlx::query_file!("sql/queue/campaign_of_call.sql", call.0, user.map(|u| u.0)).fetch_optional(pool).await?;
    let Some(row) = row else { return Ok(None) };
    let whose = match row.campaign_id {
        Some(campaign) => Whose::Campaign(CampaignId(campaign)),
        None => Whose::User(UserId(row.user_id)),
    };
    let place = place_of_single(number, row.time_zone.as_deref(), row.ignore_window);
    Ok(lanes_for(pool, whose, [&place]).await?.remove(&place))
}
