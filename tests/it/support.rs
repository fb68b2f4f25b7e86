//! A Postgres for the whole run, a database for each test, and a service in this process or in one of its own.
//!
//! The server is the product's own embedded one, throw-away: in shared memory, not durable. It ends with the test process. Each
//! test clones a migrated template, so that advisory locks and notifications are its own too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outdial::config::{self, Config};
use outdial::db::{self, Db, embedded};
use outdial::domain::call::rank;
use outdial::domain::ids::{CallId, CampaignId, InstanceId, OPERATOR, ScheduleId, UserId, new_id};
use outdial::domain::phone::PhoneNumber;
use outdial::provider::signature;
use outdial::queue::recruit;
use outdial::queue::{self, Claim, NewCall, Room, Verdict};
use outdial::service::{Role, Service};
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, Executor, PgConnection, PgPool, Row};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

const TEMPLATE: &str = "outdial_template";

/// The server of this test process.
async fn server() -> &'static PgConnectOptions {
    static SERVER: OnceCell<(PgConnectOptions, embedded::Server)> = OnceCell::const_new();
    let (options, _) = SERVER
        .get_or_init(|| async {
            let _ = rustls::crypto::ring::default_provider().install_default();
            let root = folder_root();
            remove_leftovers(&root);
            let throw_away =
                ["fsync", "full_page_writes", "synchronous_commit", "autovacuum"].map(|name| (name, "off"));
            let settings = embedded::Settings {
                folder: root.join(format!("outdial-test-{}", std::process::id())),
                bin_dir: PathBuf::new(),
                extra: throw_away.into(),
            };
            let server = embedded::start(&settings).await.expect("the test server starts");
            let options = server.superuser();
            let mut admin = PgConnection::connect_with(&options.clone().database("postgres")).await.expect("connect");
            admin.execute(sqlx::raw_sql("create database outdial_template")).await.expect("template");
            db::migrate(&options.clone().database(TEMPLATE), &config(&[]).database)
                .await
                .expect("migrate the template");
            (options, server)
        })
        .await;
    options
}

fn folder_root() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}

