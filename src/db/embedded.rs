//! A private Postgres for those who name none: found, initialised, started and stopped by this process.
//!
//! Durable as any other (fsync and synchronous_commit on). It listens on a Unix socket in a folder of its own and nowhere
//! else: no port, no password. The process that holds the lock on `owner.lock` runs the server; others attach to the socket.
//! When the owner dies, the kernel asks the server to stop (`setpriv --pdeathsig`), and the next start recovers.
//! Postgres refuses to run as root, so as root it is given to the account `postgres`, or `nobody`: what lies in its folders is read, removed
//! and stopped as that account, never as root; settings go by the command line. The folder around them belongs to whoever runs outdial,
//! and nobody else may write there.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid, User};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use crate::config::{self, surroundings};

const DATABASE: &str = "outdial";
/// Owns the database and is no superuser.
const SERVICE_ROLE: &str = "outdial";
const SUPERUSER: &str = "postgres";
/// Recovery on a busy disk can take a while.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// The limit of a Unix socket's path is 107 bytes; the file in the folder takes 16.
const SOCKET_FOLDER_BYTES_MAX: usize = 90;

/// Where and how the server runs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub folder: PathBuf,
    /// Empty: looked for.
    pub bin_dir: PathBuf,
    /// Settings of the server besides our own, for example fsync off in tests.
    pub extra: Vec<(&'static str, &'static str)>,
}

impl Settings {
    /// The settings of the service: the configured folder, or the account's own.
    ///
    /// # Errors
    /// No folder set and none to be guessed.
    pub fn of(settings: &config::Database) -> anyhow::Result<Self> {
        let folder = if !settings.data_dir.as_os_str().is_empty() {
            settings.data_dir.clone()
        } else if Uid::effective().is_root() {
            PathBuf::from("/var/lib/outdial")
        } else {
            let home = surroundings::state_home();
            home.context("set database.data_dir, or DATABASE_URL: there is no HOME to keep a database in")?
                .join("outdial")
        };
        Ok(Self { folder, bin_dir: settings.bin_dir.clone(), extra: Vec::new() })
    }
}

/// A running server, ours or another process's.
#[derive(Debug)]
pub struct Server {
    /// As the role of the service.
    options: PgConnectOptions,
    /// None when another process owns the server.
    owned: Option<Owned>,
    /// Cancelled when the server we own ends by itself.
    pub died: CancellationToken,
    pub bin_dir: PathBuf,
}

#[derive(Debug)]
struct Owned {
    pid: Pid,
    /// Held as long as the server is ours; the kernel lets go of it when we die.
    _lock: File,
    /// The thread that forked the server: pdeathsig follows the thread, so it lives as long as the server.
    keeper: thread::JoinHandle<()>,
}

impl Server {
    #[must_use]
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// As the superuser, who made the cluster: for tests, which make databases.
    #[must_use]
    pub fn superuser(&self) -> PgConnectOptions {
        self.options.clone().username(SUPERUSER)
    }

    /// Stops the server if it is ours (SIGINT: fast, clean shutdown) and waits for it.
    pub fn stop(self) {
        if let Some(owned) = self.owned {
            // An error means that it is gone already.
            let _ = kill(owned.pid, Signal::SIGINT);
            let _ = owned.keeper.join();
        }
    }
}

