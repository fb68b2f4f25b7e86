//! The decision: what a word about an attempt means for the attempt and its call. Pure and total.
//!
//! The same words in any order, any number of times, lead to the same end: an explicit outcome outweighs a carrier cause, which
//! outweighs a bare status, which outweighs our own conclusion; of equal weight the first stands (the tests shuffle them).
//! A late word corrects an attempt that has ended, and its call as long as nothing newer was dialed.

use std::time::Duration;

use crate::domain::call::{AttemptState, CallState, rank};
use crate::domain::disposition::{Class, Disposition};
use crate::domain::raw_json::RawJson;
use crate::domain::retry::{Policy, UserRule};
use crate::domain::word::{Ended, Outcome, Record, Weight, Word, shortened};
use crate::queue::{CallChange, Facts, Settlement};

/// The settings a decision follows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    pub retry: Policy,
    /// Divides a campaign's own delays too (the simulator's speed).
    pub time_divisor: f64,
    /// How long a request may take to arrive after it left.
    pub dial_timeout: Duration,
    /// A look-up that finds nothing counts only so long after that.
    pub lookup_grace: Duration,
    /// How often the provider is asked about a silent call.
    pub inquiry: Duration,
    /// Dials in one round, for a promised callback.
    pub max_attempts: i16,
    /// Times the callee of one call may put it off.
    pub callbacks_max: i16,
    /// The provider is asked for its record so long after a call has ended; none: it keeps none.
    pub record_after: Option<Duration>,
    /// How long nothing is dialed when the carrier turned a call away because our account is full,
    pub full_hold: Duration,
    /// how many live calls there may be when nobody is full,
    pub global_limit: i32,
    /// and how long a learned ceiling takes to rise to that again.
    pub ceiling_recovery: Duration,
}

/// Look-ups in a row that must find nothing before an attempt in doubt is released.
const MISSES_NEEDED: i16 = 2;
/// After so many dials, or as many as the cause says, being turned away costs an attempt like any other failure: it may be the number
/// after all.
const TURNED_AWAY_MAX: i16 = 10;
/// The hangup cause of an attempt whose first step was taken, and of which nothing is found any more.
const GONE: &str = "gone";
/// When one side of a call is over the provider is asked about the whole after so many seconds.
const ONE_SIDE_OVER_CHECK_SECS: f64 = 0.2;

/// What to write for this word on these facts; none: nothing changes.
#[must_use]
pub fn decide(facts: &Facts, word: &Word, rules: &Rules, dice: f64) -> Option<Settlement> {
    match word {
        Word::Accepted { provider_call_id, carrier_call_id } => {
            accepted(facts, provider_call_id.clone(), carrier_call_id.clone(), rules)
        }
        Word::Prepared { provider_call_id } => prepared(facts, provider_call_id),
        Word::OneSideOver { by_carrier, hangup_cause } => {
            one_side_over(facts, *by_carrier, hangup_cause.as_ref(), rules)
        }
        Word::Lapsed { hangup_cause } => lapsed(facts, hangup_cause, rules, dice),
        Word::Recorded(record) => recorded(facts, record),
        Word::Started => started(facts, rules),
        Word::Told { outcome } => told(facts, outcome, rules, dice),
        Word::TurnedAway { hangup_cause, dials_max, .. } => {
            turned_away(facts, hangup_cause.as_deref(), dials_max.unwrap_or(TURNED_AWAY_MAX), rules, dice)
        }
        Word::Ended(ended) => over(facts, ended, rules, dice),
        // What was refused has no record.
        Word::Refused { reason, wrong_number } => {
            let disposition = if *wrong_number { Disposition::WrongNumber } else { Disposition::Refused };
            over(facts, &ours(disposition, Weight::Status, reason), rules, dice)
                .filter(|_| facts.state != AttemptState::Ended)
                .map(|refused| Settlement { record_in_secs: None, ..refused })
        }
        Word::Overdue => over(facts, &ours(Disposition::Unknown, Weight::Ours, "maximum call time"), rules, dice)
            .filter(|_| facts.state != AttemptState::Ended),
        Word::Capacity { .. } => released(facts, None).map(|free| because(free, "full")),
        // Behind those that are due already: the next to try whether the provider is back is another.
        Word::NotSent { reason } => released(facts, None).map(|free| because(later(free, 0.0), reason)),
        Word::Barred { reason, again_secs } => {
            released(facts, None).map(|free| because(later(free, *again_secs), reason))
        }
        Word::Withheld { bar, detail } => {
            let free = released(facts, Some(bar));
            match detail {
                Some(detail) => free.map(|free| because(free, &format!("{bar} {detail}"))),
                None => free,
            }
        }
        Word::Doubt { sent_ms_ago, .. } => doubted(facts, *sent_ms_ago),
        Word::NotFound => missed(facts, rules, dice),
    }
}

