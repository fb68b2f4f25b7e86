//! One simulated installation: a database of its own, two processes of the service, a provider, and the clock, all moved by steps.
//!
//! The processes are the product's own: dispatcher, dials, inquiries, scheduler. Only who drives them is another: a step runs one of
//! them to its end, so that an order of steps is an order of events, and a seed can be replayed.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use outdial::config::{self, Config};
use outdial::db::Db;
use outdial::db::doorbell::Doorbell;
use outdial::domain::call::rank;
use outdial::domain::hours::Span;
use outdial::domain::ids::{CallId, CampaignId, InstanceId, OPERATOR, ScheduleId, UserId, new_id, replay};
use outdial::domain::phone::PhoneNumber;
use outdial::executor::dial::Line;
use outdial::executor::dispatcher::{Dispatcher, Next};
use outdial::outcome::Became;
use outdial::outcome::inbox::{Heard, Inbox, NotStored};
use outdial::queue::recruit::{self, Recruit};
use outdial::queue::windows;
use outdial::queue::{self, NewCall, NewCampaign, NewProspect};
use outdial::scheduler::Scheduler;
use outdial::service::{executor_settings, line_of, rules_in_force, rules_of, scheduler_settings};
use outdial::store::{installation, schedules, users};
use outdial::telemetry::vitals::Vitals;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::task::JoinHandle;

use crate::exchange::{Exchange, Shared, Trunk, lock};

/// Whom the simulation calls, and where they are: few, so that they meet.
pub const PHONES: [(&str, &str); 6] = [
    ("+442079460018", "Europe/London"),
    ("+442079460019", "Europe/London"),
    ("+12125550142", "America/New_York"),
    ("+13105550143", "America/Los_Angeles"),
    ("+61255501234", "Australia/Sydney"),
    ("+4930901820", "Europe/Berlin"),
];
const GLOBAL_LIMIT: i32 = 4;
const DIALS_PER_DAY: i32 = 3;
/// A step that has not come to its end by then (real time) never will.
const STUCK: Duration = Duration::from_secs(30);

/// A process of the service.
pub struct Process {
    pub nth: usize,
    pub dispatcher: Dispatcher,
    pub line: Arc<Line>,
    pub inbox: Inbox,
    pub scheduler: Scheduler,
}

/// A webhook that is delivered until it is answered.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub heard: Heard,
}

/// A delivery under way.
pub struct Delivery {
    pub process: usize,
    pub webhook: Webhook,
    pub answer: JoinHandle<Result<Became, NotStored>>,
}

pub struct World {
    pub db: Db,
    pub options: PgConnectOptions,
    pub name: String,
    pub config: Config,
    /// Writes the clock, and looks at what must not be. No connection of the service.
    pub control: PgConnection,
    pub now: DateTime<Utc>,
    /// The latest time there was.
    pub latest: DateTime<Utc>,
    pub exchange: Shared,
    pub processes: Vec<Process>,
    pub users: Vec<UserId>,
    pub campaigns: Vec<(CampaignId, UserId)>,
    pub schedules: Vec<ScheduleId>,
    pub calls: Vec<CallId>,
    pub webhooks: Vec<Webhook>,
    pub deliveries: Vec<Delivery>,
    /// Something was done to the database, or to a process: errors are to be expected.
    pub shaken: bool,
    pub read_only: bool,
    /// A step had a process panic, which sets aside what it was about.
    pub panicked: bool,
    born: usize,
}