/// Starts the server in its folder, or attaches to the one that runs there.
///
/// # Errors
/// No Postgres binaries (the message names both ways out), a folder that cannot be used, a server that does not get ready.
pub async fn start(settings: &Settings) -> anyhow::Result<Server> {
    let bin_dir = find_binaries(&settings.bin_dir)?;
    let account = Account::choose()?;
    let place = Place::prepare(&settings.folder, &account)?;
    let deadline = Instant::now() + READY_TIMEOUT;
    let options = PgConnectOptions::new_without_pgpass()
        .socket(&place.socket)
        .username(SERVICE_ROLE)
        .database(DATABASE)
        .options([("search_path", "public")]);
    let died = CancellationToken::new();
    loop {
        if let Some(lock) = place.try_own()? {
            let (pid, keeper) = own(&place, settings, &bin_dir, &account, died.clone())?;
            let owned = Owned { pid, _lock: lock, keeper };
            let server = Server { options: options.clone(), owned: Some(owned), died, bin_dir };
            wait_until_ready(&options, &server.died, &place, deadline).await?;
            return Ok(server);
        }
        // Another process runs it. If it does not answer, it is starting, or its owner has just been killed.
        if PgConnection::connect_with(&options).await.is_ok() {
            return Ok(Server { options, owned: None, died, bin_dir });
        }
        if Instant::now() > deadline {
            bail!("another process holds {} but its Postgres does not answer", place.lock.display());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The folder of the Postgres programs: configured, on the PATH, or where Debian keeps them, the newest.
///
/// # Errors
/// None found: says what to install and what to set.
pub fn find_binaries(configured: &Path) -> anyhow::Result<PathBuf> {
    let complete = |dir: &Path| ["initdb", "postgres"].iter().all(|name| dir.join(name).is_file());
    if !configured.as_os_str().is_empty() {
        if complete(configured) {
            return Ok(configured.to_owned());
        }
        bail!("database.bin_dir: there is no initdb and postgres in {}", configured.display());
    }
    let versioned = |root: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        let mut found: Vec<(u32, PathBuf)> = entries
            .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
            .collect();
        found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        found.into_iter().map(|(_, dir)| dir).collect()
    };
    let mut places = surroundings::path();
    places.extend(versioned("/usr/lib/postgresql"));
    places.extend(["/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql@17/bin"].map(PathBuf::from));
    let found = places.into_iter().find(|dir| complete(dir)).context(
        "no Postgres found. Either install it (Debian: apt-get install postgresql), \
         or name a server: DATABASE_URL=postgres://user:password@host:5432/name",
    )?;
    // A link on the PATH leads to where psql and pg_dump are too.
    let real = found.join("postgres").canonicalize().ok().and_then(|program| program.parent().map(Path::to_owned));
    Ok(real.filter(|dir| complete(dir)).unwrap_or(found))
}

/// Who the server runs as: ourselves, or an unprivileged account when we are root.
#[derive(Debug)]
struct Account {
    /// Set when the server must run as somebody else.
    other: Option<User>,
    setpriv: Option<PathBuf>,
}

impl Account {
    fn choose() -> anyhow::Result<Self> {
        let setpriv = surroundings::path().into_iter().map(|dir| dir.join("setpriv")).find(|path| path.is_file());
        if !Uid::effective().is_root() {
            return Ok(Self { other: None, setpriv });
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("reading the accounts of this machine")? {
                return Ok(Self { other: Some(user), setpriv });
            }
        }
        bail!(
            "Postgres does not run as root and this machine has neither an account postgres nor nobody; set DATABASE_URL"
        )
    }

    /// A command that runs as this account, and is asked to stop when the thread that started it ends.
    fn command(&self, program: &Path) -> Command {
        let mut command = match (&self.setpriv, &self.other) {
            (Some(setpriv), other) => {
                let mut command = Command::new(setpriv);
                if let Some(user) = other {
                    command
                        .arg(format!("--reuid={}", user.uid))
                        .arg(format!("--regid={}", user.gid))
                        .arg("--clear-groups");
                }
                command.args(["--pdeathsig", "INT", "--"]).arg(program);
                command
            }
            (None, Some(user)) => {
                let mut command = Command::new(program);
                command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
                command
            }
            (None, None) => Command::new(program),
        };
        command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C");
        // Its own process group: a Ctrl-C reaches the service, which stops the server last.
        command.process_group(0);
        command
    }

    /// Runs a program of the system as this account, and waits for it.
    fn run(&self, program: &str, arguments: &[&std::ffi::OsStr]) -> anyhow::Result<Vec<u8>> {
        let mut command = self.command(Path::new(program));
        let output = command.args(arguments).output().with_context(|| format!("running {program}"))?;
        if !output.status.success() {
            bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(output.stdout)
    }

    /// Gives a path in a folder where nobody else may write.
    fn give(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(user) = &self.other {
            let owner = Some(user.uid.as_raw());
            lchown(path, owner, Some(user.gid.as_raw()))
                .with_context(|| format!("giving {} to {}", path.display(), user.name))?;
        }
        Ok(())
    }
}

/// The files of one embedded server.
#[derive(Debug)]
struct Place {
    data: PathBuf,
    socket: PathBuf,
    lock: PathBuf,
}

impl Place {
    fn prepare(folder: &Path, account: &Account) -> anyhow::Result<Self> {
        let folder = std::path::absolute(folder).context("database.data_dir")?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(if account.other.is_some() { 0o711 } else { 0o700 });
        builder.create(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let folder = folder.canonicalize().context("database.data_dir")?;
        refuse_what_others_may_write(&folder)?;
        if account.other.is_some() {
            // The account must be able to walk to the folder; /root is closed to it.
            for parent in folder.ancestors().skip(1) {
                let mode = fs::metadata(parent).with_context(|| format!("reading {}", parent.display()))?.mode();
                if mode & 0o001 == 0 {
                    bail!(
                        "database.data_dir: {} cannot be entered by the account Postgres runs as; choose another folder",
                        parent.display()
                    );
                }
            }
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).context("opening the data folder")?;
        }
        let socket = folder.join("socket");
        if socket.as_os_str().len() > SOCKET_FOLDER_BYTES_MAX {
            bail!(
                "database.data_dir: the path is too long for a Unix socket ({SOCKET_FOLDER_BYTES_MAX} bytes): {}",
                socket.display()
            );
        }
        if !socket.is_dir() {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(&socket)
                .or_else(exists_already)
                .context("creating the socket folder")?;
        }
        account.give(&socket)?;
        Ok(Self { data: folder.join("data"), lock: folder.join("owner.lock"), socket })
    }

    /// The lock, if nobody else runs the server.
    fn try_own(&self) -> anyhow::Result<Option<File>> {
        // Whoever can open it can hold it: nobody else.
        let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&self.lock);
        let file = file.with_context(|| format!("opening {}", self.lock.display()))?;
        if file.metadata().context("reading owner.lock")?.mode() & 0o077 != 0 {
            file.set_permissions(fs::Permissions::from_mode(0o600)).context("closing owner.lock to others")?;
        }
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error).context("locking the data folder"),
        }
    }
}

