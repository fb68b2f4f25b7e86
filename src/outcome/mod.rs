//! What is said about a call, and what that means: the one place where executor, webhooks and rescue meet.
//!
//! [`inbox::Inbox`] collects what was heard; [`turn`] decides on what is known of each attempt ([`decide::decide`], pure) and has it
//! written down, fenced by what it was decided on. **Invariant:** never asks a provider, never answers HTTP.

pub mod decide;
pub mod inbox;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, PgPool};

use crate::db::fault;
use crate::domain::call::AttemptState;
use crate::domain::disposition::Disposition;
use crate::domain::ids::{AttemptId, new_id, splitmix};
use crate::domain::raw_json::RawJson;
use crate::domain::word::{Outcome, Word};
use crate::outcome::decide::{Rules, decide};
use crate::outcome::inbox::{Batch, Heard, Inbox, Meant};
use crate::queue::{self, Claim, Event, Facts, Failed, Full, Room, Settled, Settlement, Stage, Stray, Work};

/// What became of something heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// It changed the attempt.
    Applied,
    /// It was known already, or outweighed.
    Unchanged,
    /// Kept until its call is known.
    Stray,
    /// It cannot be stored as an event: kept among the dead letters.
    SetAside,
}

/// What a settling did, in the order of what was heard.
#[derive(Debug, Default)]
pub struct Report {
    pub became: Vec<Became>,
    /// Attempts that hold no slot any more.
    pub ended: Vec<AttemptId>,
}

/// Facts about attempts this process follows, as it left them. A hint that saves a look-up: every write is fenced by the
/// revision it was decided on, and what somebody else changed is read anew.
pub type Memory = HashMap<AttemptId, Facts>;

/// Stores what was heard, decides, and writes it down. When the transaction it is in does not commit, `memory` must be cleared.
///
/// # Errors
/// Postgres is away; nothing was settled.
pub async fn settle(
    connection: &mut PgConnection,
    heard: &[Heard],
    rules: &Rules,
    memory: &mut Memory,
) -> sqlx::Result<Report> {
    turn(connection, heard, rules, memory, None).await.map(|(report, _)| report).map_err(|failed| failed.error)
}

/// [`settle`], and claims what is due in the same transaction ([`queue::turn()`]). Facts are read, and decided upon, before that: each write
/// is fenced by the revision of its facts, so that nobody waits for our thinking with the lock in hand.
///
/// # Errors
/// Postgres is away, or refused a value. Of several words about one attempt the first may have been settled; they may be said again.
pub async fn turn(
    connection: &mut PgConnection,
    heard: &[Heard],
    rules: &Rules,
    memory: &mut Memory,
    mut room: Option<Room<'_>>,
) -> Result<(Report, Claim), Failed> {
    let reading = |error| Failed { stage: Stage::Settling, error };
    let attempts = whom_it_concerns(connection, heard).await.map_err(reading)?;
    let unknown = distinct(attempts.iter().flatten().filter(|attempt| !memory.contains_key(attempt)));
    refresh(connection, &unknown, memory).await.map_err(reading)?;
    let mut report = Report { became: vec![Became::Stray; heard.len()], ended: Vec::new() };
    keep_strays(connection, heard, &attempts, memory).await.map_err(reading)?;
    let mut events = events_of(heard, &attempts, memory);
    // Several words about one attempt are taken one after the other, each on the facts the one before left.
    let mut left: Positions = attempts
        .iter()
        .enumerate()
        .filter_map(|(nth, attempt)| Some((nth, attempt.filter(|attempt| memory.contains_key(attempt))?)))
        .collect();
    drop_what_an_end_says_too(&mut left, heard, &mut report);
    let mut claim = Claim::default();
    while !left.is_empty() || !events.is_empty() || room.is_some() {
        // What the round before ended, or left in doubt, is read anew.
        let forgotten =
            distinct(left.iter().map(|(_, attempt)| attempt).filter(|attempt| !memory.contains_key(attempt)));
        refresh(connection, &forgotten, memory).await.map_err(reading)?;
        let (round, later) = first_of_each(&left);
        learn_of_promises(connection, &round, heard, memory).await.map_err(reading)?;
        let batch = decide_round(&round, heard, memory, rules, &mut report);
        let work = Work {
            settlements: batch.iter().map(|(_, settlement)| settlement.clone()).collect(),
            events: std::mem::take(&mut events),
            full: full_of(&batch, heard, rules),
        };
        left = Vec::new();
        // What is freed last is claimed with it.
        let room = room.take_if(|_| later.is_empty());
        if room.is_some() || !work.settlements.is_empty() || !work.events.is_empty() {
            let claims = room.is_some();
            let (settled, claimed) = queue::turn(connection, work, room).await?;
            if claims {
                claim = claimed;
            }
            left = note(connection, batch, settled, memory, &mut report).await.map_err(reading)?;
        }
        left.extend(later);
    }
    Ok((report, claim))
}