/// A conclusion of ours, in the shape of a provider's.
fn ours(disposition: Disposition, weight: Weight, cause: &str) -> Ended {
    Ended { hangup_cause: Some(shortened(cause)), ..Ended::of(disposition, weight) }
}

/// A settlement that changes nothing yet.
fn same(facts: &Facts) -> Settlement {
    Settlement {
        attempt_id: facts.attempt_id,
        revision: facts.revision,
        state: None,
        provider_call_id: None,
        carrier_call_id: None,
        dialed: false,
        weight: None,
        disposition: None,
        hangup_cause: None,
        duration_secs: None,
        told: None,
        billed: false,
        transcript: None,
        summary: None,
        misses: facts.misses,
        started: false,
        sent_secs_ago: None,
        check_in_secs: None,
        record_in_secs: None,
        call_was: facts.call_state,
        call: None,
    }
}

/// The provider has it. An attempt in doubt is adopted by this.
fn accepted(
    facts: &Facts,
    provider_call_id: Option<String>,
    carrier_call_id: Option<String>,
    rules: &Rules,
) -> Option<Settlement> {
    let fresh = matches!(facts.state, AttemptState::Dialing | AttemptState::Unknown);
    let provider_call_id = provider_call_id.filter(|_| facts.provider_call_id.is_none());
    let carrier_call_id = carrier_call_id.filter(|_| !facts.known.carrier_call);
    (fresh || provider_call_id.is_some() || carrier_call_id.is_some()).then(|| Settlement {
        state: fresh.then_some(AttemptState::Accepted),
        dialed: !facts.dialed && fresh,
        provider_call_id,
        carrier_call_id,
        check_in_secs: fresh.then_some(rules.inquiry.as_secs_f64()),
        misses: 0,
        ..same(facts)
    })
}

/// The first of two steps is done. Only while we still may take the second: what is in doubt is not dialed any more.
fn prepared(facts: &Facts, provider_call_id: &str) -> Option<Settlement> {
    (facts.state == AttemptState::Dialing && facts.provider_call_id.is_none())
        .then(|| Settlement { provider_call_id: Some(provider_call_id.to_owned()), ..same(facts) })
}

/// Nobody has joined what was prepared. Where the carrier may have been asked, the phone may have rung: that was a dial. It was not
/// asked when not even the first step was written down, for that comes first.
fn lapsed(facts: &Facts, cause: &str, rules: &Rules, dice: f64) -> Option<Settlement> {
    match facts.state {
        AttemptState::Unknown if facts.provider_call_id.is_none() => released(facts, None),
        AttemptState::Unknown | AttemptState::Accepted => {
            over(facts, &ours(Disposition::NoAnswer, Weight::Status, cause), rules, dice)
        }
        AttemptState::Dialing | AttemptState::Ended => None,
    }
}

/// Nobody's phone rang. The call waits again, and for the dial that counted it is granted another, a few times.
fn turned_away(facts: &Facts, cause: Option<&str>, dials_max: i16, rules: &Rules, dice: f64) -> Option<Settlement> {
    if facts.state == AttemptState::Ended || facts.known.started {
        return None;
    }
    let failed = over(facts, &ours(Disposition::Failed, Weight::Cause, cause.unwrap_or_default()), rules, dice)?;
    let dials = facts.dials + i16::from(failed.dialed);
    let again = facts.newest && !facts.cancel_requested && dials <= dials_max;
    let call = CallChange {
        due_in_secs: Some(rules.retry.base.as_secs_f64()),
        rank: Some(rank::of_retry(facts.priority)),
        dials_max: Some(facts.dials_max.saturating_add(1)),
        ..becomes(CallState::Waiting)
    };
    // What was turned away before the carrier had it has no record.
    let unheard = facts.state == AttemptState::Dialing && !facts.known.carrier_call;
    let record_in_secs = failed.record_in_secs.filter(|_| !unheard);
    Some(Settlement { call: if again { Some(call) } else { failed.call }, record_in_secs, ..failed })
}