/// Servers of runs that were killed have ended with them; their folders stay.
fn remove_leftovers(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("outdial-test-") else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A fresh folder that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        let path = folder_root().join(format!("outdial-test-{}", std::process::id())).join(format!("{name}-{nth}"));
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A database of its own for a test.
pub struct TestDb {
    pub db: Db,
    pub options: PgConnectOptions,
    name: String,
}

impl TestDb {
    pub async fn new() -> Self {
        static NTH: AtomicU32 = AtomicU32::new(0);
        // Clones of one template take turns.
        static CLONING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let server = server().await;
        let name = format!("t{}", NTH.fetch_add(1, Ordering::Relaxed));
        {
            let _turn = CLONING.lock().await;
            let mut admin = PgConnection::connect_with(&server.clone().database("postgres")).await.expect("connect");
            let create = format!("create database {name} template {TEMPLATE}");
            admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(create))).await.expect("clone the template");
        }
        let options = server.clone().database(&name);
        Self { db: Db::open(options.clone(), &config(&[]).database), options, name }
    }

    pub fn pool(&self) -> &PgPool {
        &self.db.work
    }

    /// Another database of the same server.
    pub fn on(&self, name: &str) -> Self {
        let options = self.options.clone().database(name);
        Self { db: Db::open(options.clone(), &config(&[]).database), options, name: name.to_owned() }
    }

    /// The same database by another way.
    pub fn by(&self, options: PgConnectOptions, pairs: &[(&str, &str)]) -> Self {
        Self { db: Db::open(options.clone(), &config(pairs).database), options, name: self.name.clone() }
    }

    /// The same database at another time: its clock stands still there.
    pub fn at(&self, time: &str) -> Self {
        let options = self.options.clone().options([("outdial.now", time)]);
        Self { db: Db::open(options.clone(), &config(&[]).database), options, name: self.name.clone() }
    }

    /// Polls until one number by SQL is as wanted.
    pub async fn wait_for(&self, sql: &'static str, wanted: i64) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let now = self.count(sql).await;
            if now == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "{sql}: {now}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Enqueues due calls of a user to `count` numbers.
    pub async fn enqueue_for(&self, user: UserId, count: usize) {
        let mut calls: Vec<NewCall> = (0..count)
            .map(|nth| NewCall { user_id: user, lane_id: user.own_lane(), ..call_to(&format!("+1212555{nth:04}")) })
            .collect();
        queue::windows::place(self.pool(), &mut calls, false).await.expect("place");
        queue::enqueue(self.pool(), &calls).await.expect("enqueue");
    }

    /// The URL for another process.
    pub fn url(&self) -> String {
        let socket = self.options.get_socket().expect("a socket").display().to_string();
        format!("postgres://postgres@localhost/{}?host={socket}", self.name)
    }

    /// One number by SQL.
    pub async fn count(&self, sql: &'static str) -> i64 {
        let whole = format!("select ({sql})::bigint");
        sqlx::query_scalar(sqlx::AssertSqlSafe(whole)).fetch_one(&self.db.read).await.expect(sql)
    }

    /// Makes the database read-only, as a writer that was demoted is, or writable again; every session is ended.
    pub async fn read_only(&self, on: bool) {
        let name = self.options.get_database().expect("a name");
        let sql = format!(
            "alter database {name} set default_transaction_read_only = {on};
             select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
        );
        let admin = self.options.clone().database("postgres");
        let mut admin = PgConnection::connect_with(&admin).await.expect("connect");
        admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("set");
    }

    /// The one text this query gives.
    pub async fn text(&self, sql: &'static str) -> String {
        sqlx::query_scalar(sql).fetch_one(&self.db.read).await.expect(sql)
    }

    /// Runs SQL for its effect.
    pub async fn run(&self, sql: &'static str) {
        self.db.read.execute(sqlx::raw_sql(sql)).await.expect(sql);
    }

    /// Enqueues due calls to these numbers for the operator.
    pub async fn enqueue(&self, numbers: &[&str]) -> Vec<CallId> {
        let calls: Vec<NewCall> = numbers.iter().map(|number| call_to(number)).collect();
        let verdicts = queue::enqueue(self.pool(), &calls).await.expect("enqueue");
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Created { .. })), "{verdicts:?}");
        calls.iter().map(|call| call.id).collect()
    }

    /// No invariant is broken: the end of every test that touched the queue.
    pub async fn assert_sound(&self) {
        assert_sound(&self.db.read).await;
    }
}

/// The law lets everybody be called at any hour: for tests that are not about hours.
pub const ANY_HOUR: &str = "update legal_hours set
    hours = '[{\"days\":[\"mon\",\"tue\",\"wed\",\"thu\",\"fri\",\"sat\",\"sun\"],\"opens\":\"00:00\",\"closes\":\"00:00\"}]'";

/// No invariant is broken.
pub async fn assert_sound(pool: &PgPool) {
    let broken: Vec<String> =
        sqlx::query_scalar("select what || ' ' || id from ops.broken").fetch_all(pool).await.expect("ops.broken");
    assert!(broken.is_empty(), "broken invariants: {broken:?}");
}

