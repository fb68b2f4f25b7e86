//! The whole service in a simulation: every actor's step is one function run to its end, in an order that a seed picks, by a clock that
//! is written, on a real Postgres. After each step `sound.sql` and the provider's own memory say whether something is that must not be.
//!
//! `SIMULATION_SEEDS=1000 SIMULATION_STEPS=1000 cargo test --test simulation seeds` runs a million steps. A seed that fails is shortened,
//! and the command is printed that does the same again. Each switch in `sabotage` breaks one promise of the queue, and must be caught.

// A test says what it expects.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::as_conversions
)]

mod exchange;
mod hours;
mod rest;
mod steps;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use outdial::db::{self, embedded};
use outdial::domain::ids::replay;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::steps::{Step, steps_of};
use crate::world::World;

const TEMPLATE: &str = "simulated";

/// A switch that breaks one promise, and how it is found.
const SABOTAGE: [(&str, &str); 6] = [
    ("no_fence", include_str!("sabotage/no_fence.sql")),
    ("lock_inside", include_str!("sabotage/lock_inside.sql")),
    ("slot_freed_twice", include_str!("sabotage/slot_freed_twice.sql")),
    ("redial_on_timeout", include_str!("sabotage/redial_on_timeout.sql")),
    ("cap_forgets_doubt", include_str!("sabotage/cap_forgets_doubt.sql")),
    ("window_cached", include_str!("sabotage/window_cached.sql")),
];

/// A server of simulated databases: one for each thread, since some steps bring down the whole of it.
struct Server {
    options: PgConnectOptions,
    _running: embedded::Server,
}

/// Servers that nobody uses now.
static IDLE: Mutex<Vec<Server>> = Mutex::new(Vec::new());

impl Server {
    /// One that is idle, or a new one.
    fn take() -> Self {
        let idle = IDLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        idle.unwrap_or_else(Self::start)
    }

    fn give_back(self) {
        IDLE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(self);
    }

    fn start() -> Self {
        static NTH: AtomicU32 = AtomicU32::new(0);
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shared = Path::new("/dev/shm");
        let root = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let nth = NTH.fetch_add(1, Ordering::Relaxed);
        if nth == 0 {
            remove_leftovers(&root);
        }
        // What is committed stays when a backend is killed: it is written, though never flushed to a disk.
        let extra = ["fsync", "full_page_writes", "autovacuum"].map(|name| (name, "off"));
        let settings = embedded::Settings {
            folder: root.join(format!("outdial-simulation-{}-{nth}", std::process::id())),
            bin_dir: PathBuf::new(),
            extra: extra.into(),
        };
        // A runtime of its own, by the real clock.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let server = embedded::start(&settings).await.expect("the server starts");
            let options = server.superuser();
            let mut admin = PgConnection::connect_with(&options.clone().database("postgres")).await.expect("connect");
            let create = format!("create database {TEMPLATE}");
            admin.execute(sqlx::raw_sql(AssertSqlSafe(create))).await.expect("template");
            let template = options.clone().database(TEMPLATE);
            db::migrate(&template, &world::settings().database).await.expect("migrate");
            world::dress(&template).await;
            Self { options, _running: server }
        })
    }
}