/// The carrier or the agent has let go: the provider is asked soon what that makes of the call.
fn one_side_over(facts: &Facts, by_carrier: bool, cause: Option<&String>, rules: &Rules) -> Option<Settlement> {
    let asks = match facts.state {
        AttemptState::Ended => false,
        AttemptState::Dialing => by_carrier,
        AttemptState::Accepted | AttemptState::Unknown => true,
    };
    if !asks {
        return None;
    }
    let adopted = accepted(facts, None, None, rules).filter(|_| by_carrier).unwrap_or_else(|| same(facts));
    let hangup_cause = cause.filter(|_| !facts.known.cause).cloned();
    Some(Settlement { hangup_cause, check_in_secs: Some(ONE_SIDE_OVER_CHECK_SECS), ..adopted })
}

/// What the provider has on record fills in what is missing; what it bills outweighs what was measured.
fn recorded(facts: &Facts, record: &Record) -> Option<Settlement> {
    let billed_secs = record.billed_secs.filter(|_| !facts.known.billed);
    let more = Settlement {
        duration_secs: billed_secs,
        billed: billed_secs.is_some(),
        transcript: record.transcript.clone().filter(|_| !facts.known.transcript),
        summary: record.summary.clone().filter(|_| !facts.known.summary),
        record_in_secs: (record.complete && facts.state == AttemptState::Ended).then_some(f64::INFINITY),
        ..same(facts)
    };
    (more != same(facts)).then_some(more)
}

/// Somebody is talking: it is accepted, whatever we knew.
fn started(facts: &Facts, rules: &Rules) -> Option<Settlement> {
    if facts.state == AttemptState::Ended || facts.known.started {
        return None;
    }
    let adopted = accepted(facts, None, None, rules).unwrap_or_else(|| same(facts));
    Some(Settlement { started: true, ..adopted })
}

/// An outcome told during the call acts when the call ends; told after its end, it corrects.
fn told(facts: &Facts, outcome: &Outcome, rules: &Rules, dice: f64) -> Option<Settlement> {
    if facts.state == AttemptState::Ended {
        let ended = Ended { outcome: Some(outcome.clone()), ..ours(outcome.disposition, outcome.weight, "told") };
        return over(facts, &Ended { hangup_cause: None, ..ended }, rules, dice);
    }
    if told_before(facts).is_some_and(|before| before.weight >= outcome.weight) {
        return None;
    }
    let adopted = accepted(facts, None, None, rules).unwrap_or_else(|| same(facts));
    Some(Settlement { told: Some(RawJson::of(outcome)), ..adopted })
}

/// The call is over, or turns out to have been over differently.
fn over(facts: &Facts, ended: &Ended, rules: &Rules, dice: f64) -> Option<Settlement> {
    let ended = &with_what_was_told(facts, ended);
    let corrects = facts.state == AttemptState::Ended;
    if corrects && ended.weight <= facts.weight {
        return filled_in(facts, ended);
    }
    let counts = !facts.dialed;
    let change = if facts.newest { call_after(facts, ended, rules, dice, counts) } else { None };
    Some(Settlement {
        state: (!corrects).then_some(AttemptState::Ended),
        provider_call_id: ended.provider_call_id.clone().filter(|_| facts.provider_call_id.is_none()),
        dialed: counts,
        weight: Some(ended.weight),
        disposition: Some(ended.disposition),
        // The carrier's own cause, told when it let go, stays.
        hangup_cause: ended.hangup_cause.clone().filter(|_| corrects || !facts.known.cause),
        duration_secs: ended.duration_secs.filter(|_| !facts.known.billed),
        told: ended.outcome.as_ref().map(RawJson::of),
        transcript: ended.transcript.clone(),
        record_in_secs: rules.record_after.filter(|_| !corrects).map(|after| after.as_secs_f64()),
        call: change,
        ..same(facts)
    })
}

