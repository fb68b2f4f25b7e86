//! What may happen, and in which order: a seed gives the kinds of its steps and the dice of each.
//!
//! Each step throws its own dice only, so that leaving others out does not change what it is: a failing seed can be shortened.

use chrono::TimeDelta;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outdial::domain::call::rank;
use outdial::domain::disposition::Disposition;
use outdial::domain::failpoint;
use outdial::domain::ids::AttemptId;
use outdial::domain::word::{Ended, Outcome, Weight, Word};
use outdial::executor::inquiry;
use outdial::outcome::inbox::Heard;
use outdial::provider::Placed;
use outdial::queue::windows::{self, Scope};
use outdial::queue::{self, Amendment, CampaignChanges};
use outdial::store::schedules;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::exchange::{id_at_provider, lock};
use crate::world::{Delivery, Webhook, World, hours, some_number};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Enqueue,
    Recruit,
    Promise,
    PlainSql,
    Turn,
    /// A turn that panics in the middle: the process lives, or dies with it.
    BrokenTurn,
    /// A turn of one process that waits for the lock another holds.
    TwoTurns,
    /// The provider answers a request.
    Answer,
    /// A phone that rings before the request is answered.
    RingEarly,
    /// A conversation ends, or was never one.
    End,
    Webhook,
    Renew,
    Rescue,
    Inquire,
    Tick,
    SlowTick,
    TakeIn,
    Pass,
    /// The clock of the database is put forward or back.
    ClockSteps,
    Crash,
    Cancel,
    Amend,
    Retry,
    Pause,
    ChangeCampaign,
    ChangeSchedule,
    Suppress,
    Unsuppress,
    Disconnect,
    ReadOnly,
    /// A backend of Postgres is killed, and with it all sessions of the server.
    Restart,
}

/// How often each is drawn.
const WEIGHTS: [(Kind, u32); 31] = [
    (Kind::Enqueue, 12),
    (Kind::Recruit, 8),
    (Kind::Promise, 2),
    (Kind::PlainSql, 3),
    (Kind::Turn, 40),
    (Kind::BrokenTurn, 4),
    (Kind::TwoTurns, 6),
    (Kind::Answer, 30),
    (Kind::RingEarly, 8),
    (Kind::End, 20),
    (Kind::Webhook, 25),
    (Kind::Renew, 10),
    (Kind::Rescue, 5),
    (Kind::Inquire, 8),
    (Kind::Tick, 8),
    (Kind::SlowTick, 1),
    (Kind::TakeIn, 4),
    (Kind::Pass, 30),
    (Kind::ClockSteps, 2),
    (Kind::Crash, 2),
    (Kind::Cancel, 3),
    (Kind::Amend, 3),
    (Kind::Retry, 2),
    (Kind::Pause, 3),
    (Kind::ChangeCampaign, 3),
    (Kind::ChangeSchedule, 3),
    (Kind::Suppress, 2),
    (Kind::Unsuppress, 1),
    (Kind::Disconnect, 1),
    (Kind::ReadOnly, 1),
    (Kind::Restart, 1),
];

#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub kind: Kind,
    pub dice: u64,
}

/// Who waits for the lock of admission.
const WAITING: &str = "select count(*) from pg_locks where locktype = 'advisory' and not granted
    and database = (select oid from pg_database where datname = current_database())";

/// The steps of a seed.
pub fn steps_of(seed: u64, count: usize) -> Vec<Step> {
    let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
    let draw = |random: &mut StdRng| {
        WEIGHTS.choose_weighted(random, |(_, weight)| *weight).map_or(Kind::Turn, |(kind, _)| *kind)
    };
    (0..count).map(|_| Step { kind: draw(&mut random), dice: random.random() }).collect()
}

