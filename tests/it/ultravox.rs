//! Ultravox and Telnyx against their fakes, both ways to the phone: what is asked of them, field by field; whom we believe; and whole
//! campaigns with everything going wrong, held against the fakes' own account.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use outdial::config::{Config, from_parts};
use outdial::domain::ids::{AttemptId, CallId};
use outdial::domain::phone::PhoneNumber;
use outdial::domain::script::{Agent, Script};
use outdial::fake_providers::{Ending, Manners, Paging, Rung, World};
use outdial::provider::ultravox::Ultravox;
use outdial::provider::{Dial, Found, Placed, Provider, Question, ReportTo};
use outdial::service::Role;
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{TestDb, TestService, client, free_port};

pub const MODES: [&str; 2] = ["ultravox-dials", "telnyx-dials"];

/// The settings of a service that calls the fakes. Whoever is in doubt waits for longer than a request may lie unread in a busy machine.
pub fn settings(world: &World, mode: &str, port: u16) -> Vec<(String, String)> {
    let mut settings = world.settings();
    settings.extend(
        [
            ("OUTDIAL_ULTRAVOX__MODE", mode),
            ("PORT", &port.to_string()),
            ("SERVICE_URL", &format!("http://127.0.0.1:{port}")),
            ("OUTDIAL_PROVIDER__DIAL_TIMEOUT_SECS", "1"),
            ("OUTDIAL_PROVIDER__LOOKUP_GRACE_SECS", "2"),
            ("OUTDIAL_PROVIDER__CEILING_RECOVERY_SECS", "2"),
            ("OUTDIAL_PROVIDER__RETRY_AFTER_SECS_MAX", "1"),
            ("OUTDIAL_PROVIDER__BREAKER__OPEN_SECS", "0.2"),
            ("OUTDIAL_PROVIDER__BREAKER__OPEN_SECS_MAX", "0.5"),
            ("OUTDIAL_EXECUTOR__INQUIRY_SECS", "1"),
            ("OUTDIAL_ULTRAVOX__RECORD_AFTER_SECS", "0.3"),
            ("OUTDIAL_RETRY__BASE_SECS", "0.5"),
            ("OUTDIAL_SCHEDULER__TICK_MS", "100"),
            ("OUTDIAL_RULES__SINGLE_CALLS", "tell"),
            ("OUTDIAL_RULES__DESTINATIONS", "tell"),
            ("OUTDIAL_RULES__FREQUENCY", "tell"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    settings
}

/// The fakes, on a port of their own.
pub async fn fakes(manners: Manners) -> World {
    drop(client());
    World::start(0, manners).await.expect("a port")
}

async fn service(world: &World, mode: &str, more: &[(&str, &str)]) -> TestService {
    let settings = settings(world, mode, free_port());
    let mut pairs: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    pairs.extend(more);
    TestService::start_on(TestDb::new().await, Role::All, &pairs).await
}

fn config(pairs: Vec<(String, String)>) -> Config {
    from_parts(None, &pairs.into_iter().collect::<BTreeMap<_, _>>()).expect("settings")
}

fn dial_of(script: Option<Script>) -> Dial {
    Dial {
        attempt_id: AttemptId(Uuid::from_u128(0x0193_b5a0_0000_7000_8000_0000_0000_0001)),
        call_id: CallId(Uuid::from_u128(0x0193_b5a0_0000_7000_8000_0000_0000_0002)),
        to: PhoneNumber::parse("+12025550131").expect("a number"),
        script_id: "You remind people of their appointments.".to_owned(),
        metadata: json!({"customerName": "Ada"}).into(),
        variables: json!({"customerName": "Ada"}).into(),
        agent: Some(Agent {
            language: Some("en".to_owned()),
            voice: Some("Mark".to_owned()),
            first_message: Some("Hello, is this Ada?".to_owned()),
        }),
        script,
        secs_max: Some(240),
        report_to: ReportTo { base: "https://dialer.example".to_owned(), query: "attemptId=a&token=t".to_owned() },
        prepared: None,
        claimed_at: "2026-01-15T10:30:00Z".parse::<DateTime<Utc>>().expect("a time"),
    }
}

/// What is asked of them for this dial, in order; the address of the agent that waits is theirs to choose.
async fn asked(mode: &str, script: Option<Script>) -> Value {
    let world = fakes(Manners { no_answer: 100, busy: 0, ..Manners::gentle(1, 1000.0) }).await;
    let config = config(settings(&world, mode, 3000));
    let secrets = vec![SecretString::from("old-secret"), SecretString::from("new-secret")];
    let (causes, timeout) = (config.causes.clone(), Duration::from_secs(5));
    let provider = Ultravox::new(config.ultravox, config.telnyx, causes, secrets, 3600, timeout).expect("a client");
    let mut dial = dial_of(script);
    dial.prepared = provider.prepare(&dial).await.expect("prepared");
    let placed = provider.place(&dial).await;
    assert!(matches!(placed, Placed::Accepted { provider_call_id: Some(_), .. }), "{placed:?}");
    let asked = world.asked().into_iter().map(|asked| {
        let mut body = asked.body;
        if let Some(url) = body["stream_url"].as_str() {
            assert!(url.starts_with("ws://127.0.0.1"), "the joinUrl as it was given: {url}");
            body["stream_url"] = json!("the joinUrl");
        }
        json!({"path": asked.path, "body": body})
    });
    asked.collect()
}

/// Every request equals the contract, both ways, with a prompt, a stored script, and an agent kept there. `UPDATE_GOLDEN=1` writes them.
#[tokio::test]
async fn requests_equal_the_contract() {
    let script = Script {
        prompt: Some("You sell tea to Ada.".to_owned()),
        voice: Some("Jessica".to_owned()),
        first_message: Some("Good day!".to_owned()),
        tools: json!([{"toolName": "hangUp"}, {"toolName": "leaveVoicemail"}]).into(),
        max_duration_secs: Some(120),
        ..Script::default()
    };
    let agent = Script { agent_id: Some("7f0c1e6e-0000-4000-8000-000000000000".to_owned()), ..Script::default() };
    for mode in MODES {
        for (name, script) in [("prompt", None), ("script", Some(script.clone())), ("agent", Some(agent.clone()))] {
            let found = asked(mode, script).await;
            let path = format!("{}/tests/golden/{mode}_{name}.json", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&path, serde_json::to_string_pretty(&found).unwrap() + "\n").expect("write");
            }
            let golden: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("golden")).expect("JSON");
            assert_eq!(found, golden, "{path}");
        }
    }
}

/// Told where to report by the other spelling, or by none: a busy phone is busy, or nobody's word is had and it was not answered.
#[tokio::test(flavor = "multi_thread")]
async fn the_status_callback_has_two_spellings() {
    for (key, expected) in [("status_callback", "BUSY"), ("", "NO_ANSWER")] {
        let world = fakes(Manners { busy: 100, no_answer: 0, ..Manners::gentle(1, 100.0) }).await;
        let service = service(&world, MODES[0], &[("OUTDIAL_ULTRAVOX__STATUS_CALLBACK_KEY", key)]).await;
        let body = json!({"to": "+14155550142", "scriptId": "You sell tea.", "maxAttempts": 1});
        let (_, call) = service.post("/api/v1/calls", body).await;
        let failed = service.wait_for_status(call["data"]["id"].as_str().expect("an id"), "FAILED").await;
        assert_eq!(failed["conversations"][0]["disposition"], expected, "{key}");
        service.finish().await;
    }
}

/// The attempts of the database, by id: number, whether dialed, disposition, minutes charged, state.
async fn attempts(pool: &PgPool) -> HashMap<String, (String, bool, Option<String>, i32)> {
    let rows: Vec<(Uuid, String, bool, Option<String>, i32)> =
        sqlx::query_as("select id, phone, dialed, disposition, coalesce(charged_minutes, 0) from attempts")
            .fetch_all(pool)
            .await
            .expect("attempts");
    rows.into_iter()
        .map(|(id, phone, dialed, said, minutes)| (id.to_string(), (phone, dialed, said, minutes)))
        .collect()
}

/// What an attempt may be called: what the phone did, or what is left of that when the carrier's word never came.
fn fits(rung: &Rung, disposition: &str) -> bool {
    match rung.ending {
        Ending::Person => disposition == rung.outcome.unwrap_or("COMPLETED"),
        Ending::Busy => ["BUSY", "NO_ANSWER"].contains(&disposition),
        Ending::NotFound => ["WRONG_NUMBER", "NO_ANSWER"].contains(&disposition),
        Ending::Machine => ["VOICEMAIL", "COMPLETED"].contains(&disposition),
        Ending::NoAnswer => disposition == "NO_ANSWER",
        // A machine may have been heard before nobody was connected to it.
        Ending::Deaf => ["FAILED", "NO_ANSWER", "VOICEMAIL"].contains(&disposition),
        Ending::Canceled => disposition == "CANCELED",
    }
}

/// What has not ended, for a person to read: calls with their attempts, and what the provider asks for.
async fn what_is_left(pool: &PgPool) -> String {
    let rows: Vec<String> = sqlx::query_scalar(
        "select jsonb_pretty(jsonb_build_object('call', to_jsonb(c), 'now', now(),
            'attempts', (select jsonb_agg(to_jsonb(a) order by a.id) from attempts a where a.call_id = c.id)))
         from calls c where c.state in ('waiting', 'parked', 'live')
            or exists (select from attempts a where a.call_id = c.id and (a.record_at is not null or a.dialed and not a.billed))
         union all
         select jsonb_pretty(to_jsonb(p)) from provider_states p",
    )
    .fetch_all(pool)
    .await
    .expect("what is left");
    rows.join("\n")
}