/// A word that is outweighed still fills in what nobody has told yet: how long, why, what was said.
fn filled_in(facts: &Facts, ended: &Ended) -> Option<Settlement> {
    let more = Settlement {
        provider_call_id: ended.provider_call_id.clone().filter(|_| facts.provider_call_id.is_none()),
        duration_secs: ended.duration_secs.filter(|_| !facts.known.duration),
        hangup_cause: ended.hangup_cause.clone().filter(|_| !facts.known.cause),
        transcript: ended.transcript.clone().filter(|_| !facts.known.transcript),
        ..same(facts)
    };
    (more != same(facts)).then_some(more)
}

/// An outcome told earlier stands behind a bare end.
fn with_what_was_told(facts: &Facts, ended: &Ended) -> Ended {
    match told_before(facts) {
        Some(outcome) if ended.weight < outcome.weight => {
            Ended { disposition: outcome.disposition, weight: outcome.weight, outcome: Some(outcome), ..ended.clone() }
        }
        _ => ended.clone(),
    }
}

fn told_before(facts: &Facts) -> Option<Outcome> {
    facts.told.as_ref().and_then(RawJson::read)
}

/// What becomes of the call, or none when it stays as it is.
fn call_after(facts: &Facts, ended: &Ended, rules: &Rules, dice: f64, counts: bool) -> Option<CallChange> {
    // A call that was canceled or expired while it waited stays so; only a live one, or one this attempt had put somewhere.
    let may_change = matches!(
        facts.call_state,
        CallState::Live | CallState::Waiting | CallState::Parked | CallState::Completed | CallState::Failed
    );
    if !may_change {
        return None;
    }
    let change = match ended.disposition.class() {
        Class::Reached => promised(ended, facts, rules, counts).unwrap_or_else(|| becomes(CallState::Completed)),
        Class::Stop if ended.disposition == Disposition::Canceled => becomes(CallState::Canceled),
        Class::Stop => becomes(CallState::Failed),
        Class::Retry if facts.cancel_requested => becomes(CallState::Canceled),
        Class::Retry => retried(facts, ended, rules, dice, counts),
    };
    // A correction that comes to the same end leaves the call's own time alone; a promise sets it.
    (change.becomes != facts.call_state || change.due_at.is_some()).then_some(change)
}

fn becomes(state: CallState) -> CallChange {
    CallChange { becomes: state, due_in_secs: None, due_at: None, rank: None, dials_max: None }
}

/// A callback with a time to come is a promise: the same call waits for it, first in its lane. A time that has passed is none, nor is the
/// wish of somebody who has put the call off often enough: the call is complete, and its disposition says what was wished.
fn promised(ended: &Ended, facts: &Facts, rules: &Rules, counts: bool) -> Option<CallChange> {
    let outcome = ended.outcome.as_ref().filter(|outcome| outcome.disposition == Disposition::CallbackRequested)?;
    let due_at = outcome.callback_time.filter(|_| !facts.cancel_requested)?;
    if facts.promise.is_some_and(|promise| due_at <= promise.now || promise.before >= rules.callbacks_max) {
        return None;
    }
    Some(CallChange {
        due_at: Some(due_at),
        rank: Some(rank::PROMISED),
        dials_max: Some((facts.dials + i16::from(counts)).saturating_add(rules.max_attempts).min(1000)),
        ..becomes(CallState::Waiting)
    })
}