/// Servers of runs that were killed have ended with them; their folders stay.
fn remove_leftovers(root: &Path) {
    for entry in std::fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("outdial-simulation-").and_then(|rest| rest.split('-').next()) else {
            continue;
        };
        if !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// What one run of a seed came to.
#[derive(Debug, Default)]
struct Run {
    /// The step that failed, and how.
    fault: Option<(usize, Vec<String>)>,
    steps: usize,
    /// What the whole database held at the end.
    rows: Vec<String>,
}

/// Every so many seeds are brought to rest: it takes as long as some hundred steps.
const RESTS_EVERY: u64 = 10;

/// Runs these steps in a world of this seed.
fn run(seed: u64, steps: &[Step], sabotage: Option<&str>) -> Run {
    let rests = sabotage.is_none() && seed.is_multiple_of(RESTS_EVERY);
    static NTH: AtomicU32 = AtomicU32::new(0);
    let server = Server::take();
    let name = format!("s{}", NTH.fetch_add(1, Ordering::Relaxed));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    let run = runtime.block_on(async {
        // While something blocks, the paused clock does not go on by itself: it goes where steps put it.
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let holding = tokio::task::spawn_blocking(move || ended.recv());
        let admin = server.options.clone().database("postgres");
        let on_server = async |sql: String| {
            let mut connection = PgConnection::connect_with(&admin).await.expect("connect");
            connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("the server does as told");
        };
        on_server(format!("create database {name} template {TEMPLATE} strategy file_copy")).await;
        let options = server.options.clone().database(&name);
        let mut world = World::new(options, name.clone(), seed, sabotage).await;
        let mut run = Run::default();
        for (nth, step) in steps.iter().enumerate() {
            let faults = world.step(*step).await;
            run.steps += 1;
            if std::env::var_os("SIMULATION_TRACE").is_some() {
                let rows = world.rows().await;
                let hash = {
                    use std::hash::{DefaultHasher, Hash, Hasher};
                    let mut hasher = DefaultHasher::new();
                    rows.hash(&mut hasher);
                    hasher.finish()
                };
                eprintln!("{nth} {} {:?} {faults:?} {hash:x}", world.now, step.kind);
                if !faults.is_empty() {
                    world.tell().await;
                }
            }
            if !faults.is_empty() {
                run.fault = Some((nth, faults));
                break;
            }
        }
        if run.fault.is_none() && rests {
            let faults = world.come_to_rest().await;
            if std::env::var_os("SIMULATION_TRACE").is_some() && !faults.is_empty() {
                world.tell().await;
            }
            run.fault = (!faults.is_empty()).then_some((steps.len(), faults));
        }
        run.rows = world.rows().await;
        world.close().await;
        on_server(format!("drop database {name} with (force)")).await;
        replay::at(None);
        drop(end);
        let _ = holding.await;
        run
    });
    server.give_back();
    run
}

/// A number from the surroundings.
fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// What a fault is, whomever it befell.
fn kind_of(fault: &str) -> String {
    fault.split(' ').filter(|word| !word.contains(|char: char| char.is_ascii_digit())).collect::<Vec<_>>().join(" ")
}

/// Leaves out of a failing run what it can be without, for a while.
fn shortened(seed: u64, steps: &[Step], failed_at: usize, wanted: &str) -> (Vec<usize>, Vec<String>) {
    let mut kept: Vec<usize> = (0..steps.len().min(failed_at + 1)).collect();
    let mut faults = Vec::new();
    let pick = |kept: &[usize]| -> Vec<Step> { kept.iter().map(|nth| steps[*nth]).collect() };
    let mut size = kept.len() / 2;
    let began = Instant::now();
    while size > 0 && began.elapsed().as_secs() < 60 {
        let mut from = 0;
        while from < kept.len() && began.elapsed().as_secs() < 60 {
            let mut fewer = kept.clone();
            fewer.drain(from..(from + size).min(kept.len()));
            match run(seed, &pick(&fewer), None).fault {
                // The same fault, not just any.
                Some((at, found)) if found.first().is_some_and(|found| kind_of(found) == kind_of(wanted)) => {
                    fewer.truncate(at + 1);
                    (kept, faults) = (fewer, found);
                }
                _ => from += size,
            }
        }
        size /= 2;
    }
    (kept, faults)
}

/// A seed that failed, the step at which it did, and how.
type Fault = (u64, usize, Vec<String>);

/// Runs seeds on as many threads as there are cores until one fails; gives the first of those, and how many steps were done.
fn first_fault(first: u64, count: u64, steps: usize, sabotage: Option<&str>) -> (Option<Fault>, u64) {
    let (next, done) = (AtomicU64::new(first), AtomicU64::new(0));
    let failed: Mutex<Option<Fault>> = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failed.lock().expect("no panic").is_some() {
                        return;
                    }
                    let run = run(seed, &steps_of(seed, steps), sabotage);
                    done.fetch_add(run.steps as u64, Ordering::Relaxed);
                    if let Some((at, faults)) = run.fault {
                        failed.lock().expect("no panic").get_or_insert((seed, at, faults));
                    }
                }
            });
        }
    });
    (failed.into_inner().expect("no panic"), done.into_inner())
}

