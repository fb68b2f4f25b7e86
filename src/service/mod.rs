//! A running outdial: pools, provider, loops and router put together, and taken apart in order.
//!
//! One `JoinSet` owns every long-lived task. If one of them ends by itself the process ends, loudly; when asked to stop it stops
//! claiming, then accepting, drains what is under way, gives up its lease, and stops the embedded Postgres last.

pub mod demo;
pub mod doctor;
pub mod http;
pub mod reconcile;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::answers::Answers;
use crate::api::body::Budget;
use crate::api::keyless::Keyless;
use crate::api::scopes::Scope;
use crate::api::shares::Shares;
use crate::api::{self, About, Api, Limits, auth, webhooks};
use crate::config::{Config, ProviderKind, surroundings};
use crate::db::doorbell::Doorbell;
use crate::db::fault::within;
use crate::db::{self, Db, embedded};
use crate::domain::ids::{InstanceId, new_id};
use crate::executor::dial::Line;
use crate::executor::dispatcher::Dispatcher;
use crate::executor::high_water::HighWater;
use crate::executor::lease::Lease;
use crate::executor::pulse::Pulse;
use crate::executor::{self, inquiry};
use crate::notifier;
use crate::outcome::decide::Rules;
use crate::outcome::inbox::{Heard, Inbox};
use crate::planner;
use crate::provider::http::Http;
use crate::provider::simulator::Simulator;
use crate::provider::ultravox::Ultravox;
use crate::provider::{Provider, Said, signature};
use crate::queue::{Breaker, Enqueuer, Frequency, windows};
use crate::scheduler::{self, Scheduler, imports};
use crate::store::{installation, instances, keys};
use crate::telemetry;
use crate::telemetry::vitals::Vitals;

/// Which parts of the service a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    All,
    Api,
    Worker,
    Scheduler,
}

impl Role {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Api => "api",
            Self::Worker => "worker",
            Self::Scheduler => "scheduler",
        }
    }

    fn serves_api(self) -> bool {
        matches!(self, Self::All | Self::Api)
    }

    fn dials(self) -> bool {
        matches!(self, Self::All | Self::Worker)
    }

    fn keeps_house(self) -> bool {
        matches!(self, Self::All | Self::Scheduler)
    }
}

/// Giving up the lease is a courtesy: without it others wait until it runs out.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(3);

/// A started service.
pub struct Service {
    /// Where the API listens.
    pub address: SocketAddr,
    pub db: Db,
    tasks: JoinSet<&'static str>,
    stop: Stops,
    writes: TaskTracker,
    instance: InstanceId,
    vitals: Arc<Vitals>,
    high_water: Arc<HighWater>,
    server: Option<embedded::Server>,
    drain: Duration,
}

/// The order of stopping.
#[derive(Clone, Debug, Default)]
struct Stops {
    /// First: claim no more.
    claiming: CancellationToken,
    /// Then: accept no more.
    accepting: CancellationToken,
    /// Then: settle what is left.
    settling: CancellationToken,
    /// Last: lease, doorbell.
    rest: CancellationToken,
}

