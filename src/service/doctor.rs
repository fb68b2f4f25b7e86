//! What is set, what works, and what a person should do about the rest.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use secrecy::ExposeSecret;

use crate::config::{Config, ProviderKind, UltravoxMode};
use crate::db;
use crate::service::{self, prepare_database};
use crate::store::{installation, keys};

/// What the examination found.
#[derive(Clone, Debug)]
pub struct Report {
    pub text: String,
    pub healthy: bool,
}

impl Report {
    fn line(&mut self, sign: &str, text: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{sign} {text}");
    }

    fn good(&mut self, text: &str) {
        self.line("ok  ", text);
    }

    fn note(&mut self, text: &str) {
        self.line("note", text);
    }

    fn bad(&mut self, text: &str) {
        self.healthy = false;
        self.line("BAD ", text);
    }
}

/// Examines settings, database, provider and access; secrets are never shown.
pub async fn examine(config: &Config) -> Report {
    let mut report = Report { text: String::new(), healthy: true };
    examine_database(config, &mut report).await;
    examine_provider(config, &mut report).await;
    examine_access(config, &mut report);
    for name in &config.unneeded {
        report.note(&format!("{name} is set and has no effect"));
    }
    report
}

async fn examine_database(config: &Config, report: &mut Report) {
    if config.database.url.expose_secret().is_empty() {
        match db::embedded::find_binaries(&config.database.bin_dir) {
            Ok(dir) => report.good(&format!("database: embedded Postgres from {}", dir.display())),
            Err(error) => return report.bad(&format!("database: {error:#}")),
        }
    } else {
        report.good("database: by DATABASE_URL");
    }
    match prepare_database(config, Duration::ZERO).await {
        Err(error) => report.bad(&format!("database: {error:#}")),
        Ok((db, server)) => {
            match installation::ping(&db.read).await {
                Ok(ping) if ping.writable => {
                    report.good("database: answers, can be written, schema up to date");
                    if ping.breaker.as_deref().is_some_and(|breaker| breaker != "closed") {
                        report.bad("provider: its circuit breaker is open: it did not answer (ops.limits, ops.provider_errors)");
                    }
                }
                Ok(_) => report.bad("database: answers, but is read-only (a standby?)"),
                Err(error) => report.bad(&format!("database: {error}")),
            }
            match keys::any_admin(&db.read).await {
                Ok(true) => report.good("keys: there is an admin key"),
                Ok(false) => report.note("keys: none made yet (outdial key create --admin)"),
                Err(error) => report.bad(&format!("keys: {error}")),
            }
            examine_invariants(&db, report).await;
            examine_alarms(&db, report).await;
            db.close().await;
            if let Some(server) = server {
                let _ = tokio::task::spawn_blocking(move || server.stop()).await;
            }
        }
    }
}

async fn examine_invariants(db: &db::Db, report: &mut Report) {
    match installation::broken(&db.read).await {
        Ok(broken) if broken.is_empty() => report.good("queue: every invariant holds (ops.broken is empty)"),
        Ok(broken) => report.bad(&format!("queue: broken invariants, see ops.broken: {}", broken.join(", "))),
        Err(error) => report.bad(&format!("queue: {error}")),
    }
}

/// What runs, what it last did, and what is wrong. Nothing need run while `doctor` looks: roles that are missing are a note then.
async fn examine_alarms(db: &db::Db, report: &mut Report) {
    match installation::processes(&db.read).await {
        Ok(seen) if seen.api + seen.worker + seen.scheduler == 0 => report.note("processes: none runs"),
        Ok(seen) => report.good(&format!(
            "processes: {} api, {} worker, {} scheduler; last turn {}, settling {}, planning {}, delivery {}, housekeeping {}, word of the provider {}",
            seen.api,
            seen.worker,
            seen.scheduler,
            shown(seen.turn),
            shown(seen.settle),
            shown(seen.planning),
            shown(seen.delivery),
            shown(seen.housekeeping),
            shown(seen.provider_word)
        )),
        Err(error) => report.bad(&format!("processes: {error}")),
    }
    match installation::alarms(&db.read).await {
        Ok(alarms) => {
            for alarm in alarms {
                let text = format!("{}: {}. {}", alarm.code, alarm.what, alarm.way_out);
                if alarm.code.starts_with("NO_") { report.note(&text) } else { report.bad(&text) }
            }
        }
        Err(error) => report.bad(&format!("alarms: {error}")),
    }
}

fn shown(at: Option<DateTime<Utc>>) -> String {
    at.map_or("never".to_owned(), |at| at.to_rfc3339_opts(SecondsFormat::Secs, true))
}

