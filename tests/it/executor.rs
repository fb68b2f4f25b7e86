//! One dial at a time: what is looked at right before the request, and what each answer does, by a provider that answers as told.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use outdial::db::doorbell::Doorbell;
use outdial::domain::ids::{InstanceId, new_id};
use outdial::domain::word::Word;
use outdial::executor::dial::{Line, dial};
use outdial::executor::dispatcher::Dispatcher;
use outdial::executor::inquiry;
use outdial::outcome::inbox::{Heard, Inbox};
use outdial::outcome::settle_alone;
use outdial::provider::{Dial, Found, HungUp, Placed, Prepared, Provider, Question};
use outdial::queue::{self, Claimed, Room};
use outdial::service::{line_of, rules_of};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{TestDb, config};

/// Answers what it is told to, and counts.
struct Scripted {
    answer: Mutex<Placed>,
    asked: AtomicUsize,
    found: Mutex<Found>,
    /// Set: it takes two steps, and this is run between them.
    prepares: Mutex<Option<(sqlx::PgPool, &'static str)>>,
    taken_back: AtomicUsize,
}

#[async_trait]
impl Provider for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }
    async fn prepare(&self, _: &Dial) -> Result<Option<Prepared>, Placed> {
        let Some((pool, between)) = self.prepares.lock().expect("no panic while held").clone() else { return Ok(None) };
        sqlx::query(between).execute(&pool).await.expect("run");
        Ok(Some(Prepared { provider_call_id: "agent".to_owned(), join_url: "wss://agent".into() }))
    }
    async fn take_back(&self, prepared: &Prepared) {
        assert_eq!(prepared.provider_call_id, "agent");
        self.taken_back.fetch_add(1, Ordering::SeqCst);
    }
    async fn place(&self, dial: &Dial) -> Placed {
        self.asked.fetch_add(1, Ordering::SeqCst);
        assert!(!dial.to.as_str().ends_with("99"), "this number panics");
        self.answer.lock().expect("no panic while held").clone()
    }
    async fn find_by_attempt(&self, _: &Question) -> Found {
        self.found.lock().expect("no panic while held").clone()
    }
    async fn status(&self, question: &Question) -> Found {
        self.find_by_attempt(question).await
    }
    async fn hang_up(&self, _: &Question) -> HungUp {
        HungUp::NoWay
    }
}

struct Scene {
    test_db: TestDb,
    provider: Arc<Scripted>,
    line: Arc<Line>,
}

impl Scene {
    async fn new(answer: Placed) -> Self {
        let test_db = TestDb::new().await;
        let provider = Arc::new(Scripted {
            answer: Mutex::new(answer),
            asked: AtomicUsize::new(0),
            found: Mutex::new(Found::NotFound),
            prepares: Mutex::new(None),
            taken_back: AtomicUsize::new(0),
        });
        let settings = config(&[]);
        let inbox = Inbox::new(Duration::ZERO);
        let instance = InstanceId(new_id());
        let speaking: Arc<dyn Provider> = provider.clone();
        let line = Arc::new(line_of(&settings, &test_db.db, &inbox, instance, speaking, b"key".to_vec()));
        line.lease.renew(test_db.pool(), "test", "test").await.expect("a lease");
        Self { test_db, provider, line }
    }

    async fn claim(&self) -> Vec<Claimed> {
        self.claim_up_to(5).await
    }

    async fn claim_up_to(&self, want: usize) -> Vec<Claimed> {
        let mut connection = self.test_db.pool().acquire().await.expect("a connection");
        let room = Room {
            want,
            global_limit: 30,
            instance: self.line.lease.instance,
            provider: "scripted",
            dial_guard_secs: 2.0,
            lanes_max: 64,
            lease_secs: 15.0,
            dials_per_second: 0.0,
            frequency: queue::Frequency::default(),
        };
        let mut transaction = queue::admit(&mut connection).await.expect("admission");
        let claim = queue::claim(&mut transaction, room).await.expect("claim");
        transaction.commit().await.expect("commit");
        claim.calls
    }

    /// Dials the one due call as if it had been claimed a second ago, after `between` was run; and settles the answer.
    async fn dial_late(&self, between: &'static str) {
        let call = self.claim().await.remove(0);
        self.test_db.run(between).await;
        let claimed = Instant::now().checked_sub(Duration::from_secs(1)).expect("the machine runs for a second");
        dial(&self.line, call, claimed).await;
        self.settle().await;
    }