/// Locates the database, brings its schema up to date, and waits for it as long as `patience` if it is away.
///
/// # Errors
/// It does not come, or the migration fails.
pub async fn prepare_database(config: &Config, patience: Duration) -> anyhow::Result<(Db, Option<embedded::Server>)> {
    let (options, server) = db::locate(&config.database).await?;
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        match db::migrate(&options, &config.database).await {
            Ok(()) => break,
            Err(error) if tokio::time::Instant::now() < deadline && !is_migration_fault(&error) => {
                tracing::warn!(error = format!("{error:#}"), "waiting for Postgres");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok((Db::open(options, &config.database), server))
}

fn is_migration_fault(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<sqlx::migrate::MigrateError>()
        .is_some_and(|e| !matches!(e, sqlx::migrate::MigrateError::Execute(_)))
}

impl Service {
    /// Starts everything this role runs, on a database that is ready.
    ///
    /// # Errors
    /// The address is taken, keys are missing, the provider cannot be built, Postgres is away.
    pub async fn start(config: &Config, role: Role, db: Db, server: Option<embedded::Server>) -> anyhow::Result<Self> {
        let _ = telemetry::registry();
        let keyless = admit_keyless(config, &db).await?;
        let patience = statement_patience(config);
        let key = random_key();
        let settling_in = installation::settle_in(
            &db.work,
            &key,
            config.calls.max_concurrent,
            config.provider.kind.as_str(),
            config.provider.dials_per_second,
            &config.quota,
        );
        let settled = within(patience, settling_in).await.context("looking at the database")?;
        let token_key = settled.token_key;
        // What waits may have to be looked at anew: that takes as long as it takes.
        let rules_in_force = rules_in_force(config)?;
        windows::settle_rules(&db.work, &rules_in_force).await.context("putting the rules in force")?;
        if let Some(reason) = settled.held_for {
            tracing::error!(
                reason,
                "dialing is held: this is not the database that dialed last; outdial reconcile asks the provider, outdial reconcile --lift-hold goes on"
            );
        }
        let instance = InstanceId(new_id());
        let stop = Stops::default();
        let mut tasks = JoinSet::new();
        let doorbell = Doorbell::default();
        let inbox = Inbox::new(Duration::from_millis(config.executor.answer_flush_ms));
        let rules = rules_of(config);

        spawn(&mut tasks, "doorbell", doorbell.clone().ring_others(db.work.clone(), stop.rest.clone()));
        spawn(&mut tasks, "listener", doorbell.clone().hear_others(db.options.clone(), stop.claiming.clone()));
        let (enqueuer, enqueuing) = Enqueuer::new(db.work.clone(), doorbell.clone(), patience, stop.settling.clone());
        spawn(&mut tasks, "enqueuer", enqueuing);
        let line = match role.dials() {
            true => Some(start_line(config, &db, &inbox, instance, token_key.clone(), &mut tasks, &stop).await?),
            false => None,
        };
        let (lease, vitals) = match &line {
            Some(line) => (Arc::clone(&line.lease), Arc::clone(&line.vitals)),
            None => {
                let vitals = Arc::new(Vitals::default());
                (Arc::new(Lease::new(instance, lease_of(config), Arc::clone(&vitals))), vitals)
            }
        };
        let high_water = Arc::new(HighWater::at(newest_attempt_file(config, server.is_some())?));
        if !settled.has_calls {
            high_water.forget();
        } else if let Some(attempt) = high_water.read()? {
            vitals.committed(attempt);
        }
        lease.renew(&db.work, role.as_str(), &surroundings::host()).await.context("registering this process")?;
        let (pool, stopped, kept) = (db.work.clone(), stop.rest.clone(), Arc::clone(&high_water));
        spawn(&mut tasks, "lease", async move {
            lease.keep(pool, role.as_str().to_owned(), surroundings::host(), kept, stopped).await;
        });
        if let Some(line) = &line {
            spawn(&mut tasks, "inquiries", inquiry::run(Arc::clone(line), stop.claiming.clone()));
            spawn(&mut tasks, "records", inquiry::run_records(Arc::clone(line), stop.claiming.clone()));
        }
        let drain = Duration::from_secs(config.server.drain_secs);
        let settings = executor_settings(config, token_key.clone());
        let dispatcher =
            Dispatcher::new(&db, inbox.clone(), settings, Arc::clone(&vitals), line, rules, doorbell.clone());
        spawn(&mut tasks, "dispatcher", dispatcher.run(stop.claiming.clone(), stop.settling.clone(), drain));
        if role.keeps_house() {
            let scheduler = Scheduler {
                vitals: Arc::clone(&vitals),
                pool: db.work.clone(),
                inbox: inbox.clone(),
                doorbell: doorbell.clone(),
                settings: scheduler_settings(config),
            };
            let tick = scheduler.settings.tick;
            let limits = imports::Limits { lease_secs: lease_of(config).as_secs_f64(), patience };
            let reading = imports::run(db.work.clone(), doorbell.clone(), tick, limits, stop.claiming.clone());
            spawn(&mut tasks, "imports", reading);
            let (outbox, telling, told) = (db.work.clone(), notifier_settings(config), Arc::clone(&vitals));
            let stopped = stop.claiming.clone();
            spawn(&mut tasks, "notifier", async move {
                if let Err(error) = notifier::run(outbox, telling, told, stopped).await {
                    tracing::error!(%error, "no events can be sent");
                }
            });
            spawn(&mut tasks, "scheduler", scheduler.run(stop.claiming.clone()));
        }

        let writes = TaskTracker::new();
        let api = Arc::new(Api {
            db: db.clone(),
            enqueuer,
            inbox,
            doorbell,
            vitals: Arc::clone(&vitals),
            known: api::usage::Known::default(),
            who: auth::Rules {
                rates: auth::Rates::per_second(config.server.key_requests_per_second),
                guesses: auth::Rates::per_second(config.server.unknown_keys_per_second),
                known: within(patience, auth::Known::now(&db.gate)).await.context("reading the keys there are")?,
                keyless_is_operator: keyless,
                keyless: Keyless::of(&config.server),
                admin_key: config.auth.admin_key().map(keys::hash),
            },
            webhooks: webhooks::Rules {
                keys: config.webhooks.keys()?,
                tolerance_secs: config.webhooks.tolerance_secs,
                loopback: config.server.is_loopback(),
                native: native_webhooks(config, &token_key)?,
                token_key,
            },
            limits: Limits {
                body_bytes_max: config.server.body_bytes_max,
                list_body_bytes_max: config.server.list_body_bytes_max,
                upload_bytes_max: config.server.upload_bytes_max,
                allow_internal_endpoints: config.notifier.allow_internal,
                sorts_operator: rules_in_force.sorts_operator,
                refuses_impossible: rules_in_force.obeys_destinations,
                planner: planner_limits(config),
                batch_rows_max: config.server.batch_rows_max,
                max_attempts: config.calls.max_attempts,
                patience: statement_patience(config),
                look_again_after: Duration::from_millis(config.calls.look_again_after_ms),
            },
            reads: Shares::new(reads_per_tenant(config)),
            bodies: Budget::new(
                config.server.bodies_bytes_max,
                config.server.list_body_bytes_max.max(config.server.body_bytes_max),
            ),
            answers: Answers::new(config.server.answers_bytes_max),
            about: About { role: role.as_str().to_owned(), provider: config.provider.kind.as_str().to_owned() },
            writes: writes.clone(),
        });
        let wanted = SocketAddr::new(config.server.bind, config.server.port);
        let listener = TcpListener::bind(wanted).await.with_context(|| format!("listening on {wanted}"))?;
        let address = listener.local_addr().context("the address listened on")?;
        let router = api::router(api, !role.serves_api());
        let serving = http::serve(listener, router, http::Settings::of(config), stop.accepting.clone());
        spawn(&mut tasks, "http", serving);
        tracing::info!(%address, role = role.as_str(), provider = config.provider.kind.as_str(), instance.id = %instance, "outdial is up");
        Ok(Self { address, db, tasks, stop, writes, instance, vitals, high_water, server, drain })
    }

    /// Runs until `shutdown`, or until a part of it ends by itself.
    ///
    /// # Errors
    /// A part that must not end has ended; the process should end with it.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let server_died = self.server.as_ref().map(|server| server.died.clone()).unwrap_or_default();
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            () = server_died.cancelled() => {
                // Nothing can be written any more, so there is nothing to drain: the next start picks everything up.
                self.tasks.shutdown().await;
                return Err(anyhow::anyhow!("the embedded Postgres ended"));
            }
            ended = self.tasks.join_next() => Err(match ended {
                Some(Ok(name)) => anyhow::anyhow!("{name} ended by itself"),
                Some(Err(error)) => anyhow::Error::new(error).context("a long-lived task panicked"),
                None => anyhow::anyhow!("nothing is running"),
            }),
        };
        self.shut_down().await;
        ended
    }

    /// Stops claiming, then accepting, drains, lets go of the lease, and stops the embedded Postgres last.
    pub async fn shut_down(mut self) {
        tracing::info!("shutting down: no more claims, then no more requests");
        self.stop.claiming.cancel();
        self.stop.accepting.cancel();
        self.writes.close();
        let patience = tokio::time::timeout(self.drain, self.writes.wait()).await;
        if patience.is_err() {
            tracing::warn!("requests were still under way");
        }
        self.stop.settling.cancel();
        let Stops { rest, .. } = self.stop.clone();
        let drained = tokio::time::timeout(self.drain + Duration::from_secs(5), async {
            // Lease and doorbell are the two that stop last.
            while self.tasks.len() > 2 {
                self.tasks.join_next().await;
            }
            rest.cancel();
            while self.tasks.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            tracing::warn!("some tasks did not stop in time");
        }
        self.stop.rest.cancel();
        self.tasks.shutdown().await;
        self.high_water.note(self.vitals.newest_attempt()).await;
        if let Err(error) = within(GOODBYE_PATIENCE, instances::leave(&self.db.work, self.instance)).await {
            tracing::debug!(%error, "could not give up the lease");
        }
        self.db.close().await;
        if let Some(server) = self.server.take() {
            let _ = tokio::task::spawn_blocking(move || server.stop()).await;
        }
        tracing::info!("outdial is down");
    }
}

fn spawn(tasks: &mut JoinSet<&'static str>, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        name
    });
}