impl World {
    /// Does one step, and says what went wrong.
    pub async fn step(&mut self, step: Step) -> Vec<String> {
        let mut random = StdRng::seed_from_u64(step.dice);
        // No two steps are at the same time.
        self.pass(TimeDelta::microseconds(random.random_range(1000..2000))).await;
        let was_shaken = self.shaken;
        if self.read_only && random.random_bool(0.1) {
            self.write_protect(false).await;
        }
        self.act(step.kind, &mut random).await;
        self.settle_down().await;
        let mut faults = self.faults().await;
        faults.extend(self.calls_out_of_hours().await);
        // Connections that were ended are found one by one.
        if was_shaken && !self.read_only && random.random_bool(0.2) {
            self.calm_down().await;
        }
        faults
    }

    /// Everything that was ended is connected again: each process takes turns until it has come by its connections.
    pub async fn calm_down(&mut self) {
        for at in 0..self.processes.len() {
            for _ in 0..3 {
                self.pass(TimeDelta::seconds(2)).await;
                let line = std::sync::Arc::clone(&self.processes[at].line);
                let _ = line.lease.renew(&line.pool, "all", "simulation").await;
                let _ = self.processes[at].dispatcher.guarded_turn().await;
                self.settle_down().await;
            }
        }
        self.shaken = false;
    }

    async fn act(&mut self, kind: Kind, random: &mut StdRng) {
        let some = random.random_range(0..self.processes.len());
        match kind {
            Kind::Enqueue => self.enqueue(random).await,
            Kind::Recruit => self.recruit(random).await,
            Kind::Promise => self.promise(random).await,
            Kind::PlainSql => self.plain_sql(random).await,
            Kind::Turn => self.turn(some).await,
            Kind::BrokenTurn => self.broken_turn(some, random).await,
            Kind::TwoTurns => self.two_turns(some).await,
            Kind::Answer => self.answer(random),
            Kind::RingEarly => self.ring_early(random),
            Kind::End => self.end(random),
            Kind::Webhook => self.deliver(some, random),
            Kind::Renew => {
                let process = &self.processes[some];
                let done = process.line.lease.renew(&process.line.pool, "all", "simulation").await;
                self.note("renew", done);
            }
            Kind::Rescue => {
                let done = inquiry::rescue(&self.processes[some].line).await;
                self.note("rescue", done);
            }
            Kind::Inquire => {
                lock(&self.exchange).answers = random.random_bool(0.9);
                let done = inquiry::ask_all(&self.processes[some].line).await;
                self.note("inquire", done);
            }
            Kind::Tick => {
                self.processes[some].scheduler.tick().await;
            }
            Kind::SlowTick => self.processes[some].scheduler.slow_tick().await,
            Kind::TakeIn => {
                let done = queue::take_in(&self.db.work).await;
                self.note("take in", done);
                let done = windows::sort(&self.db.work, 100).await;
                self.note("sort", done);
            }
            Kind::Pass => {
                let secs = [0.02, 0.1, 1.0, 5.0, 20.0, 60.0, 300.0, 900.0, 3600.0][random.random_range(0..9)];
                let millis = f64::from(random.random_range(1_u32..1000)) * secs;
                self.pass(TimeDelta::microseconds((millis * 1000.0) as i64)).await;
                self.settle_down().await;
                self.collect_given_up(random);
            }
            Kind::ClockSteps => {
                let millis = random.random_range(-30_000..3_000);
                self.write_clock(self.now + TimeDelta::milliseconds(millis)).await;
            }
            Kind::Crash => {
                self.kill(some, random).await;
                self.start_process().await;
            }
            Kind::Cancel | Kind::Amend | Kind::Retry => self.steer_call(kind, random).await,
            Kind::Pause | Kind::ChangeCampaign => self.steer_campaign(kind, random).await,
            Kind::ChangeSchedule => self.change_schedule(random).await,
            Kind::Suppress | Kind::Unsuppress => self.steer_list(kind, random).await,
            Kind::Disconnect => self.disconnect().await,
            Kind::ReadOnly => self.write_protect(!self.read_only).await,
            // It takes longer than any other.
            Kind::Restart if random.random_bool(0.3) => self.restart().await,
            Kind::Restart => self.disconnect().await,
        }
    }