async fn examine_provider(config: &Config, report: &mut Report) {
    let url = &config.server.public_url;
    match config.provider.kind {
        ProviderKind::Simulator => report.good("provider: simulator; nobody's phone rings"),
        ProviderKind::Http => {
            report.good("provider: http (AI_CALL_API_URL is set)");
            if config.provider.http.api_key.expose_secret().is_empty() {
                report.bad("provider: AI_CALL_API_KEY is not set");
            }
            if config.provider.http.lookup_url.is_empty() {
                report.note("provider: no look-up; a call in doubt waits for its webhook, or FAILS as UNKNOWN after calls.max_call_secs");
            }
            if is_local(url) {
                report.note(&format!("webhooks: the provider is told {url}, which only this machine can reach (SERVICE_URL, WEBHOOK_BASE_URL)"));
            }
        }
        ProviderKind::Ultravox => examine_ultravox(config, report).await,
        ProviderKind::Unset => report.bad("provider: none that can dial"),
    }
}

fn is_local(url: &str) -> bool {
    url.contains("localhost") || url.contains("127.0.0.1") || url.contains("[::1]")
}

/// Keys and account by asking; addresses and numbers by their form. Nobody is called.
async fn examine_ultravox(config: &Config, report: &mut Report) {
    let (settings, telnyx) = (&config.ultravox, &config.telnyx);
    let we_dial = settings.mode == UltravoxMode::TelnyxDials;
    report.good(match settings.mode {
        UltravoxMode::UltravoxDials => "provider: ultravox, dialing through the Telnyx account stored there",
        UltravoxMode::TelnyxDials => "provider: ultravox, with our own dials by Telnyx Call Control",
    });
    let client = match service::ultravox(config, b"doctor") {
        Ok(client) => client,
        Err(error) => return report.bad(&format!("provider: {error:#}")),
    };
    match client.examine().await {
        Ok(account) => {
            let allowed = account.allowed_concurrent_calls;
            let shown = allowed.map_or("any number of".to_owned(), |n| n.to_string());
            report.good(&format!("ultravox: the key is good; the account allows {shown} calls at once"));
            if allowed.is_some_and(|allowed| allowed < i64::from(config.calls.max_concurrent)) {
                report.note(&format!(
                    "ultravox: calls.max_concurrent is {}; what is refused is asked again later, at no dial's cost",
                    config.calls.max_concurrent
                ));
            }
        }
        Err(reason) => report.bad(&format!("ultravox: {reason} (ULTRAVOX_API_KEY, ULTRAVOX_API_URL)")),
    }
    if we_dial {
        match client.carrier().examine().await {
            Ok(()) => report.good("telnyx: the key is good and opens the connection"),
            Err(reason) => report.bad(&format!("telnyx: {reason} (TELNYX_API_KEY, TELNYX_CONNECTION_ID)")),
        }
        report.note("telnyx: a new account may have 2 calls at once, a verified one 10, and 30 dials a second; set provider.dials_per_second to stay below");
    } else if telnyx.api_key.expose_secret().is_empty() {
        report.note("telnyx: without TELNYX_API_KEY a call that still rings cannot be hung up");
    }
    report.good(&format!("telnyx: the callee is shown {} (TELNYX_FROM_NUMBER)", telnyx.from_number));
    if telnyx.public_key.is_empty() {
        report.note(
            "telnyx: its webhooks are believed by the token of our URL; set TELNYX_PUBLIC_KEY to require signatures",
        );
    } else {
        report.good("telnyx: its webhooks must be signed");
    }
    let url = &config.server.public_url;
    if is_local(url) && is_local(&settings.api_url) {
        report.note(&format!(
            "webhooks: {url} is of this machine, and so is Ultravox ({}): for trying only",
            settings.api_url
        ));
    } else if is_local(url) {
        report.bad(&format!("webhooks: {url} cannot be reached from outside: set SERVICE_URL to an https address of this service. Until then calls are followed by asking, every executor.inquiry_secs"));
    } else if url.starts_with("https://") {
        report.good(&format!("webhooks: {url} (SERVICE_URL)"));
    } else {
        report.note(&format!("webhooks: {url} is not https: what is said on calls travels in the open (SERVICE_URL)"));
    }
}

fn examine_access(config: &Config, report: &mut Report) {
    let loopback = config.server.is_loopback();
    if config.auth.open && !loopback {
        report.bad("access: auth.open on an address others can reach: whoever reaches it may call anybody");
    } else if loopback {
        report.good("access: loopback; requests without a key act as the local operator, where nothing tells that they come from elsewhere");
    } else {
        report.good("access: keys are needed");
    }
    match (config.webhooks.keys().map_or(0, |keys| keys.len()), loopback) {
        (0, true) => report.note("status and outcome webhooks: accepted unsigned on loopback; set WEBHOOK_SECRET for production"),
        (0, false) => report.note(
            "status and outcome webhooks: accepted only with the token of the URL we sent; set WEBHOOK_SECRET to require signatures",
        ),
        (n, _) => {
            report.good(&format!("status and outcome webhooks: must be signed ({n} secret{})", if n == 1 { "" } else { "s, rotating" }))
        }
    }
}
