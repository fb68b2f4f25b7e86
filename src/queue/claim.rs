//! The claim: which calls are dialed now. Exact limits, bounded cost. It is done by [`crate::queue::turn()`].

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::ids::{AttemptId, CallId, InstanceId, ProspectId};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::queue::Facts;

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
    /// Dials a second the provider may be asked for; 0: any.
    pub dials_per_second: f64,
    pub frequency: Frequency,
}

/// How often a user's calls may ring one phone.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Frequency {
    /// Dials in a rolling 24 h, over all calls of the user; 0: any number.
    pub dials_per_day: i32,
    /// Between dials of different calls; 0: none. A call's own retries keep their delay, a promised callback its time.
    pub gap_secs: f64,
}

impl Room<'_> {
    /// Tokens the provider's bucket holds: a second's worth, and at least one.
    pub(super) fn burst(&self) -> f64 {
        self.dials_per_second.max(1.0)
    }
}

/// One claimed call and its attempt, already committed when the transaction is.
#[derive(Clone, Debug)]
pub struct Claimed {
    pub attempt_id: AttemptId,
    pub call_id: CallId,
    pub attempt_number: i32,
    pub phone: PhoneNumber,
    pub script_id: String,
    pub metadata: RawJson,
    pub variables: RawJson,
    /// The longest it may talk: what is reserved of the user's minutes; none: no subscription.
    pub minutes_max: Option<i32>,
    /// `language`, `voice`, `firstMessage` of the user's settings, where there are any.
    pub agent: Option<RawJson>,
    /// The person it is for: script and first message name things of theirs.
    pub prospect_id: Option<ProspectId>,
    pub due_at: DateTime<Utc>,
    pub claimed_at: DateTime<Utc>,
    /// What a decision about it will rest on, as of the claim.
    pub facts: Facts,
}

/// A claimed call of which a field is not what it must be.
#[derive(Clone, Debug)]
pub struct Unreadable {
    pub attempt_id: AttemptId,
    pub call_id: CallId,
    /// Which field, and what is wrong with it.
    pub detail: String,
}

/// What one claim found.
#[derive(Clone, Debug, Default)]
pub struct Claim {
    pub calls: Vec<Claimed>,
    /// Claimed, and not to be read: set aside, each alone.
    pub unreadable: Vec<Unreadable>,
    /// Slots that were free before it.
    pub room: usize,
    /// Live calls before it.
    pub live: i64,
    /// Lanes and users it looked at.
    pub looked: Looked,
    /// Something was in its way: closed lanes, busy numbers, calls that must not be dialed.
    pub obstructed: bool,
    /// Seconds until a user deserves the next look, as of before the claim; none: nothing waits for a time.
    pub next_in_secs: Option<f64>,
    /// Seconds until the provider is asked again.
    pub held_secs: Option<f64>,
    /// The provider's breaker is half open: the answer to what was claimed decides.
    pub probing: bool,
    /// When it began to look, by the monotonic clock.
    pub begun: Option<Instant>,
}

/// Lanes and users that a claim looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    pub lanes: Vec<Uuid>,
    pub users: Vec<Uuid>,
}

impl Claim {
    /// Whether what it looked at should be tidied: something was in its way, or it did not fill its room with `claimed` calls.
    #[must_use]
    pub fn wants_tending(&self, claimed: usize) -> bool {
        self.looked != Looked::default() && (self.obstructed || claimed < self.room)
    }
}

/// What tending did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tended {
    /// Calls that were parked, put off or dropped: another claim may find what was behind them.
    pub moved: i64,
    /// Seconds until the next look; none: nothing waits for a time.
    pub next_in_secs: Option<f64>,
}

/// Tidies what a claim looked at, and brings back who was behind what it dropped. Takes the admission lock alone by itself.
///
/// # Errors
/// Postgres is away.
pub async fn tend(connection: &mut PgConnection, looked: &Looked, room: &Room<'_>) -> sqlx::Result<Tended> {
    let each = i64::try_from(room.want).unwrap_or(i64::MAX).saturating_add(4);
    let row = sqlx::query_file!(
        "sql/queue/tend.sql",
        &looked.lanes,
        &looked.users,
        room.dial_guard_secs,
        each,
        room.frequency.dials_per_day,
        room.frequency.gap_secs
    )
    .fetch_one(&mut *connection)
    .await?;
    Ok(Tended { moved: row.moved, next_in_secs: row.next_at.map(|at| secs_until(row.at, at)) })
}

/// From one time of the database to another; 0: it has passed.
pub(super) fn secs_until(now: DateTime<Utc>, at: DateTime<Utc>) -> f64 {
    (at - now).as_seconds_f64().max(0.0)
}

/// Looks again at an attempt that is about to be dialed: why it must not be, if it must not.
///
/// # Errors
/// Postgres is away; then nothing is dialed.
pub async fn look_again(pool: &PgPool, attempt: AttemptId, dial_guard_secs: f64) -> sqlx::Result<Option<String>> {
    let row =
        sqlx::query_file!("sql/queue/look_again.sql", &[attempt.0][..], dial_guard_secs).fetch_optional(pool).await?;
    Ok(row.map_or_else(|| Some("GONE".to_owned()), |row| row.bar))
}