/// A provider that is full, or whose carrier is, is left alone for a while by every process, and asked for fewer calls at once: from the
/// claim on that comes in the same transaction.
fn full_of(batch: &[(usize, Settlement)], heard: &[Heard], rules: &Rules) -> Option<Full> {
    let full = batch.iter().filter_map(|(nth, settlement)| {
        let hold = match heard.get(*nth)?.word {
            Word::Capacity { retry_after_ms } => Duration::from_millis(retry_after_ms),
            Word::TurnedAway { full: true, .. } => rules.full_hold,
            _ => return None,
        };
        Some((settlement.attempt_id, hold))
    });
    let (refused, holds): (Vec<AttemptId>, Vec<Duration>) = full.unzip();
    let hold = holds.into_iter().max()?;
    Some(Full { refused, hold, recovery: rules.ceiling_recovery, global_limit: rules.global_limit })
}

/// Where a word, or what was told before it, wishes for another call: what that is judged by.
async fn learn_of_promises(
    connection: &mut PgConnection,
    round: &[(usize, AttemptId)],
    heard: &[Heard],
    memory: &mut Memory,
) -> sqlx::Result<()> {
    let wishes = round.iter().filter(|(nth, attempt)| {
        let told = memory.get(attempt).and_then(|facts| facts.told.as_ref()).and_then(RawJson::read::<Outcome>);
        let outcome = match heard.get(*nth).map(|heard| &heard.word) {
            Some(Word::Told { outcome }) => Some(outcome),
            Some(Word::Ended(ended)) => ended.outcome.as_ref(),
            _ => None,
        };
        [told.as_ref(), outcome].into_iter().flatten().any(|outcome| outcome.callback_time.is_some())
    });
    let wishes = distinct(wishes.map(|(_, attempt)| attempt));
    if wishes.is_empty() {
        return Ok(());
    }
    for (attempt, promise) in queue::promises(connection, &wishes).await? {
        if let Some(facts) = memory.get_mut(&attempt) {
            facts.promise = Some(promise);
        }
    }
    Ok(())
}

/// Reads facts anew. What is remembered of an attempt that is there no more is forgotten: it would be decided about for ever.
async fn refresh(connection: &mut PgConnection, attempts: &[AttemptId], memory: &mut Memory) -> sqlx::Result<()> {
    if !attempts.is_empty() {
        let fresh = queue::facts(connection, attempts).await?;
        for attempt in attempts {
            memory.remove(attempt);
        }
        memory.extend(fresh.into_iter().map(|facts| (facts.attempt_id, facts)));
    }
    Ok(())
}

/// [`settle`] for whoever settles beside the worker loop (`outdial reconcile`).
///
/// # Errors
/// Postgres is away; nothing was settled.
pub async fn settle_alone(pool: &PgPool, heard: &[Heard], rules: &Rules) -> sqlx::Result<Report> {
    let mut connection = pool.acquire().await?;
    settle(&mut connection, heard, rules, &mut Memory::new()).await
}

/// Our attempt's id first, then the provider's.
async fn whom_it_concerns(connection: &mut PgConnection, heard: &[Heard]) -> sqlx::Result<Vec<Option<AttemptId>>> {
    let names: Vec<String> = heard
        .iter()
        .filter_map(|heard| match &heard.about {
            Meant::Attempt(_) => None,
            Meant::ProviderCall(id) => Some(id.clone()),
        })
        .collect();
    let by_name: HashMap<String, AttemptId> =
        if names.is_empty() { HashMap::new() } else { queue::resolve(connection, &names).await?.into_iter().collect() };
    let concerned = heard.iter().map(|heard| match &heard.about {
        Meant::Attempt(id) => Some(*id),
        Meant::ProviderCall(id) => by_name.get(id).copied(),
    });
    Ok(concerned.collect())
}

async fn keep_strays(
    connection: &mut PgConnection,
    heard: &[Heard],
    attempts: &[Option<AttemptId>],
    facts: &Memory,
) -> sqlx::Result<()> {
    let unknown = heard.iter().zip(attempts).filter(|(_, attempt)| attempt.is_none_or(|id| !facts.contains_key(&id)));
    let strays: Vec<Stray> = unknown
        .map(|(heard, attempt)| Stray {
            id: new_id(),
            attempt_id: *attempt,
            provider_call_id: match &heard.about {
                Meant::Attempt(_) => None,
                Meant::ProviderCall(id) => Some(id.clone()),
            },
            key: key_of(heard),
            word: RawJson::of(&heard.word),
        })
        .collect();
    if strays.is_empty() { Ok(()) } else { queue::record_strays(connection, &strays).await }
}

