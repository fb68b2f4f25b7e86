//! Writing down what was decided: one fenced statement for a batch of attempts.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::call::{AttemptState, CallState};
use crate::domain::disposition::Disposition;
use crate::domain::ids::{AttemptId, CallId, CampaignId, LaneId, UserId};
use crate::domain::raw_json::RawJson;
use crate::domain::word::Weight;
use crate::queue::do_not_call::{Because, suppress_on};
use crate::queue::{Wake, unpark, wake};

/// What a decision rests on: the attempt and its call as they are under the admission lock.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    pub attempt_id: AttemptId,
    pub call_id: CallId,
    pub revision: i32,
    pub state: AttemptState,
    pub dialed: bool,
    pub weight: Weight,
    pub misses: i16,
    /// The explicit outcome told so far.
    pub told: Option<RawJson>,
    pub provider_call_id: Option<String>,
    /// What else is known of it already.
    pub known: Known,
    /// Seconds since the request may have left for the last time.
    pub unheard_secs: f64,
    pub call_state: CallState,
    /// No newer attempt of this call: only then may the call still change by it.
    pub newest: bool,
    pub dials: i16,
    pub dials_max: i16,
    pub priority: i16,
    pub rank: i16,
    pub cancel_requested: bool,
    /// The campaign's own delay between dials; none: the general policy.
    pub retry_delay_secs: Option<i32>,
    /// The user's own rules by disposition, for calls outside campaigns: see `domain::retry::UserRule`.
    pub retry_rules: Option<RawJson>,
    /// Read where a wish to be called back is decided about.
    pub promise: Option<Promise>,
}

/// What a wish to be called back is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    pub now: DateTime<Utc>,
    /// How often the callee of this call has put it off before.
    pub before: i16,
}

impl Facts {
    /// The facts after a settlement of an open attempt was written.
    #[must_use]
    pub fn after(mut self, done: &Settlement) -> Self {
        self.revision += 1;
        self.state = done.state.unwrap_or(self.state);
        self.weight = done.weight.unwrap_or(self.weight);
        self.misses = done.misses;
        self.told = done.told.clone().or(self.told);
        self.provider_call_id = done.provider_call_id.clone().or(self.provider_call_id);
        self.known.carrier_call |= done.carrier_call_id.is_some();
        self.known.started |= done.started;
        self.known.duration |= done.duration_secs.is_some();
        self.known.billed |= done.billed;
        self.known.summary |= done.summary.is_some();
        self.known.cause |= done.hangup_cause.is_some();
        self.known.transcript |= done.transcript.is_some();
        if done.dialed {
            self.dialed = true;
            self.dials += 1;
        }
        self
    }
}

/// Details of an attempt that some word has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    pub carrier_call: bool,
    pub started: bool,
    pub duration: bool,
    /// The duration is what the provider bills.
    pub billed: bool,
    pub cause: bool,
    pub transcript: bool,
    pub summary: bool,
}

/// A decided change, made on `facts` of that revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Settlement {
    pub attempt_id: AttemptId,
    pub revision: i32,
    /// None: stays.
    pub state: Option<AttemptState>,
    pub provider_call_id: Option<String>,
    pub carrier_call_id: Option<String>,
    /// Counts one more dial.
    pub dialed: bool,
    pub weight: Option<Weight>,
    pub disposition: Option<Disposition>,
    pub hangup_cause: Option<String>,
    pub duration_secs: Option<i32>,
    pub told: Option<RawJson>,
    /// The duration is what the provider bills.
    pub billed: bool,
    pub transcript: Option<String>,
    pub summary: Option<String>,
    pub misses: i16,
    pub started: bool,
    /// The request may have left so many seconds ago.
    pub sent_secs_ago: Option<f64>,
    pub check_in_secs: Option<f64>,
    /// The provider is to be asked for the record in so many seconds; infinity: nothing is missing.
    pub record_in_secs: Option<f64>,
    /// The call's state in the facts: the fence.
    pub call_was: CallState,
    /// The call's rank in the facts.
    pub rank_was: i16,
    pub call: Option<CallChange>,
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CallChange {
    pub becomes: CallState,
    /// For a call that waits again: in so many seconds, or at a time, or as it was.
    pub due_in_secs: Option<f64>,
    pub due_at: Option<DateTime<Utc>>,
    pub rank: Option<i16>,
    pub dials_max: Option<i16>,
}

/// What was written for one settlement. One that has none was not applied: somebody else came first; decide again.
#[derive(Clone, Debug)]
pub struct Settled {
    pub attempt_id: AttemptId,
    pub call_id: CallId,
    /// The slot is free.
    pub ends: bool,
    pub since_claim_secs: f64,
}

/// An event to be kept.
#[derive(Clone, Debug)]
pub struct Event {
    pub attempt_id: AttemptId,
    /// The provider's event id, else type and hash of the body.
    pub key: String,
    pub kind: &'static str,
    pub source: &'static str,
    pub body: Value,
}