/// The provider and everything a dial needs.
async fn start_line(
    config: &Config,
    db: &Db,
    inbox: &Inbox,
    instance: InstanceId,
    token_key: Vec<u8>,
    tasks: &mut JoinSet<&'static str>,
    stop: &Stops,
) -> anyhow::Result<Arc<Line>> {
    let (ear, said) = mpsc::unbounded_channel();
    let provider: Arc<dyn Provider> = match config.provider.kind {
        ProviderKind::Simulator => {
            let simulator = Arc::new(Simulator::new(config.simulator.clone(), ear));
            let (running, stopped) = (Arc::clone(&simulator), stop.claiming.clone());
            spawn(tasks, "simulator", async move { running.run(stopped).await });
            simulator
        }
        ProviderKind::Http => {
            let timeout = Duration::from_secs(config.provider.dial_timeout_secs);
            Arc::new(Http::new(config.provider.http.clone(), timeout)?)
        }
        ProviderKind::Ultravox => Arc::new(ultravox(config, &token_key)?),
        ProviderKind::Unset => bail!("provider.kind: {} cannot dial", config.provider.kind.as_str()),
    };
    spawn(tasks, "ear", listen(said, inbox.clone(), stop.settling.clone()));
    Ok(Arc::new(line_of(config, db, inbox, instance, provider, token_key)))
}