/// The settings of tests: the defaults, quick where they wait, and these.
pub fn config(pairs: &[(&str, &str)]) -> Config {
    let mut environment: BTreeMap<String, String> = [
        ("PORT", "0"),
        ("OUTDIAL_SCHEDULER__TICK_MS", "50"),
        ("OUTDIAL_SIMULATOR__SPEED", "1000"),
        ("OUTDIAL_DATABASE__WORK_CONNECTIONS", "5"),
        ("OUTDIAL_DATABASE__READ_CONNECTIONS", "3"),
        // Tests run at any hour, and call numbers of nobody.
        ("OUTDIAL_RULES__SINGLE_CALLS", "tell"),
        ("OUTDIAL_RULES__DESTINATIONS", "tell"),
        ("OUTDIAL_RULES__FREQUENCY", "tell"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    environment.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    config::from_parts(None, &environment).expect("test settings")
}

/// A due call of the operator.
pub fn call_to(number: &str) -> NewCall {
    NewCall {
        id: CallId(new_id()),
        user_id: OPERATOR,
        lane_id: OPERATOR.own_lane(),
        campaign_id: None,
        rank: rank::NORMAL,
        priority: rank::NORMAL,
        due_at: None,
        expires_at: None,
        phone: PhoneNumber::parse(number).expect("a number"),
        script_id: "test".to_owned(),
        metadata: json!({}).into(),
        variables: json!({}).into(),
        external_id: None,
        time_zone: None,
        ignore_window: false,
        prospect_id: None,
        dials_max: 3,
        reject_duplicate: false,
    }
}

/// A campaign of a user, as the API makes it: three retries, 300 s apart.
pub async fn campaign_of(
    test_db: &TestDb,
    user: UserId,
    concurrent: i32,
    schedule_id: Option<ScheduleId>,
) -> recruit::Into {
    let campaign = CampaignId(new_id());
    let new = queue::NewCampaign {
        id: campaign,
        user_id: user,
        schedule_id,
        name: "c".to_owned(),
        script_id: "s".to_owned(),
        max_concurrent_calls: concurrent,
        max_retries: 3,
        retry_delay_secs: 300,
        hours_in: "schedule",
        zone_policy: Some("user"),
        paused: false,
        external_id: None,
    };
    queue::create_campaign(test_db.pool(), &new).await.expect("campaign");
    recruit::Into { campaign, user, script_id: "s".to_owned(), dials_max: 4 }
}

/// Room for so many calls and no other limit.
pub fn room(want: usize) -> Room<'static> {
    Room {
        want,
        global_limit: 1000,
        instance: InstanceId(new_id()),
        provider: "test",
        dial_guard_secs: 2.0,
        lanes_max: 64,
        lease_secs: 15.0,
        dials_per_second: 0.0,
        frequency: queue::Frequency::default(),
    }
}

/// Claims and tidies in one transaction, as a worker does in two.
pub async fn claim(connection: &mut PgConnection, room: Room<'_>) -> Claim {
    let mut transaction = queue::admit(connection).await.expect("admission");
    let claim = queue::claim(&mut transaction, room).await.expect("claim");
    queue::tend(&mut transaction, &claim.looked, &room).await.expect("tend");
    transaction.commit().await.expect("commit");
    claim
}

/// A service in this process, and a client for it.
pub struct TestService {
    pub base: String,
    pub client: reqwest::Client,
    pub test_db: TestDb,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl TestService {
    pub async fn start(pairs: &[(&str, &str)]) -> Self {
        Self::start_on(TestDb::new().await, Role::All, pairs).await
    }

    pub async fn start_on(test_db: TestDb, role: Role, pairs: &[(&str, &str)]) -> Self {
        let settings = config(pairs);
        let service = Service::start(&settings, role, test_db.db.clone(), None).await.expect("the service starts");
        let base = format!("http://127.0.0.1:{}", service.address.port());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(service.run(async move { stopped.cancelled().await }));
        Self { base, client: client(), test_db, stop, running }
    }

    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.post(format!("{}{path}", self.base)).json(&body)).await
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.client.get(format!("{}{path}", self.base))).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.client.patch(format!("{}{path}", self.base)).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> u16 {
        answer(self.client.delete(format!("{}{path}", self.base))).await.0
    }

    /// Sends a file of numbers to a campaign and waits until it is read; the upload as it is then.
    pub async fn upload(&self, campaign: &str, text: &str) -> Value {
        let path = format!("{}/api/v1/campaigns/{campaign}/phone-numbers", self.base);
        let request = self.client.post(path).header("Content-Type", "text/csv").body(text.to_owned());
        let (status, receipt) = answer(request).await;
        assert_eq!(status, 202, "{receipt}");
        let upload = receipt["data"]["uploadId"].as_str().expect("uploadId").to_owned();
        self.wait_until(&format!("/api/v1/uploads/{upload}"), |upload| {
            upload["status"] != "running" && upload["status"] != "receiving"
        })
        .await
    }

    /// Polls a page until its data are as wanted.
    pub async fn wait_until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (_, body) = self.get(path).await;
            if wanted(&body["data"]) {
                return body["data"].clone();
            }
            assert!(Instant::now() < deadline, "{path} is still not as wanted: {body}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Polls a call until it has this status.
    pub async fn wait_for_status(&self, id: &str, status: &str) -> Value {
        self.wait_until(&format!("/api/v1/calls/{id}"), |call| call["status"] == status).await
    }

    /// Stops it in order; every invariant holds afterwards.
    /// A path with the query of the URL we give the provider for an attempt.
    pub async fn ours(&self, path: &str, attempt: &str) -> String {
        let key: Vec<u8> = sqlx::query_scalar("select token_key from installation")
            .fetch_one(self.test_db.pool())
            .await
            .expect("a key");
        let token = signature::token(&key, attempt.parse().expect("an id"));
        format!("{path}?attemptId={attempt}&token={token}")
    }

    pub async fn finish(self) {
        self.stop.cancel();
        self.running.await.expect("no panic").expect("a clean end");
        let reader = PgPool::connect_with(self.test_db.options.clone()).await.expect("connect");
        assert_sound(&reader).await;
    }
}

/// A client that trusts nobody for long.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(Duration::from_secs(10)).no_proxy().build().expect("a client")
}