    async fn settle(&self) {
        let batch = self.line.inbox.take(100);
        let rules = rules_of(&config(&[]));
        let report = settle_alone(self.test_db.pool(), &batch.heard, &rules).await.expect("settle");
        batch.settled(&self.line.inbox, &report);
    }

    async fn call_is(&self, expected: &str) {
        let row = "select state::text || ' ' || dials || ' ' || coalesce(disposition, '-') from calls";
        let found: String = sqlx::query_scalar(row).fetch_one(self.test_db.pool()).await.expect("a call");
        assert_eq!(found, expected);
    }

    fn asked(&self) -> usize {
        self.provider.asked.load(Ordering::SeqCst)
    }
}

const ACCEPTED: Placed = Placed::Accepted { provider_call_id: None, carrier_call_id: None };

/// Paused, closed, suppressed or canceled between claim and request: nobody is asked, and it counts no dial.
#[tokio::test(flavor = "multi_thread")]
async fn looks_again_right_before_the_request() {
    for (between, expected) in [
        ("update lanes set paused = true", "waiting 0 -"),
        ("update lanes set closes_at = now() + interval '1 second'", "waiting 0 -"),
        ("update lanes set opens_at = now() + interval '1 hour' where country <> '?'", "waiting 0 -"),
        ("insert into suppressions (phone, user_id) select '+14155550100', id from users", "canceled 0 DO_NOT_CALL"),
        ("update calls set cancel_requested_at = now()", "canceled 0 CANCELED"),
    ] {
        let scene = Scene::new(ACCEPTED).await;
        scene.test_db.enqueue(&["+14155550100"]).await;
        scene.dial_late(between).await;
        assert_eq!(scene.asked(), 0, "asked in spite of: {between}");
        scene.call_is(expected).await;
        scene.test_db.assert_sound().await;
    }
}

/// Nothing in the way: the call is dialed, late or not.
#[tokio::test(flavor = "multi_thread")]
async fn dials_when_nothing_is_in_the_way() {
    let scene = Scene::new(ACCEPTED).await;
    scene.test_db.enqueue(&["+14155550100"]).await;
    scene.dial_late("select 1").await;
    assert_eq!(scene.asked(), 1);
    scene.call_is("live 1 -").await;
    scene.test_db.assert_sound().await;
}

/// Each answer of the provider: what it makes of the call, and whether the provider is left alone for a while.
#[tokio::test(flavor = "multi_thread")]
async fn each_answer_does_what_it_should() {
    let reason = || "x".to_owned();
    for (answer, expected, held) in [
        (Placed::Refused { reason: reason(), about_number: false }, "failed 1 REFUSED", None),
        (Placed::Refused { reason: reason(), about_number: true }, "failed 1 REFUSED", None),
        (Placed::WrongNumber { reason: reason() }, "failed 1 WRONG_NUMBER", None),
        (Placed::TurnedAway { reason: reason(), dials_max: None }, "waiting 1 FAILED", None),
        (Placed::Capacity { retry_after: Some(Duration::from_secs(86_400)) }, "waiting 0 -", Some("PROVIDER_CAPACITY")),
        (Placed::NotSent { reason: reason() }, "waiting 0 -", None),
        (Placed::Barred { reason: reason(), setting: "X_API_KEY" }, "waiting 0 -", None),
        (Placed::Ambiguous { reason: reason() }, "live 0 -", None),
    ] {
        let scene = Scene::new(answer.clone()).await;
        scene.test_db.enqueue(&["+14155550100"]).await;
        scene.dial_late("select 1").await;
        scene.call_is(expected).await;
        let hold: Option<(String, f64)> = sqlx::query_as(
            "select reason, extract(epoch from hold_until - now())::float8 from provider_states where hold_until > now()",
        )
        .fetch_optional(scene.test_db.pool())
        .await
        .expect("holds");
        assert_eq!(hold.as_ref().map(|(reason, _)| reason.as_str()), held, "{answer:?}");
        // Whatever the provider asks for is clamped to five minutes.
        assert!(hold.is_none_or(|(_, secs)| secs <= 300.0), "{answer:?}");
        if held.is_some() {
            assert!(scene.claim().await.is_empty(), "claimed while the provider is held");
        }
        scene.test_db.assert_sound().await;
    }
}

