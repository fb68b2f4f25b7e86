//! kill -9, again and again: of the service at every failpoint and at random moments, and of Postgres, while the provider loses
//! answers and doubles webhooks. By the provider's own account no attempt is dialed twice, nobody is called twice, no call lost.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outdial::domain::failpoint;
use outdial::domain::ids::splitmix;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;

use crate::fake_provider::{FakeProvider, Manners};
use crate::support::{Folder, Process, answer, assert_sound, client, pairs};

/// Orders placed in each life of the service: calls, numbers for campaigns, and files of numbers.
const ORDERS_PER_LIFE: u64 = 12;
/// Numbers in a file.
const NUMBERS_PER_FILE: u64 = 5;
/// When prospects are promised a call: now, the same in every repeat of a request.
static PROMISED: LazyLock<chrono::DateTime<chrono::Utc>> = LazyLock::new(chrono::Utc::now);

/// Of the user who calls prospects.
const MINUTES: u64 = 100_000;
/// Live calls each campaign may have.
const CAMPAIGN_LIMITS: [u64; 3] = [1, 2, 3];

/// A service with a durable Postgres of its own, quick to notice a death.
fn settings(provider: &FakeProvider, data: &Path, failpoint: Option<String>) -> Vec<(String, String)> {
    let mut settings = provider.settings();
    settings.extend(pairs(&[
        ("OUTDIAL_CALLS__LEASE_SECS", "5"),
        ("OUTDIAL_PROVIDER__DIAL_TIMEOUT_SECS", "1"),
        ("OUTDIAL_PROVIDER__LOOKUP_GRACE_SECS", "1"),
        ("OUTDIAL_EXECUTOR__INQUIRY_SECS", "1"),
        ("OUTDIAL_SCHEDULER__TICK_MS", "100"),
        ("OUTDIAL_RETRY__BASE_SECS", "0.2"),
        ("MAX_CONCURRENT_CALLS", "8"),
    ]));
    settings.push(("OUTDIAL_DATABASE__DATA_DIR".to_owned(), data.display().to_string()));
    settings.extend(failpoint.map(|point| ("OUTDIAL_FAILPOINT".to_owned(), point)));
    settings
}

/// How a life of the service ends.
#[derive(Clone, Debug)]
enum Death {
    At(String),
    Service { after: Duration },
    Postgres { after: Duration },
}

/// The storm: one life for each failpoint, then random kills of the service and of Postgres; then a life in peace.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nobody_called_twice() {
    let seed = std::env::var("STORM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    println!("storm seed {seed} (STORM_SEED=… repeats it)");
    let provider =
        FakeProvider::start(Manners { seed, lasts_ms: (20, 200), answers_lost: 15, webhooks_doubled: 20 }).await;
    let folder = Folder::new("storm");
    let (data, log) = (folder.0.join("data"), folder.0.join("log"));
    let client = client();
    provider.loses_strays.store(true, Ordering::Relaxed);
    let mut created = 0;
    let mut reached: HashMap<&'static str, bool> = of_one_step().map(|name| (name, false)).collect();
    for (life, death) in deaths(seed).into_iter().enumerate() {
        let failpoint = if let Death::At(point) = &death { Some(point.clone()) } else { None };
        let mut process = Process::start(&log, &settings(&provider, &data, failpoint));
        *provider.reports_to.lock().expect("no panic while held") = vec![process.port];
        if process.wait_until_up(&client).await {
            // Creating goes on while it dies; what was not answered is repeated in the next life, under the same key.
            created = order_until(&client, &mut process, created, created + ORDERS_PER_LIFE).await;
            die(&mut process, &death, &data).await;
        }
        if let Death::At(point) = &death {
            let name = point.split(':').next().expect("a name");
            let hit = reached.get_mut(name).expect("a listed failpoint");
            *hit = process.has_ended();
            assert!(*hit, "life {life}: the failpoint {point} was never reached");
        }
        process.kill();
    }
    assert!(reached.values().all(|hit| *hit), "{reached:?}");
    let mut process = Process::start(&log, &settings(&provider, &data, None));
    *provider.reports_to.lock().expect("no panic while held") = vec![process.port];
    assert!(process.wait_until_up(&client).await, "no peace: {}", std::fs::read_to_string(&log).unwrap_or_default());
    let total = created + ORDERS_PER_LIFE;
    assert_eq!(order_until(&client, &mut process, created, total).await, total);
    let pool = PgPool::connect_with(
        PgConnectOptions::new_without_pgpass().socket(data.join("socket")).username("postgres").database("outdial"),
    );
    let pool = pool.await.expect("connect");
    let expected: Vec<String> = (0..total).flat_map(Order::calls).collect();
    wait_until_done(&pool, expected.len()).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while {
        let account = provider.account();
        account.reported < account.calls.iter().filter(|call| call.metadata.get("prospectId").is_some()).count()
    } {
        assert!(Instant::now() < deadline, "webhooks are still on their way");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    audit(&provider, &pool, &expected).await;
    audit_prospects(&provider, &pool).await;
    for (campaign, limit) in (0..).zip(CAMPAIGN_LIMITS) {
        let script = script(campaign);
        let numbers = expected.iter().filter(|call| call.starts_with(&script)).count();
        let page = client.get(format!("{}/api/v1/campaigns/{script}/stats", process.base()));
        let (_, stats) = answer(page).await;
        assert_eq!(stats["data"]["total"], json!(numbers), "{stats}");
        assert_eq!(stats["data"]["completed"], json!(numbers), "{stats}");
        assert_eq!(stats["data"]["retriesAttempted"], 0, "{stats}");
        let most = provider.account().live_max_of[&script];
        assert!(u64::try_from(most).unwrap() <= limit, "{most} live at once in a campaign that may have {limit}");
    }
    pool.close().await;
    process.kill();
}

/// The failpoints on the road of a provider that places in one step; tests/it/ultravox_kill.rs has the other.
fn of_one_step() -> impl Iterator<Item = &'static str> {
    failpoint::NAMES.iter().copied().filter(|name| *name != "dial.after_prepare")
}

