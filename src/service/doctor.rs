//! What is set, what works, and what a person should do about the rest.

use std::fmt::Write as _;
use std::time::Duration;

use secrecy::ExposeSecret;

use crate::config::{Config, ProviderKind};
use crate::db;
use crate::service::prepare_database;
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
    examine_provider(config, &mut report);
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
                Ok(true) => report.good("database: answers, can be written, schema up to date"),
                Ok(false) => report.bad("database: answers, but is read-only (a standby?)"),
                Err(error) => report.bad(&format!("database: {error}")),
            }
            match keys::any_admin(&db.read).await {
                Ok(true) => report.good("keys: there is an admin key"),
                Ok(false) => report.note("keys: none made yet (outdial key create --admin)"),
                Err(error) => report.bad(&format!("keys: {error}")),
            }
            examine_invariants(&db, report).await;
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

fn examine_provider(config: &Config, report: &mut Report) {
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
            if url.contains("localhost") || url.contains("127.0.0.1") {
                report.note(&format!("webhooks: the provider is told {url}, which only this machine can reach (SERVICE_URL, WEBHOOK_BASE_URL)"));
            }
        }
        ProviderKind::Ultravox | ProviderKind::Unset => report.bad("provider: none that can dial"),
    }
}

fn examine_access(config: &Config, report: &mut Report) {
    let loopback = config.server.is_loopback();
    if config.auth.open && !loopback {
        report.bad("access: auth.open on an address others can reach: whoever reaches it may call anybody");
    } else if loopback {
        report.good("access: loopback; requests without a key act as the local operator");
    } else {
        report.good("access: keys are needed");
    }
    match (config.webhooks.secrets().len(), loopback) {
        (0, true) => report.note("webhooks: accepted unsigned on loopback; set WEBHOOK_SECRET for production"),
        (0, false) => report.note(
            "webhooks: accepted only with the token of the URL we sent; set WEBHOOK_SECRET to require signatures",
        ),
        (n, _) => {
            report.good(&format!("webhooks: must be signed ({n} secret{})", if n == 1 { "" } else { "s, rotating" }))
        }
    }
}