/// What was prepared is taken back whenever no phone can have rung, and only then: after each such answer, and after a bar that came up
/// between the two steps.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_prepared_is_taken_back() {
    let reason = || "x".to_owned();
    let barred = Placed::Barred { reason: reason(), setting: "X_API_KEY" };
    for (answer, between, taken_back, asked) in [
        (Placed::Refused { reason: reason(), about_number: true }, "select 1", 1, 1),
        (Placed::WrongNumber { reason: reason() }, "select 1", 1, 1),
        (Placed::TurnedAway { reason: reason(), dials_max: None }, "select 1", 1, 1),
        (Placed::Capacity { retry_after: None }, "select 1", 1, 1),
        (Placed::NotSent { reason: reason() }, "select 1", 1, 1),
        (barred, "select 1", 1, 1),
        (ACCEPTED, "update lanes set paused = true", 1, 0),
        (ACCEPTED, "update calls set cancel_requested_at = now()", 1, 0),
        (ACCEPTED, "select 1", 0, 1),
        (Placed::Ambiguous { reason: reason() }, "select 1", 0, 1),
    ] {
        let scene = Scene::new(answer.clone()).await;
        scene.test_db.enqueue(&["+14155550100"]).await;
        *scene.provider.prepares.lock().expect("no panic while held") = Some((scene.test_db.pool().clone(), between));
        let call = scene.claim().await.remove(0);
        let claimed = Instant::now().checked_sub(Duration::from_secs(1)).expect("the machine runs for a second");
        // The first step is written down before the second is taken.
        let dialed = tokio::time::timeout(Duration::from_secs(60), async {
            let dialing = dial(&scene.line, call, claimed);
            tokio::pin!(dialing);
            loop {
                tokio::select! {
                    () = &mut dialing => break,
                    () = tokio::time::sleep(Duration::from_millis(5)) => scene.settle().await,
                }
            }
        });
        dialed.await.expect("it ends");
        scene.settle().await;
        scene.line.taking_back.close();
        scene.line.taking_back.wait().await;
        let counts = (scene.provider.taken_back.load(Ordering::SeqCst), scene.asked());
        assert_eq!(counts, (taken_back, asked), "{answer:?} {between}");
        scene.test_db.assert_sound().await;
    }
}

/// The breaker opens when dials go unanswered, lets one through after its hold, opens for twice as long when that fails too, and
/// closes on an answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_probes_and_closes() {
    let scene = Scene::new(Placed::NotSent { reason: "refused".to_owned() }).await;
    let numbers: Vec<String> = (0..6).map(|n| format!("+1415555010{n}")).collect();
    scene.test_db.enqueue(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let held = "select extract(epoch from hold_until - now())::float8 from provider_states";
    let held = async || sqlx::query_scalar::<_, f64>(held).fetch_one(scene.test_db.pool()).await.expect("a state");
    let dial_all = async |calls: Vec<Claimed>| {
        for call in calls {
            dial(&scene.line, call, Instant::now()).await;
        }
        scene.settle().await;
    };
    let breaker =
        async || scene.test_db.text("select breaker || ' ' || coalesce(hold_reason, '-') from ops.limits").await;
    scene.test_db.run("insert into installation (token_key, provider) values ('k', 'scripted')").await;
    dial_all(scene.claim().await).await;
    assert!((0.5..=1.0).contains(&held().await), "{}", held().await);
    assert_eq!(breaker().await, "open BREAKER_OPEN");
    assert!(scene.claim().await.is_empty(), "claimed while the breaker is open");
    let over = "update provider_states set hold_until = now() - interval '1 second'";
    scene.test_db.run(over).await;
    let probe = scene.claim().await;
    assert_eq!(probe.len(), 1, "one at a time while it is half open");
    assert_eq!(breaker().await, "half-open BREAKER_OPEN");
    assert!(scene.claim().await.is_empty());
    dial_all(probe).await;
    assert!((1.5..=2.0).contains(&held().await), "twice as long: {}", held().await);
    scene.test_db.run(over).await;
    *scene.provider.answer.lock().expect("no panic while held") = ACCEPTED;
    dial_all(scene.claim().await).await;
    assert_eq!(breaker().await, "closed -");
    assert_eq!(scene.claim().await.len(), 5);
    scene.test_db.assert_sound().await;
}

