//! One dial: look again if the claim is not fresh, ask the provider, tell what it answered.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::db::fault::within;
use crate::domain::failpoint;
use crate::domain::ids::{AttemptId, CallId};
use crate::domain::script::{Agent, Script};
use crate::domain::template::{Unfilled, render};
use crate::domain::word::{Word, shortened};
use crate::executor::Settings;
use crate::executor::lease::Lease;
use crate::executor::pulse::Pulse;
use crate::outcome::Became;
use crate::outcome::inbox::{Heard, Inbox};
use crate::provider::{Dial, Placed, Prepared, Provider, ReportTo, signature};
use crate::queue::{self, Claimed, InARow};
use crate::store::scripts;
use crate::telemetry::vitals::Vitals;

/// Refusals are equal when their first characters are, digits left out.
const REFUSAL_CHARS: usize = 80;

/// What every dial needs; shared by all of them.
pub struct Line {
    pub pool: PgPool,
    pub provider: Arc<dyn Provider>,
    pub inbox: Inbox,
    pub lease: Arc<Lease>,
    pub settings: Settings,
    pub pulse: Pulse,
    pub vitals: Arc<Vitals>,
    /// Agents that are taken back beside the dials: no slot waits for that.
    pub taking_back: TaskTracker,
}

/// Dials one claimed call. `claimed` is when its claim was begun, by the monotonic clock.
pub async fn dial(line: &Line, call: Claimed, claimed: Instant) {
    let attempt = call.attempt_id;
    let Answer { word, unused } = match bar_to(line, call.attempt_id, call.call_id, claimed).await {
        Some(word) => word.into(),
        None => match scripted(line, call).await {
            Ok((call, worded)) => ask(line, call, worded, claimed).await,
            Err(word) => word.into(),
        },
    };
    failpoint::hit("answer.before_settle");
    let heard = Heard::about(attempt, word, "dial");
    match unused {
        None => line.inbox.tell(heard),
        Some(step) => take_back(line, step, heard),
    }
}

/// How a dial ended.
struct Answer {
    word: Word,
    /// What was prepared for a phone that surely did not ring.
    unused: Option<Prepared>,
}

impl From<Word> for Answer {
    fn from(word: Word) -> Self {
        Self { word, unused: None }
    }
}

/// Why this call must not be dialed now, if it must not. The claim looked at everything; when it is not fresh any more,
/// window, pause, do-not-call and cancel are looked at again.
async fn bar_to(line: &Line, attempt: AttemptId, call: CallId, claimed: Instant) -> Option<Word> {
    if claimed.elapsed() > line.settings.look_again_after {
        let looking = queue::look_again(&line.pool, attempt, line.settings.dial_guard_secs);
        match within(line.settings.statement_patience, looking).await {
            Ok(None) => {}
            Ok(Some(bar)) => {
                tracing::info!(call.id = %call, bar, "call withheld right before the dial");
                return Some(Word::Withheld { bar, detail: None });
            }
            Err(error) => {
                return Some(Word::NotSent { reason: format!("could not look again: {error}") });
            }
        }
    }
    if claimed.elapsed() > line.settings.send_within() {
        // From here on it may be in doubt already (queue::doubt_of_the_dead).
        Some(Word::NotSent { reason: "its claim is too old to be sent".to_owned() })
    } else if line.lease.is_good() {
        None
    } else {
        Some(Word::NotSent { reason: "the lease of this process ran out".to_owned() })
    }
}

/// The call with its words: what is stored under its script's name, and variables filled in. A name without a value is found here,
/// before the dial.
async fn scripted(line: &Line, mut call: Claimed) -> Result<(Claimed, Worded), Word> {
    let stored = if line.provider.reads_scripts() { stored_script(line, &call).await? } else { None };
    match worded(&mut call, stored, line.provider.reads_scripts()) {
        Ok(worded) => Ok((call, worded)),
        Err(Unspeakable::Unfilled(Unfilled::TooLong)) => {
            tracing::warn!(call.id = %call.call_id, "a script grows too long when its names are filled in; not dialed");
            Err(Word::Withheld { bar: "UNREADABLE".to_owned(), detail: Some(Unfilled::TooLong.to_string()) })
        }
        Err(Unspeakable::Unfilled(Unfilled::Missing { name })) => {
            tracing::warn!(call.id = %call.call_id, variable = name, "a script names what nobody knows; not dialed");
            Err(Word::Withheld { bar: "VARIABLE_MISSING".to_owned(), detail: Some(name) })
        }
        Err(Unspeakable::Unreadable(field)) => {
            tracing::error!(call.id = %call.call_id, field, "what is stored for a call cannot be read; it is set aside, not dialed");
            Err(Word::Withheld { bar: "UNREADABLE".to_owned(), detail: Some(field.to_owned()) })
        }
    }
}