const DIALS_MAX: usize = 3;

/// A campaign against the fakes: every phone rang as often as the rules say and never twice for one attempt; states, outcomes and minutes
/// are those of the fakes' own account. `read_only`: Postgres is so for a moment. Returns how many attempts carry exactly what the phone did.
async fn campaign(mode: &str, manners: Manners, numbers: u32, more: &[(&str, &str)], read_only: bool) -> usize {
    let world = fakes(manners).await;
    let service = service(&world, mode, more).await;
    service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await;
    service.post("/api/v1/plans", json!({"name": "p", "externalId": "p", "minutes": 100_000, "duration": 30})).await;
    let put = service.client.put(format!("{}/api/v1/users/ann/subscription", service.base));
    assert_eq!(crate::support::answer(put.json(&json!({"planId": "p", "status": "ACTIVE"}))).await.0, 200);
    let script = json!({"userId": "ann", "externalId": "tea", "prompt": "You sell tea."});
    assert_eq!(service.post("/api/v1/scripts", script).await.0, 201);
    // No zone stands in the way of the fakes' numbers, and no hour.
    service.test_db.run("delete from legal_hours").await;
    let body = json!({"userId": "ann", "externalId": "c", "name": "c", "scriptId": "tea", "maxRetries": 2,
                      "retryDelaySeconds": 1, "maxConcurrentCalls": 25, "zonePolicy": "user", "paused": true});
    assert_eq!(service.post("/api/v1/campaigns", body).await.0, 201);
    let list: Vec<String> = (0..numbers).map(|nth| format!("+1415555{nth:04}")).collect();
    let (status, added) = service.post("/api/v1/campaigns/c/phone-numbers?userId=ann", json!({"numbers": list})).await;
    assert_eq!((status, added["data"]["accepted"].as_u64()), (201, Some(u64::from(numbers))), "{added}");
    assert_eq!(service.post("/api/v1/campaigns/c/resume?userId=ann", json!({})).await.0, 200);
    let pool = service.test_db.pool().clone();
    if read_only {
        while world.rung().len() < 10 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service.test_db.read_only(true).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        service.test_db.read_only(false).await;
    }
    let deadline = Instant::now() + Duration::from_secs(240);
    let mut asked_again = Instant::now();
    let open = "select count(*) from calls where state in ('waiting', 'parked', 'live')";
    let unrecorded = "select count(*) from attempts where record_at is not null or (dialed and not billed)";
    while service.test_db.count(open).await > 0 || service.test_db.count(unrecorded).await > 0 || !world.is_quiet() {
        if Instant::now() >= deadline {
            panic!("not over in time, quiet {}\n{}", world.is_quiet(), what_is_left(&pool).await);
        }
        // A record is asked for again after as long as the call has ended: where many questions go unanswered that takes minutes, which
        // pass here in seconds.
        if asked_again.elapsed() > Duration::from_secs(2) {
            asked_again = Instant::now();
            service
                .test_db
                .run(
                    "update attempts set record_at = clock() where id = any (array(
                       select id from attempts where record_at > clock() + interval '3 seconds' for update skip locked))",
                )
                .await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (rung, attempts) = (world.rung(), attempts(&pool).await);
    assert_eq!((world.overlaps(), world.badly_signed_taken()), (0, 0), "{rung:?}");
    assert!(world.most_at_once() <= 25, "{}", world.most_at_once());

    let mut by_number: HashMap<&str, Vec<&Rung>> = HashMap::new();
    let mut exact = 0;
    for one in &rung {
        by_number.entry(&one.to).or_default().push(one);
        let (phone, dialed, said, minutes) = attempts.get(&one.attempt).expect("a phone that rang has its attempt");
        let said = said.as_deref().unwrap_or("-");
        assert!(*dialed && *phone == one.to && fits(one, said), "{said} for {one:?}");
        assert_eq!(u32::try_from(*minutes).unwrap(), one.billed_secs.div_ceil(60), "{one:?}");
        exact += usize::from(match one.ending {
            Ending::Busy => said == "BUSY",
            Ending::NotFound => said == "WRONG_NUMBER",
            Ending::Machine => said == "VOICEMAIL",
            _ => true,
        });
    }
    let mut twice: Vec<&str> = rung.iter().map(|one| one.attempt.as_str()).collect();
    twice.sort_unstable();
    twice.dedup();
    assert_eq!(twice.len(), rung.len(), "a phone rang twice for one attempt");
    let counted = attempts.values().filter(|attempt| attempt.1).count();
    // Six storms at once starve each other: a dial whose answer was lost, and whose agent gave up before anybody looked, counts though
    // no phone rang. Never the other way round: a phone that rang and does not count would ring again.
    let may_count_doubt = !more.is_empty();
    let doubted = counted.checked_sub(rung.len()).expect("every phone that rang counts as a dial");
    assert!(doubted == 0 || may_count_doubt, "{counted} dials counted, and {} phones rang", rung.len());
    for (number, rings) in &by_number {
        assert!(rings.len() <= DIALS_MAX, "{number} rang {} times", rings.len());
        let before = rings.split_last().expect("rings").1;
        assert!(
            before.iter().all(|ring| ring.ending != Ending::Person),
            "{number}: called again after a talk: {rings:?}"
        );
        let (state, dials, said): (String, i16, Option<String>) =
            sqlx::query_as("select state::text, dials, disposition from calls where phone = $1")
                .bind(number)
                .fetch_one(&pool)
                .await
                .expect("a call");
        let last = attempts[&rings.last().expect("rings").attempt].2.clone().unwrap_or_default();
        let reached = ["APPOINTMENT_SET", "NOT_INTERESTED", "DO_NOT_CALL", "COMPLETED"].contains(&last.as_str());
        match state.as_str() {
            "completed" => assert!(reached, "{number} {last} {rings:?}"),
            "failed" => assert!(
                !reached
                    && (last == "WRONG_NUMBER"
                        || usize::try_from(dials).unwrap() == DIALS_MAX
                        || rings.iter().any(|ring| ring.ending == Ending::NotFound)),
                "{number} {last} {dials} {rings:?}"
            ),
            // The word came late, from the record: what waited for another dial ended for it. Or we hung up ourselves while it rang, since
            // the agent had gone.
            "canceled" => assert!(
                said.as_deref() == Some("DO_NOT_CALL")
                    || rings.last().is_some_and(|ring| ring.ending == Ending::Canceled),
                "{number} {said:?} {last} {dials} {rings:?}"
            ),
            other => panic!("{number} is {other}"),
        }
    }
    assert_eq!(by_number.len(), list.len(), "every number was called");
    let charged: u32 = rung.iter().map(|one| one.billed_secs.div_ceil(60)).sum();
    let left = "select minutes_left from subscriptions";
    assert_eq!(service.test_db.count(left).await, 100_000 - i64::from(charged), "minutes");
    println!(
        "{mode}: {} rings for {} numbers, {exact} exact, {} at once",
        rung.len(),
        list.len(),
        world.most_at_once()
    );
    service.finish().await;
    exact * 100 / rung.len()
}