    /// A turn is cut off at one of its edges; its process dies there, or finds out.
    async fn broken_turn(&mut self, at: usize, random: &mut StdRng) {
        let point = ["claim.before_commit", "claim.after_commit", "event.before_commit", "event.after_commit"]
            .choose(random)
            .copied();
        failpoint::panic_at(point);
        let _ = self.processes[at].dispatcher.guarded_turn().await;
        let happened = failpoint::panic_at(None).is_none();
        self.panicked |= happened;
        if happened && random.random_bool(0.5) {
            self.kill(at, random).await;
            self.start_process().await;
        }
    }

    /// One process holds the lock of admission and claims; another waits for it meanwhile.
    async fn two_turns(&mut self, first: usize) {
        let Some(second) = (0..self.processes.len()).find(|at| *at != first) else { return };
        if self.shaken {
            return;
        }
        let mut holder = PgConnection::connect_with(&self.options).await.expect("connect");
        holder.execute("begin; select pg_catalog.pg_advisory_xact_lock(7001)").await.expect("the lock");
        let [one, two] = self.processes.get_disjoint_mut([first, second]).expect("two processes");
        let control = &mut self.control;
        let (over, first_waits) = (std::cell::Cell::new(0), std::cell::Cell::new(false));
        // Both wait, in this order; then the lock is theirs, one after the other. One with nothing to do does not wait.
        let first_turn = async {
            let _ = one.dispatcher.guarded_turn().await;
            over.set(over.get() + 1);
        };
        let second_turn = async {
            while !first_waits.get() {
                tokio::task::yield_now().await;
            }
            let _ = two.dispatcher.guarded_turn().await;
            over.set(over.get() + 1);
        };
        let release = async {
            for wanted in 1..=2 {
                loop {
                    let waiting: i64 = sqlx::query_scalar(WAITING).fetch_one(&mut *control).await.expect("locks");
                    if waiting + over.get() >= wanted {
                        break;
                    }
                }
                first_waits.set(true);
            }
            holder.execute("commit").await.expect("commit");
        };
        futures::join!(first_turn, second_turn, release);
    }

    fn answer(&mut self, random: &mut StdRng) {
        let mut exchange = lock(&self.exchange);
        let open = exchange.open_requests();
        let Some((attempt, call, number)) = open.choose(random).cloned() else { return };
        let rang = exchange.legs.contains_key(&attempt);
        let accepted = Placed::Accepted { provider_call_id: Some(id_at_provider(attempt)), carrier_call_id: None };
        let doubt = Placed::Ambiguous { reason: "timeout".to_owned() };
        let placed = match random.random_range(0..20) {
            0..12 => accepted,
            12 | 13 => doubt,
            // It hears nothing, and the phone rings soon.
            14 if !rang => {
                let at = exchange.now + TimeDelta::milliseconds(random.random_range(1..4000));
                exchange.late.push((at, attempt, call, number));
                exchange.answer(attempt, doubt);
                return;
            }
            // Nothing arrived, nor will.
            15 if !rang => {
                exchange.answer(attempt, doubt);
                return;
            }
            _ if rang => doubt,
            16 => Placed::NotSent { reason: "connection refused".to_owned() },
            17 => Placed::Refused { reason: "no".to_owned(), about_number: random.random_bool(0.5) },
            18 => Placed::Capacity { retry_after: None },
            _ => Placed::TurnedAway { reason: "congestion".to_owned(), dials_max: None },
        };
        if matches!(placed, Placed::Accepted { .. } | Placed::Ambiguous { .. }) {
            let now = exchange.now;
            exchange.ring(attempt, call, &number, now);
        }
        exchange.answer(attempt, placed);
    }

    fn ring_early(&mut self, random: &mut StdRng) {
        let mut exchange = lock(&self.exchange);
        let open = exchange.open_requests();
        if let Some((attempt, call, number)) = open.choose(random).cloned() {
            let now = exchange.now;
            exchange.ring(attempt, call, &number, now);
        }
    }

