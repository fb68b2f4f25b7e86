//! What a decision rests on, and what is written of it. It is written by [`crate::queue::turn()`], fenced by the revision of the facts.

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::PgConnection;

use crate::domain::call::{AttemptState, CallState};
use crate::domain::disposition::Disposition;
use crate::domain::ids::{AttemptId, CallId};
use crate::domain::raw_json::RawJson;
use crate::domain::word::Weight;

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