fn deaths(seed: u64) -> Vec<Death> {
    let at_points = of_one_step().enumerate().map(|(nth, name)| {
        // A life has two files, and each is read in one piece.
        let hits = if name.starts_with("upload.") { 2 } else { 4 };
        Death::At(format!("{name}:{}", 1 + splitmix(seed ^ u64::try_from(nth).unwrap()) % hits))
    });
    let at_random = (0..6).map(|nth| {
        let after = Duration::from_millis(20 + splitmix(seed.wrapping_add(nth)) % 400);
        if nth % 2 == 0 { Death::Service { after } } else { Death::Postgres { after } }
    });
    at_points.chain(at_random).collect()
}

/// What is asked for: a call, a number for a campaign, a file of numbers for one, or a prospect with a promised time.
enum Order {
    Call { to: String },
    Prospect { phone: String },
    Numbers { campaign: u64, numbers: Vec<String>, as_file: bool },
}

impl Order {
    fn of(nth: u64) -> Self {
        // Some numbers are called several times, by calls and by campaigns.
        let number = |n: u64| format!("+1415555{:04}", n % 10_000);
        let campaign = nth / 12 % 3;
        match nth % 12 {
            4 | 11 => {
                let numbers = (0..NUMBERS_PER_FILE).map(|row| number(nth * NUMBERS_PER_FILE + row)).collect();
                Self::Numbers { campaign, numbers, as_file: true }
            }
            0 | 3 | 7 => Self::Prospect { phone: format!("+1415556{nth:04}") },
            1 | 6 | 8 => Self::Numbers { campaign, numbers: vec![number(5000 + nth)], as_file: false },
            _ => Self::Call { to: number(nth % 40) },
        }
    }

    /// How the provider knows the calls of it: single calls by their metadata, those of campaigns by script and number.
    fn calls(nth: u64) -> Vec<String> {
        match Self::of(nth) {
            Self::Call { .. } => vec![nth.to_string()],
            Self::Prospect { phone } => vec![format!("prospect {phone}")],
            Self::Numbers { campaign, numbers, .. } => {
                numbers.into_iter().map(|number| format!("{} {number}", script(campaign))).collect()
            }
        }
    }

    fn request(&self, nth: u64, client: &reqwest::Client, base: &str) -> reqwest::RequestBuilder {
        match self {
            Self::Call { to } => {
                let body = json!({"to": to, "scriptId": "storm", "metadata": {"n": nth}});
                client.post(format!("{base}/api/v1/calls")).json(&body)
            }
            Self::Prospect { phone } => {
                let body = json!({"phone": phone, "name": "Jo", "rescheduledFor": *PROMISED});
                client.post(format!("{base}/api/v1/users/cold/prospects")).json(&body)
            }
            Self::Numbers { campaign, numbers, as_file } => {
                let request = client.post(format!("{base}/api/v1/campaigns/{}/phone-numbers", script(*campaign)));
                if *as_file {
                    let text = format!("phone\n{}\n", numbers.join("\n"));
                    request.header("Content-Type", "text/csv").body(text)
                } else {
                    request.json(&json!({"number": numbers[0]}))
                }
            }
        }
    }
}

/// The script of a campaign, which is its external id too.
fn script(campaign: u64) -> String {
    format!("campaign-{campaign}")
}