    fn end(&mut self, random: &mut StdRng) {
        let now = self.now;
        let mut exchange = lock(&self.exchange);
        let live: Vec<AttemptId> =
            exchange.legs.iter().filter(|(_, leg)| leg.end.is_none()).map(|(id, _)| *id).collect();
        let Some(attempt) = live.choose(random).copied() else { return };
        let dispositions = [
            Disposition::Completed,
            Disposition::NoAnswer,
            Disposition::Busy,
            Disposition::Voicemail,
            Disposition::Failed,
            Disposition::NotInterested,
            Disposition::AppointmentSet,
            Disposition::CallbackRequested,
            Disposition::DoNotCall,
            Disposition::WrongNumber,
        ];
        let disposition = *dispositions.choose(random).unwrap_or(&Disposition::Completed);
        let outcome = Outcome {
            callback_time: (disposition == Disposition::CallbackRequested && random.random_bool(0.8))
                .then(|| now + TimeDelta::seconds(random.random_range(-600..3600))),
            appointment_time: (disposition == Disposition::AppointmentSet).then(|| now + TimeDelta::hours(24)),
            ..Outcome::of(disposition)
        };
        let told = matches!(
            disposition,
            Disposition::AppointmentSet | Disposition::CallbackRequested | Disposition::DoNotCall
        );
        let end = Ended {
            outcome: told.then(|| outcome.clone()),
            provider_call_id: Some(id_at_provider(attempt)),
            duration_secs: Some(random.random_range(0..300)),
            ..Ended::of(disposition, if told { Weight::Explicit } else { Weight::Status })
        };
        if let Some(leg) = exchange.legs.get_mut(&attempt) {
            leg.end = Some(end.clone());
        }
        let webhook = |word: Word| Webhook { heard: Heard { key: None, ..Heard::about(attempt, word, "webhook") } };
        if random.random_bool(0.3) {
            self.webhooks.push(webhook(Word::Started));
        }
        if random.random_bool(0.3) {
            // The bare status comes beside what was told, before it or after.
            self.webhooks.push(webhook(Word::Ended(Ended {
                outcome: None,
                ..Ended { disposition: Disposition::Completed, weight: Weight::Status, ..end.clone() }
            })));
        }
        // Some are never sent: the provider is asked.
        if random.random_bool(0.9) {
            self.webhooks.push(webhook(Word::Ended(end)));
        }
    }

    /// Delivers one of the webhooks, and perhaps again later.
    fn deliver(&mut self, at: usize, random: &mut StdRng) {
        if self.webhooks.is_empty() {
            return;
        }
        let webhook = self.webhooks.swap_remove(random.random_range(0..self.webhooks.len()));
        if random.random_bool(0.2) {
            self.webhooks.push(webhook.clone());
        }
        let process = &self.processes[at];
        let (inbox, heard) = (process.inbox.clone(), webhook.heard.clone());
        let answer = tokio::spawn(async move { inbox.hear(heard).await });
        self.deliveries.push(Delivery { process: process.nth, webhook, answer });
    }

    async fn steer_call(&mut self, kind: Kind, random: &mut StdRng) {
        let Some(call) = self.calls.choose(random).copied() else { return };
        let pool = self.db.work.clone();
        match kind {
            Kind::Cancel => {
                let done = queue::cancel(&pool, call, None).await;
                self.note("cancel", done);
            }
            Kind::Retry => {
                let done = queue::retry(&pool, call, None, 2).await;
                self.note("retry", done);
            }
            _ => {
                let to = Amendment {
                    phone: random.random_bool(0.5).then(|| some_number(random)),
                    priority: random
                        .random_bool(0.5)
                        .then(|| [rank::HIGH, rank::NORMAL, rank::LOW][random.random_range(0..3)]),
                    due_at: random
                        .random_bool(0.5)
                        .then(|| self.now + TimeDelta::seconds(random.random_range(-60..900))),
                    ..Amendment::default()
                };
                // A campaign has each number once.
                let done = queue::amend(&pool, call, None, &to).await;
                let is_twin = |error: &sqlx::Error| {
                    error.as_database_error().is_some_and(|error| error.constraint() == Some("calls_once_in_campaign"))
                };
                if !done.as_ref().is_err_and(is_twin) {
                    self.note("amend", done);
                }
            }
        }
    }