fn events_of(heard: &[Heard], attempts: &[Option<AttemptId>], facts: &Memory) -> Vec<Event> {
    let evidence = heard.iter().zip(attempts).filter(|(heard, _)| heard.is_evidence());
    evidence
        .filter_map(|(heard, attempt)| {
            Some(Event {
                attempt_id: attempt.filter(|id| facts.contains_key(id))?,
                key: key_of(heard),
                kind: heard.word.event_type(),
                source: heard.source,
                body: heard.body.clone().unwrap_or_else(|| json!(heard.word)),
            })
        })
        .collect()
}

/// The sender's id of the event, else its type and the hash of what it says.
fn key_of(heard: &Heard) -> String {
    if let Some(key) = &heard.key {
        return key.clone();
    }
    let said = heard.body.clone().unwrap_or_else(|| json!(heard.word));
    let hash = Sha256::digest(said.to_string().as_bytes());
    let short: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("{}:{short}", heard.word.event_type())
}

type Positions = Vec<(usize, AttemptId)>;

/// An acceptance beside the end of the same call adds nothing, when the end names the provider's call: one write instead of two.
fn drop_what_an_end_says_too(left: &mut Positions, heard: &[Heard], report: &mut Report) {
    let word_of = |nth: usize| heard.get(nth).map(|heard| &heard.word);
    let ended: HashSet<AttemptId> = left
        .iter()
        .filter(|(nth, _)| matches!(word_of(*nth), Some(Word::Ended(ended)) if ended.provider_call_id.is_some()))
        .map(|(_, attempt)| *attempt)
        .collect();
    left.retain(|(nth, attempt)| {
        let said_too = ended.contains(attempt) && matches!(word_of(*nth), Some(Word::Accepted { .. }));
        if said_too {
            mark(report, *nth, Became::Unchanged);
        }
        !said_too
    });
}

/// The first word about each attempt, and the rest.
fn first_of_each(left: &[(usize, AttemptId)]) -> (Positions, Positions) {
    let mut seen = HashSet::new();
    left.iter().partition(|(_, attempt)| seen.insert(*attempt))
}

fn decide_round(
    round: &[(usize, AttemptId)],
    heard: &[Heard],
    facts: &Memory,
    rules: &Rules,
    report: &mut Report,
) -> Vec<(usize, Settlement)> {
    let mut batch = Vec::with_capacity(round.len());
    for (nth, attempt) in round {
        let (Some(heard), Some(facts)) = (heard.get(*nth), facts.get(attempt)) else {
            continue;
        };
        match decide(facts, &heard.word, rules, dice_of(*attempt)) {
            Some(settlement) => batch.push((*nth, settlement)),
            None => mark(report, *nth, Became::Unchanged),
        }
    }
    batch
}

/// Notes what was written of a round; returns what somebody else was faster with, to be decided again on fresh facts.
async fn note(
    connection: &mut PgConnection,
    batch: Vec<(usize, Settlement)>,
    settled: Vec<Settled>,
    memory: &mut Memory,
    report: &mut Report,
) -> sqlx::Result<Positions> {
    let mut left: HashMap<AttemptId, (usize, Settlement)> =
        batch.into_iter().map(|(nth, settlement)| (settlement.attempt_id, (nth, settlement))).collect();
    for row in settled {
        let Some((nth, settlement)) = left.remove(&row.attempt_id) else { continue };
        mark(report, nth, Became::Applied);
        if row.ends {
            report.ended.push(row.attempt_id);
            log_end(&row, &settlement);
        }
        // What has ended or is in doubt is read anew if anybody speaks of it again: there, time is a fact too.
        if let Some(facts) = memory.remove(&row.attempt_id) {
            let facts = facts.after(&settlement);
            if matches!(facts.state, AttemptState::Dialing | AttemptState::Accepted) {
                memory.insert(row.attempt_id, facts);
            }
        }
    }
    refresh(connection, &distinct(left.keys()), memory).await?;
    Ok(left.into_iter().map(|(attempt, (nth, _))| (nth, attempt)).collect())
}

fn log_end(row: &Settled, settlement: &Settlement) {
    let disposition = settlement.disposition.map_or("NONE", Disposition::as_str);
    metrics::counter!("outdial_outcomes_total", "disposition" => disposition).increment(1);
    tracing::info!(
        attempt.id = %row.attempt_id,
        call.id = %row.call_id,
        disposition,
        call.status = settlement.call.map(|call| call.becomes.status().as_str()),
        after_secs = row.since_claim_secs,
        "attempt ended"
    );
}

fn mark(report: &mut Report, nth: usize, became: Became) {
    if let Some(slot) = report.became.get_mut(nth) {
        *slot = became;
    }
}