/// What is said in one call.
struct Worded {
    script: Option<Script>,
    agent: Option<Agent>,
}

/// Why nothing can be said.
enum Unspeakable {
    Unfilled(Unfilled),
    /// A stored field is not what it must be.
    Unreadable(&'static str),
}

impl From<Unfilled> for Unspeakable {
    fn from(unfilled: Unfilled) -> Self {
        Self::Unfilled(unfilled)
    }
}

async fn stored_script(line: &Line, call: &Claimed) -> Result<Option<Script>, Word> {
    let finding = scripts::named_by_call(&line.pool, call.call_id, &call.script_id);
    let found = within(line.settings.statement_patience, finding).await;
    let found = found.map_err(|error| Word::NotSent { reason: format!("could not read the script: {error}") })?;
    if found.is_none() && call.prospect_id.is_none() {
        tracing::warn!(call.id = %call.call_id, "its scriptId names no script: it is taken for the prompt itself");
    }
    match found {
        None => Ok(None),
        Some((script, allowed)) => match script.forbidden(&allowed).into_iter().next() {
            None => Ok(Some(script)),
            Some(found) => {
                tracing::warn!(call.id = %call.call_id, field = found.path, why = found.why, "its script is not allowed; not dialed");
                let detail = Some(format!("{}: {}", found.path, found.why));
                Err(Word::Withheld { bar: "SCRIPT_NOT_ALLOWED".to_owned(), detail })
            }
        },
    }
}

/// Fills variables into everything that will be `spoken` by what we send. The `scriptId` of a call that has neither a script nor a
/// prospect is passed on as it is.
fn worded(call: &mut Claimed, stored: Option<Script>, spoken: bool) -> Result<Worded, Unspeakable> {
    let mut agent = match &call.agent {
        Some(agent) => Some(agent.read::<Agent>().ok_or(Unspeakable::Unreadable("settings.agent"))?),
        None => None,
    };
    if stored.is_none() && call.prospect_id.is_none() && !spoken {
        return Ok(Worded { script: None, agent });
    }
    let variables = call.variables.fields().ok_or(Unspeakable::Unreadable("variables"))?;
    let filled = |text: Option<String>| text.map(|text| render(&text, &variables)).transpose();
    if stored.as_ref().is_none_or(|stored| stored.first_message.is_none())
        && let Some(agent) = &mut agent
    {
        agent.first_message = filled(agent.first_message.take())?;
    }
    let Some(stored) = stored else {
        if call.prospect_id.is_some() {
            call.script_id = render(&call.script_id, &variables)?;
        }
        return Ok(Worded { script: None, agent });
    };
    if !stored.tools.is_list() {
        return Err(Unspeakable::Unreadable("script.tools"));
    }
    let (prompt, first_message) = (filled(stored.prompt)?, filled(stored.first_message)?);
    Ok(Worded { script: Some(Script { prompt, first_message, ..stored }), agent })
}

async fn ask(line: &Line, call: Claimed, worded: Worded, claimed: Instant) -> Answer {
    let settings = &line.settings;
    let mut dial = Dial {
        attempt_id: call.attempt_id,
        call_id: call.call_id,
        to: call.phone,
        script_id: call.script_id,
        metadata: call.metadata,
        variables: call.variables,
        agent: worded.agent,
        script: worded.script,
        secs_max: call.minutes_max.map(|minutes| minutes.saturating_mul(60)),
        report_to: report_to(settings, call.attempt_id),
        prepared: None,
        claimed_at: call.claimed_at,
    };
    let began = Instant::now();
    let (placed, sent) = match place(line, &mut dial, claimed).await {
        Ok(placed) => placed,
        Err(word) => return Answer { word, unused: dial.prepared },
    };
    metrics::counter!("outdial_dials_total", "answer" => placed.as_str()).increment(1);
    metrics::histogram!("outdial_dial_seconds").record(began.elapsed());
    if !matches!(placed, Placed::Accepted { .. }) {
        tracing::warn!(call.id = %dial.call_id, attempt.id = %dial.attempt_id, answer = %placed, "the provider did not accept");
    }
    let unused = dial.prepared.take_if(|_| placed.rang_no_phone());
    Answer { word: word_for(line, dial.attempt_id, placed, sent).await, unused }
}

/// Asks for the call, in as many steps as the provider takes. Gives its answer and when the request that may ring a phone began, or
/// why it was not sent after all.
async fn place(line: &Line, dial: &mut Dial, claimed: Instant) -> Result<(Placed, Instant), Word> {
    // The provider has timeouts of its own; this one holds whatever it does.
    let patience = line.settings.dial_timeout + Duration::from_secs(1);
    let prepared = tokio::time::timeout(patience, line.provider.prepare(dial)).await;
    match prepared.unwrap_or_else(|_| Err(Placed::NotSent { reason: "timeout while preparing".to_owned() })) {
        Err(placed) => return Ok((placed, Instant::now())),
        Ok(None) => {}
        Ok(Some(step)) => {
            let may_go_on = may_go_on(line, dial, &step, claimed).await;
            dial.prepared = Some(step);
            may_go_on?;
        }
    }
    failpoint::hit("dial.before_request");
    let sent = Instant::now();
    let placed = tokio::time::timeout(patience, line.provider.place(dial)).await;
    failpoint::hit("dial.after_request");
    let placed = placed.unwrap_or_else(|_| Placed::Ambiguous { reason: "timeout".to_owned() });
    Ok((placed, sent))
}

/// Writes the first step down. That took its time: window, pause, do-not-call and cancel are looked at again.
async fn may_go_on(line: &Line, dial: &Dial, step: &Prepared, claimed: Instant) -> Result<(), Word> {
    write_down(line, dial.attempt_id, step).await?;
    bar_to(line, dial.attempt_id, dial.call_id, claimed).await.map_or(Ok(()), Err)
}

/// Has the provider give up what it prepared, once it is committed that no phone rang: until then, or where something else has come of
/// the attempt meanwhile, the agent is what a look-up goes by. Beside the dials and no longer than a dial may take; what is not taken
/// back gives up by itself.
fn take_back(line: &Line, step: Prepared, heard: Heard) {
    let (provider, patience) = (Arc::clone(&line.provider), line.settings.dial_timeout);
    let became = line.inbox.tell_and_learn(heard);
    line.taking_back.spawn(async move {
        if became.await != Some(Became::Applied) {
            return;
        }
        if tokio::time::timeout(patience, provider.take_back(&step)).await.is_err() {
            tracing::info!(
                prepared = step.provider_call_id,
                "could not take back in time what was prepared for no phone"
            );
        }
    });
}

/// Where a provider reports about an attempt.
fn report_to(settings: &Settings, attempt: AttemptId) -> ReportTo {
    let token = signature::token(&settings.token_key, attempt);
    ReportTo { base: settings.public_url.clone(), query: format!("attemptId={attempt}&token={token}") }
}

/// Commits the first of two steps before the second is taken: after a crash in between it is known where to look.
async fn write_down(line: &Line, attempt: AttemptId, step: &Prepared) -> Result<(), Word> {
    let word = Word::Prepared { provider_call_id: step.provider_call_id.clone() };
    let committed = line.inbox.hear(Heard::about(attempt, word, "prepare")).await;
    failpoint::hit("dial.after_prepare");
    match committed {
        Ok(Became::Applied) => Ok(()),
        Ok(Became::Unchanged | Became::Stray | Became::SetAside) | Err(_) => {
            Err(Word::NotSent { reason: "the first step could not be written down".to_owned() })
        }
    }
}

/// The answer as a word; whether it was one at all goes to the breaker.
async fn word_for(line: &Line, attempt: AttemptId, placed: Placed, sent: Instant) -> Word {
    let (settings, name) = (&line.settings, line.provider.name());
    let held_back = match &placed {
        Placed::Refused { reason, about_number: false } => refused_in_a_row(line, attempt, reason).await,
        _ => None,
    };
    let of_all = held_back.is_some_and(|row| row.of_others_too);
    if placed.is_an_answer() && !of_all {
        line.pulse.answered(&line.pool, name, &settings.breaker).await;
    } else {
        line.pulse.failed(&line.pool, name, &settings.breaker, &placed.to_string()).await;
    }
    match placed {
        Placed::Accepted { provider_call_id, carrier_call_id } => {
            line.pulse.ends_rows(&line.pool, name, attempt).await;
            Word::Accepted { provider_call_id, carrier_call_id }
        }
        Placed::Refused { reason, .. } => match held_back {
            Some(row) => {
                Word::Barred { reason, again_secs: if of_all { 0.0 } else { settings.again_after(row.count) } }
            }
            None => Word::Refused { reason, wrong_number: false },
        },
        Placed::WrongNumber { reason } => Word::Refused { reason, wrong_number: true },
        Placed::TurnedAway { reason, dials_max } => {
            Word::TurnedAway { full: false, hangup_cause: Some(shortened(&reason)), dials_max }
        }
        Placed::Capacity { retry_after } => {
            let wait = retry_after.unwrap_or_default().clamp(settings.retry_after_min, settings.retry_after_max);
            Word::Capacity { retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) }
        }
        // The breaker holds the provider; this call goes behind others, so that another tries next.
        Placed::Barred { reason, .. } => Word::Barred { reason, again_secs: 0.0 },
        Placed::NotSent { reason } => Word::NotSent { reason },
        Placed::Ambiguous { reason } => {
            let sent_ms_ago = u64::try_from(sent.elapsed().as_millis()).unwrap_or(u64::MAX);
            Word::Doubt { reason, sent_ms_ago }
        }
    }
}