/// Whoever may write to the folder, or to one above it, could put another in its place.
fn refuse_what_others_may_write(folder: &Path) -> anyhow::Result<()> {
    const STICKY: u32 = 0o1000;
    let us = Uid::effective().as_raw();
    for (nth, path) in folder.ancestors().enumerate() {
        let of = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
        let by_others = of.mode() & 0o022 != 0 && (nth == 0 || of.mode() & STICKY == 0);
        if by_others || (of.uid() != us && of.uid() != 0) {
            let (name, owner, mode) = (path.display(), of.uid(), of.mode() & 0o7777);
            bail!(
                "database.data_dir: {name} may be written by others (owner {owner}, mode {mode:o}); \
                 give it to this account and close it: chown {us} {name} && chmod go-w {name}"
            );
        }
    }
    Ok(())
}

fn exists_already(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

/// Initialises if need be, clears what a killed server left, and starts the server on a thread of its own.
fn own(
    place: &Place,
    settings: &Settings,
    bin_dir: &Path,
    account: &Account,
    died: CancellationToken,
) -> anyhow::Result<(Pid, thread::JoinHandle<()>)> {
    if !place.data.is_dir() {
        initialise(place, bin_dir, account)?;
    }
    end_leftovers(place, account)?;
    let mut command = account.command(&bin_dir.join("postgres"));
    command.arg("-D").arg(&place.data).args(settings_of(place, settings)).stdout(Stdio::null()).stderr(Stdio::piped());
    let (report, started) = mpsc::channel();
    let keeper = thread::Builder::new().name("postgres-keeper".to_owned()).spawn(move || match command.spawn() {
        Ok(child) => {
            let _ = report.send(Ok(child.id()));
            keep(child, &died);
        }
        Err(error) => drop(report.send(Err(error))),
    });
    let keeper = keeper.context("starting the thread that keeps Postgres")?;
    let id = started.recv().context("the thread that keeps Postgres ended")?.context("starting Postgres")?;
    Ok((Pid::from_raw(i32::try_from(id).context("a process id out of range")?), keeper))
}

/// What every start and every stop brings.
const EXPECTED: [&str; 3] = ["starting up", "shutting down", "due to administrator command"];

/// Passes the server's log on and waits for its end.
fn keep(mut child: Child, died: &CancellationToken) {
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if line.contains("PANIC") || (line.contains("FATAL") && !EXPECTED.iter().any(|text| line.contains(text))) {
                tracing::warn!(postgres = %line, "the embedded Postgres says");
            } else {
                tracing::debug!(postgres = %line, "the embedded Postgres says");
            }
        }
    }
    let _ = child.wait();
    died.cancel();
}

