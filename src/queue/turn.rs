//! One turn of a worker: what was decided is written, what that frees is woken, and what is due is claimed, in one round trip and one
//! transaction. The steps are statements of the function `turn` (sql/functions), which takes the admission lock before the first.
//!
//! **Invariant:** what was settled and what was claimed are committed together, or not at all (tests/simulation breaks turns at their
//! edges).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::call::{AttemptState, CallState};
use crate::domain::disposition::Disposition;
use crate::domain::ids::{AttemptId, CallId, ProspectId, new_id};
use crate::domain::phone::PhoneNumber;
use crate::domain::raw_json::RawJson;
use crate::domain::word::Weight;
use crate::queue::claim::secs_until;
use crate::queue::{Claim, Claimed, Event, Facts, Known, Looked, Room, Settled, Settlement, Unreadable};

/// What there is to write.
#[derive(Clone, Debug, Default)]
pub struct Work {
    pub settlements: Vec<Settlement>,
    /// A second delivery adds nothing.
    pub events: Vec<Event>,
    pub full: Option<Full>,
}

/// The provider was full when it was to take these: no claim for `hold`, on any instance, and no more live calls than it has now, or half
/// of what was allowed for each of these if that is more; that ceiling rises to `global_limit` again over `recovery`.
#[derive(Clone, Debug)]
pub struct Full {
    pub refused: Vec<AttemptId>,
    pub hold: Duration,
    pub recovery: Duration,
    pub global_limit: i32,
}

/// A turn that was not committed, or of whose commit nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Failed {
    pub stage: Stage,
    pub error: sqlx::Error,
}

/// How far it had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The admission lock was not to be had, or no connection.
    Admission,
    /// What was decided was being written.
    Settling,
    /// Calls were claimed, or the connection broke when they might have been.
    Claiming,
}

/// Takes the admission lock alone, writes, and claims up to `room.want` due calls; none: claims nothing. The settlements that have no
/// [`Settled`] were not applied: somebody else came first; decide again.
///
/// # Errors
/// Postgres is away, or refused a value.
pub async fn turn(
    connection: &mut PgConnection,
    mut work: Work,
    room: Option<Room<'_>>,
) -> Result<(Vec<Settled>, Claim), Failed> {
    let begun = Instant::now();
    // Rows are locked in id order, so that two settlers never wait for each other.
    work.settlements.sort_by_key(|settlement| settlement.attempt_id);
    let claims = room.is_some();
    let rows =
        rows_of(connection, &work, room).await.map_err(|error| Failed { stage: stage_of(&error, claims), error })?;
    // What a row holds is no reason to lose the others: a claim that cannot be understood is disowned like one never heard of.
    catch_unwind(AssertUnwindSafe(|| read(rows, begun)))
        .map_err(|_| Failed { stage: Stage::Claiming, error: sqlx::Error::WorkerCrashed })
}

/// [`turn()`] that writes nothing.
///
/// # Errors
/// Postgres is away.
pub async fn claim(connection: &mut PgConnection, room: Room<'_>) -> sqlx::Result<Claim> {
    turn(connection, Work::default(), Some(room)).await.map(|(_, claim)| claim).map_err(|failed| failed.error)
}

async fn rows_of(connection: &mut PgConnection, work: &Work, room: Option<Room<'_>>) -> sqlx::Result<Vec<Row>> {
    fn column<R, T>(rows: &[R], field: impl Fn(&R) -> T) -> Vec<T> {
        rows.iter().map(field).collect()
    }
    let (batch, events) = (&work.settlements, &work.events);
    // No claim finds more room than the limit of all.
    let want = room.map_or(0, |room| room.want.min(usize::try_from(room.global_limit).unwrap_or_default()));
    let attempt_ids: Vec<Uuid> = (0..want).map(|_| new_id()).collect();
    let full = work.full.as_ref();
    sqlx::query_file_as!(
        Row,
        "sql/queue/turn.sql",
        &column(batch, |s| s.attempt_id) as _,
        &column(batch, |s| s.revision),
        &column(batch, |s| s.state.map(AttemptState::as_sql)) as _,
        &column(batch, |s| s.provider_call_id.clone()) as _,
        &column(batch, |s| s.dialed),
        &column(batch, |s| s.weight.map(Weight::as_sql)) as _,
        &column(batch, |s| s.disposition.map(Disposition::as_str)) as _,
        &column(batch, |s| s.hangup_cause.clone()) as _,
        &column(batch, |s| s.duration_secs) as _,
        &column(batch, |s| s.told.clone()) as _,
        &column(batch, |s| s.transcript.clone()) as _,
        &column(batch, |s| s.misses),
        &column(batch, |s| s.started),
        &column(batch, |s| s.sent_secs_ago) as _,
        &column(batch, |s| s.check_in_secs) as _,
        &column(batch, |s| s.call_was.as_sql().to_owned()),
        &column(batch, |s| s.call.map(|c| c.becomes.as_sql())) as _,
        &column(batch, |s| s.call.and_then(|c| c.due_in_secs)) as _,
        &column(batch, |s| s.call.and_then(|c| c.due_at)) as _,
        &column(batch, |s| s.call.and_then(|c| c.rank)) as _,
        &column(batch, |s| s.call.and_then(|c| c.dials_max)) as _,
        &column(events, |e| e.attempt_id) as _,
        &column(events, |e| e.key.clone()),
        &column(events, |e| e.kind.to_owned()),
        &column(events, |e| e.source.to_owned()),
        &column(events, |e| e.body.clone()),
        &column(batch, |s| s.carrier_call_id.clone()) as _,
        &column(batch, |s| s.summary.clone()) as _,
        &column(batch, |s| s.billed),
        &column(batch, |s| s.record_in_secs) as _,
        full.map_or(&[][..], |full| &full.refused) as _,
        full.map_or(0.0, |full| full.hold.as_secs_f64()),
        full.map_or(1.0, |full| full.recovery.as_secs_f64().max(1.0)),
        i32::try_from(want).unwrap_or(i32::MAX),
        room.map_or_else(|| full.map_or(0, |full| full.global_limit), |room| room.global_limit),
        room.map(|room| room.instance.0),
        room.map(|room| room.provider),
        room.map_or(0.0, |room| room.dial_guard_secs),
        &attempt_ids,
        room.map_or(0, |room| room.lanes_max),
        room.map_or(0.0, |room| room.lease_secs),
        room.map_or(0.0, |room| room.dials_per_second),
        room.map_or(1.0, |room| room.burst()),
        room.map_or(0, |room| room.frequency.dials_per_day),
        room.map_or(0.0, |room| room.frequency.gap_secs),
    )
    .fetch_all(connection)
    .await
}