/// A provider that is full is asked for no more than it had; the ceiling rises by itself, and costs no dial.
#[tokio::test(flavor = "multi_thread")]
async fn a_learned_ceiling_holds_and_rises() {
    let scene = Scene::new(ACCEPTED).await;
    let numbers: Vec<String> = (0..40).map(|n| format!("+141555501{n:02}")).collect();
    scene.test_db.enqueue(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    scene.test_db.run("insert into installation (token_key, provider) values ('k', 'scripted')").await;
    for call in scene.claim().await {
        dial(&scene.line, call, Instant::now()).await;
    }
    scene.settle().await;
    *scene.provider.answer.lock().expect("no panic while held") = Placed::Capacity { retry_after: None };
    for call in scene.claim().await {
        dial(&scene.line, call, Instant::now()).await;
    }
    scene.settle().await;
    let state = "select provider_ceiling || ' ' || global_live || ' ' || coalesce(hold_reason, '-') from ops.limits";
    assert_eq!(scene.test_db.text(state).await, "5 5 PROVIDER_CAPACITY");
    assert_eq!(scene.test_db.count("select count(*) from calls where dials > 0").await, 5, "a refusal is no dial");
    scene.test_db.run("update provider_states set hold_until = now()").await;
    assert!(scene.claim().await.is_empty(), "five are live, and five is what it takes");
    // Two fifths of the way from 5 to the global 30.
    scene
        .test_db
        .run("update provider_states set ceiling_at = now() - interval '121 seconds', ceiling_until = now() + interval '179 seconds'")
        .await;
    let mut more = 0;
    while let claimed @ 1.. = scene.claim().await.len() {
        more += claimed;
    }
    assert_eq!(more, 10);
    scene
        .test_db
        .run("update provider_states set ceiling_until = now(), ceiling_at = now() - interval '1 second'")
        .await;
    assert_eq!(scene.claim().await.len(), 5);
    scene.test_db.assert_sound().await;
}

/// A carrier that had no room for our account is left alone, whoever says so: here a poll. One that had none for anybody is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_carrier_is_left_alone() {
    for full in [true, false] {
        let scene = Scene::new(ACCEPTED).await;
        scene.test_db.enqueue(&["+14155550100", "+14155550101"]).await;
        let [call, _] = scene.claim().await.try_into().expect("both");
        dial(&scene.line, call.clone(), Instant::now()).await;
        scene.settle().await;
        let word = Word::TurnedAway { full, hangup_cause: Some("x".to_owned()), dials_max: None };
        scene.line.inbox.tell(Heard::about(call.attempt_id, word, "poll"));
        scene.settle().await;
        let held = "select coalesce(string_agg(provider || ' ' || ceiling, ''), '-') from provider_states where hold_until > now()";
        assert_eq!(scene.test_db.text(held).await, if full { "scripted 15" } else { "-" });
        scene.test_db.assert_sound().await;
    }
}

/// Doubt is asked about, and a call that is found is adopted, not dialed again.
#[tokio::test(flavor = "multi_thread")]
async fn doubt_is_looked_up_and_adopted() {
    let scene = Scene::new(Placed::Ambiguous { reason: "timeout".to_owned() }).await;
    scene.test_db.enqueue(&["+14155550100"]).await;
    scene.dial_late("select 1").await;
    let found = Found::Known(outdial::domain::word::Word::Accepted {
        provider_call_id: Some("theirs".to_owned()),
        carrier_call_id: None,
    });
    *scene.provider.found.lock().expect("no panic while held") = found;
    assert_eq!(inquiry::ask_all(&scene.line).await.expect("asked"), 1);
    scene.settle().await;
    scene.call_is("live 1 -").await;
    let adopted = "select count(*) from attempts where state = 'accepted' and provider_call_id = 'theirs'";
    assert_eq!(scene.test_db.count(adopted).await, 1);
    assert_eq!(scene.asked(), 1, "dialed once");
    scene.test_db.assert_sound().await;
}