/// In peace each attempt carries exactly what the phone did.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_in_peace() {
    for mode in MODES {
        assert_eq!(campaign(mode, Manners::gentle(7, 200.0), 40, &[], false).await, 100, "{mode}");
    }
}

/// With refusals, lost answers, webhooks doubled, late, badly signed or never sent, questions unanswered, agents nobody hears, and a
/// Postgres that is read-only for two seconds in the midst of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_with_everything_going_wrong() {
    let seed = std::env::var("STORM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_121);
    println!("seed {seed} (STORM_SEED=… repeats it)");
    for mode in MODES {
        assert!(campaign(mode, Manners::rough(seed, 100.0), 60, &[], true).await >= 80, "{mode}");
    }
}

/// Every call ends by itself, whatever goes wrong, and though what the carrier asks to be left alone for is not cut short here: a
/// channel that is not free holds for seconds, not for as long as an agent waits.
#[tokio::test(flavor = "multi_thread")]
async fn every_rough_call_ends() {
    let patient = [("OUTDIAL_PROVIDER__RETRY_AFTER_SECS_MAX", "300")];
    let seeds = (1..=6).map(|seed| campaign("telnyx-dials", Manners::rough(seed, 50.0), 60, &patient, false));
    for exact in futures::future::join_all(seeds).await {
        assert!(exact >= 80, "{exact}");
    }
}