/// The campaigns stand, whatever died while they were made. False: the service is gone.
async fn campaigns_stand(client: &reqwest::Client, process: &mut Process) -> bool {
    let any_hour = json!({"area": "*", "source": "test", "asOf": "2026-01-01", "hours": [
        {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "opens": "00:00", "closes": "00:00"}]});
    let request = client.post(format!("{}/api/v1/legal-hours", process.base())).json(&any_hour);
    if !place(request).await {
        return false;
    }
    // A user who calls prospects, with minutes to spare.
    let settings = json!({"timeZone": "America/New_York", "callingHours": {"startAt": "00:00", "endAt": "00:00"},
        "script": {"initial": "hi {prospectName}", "followUp": "hi again {prospectName}"}});
    let plan = json!({"name": "p", "externalId": "plan", "minutes": MINUTES, "duration": 30});
    let user = json!({"name": "cold", "externalId": "cold"});
    let at = |path: &str| format!("{}/api/v1/{path}", process.base());
    let standing = place(client.post(at("plans")).header("Idempotency-Key", "plan").json(&plan)).await
        && place(client.post(at("users")).header("Idempotency-Key", "cold").json(&user)).await
        && place(client.put(at("users/cold/settings")).json(&settings)).await
        && place(client.put(at("users/cold/subscription")).json(&json!({"planId": "plan"}))).await;
    if !standing {
        return false;
    }
    for (nth, limit) in CAMPAIGN_LIMITS.iter().enumerate() {
        let name = script(u64::try_from(nth).unwrap());
        let body = json!({"name": name, "externalId": name, "scriptId": name, "maxConcurrentCalls": limit,
                          "retryDelaySeconds": 0});
        let request = client.post(format!("{}/api/v1/campaigns", process.base()));
        if !place(request.header("Idempotency-Key", &name).json(&body)).await {
            return false;
        }
    }
    true
}

/// Sends a request until it is taken; false: nobody answers any more.
async fn place(request: reqwest::RequestBuilder) -> bool {
    loop {
        let sent = request.try_clone().expect("a plain body").send().await;
        match sent.map(|response| response.status().as_u16()) {
            Ok(200..=202) => return true,
            // The one before died with this key in its hand, or Postgres did.
            Ok(409 | 503) => tokio::time::sleep(Duration::from_millis(100)).await,
            Ok(status) => panic!("an order was answered {status}"),
            Err(_) => return false,
        }
    }
}

/// Places orders number `from` to `to` until all are taken or the service is gone; returns how many surely are.
async fn order_until(client: &reqwest::Client, process: &mut Process, from: u64, to: u64) -> u64 {
    if !campaigns_stand(client, process).await {
        return from;
    }
    for nth in from..to {
        let request = Order::of(nth).request(nth, client, &process.base());
        if !place(request.header("Idempotency-Key", format!("storm-{nth}"))).await {
            return nth;
        }
    }
    to
}