/// What equal refusals have in common: their words, without numbers, ids of requests and whatever else differs each time.
fn words_of(reason: &str) -> String {
    let words = reason.split(|char: char| !char.is_alphanumeric() && char != '-');
    let same = words.filter(|word| !word.is_empty() && !word.contains(|char: char| char.is_ascii_digit()));
    same.collect::<Vec<_>>().join(" ").chars().take(REFUSAL_CHARS).collect()
}

/// A refusal that says nothing of the number, when it is one of several equal ones in a row: then it says something of what all these
/// calls ask for, and they are held back instead of failed.
async fn refused_in_a_row(line: &Line, attempt: AttemptId, reason: &str) -> Option<InARow> {
    line.pulse.sees_rows();
    let words = words_of(reason);
    let counting = queue::refused_again(&line.pool, line.provider.name(), attempt, &words);
    let row = match within(line.settings.statement_patience, counting).await {
        Ok(row) => row?,
        Err(error) => {
            tracing::warn!(%error, "could not count a refusal");
            return None;
        }
    };
    let most = line.settings.equal_refusals_max;
    if row.count == most {
        tracing::error!(
            userId = %row.user,
            reason,
            of_other_users_too = row.of_others_too,
            "the provider refuses one call after the other in the same words: those that follow wait, and count no dial; look at the user's scripts and agent (voice, tools, language), and at the provider's settings"
        );
    }
    (row.count >= most).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refusals that differ by ids and numbers alone are the same.
    #[test]
    fn refusals_are_told_by_their_words() {
        let of =
            |id: &str| words_of(&format!(r#"HTTP 422 {{"requestId":"{id}","error":"scriptId is unknown", "at": 17}}"#));
        assert_eq!(of("8c6affad-0a1b-4c2d-8d3e-fa0123456789"), of("01a22c86-a1fe-7843-9656-5b73a6f4c6a8"));
        assert_ne!(of("1"), words_of(r#"HTTP 422 {"requestId":"1","error":"voice is unknown", "at": 17}"#));
    }
}
