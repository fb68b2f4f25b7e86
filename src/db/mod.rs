//! The way to Postgres: pools, migrations, the embedded server, the doorbell.
//!
//! Owns connections and their safety settings; knows nothing of calls. `queue` and `store` bring the statements.

pub mod doorbell;
pub mod embedded;
pub mod fault;

use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use sqlx::migrate::{Migrate, MigrateError};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, Executor, PgConnection, Postgres, Row};

use crate::config;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();
/// Functions that are installed after the migrations, and anew whenever one of them has changed.
const FUNCTIONS: [(&str, &str); 12] = [
    ("bring_back", include_str!("../../sql/functions/bring_back.sql")),
    ("claim_calls", include_str!("../../sql/functions/claim_calls.sql")),
    ("free_slots", include_str!("../../sql/functions/free_slots.sql")),
    ("hold_provider", include_str!("../../sql/functions/hold_provider.sql")),
    ("quotas_of", include_str!("../../sql/functions/quotas_of.sql")),
    ("settle_attempts", include_str!("../../sql/functions/settle_attempts.sql")),
    ("suppress_numbers", include_str!("../../sql/functions/suppress_numbers.sql")),
    ("tend", include_str!("../../sql/functions/tend.sql")),
    ("tidy_lanes", include_str!("../../sql/functions/tidy_lanes.sql")),
    ("turn", include_str!("../../sql/functions/turn.sql")),
    ("unpark_calls", include_str!("../../sql/functions/unpark_calls.sql")),
    ("wake_lanes", include_str!("../../sql/functions/wake_lanes.sql")),
];
/// Where sqlx notes what it has applied.
const APPLIED: &str = "_sqlx_migrations";

/// The pools of one process. Claims and feeders never wait behind somebody's list of calls.
#[derive(Clone, Debug)]
pub struct Db {
    /// Claims, settles, enqueues: generic plans, pinned by tests.
    pub work: PgPool,
    /// Reads for people: plans made for the parameters at hand.
    pub read: PgPool,
    /// Who asks, and whether the service works: short look-ups that wait behind no list.
    pub gate: PgPool,
    pub options: PgConnectOptions,
}

