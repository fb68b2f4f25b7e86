//! `outdial reconcile`: asks the provider about everything that is open here, and about what this database does not know; then a person
//! may lift the hold on dialing. Dials nobody.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::mpsc;

use crate::config::{Config, ProviderKind};
use crate::db::Db;
use crate::domain::ids::{InstanceId, new_id};
use crate::executor::inquiry;
use crate::outcome;
use crate::outcome::inbox::Inbox;
use crate::provider::Provider;
use crate::provider::http::Http;
use crate::provider::simulator::Simulator;
use crate::queue;
use crate::service::{line_of, rules_of, ultravox};
use crate::store::installation;

/// The provider is asked about calls it was given so long before this database's last dial.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);
/// Questions are asked in so many rounds at most: some lead to others.
const ROUNDS_MAX: usize = 50;
const BATCH_MAX: usize = 500;

/// Asks, writes down, and tells what was found; `lift_by`: a person who lifts the hold.
///
/// # Errors
/// Postgres is away, or the provider cannot be built.
pub async fn run(config: &Config, db: &Db, lift_by: Option<&str>) -> anyhow::Result<String> {
    let mut text = String::new();
    // Writing to a String does not fail.
    let mut line = |said: String| {
        let _ = writeln!(text, "{said}");
    };
    let settled = installation::settle_in(
        &db.work,
        &rand::random::<[u8; 32]>(),
        config.calls.max_concurrent,
        config.provider.kind.as_str(),
        config.provider.dials_per_second,
        &config.quota,
    )
    .await?;
    match &settled.held_for {
        Some(reason) => line(format!("Dialing is held: {reason}.")),
        None => line("Dialing is not held.".to_owned()),
    }
    let provider = provider_of(config, &settled.token_key)?;
    let instance = InstanceId(new_id());
    line(unknown_here(db, provider.as_ref(), instance).await?);
    let inbox = Inbox::new(Duration::ZERO);
    let asking = line_of(config, db, &inbox, instance, provider, settled.token_key);
    let open = queue::ask_about_all(&db.work).await?;
    let mut heard = 0;
    for _ in 0..ROUNDS_MAX {
        let asked = inquiry::ask_all(&asking).await?;
        let batch = inbox.take(BATCH_MAX);
        heard += batch.heard.len();
        let report = outcome::settle_alone(&db.work, &batch.heard, &rules_of(config)).await?;
        batch.settled(&inbox, &report);
        if asked == 0 {
            break;
        }
    }
    line(format!("{open} attempts were open here; the provider had something to say {heard} times."));
    for alarm in installation::alarms(&db.read).await? {
        line(format!("{}: {}. Way out: {}.", alarm.code, alarm.what, alarm.way_out));
    }
    if let Some(by) = lift_by {
        line(match installation::lift_hold(&db.work, by).await? {
            true => format!("The hold is lifted, in the name of {by}: workers dial again."),
            false => "There was no hold to lift.".to_owned(),
        });
    } else if settled.held_for.is_some() {
        line("Look at what waits (select * from ops.waiting) and cancel what must not be called; then: outdial reconcile --lift-hold".to_owned());
    }
    Ok(text)
}

fn provider_of(config: &Config, token_key: &[u8]) -> anyhow::Result<Arc<dyn Provider>> {
    let timeout = Duration::from_secs(config.provider.dial_timeout_secs);
    Ok(match config.provider.kind {
        ProviderKind::Http => Arc::new(Http::new(config.provider.http.clone(), timeout)?),
        ProviderKind::Ultravox => Arc::new(ultravox(config, token_key)?),
        ProviderKind::Simulator | ProviderKind::Unset => {
            let (ear, _) = mpsc::unbounded_channel();
            Arc::new(Simulator::new(config.simulator.clone(), ear))
        }
    })
}

/// Writes down what the provider was given since this database's last dial and this database does not know.
async fn unknown_here(db: &Db, provider: &dyn Provider, instance: InstanceId) -> anyhow::Result<String> {
    let Some(newest) = queue::newest_dial(&db.work).await? else {
        return Ok("This database has no calls.".to_owned());
    };
    let since = newest - OVERLAP;
    Ok(match provider.given_since(since).await {
        Err(reason) => format!(
            "What was dialed after {newest} and is not known here cannot be found out: {reason}. Compare the provider's own list."
        ),
        Ok(given) => {
            let count = given.len();
            let given: Vec<_> =
                given.into_iter().map(|given| (given.attempt_id, given.call_id, given.provider_call_id)).collect();
            let adopted = queue::adopt(&db.work, provider.name(), instance, &given).await?;
            format!(
                "The provider has {count} calls since {since}; {} were not known here and are live now, {} more are not known and their calls do not wait here.",
                adopted.live, adopted.left
            )
        }
    })
}
