//! The command line.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use outdial::config::{self, Config};
use outdial::fake_providers::{Manners, Paging, World};
use outdial::service::{self, Role, Service};
use outdial::{api, bench, db, telemetry};
use secrecy::ExposeSecret;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Outbound AI phone calls on one Rust binary and one Postgres.
#[derive(Parser)]
#[command(version, about, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Which parts this process runs.
    #[arg(long, value_enum, default_value = "all", global = true)]
    role: Role,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service (what is done when no command is given).
    Serve {
        /// Load sample calls when the database is new.
        #[arg(long)]
        demo: bool,
    },
    /// Bring the database schema up to date.
    Migrate,
    /// Load sample calls.
    Demo,
    /// Print the OpenAPI document.
    Openapi,
    /// Check settings, database and provider, and say what is missing.
    Doctor,
    /// Ask the provider about everything open here, and about calls this database does not know; then the hold on dialing may be lifted.
    Reconcile {
        /// Dial again: what there is to know is known.
        #[arg(long)]
        lift_hold: bool,
        /// Who lifts it, for the audit log.
        #[arg(long, default_value = "operator")]
        by: String,
    },
    /// Manage keys.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Open psql on the running database, embedded or not.
    Psql {
        /// Passed on to psql.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run a fake Ultravox and a fake Telnyx to try the product with: nobody's phone rings.
    ///
    /// Telnyx refuses a number that ends in 99NN with its code DNN (9913: a country that is not allowed; 9901: no channel is free;
    /// 9938: the connection has no profile), and takes one that ends in 98NN, to end its leg with that code. Ultravox refuses the voice
    /// no-such-voice.
    FakeProviders {
        #[arg(long, default_value_t = 4000)]
        port: u16,
        /// Divides times.
        #[arg(long, default_value_t = 1.0)]
        speed: f64,
        /// Everything that can go wrong does: refusals, lost answers, webhooks doubled, late, badly signed or never sent.
        #[arg(long)]
        rough: bool,
        /// The same seed makes the same phones behave in the same way.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How Telnyx pages its list of live legs: number, cursor, both, or broken (all but the first page is missing).
        #[arg(long, default_value = "both", value_parser = paging_of)]
        paging: Paging,
    },
    /// Measure the queue: `bench <workload> <N> [key=value …]`, on the empty database DATABASE_URL names.
    Bench { workload: String, n: usize, options: Vec<String> },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key and print it once.
    Create {
        /// A key that may do everything.
        #[arg(long, required = true)]
        admin: bool,
        /// What it is for.
        #[arg(long, default_value = "admin")]
        name: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = runtime.context("starting the runtime").and_then(|runtime| runtime.block_on(run(arguments)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // To standard error as well as the log: the log may not have started.
            let _ = writeln!(std::io::stderr(), "outdial: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    // reqwest and sqlx share this provider; a second install is refused and does not matter.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match arguments.command {
        Some(Command::Openapi) => return print(&serde_json::to_string_pretty(&api::document())?),
        Some(Command::FakeProviders { port, speed, rough, seed, paging }) => {
            anyhow::ensure!(speed > 0.0, "--speed must be above 0");
            let manners = if rough { Manners::rough(seed, speed) } else { Manners::gentle(seed, speed) };
            return fake_providers(port, Manners { paging, ..manners }).await;
        }
        Some(Command::Bench { workload, n, options }) => return bench::run(&workload, n, &options).await,
        _ => {}
    }
    let config = config::load()?;
    match arguments.command {
        None => serve(&config, arguments.role, false).await,
        Some(Command::Serve { demo }) => serve(&config, arguments.role, demo).await,
        Some(Command::Migrate) => migrate(&config).await,
        Some(Command::Demo) => demo(&config).await,
        Some(Command::Doctor) => doctor(&config).await,
        Some(Command::Reconcile { lift_hold, by }) => reconcile(&config, lift_hold.then_some(by.as_str())).await,
        Some(Command::Key { command: KeyCommand::Create { name, .. } }) => create_key(&config, &name).await,
        Some(Command::Psql { arguments }) => psql(&config, &arguments).await,
        Some(Command::Openapi | Command::FakeProviders { .. } | Command::Bench { .. }) => Ok(()),
    }
}

fn paging_of(text: &str) -> Result<Paging, String> {
    match text {
        "number" => Ok(Paging::Number),
        "cursor" => Ok(Paging::Cursor),
        "both" => Ok(Paging::Both),
        "broken" => Ok(Paging::Broken),
        _ => Err("one of number, cursor, both, broken".to_owned()),
    }
}

async fn fake_providers(port: u16, manners: Manners) -> anyhow::Result<()> {
    let world = World::start(port, manners).await.with_context(|| format!("listening on port {port}"))?;
    let settings: Vec<String> =
        world.settings().into_iter().map(|(name, value)| format!("export {name}='{value}'")).collect();
    print(&format!(
        "A fake Ultravox and a fake Telnyx listen on {}. For a service that calls there:\n\n{}\n\nAdd OUTDIAL_ULTRAVOX__MODE=telnyx-dials for the other way to the phone. Ctrl-C ends them.",
        world.url(),
        settings.join("\n")
    ))?;
    shutdown_asked().await;
    Ok(())
}

/// How long a start waits for a Postgres that is away.
const PATIENCE: Duration = Duration::from_secs(60);

async fn serve(config: &Config, role: Role, with_demo: bool) -> anyhow::Result<()> {
    telemetry::start_logs(&config.log)?;
    if !config.unneeded.is_empty() {
        tracing::info!(names = config.unneeded.join(", "), "set, but without effect here: Postgres is the queue");
    }
    let (db, server) = service::prepare_database(config, PATIENCE).await?;
    if with_demo && service::demo::load_if_new(config, &db).await? {
        tracing::info!("loaded sample calls into the new database");
    }
    let service = Service::start(config, role, db, server).await?;
    announce(config, role, &service);
    service.run(shutdown_asked()).await
}

/// Where to look, for the person at the terminal.
fn announce(config: &Config, role: Role, service: &Service) {
    let port = service.address.port();
    let host = if config.server.is_loopback() { "localhost".to_owned() } else { service.address.ip().to_string() };
    if !matches!(role, Role::All | Role::Api) {
        tracing::info!("health http://{host}:{port}/health · metrics http://{host}:{port}/metrics/prometheus");
        return;
    }
    tracing::info!(
        "API http://{host}:{port}/api/v1/calls · documentation http://{host}:{port}/api-docs · health http://{host}:{port}/health"
    );
    tracing::info!("the queue in SQL: outdial psql, then: select * from ops.queue;");
}

/// The signals that ask for an end.
async fn shutdown_asked() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    let (db, server) = service::prepare_database(config, Duration::ZERO).await?;
    db.close().await;
    stop(server).await;
    print("The schema is up to date.")
}

async fn demo(config: &Config) -> anyhow::Result<()> {
    let (db, server) = service::prepare_database(config, Duration::ZERO).await?;
    let calls = service::demo::load(config, &db).await?;
    db.close().await;
    stop(server).await;
    print(&format!(
        "Loaded {calls} sample calls. Watch them: curl http://localhost:{}/api/v1/calls",
        config.server.port
    ))
}

async fn reconcile(config: &Config, lift_by: Option<&str>) -> anyhow::Result<()> {
    let (db, server) = service::prepare_database(config, Duration::ZERO).await?;
    let told = service::reconcile::run(config, &db, lift_by).await;
    db.close().await;
    stop(server).await;
    print(told?.trim_end())
}

async fn doctor(config: &Config) -> anyhow::Result<()> {
    let report = service::doctor::examine(config).await;
    print(&report.text)?;
    anyhow::ensure!(report.healthy, "something needs attention");
    Ok(())
}

async fn create_key(config: &Config, name: &str) -> anyhow::Result<()> {
    let (db, server) = service::prepare_database(config, Duration::ZERO).await?;
    let key = service::create_key(&db, name).await?;
    db.close().await;
    stop(server).await;
    print(key.expose_secret())
}

async fn psql(config: &Config, arguments: &[String]) -> anyhow::Result<()> {
    if config.database.url.expose_secret().is_empty() {
        // Looking must not make a database.
        let folder = db::embedded::Settings::of(&config.database)?.folder;
        anyhow::ensure!(
            folder.join("data").is_dir(),
            "there is no database in {} yet: start outdial once, or set DATABASE_URL or OUTDIAL_DATABASE__DATA_DIR as it is set for the service",
            folder.display()
        );
    }
    let (options, server) = db::locate(&config.database).await?;
    let bin_dir = server.as_ref().map(|server| server.bin_dir.clone());
    let program = bin_dir.map(|dir| dir.join("psql")).filter(|path| path.is_file()).unwrap_or_else(|| "psql".into());
    let mut command = tokio::process::Command::new(program);
    let url = config.database.url.expose_secret();
    if url.is_empty() {
        command.args(["-U", "postgres", "-d", options.get_database().unwrap_or("outdial")]);
        command.arg("-h").arg(options.get_socket().context("the embedded server has a socket")?);
    } else {
        let (without, password) = without_password(url);
        command.arg("-d").arg(without);
        // A command line can be read by every account of the machine; an environment only by this one.
        if let Some(password) = password {
            command.env("PGPASSWORD", password);
        }
    }
    let status =
        command.args(arguments).status().await.context("running psql (Debian: apt-get install postgresql-client)")?;
    stop(server).await;
    anyhow::ensure!(status.success(), "psql ended with {status}");
    Ok(())
}

/// A database's URL as libpq takes it, without its password, and the password. Prisma's parameter `schema` is none of libpq's.
fn without_password(url: &str) -> (String, Option<String>) {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (pairs, said): (Vec<&str>, Vec<&str>) = query
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("schema="))
        .partition(|pair| !pair.starts_with("password="));
    let mut password = said.last().and_then(|pair| pair.strip_prefix("password=")).map(decoded);
    let mut kept = base.to_owned();
    if let Some((scheme, rest)) = base.split_once("://")
        && let Some((person, place)) = rest.split_once('/').unwrap_or((rest, "")).0.rsplit_once('@')
        && let Some((name, secret)) = person.split_once(':')
    {
        password = password.or_else(|| Some(decoded(secret)));
        let path = rest.split_once('/').map(|(_, path)| format!("/{path}")).unwrap_or_default();
        kept = format!("{scheme}://{name}@{place}{path}");
    }
    if !pairs.is_empty() {
        kept = format!("{kept}?{}", pairs.join("&"));
    }
    (kept, password)
}

async fn stop(server: Option<db::embedded::Server>) {
    if let Some(server) = server {
        let _ = tokio::task::spawn_blocking(move || server.stop()).await;
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        // Somebody read enough: `outdial openapi | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn passwords_leave_the_url() {
        for (url, kept, password) in [
            (
                "postgres://ann:p%40ss@db:5433/name?sslmode=require",
                "postgres://ann@db:5433/name?sslmode=require",
                Some("p@ss"),
            ),
            (
                "postgres://ann:p@db/name?schema=public&sslmode=disable",
                "postgres://ann@db/name?sslmode=disable",
                Some("p"),
            ),
            ("postgresql://ann:a@b@db/name", "postgresql://ann@db/name", Some("a@b")),
            (
                "postgres://ann@db/name?password=x%26y&sslmode=disable",
                "postgres://ann@db/name?sslmode=disable",
                Some("x&y"),
            ),
            ("postgres://ann:@one,two:5433/name", "postgres://ann@one,two:5433/name", Some("")),
            ("postgres:///name?host=/run/postgresql", "postgres:///name?host=/run/postgresql", None),
            ("postgres://db", "postgres://db", None),
        ] {
            assert_eq!(without_password(url), (kept.to_owned(), password.map(str::to_owned)), "{url}");
        }
    }
}