/// Hot statements are planned once a connection, perhaps while the tables are still empty, and must not be planned for that:
/// each has an index made for it, and the plan tests (tests/it/plans.rs) hold it to that.
const HOT_PLANS: [(&str, &str); 3] =
    [("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("enable_bitmapscan", "off")];

/// Filters of lists are parameters that may be null: a plan made for all values reads every row where these would read a few, and
/// Postgres turns to one after five executions.
const READ_PLANS: [(&str, &str); 1] = [("plan_cache_mode", "force_custom_plan")];

/// Reads a URL as Postgres and Prisma users write it: `?schema=` is understood as the search path.
///
/// # Errors
/// A URL that cannot be read; the text is not repeated, since it may hold a password.
pub fn options_of(url: &str) -> anyhow::Result<PgConnectOptions> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (schemas, kept): (Vec<&str>, Vec<&str>) =
        query.split('&').filter(|pair| !pair.is_empty()).partition(|pair| pair.starts_with("schema="));
    let clean = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    let options = PgConnectOptions::from_str(&clean).map_err(|_| {
        anyhow::anyhow!("DATABASE_URL: not a Postgres URL, such as postgres://user:password@host:5432/name")
    })?;
    let schema = schemas.first().and_then(|pair| pair.strip_prefix("schema=")).filter(|schema| !schema.is_empty());
    // Said, whatever the database's or the role's default is: views in another schema would stand before our tables.
    Ok(options.options([("search_path", schema.unwrap_or("public"))]))
}

impl Db {
    /// Opens the pools. Connections are made when first needed, so a database that is away is no error here.
    #[must_use]
    pub fn open(options: PgConnectOptions, settings: &config::Database) -> Self {
        let secs = |n: u64| format!("{n}s");
        // What we rely on is said, whatever the server's or the role's defaults are.
        let safe = options.clone().application_name("outdial").statement_cache_capacity(256).options([
            ("jit", "off".to_owned()),
            ("statement_timeout", secs(settings.statement_timeout_secs)),
            ("lock_timeout", secs(settings.lock_timeout_secs)),
            ("idle_in_transaction_session_timeout", secs(settings.idle_in_transaction_timeout_secs)),
            ("idle_session_timeout", "0".to_owned()),
            // A statement of a client that is gone ends, and gives back its locks.
            ("client_connection_check_interval", "1s".to_owned()),
            ("default_transaction_isolation", "read committed".to_owned()),
            ("standard_conforming_strings", "on".to_owned()),
            ("TimeZone", "UTC".to_owned()),
            ("outdial.service", "on".to_owned()),
        ]);
        let pool = |connections: u32| {
            PgPoolOptions::new()
                .max_connections(connections)
                .min_connections(1)
                .acquire_timeout(Duration::from_secs(settings.acquire_timeout_secs))
                .test_before_acquire(false)
                .before_acquire(|connection, _| Box::pin(answers(connection)))
                .after_release(|connection, _| Box::pin(is_clean(connection)))
        };
        let work = pool(settings.work_connections).connect_lazy_with(safe.clone().options(HOT_PLANS));
        let read = pool(settings.read_connections).connect_lazy_with(safe.clone().options(READ_PLANS));
        let gate = pool(settings.gate_connections).connect_lazy_with(safe);
        Self { work, read, gate, options }
    }

    /// Closes the pools; waits a while for what is under way, but not for a server that does not answer.
    pub async fn close(&self) {
        let closing = async { tokio::join!(self.work.close(), self.read.close(), self.gate.close()) };
        if tokio::time::timeout(CLOSE_PATIENCE, closing).await.is_err() {
            tracing::warn!("some connections to Postgres did not close in time");
        }
    }
}

/// How long connections may take to say goodbye.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may take to answer the shortest question.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);

/// A connection that went stale while nobody used it (a restart, an idle time-out, a proxy that swallows) is found before it is lent.
async fn answers(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    fault::within(PROBE_PATIENCE, connection.ping()).await.map(|()| true)
}

/// sqlx's `begin()` is not cancel-safe: a dropped future can hand back a connection inside an open transaction. There
/// `now()` is older than the statement, or the probe fails; either way the connection is closed instead of lent again
/// (tests/it/database.rs cancels one). One that does not answer is closed too.
async fn is_clean(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    // The simple protocol: with the extended one, the two times differ even outside a transaction.
    let probe = sqlx::raw_sql(include_str!("../../sql/store/connection_is_clean.sql")).fetch_one(connection);
    fault::within(PROBE_PATIENCE, probe).await?.try_get(0)
}

/// A connection that one task keeps, so that its statements stay prepared; made anew after a failure.
#[derive(Debug)]
pub struct Kept {
    pool: PgPool,
    connection: Option<PoolConnection<Postgres>>,
}

impl Kept {
    #[must_use]
    pub fn of(pool: PgPool) -> Self {
        Self { pool, connection: None }
    }

    /// The connection; makes one if need be.
    ///
    /// # Errors
    /// Postgres is away.
    pub async fn get(&mut self) -> sqlx::Result<&mut PgConnection> {
        if self.connection.is_none() {
            self.connection = Some(self.pool.acquire().await?);
        }
        // It was put there a line ago.
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// Whether there is a connection already, which may have gone stale.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.connection.is_some()
    }

    /// Closes the connection after a failure: whatever state it is in, nobody gets it.
    pub async fn discard(&mut self) {
        if let Some(connection) = self.connection.take() {
            // It may be broken already, or swallow the goodbye.
            let _ = fault::within(PROBE_PATIENCE, connection.close()).await;
        }
    }
}

/// Does some of a piece of work at a time, each in a transaction of its own, until less is found than may be done at once: what is given up
/// for want of time has not been for nothing.
///
/// # Errors
/// The work's own.
pub async fn bit_by_bit<F>(at_once: i64, some: impl Fn(i64) -> F) -> sqlx::Result<()>
where
    F: Future<Output = sqlx::Result<u64>>,
{
    while some(at_once).await? >= at_once.unsigned_abs() {}
    Ok(())
}

/// Brings the schema up to date. sqlx takes an advisory lock, so that processes which start together take turns.
///
/// # Errors
/// A migration that fails or was changed after it ran; a database that is newer than this program, or does not answer in time.
pub async fn migrate(options: &PgConnectOptions, settings: &config::Database) -> anyhow::Result<()> {
    let patience = Duration::from_secs(settings.acquire_timeout_secs);
    let connecting = fault::within(patience, PgConnection::connect_with(options));
    let mut connection = connecting.await.context("connecting to Postgres to migrate")?;
    if tokio::time::timeout(patience, is_up_to_date(&mut connection)).await.is_ok_and(|is| is.unwrap_or(false)) {
        // Nothing to change: a role that may change no schema can serve.
        return fault::within(patience, connection.close()).await.context("closing the migration's connection");
    }
    let secs = settings.migrate_timeout_secs;
    let migrating = async {
        MIGRATIONS.run(&mut connection).await.context("migrating the database")?;
        install_functions(&mut connection).await.context("installing functions")
    };
    tokio::time::timeout(Duration::from_secs(secs), migrating).await.with_context(|| {
        format!("the schema was not up to date after {secs} s; database.migrate_timeout_secs gives it longer")
    })??;
    fault::within(patience, connection.close()).await.context("closing the migration's connection")
}

/// Whether the database has just the migrations of this program, as they are here. An error where none ever was applied.
async fn is_up_to_date(connection: &mut PgConnection) -> Result<bool, MigrateError> {
    if connection.dirty_version(APPLIED).await?.is_some() {
        return Ok(false);
    }
    let applied = connection.list_applied_migrations(APPLIED).await?;
    let ours = MIGRATIONS.iter().map(|ours| (ours.version, &ours.checksum));
    Ok(ours.eq(applied.iter().map(|row| (row.version, &row.checksum))) && has_functions(connection).await?)
}

/// What all functions together are, in a word.
fn digest_of_functions() -> String {
    let digest = FUNCTIONS.iter().fold(Sha256::new(), |digest, (_, function)| digest.chain_update(function));
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn has_functions(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let digest = sqlx::query_file_scalar!("sql/store/functions_digest.sql").fetch_optional(connection).await?;
    Ok(digest == Some(digest_of_functions()))
}

/// Processes that start together take turns: the second finds them there.
async fn install_functions(connection: &mut PgConnection) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::query_file!("sql/store/functions_lock.sql").execute(&mut *transaction).await?;
    if !has_functions(&mut transaction).await? {
        // One that takes or gives something else cannot be replaced.
        let names = FUNCTIONS.map(|(name, _)| name.to_owned());
        let drops =
            sqlx::query_file_scalar!("sql/store/functions_drops.sql", &names).fetch_all(&mut *transaction).await?;
        for drop in drops {
            transaction.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(drop))).await?;
        }
        for (_, function) in FUNCTIONS {
            transaction.execute(sqlx::raw_sql(function)).await?;
        }
        sqlx::query_file!("sql/store/functions_note.sql", digest_of_functions()).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// Connection options from the settings, and the embedded server when there is no URL.
///
/// # Errors
/// A bad URL, or an embedded server that cannot start.
pub async fn locate(settings: &config::Database) -> anyhow::Result<(PgConnectOptions, Option<embedded::Server>)> {
    let url = settings.url.expose_secret();
    if !url.is_empty() {
        return Ok((options_of(url)?, None));
    }
    let server = embedded::start(&embedded::Settings::of(settings)?).await?;
    Ok((server.options().clone(), Some(server)))
}
