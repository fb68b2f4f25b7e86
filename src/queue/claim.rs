//! The claim: which calls are dialed now. Exact limits, bounded cost.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::call::{AttemptState, CallState};
use crate::domain::ids::{AttemptId, CallId, InstanceId, ProspectId, new_id};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::domain::word::Weight;
use crate::queue::{Facts, Known, unpark};

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
    fn burst(&self) -> f64 {
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

/// Claims up to `room.want` due calls. Needs the admission lock alone ([`crate::queue::admit`]).
///
/// # Errors
/// Postgres is away.
pub async fn claim(connection: &mut PgConnection, room: Room<'_>) -> sqlx::Result<Claim> {
    let begun = Instant::now();
    let attempt_ids: Vec<Uuid> = (0..room.want).map(|_| new_id()).collect();
    let rows = sqlx::query_file_as!(
        Row,
        "sql/queue/claim.sql",
        i32::try_from(room.want).unwrap_or(i32::MAX),
        room.global_limit,
        room.instance.0,
        room.provider,
        room.dial_guard_secs,
        &attempt_ids,
        room.lanes_max,
        room.lease_secs,
        room.dials_per_second,
        room.burst(),
        room.frequency.dials_per_day,
        room.frequency.gap_secs,
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut claim = Claim { begun: Some(begun), ..Claim::default() };
    for mut row in rows {
        claim.room = usize::try_from(row.room).unwrap_or_default();
        claim.live = row.live;
        claim.obstructed = row.obstructed;
        claim.probing = row.probing;
        claim.next_in_secs = row.next_at.map(|at| secs_until(row.at, at));
        claim.held_secs = row.held_until.map(|at| secs_until(row.at, at));
        claim.looked = Looked { lanes: std::mem::take(&mut row.lanes), users: std::mem::take(&mut row.users) };
        match row.into_claimed() {
            Some(Ok(call)) => claim.calls.push(call),
            Some(Err(unreadable)) => claim.unreadable.push(unreadable),
            None => {}
        }
    }
    Ok(claim)
}

fn secs_until(now: DateTime<Utc>, at: DateTime<Utc>) -> f64 {
    (at - now).as_seconds_f64().max(0.0)
}

/// A row of sql/queue/claim.sql: the summary, and beside it a claimed call, if any.
struct Row {
    at: DateTime<Utc>,
    room: i32,
    live: i64,
    held_until: Option<DateTime<Utc>>,
    probing: bool,
    next_at: Option<DateTime<Utc>>,
    lanes: Vec<Uuid>,
    users: Vec<Uuid>,
    obstructed: bool,
    attempt_id: Option<Uuid>,
    call_id: Option<Uuid>,
    attempt_number: Option<i32>,
    dials: Option<i16>,
    dials_max: Option<i16>,
    priority: Option<i16>,
    rank: Option<i16>,
    retry_delay_secs: Option<i32>,
    phone: Option<String>,
    script_id: Option<String>,
    metadata: Option<RawJson>,
    variables: Option<RawJson>,
    due_at: Option<DateTime<Utc>>,
    reserved_minutes: Option<i32>,
    prospect_id: Option<Uuid>,
    agent: Option<RawJson>,
    retry_rules: Option<RawJson>,
}

impl Row {
    /// None: there is no call beside the summary.
    fn into_claimed(self) -> Option<Result<Claimed, Unreadable>> {
        let (Some(attempt_id), Some(call_id), Some(attempt_number), Some(phone)) =
            (self.attempt_id.map(AttemptId), self.call_id.map(CallId), self.attempt_number, self.phone)
        else {
            return None;
        };
        let phone = match PhoneNumber::parse(&phone) {
            Ok(phone) => phone,
            Err(error) => return Some(Err(Unreadable { attempt_id, call_id, detail: format!("phone: {error}") })),
        };
        let facts = Facts {
            attempt_id,
            call_id,
            revision: 0,
            state: AttemptState::Dialing,
            dialed: false,
            weight: Weight::None,
            misses: 0,
            told: None,
            provider_call_id: None,
            known: Known::default(),
            unheard_secs: 0.0,
            call_state: CallState::Live,
            newest: true,
            dials: self.dials.unwrap_or_default(),
            dials_max: self.dials_max.unwrap_or_default(),
            priority: self.priority.unwrap_or_default(),
            rank: self.rank.unwrap_or_default(),
            cancel_requested: false,
            retry_delay_secs: self.retry_delay_secs,
            retry_rules: self.retry_rules,
            promise: None,
        };
        Some(Ok(Claimed {
            attempt_id,
            call_id,
            attempt_number,
            phone,
            script_id: self.script_id.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            variables: self.variables.unwrap_or_default(),
            minutes_max: self.reserved_minutes,
            agent: self.agent,
            prospect_id: self.prospect_id.map(ProspectId),
            due_at: self.due_at.unwrap_or(self.at),
            claimed_at: self.at,
            facts,
        }))
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

/// Tidies what a claim looked at. Needs the admission lock alone ([`crate::queue::admit`]).
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
    // A head that expired or was suppressed has left its number: the next in line comes back.
    unpark(connection, &row.dropped).await?;
    let dropped = i64::try_from(row.dropped.len()).unwrap_or(i64::MAX);
    Ok(Tended { moved: row.put_off + dropped, next_in_secs: row.next_at.map(|at| secs_until(row.at, at)) })
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