/// The client of Ultravox, for dialing and for `doctor`.
///
/// # Errors
/// It cannot be built.
pub fn ultravox(config: &Config, token_key: &[u8]) -> anyhow::Result<Ultravox> {
    let timeout = Duration::from_secs(config.provider.dial_timeout_secs);
    let (settings, telnyx, causes) = (config.ultravox.clone(), config.telnyx.clone(), config.causes.clone());
    let mut secrets = settings.webhook_secrets()?;
    if secrets.is_empty() {
        secrets.push(own_ultravox_secret(token_key));
    }
    // Ringing and the agent's patience come on top of the talk.
    let secs_max = i32::try_from(config.calls.max_call_secs).unwrap_or(i32::MAX);
    let secs_max = secs_max.saturating_sub(i32::try_from(settings.join_timeout_secs).unwrap_or(i32::MAX)).max(30);
    Ultravox::new(settings, telnyx, causes, secrets, secs_max, timeout)
}

/// The secret Ultravox signs with where none is set: nobody has to set up anything there.
fn own_ultravox_secret(token_key: &[u8]) -> SecretString {
    SecretString::from(signature::derived_secret(token_key, "webhooks of ultravox"))
}

/// Whom we believe of those who sign in their own way. Calls made before a secret was set are signed with our own.
fn native_webhooks(config: &Config, token_key: &[u8]) -> anyhow::Result<webhooks::Native> {
    let mut ultravox_secrets = config.ultravox.webhook_secrets()?;
    ultravox_secrets.push(own_ultravox_secret(token_key));
    Ok(webhooks::Native {
        ultravox_secrets,
        ultravox_tolerance_secs: config.ultravox.webhook_tolerance_secs,
        telnyx_public_key: config.telnyx.public_key.trim().to_owned(),
        telnyx_tolerance_secs: config.telnyx.webhook_tolerance_secs,
        causes: config.causes.clone(),
    })
}

/// Everything a dial needs, for a given provider.
#[must_use]
pub fn line_of(
    config: &Config,
    db: &Db,
    inbox: &Inbox,
    instance: InstanceId,
    provider: Arc<dyn Provider>,
    token_key: Vec<u8>,
) -> Line {
    let vitals = Arc::new(Vitals::default());
    Line {
        pool: db.work.clone(),
        provider,
        inbox: inbox.clone(),
        lease: Arc::new(Lease::new(instance, lease_of(config), Arc::clone(&vitals))),
        settings: executor_settings(config, token_key),
        pulse: Pulse::default(),
        vitals,
        taking_back: TaskTracker::new(),
    }
}