/// A provider that dials by Call Control, for asking it directly.
fn dialer(world: &World) -> Ultravox {
    let config = config(settings(world, "telnyx-dials", 3000));
    let (causes, timeout) = (config.causes.clone(), Duration::from_secs(10));
    Ultravox::new(config.ultravox, config.telnyx, causes, vec![], 3600, timeout).expect("a client")
}

/// A question about an attempt in doubt whose agent was prepared.
fn question_of(attempt_id: AttemptId, agent: &str) -> Question {
    Question {
        attempt_id,
        call_id: CallId(Uuid::now_v7()),
        provider_call_id: Some(agent.to_owned()),
        carrier_call_id: None,
        hangup_cause: None,
        claimed_at: Utc::now(),
    }
}

/// A phone of its own that rings.
async fn ring(provider: &Ultravox, nth: usize) -> AttemptId {
    let mut dial = dial_of(None);
    dial.attempt_id = AttemptId(Uuid::now_v7());
    dial.to = PhoneNumber::parse(&format!("+1415555{nth:04}")).expect("a number");
    dial.prepared = provider.prepare(&dial).await.expect("prepared");
    let placed = provider.place(&dial).await;
    assert!(matches!(placed, Placed::Accepted { .. }), "{placed:?}");
    dial.attempt_id
}

/// Any of 300 legs is found, by whichever of the documented ways the list is paged, on pages of 20; what is not there is not found, and
/// a list of which a part is missing says nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_leg_is_found_on_any_page() {
    use futures::StreamExt;
    let manners = Manners { no_answer: 100, busy: 0, machine: 0, not_found: 0, ..Manners::gentle(1, 0.1) };
    for (paging, count) in [(Paging::Number, 300), (Paging::Cursor, 300), (Paging::Both, 300), (Paging::Broken, 45)] {
        let world = fakes(Manners { paging, ..manners }).await;
        let provider = dialer(&world);
        let rung: Vec<AttemptId> =
            futures::stream::iter(0..count).map(|nth| ring(&provider, nth)).buffered(16).collect().await;
        let mut found = 0;
        for nth in (0..count).step_by(23).chain([30, count - 1]) {
            found += usize::from(matches!(provider.carrier().find_live(rung[nth]).await, Ok(Some(_))));
        }
        let nobody = provider.carrier().find_live(AttemptId(Uuid::now_v7())).await;
        // An agent that is gone says nothing of a phone: only a whole list without it does.
        let gone = provider.find_by_attempt(&question_of(AttemptId(Uuid::now_v7()), "no-such-agent")).await;
        assert_eq!(gone, if paging == Paging::Broken { Found::CannotSay } else { Found::NotFound }, "{paging:?}");
        if paging == Paging::Broken {
            assert!(found < 4, "{found} on the only page there is");
            assert_eq!(nobody, Err("20 of 45 live calls could be read".to_owned()));
        } else {
            assert_eq!((found, nobody), (16, Ok(None)), "{paging:?}");
        }
    }
}