/// No seed fails; the first that does is shortened and told.
fn run_seeds(first: u64, count: u64, steps: usize) {
    let began = Instant::now();
    let (failed, done) = first_fault(first, count, steps, None);
    eprintln!("{done} steps, {:.0} a second", done as f64 / began.elapsed().as_secs_f64());
    if let Some((seed, at, faults)) = failed {
        let all = steps_of(seed, steps);
        let wanted = faults.first().map(String::as_str).unwrap_or_default();
        let (kept, of_short) = shortened(seed, &all, at, wanted);
        let kinds: Vec<String> = kept.iter().map(|nth| format!("{nth} {:?}", all[*nth].kind)).collect();
        let keep: Vec<String> = kept.iter().map(ToString::to_string).collect();
        panic!(
            "seed {seed} fails at step {at}: {faults:?}\nshortened: {of_short:?}\n{}\nagain: SIMULATION_SEED={seed} SIMULATION_KEEP={} cargo test --test simulation a_seed_again",
            kinds.join("\n"),
            keep.join(",")
        );
    }
}

/// Whatever happens in whatever order: no seed finds what must not be.
#[test]
fn seeds_hold() {
    quiet();
    run_seeds(
        from_env("SIMULATION_FROM", 1),
        from_env("SIMULATION_SEEDS", 40),
        from_env("SIMULATION_STEPS", 250) as usize,
    );
}

/// One seed, or some of its steps, again: `SIMULATION_SEED=7 SIMULATION_KEEP=3,17,22`.
#[test]
fn a_seed_again() {
    quiet();
    let seed = from_env("SIMULATION_SEED", 1);
    let all = steps_of(seed, from_env("SIMULATION_STEPS", 250).max(1) as usize);
    let keep = std::env::var("SIMULATION_KEEP").ok();
    let steps: Vec<Step> = match &keep {
        Some(keep) => {
            let wanted = keep.split(',').filter_map(|nth| nth.parse::<usize>().ok());
            let all = steps_of(seed, 100_000);
            wanted.filter_map(|nth| all.get(nth).copied()).collect()
        }
        None => all,
    };
    let (one, two) = (run(seed, &steps, None), run(seed, &steps, None));
    assert!(one.fault.is_none(), "{:?}", one.fault);
    // The same steps come to the same rows, to the last id and time.
    for (one, two) in one.rows.iter().zip(&two.rows) {
        assert_eq!(one, two);
    }
    assert_eq!(one.rows.len(), two.rows.len());
}

/// Each broken promise is found within 200 seeds.
#[test]
fn sabotage_is_found() {
    quiet();
    let steps = from_env("SIMULATION_STEPS", 250) as usize;
    for (name, sql) in SABOTAGE {
        let began = Instant::now();
        let found = first_fault(1, 200, steps, Some(sql)).0;
        let (seed, at, faults) = found.unwrap_or_else(|| panic!("{name} was not found within 200 seeds"));
        eprintln!("{name}: seed {seed}, step {at}, after {:.1} s: {:?}", began.elapsed().as_secs_f64(), faults.first());
    }
}

/// Panics that a step asked for are no news.
fn quiet() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info
                .payload()
                .downcast_ref::<&'static str>()
                .is_none_or(|text| !outdial::domain::failpoint::NAMES.contains(text))
            {
                usual(info);
            }
        }));
    });
}