async fn die(process: &mut Process, death: &Death, data: &Path) {
    match death {
        Death::At(_) => {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !process.has_ended() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        Death::Service { after } => {
            tokio::time::sleep(*after).await;
            process.kill();
        }
        Death::Postgres { after } => {
            tokio::time::sleep(*after).await;
            let pid_file = std::fs::read_to_string(data.join("data/postmaster.pid")).expect("Postgres runs");
            let pid: i32 = pid_file.lines().next().expect("a pid").trim().parse().expect("a pid");
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill Postgres");
            // The service ends with its Postgres, loudly.
            let deadline = Instant::now() + Duration::from_secs(40);
            while !process.has_ended() {
                assert!(Instant::now() < deadline, "the service did not notice that Postgres is gone");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn wait_until_done(pool: &PgPool, total: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let done: i64 = sqlx::query_scalar("select count(*) from calls where state = 'completed'")
            .fetch_one(pool)
            .await
            .expect("count");
        if usize::try_from(done).unwrap() == total {
            return;
        }
        if Instant::now() > deadline {
            let rows = "select c.state::text || ' ' || c.id || ' ' || coalesce(a.state::text, '-') || ' ' || coalesce(a.hangup_cause, '')
                        from calls c left join attempts a on a.call_id = c.id where c.state <> 'completed' limit 20";
            let left: Vec<String> = sqlx::query_scalar(rows).fetch_all(pool).await.expect("rows");
            panic!("{done} of {total} done; left: {left:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The provider's account against ours.
async fn audit(provider: &FakeProvider, pool: &PgPool, expected: &[String]) {
    let account = provider.account();
    let mut dialed: HashMap<String, u32> = expected.iter().map(|call| (call.clone(), 0)).collect();
    for call in &account.calls {
        let name = match call.metadata["n"].as_u64() {
            Some(n) => n.to_string(),
            None if call.metadata.get("prospectId").is_some() => format!("prospect {}", call.to),
            None => format!("{} {}", call.script, call.to),
        };
        *dialed.entry(name).or_default() += 1;
    }
    assert_eq!(dialed.len(), expected.len(), "somebody was dialed whom nobody asked for");
    let not_once: Vec<_> = dialed.iter().filter(|(_, times)| **times != 1).collect();
    assert!(not_once.is_empty(), "not called once: {not_once:?}");
    let again: Vec<_> = account.requests.iter().filter(|(_, times)| **times > 1).collect();
    assert!(again.is_empty(), "attempts dialed twice: {again:?}");
    assert_eq!(account.overlaps, 0, "two calls to one number at once");
    assert!(account.live_max <= 8, "{} live at once", account.live_max);
    assert!(account.answers_lost > 0 && account.webhooks_doubled > 0, "the storm was no storm");
    println!(
        "{} calls, {} answers lost, {} webhooks doubled, {} look-ups",
        expected.len(),
        account.answers_lost,
        account.webhooks_doubled,
        account.looked_up
    );
    drop(account);
    let created: i64 = sqlx::query_scalar("select count(*) from calls").fetch_one(pool).await.expect("count");
    assert_eq!(usize::try_from(created).unwrap(), expected.len(), "a call was created twice, or lost");
    assert_sound(pool).await;
}

/// Minutes, appointments and prospects against what the provider told of each call.
async fn audit_prospects(provider: &FakeProvider, pool: &PgPool) {
    let account = provider.account();
    let calls: Vec<_> =
        account.calls.iter().filter(|call| call.metadata.get("prospectId").is_some()).cloned().collect();
    drop(account);
    let minutes: u64 = calls.iter().map(|call| call.duration.div_ceil(60)).sum();
    let left: i32 =
        sqlx::query_scalar("select minutes_left from subscriptions").fetch_one(pool).await.expect("minutes");
    for call in &calls {
        // Call by call first, so that a difference has a name.
        let sql = "select format('%s min, %s s, %s %s, weight %s, events %s', charged_minutes, duration_secs, state, disposition, weight,
                     (select string_agg(e.type || ' by ' || e.source, ', ' order by e.received_at) from events e where e.attempt_id = a.id))
                   from attempts a where id::text = $1";
        let taken: String = sqlx::query_scalar(sql).bind(&call.attempt).fetch_one(pool).await.expect("an attempt");
        let wanted = format!("{} min, {} s", call.duration.div_ceil(60), call.duration);
        assert!(taken.starts_with(&wanted), "{} talked {wanted}, {:?}: {taken}", call.attempt, call.outcome);
    }
    assert_eq!(u64::try_from(left).unwrap(), MINUTES - minutes, "minutes");
    let booked = calls.iter().filter(|call| call.outcome == Some("APPOINTMENT_SET")).count();
    let appointments: i64 =
        sqlx::query_scalar("select count(*) from appointments").fetch_one(pool).await.expect("appointments");
    assert_eq!(usize::try_from(appointments).unwrap(), booked, "appointments");
    for call in &calls {
        let wanted = match call.outcome {
            Some("APPOINTMENT_SET") => "BOOKED",
            Some(other) => other,
            None => "FAILED",
        };
        let status: String = sqlx::query_scalar("select status from ops.prospects where phone = $1")
            .bind(&call.to)
            .fetch_one(pool)
            .await
            .expect("a prospect");
        assert_eq!(status, wanted, "{}", call.to);
    }
    println!("{} prospects, {minutes} minutes, {booked} appointments", calls.len());
}

/// A frozen process (SIGSTOP past its lease) wakes up and does not dial what others have taken over.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_process_does_not_dial_late() {
    let provider =
        FakeProvider::start(Manners { seed: 7, lasts_ms: (20, 40), answers_lost: 0, webhooks_doubled: 0 }).await;
    let folder = Folder::new("frozen");
    let data = folder.0.join("data");
    let client = client();
    let mut process = Process::start(&folder.0.join("log"), &settings(&provider, &data, None));
    assert!(process.wait_until_up(&client).await);
    for round in 0..3_u64 {
        process.signal(Signal::SIGSTOP);
        tokio::time::sleep(Duration::from_secs(6)).await;
        process.signal(Signal::SIGCONT);
        let body = json!({"to": format!("+1415555{round:04}"), "scriptId": "s", "metadata": {"n": round}});
        let (status, _) = answer(client.post(format!("{}/api/v1/calls", process.base())).json(&body)).await;
        assert_eq!(status, 201);
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    while provider.account().calls.len() < 3 {
        assert!(Instant::now() < deadline, "it never dialed again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(provider.account().requests.values().all(|times| *times == 1));
    process.kill();
}