/// Status and JSON of an answer; null when there is no JSON.
pub async fn answer(request: reqwest::RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or(Value::Null))
}

/// A service in a process of its own, killed when dropped.
pub struct Process {
    pub child: Child,
    pub port: u16,
    log: PathBuf,
}

impl Process {
    /// Starts the binary with these settings on a free port; does not wait for it.
    pub fn start(log: &Path, pairs: &[(String, String)]) -> Self {
        Self::start_as(log, pairs, "all")
    }

    /// The same, in one role.
    pub fn start_as(log: &Path, pairs: &[(String, String)], role: &str) -> Self {
        let port = free_port();
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_outdial"));
        command.args(["--role", role]).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("OUTDIAL_LOG__FORMAT", "json").env("PORT", port.to_string());
        command.env("SERVICE_URL", format!("http://127.0.0.1:{port}"));
        command.envs(pairs.iter().cloned());
        command.current_dir("/").stdin(Stdio::null()).stderr(file.try_clone().expect("a log")).stdout(file);
        Self { child: command.spawn().expect("the binary starts"), port, log: log.to_owned() }
    }

    /// A process that was started in another way.
    pub fn of(child: Child, port: u16, log: &Path) -> Self {
        Self { child, port, log: log.to_owned() }
    }

    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal; one that has ended gets none.
    pub fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            kill(Pid::from_raw(self.child.id().cast_signed()), signal).expect("a process");
        }
    }

    /// Waits until it answers; false when it ended instead.
    pub async fn wait_until_up(&mut self, client: &reqwest::Client) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if self.has_ended() {
                return false;
            }
            if client.get(format!("{}/health", self.base())).send().await.is_ok_and(|r| r.status().is_success()) {
                return true;
            }
            assert!(Instant::now() < deadline, "not up: {}", std::fs::read_to_string(&self.log).unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port nobody has; handed out once in this process.
pub fn free_port() -> u16 {
    static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    loop {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let mut taken = TAKEN.lock().expect("no panic while held");
        if !taken.contains(&port) {
            taken.push(port);
            return port;
        }
    }
}

/// Owned pairs for a process.
pub fn pairs(given: &[(&str, &str)]) -> Vec<(String, String)> {
    given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Buffers a statement touches, undone again; after once unmeasured on the same connection, so that catalogs and plans are loaded.
pub async fn buffers_of(connection: &mut PgConnection, statement: &str) -> i64 {
    let sql = format!("explain (analyze, buffers, format json, timing off) {statement}");
    let mut plan = Value::Null;
    for _ in 0..2 {
        connection.execute("begin").await.expect("begin");
        let row = connection.fetch_one(sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone()))).await.expect(statement);
        plan = serde_json::from_str(&row.get_unchecked::<String, _>(0)).expect("a plan");
        connection.execute("rollback").await.expect("rollback");
    }
    let plan = &plan[0]["Plan"];
    plan["Shared Hit Blocks"].as_i64().unwrap() + plan["Shared Read Blocks"].as_i64().unwrap()
}
