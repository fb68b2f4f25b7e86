//! Asking the provider: about attempts in doubt (did you take it?), about calls it has been silent about (is it over?), and
//! for a hang-up. What it says goes the way of every other word. Before that, the dials of processes that died are put in doubt, and
//! calls that last too long are given up: whoever dials rescues, whatever other roles run.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::db::fault::{caught, within};
use crate::domain::call::AttemptState;
use crate::domain::word::Word;
use crate::executor::dial::Line;
use crate::outcome::inbox::Heard;
use crate::provider::{Found, HungUp, Question};
use crate::queue::{self, Inquiry};
use crate::telemetry::vitals::Vital;

/// How often the table is looked at for questions that are due.
const TICK: Duration = Duration::from_millis(500);
/// A record that is not complete yet is asked for again after as long as the call has ended, for a day: a carrier may bill hours later.
const RECORD_PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Questions taken at once.
const BATCH_MAX: i64 = 200;

/// Asks about attempts in doubt and silent calls, until `stop`.
pub async fn run(line: Arc<Line>, stop: CancellationToken) {
    while ticks(&stop).await {
        guarded("rescue", rescue(&line)).await;
        guarded("inquiries", ask_all(&line)).await;
    }
}

/// One round of a loop: a failure ends that round only.
async fn guarded<T>(what: &'static str, round: impl Future<Output = sqlx::Result<T>>) {
    if let Err(error) = caught(what, round).await {
        tracing::debug!(what, %error, "a round failed; the next makes it good");
    }
}

/// Puts into doubt what dead or stuck processes were dialing, and gives up what lasts too long; returns how much that was.
///
/// # Errors
/// Postgres is away.
pub async fn rescue(line: &Line) -> sqlx::Result<usize> {
    let settings = &line.settings;
    let dialing_max = settings.dialing_max().as_secs_f64();
    let doubting = queue::doubt_of_the_dead(&line.pool, BATCH_MAX, dialing_max);
    let doubted = within(settings.statement_patience, doubting).await?;
    for attempt in &doubted {
        tracing::warn!(attempt.id = %attempt, "its process died or got stuck while dialing; it is looked up");
    }
    let overdue = queue::overdue(&line.pool, settings.max_call.as_secs_f64(), BATCH_MAX);
    let overdue = within(settings.statement_patience, overdue).await?;
    for attempt in &overdue {
        tracing::warn!(attempt.id = %attempt, "no word until the maximum call time; its end stays unknown");
        line.inbox.tell(Heard::about(*attempt, Word::Overdue, "rescue"));
    }
    Ok(doubted.len() + overdue.len())
}

/// Fetches records of ended calls, until `stop`. Apart from [`run`]: they are many and slow, and a hang-up must not wait for them.
pub async fn run_records(line: Arc<Line>, stop: CancellationToken) {
    while ticks(&stop).await {
        if line.provider.keeps_records() {
            guarded("records", fetch_records(&line)).await;
        }
    }
}

/// Waits a tick; false when it is time to stop.
async fn ticks(stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(TICK) => true,
    }
}

/// Asks everything that is due now; returns how much that was.
///
/// # Errors
/// Postgres is away.
pub async fn ask_all(line: &Line) -> sqlx::Result<usize> {
    let again_in = line.settings.inquiry.as_secs_f64();
    let inquiring = queue::inquire(&line.pool, line.provider.name(), BATCH_MAX, again_in);
    let inquiries = within(line.settings.statement_patience, inquiring).await?;
    let count = inquiries.len();
    futures::stream::iter(inquiries)
        .for_each_concurrent(line.settings.inquiries_in_flight, |inquiry| ask(line, inquiry))
        .await;
    Ok(count)
}

/// Fetches the records that are due now; returns how many were asked for.
///
/// # Errors
/// Postgres is away.
pub async fn fetch_records(line: &Line) -> sqlx::Result<usize> {
    let (again, give_up) = (line.settings.record_again.as_secs_f64(), RECORD_PATIENCE.as_secs_f64());
    let taking = queue::take_records(&line.pool, line.provider.name(), BATCH_MAX, again, give_up);
    let ended = within(line.settings.statement_patience, taking).await?;
    let count = ended.len();
    futures::stream::iter(ended)
        .for_each_concurrent(line.settings.inquiries_in_flight, |inquiry| fetch_record(line, inquiry))
        .await;
    Ok(count)
}

/// Fetches what the provider has written down of a call that has ended.
async fn fetch_record(line: &Line, inquiry: Inquiry) {
    let question = question_of(inquiry);
    for word in line.provider.record(&question).await {
        line.inbox.tell(Heard::about(question.attempt_id, word, "record"));
    }
}

fn question_of(inquiry: Inquiry) -> Question {
    Question {
        attempt_id: inquiry.attempt_id,
        call_id: inquiry.call_id,
        provider_call_id: inquiry.provider_call_id,
        carrier_call_id: inquiry.carrier_call_id,
        hangup_cause: inquiry.hangup_cause,
        claimed_at: inquiry.claimed_at,
    }
}

async fn ask(line: &Line, inquiry: Inquiry) {
    let (state, hang_up) = (inquiry.state, inquiry.hang_up);
    let question = question_of(inquiry);
    if hang_up && state == AttemptState::Accepted {
        let asked = line.provider.hang_up(&question).await;
        tracing::info!(call.id = %question.call_id, ?asked, "hang-up asked of the provider");
        if asked == HungUp::Asked {
            return;
        }
    }
    let found = match state {
        AttemptState::Unknown => line.provider.find_by_attempt(&question).await,
        AttemptState::Accepted | AttemptState::Dialing | AttemptState::Ended => line.provider.status(&question).await,
    };
    let word = match found {
        Found::Known(word) => word,
        // Only doubt is ended by a "not found"; an accepted call waits for its webhook or the maximum call time.
        Found::NotFound if state == AttemptState::Unknown => Word::NotFound,
        Found::NotFound | Found::CannotSay => return,
    };
    line.vitals.beat(Vital::Word);
    line.inbox.tell(Heard::about(question.attempt_id, word, "poll"));
}