/// Another dial after a delay, while there are dials left: the campaign's delay, else the user's for this disposition, else the
/// general policy's. One whose time has passed by then is ended by the expiry sweep.
fn retried(facts: &Facts, ended: &Ended, rules: &Rules, dice: f64, counts: bool) -> CallChange {
    let dials = facts.dials + i16::from(counts);
    let own = facts.retry_rules.as_ref().and_then(|own| UserRule::of(own, ended.disposition));
    let of_rule = own.and_then(|own| own.max_dials).unwrap_or(i16::MAX);
    if dials >= facts.dials_max.min(of_rule).min(ended.dials_max.unwrap_or(i16::MAX)) {
        return becomes(CallState::Failed);
    }
    let delay = match facts.retry_delay_secs.or(own.and_then(|own| own.delay_seconds)) {
        Some(secs) => f64::from(secs) / rules.time_divisor,
        None => rules.retry.delay(u32::try_from(dials).unwrap_or(1), dice).as_secs_f64(),
    };
    CallChange { due_in_secs: Some(delay), rank: Some(rank::of_retry(facts.priority)), ..becomes(CallState::Waiting) }
}

/// No dial happened: the slot is free and the call waits as it did, unless it must not be called any more. It is the dial itself that
/// says so, once, and then it did not itself leave the attempt in doubt: others put it there meanwhile, who had not heard of it for too
/// long.
fn released(facts: &Facts, bar: Option<&str>) -> Option<Settlement> {
    if !matches!(facts.state, AttemptState::Dialing | AttemptState::Unknown) || facts.dialed {
        return None;
    }
    let stops = facts.cancel_requested || matches!(bar, Some("DO_NOT_CALL" | "CANCELED"));
    let call = match bar {
        Some("VARIABLE_MISSING" | "UNREADABLE" | "SCRIPT_NOT_ALLOWED") => becomes(CallState::Failed),
        _ if stops => becomes(CallState::Canceled),
        _ => becomes(CallState::Waiting),
    };
    let disposition = match bar {
        Some("DO_NOT_CALL") => Some(Disposition::DoNotCall),
        Some("VARIABLE_MISSING") => Some(Disposition::VariableMissing),
        Some("UNREADABLE") => Some(Disposition::Unreadable),
        Some("SCRIPT_NOT_ALLOWED") => Some(Disposition::ScriptNotAllowed),
        _ => stops.then_some(Disposition::Canceled),
    };
    Some(Settlement {
        state: Some(AttemptState::Ended),
        hangup_cause: bar.map(str::to_owned),
        disposition,
        call: facts.newest.then_some(call),
        ..same(facts)
    })
}

/// A call that waits again does so from so many seconds on.
fn later(released: Settlement, secs: f64) -> Settlement {
    let call = released.call.map(|call| match call.becomes {
        CallState::Waiting => CallChange { due_in_secs: Some(secs), ..call },
        _ => call,
    });
    Settlement { call, ..released }
}

/// Why no dial happened, for people to read.
fn because(released: Settlement, reason: &str) -> Settlement {
    Settlement { hangup_cause: Some(shortened(reason)), ..released }
}

/// Nobody knows: slot and number stay taken until the provider says, or the time is up.
fn doubted(facts: &Facts, sent_ms_ago: u64) -> Option<Settlement> {
    if facts.state != AttemptState::Dialing {
        return None;
    }
    let sent = Duration::from_millis(sent_ms_ago);
    Some(Settlement {
        state: Some(AttemptState::Unknown),
        sent_secs_ago: Some(sent.as_secs_f64()),
        check_in_secs: Some(0.0),
        ..same(facts)
    })
}

/// A look-up found nothing. That counts only when the request can no longer be on its way, and twice in a row. Where a first step was
/// written down a phone may have rung, and somebody may have talked: its end stays unknown.
fn missed(facts: &Facts, rules: &Rules, dice: f64) -> Option<Settlement> {
    if facts.state != AttemptState::Unknown {
        return None;
    }
    let quiet = (rules.dial_timeout + rules.lookup_grace).as_secs_f64();
    if facts.unheard_secs < quiet {
        return Some(Settlement { check_in_secs: Some(quiet - facts.unheard_secs), misses: 0, ..same(facts) });
    }
    if facts.misses + 1 < MISSES_NEEDED {
        return Some(Settlement { check_in_secs: Some(1.0), misses: facts.misses + 1, ..same(facts) });
    }
    match facts.provider_call_id {
        None => released(facts, None),
        Some(_) => over(facts, &ours(Disposition::Unknown, Weight::Ours, GONE), rules, dice),
    }
}

#[cfg(test)]
mod tests;
