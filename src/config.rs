//! Settings: the compiled-in `config.toml`, over it a file, over it the environment, checked once at start.
//!
//! Owns every read of the environment. Modules get their own section, never the whole. An unknown key in the file is an
//! error that names it; a relation that would be unsafe (a lease shorter than a dial) refuses to start.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de};

use crate::domain::disposition::Disposition;
use crate::domain::phone::PhoneNumber;
use crate::domain::place::{Place, is_country};
use crate::domain::retry::Policy;
use crate::domain::webhook_key::{self, WebhookKey};

/// All but the unreserved characters of a URL (RFC 3986 §2.3).
pub const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The file at the top of the repository, which documents every key.
pub const DEFAULTS: &str = include_str!("../config.toml");

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub server: Server,
    pub auth: Auth,
    pub database: Database,
    pub calls: Calls,
    pub rules: Rules,
    pub executor: Executor,
    pub retry: Retry,
    pub provider: Provider,
    pub ultravox: Ultravox,
    pub telnyx: Telnyx,
    pub causes: Causes,
    pub webhooks: Webhooks,
    pub simulator: Simulator,
    pub scheduler: Scheduler,
    pub planner: Planner,
    pub notifier: Notifier,
    pub quota: Quota,
    pub log: Log,
    /// Names that were set and have no effect: of other systems (`REDIS_*`).
    #[serde(skip)]
    pub unneeded: Vec<String>,
}

/// When, where and how often people are called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    pub single_calls: Obedience,
    pub destinations: Obedience,
    pub countries: String,
    pub frequency: Obedience,
    pub dials_per_number_per_day: i32,
    pub minutes_between_calls: i32,
    pub callbacks_per_call: i16,
}

/// Whether a rule holds calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Obedience {
    #[serde(rename = "")]
    ByProvider,
    Obey,
    /// Dial, and say what the rule says.
    Tell,
}

impl Obedience {
    /// Whether the rule holds calls of this provider: where phones may ring it does, unless the settings say otherwise.
    #[must_use]
    pub fn holds(self, provider: ProviderKind) -> bool {
        match self {
            Self::ByProvider => provider != ProviderKind::Simulator,
            Self::Obey => true,
            Self::Tell => false,
        }
    }
}