/// Where the newest attempt is written down outside the database: as set, else beside the data of a private Postgres.
fn newest_attempt_file(config: &Config, is_private: bool) -> anyhow::Result<Option<PathBuf>> {
    let set = &config.database.newest_attempt_file;
    if !set.as_os_str().is_empty() {
        return Ok(Some(set.clone()));
    }
    let folder = if is_private { Some(embedded::Settings::of(&config.database)?.folder) } else { None };
    Ok(folder.map(|folder| folder.join("newest-attempt")))
}

fn lease_of(config: &Config) -> Duration {
    Duration::from_secs(config.calls.lease_secs)
}

/// A statement that has not answered so long after Postgres should have given it up never will.
fn statement_patience(config: &Config) -> Duration {
    Duration::from_secs(config.database.statement_timeout_secs + config.database.acquire_timeout_secs + 2)
}

/// What the worker loop follows.
#[must_use]
pub fn executor_settings(config: &Config, token_key: Vec<u8>) -> executor::Settings {
    executor::Settings {
        global_limit: config.calls.max_concurrent,
        dial_guard_secs: config.calls.dial_guard_secs,
        frequency: frequency_of(config),
        dials_per_second: config.provider.dials_per_second,
        lanes_per_claim: config.calls.lanes_per_claim,
        lease: lease_of(config),
        look_again_after: Duration::from_millis(config.calls.look_again_after_ms),
        dials_in_flight: config.executor.dials_in_flight,
        batch_max: config.executor.batch_max,
        poll: Duration::from_millis(config.executor.poll_ms),
        dial_timeout: Duration::from_secs(config.provider.dial_timeout_secs),
        turn_patience: Duration::from_secs(config.database.lock_timeout_secs + 5),
        statement_patience: statement_patience(config),
        equal_refusals_max: config.provider.equal_refusals_max,
        max_call: Duration::from_secs(config.calls.max_call_secs),
        inquiry: Duration::from_secs(config.executor.inquiry_secs),
        inquiries_in_flight: config.executor.inquiries_in_flight,
        record_again: Duration::from_secs_f64(config.ultravox.record_after_secs),
        retry_after_min: Duration::from_secs(config.provider.retry_after_secs_min),
        retry_after_max: Duration::from_secs(config.provider.retry_after_secs_max),
        breaker: Breaker {
            window: Duration::from_secs(config.provider.breaker.window_secs),
            failures_min: config.provider.breaker.failures_min,
            ratio: config.provider.breaker.ratio,
            open: Duration::from_secs_f64(config.provider.breaker.open_secs),
            open_max: Duration::from_secs_f64(config.provider.breaker.open_secs_max),
        },
        public_url: config.server.public_url.trim_end_matches('/').to_owned(),
        token_key,
    }
}

/// Passes on what a provider in this process says.
pub async fn listen(mut said: mpsc::UnboundedReceiver<Said>, inbox: Inbox, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            next = said.recv() => match next {
                Some(said) => inbox.tell(Heard::about(said.attempt_id, said.word, "simulator")),
                // No provider in this process speaks by itself.
                None => return stop.cancelled().await,
            },
            () = stop.cancelled() => return,
        }
    }
}

/// The rules of decisions, from the settings.
#[must_use]
pub fn rules_of(config: &Config) -> Rules {
    Rules {
        retry: config.retry_policy(),
        time_divisor: config.time_divisor(),
        dial_timeout: Duration::from_secs(config.provider.dial_timeout_secs),
        lookup_grace: Duration::from_secs(config.provider.lookup_grace_secs),
        inquiry: Duration::from_secs(config.executor.inquiry_secs),
        max_attempts: config.calls.max_attempts,
        callbacks_max: config.rules.callbacks_per_call,
        record_after: (config.provider.kind == ProviderKind::Ultravox)
            .then(|| Duration::from_secs_f64(config.ultravox.record_after_secs)),
        full_hold: Duration::from_secs(config.provider.retry_after_secs_min),
        global_limit: config.calls.max_concurrent,
        ceiling_recovery: Duration::from_secs(config.provider.ceiling_recovery_secs),
    }
}