/// The facts about these attempts; those that do not exist are missing.
///
/// # Errors
/// Postgres is away.
pub async fn facts(connection: &mut PgConnection, attempts: &[AttemptId]) -> sqlx::Result<Vec<Facts>> {
    let rows = sqlx::query_file!("sql/queue/facts.sql", attempts as _).fetch_all(connection).await?;
    let facts = rows.into_iter().map(|row| Facts {
        attempt_id: AttemptId(row.id),
        call_id: CallId(row.call_id),
        revision: row.revision,
        state: row.state,
        dialed: row.dialed,
        weight: Weight::of_sql(row.weight),
        misses: row.misses,
        told: row.told,
        provider_call_id: row.provider_call_id,
        known: Known {
            carrier_call: row.has_carrier_call,
            started: row.started,
            duration: row.has_duration,
            billed: row.billed,
            cause: row.has_cause,
            transcript: row.has_transcript,
            summary: row.has_summary,
        },
        unheard_secs: row.unheard_secs,
        call_state: row.call_state,
        newest: row.newest,
        dials: row.dials,
        dials_max: row.dials_max,
        priority: row.priority,
        rank: row.rank,
        cancel_requested: row.cancel_requested,
        retry_delay_secs: row.retry_delay_secs,
        retry_rules: row.retry_rules,
        promise: None,
    });
    Ok(facts.collect())
}

/// What wishes to be called back in these attempts are judged by.
///
/// # Errors
/// Postgres is away.
pub async fn promises(
    connection: &mut PgConnection,
    attempts: &[AttemptId],
) -> sqlx::Result<Vec<(AttemptId, Promise)>> {
    let rows = sqlx::query_file!("sql/queue/promises.sql", attempts as _).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (AttemptId(row.id), Promise { now: row.now, before: row.before })).collect())
}

/// Which attempts these ids of the provider mean.
///
/// # Errors
/// Postgres is away.
pub async fn resolve(
    connection: &mut PgConnection,
    provider_call_ids: &[String],
) -> sqlx::Result<Vec<(String, AttemptId)>> {
    let rows = sqlx::query_file!("sql/queue/resolve.sql", provider_call_ids).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.provider_call_id, AttemptId(row.id))).collect())
}

/// Writes a batch of decisions and events, frees what they free, and wakes what that wakes. Needs the admission lock,
/// alone. A second delivery of an event adds nothing.
///
/// # Errors
/// Postgres is away.
pub async fn settle(
    connection: &mut PgConnection,
    mut batch: Vec<Settlement>,
    events: &[Event],
) -> sqlx::Result<Vec<Settled>> {
    if batch.is_empty() && events.is_empty() {
        return Ok(Vec::new());
    }
    // Rows are locked in id order, so that two settlers never wait for each other.
    batch.sort_by_key(|settlement| settlement.attempt_id);
    let rows = write(connection, &batch, events).await?;
    let waits: HashMap<AttemptId, i16> = batch
        .iter()
        .filter_map(|s| {
            Some((s.attempt_id, s.call.filter(|call| call.becomes == CallState::Waiting)?.rank.unwrap_or(s.rank_was)))
        })
        .collect();
    let mut parked_behind = Vec::new();
    let mut users: Vec<UserId> = Vec::new();
    let mut campaigns: Vec<CampaignId> = Vec::new();
    let mut wakes = Vec::new();
    let mut settled = Vec::with_capacity(rows.len());
    let asked: HashSet<AttemptId> = batch
        .iter()
        .filter(|settlement| settlement.disposition == Some(Disposition::DoNotCall))
        .map(|settlement| settlement.attempt_id)
        .collect();
    let mut not_to_call: Vec<(UserId, String)> = Vec::new();
    for row in rows {
        let attempt_id = AttemptId(row.attempt_id);
        if asked.contains(&attempt_id) {
            not_to_call.push((UserId(row.user_id), row.phone.clone()));
        }
        if let Some(rank) = waits.get(&attempt_id) {
            wakes.push(Wake { lane_id: LaneId(row.lane_id), at: row.due_at, rank: *rank });
        }
        if row.parked_behind {
            parked_behind.push(row.phone);
        }
        if row.blocked_behind {
            users.push(UserId(row.user_id));
            campaigns.extend(row.campaign_id.map(CampaignId));
        }
        settled.push(Settled {
            attempt_id,
            call_id: CallId(row.call_id),
            ends: row.ends,
            since_claim_secs: row.since_claim_secs,
        });
    }
    for (user, phone) in not_to_call {
        // Whoever asks not to be called is not called again by what waits already.
        suppress_on(connection, user, &[phone], Some("asked during a call"), Because::Asked).await?;
    }
    unpark(connection, &parked_behind).await?;
    if !users.is_empty() {
        free(connection, &users, &campaigns).await?;
    }
    wake(connection, &wakes).await?;
    Ok(settled)
}

/// A row of sql/queue/settle.sql.
struct Row {
    attempt_id: Uuid,
    call_id: Uuid,
    phone: String,
    user_id: Uuid,
    lane_id: Uuid,
    campaign_id: Option<Uuid>,
    ends: bool,
    /// When a call that waits again is due; none: at once, or as it was.
    due_at: Option<DateTime<Utc>>,
    since_claim_secs: f64,
    parked_behind: bool,
    blocked_behind: bool,
}

async fn write(connection: &mut PgConnection, batch: &[Settlement], events: &[Event]) -> sqlx::Result<Vec<Row>> {
    fn column<R, T>(rows: &[R], field: impl Fn(&R) -> T) -> Vec<T> {
        rows.iter().map(field).collect()
    }
    sqlx::query_file_as!(
        Row,
        "sql/queue/settle.sql",
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
    )
    .fetch_all(connection)
    .await
}

/// Wakes lanes and users that slept because these users or campaigns were at their limit.
///
/// # Errors
/// Postgres is away.
pub async fn free(connection: &mut PgConnection, users: &[UserId], campaigns: &[CampaignId]) -> sqlx::Result<()> {
    sqlx::query_file!("sql/queue/free.sql", users as _, campaigns as _).execute(connection).await?;
    Ok(())
}
