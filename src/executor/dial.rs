//! One dial: look again if the claim is not fresh, ask the provider, tell what it answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::PgPool;

use crate::domain::failpoint;
use crate::domain::template::{Missing, render};
use crate::domain::word::Word;
use crate::executor::Settings;
use crate::executor::lease::Lease;
use crate::outcome::inbox::{Heard, Inbox};
use crate::provider::{Dial, Placed, Provider, signature};
use crate::queue::{self, Claimed, Hold};

/// A provider that cannot be reached is tried again after this, doubled each time.
const UNREACHABLE_HOLD: Duration = Duration::from_secs(1);
const UNREACHABLE_HOLD_MAX: Duration = Duration::from_secs(60);

/// What every dial needs; shared by all of them.
pub struct Line {
    pub pool: PgPool,
    pub provider: Arc<dyn Provider>,
    pub inbox: Inbox,
    pub lease: Arc<Lease>,
    pub settings: Settings,
    /// A request failed to reach the provider, and none has succeeded since.
    pub unreachable: AtomicBool,
}

/// Dials one claimed call. `claimed` is when its claim was begun, by the monotonic clock.
pub async fn dial(line: &Line, call: Claimed, claimed: Instant) {
    let attempt = call.attempt_id;
    let word = match bar_to(line, &call, claimed).await {
        Some(word) => word,
        None => match scripted(call) {
            Ok(call) => ask(line, call).await,
            Err(word) => word,
        },
    };
    failpoint::hit("answer.before_settle");
    line.inbox.tell(Heard::about(attempt, word, "dial"));
}

/// Why this call must not be dialed now, if it must not. The claim looked at everything; when it is not fresh any more,
/// window, pause, do-not-call and cancel are looked at again.
async fn bar_to(line: &Line, call: &Claimed, claimed: Instant) -> Option<Word> {
    if claimed.elapsed() > line.settings.look_again_after {
        match queue::look_again(&line.pool, call.attempt_id, line.settings.dial_guard_secs).await {
            Ok(None) => {}
            Ok(Some(bar)) => {
                tracing::info!(call.id = %call.call_id, bar, "call withheld right before the dial");
                return Some(Word::Withheld { bar });
            }
            Err(error) => {
                return Some(Word::NotSent { reason: format!("could not look again: {error}") });
            }
        }
    }
    if line.lease.is_good() {
        None
    } else {
        Some(Word::NotSent { reason: "the lease of this process ran out".to_owned() })
    }
}

/// A prospect's script and first message with the names filled in; one without a value is found here, before the dial.
fn scripted(mut call: Claimed) -> Result<Claimed, Word> {
    let (Some(_), Some(variables)) = (call.prospect_id, call.variables.as_object()) else {
        return Ok(call);
    };
    let missing = |missing: Missing| {
        tracing::warn!(call.id = %call.call_id, variable = missing.name, "a script names what nobody knows; not dialed");
        Word::Withheld { bar: "VARIABLE_MISSING".to_owned() }
    };
    let script = render(&call.script_id, variables).map_err(missing)?;
    let first = call.agent.as_ref().and_then(|agent| agent.get("firstMessage")).and_then(Value::as_str);
    let first = first.map(|first| render(first, variables).map_err(missing)).transpose()?;
    if let (Some(first), Some(agent)) = (first, call.agent.as_mut().and_then(Value::as_object_mut)) {
        agent.insert("firstMessage".to_owned(), first.into());
    }
    call.script_id = script;
    Ok(call)
}

async fn ask(line: &Line, call: Claimed) -> Word {
    let settings = &line.settings;
    let token = signature::token(&settings.token_key, call.attempt_id);
    let dial = Dial {
        attempt_id: call.attempt_id,
        call_id: call.call_id,
        to: call.phone,
        script_id: call.script_id,
        metadata: call.metadata,
        variables: call.variables,
        agent: call.agent,
        secs_max: call.minutes_max.map(|minutes| minutes.saturating_mul(60)),
        webhook_url: format!("{}?attemptId={}&token={token}", settings.webhook_url, call.attempt_id),
        claimed_at: call.claimed_at,
    };
    failpoint::hit("dial.before_request");
    let sent = Instant::now();
    // The provider has a timeout of its own; this one holds whatever it does.
    let placed = tokio::time::timeout(settings.dial_timeout + Duration::from_secs(1), line.provider.place(&dial)).await;
    let placed = placed.unwrap_or_else(|_| Placed::Ambiguous { reason: "timeout".to_owned() });
    failpoint::hit("dial.after_request");
    metrics::counter!("outdial_dials_total", "answer" => placed.as_str()).increment(1);
    metrics::histogram!("outdial_dial_seconds").record(sent.elapsed());
    if !matches!(placed, Placed::Accepted { .. }) {
        tracing::warn!(call.id = %dial.call_id, attempt.id = %dial.attempt_id, answer = ?placed, "the provider did not accept");
    }
    word_for(line, placed, sent).await
}

/// The answer as a word; a provider that is full or away is left alone for a while, on every instance.
async fn word_for(line: &Line, placed: Placed, sent: Instant) -> Word {
    let settings = &line.settings;
    match placed {
        Placed::Accepted { provider_call_id } => {
            if line.unreachable.swap(false, Ordering::Relaxed) {
                ignore_outage(queue::clear_hold(&line.pool, line.provider.name()).await);
            }
            Word::Accepted { provider_call_id }
        }
        Placed::Refused { reason } => Word::Refused { reason },
        Placed::Capacity { retry_after } => {
            let wait = retry_after.unwrap_or_default().clamp(settings.retry_after_min, settings.retry_after_max);
            hold(line, Hold::Capacity { secs: wait.as_secs_f64() }).await;
            Word::Capacity { retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(u64::MAX) }
        }
        Placed::NotSent { reason } => {
            line.unreachable.store(true, Ordering::Relaxed);
            let secs_max = UNREACHABLE_HOLD_MAX.as_secs_f64();
            hold(line, Hold::Unreachable { secs: UNREACHABLE_HOLD.as_secs_f64(), secs_max }).await;
            Word::NotSent { reason }
        }
        Placed::Ambiguous { reason } => {
            let sent_ms_ago = u64::try_from(sent.elapsed().as_millis()).unwrap_or(u64::MAX);
            Word::Doubt { reason, sent_ms_ago }
        }
    }
}

async fn hold(line: &Line, hold: Hold) {
    ignore_outage(queue::hold_provider(&line.pool, line.provider.name(), hold).await);
}

/// A hold is a courtesy: without it the next claim tries sooner. The claim itself fails while Postgres is away.
fn ignore_outage(result: sqlx::Result<()>) {
    if let Err(error) = result {
        tracing::warn!(%error, "could not note the state of the provider");
    }
}