pub fn settings() -> Config {
    let environment = [
        ("PORT", "0"),
        ("OUTDIAL_DATABASE__WORK_CONNECTIONS", "5"),
        ("OUTDIAL_RULES__SINGLE_CALLS", "obey"),
        ("OUTDIAL_RULES__DESTINATIONS", "tell"),
        ("OUTDIAL_RULES__FREQUENCY", "obey"),
        ("OUTDIAL_RULES__DIALS_PER_NUMBER_PER_DAY", "3"),
        ("OUTDIAL_RULES__MINUTES_BETWEEN_CALLS", "5"),
        ("OUTDIAL_SIMULATOR__SPEED", "1"),
        ("MAX_CONCURRENT_CALLS", "4"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    config::from_parts(None, &environment.into()).expect("settings")
}

/// What a simulated database has of its own: a clock that is written, and ids that are the same each time.
const CLOCK: &str = "
create table simulated_clock (at timestamptz not null);
insert into simulated_clock values ('2026-03-26T09:00:00Z');
create or replace function clock() returns timestamptz language plpgsql stable parallel safe
as $$ begin return (select at from simulated_clock); end $$;
create or replace function wall_clock() returns timestamptz language plpgsql volatile parallel safe
as $$ begin return (select at from simulated_clock); end $$;
create sequence simulated_ids;
create or replace function uuid_v7() returns uuid language sql volatile
as $$ select (substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-7fff-bfff-' || lpad(to_hex(nextval('simulated_ids')), 12, '0'))::uuid
      from lpad(to_hex((extract(epoch from clock()) * 1000)::bigint), 12, '0') as h $$;
do $$ declare f regprocedure; begin
  for f in select oid::regprocedure from pg_proc
           where pronamespace = 'public'::regnamespace and prosrc like '%gen_random_uuid%' and proname <> 'uuid_v7' loop
    execute replace(pg_get_functiondef(f), 'gen_random_uuid()', 'uuid_v7()');
  end loop;
end $$;";

/// Makes the template of simulated databases of a migrated one.
pub async fn dress(options: &PgConnectOptions) {
    let mut connection = PgConnection::connect_with(options).await.expect("connect");
    connection.execute(sqlx::raw_sql(CLOCK)).await.expect("a clock of its own");
}

impl World {
    /// A world as seed and switch want it, in a database that was just made.
    pub async fn new(options: PgConnectOptions, name: String, seed: u64, sabotage: Option<&str>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut control = Self::control_of(&options).await.expect("connect");
        if let Some(sql) = sabotage {
            control.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await.expect("sabotage");
        }
        let config = settings();
        // Begins near a change of the clocks in Europe.
        let now = "2026-03-26T05:00:00Z".parse::<DateTime<Utc>>().expect("a time")
            + TimeDelta::minutes(random.random_range(0..5 * 1440));
        let exchange = Exchange::new(now, usize::try_from(GLOBAL_LIMIT).expect("small"), seed.is_multiple_of(2));
        let db = Db::open(options.clone(), &config.database);
        let mut world = Self {
            db,
            options,
            name,
            config,
            control,
            now,
            latest: now,
            exchange,
            processes: Vec::new(),
            users: vec![OPERATOR],
            campaigns: Vec::new(),
            schedules: Vec::new(),
            calls: Vec::new(),
            webhooks: Vec::new(),
            deliveries: Vec::new(),
            shaken: false,
            read_only: false,
            panicked: false,
            born: 0,
        };
        world.pass(TimeDelta::zero()).await;
        world.furnish(&mut random).await;
        for _ in 0..2 {
            world.start_process().await;
        }
        world
    }

    /// A connection that may write the clock where everything else may only read; what it looks at after each step is planned once.
    pub async fn control_of(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
        let mut control = PgConnection::connect_with(options).await?;
        let set = "set default_transaction_read_only = off; set plan_cache_mode = force_generic_plan; set jit = off";
        control.execute(sqlx::raw_sql(set)).await?;
        Ok(control)
    }

    async fn furnish(&mut self, random: &mut StdRng) {
        let pool = &self.db.work;
        installation::settle_in(pool, &[7; 32], GLOBAL_LIMIT, "simulation", 0.0, &self.config.quota)
            .await
            .expect("settle in");
        windows::settle_rules(pool, &rules_in_force(&self.config).expect("rules")).await.expect("rules");
        for nth in 0..2 {
            let user = UserId(new_id());
            users::create(pool, user, &format!("user {nth}"), None, None).await.expect("user");
            self.users.push(user);
            let schedule = ScheduleId(new_id());
            let new = schedules::New {
                id: schedule,
                user_id: user,
                name: "hours".to_owned(),
                time_zone: if nth == 0 { "Europe/London" } else { "America/New_York" }.to_owned(),
                hours: hours(9, 17),
                closed_dates: Vec::new(),
                external_id: None,
            };
            schedules::create(pool, &new).await.expect("schedule");
            self.schedules.push(schedule);
            for hours_in in ["schedule", "callee"] {
                let campaign = CampaignId(new_id());
                let new = NewCampaign {
                    id: campaign,
                    user_id: user,
                    schedule_id: Some(schedule),
                    name: "campaign".to_owned(),
                    script_id: "script".to_owned(),
                    max_concurrent_calls: random.random_range(1..4),
                    max_retries: random.random_range(0..4),
                    retry_delay_secs: random.random_range(1..900),
                    hours_in,
                    zone_policy: Some("user"),
                    paused: false,
                    external_id: None,
                };
                queue::create_campaign(pool, &new).await.expect("campaign");
                self.campaigns.push((campaign, user));
            }
        }
    }

    /// Starts a process in the place of one that is gone, or as one more.
    pub async fn start_process(&mut self) {
        self.born += 1;
        let nth = self.born;
        let instance = InstanceId(new_id());
        let inbox = Inbox::new(Duration::from_millis(250));
        let trunk = Arc::new(Trunk { process: nth, exchange: Arc::clone(&self.exchange) });
        let line = Arc::new(line_of(&self.config, &self.db, &inbox, instance, trunk, vec![7; 32]));
        let _ = line.lease.renew(&self.db.work, "all", "simulation").await;
        let dispatcher = Dispatcher::new(
            &self.db,
            inbox.clone(),
            executor_settings(&self.config, vec![7; 32]),
            Arc::new(Vitals::default()),
            Some(Arc::clone(&line)),
            rules_of(&self.config),
            Doorbell::default(),
        );
        let scheduler = Scheduler {
            vitals: Arc::new(Vitals::default()),
            pool: self.db.work.clone(),
            inbox: inbox.clone(),
            doorbell: Doorbell::default(),
            settings: scheduler_settings(&self.config),
        };
        self.processes.push(Process { nth, dispatcher, line, inbox, scheduler });
    }

    /// A process ends at once, with all it knew; what it had sent may arrive.
    pub async fn kill(&mut self, at: usize, random: &mut StdRng) {
        let process = self.processes.swap_remove(at);
        for delivery in std::mem::take(&mut self.deliveries) {
            if delivery.process == process.nth {
                delivery.answer.abort();
                self.webhooks.push(delivery.webhook);
            } else {
                self.deliveries.push(delivery);
            }
        }
        drop(process);
        // What was aborted ends when it is looked at.
        tokio::task::yield_now().await;
        self.collect_given_up(random);
    }

    /// Requests that nobody waits for any more: their phones ring soon after they were sent, whoever waits, or not at all.
    pub fn collect_given_up(&mut self, random: &mut StdRng) {
        let mut exchange = lock(&self.exchange);
        let now = exchange.now;
        for (attempt, request) in exchange.given_up() {
            if random.random_bool(0.6) {
                let at = request.arrived_at + TimeDelta::milliseconds(random.random_range(0..10_000));
                exchange.late.push((at, attempt, request.call, request.number));
            }
        }
        exchange.pass_time(now);
    }

    /// Time goes on for everybody: the database, the processes, the provider.
    pub async fn pass(&mut self, time: TimeDelta) {
        self.write_clock(self.now + time).await;
        if let Ok(time) = time.to_std() {
            tokio::time::advance(time).await;
        }
    }

    /// The database's clock is set, and nobody else's.
    pub async fn write_clock(&mut self, to: DateTime<Utc>) {
        self.now = to;
        self.latest = self.latest.max(to);
        let millis = u64::try_from(to.timestamp_millis()).expect("after 1970");
        replay::at(Some(millis));
        let sql = format!("update simulated_clock set at = '{}'", to.format("%Y-%m-%dT%H:%M:%S%.6fZ"));
        self.control.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("the clock");
        lock(&self.exchange).pass_time(to);
    }

    /// Lets all dials run until each waits for the provider, for a turn, or is over.
    pub async fn settle_down(&mut self) {
        let began = std::time::Instant::now();
        loop {
            // What was just spawned has said what it says at once.
            tokio::task::yield_now().await;
            let busy = self.processes.iter().any(|process| {
                let held = lock(&self.exchange).requests_of(process.nth) + process.inbox.waiting_from("prepare");
                process.dispatcher.requests() > held
            });
            let answered = self.deliveries.iter().any(|delivery| delivery.answer.is_finished());
            if !busy && !answered {
                break;
            }
            assert!(began.elapsed() < STUCK, "a dial never came to its end");
            for nth in (0..self.deliveries.len()).rev() {
                if self.deliveries[nth].answer.is_finished() {
                    let delivery = self.deliveries.swap_remove(nth);
                    if !matches!(delivery.answer.await, Ok(Ok(_))) {
                        self.webhooks.push(delivery.webhook);
                    }
                }
            }
        }
    }

    /// One turn of one process.
    pub async fn turn(&mut self, at: usize) {
        let next = self.processes[at].dispatcher.guarded_turn().await;
        if next == Next::Later && !self.shaken {
            lock(&self.exchange).faults.push("a turn failed".to_owned());
        }
        self.settle_down().await;
    }

    /// An error of a step: where nothing was done to the database there is none.
    pub fn note<T>(&mut self, what: &str, done: sqlx::Result<T>) -> Option<T> {
        match done {
            Ok(done) => Some(done),
            Err(error) => {
                if !self.shaken {
                    lock(&self.exchange).faults.push(format!("{what}: {error}"));
                }
                None
            }
        }
    }

    pub fn new_call(&self, random: &mut StdRng) -> NewCall {
        let user = self.users[random.random_range(0..self.users.len())];
        let rank = [rank::NORMAL, rank::NORMAL, rank::HIGH, rank::LOW][random.random_range(0..4)];
        let later = TimeDelta::seconds(random.random_range(-60..1800));
        NewCall {
            id: CallId(new_id()),
            user_id: user,
            lane_id: user.own_lane(),
            campaign_id: None,
            rank,
            priority: rank,
            due_at: random.random_bool(0.5).then(|| self.now + later),
            expires_at: random.random_bool(0.1).then(|| self.now + later + TimeDelta::seconds(600)),
            phone: some_number(random),
            script_id: "script".to_owned(),
            metadata: json!({}).into(),
            variables: json!({}).into(),
            external_id: None,
            time_zone: None,
            ignore_window: random.random_bool(0.5),
            prospect_id: None,
            dials_max: random.random_range(1..4),
            reject_duplicate: random.random_bool(0.1),
        }
    }

    pub async fn enqueue(&mut self, random: &mut StdRng) {
        let mut calls: Vec<NewCall> = (0..random.random_range(1..4)).map(|_| self.new_call(random)).collect();
        let placed = windows::place(&self.db.work, &mut calls, true).await;
        if self.note("place", placed).is_none() {
            return;
        }
        let done = queue::enqueue(&self.db.work, &calls).await;
        if self.note("enqueue", done).is_some() {
            self.calls.extend(calls.iter().map(|call| call.id));
        }
    }

    pub async fn recruit(&mut self, random: &mut StdRng) {
        let (campaign, user) = self.campaigns[random.random_range(0..self.campaigns.len())];
        let into = recruit::Into::new(campaign, user, "script".to_owned(), 3);
        let rows: Vec<Recruit> = (0..random.random_range(1..4))
            .map(|_| Recruit {
                number: PHONES[random.random_range(0..PHONES.len())].0.to_owned(),
                ..Recruit::default()
            })
            .collect();
        let ids: Vec<CallId> = rows.iter().map(|_| CallId(new_id())).collect();
        let done = recruit::recruit(&self.db.work, &into, rows, |nth| ids[nth]).await;
        if let Some(verdicts) = self.note("recruit", done) {
            self.calls.extend(verdicts.into_iter().flatten());
        }
    }

    pub async fn promise(&mut self, random: &mut StdRng) {
        let user = self.users[random.random_range(1..self.users.len())];
        let new = NewProspect {
            id: outdial::domain::ids::ProspectId(new_id()),
            external_id: None,
            name: None,
            phone: some_number(random),
            time_zone: None,
            status: "RESCHEDULED",
            rescheduled_for: Some(self.now + TimeDelta::seconds(random.random_range(0..3600))),
            variables: json!({}).into(),
        };
        let done = queue::create_prospects(&self.db.work, user, &[new]).await;
        self.note("prospect", done);
    }

    /// Calls and changes by plain SQL, which no process writes.
    pub async fn plain_sql(&mut self, random: &mut StdRng) {
        let (phone, _) = PHONES[random.random_range(0..PHONES.len())];
        let sql = match random.random_range(0..3) {
            0 | 1 => format!("select ops.enqueue('{phone}', 'script')"),
            _ => {
                let user = self.users[random.random_range(1..self.users.len())];
                format!("update users set max_concurrent_calls = {} where id = '{user}'", random.random_range(1..4))
            }
        };
        // A number on a list is refused.
        let _ = self.control.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await;
    }

    /// Faults: what a person would be called in to look at.
    pub async fn faults(&mut self) -> Vec<String> {
        let mut faults = std::mem::take(&mut lock(&self.exchange).faults);
        let guard = self.config.calls.dial_guard_secs;
        let sql = include_str!("sound.sql");
        let broken: Vec<String> = sqlx::query_scalar(sql)
            .bind(GLOBAL_LIMIT)
            .bind(guard)
            .bind(DIALS_PER_DAY)
            .fetch_all(&mut self.control)
            .await
            .expect("sound.sql");
        // By a clock that was put back somebody sleeps longer, for as long as that was, and what is due counts as later.
        let is_behind = self.now < self.latest;
        // And where nobody was let tick, nobody takes in what plain SQL has written.
        let is_excused = |fault: &str| {
            is_behind && (fault.contains(" asleep ") || fault.starts_with("count of "))
                || fault.starts_with("change by plain SQL")
                || self.panicked && fault.ends_with("our own code panicked")
        };
        faults.extend(broken.into_iter().filter(|fault| !is_excused(fault)));
        faults
    }
}

/// One of those the simulation calls.
pub fn some_number(random: &mut StdRng) -> PhoneNumber {
    PhoneNumber::parse(PHONES[random.random_range(0..PHONES.len())].0).expect("a number")
}

/// Every day from one full hour to another.
pub fn hours(opens: u32, closes: u32) -> Vec<Span> {
    let span = json!([{"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
        "opens": format!("{opens:02}:00"), "closes": format!("{closes:02}:00")}]);
    serde_json::from_value(span).expect("hours")
}

impl World {
    /// What the whole database holds.
    pub async fn rows(&mut self) -> Vec<String> {
        let sql = "select row from (
              select calls::text as row from calls union all select attempts::text from attempts
              union all select lanes::text from lanes union all select dials::text from dials) r order by row";
        sqlx::query_scalar(sql).fetch_all(&mut self.control).await.expect("rows")
    }

    /// Prints what there is, for somebody who looks for a fault.
    pub async fn tell(&mut self) {
        eprintln!("{:#?}", lock(&self.exchange));
        for sql in [
            "select calls::text from calls order by id",
            "select attempts::text from attempts order by claimed_at",
            "select lanes::text from lanes where exists (select from calls c where c.lane_id = lanes.id)",
            "select user_turns::text from user_turns",
            "select 'now ' || clock()",
        ] {
            let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut self.control).await.expect("rows");
            rows.iter().for_each(|row| eprintln!("{row}"));
        }
    }

    /// Ends everything.
    pub async fn close(self) {
        for delivery in &self.deliveries {
            delivery.answer.abort();
        }
        drop(self.processes);
        self.db.close().await;
    }
}