/// The state, the disposition and the dials of a call to this number.
async fn fate(service: &TestService, number: &str) -> (String, String, i16) {
    let sql = "select state::text, coalesce(disposition, '-'), dials from calls where phone = $1";
    sqlx::query_as(sql).bind(number).fetch_one(service.test_db.pool()).await.expect("a call")
}

/// Numbers the carrier does not dial stop nobody else: they end, as refused, and their agents are taken back.
#[tokio::test(flavor = "multi_thread")]
async fn an_undialable_number_stops_nobody() {
    let manners = Manners { busy: 0, no_answer: 0, machine: 0, not_found: 0, ..Manners::gentle(1, 200.0) };
    let world = fakes(manners).await;
    let service = service(&world, "telnyx-dials", &[]).await;
    // A country that is not allowed, a number that is invalid, one that is not verified; and a country again, told by the leg's end.
    let undialable = ["+14155559913", "+14155559911", "+14155559960", "+14155559813"];
    let good: Vec<String> = (0..12).map(|nth| format!("+1415555{nth:04}")).collect();
    for number in undialable.into_iter().chain(good.iter().map(String::as_str)) {
        let body = json!({"to": number, "scriptId": "You sell tea.", "ignoreWindow": true});
        assert_eq!(service.post("/api/v1/calls", body).await.0, 201);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while service.test_db.count("select count(*) from calls where state in ('waiting', 'parked', 'live')").await > 0 {
        assert!(Instant::now() < deadline, "still open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for number in undialable {
        assert_eq!(fate(&service, number).await, ("failed".to_owned(), "REFUSED".to_owned(), 1), "{number}");
    }
    for number in &good {
        assert_eq!(fate(&service, number).await.0, "completed", "{number}");
    }
    let mut rung: Vec<String> = world.rung().into_iter().map(|rung| rung.to).collect();
    rung.sort();
    assert_eq!(rung, good);
    none_idle(&world, 3).await;
    service.finish().await;
}

/// Waits until no agent waits for a phone that does not ring, and so many were taken back.
async fn none_idle(world: &World, taken_back: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (idle, erased) = world.idle_agents();
        if idle == 0 && erased >= taken_back {
            return;
        }
        assert!(Instant::now() < deadline, "{idle} agents wait for nobody, {erased} were taken back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// While no channel is free, or the connection has no profile, nothing is dialed and no agent is left waiting by the tries. Agents have
/// all the patience of the real ones here.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_phone_does_not_ring_is_taken_back() {
    // A hold is not cut short here: for a channel it lasts seconds, not as long as an agent waits.
    let patient = [("OUTDIAL_PROVIDER__RETRY_AFTER_SECS_MAX", "300")];
    for (number, found) in [("+14155559901", "full"), ("+14155559938", "HTTP 403 10010")] {
        let world = fakes(Manners::gentle(1, 1.0)).await;
        let service = service(&world, "telnyx-dials", &patient).await;
        let body = json!({"to": number, "scriptId": "You sell tea.", "ignoreWindow": true});
        let (status, call) = service.post("/api/v1/calls", body).await;
        assert_eq!(status, 201);
        none_idle(&world, 2).await;
        assert_eq!(fate(&service, number).await.2, 0, "no dial");
        let told = "select hangup_cause from attempts where ended_at is not null order by claimed_at limit 1";
        let told = service.test_db.text(told).await;
        assert!(told.starts_with(found), "{told}");
        let path = format!("/api/v1/calls/{}/cancel", call["data"]["id"].as_str().expect("an id"));
        assert!(service.post(&path, json!({})).await.0 < 300);
        // One may be under way still; it is taken back too.
        none_idle(&world, 2).await;
        assert!(world.rung().is_empty());
        service.finish().await;
    }
}

/// An agent is taken back only when it is committed that no phone rang: were it erased before, and the commit lost with the process, nothing
/// would tell any more whether one had.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_outlives_the_doubt_about_its_phone() {
    let number = "+14155559901";
    let world = fakes(Manners::gentle(1, 1.0)).await;
    let service = service(&world, "telnyx-dials", &[]).await;
    // What ends an attempt takes two seconds to be written.
    service
        .test_db
        .run(
            "create function slow_end() returns trigger language plpgsql as $$ begin perform pg_sleep(2); return new; end $$;
             create trigger slow_end before update on attempts for each row
               when (old.state = 'dialing' and new.state = 'ended') execute function slow_end()",
        )
        .await;
    let body = json!({"to": number, "scriptId": "You sell tea.", "ignoreWindow": true});
    assert_eq!(service.post("/api/v1/calls", body).await.0, 201);
    none_idle(&world, 1).await;
    let ended = "select count(*) from attempts where state = 'ended' and hangup_cause = 'full'";
    assert_ne!(service.test_db.count(ended).await, 0, "erased before the end was committed");
    service.finish().await;
}

/// A voice nobody has is refused by Ultravox, which says so: in the words it used. A wrong key or address is the same for every call, and
/// named.
#[tokio::test(flavor = "multi_thread")]
async fn what_ultravox_refuses_is_quoted_and_named() {
    for mode in MODES {
        let world = fakes(Manners::gentle(1, 1.0)).await;
        let placed = async |more: (&str, String)| {
            let mut settings = settings(&world, mode, 3000);
            settings.push((more.0.to_owned(), more.1));
            let config = config(settings);
            let (causes, timeout) = (config.causes.clone(), Duration::from_secs(5));
            let provider =
                Ultravox::new(config.ultravox, config.telnyx, causes, vec![], 3600, timeout).expect("a client");
            let dial = dial_of(Some(Script { voice: Some("no-such-voice".to_owned()), ..Script::default() }));
            match provider.prepare(&dial).await {
                Ok(_) => provider.place(&dial).await,
                Err(placed) => placed,
            }
        };
        let Placed::Refused { reason, about_number: false } = placed(("X", String::new())).await else {
            panic!("not refused");
        };
        assert!(reason.contains("HTTP 400") && reason.contains("there is no voice no-such-voice"), "{reason}");
        for (name, value) in
            [("ULTRAVOX_API_KEY", "wrong".to_owned()), ("ULTRAVOX_API_URL", format!("{}/nowhere", world.url()))]
        {
            let placed = placed((name, value)).await;
            assert!(matches!(placed, Placed::Barred { setting, .. } if setting == name), "{name}: {placed:?}");
        }
    }
}

/// Their webhooks without a signature that fits, and the agent's tool without our token, are refused and change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_believed() {
    let world = fakes(Manners { concurrent_max: 0, ..Manners::gentle(1, 100.0) }).await;
    let service = service(&world, "telnyx-dials", &[]).await;
    let post = async |path: &str, headers: &[(&str, &str)], body: &str| {
        let mut request = service.client.post(format!("{}{path}", service.base)).body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.expect("an answer").status().as_u16()
    };
    let json = ("content-type", "application/json");
    let ended = r#"{"event":"call.ended","call":{"callId":"c","ended":"2026-01-15T10:30:31Z"}}"#;
    let hangup = r#"{"data":{"event_type":"call.hangup","id":"x","payload":{"hangup_cause":"user_busy"}}}"#;
    let attempt = "0193b5a0-0000-7000-8000-000000000001";
    for (path, headers, body) in [
        ("/webhooks/ultravox".to_owned(), vec![json], ended),
        (
            "/webhooks/ultravox".to_owned(),
            vec![
                json,
                ("x-ultravox-webhook-timestamp", "2026-01-15T10:30:32Z"),
                ("x-ultravox-webhook-signature", "00"),
            ],
            ended,
        ),
        ("/webhooks/telnyx".to_owned(), vec![json], hangup),
        (format!("/webhooks/telnyx?attemptId={attempt}&token=dG9rZW4"), vec![json], hangup),
        ("/webhooks/ultravox/outcome".to_owned(), vec![json], r#"{"type":"DO_NOT_CALL"}"#),
        (
            format!("/webhooks/ultravox/outcome?attemptId={attempt}&token=dG9rZW4"),
            vec![json],
            r#"{"type":"DO_NOT_CALL"}"#,
        ),
    ] {
        assert_eq!(post(&path, &headers, body).await, 401, "{path} {headers:?}");
    }
    assert_eq!(service.test_db.count("select count(*) from stray_events").await, 0);
    service.finish().await;
}

/// A service that calls one number, slowly enough to act meanwhile: the world, the service and the call's path.
async fn one_call(mode: &str, manners: Manners) -> (World, TestService, String) {
    let world = fakes(manners).await;
    let service = service(&world, mode, &[]).await;
    let body = json!({"to": "+14155550142", "scriptId": "You sell tea.", "ignoreWindow": true});
    let (status, call) = service.post("/api/v1/calls", body).await;
    assert_eq!(status, 201, "{call}");
    let path = format!("/api/v1/calls/{}", call["data"]["id"].as_str().expect("an id"));
    (world, service, path)
}

/// Waits until a count is above 0.
async fn seen(test_db: &TestDb, count: &'static str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while test_db.count(count).await == 0 {
        assert!(Instant::now() < deadline, "never seen: {count}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A call that still rings is hung up at the carrier, either way; the phone falls silent and nobody is called again.
#[tokio::test(flavor = "multi_thread")]
async fn a_ringing_call_is_hung_up() {
    for mode in MODES {
        let manners = Manners { busy: 0, no_answer: 100, ..Manners::gentle(1, 4.0) };
        let (world, service, path) = one_call(mode, manners).await;
        service.wait_until(&path, |call| call["status"] == "IN_PROGRESS" && call["attempts"] == 1).await;
        seen(&service.test_db, "select count(*) from attempts where carrier_call_id is not null").await;
        let (status, _) = service.post(&format!("{path}/cancel"), json!({})).await;
        assert!(status < 300, "{status}");
        service.wait_until(&path, |call| call["status"] == "CANCELED").await;
        let rung = world.rung();
        assert_eq!(rung.iter().map(|one| one.ending).collect::<Vec<_>>(), [Ending::Canceled], "{mode}");
        service.finish().await;
    }
}

/// So is a talk: it ends long before its time, and its call with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_talk_is_hung_up() {
    for mode in MODES {
        let manners = Manners { busy: 0, no_answer: 0, machine: 0, not_found: 0, ..Manners::gentle(3, 2.0) };
        let (world, service, path) = one_call(mode, manners).await;
        let started = "select count(*) from attempts where started_at is not null and carrier_call_id is not null";
        seen(&service.test_db, started).await;
        assert!(world.rung()[0].billed_secs > 30, "a long talk: {:?}", world.rung());
        assert!(service.post(&format!("{path}/cancel"), json!({})).await.0 < 300);
        service.wait_until(&path, |call| call["status"] != "IN_PROGRESS").await;
        assert!(world.is_quiet(), "{mode}: the line is still open");
        assert_eq!(world.rung().len(), 1);
        service.finish().await;
    }
}

/// Somebody answers and the agent cannot be connected: the line is taken down at once, not when the agent gives up, and no second call
/// goes out beside it.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_left_on_a_silent_line() {
    let manners = Manners { busy: 0, no_answer: 0, machine: 0, not_found: 0, deaf: 100, ..Manners::gentle(3, 5.0) };
    let (world, service, path) = one_call("telnyx-dials", manners).await;
    let ended = service.wait_until(&path, |call| !call["conversations"][0]["disposition"].is_null()).await;
    assert_eq!(ended["conversations"][0]["disposition"], "FAILED", "{ended}");
    assert_eq!(ended["conversations"][0]["hangupCause"], "streaming.failed", "{ended}");
    assert!(world.rung()[0].over, "the line is still open");
    assert_eq!(world.overlaps(), 0);
    service.finish().await;
}

/// `doctor` asks for the account and the connection, and says what does not fit.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_examines_keys_and_account() {
    let world = fakes(Manners { concurrent_max: 5, ..Manners::gentle(1, 1.0) }).await;
    let test_db = TestDb::new().await;
    let examine = async |more: &[(&str, &str)]| {
        let mut pairs = settings(&world, "telnyx-dials", 3000);
        pairs.push(("DATABASE_URL".to_owned(), test_db.url()));
        pairs.extend(crate::support::pairs(more));
        outdial::service::doctor::examine(&config(pairs)).await.text
    };
    let text = examine(&[("SERVICE_URL", "https://dialer.example")]).await;
    for line in [
        "ok   ultravox: the key is good; the account allows 5 calls at once",
        "note ultravox: calls.max_concurrent is 30",
        "ok   telnyx: the key is good and opens the connection",
        "ok   telnyx: its webhooks must be signed",
        "ok   webhooks: https://dialer.example (SERVICE_URL)",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let text = examine(&[("ULTRAVOX_API_KEY", "wrong"), ("TELNYX_API_KEY", "wrong")]).await;
    for line in ["BAD  ultravox: HTTP 401", "BAD  telnyx: HTTP 401", "note webhooks: http://127.0.0.1:3000"] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let abroad = ("ULTRAVOX_API_URL", "https://ultravox.example");
    assert!(examine(&[abroad]).await.contains("BAD  webhooks: http://127.0.0.1:3000 cannot be reached from outside"));
}

/// What could not work, or would do harm, is refused at the start, by the names it is set with.
#[test]
fn settings_that_cannot_work_are_refused() {
    let good = [("ULTRAVOX_API_KEY", "k"), ("TELNYX_FROM_NUMBER", "+14155550000")];
    for (name, value, says) in [
        ("TELNYX_FROM_NUMBER", "4155550000", "telnyx.from_number (TELNYX_FROM_NUMBER)"),
        ("TELNYX_PUBLIC_KEY", "garbage", "telnyx.public_key (TELNYX_PUBLIC_KEY)"),
        ("OUTDIAL_ULTRAVOX__MODE", "telnyx_dials", "ultravox.mode (OUTDIAL_ULTRAVOX__MODE)"),
        ("OUTDIAL_ULTRAVOX__MODE", "telnyx-dials", "TELNYX_CONNECTION_ID"),
        ("OUTDIAL_TELNYX__MACHINE_DETECTION", " ", "telnyx.machine_detection must not be empty"),
        ("OUTDIAL_ULTRAVOX__JOIN_TIMEOUT_SECS", "30", "join_timeout_secs at least 15 more"),
        (
            "OUTDIAL_CAUSES__TELNYX__USER_BUSY",
            "DO_NOT_CALL",
            "causes.telnyx.user_busy: DO_NOT_CALL is for people to say",
        ),
        (
            "OUTDIAL_CAUSES__ULTRAVOX__UNJOINED",
            "REQUEUE",
            "causes.ultravox.unjoined (OUTDIAL_CAUSES__ULTRAVOX__UNJOINED)",
        ),
        ("OUTDIAL_CAUSES__SIP__ABC", "BUSY", "causes.sip.abc: is no SIP code"),
        ("OUTDIAL_CAUSES__SIP__403", "CAPACITY 0", "is the number of dials, from 1"),
        ("OUTDIAL_CAUSES__TELNYX_DIAL__D13", "BUSY", "causes.telnyx_dial.d13: an answer to a dial may mean REFUSED"),
        ("OUTDIAL_CAUSES__TELNYX_DIAL__D35", "BARRED caller", "BARRED names one of TELNYX_API_KEY"),
    ] {
        let mut environment: BTreeMap<String, String> = crate::support::pairs(&good).into_iter().collect();
        environment.insert(name.to_owned(), value.to_owned());
        let error = from_parts(None, &environment).expect_err(value);
        assert!(format!("{error:#}").contains(says), "{error:#}");
    }
}

/// Agents and tools of the operator's account are named only by users who may, by their own keys and by an admin's alike; and what was
/// allowed once and is no more is not dialed. (95e55f8 took any.)
#[tokio::test(flavor = "multi_thread")]
async fn users_name_what_they_are_allowed() {
    let world = fakes(Manners::gentle(7, 200.0)).await;
    let service = service(&world, "ultravox-dials", &[]).await;
    service.test_db.run("delete from legal_hours").await;
    assert_eq!(service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await.0, 201);
    let key = service.post("/api/v1/users/ann/keys", json!({"name": "k"})).await.1["data"]["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let sent = async |method: &str, path: &str, body: Value| {
        let url = format!("{}/api/v1/{path}", service.base);
        let request = service.client.request(method.parse().expect("a method"), url).bearer_auth(&key);
        crate::support::answer(request.json(&body)).await
    };
    let temporary = |name: &str| json!({"temporaryTool": {"modelToolName": name, "description": "d", "client": {}}});
    for (nth, (what, path)) in [
        (json!({"agentId": "agent-of-the-operator"}), "agentId"),
        (json!({"prompt": "p", "tools": [{"toolName": "queryCorpus"}]}), "tools.0"),
        (json!({"prompt": "p", "tools": [{"toolName": "hangUp"}, {"toolId": "0bd1e5f6"}]}), "tools.1"),
        (json!({"prompt": "p", "tools": [temporary("reportOutcome")]}), "tools.0"),
        (json!({"prompt": "p", "tools": [{"toolName": "hangUp", "nameOverride": "reportoutcome"}]}), "tools.0"),
        (json!({"prompt": "p", "tools": [{"toolname": "hangUp"}]}), "tools.0"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = what;
        body["externalId"] = json!(format!("s{nth}"));
        let (status, answered) = sent("POST", "scripts", body.clone()).await;
        assert_eq!((status, answered["errors"][0]["path"].as_str()), (400, Some(path)), "{answered}");
        body["userId"] = json!("ann");
        assert_eq!(service.post("/api/v1/scripts", body).await.0, 400, "for an admin it is the user's script too");
    }
    // What is allowed is taken; a change is looked at as well.
    let allow = json!({"allowedAgents": ["a1"], "allowedTools": ["hangUp", "lookUp"]});
    assert_eq!(service.patch("/api/v1/users/ann", allow.clone()).await.0, 200);
    assert_eq!(sent("PATCH", "users/ann", allow).await.0, 403, "not by the user itself");
    let script = json!({"externalId": "ok", "prompt": "p", "tools": [{"toolName": "lookUp"}, temporary("book")]});
    assert_eq!(sent("POST", "scripts", script).await.0, 201);
    assert_eq!(sent("POST", "scripts", json!({"externalId": "agent", "agentId": "a1"})).await.0, 201);
    assert_eq!(sent("PATCH", "scripts/ok", json!({"tools": [{"toolName": "queryCorpus"}]})).await.0, 400);
    assert_eq!(sent("PATCH", "scripts/agent", json!({"agentId": "a2"})).await.0, 400);
    // Taken back: waiting calls fail before anything is asked for.
    assert_eq!(service.patch("/api/v1/users/ann", json!({"allowedAgents": []})).await.0, 200);
    for (number, script, ends) in [("+14155550101", "agent", "SCRIPT_NOT_ALLOWED"), ("+14155550102", "ok", "")] {
        let (status, body) = sent("POST", "calls", json!({"to": number, "scriptId": script})).await;
        assert_eq!(status, 201, "{body}");
        let id = body["data"]["id"].as_str().unwrap().to_owned();
        let call = service
            .wait_until(&format!("/api/v1/calls/{id}"), |call| call["attempts"] == 1 || call["status"] == "FAILED")
            .await;
        assert_eq!(call["disposition"] == "SCRIPT_NOT_ALLOWED", !ends.is_empty(), "{call}");
    }
    assert!(world.rung().iter().all(|rung| rung.to == "+14155550102"));
    // Live calls: within what an admin allows.
    let hours = json!({"startAt": "00:00", "endAt": "00:00"});
    let put = async |most: Value| {
        sent(
            "PUT",
            "users/ann/settings",
            json!({"timeZone": "Etc/UTC", "callingHours": hours, "maxConcurrentCalls": most}),
        )
        .await
    };
    let live = async || service.get("/api/v1/users/ann").await.1["data"]["maxConcurrentCalls"].clone();
    assert_eq!(put(json!(100_000)).await.0, 400, "more than there are");
    assert_eq!(put(Value::Null).await.0, 200);
    for (allowed, wanted, status, becomes) in [
        (json!(5), json!(6), 400, json!(5)),
        (json!(5), json!(4), 200, json!(4)),
        (json!(3), json!(3), 200, json!(3)),
        (json!(7), Value::Null, 200, json!(7)),
        (json!(9), json!(10), 400, json!(9)),
        (Value::Null, json!(10), 200, json!(10)),
    ] {
        assert_eq!(service.patch("/api/v1/users/ann", json!({"maxConcurrentCallsAllowed": allowed})).await.0, 200);
        let (answered, body) = put(wanted).await;
        assert_eq!(answered, status, "{body}");
        assert_eq!(live().await, becomes);
    }
    service.finish().await;
}
