//! Logs and numbers: where they go, and the names of what is counted.
//!
//! Structured JSON lines on standard output (pretty on a terminal), optionally `combined.log` and `error.log` in a folder,
//! and a Prometheus registry rendered by the API. **Invariant:** numbers dialed, transcripts, secrets and bodies never reach
//! a log line; `PhoneNumber`'s `Debug` hides itself, and tests/it/operations.rs reads a run's log for them.

pub mod vitals;

use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::sync::OnceLock;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{Log, LogFormat};

type Boxed = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging for this process.
///
/// # Errors
/// A filter that does not parse, a folder that cannot be written.
pub fn start_logs(settings: &Log) -> anyhow::Result<()> {
    let filter = || EnvFilter::try_new(&settings.level).context("log.level is not a level or filter");
    let mut layers: Vec<Boxed> = Vec::new();
    let pretty = match settings.format {
        LogFormat::Auto => std::io::stdout().is_terminal(),
        LogFormat::Json => false,
        LogFormat::Pretty => true,
    };
    layers.push(if pretty {
        tracing_subscriber::fmt::layer().with_target(false).with_filter(filter()?).boxed()
    } else {
        json().with_filter(filter()?).boxed()
    });
    if !settings.dir.as_os_str().is_empty() {
        std::fs::create_dir_all(&settings.dir).with_context(|| format!("log.dir {}", settings.dir.display()))?;
        layers.push(json().with_writer(open(settings, "combined.log")?).with_filter(filter()?).boxed());
        layers.push(json().with_writer(open(settings, "error.log")?).with_filter(LevelFilter::ERROR).boxed());
    }
    tracing_subscriber::registry().with(layers).try_init().context("logging is started already")
}

/// One flat JSON object a line: level, message, fields, timestamp.
fn json<S>() -> tracing_subscriber::fmt::Layer<
    S,
    tracing_subscriber::fmt::format::JsonFields,
    tracing_subscriber::fmt::format::Format<tracing_subscriber::fmt::format::Json>,
>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer().json().flatten_event(true).with_target(false).with_current_span(false)
}

fn open(settings: &Log, name: &str) -> anyhow::Result<File> {
    let path = settings.dir.join(name);
    let opened = OpenOptions::new().create(true).append(true).open(&path);
    opened.with_context(|| format!("log file {}", path.display()))
}

/// The registry of this process; the first call makes it.
#[must_use]
pub fn registry() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let seconds =
            [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        let builder = PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &seconds);
        let recorder = match builder {
            Ok(builder) => builder.build_recorder(),
            Err(_) => PrometheusBuilder::new().build_recorder(),
        };
        let handle = recorder.handle();
        // A second recorder in one process (tests) is refused; the first stays.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    })
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("outdial_dials_total", "Dials by what the provider answered");
    describe_counter!("outdial_outcomes_total", "Attempts ended, by disposition");
    describe_counter!("outdial_wakes_total", "Why the dispatcher looked for work");
    describe_counter!("outdial_claimed_total", "Calls claimed");
    describe_counter!("outdial_events_total", "Events heard, by where they came from and what became of them");
    describe_counter!("outdial_deliveries_total", "Events sent to users' endpoints, by what came of it");
    describe_counter!("outdial_orphans_total", "Parked calls that only the sweep woke: should stay 0");
    describe_histogram!("outdial_turn_seconds", "One turn: settle and claim in a transaction");
    describe_histogram!(
        "outdial_dial_lateness_seconds",
        "Claimed after due, for calls that were due in a lane that was open"
    );
    describe_histogram!("outdial_dial_seconds", "How long the provider took to answer a dial");
    describe_histogram!("outdial_webhook_delay_seconds", "End of a call at the provider to our receipt");
    describe_gauge!("outdial_slots_used", "Live calls, by scope");
    describe_gauge!("outdial_slots_allowed", "Live calls allowed, by scope; provider: what its refusals have taught");
    describe_gauge!("outdial_breaker_open", "1 while the provider's circuit breaker is open or half open");
    describe_gauge!("outdial_unknown_attempts", "Attempts in doubt");
    describe_gauge!("outdial_calls", "Calls by status");
}