/// What another provider was asked to dial is not asked of this one: its honest "no such call" would free a number that may ring.
#[tokio::test(flavor = "multi_thread")]
async fn another_providers_doubt_is_not_ours_to_end() {
    let scene = Scene::new(Placed::Ambiguous { reason: "timeout".to_owned() }).await;
    scene.test_db.enqueue(&["+14155550100"]).await;
    scene.dial_late("select 1").await;
    scene
        .test_db
        .run("update attempts set provider = 'http', sent_at = now() - interval '1 hour', check_at = now()")
        .await;
    for _ in 0..3 {
        assert_eq!(inquiry::ask_all(&scene.line).await.expect("asked"), 0);
        scene.settle().await;
    }
    scene.call_is("live 0 -").await;
}

/// A panic in one dial ends in doubt about that attempt; the loop goes on and dials the others.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_one_dial_is_that_dials_alone() {
    let scene = Scene::new(ACCEPTED).await;
    scene.test_db.enqueue(&["+14155550199", "+14155550101"]).await;
    let stop = CancellationToken::new();
    let dispatcher = Dispatcher::new(
        &scene.test_db.db,
        scene.line.inbox.clone(),
        scene.line.settings.clone(),
        Arc::clone(&scene.line.vitals),
        Some(Arc::clone(&scene.line)),
        rules_of(&config(&[])),
        Doorbell::default(),
    );
    let running = tokio::spawn(dispatcher.run(stop.clone(), stop.clone(), Duration::from_secs(5)));
    let deadline = Instant::now() + Duration::from_secs(10);
    let states = "select count(*) from attempts where (state = 'unknown' and phone like '%99') or (state = 'accepted' and phone like '%01')";
    while scene.test_db.count(states).await < 2 {
        assert!(Instant::now() < deadline, "the loop ended with the panic");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    running.await.expect("the loop did not panic");
    scene.test_db.assert_sound().await;
}

/// A process whose lease has run out dials nothing it has claimed.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_lease_nothing_is_dialed() {
    let scene = Scene::new(ACCEPTED).await;
    scene.test_db.enqueue(&["+14155550100"]).await;
    let call = scene.claim().await.remove(0);
    let settings = config(&[]);
    let speaking: Arc<dyn Provider> = scene.provider.clone();
    // A line whose lease was never renewed.
    let line =
        line_of(&settings, &scene.test_db.db, &scene.line.inbox, InstanceId(new_id()), speaking, b"key".to_vec());
    dial(&line, call, Instant::now()).await;
    scene.settle().await;
    assert_eq!(scene.asked(), 0);
    scene.call_is("waiting 0 -").await;
    scene.test_db.assert_sound().await;
}

/// Equal refusals of one user's calls in a row are a fault of what they ask for: from the fifth on they wait, behind others, and count no
/// dial; an accepted call ends the row. When another user's are refused in the same words, it is the provider that is held.
/// (95e55f8: every one of them was FAILED for good.)
#[tokio::test(flavor = "multi_thread")]
async fn refusals_in_a_row_hold_calls_back() {
    let refusal = |what: &str| Placed::Refused { reason: format!("HTTP 400 {what}"), about_number: false };
    let scene = Scene::new(refusal("voice 17 is not known")).await;
    let numbers: Vec<String> = (0..9).map(|nth| format!("+141555501{nth:02}")).collect();
    scene.test_db.enqueue(&numbers.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let dial_next = async || {
        for call in scene.claim_up_to(1).await {
            dial(&scene.line, call, Instant::now()).await;
        }
        scene.settle().await;
    };
    for _ in 0..6 {
        dial_next().await;
    }
    let count = async |sql: &'static str| scene.test_db.count(sql).await;
    assert_eq!(count("select count(*) from calls where state = 'failed' and disposition = 'REFUSED'").await, 4);
    assert_eq!(count("select count(*) from calls where state = 'waiting' and dials = 0 and due_at > now()").await, 2);
    assert_eq!(count("select n from provider_refusals").await, 6);
    // Numbers in the words make no difference; other words begin a new row.
    *scene.provider.answer.lock().expect("no panic while held") = refusal("voice 18 is not known");
    dial_next().await;
    assert_eq!(count("select n from provider_refusals").await, 7);
    *scene.provider.answer.lock().expect("no panic while held") = ACCEPTED;
    scene.line.pulse.sees_rows();
    dial_next().await;
    assert_eq!(count("select count(*) from provider_refusals").await, 0);
}