impl Config {
    /// The countries that users without a list of their own may call; none: any.
    ///
    /// # Errors
    /// What is no code of a country.
    pub fn countries(&self) -> anyhow::Result<Option<Vec<String>>> {
        let given: Vec<String> =
            self.rules.countries.split(',').map(str::trim).filter(|code| !code.is_empty()).map(str::to_owned).collect();
        if let Some(wrong) = given.iter().find(|code| *code != "*" && !is_country(code)) {
            bail!("rules.countries: {wrong:?} is no ISO 3166 code of two capital letters, and not *");
        }
        if !given.is_empty() || self.provider.kind != ProviderKind::Ultravox {
            return Ok(Some(given).filter(|given| !given.is_empty()));
        }
        let caller = PhoneNumber::parse(&self.telnyx.from_number).map(|number| Place::of(&number).country);
        Ok(caller.ok().filter(|country| is_country(country)).map(|country| vec![country]))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    pub bind: IpAddr,
    pub port: u16,
    pub public_url: String,
    pub hosts: String,
    pub body_bytes_max: usize,
    pub list_body_bytes_max: usize,
    pub upload_bytes_max: usize,
    pub batch_rows_max: usize,
    pub key_requests_per_second: u32,
    pub unknown_keys_per_second: u32,
    pub reads_per_tenant: usize,
    pub bodies_bytes_max: usize,
    pub answers_bytes_max: usize,
    pub connections_max: usize,
    pub header_timeout_secs: u64,
    pub idle_timeout_secs: u64,
    pub body_timeout_secs: u64,
    pub drain_secs: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    pub admin_key: SecretString,
    pub open: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: SecretString,
    pub data_dir: PathBuf,
    pub bin_dir: PathBuf,
    pub newest_attempt_file: PathBuf,
    pub work_connections: u32,
    pub read_connections: u32,
    pub gate_connections: u32,
    pub acquire_timeout_secs: u64,
    pub statement_timeout_secs: u64,
    pub lock_timeout_secs: u64,
    pub idle_in_transaction_timeout_secs: u64,
    pub migrate_timeout_secs: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    pub max_concurrent: i32,
    pub max_attempts: i16,
    pub lease_secs: u64,
    pub max_call_secs: u64,
    pub dial_guard_secs: f64,
    pub look_again_after_ms: u64,
    pub lanes_per_claim: i32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    pub dials_in_flight: usize,
    pub batch_max: usize,
    pub answer_flush_ms: u64,
    pub poll_ms: u64,
    pub inquiry_secs: u64,
    pub inquiries_in_flight: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    pub base_secs: f64,
    pub factor: f64,
    pub max_secs: f64,
    pub jitter: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// Nothing chosen: resolved at load.
    #[serde(rename = "")]
    Unset,
    Simulator,
    Http,
    Ultravox,
}

impl ProviderKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "unset",
            Self::Simulator => "simulator",
            Self::Http => "http",
            Self::Ultravox => "ultravox",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    pub kind: ProviderKind,
    pub dials_per_second: f64,
    pub dial_timeout_secs: u64,
    pub lookup_grace_secs: u64,
    pub retry_after_secs_min: u64,
    pub retry_after_secs_max: u64,
    pub ceiling_recovery_secs: u64,
    pub equal_refusals_max: i32,
    pub breaker: Breaker,
    pub http: Http,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Breaker {
    pub window_secs: u64,
    pub failures_min: i32,
    pub ratio: f64,
    pub open_secs: f64,
    pub open_secs_max: f64,
}

/// Who dials when Ultravox talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UltravoxMode {
    UltravoxDials,
    TelnyxDials,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ultravox {
    pub mode: UltravoxMode,
    pub api_key: SecretString,
    pub api_url: String,
    pub webhook_secret: SecretString,
    pub webhook_tolerance_secs: u64,
    pub ring_secs: u32,
    pub join_timeout_secs: u32,
    pub max_duration_secs: i32,
    pub first_message_delay_secs: f64,
    pub recording: bool,
    pub status_callback_key: String,
    pub record_after_secs: f64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telnyx {
    pub from_number: String,
    pub api_key: SecretString,
    pub api_url: String,
    pub connection_id: String,
    pub public_key: String,
    pub webhook_tolerance_secs: u64,
    pub machine_detection: String,
}

/// What causes mean, by who gives them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Causes {
    pub telnyx: BTreeMap<String, Meaning>,
    pub telnyx_dial: BTreeMap<String, Meaning>,
    pub sip: BTreeMap<String, Meaning>,
    pub texml: BTreeMap<String, Meaning>,
    pub ultravox: BTreeMap<String, Disposition>,
    pub machine: BTreeMap<String, Disposition>,
}

#[cfg(test)]
impl Causes {
    /// The table of `config.toml`.
    pub(crate) fn shipped() -> Self {
        from_parts(None, &BTreeMap::new()).expect("the defaults").causes
    }
}

/// What a carrier's cause means. `dials_max`: after so many dials of the call this cause is no reason for another, or none for another
/// that costs no attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The attempt ended so.
    Ends { disposition: Disposition, dials_max: Option<i16> },
    /// The way to the phone was shut: tried again soon, and it costs no attempt. `full`: our account's way, so fewer calls at once.
    TurnedAway { full: bool, dials_max: Option<i16> },
    /// The carrier refuses us, whatever the call; a person should look at `setting`.
    Barred { setting: &'static str },
}

/// What a cause that bars us may name, for a person to look at.
const BARRING: &[&str] = &[
    "TELNYX_API_KEY",
    "TELNYX_API_URL",
    "SERVICE_URL",
    "telnyx.connection_id",
    "telnyx.from_number",
    "telnyx.machine_detection",
];

impl<'de> Deserialize<'de> for Meaning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Meaning {
    /// The meaning of a line of the tables.
    fn of(text: &str) -> Result<Self, String> {
        let (name, more) = text.split_once(' ').map_or((text, None), |(name, more)| (name, Some(more.trim())));
        if name == "BARRED" {
            let wanted = more.unwrap_or("TELNYX_API_KEY");
            let setting = BARRING.iter().find(|setting| **setting == wanted);
            return setting
                .map(|setting| Self::Barred { setting })
                .ok_or_else(|| format!("{text}: BARRED names one of {}", BARRING.join(", ")));
        }
        let dials_max = match more.map(str::parse::<i16>) {
            None => None,
            Some(Ok(dials)) if dials > 0 => Some(dials),
            Some(_) => return Err(format!("{text}: what follows {name} is the number of dials, from 1")),
        };
        match name {
            "REQUEUE" => Ok(Self::TurnedAway { full: false, dials_max }),
            "CAPACITY" => Ok(Self::TurnedAway { full: true, dials_max }),
            _ => serde_json::from_value(name.into()).map(|disposition| Self::Ends { disposition, dials_max }).map_err(
                |_| format!("{text} is neither a disposition (BUSY, NO_ANSWER, …) nor REQUEUE, CAPACITY or BARRED"),
            ),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Http {
    pub url: String,
    pub api_key: SecretString,
    pub lookup_url: String,
    pub capacity_on_503: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    pub secret: SecretString,
    pub tolerance_secs: u64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notifier {
    pub tick_ms: u64,
    pub timeout_secs: u64,
    pub in_flight: usize,
    pub in_flight_per_user: usize,
    pub disable_after_days: u32,
    pub keep_days: u32,
    pub allow_internal: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Simulator {
    pub duration_secs_min: f64,
    pub duration_secs_max: f64,
    pub success_rate: f64,
    pub speed: f64,
    pub seed: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    pub tick_ms: u64,
    pub idempotency_hours: u32,
    pub stray_event_days: u32,
    pub upload_days: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planner {
    pub interval_minutes: f64,
    pub batch_users: i64,
    pub calls_per_user: i64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    pub reserve_minutes: i32,
    pub waiting_calls_max: i64,
    pub upload_bytes_max: i64,
    pub kept_answer_bytes_max: i64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
    pub dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Auto,
    Json,
    Pretty,
}

/// Settings that are secrets.
const SECRETS: [&str; 6] = [
    "auth.admin_key",
    "provider.http.api_key",
    "telnyx.api_key",
    "ultravox.api_key",
    "ultravox.webhook_secret",
    "webhooks.secret",
];

/// Short names, as users of calling platforms know them, and the keys they set.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("PORT", "server.port"),
    ("SERVICE_URL", "server.public_url"),
    // Later lines win: WEBHOOK_BASE_URL over SERVICE_URL.
    ("WEBHOOK_BASE_URL", "server.public_url"),
    ("DATABASE_URL", "database.url"),
    ("AI_CALL_API_URL", "provider.http.url"),
    ("AI_CALL_API_KEY", "provider.http.api_key"),
    ("WEBHOOK_SECRET", "webhooks.secret"),
    ("MAX_CONCURRENT_CALLS", "calls.max_concurrent"),
    ("MAX_RETRY_ATTEMPTS", "calls.max_attempts"),
    ("ULTRAVOX_API_KEY", "ultravox.api_key"),
    ("ULTRAVOX_API_URL", "ultravox.api_url"),
    ("ULTRAVOX_WEBHOOK_SECRET", "ultravox.webhook_secret"),
    ("TELNYX_FROM_NUMBER", "telnyx.from_number"),
    ("TELNYX_API_KEY", "telnyx.api_key"),
    ("TELNYX_API_URL", "telnyx.api_url"),
    ("TELNYX_CONNECTION_ID", "telnyx.connection_id"),
    ("TELNYX_PUBLIC_KEY", "telnyx.public_key"),
    ("BATCH_SIZE", "planner.batch_users"),
    ("SCHEDULE_INTERVAL", "planner.interval_minutes"),
];

/// Accepted for the sake of existing `.env` files, with one log line that they have no effect.
const UNNEEDED_PREFIXES: &[&str] = &["REDIS_", "KAFKA_"];

/// Reads the settings of this process: file, then environment.
///
/// # Errors
/// Names the key and where it came from.
pub fn load() -> anyhow::Result<Config> {
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let file = match environment.get("OUTDIAL_CONFIG") {
        Some(path) if Path::new(path).is_file() => Some(PathBuf::from(path)),
        Some(path) => bail!("OUTDIAL_CONFIG: there is no file {path}"),
        None => Some(PathBuf::from("config.toml")).filter(|path| path.is_file()),
    };
    from_parts(file.as_deref(), &environment)
}

/// The settings that a file and an environment make; the environment is a parameter so that tests have their own.
///
/// # Errors
/// Names the key and where it came from.
pub fn from_parts(file: Option<&Path>, environment: &BTreeMap<String, String>) -> anyhow::Result<Config> {
    let mut figment = Figment::from(Toml::string(DEFAULTS));
    if let Some(path) = file {
        figment = figment.merge(Toml::file(path));
    }
    for (name, key) in SHORT_NAMES {
        if let Some(value) = environment.get(*name).filter(|value| !value.trim().is_empty()) {
            figment = figment.merge(Serialized::default(key, typed(key, value)));
        }
    }
    if let Some(url) = database_url_of_parts(environment) {
        figment = figment.merge(Serialized::default("database.url", url));
    }
    for (name, value) in environment {
        if let Some(key) = name.strip_prefix("OUTDIAL_").filter(|key| key.contains("__")) {
            let key = key.to_lowercase().replace("__", ".");
            // A blank one takes no secret of the file away.
            if SECRETS.contains(&key.as_str()) && value.trim().is_empty() {
                continue;
            }
            figment = figment.merge(Serialized::default(&key, typed(&key, value)));
        }
    }
    let mut config: Config = figment.extract().map_err(|error| explain(&error))?;
    if config.provider.kind == ProviderKind::Unset {
        config.provider.kind = if !config.provider.http.url.is_empty() {
            ProviderKind::Http
        } else if !config.ultravox.api_key.expose_secret().is_empty() {
            ProviderKind::Ultravox
        } else {
            ProviderKind::Simulator
        };
    }
    config.unneeded = environment
        .keys()
        .filter(|name| UNNEEDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
        .cloned()
        .collect();
    config.check()?;
    Ok(config)
}

/// A text from the environment as the type its default has: a secret of digits stays a text.
fn typed(key: &str, value: &str) -> figment::value::Value {
    let default = Figment::from(Toml::string(DEFAULTS)).find_value(key).ok();
    if matches!(default, Some(figment::value::Value::String(..))) {
        return figment::value::Value::from(value);
    }
    value.parse().unwrap_or_else(|_| figment::value::Value::from(value))
}

/// `DB_HOST` and its sisters, used when `DATABASE_URL` is not set.
fn database_url_of_parts(environment: &BTreeMap<String, String>) -> Option<String> {
    let has = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    if has("DATABASE_URL").is_some()
        || !["DB_HOST", "DB_PORT", "DB_USERNAME", "DB_PASSWORD", "DB_DATABASE"].iter().any(|name| has(name).is_some())
    {
        return None;
    }
    let part = |name: &str, default: &str| has(name).map_or(default, String::as_str).to_owned();
    let escaped = |text: String| utf8_percent_encode(&text, RESERVED).to_string();
    Some(format!(
        "postgres://{}:{}@{}:{}/{}",
        escaped(part("DB_USERNAME", "postgres")),
        escaped(part("DB_PASSWORD", "password")),
        part("DB_HOST", "localhost"),
        part("DB_PORT", "5432"),
        escaped(part("DB_DATABASE", "ai_call_orchestrator")),
    ))
}

/// What is wrong with a setting, and by which names it can be set.
fn explain(errors: &figment::Error) -> anyhow::Error {
    let of = |error: figment::Error| {
        let file =
            error.metadata.as_ref().and_then(|metadata| metadata.source.as_ref()?.file_path().map(Path::to_owned));
        let file = file.map(|path| format!(", in {}", path.display())).unwrap_or_default();
        if error.path.is_empty() {
            return format!("{}{file}", error.kind);
        }
        let key = error.path.join(".");
        let names = SHORT_NAMES.iter().filter(|(_, long)| *long == key).map(|(name, _)| (*name).to_owned());
        let names: Vec<String> = names.chain([format!("OUTDIAL_{}", error.path.join("__").to_uppercase())]).collect();
        format!("{key} ({}{file}): {}", names.join(", "), error.kind)
    };
    let lines: Vec<String> = errors.clone().into_iter().map(of).collect();
    anyhow::anyhow!("settings: {}", lines.join("; "))
}

/// A cause means what the carrier or the agent's side can know: the rest only a person says.
fn check_cause(table: &str, cause: &str, disposition: Disposition) -> anyhow::Result<()> {
    match disposition {
        Disposition::Busy
        | Disposition::NoAnswer
        | Disposition::Voicemail
        | Disposition::Failed
        | Disposition::WrongNumber
        | Disposition::Refused
        | Disposition::Canceled
        | Disposition::Completed => Ok(()),
        other => bail!(
            "causes.{table}.{cause}: {} is for people to say; a cause may mean BUSY, NO_ANSWER, VOICEMAIL, FAILED, WRONG_NUMBER, REFUSED, CANCELED or COMPLETED",
            other.as_str()
        ),
    }
}

fn is_web(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

impl Config {
    /// Relations between settings that would be unsafe otherwise.
    fn check(&self) -> anyhow::Result<()> {
        let calls = &self.calls;
        if calls.lease_secs < self.provider.dial_timeout_secs + 3 {
            bail!(
                "calls.lease_secs ({}) must be at least 3 more than provider.dial_timeout_secs ({}): a dial must not outlive its lease",
                calls.lease_secs,
                self.provider.dial_timeout_secs
            );
        }
        if calls.max_concurrent < 1 || calls.max_attempts < 1 || calls.lanes_per_claim < 8 {
            bail!("calls.max_concurrent and calls.max_attempts must be at least 1, calls.lanes_per_claim at least 8");
        }
        let database = &self.database;
        if database.work_connections < 5 || database.read_connections < 1 || database.gate_connections < 1 {
            bail!(
                "database.work_connections must be at least 5 (three are kept by the dispatcher and the enqueuer, the others are shared), database.read_connections and database.gate_connections at least 1"
            );
        }
        self.server.check()?;
        self.rules.check()?;
        self.webhooks.keys()?;
        self.ultravox.webhook_secrets()?;
        if let Some(Err(fault)) = self.auth.admin_key().map(|key| webhook_key::is_long(key.as_bytes())) {
            bail!("auth.admin_key (OUTDIAL_AUTH__ADMIN_KEY): {fault}");
        }
        if self.executor.dials_in_flight < 1 || self.executor.batch_max < 1 || self.executor.inquiries_in_flight < 1 {
            bail!("executor.dials_in_flight, executor.batch_max and executor.inquiries_in_flight must be at least 1");
        }
        let (planner, quota) = (&self.planner, &self.quota);
        if planner.interval_minutes <= 0.0
            || planner.batch_users < 1
            || planner.calls_per_user < 1
            || quota.reserve_minutes < 1
        {
            bail!(
                "planner.interval_minutes (SCHEDULE_INTERVAL), planner.batch_users (BATCH_SIZE), planner.calls_per_user and quota.reserve_minutes must be above 0"
            );
        }
        if self.executor.poll_ms == 0 || self.scheduler.tick_ms == 0 {
            bail!("executor.poll_ms and scheduler.tick_ms must be more than 0");
        }
        let notifier = &self.notifier;
        if notifier.tick_ms == 0
            || notifier.timeout_secs == 0
            || notifier.disable_after_days == 0
            || !(1..=notifier.in_flight).contains(&notifier.in_flight_per_user)
        {
            bail!(
                "notifier: tick_ms, timeout_secs, in_flight and disable_after_days at least 1, in_flight_per_user within 1 to in_flight"
            );
        }
        let simulator = &self.simulator;
        let fits = simulator.duration_secs_min >= 0.0
            && simulator.duration_secs_max >= simulator.duration_secs_min
            && (0.0..=1.0).contains(&simulator.success_rate)
            && simulator.speed > 0.0;
        if !fits {
            bail!("simulator: durations from min to max, success_rate within 0 to 1, speed above 0");
        }
        if self.retry.factor < 1.0 || self.retry.base_secs < 0.0 || self.retry.max_secs < self.retry.base_secs {
            bail!("retry: factor at least 1, base_secs at least 0 and not above max_secs");
        }
        if self.provider.kind == ProviderKind::Http && self.provider.http.url.is_empty() {
            bail!("provider.http.url (AI_CALL_API_URL) is needed by the provider http");
        }
        let http = &self.provider.http;
        if !http.url.is_empty() && !is_web(&http.url) {
            bail!("provider.http.url (AI_CALL_API_URL) must start with http:// or https://");
        }
        if self.provider.kind == ProviderKind::Ultravox {
            self.check_ultravox()?;
        }
        self.check_causes()?;
        let breaker = &self.provider.breaker;
        if breaker.failures_min < 1
            || !(0.0..=1.0).contains(&breaker.ratio)
            || breaker.open_secs <= 0.0
            || breaker.open_secs_max < breaker.open_secs
        {
            bail!(
                "provider.breaker: failures_min at least 1, ratio within 0 to 1, open_secs above 0 and not above open_secs_max"
            );
        }
        let lookup = &self.provider.http.lookup_url;
        if !lookup.is_empty() && !lookup.contains("{attemptId}") {
            bail!("provider.http.lookup_url must contain {{attemptId}}");
        }
        if !self.server.public_url.starts_with("http") {
            bail!("server.public_url (SERVICE_URL) must start with http:// or https://");
        }
        Ok(())
    }

    /// Causes are translated into what a carrier can know; a busy line must not put anybody on a do-not-call list.
    fn check_causes(&self) -> anyhow::Result<()> {
        let causes = &self.causes;
        for (table, lines) in [("telnyx", &causes.telnyx), ("sip", &causes.sip), ("texml", &causes.texml)] {
            for (cause, meaning) in lines {
                if let Meaning::Ends { disposition, .. } = meaning {
                    check_cause(table, cause, *disposition)?;
                }
            }
        }
        for (cause, meaning) in &causes.telnyx_dial {
            if let Meaning::Ends { disposition, dials_max } = meaning
                && (!matches!(disposition, Disposition::Refused | Disposition::WrongNumber) || dials_max.is_some())
            {
                bail!(
                    "causes.telnyx_dial.{cause}: an answer to a dial may mean REFUSED, WRONG_NUMBER, CAPACITY, REQUEUE or BARRED"
                );
            }
        }
        for (table, lines) in [("ultravox", &causes.ultravox), ("machine", &causes.machine)] {
            for (cause, disposition) in lines {
                check_cause(table, cause, *disposition)?;
            }
        }
        let is_code =
            |code: &&String| code.parse::<u16>().is_ok_and(|number| (100..1000).contains(&number)) && code.len() == 3;
        if let Some(code) = causes.sip.keys().find(|code| !is_code(code)) {
            bail!("causes.sip.{code}: is no SIP code, three digits");
        }
        Ok(())
    }

    /// What the provider ultravox needs.
    fn check_ultravox(&self) -> anyhow::Result<()> {
        let (ultravox, telnyx) = (&self.ultravox, &self.telnyx);
        if ultravox.api_key.expose_secret().is_empty() {
            bail!("ultravox.api_key (ULTRAVOX_API_KEY) is needed by the provider ultravox");
        }
        for (name, url) in [
            ("ultravox.api_url (ULTRAVOX_API_URL)", &ultravox.api_url),
            ("telnyx.api_url (TELNYX_API_URL)", &telnyx.api_url),
        ] {
            if !is_web(url) {
                bail!("{name} must start with http:// or https://");
            }
        }
        let number = PhoneNumber::parse(&telnyx.from_number);
        let is_e164 = number.is_ok_and(|number| number.as_str() == telnyx.from_number);
        if !is_e164 {
            bail!(
                "telnyx.from_number (TELNYX_FROM_NUMBER) must be the caller's number in E.164, for example +14155550100"
            );
        }
        if ultravox.mode == UltravoxMode::TelnyxDials
            && (telnyx.api_key.expose_secret().is_empty() || telnyx.connection_id.is_empty())
        {
            bail!(
                "ultravox.mode telnyx-dials needs telnyx.api_key (TELNYX_API_KEY) and telnyx.connection_id (TELNYX_CONNECTION_ID)"
            );
        }
        let key = telnyx.public_key.trim();
        if !key.is_empty() && STANDARD.decode(key).map_or(true, |key| key.len() != 32) {
            bail!(
                "telnyx.public_key (TELNYX_PUBLIC_KEY) must be base64 of 32 bytes, as the portal shows it: with this one every webhook of theirs would be refused"
            );
        }
        if telnyx.machine_detection.trim().is_empty() {
            bail!("telnyx.machine_detection must not be empty; disabled is one of its values");
        }
        if !(5..=120).contains(&ultravox.ring_secs) || ultravox.join_timeout_secs < ultravox.ring_secs + 15 {
            bail!(
                "ultravox: ring_secs within 5 to 120, join_timeout_secs at least 15 more: the agent waits for a phone that rings to the end"
            );
        }
        if self.calls.max_call_secs < u64::from(ultravox.join_timeout_secs) + 60 {
            bail!("calls.max_call_secs must leave at least a minute to talk after ultravox.join_timeout_secs");
        }
        if ultravox.max_duration_secs < 30
            || ultravox.first_message_delay_secs < 0.0
            || ultravox.record_after_secs < 0.0
        {
            bail!("ultravox: max_duration_secs at least 30, first_message_delay_secs and record_after_secs at least 0");
        }
        Ok(())
    }

    /// The retry policy in force; the simulator's speed divides it.
    #[must_use]
    pub fn retry_policy(&self) -> Policy {
        let speed = self.time_divisor();
        Policy {
            base: Duration::from_secs_f64(self.retry.base_secs / speed),
            factor: self.retry.factor,
            max: Duration::from_secs_f64(self.retry.max_secs / speed),
            jitter: self.retry.jitter,
        }
    }

    /// What times of calls are divided by: the simulator's speed, 1 with real providers.
    #[must_use]
    pub fn time_divisor(&self) -> f64 {
        if self.provider.kind == ProviderKind::Simulator { self.simulator.speed } else { 1.0 }
    }
}

impl Webhooks {
    /// The keys in force; more than one while they are rotated.
    ///
    /// # Errors
    /// One of them is no key.
    pub fn keys(&self) -> anyhow::Result<Vec<WebhookKey>> {
        let key = |secret: SecretString| WebhookKey::parse(secret.expose_secret());
        let keys: Result<_, String> = listed(&self.secret).into_iter().map(key).collect();
        named_list("webhooks.secret (WEBHOOK_SECRET)", &self.secret, keys)
    }
}

/// The setting's name before what is wrong with it; a list that names nothing is wrong too.
fn named_list<T>(setting: &str, text: &SecretString, read: Result<Vec<T>, String>) -> anyhow::Result<Vec<T>> {
    let keys = read.map_err(|fault| anyhow::anyhow!("{setting}: {fault}"))?;
    if keys.is_empty() && !text.expose_secret().trim().is_empty() {
        bail!("{setting}: names no secret");
    }
    Ok(keys)
}

impl Ultravox {
    /// The secrets set for their webhooks: the text is the key.
    ///
    /// # Errors
    /// One of them is no key.
    pub fn webhook_secrets(&self) -> anyhow::Result<Vec<SecretString>> {
        let key = |secret: SecretString| match WebhookKey::parse(secret.expose_secret())? {
            WebhookKey::Public(_) => Err("a public key (whpk_) is no secret".to_owned()),
            WebhookKey::Standard(_) | WebhookKey::Hex(_) => Ok(secret),
        };
        let keys: Result<_, String> = listed(&self.webhook_secret).into_iter().map(key).collect();
        named_list("ultravox.webhook_secret (ULTRAVOX_WEBHOOK_SECRET)", &self.webhook_secret, keys)
    }
}

impl Auth {
    /// The admin key of the settings, if there is one.
    #[must_use]
    pub fn admin_key(&self) -> Option<&str> {
        Some(self.admin_key.expose_secret().trim()).filter(|key| !key.is_empty())
    }
}

/// Secrets separated by commas.
fn listed(secrets: &SecretString) -> Vec<SecretString> {
    let all = secrets.expose_secret().split(',').map(str::trim);
    all.filter(|secret| !secret.is_empty()).map(SecretString::from).collect()
}

impl Rules {
    fn check(&self) -> anyhow::Result<()> {
        if self.dials_per_number_per_day < 0 || self.minutes_between_calls < 0 || self.callbacks_per_call < 0 {
            bail!(
                "rules.dials_per_number_per_day, rules.minutes_between_calls and rules.callbacks_per_call must not be negative"
            );
        }
        if self.minutes_between_calls > 24 * 60 {
            bail!("rules.minutes_between_calls must be at most a day (1440)");
        }
        Ok(())
    }
}

impl Server {
    /// Doors that let somebody in, and close.
    fn check(&self) -> anyhow::Result<()> {
        if self.reads_per_tenant < 1 || self.connections_max < 1 {
            bail!("server.reads_per_tenant and server.connections_max must be at least 1");
        }
        if self.header_timeout_secs < 1 || self.idle_timeout_secs < 1 || self.body_timeout_secs < 1 {
            bail!(
                "server.header_timeout_secs, server.idle_timeout_secs and server.body_timeout_secs must be at least 1: what never ends would be held for ever"
            );
        }
        let largest = self.body_bytes_max.max(self.list_body_bytes_max);
        if self.bodies_bytes_max < largest || self.bodies_bytes_max > 1 << 40 {
            bail!(
                "server.bodies_bytes_max must be at least server.body_bytes_max and server.list_body_bytes_max ({largest}), and at most 1 TiB: a body that has no room is never read"
            );
        }
        if self.answers_bytes_max < 1 {
            bail!("server.answers_bytes_max must be at least 1: no read would begin");
        }
        Ok(())
    }

    /// Whether only this machine can reach the API.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.bind.is_loopback()
    }
}

/// A few variables that are not settings of the service but of its surroundings.
pub mod surroundings {
    use std::path::PathBuf;

    /// The folder of this user's state, by the XDG base directory specification.
    #[must_use]
    pub fn state_home() -> Option<PathBuf> {
        let set = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        set.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")))
    }

    /// The folders programs are looked for in.
    #[must_use]
    pub fn path() -> Vec<PathBuf> {
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
    }

    /// The name of this machine, for operators; never used to decide anything.
    #[must_use]
    pub fn host() -> String {
        std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> anyhow::Result<Config> {
        let environment = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        from_parts(None, &environment)
    }

    /// The compiled-in file is complete: it alone makes a configuration, with the documented defaults.
    #[test]
    fn defaults_are_those_documented() {
        let config = with(&[]).expect("defaults");
        assert_eq!(config.server.port, 3000);
        assert_eq!(config.calls.max_concurrent, 30);
        assert_eq!(config.calls.max_attempts, 3);
        assert_eq!(config.provider.kind, ProviderKind::Simulator);
        assert_eq!(config.server.public_url, "http://localhost:3000");
    }

    /// The short names work, WEBHOOK_BASE_URL wins over SERVICE_URL, and a key of digits stays a text.
    #[test]
    fn short_names_work() {
        let config = with(&[
            ("PORT", "8080"),
            ("MAX_CONCURRENT_CALLS", "7"),
            ("SERVICE_URL", "https://one.example"),
            ("WEBHOOK_BASE_URL", "https://two.example"),
            ("AI_CALL_API_URL", "https://provider.example/api/v1/calls"),
            ("AI_CALL_API_KEY", "12345"),
            ("WEBHOOK_SECRET", "one of sixteen bytes, another one of sixteen"),
            ("REDIS_HOST", "localhost"),
        ])
        .expect("settings");
        assert_eq!(config.server.port, 8080);
        assert_eq!(config.calls.max_concurrent, 7);
        assert_eq!(config.server.public_url, "https://two.example");
        assert_eq!(config.provider.kind, ProviderKind::Http);
        assert_eq!(config.provider.http.api_key.expose_secret(), "12345");
        assert_eq!(config.webhooks.keys().expect("keys").len(), 2);
        assert_eq!(config.unneeded, ["REDIS_HOST"]);
    }

    /// DB_* make a URL, but only where DATABASE_URL is not set.
    #[test]
    fn database_parts_make_a_url() {
        let config = with(&[("DB_HOST", "db"), ("DB_PASSWORD", "p@ss")]).expect("settings");
        assert_eq!(config.database.url.expose_secret(), "postgres://postgres:p%40ss@db:5432/ai_call_orchestrator");
        let config = with(&[("DB_HOST", "db"), ("DATABASE_URL", "postgres://x/y")]).expect("settings");
        assert_eq!(config.database.url.expose_secret(), "postgres://x/y");
    }

    /// The long form overrides, and an unknown key is an error that names it.
    #[test]
    fn long_names_override_and_unknown_keys_are_named() {
        assert_eq!(with(&[("OUTDIAL_CALLS__LEASE_SECS", "20")]).expect("settings").calls.lease_secs, 20);
        let error = with(&[("OUTDIAL_CALLS__LEASSE_SECS", "20")]).expect_err("unknown key");
        assert!(format!("{error:#}").contains("leasse_secs"), "{error:#}");
        let error = with(&[("PORT", "many")]).expect_err("not a port");
        assert!(format!("{error:#}").contains("port"), "{error:#}");
    }

    /// No user may have more than all on the way, and nobody nothing.
    #[test]
    fn a_users_share_is_a_part_of_the_whole() {
        assert_eq!(with(&[]).expect("defaults").notifier.in_flight_per_user, 4);
        for bad in ["0", "17"] {
            let error = with(&[("OUTDIAL_NOTIFIER__IN_FLIGHT_PER_USER", bad)]).expect_err("no share");
            assert!(format!("{error:#}").contains("in_flight_per_user"), "{error:#}");
        }
    }

    /// Secrets that open to anybody stop the start, and the setting is named; a blank one is none.
    #[test]
    fn secrets_that_open_to_anybody_are_refused() {
        for (name, bad) in [
            ("WEBHOOK_SECRET", "whsec_"),
            ("WEBHOOK_SECRET", ","),
            ("WEBHOOK_SECRET", "short"),
            ("WEBHOOK_SECRET", "some text of an older one,whpk_AAAA"),
            ("WEBHOOK_SECRET", "whsec_not base64"),
            ("ULTRAVOX_WEBHOOK_SECRET", "a"),
            ("ULTRAVOX_WEBHOOK_SECRET", " , "),
            ("ULTRAVOX_WEBHOOK_SECRET", "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="),
            ("OUTDIAL_AUTH__ADMIN_KEY", "a"),
            ("OUTDIAL_AUTH__ADMIN_KEY", "fifteen bytes !"),
        ] {
            let error = format!("{:#}", with(&[(name, bad)]).expect_err(bad));
            assert!(error.contains(name), "{error}");
        }
        for blank in ["", "  "] {
            let names = ["WEBHOOK_SECRET", "ULTRAVOX_WEBHOOK_SECRET", "OUTDIAL_AUTH__ADMIN_KEY"];
            let config = with(&names.map(|name| (name, blank))).expect("none set");
            assert_eq!((config.webhooks.keys().expect("none").len(), config.auth.admin_key()), (0, None));
        }
    }

    /// A lease shorter than a dial would let a second process call the same person: it refuses to start.
    #[test]
    fn refuses_a_lease_shorter_than_a_dial() {
        let error = with(&[("OUTDIAL_CALLS__LEASE_SECS", "10")]).expect_err("unsafe");
        assert!(format!("{error:#}").contains("lease_secs"), "{error:#}");
    }
}