/// Which step an error is of: Postgres tells in which function it happened.
fn stage_of(error: &sqlx::Error, claims: bool) -> Stage {
    let context = match error {
        sqlx::Error::Database(refused) => {
            refused.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::r#where).unwrap_or_default()
        }
        _ => "",
    };
    // By names alone: the words around them are of the server's language.
    if context.contains("admission_lock(") {
        Stage::Admission
    } else if context.contains("claim_calls(") || (claims && context.is_empty()) {
        Stage::Claiming
    } else {
        Stage::Settling
    }
}

fn read(rows: Vec<Row>, begun: Instant) -> (Vec<Settled>, Claim) {
    let mut settled = Vec::new();
    let mut claim = Claim::default();
    for mut row in rows {
        if let (Some(ends), Some(attempt), Some(call)) = (row.ends, row.attempt_id, row.call_id) {
            let since_claim_secs = row.since_claim_secs.unwrap_or_default();
            settled.push(Settled { attempt_id: AttemptId(attempt), call_id: CallId(call), ends, since_claim_secs });
            continue;
        }
        let at = row.at.unwrap_or_default();
        if let Some(room) = row.room {
            // It had come so far at the earliest when it began to look.
            let claims_after = Duration::from_secs_f64(row.claims_after_secs.unwrap_or_default().clamp(0.0, 60.0));
            claim = Claim {
                room: usize::try_from(room).unwrap_or_default(),
                live: row.live.unwrap_or_default(),
                looked: Looked {
                    lanes: row.lanes.take().unwrap_or_default(),
                    users: row.users.take().unwrap_or_default(),
                },
                obstructed: row.obstructed.unwrap_or_default(),
                probing: row.probing.unwrap_or_default(),
                next_in_secs: row.next_at.map(|next| secs_until(at, next)),
                held_secs: row.held_until.map(|until| secs_until(at, until)),
                begun: Some(begun + claims_after),
                ..claim
            };
        }
        match row.into_claimed(at) {
            Some(Ok(call)) => claim.calls.push(call),
            Some(Err(unreadable)) => claim.unreadable.push(unreadable),
            None => {}
        }
    }
    (settled, claim)
}

/// A row of sql/queue/turn.sql: a settled attempt, a claimed call, or the summary of the claim.
struct Row {
    /// Of settled attempts alone.
    ends: Option<bool>,
    since_claim_secs: Option<f64>,
    claims_after_secs: Option<f64>,
    at: Option<DateTime<Utc>>,
    room: Option<i32>,
    live: Option<i64>,
    held_until: Option<DateTime<Utc>>,
    probing: Option<bool>,
    next_at: Option<DateTime<Utc>>,
    lanes: Option<Vec<Uuid>>,
    users: Option<Vec<Uuid>>,
    obstructed: Option<bool>,
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
    /// None: it is the summary.
    fn into_claimed(self, claimed_at: DateTime<Utc>) -> Option<Result<Claimed, Unreadable>> {
        let (Some(attempt_id), Some(call_id), Some(attempt_number), Some(phone)) =
            (self.attempt_id.map(AttemptId), self.call_id.map(CallId), self.attempt_number, self.phone)
        else {
            return None;
        };
        let phone = match PhoneNumber::stored(&phone) {
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
            due_at: self.due_at.unwrap_or(claimed_at),
            claimed_at,
            facts,
        }))
    }
}
