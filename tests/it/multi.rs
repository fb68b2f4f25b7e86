//! Several processes on one Postgres: the limits are exact over all of them, by the provider's own account.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::fake_provider::{FakeProvider, Manners};
use crate::support::{Folder, Process, TestDb, answer, client, pairs};

const CALLS: usize = 400;
const NUMBERS: usize = 60;
const LIMIT: usize = 10;

/// Three processes, 400 calls over 60 numbers, limit 10: never more than 10 at once, never two to one number, slots kept busy,
/// every call dialed once.
#[tokio::test(flavor = "multi_thread")]
async fn three_processes_share_the_limits() {
    let test_db = TestDb::new().await;
    let provider =
        FakeProvider::start(Manners { seed: 1, lasts_ms: (100, 150), answers_lost: 0, webhooks_doubled: 0 }).await;
    let folder = Folder::new("multi");
    let mut settings = provider.settings();
    settings.extend(pairs(&[("MAX_CONCURRENT_CALLS", "10"), ("OUTDIAL_EXECUTOR__POLL_MS", "200")]));
    settings.push(("DATABASE_URL".to_owned(), test_db.url()));
    let client = client();
    let mut processes: Vec<Process> =
        (0..3).map(|nth| Process::start(&folder.0.join(format!("{nth}.log")), &settings)).collect();
    for process in &mut processes {
        assert!(process.wait_until_up(&client).await, "a process ended");
    }
    // As behind a balancer: any process hears of any call.
    *provider.reports_to.lock().expect("no panic while held") = processes.iter().map(|process| process.port).collect();
    let calls: Vec<_> = (0..CALLS)
        .map(|nth| json!({"to": format!("+1415555{:04}", nth % NUMBERS), "scriptId": "s", "metadata": {"n": nth}}))
        .collect();
    let began = Instant::now();
    let (status, body) =
        answer(client.post(format!("{}/api/v1/calls/batch", processes[0].base())).json(&json!({"calls": calls}))).await;
    assert_eq!((status, body["data"]["accepted"].as_u64()), (201, Some(400)), "{body}");
    let deadline = Instant::now() + Duration::from_secs(60);
    while test_db.count("select count(*) from calls where state = 'completed'").await < i64::try_from(CALLS).unwrap() {
        assert!(Instant::now() < deadline, "not done in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let took = began.elapsed();
    for process in &mut processes {
        process.kill();
    }
    let account = provider.account();
    assert!(account.live_max <= LIMIT, "{} live at once", account.live_max);
    assert_eq!(account.live_max, LIMIT, "the slots were never all used");
    assert_eq!(account.overlaps, 0, "two calls to one number at once");
    let mut dialed: HashMap<u64, u32> = HashMap::new();
    for call in &account.calls {
        *dialed.entry(call.metadata["n"].as_u64().expect("n")).or_default() += 1;
    }
    assert_eq!(dialed.len(), CALLS);
    assert!(dialed.values().all(|times| *times == 1), "a call was dialed more than once");
    // Ten slots, 125 ms a call: 5 s if no slot ever idled. Three times that is idling.
    let busy: Duration = account.calls.iter().filter_map(|call| Some(call.ended? - call.began)).sum();
    let used = busy.as_secs_f64() / (took.as_secs_f64() * 10.0);
    assert!(used > 0.3, "slots were used {used:.2} of the time");
    drop(account);
    let dialers = test_db.count("select count(distinct instance_id) from attempts").await;
    assert_eq!(dialers, 3, "every process dialed");
    test_db.assert_sound().await;
}