/// initdb into a folder beside, then rename: a half-made cluster is never taken for one.
fn initialise(place: &Place, bin_dir: &Path, account: &Account) -> anyhow::Result<()> {
    let fresh = place.data.with_extension("init");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).context("removing a half-made database")?;
    }
    fs::DirBuilder::new().mode(0o700).create(&fresh).context("creating the data folder")?;
    account.give(&fresh)?;
    let mut command = account.command(&bin_dir.join("initdb"));
    command
        .args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--data-checksums", "-D"])
        .arg(&fresh);
    let output = command.output().context("running initdb")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::rename(&fresh, &place.data).context("putting the new database in place")
}

/// A killed server leaves its pid file and socket lock, and a recycled pid in them keeps Postgres from starting. We hold
/// the owner's lock, so nobody else runs it: an orphan on our folder is asked to stop and waited for, the files removed; all of it as the
/// account whose files they are.
fn end_leftovers(place: &Place, account: &Account) -> anyhow::Result<()> {
    let pid_file = place.data.join("postmaster.pid");
    let Ok(first_line) = account.run("head", &["-c".as_ref(), "32".as_ref(), pid_file.as_os_str()]) else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(&first_line);
    let pid = text.lines().next().and_then(|line| line.trim().parse::<u32>().ok());
    if let Some(pid) = pid.filter(|pid| is_our_server(*pid, &place.data)) {
        // One that ended meanwhile is what we want.
        let _ = account.run("sh", &["-c".as_ref(), format!("kill -s INT {pid}").as_ref()]);
        let deadline = Instant::now() + READY_TIMEOUT;
        while is_our_server(pid, &place.data) {
            if Instant::now() > deadline {
                bail!("an orphaned Postgres (pid {pid}) on {} does not stop", place.data.display());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
    let stale = [pid_file, place.socket.join(".s.PGSQL.5432.lock"), place.socket.join(".s.PGSQL.5432")];
    let [pid_file, lock, socket] = &stale;
    account.run("rm", &["-f".as_ref(), pid_file.as_ref(), lock.as_ref(), socket.as_ref()]).map(drop)
}

fn is_our_server(pid: u32, data: &Path) -> bool {
    let Ok(raw) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return false;
    };
    let line = String::from_utf8_lossy(&raw);
    line.split('\0').next().is_some_and(|program| program.ends_with("postgres"))
        && line.contains(&*data.to_string_lossy())
}

/// Settings of the server, as arguments.
fn settings_of(place: &Place, settings: &Settings) -> Vec<String> {
    let socket = place.socket.to_string_lossy();
    let ours = [
        ("listen_addresses", ""),
        ("unix_socket_directories", &*socket),
        ("unix_socket_permissions", "0700"),
        ("max_connections", "200"),
        ("shared_buffers", "128MB"),
        ("jit", "off"),
        ("max_wal_size", "2GB"),
        ("random_page_cost", "1.1"),
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
    ];
    let all = ours.into_iter().chain(settings.extra.iter().map(|(name, value)| (*name, *value)));
    all.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect()
}

async fn wait_until_ready(
    options: &PgConnectOptions,
    died: &CancellationToken,
    place: &Place,
    deadline: Instant,
) -> anyhow::Result<()> {
    let superuser = options.clone().username(SUPERUSER).disable_statement_logging();
    loop {
        match PgConnection::connect_with(&superuser.clone().database("postgres")).await {
            Ok(mut connection) => {
                create_database(&mut connection).await?;
                let mut connection =
                    PgConnection::connect_with(&superuser).await.context("connecting to the new database")?;
                let reowning = sqlx::raw_sql(include_str!("../../sql/store/reown.sql")).execute(&mut connection).await;
                return reowning.map(drop).context("giving the database to the role of the service");
            }
            Err(error) if died.is_cancelled() || Instant::now() > deadline => {
                return Err(error)
                    .with_context(|| format!("the embedded Postgres in {} did not get ready", place.data.display()));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Only the owner gets here, so two creations never meet.
async fn create_database(connection: &mut PgConnection) -> anyhow::Result<()> {
    let role = sqlx::raw_sql(include_str!("../../sql/store/service_role.sql")).execute(&mut *connection).await;
    role.context("making the role of the service")?;
    let exists =
        sqlx::query_file_scalar!("sql/store/database_exists.sql", DATABASE).fetch_one(&mut *connection).await?;
    if !exists {
        sqlx::raw_sql("create database outdial").execute(&mut *connection).await.context("creating the database")?;
    }
    let owned = sqlx::raw_sql("alter database outdial owner to outdial").execute(&mut *connection).await;
    owned.map(drop).context("giving the database to the role of the service")
}