/// What the scheduler follows.
#[must_use]
pub fn scheduler_settings(config: &Config) -> scheduler::Settings {
    scheduler::Settings {
        tick: Duration::from_millis(config.scheduler.tick_ms),
        step_patience: statement_patience(config) * 2,
        global_limit: config.calls.max_concurrent,
        idempotency_hours: i32::try_from(config.scheduler.idempotency_hours).unwrap_or(24),
        stray_event_days: i32::try_from(config.scheduler.stray_event_days).unwrap_or(7),
        upload_days: i32::try_from(config.scheduler.upload_days).unwrap_or(30),
        delivery_days: i32::try_from(config.notifier.keep_days).unwrap_or(30),
        planner: planner_limits(config),
    }
}

/// One tenant never takes every connection to read by.
fn reads_per_tenant(config: &Config) -> usize {
    let others = usize::try_from(config.database.read_connections.saturating_sub(1)).unwrap_or(usize::MAX);
    config.server.reads_per_tenant.min(others.max(1))
}

/// About where and when people are called.
///
/// # Errors
/// The countries of caller ids cannot be told.
pub fn rules_in_force(config: &Config) -> anyhow::Result<windows::InForce> {
    let provider = config.provider.kind;
    Ok(windows::InForce {
        obeys_hours: config.rules.single_calls.holds(provider),
        obeys_destinations: config.rules.destinations.holds(provider),
        // Where nobody's phone rings, and nothing is to hold calls, the operator's need no lanes.
        sorts_operator: provider != ProviderKind::Simulator
            || config.rules.single_calls.holds(provider)
            || config.rules.destinations.holds(provider),
        countries: config.countries()?,
    })
}

fn frequency_of(config: &Config) -> Frequency {
    let rules = &config.rules;
    if !rules.frequency.holds(config.provider.kind) {
        return Frequency::default();
    }
    Frequency { dials_per_day: rules.dials_per_number_per_day, gap_secs: f64::from(rules.minutes_between_calls) * 60.0 }
}

fn notifier_settings(config: &Config) -> notifier::Settings {
    notifier::Settings {
        tick: Duration::from_millis(config.notifier.tick_ms),
        timeout: Duration::from_secs(config.notifier.timeout_secs),
        in_flight: config.notifier.in_flight,
        in_flight_per_user: config.notifier.in_flight_per_user,
        disable_after_days: config.notifier.disable_after_days,
        allow_internal: config.notifier.allow_internal,
        patience: statement_patience(config),
    }
}

fn planner_limits(config: &Config) -> planner::Limits {
    planner::Limits {
        users: config.planner.batch_users,
        calls_per_user: config.planner.calls_per_user,
        interval_secs: config.planner.interval_minutes * 60.0,
    }
}

/// Whether requests without a key are the operator's. Where they are not and there is no key at all, makes one and prints it.
async fn admit_keyless(config: &Config, db: &Db) -> anyhow::Result<bool> {
    if config.auth.open {
        tracing::warn!("running without keys because auth.open is set: whoever reaches the port may call anybody");
        return Ok(true);
    }
    if config.server.is_loopback() {
        return Ok(true);
    }
    let has_key = config.auth.admin_key().is_some() || keys::any_admin(&db.work).await?;
    if !has_key {
        let key = create_key(db, "made at the first start").await?;
        print_once(&format!(
            "No key yet, so here is an admin key. It is shown this once:\n\n    {}\n\nWho reads this log has it: replace it by one of your own (POST /api/v1/keys), and revoke it (DELETE /api/v1/keys/{{id}}).\n",
            key.expose_secret()
        ));
        tracing::warn!(
            "an admin key was made and printed once; replace it: POST /api/v1/keys, then DELETE /api/v1/keys/{{id}} of the first"
        );
    }
    Ok(false)
}

/// A new admin key; only its hash is kept.
///
/// # Errors
/// Postgres is away.
pub async fn create_key(db: &Db, name: &str) -> anyhow::Result<SecretString> {
    let key = keys::fresh();
    keys::create(&db.work, None, name, &key, &Scope::ALL.map(Scope::as_str), None)
        .await
        .context("keeping the new key")?;
    Ok(SecretString::from(key))
}

/// 256 random bits.
fn random_key() -> [u8; 32] {
    rand::random()
}

/// For people, past the log: a key must not stand in a log file.
#[expect(clippy::print_stderr, reason = "a secret for the person who starts the service, not for the log")]
fn print_once(text: &str) {
    eprintln!("{text}");
}
