//! The claim: which calls are dialed now. Exact limits, bounded cost.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::domain::ids::{AttemptId, CallId, CampaignId, InstanceId, LaneId, UserId, new_id};
use crate::domain::phone::PhoneNumber;
use crate::queue::unpark;

/// Who claims, and under which limits.
#[derive(Clone, Copy, Debug)]
pub struct Room<'a> {
    /// Calls this process can start right now.
    pub want: usize,
    /// Live calls over all instances.
    pub global_limit: i32,
    pub instance: InstanceId,
    pub provider: &'a str,
    /// No dial in the last seconds of a window.
    pub dial_guard_secs: f64,
    /// Lanes to look at, at most.
    pub lanes_max: i32,
    /// When to look into it if nobody says anything.
    pub lease_secs: f64,
}

/// One claimed call and its attempt, already committed when the transaction is.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub attempt_id: AttemptId,
    pub call_id: CallId,
    pub user_id: UserId,
    pub lane_id: LaneId,
    pub campaign_id: Option<CampaignId>,
    pub attempt_number: i32,
    pub phone: PhoneNumber,
    pub script_id: String,
    pub metadata: Value,
    pub variables: Value,
    pub time_zone: Option<String>,
    pub due_at: DateTime<Utc>,
    pub claimed_at: DateTime<Utc>,
}

/// What one claim found.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    pub calls: Vec<Claimed>,
    /// Slots that were free before it.
    pub room: usize,
    /// Live calls before it.
    pub live: i64,
    /// Whether it moved anything besides: another look may find more.
    pub moved: bool,
    /// Seconds until a lane deserves the next look; none: nothing waits for a time.
    pub next_in_secs: Option<f64>,
    /// Seconds until the provider is asked again.
    pub held_secs: Option<f64>,
}

/// Claims up to `room.want` due calls. Needs the admission lock alone ([`crate::queue::admit`]).
///
/// # Errors
/// Postgres is away.
pub async fn claim(connection: &mut PgConnection, room: Room<'_>) -> sqlx::Result<Claim> {
    let attempt_ids: Vec<Uuid> = (0..room.want).map(|_| new_id()).collect();
    let rows = sqlx::query_file!(
        "sql/queue/claim.sql",
        i32::try_from(room.want).unwrap_or(i32::MAX),
        room.global_limit,
        room.instance.0,
        room.provider,
        room.dial_guard_secs,
        &attempt_ids,
        room.lanes_max,
        room.lease_secs,
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut claim = Claim::default();
    let mut dropped = Vec::new();
    for row in rows {
        let until = |at: DateTime<Utc>| (at - row.at).as_seconds_f64().max(0.0);
        claim.room = usize::try_from(row.room).unwrap_or_default();
        claim.live = row.live;
        claim.moved = row.parked > 0 || !row.dropped.is_empty();
        claim.next_in_secs = row.next_at.map(until);
        claim.held_secs = row.held_until.map(until);
        dropped = row.dropped;
        let (Some(attempt_id), Some(call_id), Some(user_id), Some(lane_id), Some(attempt_number), Some(phone)) =
            (row.attempt_id, row.call_id, row.user_id, row.lane_id, row.attempt_number, row.phone)
        else {
            continue;
        };
        let phone = PhoneNumber::parse(&phone).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        claim.calls.push(Claimed {
            attempt_id: AttemptId(attempt_id),
            call_id: CallId(call_id),
            user_id: UserId(user_id),
            lane_id: LaneId(lane_id),
            campaign_id: row.campaign_id.map(CampaignId),
            attempt_number,
            phone,
            script_id: row.script_id.unwrap_or_default(),
            metadata: row.metadata.unwrap_or_default(),
            variables: row.variables.unwrap_or_default(),
            time_zone: row.time_zone,
            due_at: row.due_at.unwrap_or(row.at),
            claimed_at: row.at,
        });
    }
    // A head that expired or was suppressed has left its number: the next in line comes back.
    unpark(connection, &dropped).await?;
    Ok(claim)
}

/// Looks again at attempts that are about to be dialed: what must not be, and why.
///
/// # Errors
/// Postgres is away; then nothing is dialed.
pub async fn look_again(pool: &PgPool, attempt: AttemptId, dial_guard_secs: f64) -> sqlx::Result<Option<String>> {
    let row =
        sqlx::query_file!("sql/queue/look_again.sql", &[attempt.0][..], dial_guard_secs).fetch_optional(pool).await?;
    Ok(row.map_or_else(|| Some("GONE".to_owned()), |row| row.bar))
}