/// The jitter of an attempt: always the same for the same attempt, spread over all of them.
fn dice_of(attempt: AttemptId) -> f64 {
    let (high, low) = attempt.0.as_u64_pair();
    let bits = u32::try_from(splitmix(high ^ splitmix(low)) >> 32).unwrap_or_default();
    f64::from(bits) / f64::from(u32::MAX)
}

fn distinct<'a>(ids: impl Iterator<Item = &'a AttemptId>) -> Vec<AttemptId> {
    let mut all: Vec<AttemptId> = ids.copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Why a batch did not settle.
#[derive(Debug)]
pub enum Unsettled {
    /// It did not begin: nothing of it is to blame.
    NotBegun(sqlx::Error),
    Failed(sqlx::Error),
    /// Something in it made our own code panic.
    Panicked,
}

/// Brings a batch to its end, for every role alike: settled, tried again in parts, set aside when it is the one that cannot be stored,
/// held back when it is the one whose row somebody holds, or kept until Postgres is back. False: Postgres is away; wait before the next try.
pub async fn conclude(pool: &PgPool, inbox: &Inbox, batch: Batch, result: Result<&Report, Unsettled>) -> bool {
    let detail = match result {
        Ok(report) => {
            batch.settled(inbox, report);
            return true;
        }
        Err(Unsettled::Failed(error)) if fault::is_of_the_rows(&error) && batch.heard.len() == 1 => {
            tracing::warn!(%error, about = ?batch.heard.first().map(|heard| &heard.about),
                "another session holds a row of what was heard; it is tried again");
            batch.held_back(inbox);
            return true;
        }
        Err(Unsettled::Failed(error)) if fault::is_of_the_values(&error) || fault::is_of_the_rows(&error) => {
            error.to_string()
        }
        Err(Unsettled::Failed(error) | Unsettled::NotBegun(error)) => {
            tracing::warn!(%error, "what was heard is not settled yet; it is kept");
            batch.failed(inbox);
            return false;
        }
        Err(Unsettled::Panicked) => "our own code panicked".to_owned(),
    };
    if batch.heard.len() > 1 {
        tracing::warn!(error = detail, events = batch.heard.len(), "a batch was refused; its halves are tried");
        batch.suspected(inbox);
        return true;
    }
    let Some(heard) = batch.heard.first() else { return true };
    match set_aside(pool, heard, &detail).await {
        Ok(()) => {
            batch.set_aside();
            true
        }
        Err(error) => {
            tracing::warn!(%error, "an event could not be set aside yet; it is kept");
            batch.failed(inbox);
            false
        }
    }
}

/// Keeps what cannot be stored as an event; its attempt, if open, is asked about.
async fn set_aside(pool: &PgPool, heard: &Heard, detail: &str) -> sqlx::Result<()> {
    let (attempt, call) = match &heard.about {
        Meant::Attempt(id) => (Some(*id), None),
        Meant::ProviderCall(id) => (None, Some(id.as_str())),
    };
    tracing::error!(attempt.id = ?attempt, kind = heard.word.event_type(), source = heard.source, error = detail,
        "an event cannot be stored; it is set aside (ops.dead_letters) and its attempt is asked about");
    let body = json!({"word": heard.word, "source": heard.source, "key": heard.key, "body": heard.body}).to_string();
    queue::set_aside_event(pool, attempt, call, detail, &body.replace("\\u0000", "")).await
}

/// Applies stray events whose call is known by now; returns how many.
///
/// # Errors
/// Postgres is away; the strays stay.
pub async fn sweep_strays(pool: &PgPool, inbox: &Inbox, limit: i64) -> sqlx::Result<usize> {
    let strays = queue::match_strays(pool, limit).await?;
    let mut applied = Vec::new();
    for stray in strays {
        let Some(attempt) = stray.attempt_id else { continue };
        let Some(word) = stray.word.read::<Word>() else {
            tracing::error!(attempt.id = %attempt, "a kept event cannot be read; it is set aside (ops.dead_letters)");
            queue::set_aside_event(pool, Some(attempt), None, "a kept event cannot be read", stray.word.as_str())
                .await?;
            applied.push(stray.id);
            continue;
        };
        let heard = Heard { key: Some(stray.key), ..Heard::about(attempt, word, "stray") };
        if inbox.hear(heard).await.is_ok() {
            applied.push(stray.id);
        }
    }
    queue::delete_strays(pool, &applied).await?;
    Ok(applied.len())
}

/// A value for the event store: NUL bytes, which jsonb cannot hold, are replaced.
#[must_use]
pub fn storable(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "\u{fffd}")),
        Value::Array(items) => Value::Array(items.into_iter().map(storable).collect()),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(k, v)| (k.replace('\0', "\u{fffd}"), storable(v))).collect())
        }
        other => other,
    }
}