    async fn steer_campaign(&mut self, kind: Kind, random: &mut StdRng) {
        let (campaign, _) = self.campaigns[random.random_range(0..self.campaigns.len())];
        let to = match kind {
            Kind::Pause => CampaignChanges { paused: Some(random.random_bool(0.4)), ..CampaignChanges::default() },
            _ => CampaignChanges {
                max_concurrent_calls: random.random_bool(0.5).then(|| random.random_range(1..4)),
                max_retries: random.random_bool(0.3).then(|| random.random_range(0..4)),
                hours_in: random.random_bool(0.3).then_some(["schedule", "callee"][random.random_range(0..2)]),
                ..CampaignChanges::default()
            },
        };
        let pool = self.db.work.clone();
        let done = queue::update_campaign(&pool, campaign, &to).await;
        self.note("campaign", done);
    }

    async fn change_schedule(&mut self, random: &mut StdRng) {
        let schedule = self.schedules[random.random_range(0..self.schedules.len())];
        let opens = random.random_range(0..20);
        let to = schedules::Changes {
            hours: Some(hours(opens, random.random_range(opens + 1..24))),
            ..schedules::Changes::default()
        };
        let pool = self.db.work.clone();
        let done = async {
            let mut change = windows::change_and_admit(&pool).await?;
            schedules::update(&mut change, schedule, &to).await?;
            windows::commit(&pool, change, Scope::Schedule(schedule)).await
        }
        .await;
        self.note("schedule", done);
    }

    async fn steer_list(&mut self, kind: Kind, random: &mut StdRng) {
        let user = self.users[random.random_range(0..self.users.len())];
        let number = some_number(random);
        let pool = self.db.work.clone();
        if kind == Kind::Suppress {
            let done = queue::suppress(&pool, user, &[number], None).await;
            self.note("suppress", done);
        } else {
            let removal = queue::Removal { admin: "admin", reason: "asked to be called again" };
            let done = queue::unsuppress(&pool, user, &number, Some(removal)).await;
            self.note("unsuppress", done);
        }
    }

    /// Postgres ends every session of the service.
    async fn disconnect(&mut self) {
        self.shaken = true;
        let sql = "select count(pg_terminate_backend(pid)) from pg_stat_activity
            where datname = current_database() and pid <> pg_backend_pid()";
        // They end when they come to it.
        loop {
            let left: i64 = sqlx::query_scalar(sql).fetch_one(&mut self.control).await.expect("terminate");
            if left == 0 {
                return;
            }
        }
    }

    /// Postgres loses a backend by a signal that cannot be caught: it ends all others, and recovers from its log.
    async fn restart(&mut self) {
        self.shaken = true;
        let victim: i32 =
            sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut self.control).await.expect("pid");
        // Once its neighbour is gone, the server has seen it.
        let mut neighbour = World::control_of(&self.options).await.expect("connect");
        kill(Pid::from_raw(victim), Signal::SIGKILL).expect("a backend of ours");
        while neighbour.execute("select 1").await.is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let began = std::time::Instant::now();
        loop {
            if let Ok(control) = World::control_of(&self.options).await {
                self.control = control;
                return;
            }
            assert!(began.elapsed().as_secs() < 60, "Postgres does not come back");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// As a server that was demoted: nobody writes.
    pub async fn write_protect(&mut self, on: bool) {
        let sql = format!("alter database {} set default_transaction_read_only = {on}", self.name);
        self.control.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("alter");
        self.read_only = on;
        self.disconnect().await;
    }
}
