//! The doors hold: whoever sends half a request, reads nothing, sends too much or asks for too much takes his own share and no more,
//! and everybody else is served meanwhile.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use outdial::domain::ids::OPERATOR;
use outdial::service::Role;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Folder, Process, TestDb, TestService, answer, buffers_of, client, free_port, pairs};

const CALL_LIST: &str = include_str!("../../sql/store/call_list.sql");
const CALL_COUNT: &str = include_str!("../../sql/store/call_count.sql");

/// So long a deadline of the service may be late on a busy machine.
const LATE: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;

/// Quick deadlines.
const QUICK: [(&str, &str); 3] = [
    ("OUTDIAL_SERVER__HEADER_TIMEOUT_SECS", "2"),
    ("OUTDIAL_SERVER__IDLE_TIMEOUT_SECS", "2"),
    ("OUTDIAL_SERVER__BODY_TIMEOUT_SECS", "2"),
];

async fn send(port: u16, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connect");
    stream.write_all(text.as_bytes()).await.expect("write");
    stream
}

/// All that comes until the service closes the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let read = tokio::time::timeout(LATE, async {
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return,
                Ok(n) => text.extend_from_slice(&piece[..n]),
            }
        }
    });
    read.await.expect("the service closes the connection");
    String::from_utf8_lossy(&text).into_owned()
}

fn port_of(service: &TestService) -> u16 {
    service.base.rsplit_once(':').unwrap().1.parse().unwrap()
}

const HALF_HEAD: &str = "GET /api/v1/calls HTTP/1.1\r\nHost: localhost\r\nX-Slow: ";
const HALF_BODY: &str = "POST /api/v1/calls HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"to\":";

/// 300 clients send half a head, or nothing; others are answered meanwhile, and those 300 are shown out.
#[tokio::test(flavor = "multi_thread")]
async fn half_sent_heads_are_closed() {
    let service = TestService::start(&QUICK).await;
    let mut streams = Vec::new();
    for nth in 0..300 {
        streams.push(send(port_of(&service), if nth % 3 == 0 { "" } else { HALF_HEAD }).await);
    }
    for _ in 0..5 {
        assert_eq!(service.get("/health").await.0, 200);
        assert_eq!(service.get("/api/v1/calls").await.0, 200);
    }
    for mut stream in streams {
        assert_eq!(rest(&mut stream).await, "");
    }
    // A connection that was used and is used no more goes the same way.
    let mut idle = send(port_of(&service), "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(rest(&mut idle).await.ends_with("ok"));
    service.finish().await;
}

/// A body that stops, and one that comes byte by byte, are answered 408; so is a file.
#[tokio::test(flavor = "multi_thread")]
async fn half_sent_bodies_are_answered() {
    let service = TestService::start(&QUICK).await;
    let (_, campaign) = service.post("/api/v1/campaigns", json!({"name": "c", "scriptId": "s", "paused": true})).await;
    let campaign = campaign["data"]["id"].as_str().expect("an id");
    let file = format!(
        "POST /api/v1/campaigns/{campaign}/phone-numbers HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nnumber\n\r\n"
    );
    for half in [HALF_BODY, &file, &HALF_BODY.replace("/calls", "/calls/batch").replace(" 100", " 60000000")] {
        let mut stream = send(port_of(&service), half).await;
        let told = rest(&mut stream).await;
        assert!(told.starts_with("HTTP/1.1 408") && told.contains("\"request_timeout\""), "{half} {told}");
    }
    let (mut reading, mut writing) = send(port_of(&service), HALF_BODY).await.into_split();
    let dripping = tokio::spawn(async move {
        for _ in 0..90 {
            if writing.write_all(b" ").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut told = [0; 12];
    tokio::time::timeout(LATE, reading.read_exact(&mut told)).await.expect("it ends").expect("an answer");
    assert_eq!(&told, b"HTTP/1.1 408");
    dripping.abort();
    service.finish().await;
}

/// An answer that is not read is given up, and with it the turn it holds: the user's other reads go on.
#[tokio::test(flavor = "multi_thread")]
async fn answers_nobody_reads_are_given_up() {
    let test_db = TestDb::new().await;
    test_db
        .run(
            "insert into calls (id, user_id, lane_id, state, due_at, ended_at, phone, script_id, dials_max)
             select uuid_v7(), id, id, 'failed', now(), now(), '+1' || (2000000000 + g), repeat('s', 20000), 3
             from generate_series(1, 500) g, (select id from users order by id limit 1) u",
        )
        .await;
    let service = TestService::start_on(test_db, Role::Api, &QUICK).await;
    let mut deaf = Vec::new();
    for _ in 0..3 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small buffer");
        let address = format!("127.0.0.1:{}", port_of(&service)).parse().expect("an address");
        let mut stream = socket.connect(address).await.expect("connect");
        stream.write_all(b"GET /api/v1/calls?limit=100 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.expect("it begins");
        assert_eq!(&start, b"HTTP/1.1 200");
        deaf.push(stream);
    }
    let deadline = Instant::now() + LATE;
    while service.get("/api/v1/calls?limit=1").await.0 != 200 {
        assert!(Instant::now() < deadline, "the turns never came back");
    }
    for mut stream in deaf {
        // 5 MB, had it been sent to the end.
        let came = tokio::time::timeout(LATE, async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            rest(&mut stream).await.len()
        });
        let came = came.await.expect("closed");
        assert!(came < 4_900_000, "{came}");
    }
    // They were made past every count.
    service.test_db.run("truncate calls cascade").await;
    service.finish().await;
}

/// What is answered is in memory until it is read: while clients take their time over much, reads wait for room, writes and health go on,
/// and a client that takes next to nothing is given up.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_fill_no_memory() {
    let test_db = TestDb::new().await;
    test_db
        .run(
            "insert into calls (id, user_id, lane_id, state, due_at, ended_at, phone, script_id, dials_max, metadata)
             select uuid_v7(), id, id, 'failed', now(), now(), '+1' || (2000000000 + g), repeat('s', 20000), 3, jsonb_build_object('m', repeat('m', 40000))
             from generate_series(1, 500) g, (select id from users order by id limit 1) u",
        )
        .await;
    let tight =
        [QUICK[0], ("OUTDIAL_SERVER__ANSWERS_BYTES_MAX", "1000000"), ("OUTDIAL_SERVER__BODY_TIMEOUT_SECS", "8")];
    let service = TestService::start_on(test_db, Role::Api, &tight).await;
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    let address = format!("127.0.0.1:{}", port_of(&service)).parse().expect("an address");
    let mut slow = socket.connect(address).await.expect("connect");
    slow.write_all(b"GET /api/v1/calls?limit=100 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("write");
    let mut start = [0; 12];
    slow.read_exact(&mut start).await.expect("it begins");
    let (status, problem) = service.get("/api/v1/calls?limit=1").await;
    assert_eq!((status, problem["code"].as_str()), (503, Some("overloaded")), "{problem}");
    assert_eq!(service.get("/health").await.0, 200);
    assert_eq!(service.post("/api/v1/calls", json!({"to": "+14155550199", "scriptId": "s"})).await.0, 201);
    // A little, again and again: no pause is too long. What the sockets hold already is sent even after it was given up.
    let reading = tokio::spawn(async move {
        let mut piece = [0; 2048];
        while matches!(slow.read(&mut piece).await, Ok(1..)) {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let deadline = Instant::now() + LATE;
    while service.get("/api/v1/calls?limit=1").await.0 != 200 {
        assert!(Instant::now() < deadline, "the room never came back");
    }
    reading.abort();
    service.test_db.run("truncate calls, tallies, tally_deltas cascade").await;
    service.finish().await;
}

/// A process that may open 256 files is met by 320 half-sent requests: it still dials, and answers.
#[tokio::test(flavor = "multi_thread")]
async fn few_descriptors_are_enough() {
    let (test_db, folder) = (TestDb::new().await, Folder::new("few"));
    let mut settings = pairs(&[("OUTDIAL_SIMULATOR__SPEED", "100"), ("OUTDIAL_LOG__FORMAT", "json")]);
    settings.push(("DATABASE_URL".to_owned(), test_db.url()));
    let mut process = limited(&folder, &settings, "ulimit -n 256");
    let client = client();
    assert!(process.wait_until_up(&client).await);
    let mut streams = Vec::new();
    for nth in 0..320 {
        // Some beyond the backlog are never taken in; they hold nothing.
        let half = if nth % 2 == 0 { HALF_HEAD } else { HALF_BODY };
        if let Ok(stream) = tokio::time::timeout(Duration::from_secs(5), send(process.port, half)).await {
            streams.push(stream);
        }
    }
    assert!(streams.len() >= 200, "{}", streams.len());
    let body = json!({"to": "+14155550142", "scriptId": "s", "ignoreWindow": true});
    let id = patiently(async || {
        let sent = client.post(format!("{}/api/v1/calls", process.base())).json(&body).send().await.ok()?;
        Some(sent.json::<Value>().await.ok()?["data"]["id"].as_str()?.to_owned())
    })
    .await;
    patiently(async || {
        let sent = client.get(format!("{}/api/v1/calls/{id}", process.base())).send().await.ok()?;
        let call: Value = sent.json().await.ok()?;
        (call["data"]["attempts"].as_i64()? >= 1).then_some(())
    })
    .await;
    // A connection on which nothing is under way may have made room for others.
    let health = patiently(async || Some(client.get(format!("{}/health", process.base())).send().await.ok()?.status()));
    assert_eq!(health.await, 200);
    drop(streams);
    assert!(!process.has_ended());
}

/// Tries until there is something.
async fn patiently<T>(attempt: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A process under a limit of the shell.
fn limited(folder: &Folder, settings: &[(String, String)], limit: &str) -> Process {
    let port = free_port();
    let log = folder.0.join("log");
    let file = std::fs::File::create(&log).expect("a log");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limit}; exec \"$0\""), env!("CARGO_BIN_EXE_outdial")]);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PORT", port.to_string());
    command.env("SERVICE_URL", format!("http://127.0.0.1:{port}")).envs(settings.iter().cloned());
    command.current_dir("/").stdin(Stdio::null()).stderr(file.try_clone().expect("a log")).stdout(file);
    Process::of(command.process_group(0).spawn().expect("it starts"), port, &log)
}

/// Clients that never finish do not keep the service from ending: half a head, half a body, an answer not read, a connection kept.
#[tokio::test(flavor = "multi_thread")]
async fn it_stops_whatever_clients_do() {
    let service = TestService::start(&[("OUTDIAL_SERVER__DRAIN_SECS", "1")]).await;
    let port = port_of(&service);
    let mut streams = Vec::new();
    for half in ["", HALF_HEAD, HALF_BODY, "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"] {
        for _ in 0..10 {
            streams.push(send(port, half).await);
        }
    }
    assert_eq!(service.get("/health").await.0, 200);
    // Beyond drain_secs the service waits 5 s for its parts and then drops them: that was how it used to get rid of such clients.
    tokio::time::timeout(Duration::from_secs(6), service.finish()).await.expect("it ends by itself");
}

/// Memory of a process at its highest.
fn peak_of(process: &Process) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).expect("a live process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") * 1024
}

/// Bodies of any shape take a few times their bytes at the most, two at once as well, and nobody waits for them to be parsed.
#[tokio::test(flavor = "multi_thread")]
async fn bodies_take_what_they_weigh() {
    let (test_db, folder) = (TestDb::new().await, Folder::new("bodies"));
    let settings = [("DATABASE_URL".to_owned(), test_db.url())];
    let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().expect("a client");
    let _ = crate::support::client();
    let filled = |head: &str, row: &str, bytes: usize, tail: &str| {
        let mut text = String::with_capacity(bytes + 100);
        text.push_str(head);
        while text.len() < bytes {
            text.push_str(row);
        }
        text.truncate(text.len() - 1);
        text.push_str(tail);
        text
    };
    let batch = "/api/v1/calls/batch";
    let shapes: Vec<(&str, String, u16, &str)> = vec![
        ("batch", filled("{\"calls\":[", "{\"\":0},", 32 * MIB, "]}"), 400, "10000 rows"),
        ("batch", filled("{\"calls\":[", "[", 32 * MIB, ""), 400, "not JSON"),
        ("batch", format!("{{\"calls\":[{}]}}", vec!["{}"; 10_001].join(",")), 400, "10000 rows"),
        ("batch", filled("{\"calls\":[{\"metadata\":[", "0,", 30 * MIB, "]}]}"), 201, "too_large"),
        (
            "batch",
            filled("{\"calls\":[{\"to\":\"+14155550100\",\"scriptId\":\"", "xxxxxxxx", 30 * MIB, "\"}]}"),
            201,
            "too_large",
        ),
        (
            "batch",
            filled(
                "{\"calls\":[",
                "\"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\",",
                800_000,
                "]}",
            ),
            201,
            "invalid type",
        ),
        ("numbers", filled("{\"numbers\":[", "{},", 32 * MIB, "]}"), 400, "10000 rows"),
        ("numbers", filled("[", "{},", 32 * MIB, "]"), 413, "too_large"),
        ("prospects", filled("[", "{},", 32 * MIB, "]"), 400, "too many small values"),
        (
            "prospects",
            filled("{\"phone\":\"+14155550100\",\"variables\":{\"a\":[", "{\"\":0},", 16 * MIB, "]}}"),
            400,
            "too many small values",
        ),
    ];
    for (path, body, status, says) in shapes {
        let mut process = Process::start(&folder.0.join("log"), &settings);
        assert!(process.wait_until_up(&client).await);
        let base = process.base();
        let (_, campaign) = answer(
            client
                .post(format!("{base}/api/v1/campaigns"))
                .json(&json!({"name": "c", "scriptId": "s", "paused": true})),
        )
        .await;
        let path = match path {
            "numbers" => format!("/api/v1/campaigns/{}/phone-numbers", campaign["data"]["id"].as_str().expect("an id")),
            "prospects" => format!("/api/v1/users/{OPERATOR}/prospects"),
            _ => batch.to_owned(),
        };
        let before = peak_of(&process);
        let size = body.len();
        let send = async |body: String| {
            // Where the machine is slow the second of two waits longer for room than it may, and comes again.
            let (found, text) = patiently(async || {
                let request = client.post(format!("{base}{path}")).header("Content-Type", "application/json");
                let response = request.body(body.clone()).send().await.expect("an answer");
                let (found, text) = (response.status().as_u16(), response.text().await.expect("a text"));
                (found != 429).then_some((found, text))
            })
            .await;
            let start: String = text.chars().take(300).collect();
            assert!(found == status && text.contains(says), "{path} {size}: {found} {start}");
        };
        let done = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&done);
        let asking = {
            let (client, base) = (client.clone(), base.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let request = client.get(format!("{base}/health")).timeout(Duration::from_secs(10));
                    assert_eq!(request.send().await.expect("/health answers").status(), 200);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
        };
        tokio::join!(send(body.clone()), send(body));
        done.store(true, Ordering::Relaxed);
        asking.await.expect("answered all the while");
        let grew = peak_of(&process).saturating_sub(before);
        println!("{path} {size}: grew {} MiB", grew / MIB);
        // Beside the bodies, the verdicts of two times 10,000 rows, and what the allocator holds ready.
        assert!(grew <= 2 * 4 * size + 32 * MIB, "{path}: two bodies of {size} bytes took {grew}");
    }
}

/// Rows are parsed one by one: one that is nested too deep, one that is too large and one with half a character spoil no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_row_is_refused_alone() {
    let service = TestService::start(&[("OUTDIAL_SERVER__BODY_BYTES_MAX", "200000")]).await;
    let deep = format!(
        "{{\"to\":\"+14155550100\",\"scriptId\":\"s\",\"metadata\":{}{}}}",
        "{\"a\":".repeat(200),
        "0".to_owned() + &"}".repeat(200)
    );
    let large = format!("{{\"to\":\"+14155550100\",\"scriptId\":\"{}\"}}", "x".repeat(200_000));
    let good = "{\"to\":\"+14155550142\",\"scriptId\":\"s\"}";
    let rows = [&deep, &large, "{\"to\":\"\\ud800\"}", "{\"to\":1}", "\"text\"", good].join(",");
    let request = |body: String| {
        service
            .client
            .post(format!("{}/api/v1/calls/batch", service.base))
            .header("Content-Type", "application/json")
            .body(body)
    };
    let (status, body) = answer(request(format!("{{\"calls\":[{rows}]}}"))).await;
    assert_eq!(status, 201, "{body}");
    let told: Vec<String> = body["data"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let reason = row["reason"].as_str().unwrap_or("accepted");
            format!("{} {}", row["code"].as_str().unwrap_or("-"), reason.chars().take(60).collect::<String>())
        })
        .collect();
    assert_eq!(
        told,
        [
            "invalid_request metadata.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a",
            "too_large a row may have at most 200000 bytes",
            "invalid_request body: is not JSON: unexpected end of hex escape at line 1 co",
            "invalid_request to: invalid type: integer `1`, expected a string",
            "invalid_request : invalid type: string \"text\", expected struct CallInput",
            "- accepted",
        ]
    );
    service.finish().await;
}

/// Sixty clients of one user list what is slow to list: another user and /health are answered at once, and the user's own wait their
/// turn or are told to come again.
#[tokio::test(flavor = "multi_thread")]
async fn one_users_lists_are_not_everybodys() {
    let test_db = TestDb::new().await;
    let service = TestService::start_on(test_db, Role::Api, &[("OUTDIAL_AUTH__ADMIN_KEY", "admin-of-this-test")]).await;
    let with = |key: &str, path: &str| {
        service.client.get(format!("{}{path}", service.base)).header("X-API-Key", key.to_owned())
    };
    let mut keys = Vec::new();
    for name in ["greedy", "other"] {
        let (_, user) = service.post("/api/v1/users", json!({"name": name, "externalId": name})).await;
        assert!(user["data"]["id"].is_string(), "{user}");
        let (_, key) = service.post(&format!("/api/v1/users/{name}/keys"), json!({"name": "k"})).await;
        keys.push(key["data"]["key"].as_str().unwrap_or_else(|| panic!("{key}")).to_owned());
    }
    // Every list waits for this lock: as slow as a list can be.
    let mut lock = PgConnection::connect_with(&service.test_db.options).await.expect("connect");
    // Of its own: a transaction sees others' activity as it was at first.
    let mut watcher = PgConnection::connect_with(&service.test_db.options).await.expect("connect");
    lock.execute("begin; lock table calls in access exclusive mode").await.expect("lock");
    let greedy: Vec<_> = (0..60).map(|_| tokio::spawn(answer(with(&keys[0], "/api/v1/calls?status=FAILED")))).collect();
    // They have all the connections one user gets, and stay.
    let deadline = Instant::now() + LATE;
    while waiting(&mut watcher).await < 2 {
        assert!(Instant::now() < deadline, "the lists never came");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..10 {
        assert_eq!(answer(with(&keys[1], "/api/v1/campaigns")).await.0, 200);
        assert_eq!(answer(with("admin-of-this-test", "/api/v1/users")).await.0, 200);
        assert_eq!(service.get("/health").await.0, 200);
    }
    assert_eq!(waiting(&mut watcher).await, 2);
    // Until some have been told to come again.
    while greedy.iter().filter(|one| one.is_finished()).count() < 50 {
        assert!(Instant::now() < deadline + LATE, "nobody is told to come again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    lock.execute("rollback").await.expect("unlock");
    let mut told = std::collections::BTreeMap::new();
    for one in greedy {
        *told.entry(one.await.expect("no panic").0).or_insert(0) += 1;
    }
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), [200, 429], "{told:?}");
    service.finish().await;
}

/// Statements of the service that wait for a lock.
async fn waiting(connection: &mut PgConnection) -> i64 {
    let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
    sqlx::query_scalar(sql).fetch_one(connection).await.expect("a count")
}

/// Lists by status read what they show, counts what they count, whatever else the table holds: among 200,000 calls those of one
/// user that failed are the oldest thousand, and a thousand of another's wait behind all that ended.
#[tokio::test(flavor = "multi_thread")]
async fn lists_read_what_they_show() {
    let test_db = TestDb::new().await;
    let (a, b) = ("aaaaaaaa-0000-7000-8000-000000000001", "aaaaaaaa-0000-7000-8000-000000000002");
    let fill = format!(
        "insert into users (id, name) values ('{a}', 'a'), ('{b}', 'b');
         set session_replication_role = replica;
         -- Flushed, or the vacuum cannot tell that it is committed.
         set synchronous_commit = on;
         insert into calls (id, user_id, lane_id, state, due_at, ended_at, phone, script_id, dials_max)
         select (substr(ops.uuid_floor(now() - make_interval(secs => (200000 - g) * 3))::text, 1, 19) || substr(gen_random_uuid()::text, 20))::uuid,
           u, u, s, now(), case when s not in ('waiting') then now() end, '+1' || (2000000000 + g), 's', 3
         from (select g, case g % 2 when 0 then '{a}' else '{b}' end::uuid as u,
                 case when g % 2 = 0 and g % 10 = 0 then 'failed' when g % 2 = 1 and g < 2000 then 'failed'
                      when g % 2 = 1 and g between 2000 and 4000 then 'waiting' when g % 2 = 0 and g > 150000 then 'waiting'
                      else 'completed' end::call_state as s
               from generate_series(1, 200000) g) rows;
         reset session_replication_role;
         vacuum analyze calls;"
    );
    let mut filling = PgConnection::connect_with(&test_db.options).await.expect("connect");
    for statement in fill.split(';').filter(|statement| !statement.trim().is_empty()) {
        filling.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))).await.expect("fill");
    }
    // Whatever kept some pages from being marked when it passed is over soon.
    let marked = "select (relallvisible >= relpages)::int from pg_class where relname = 'calls' and relkind = 'r'";
    while test_db.count(marked).await == 0 {
        filling.execute("vacuum analyze calls").await.expect("vacuum");
    }
    // On the service's own connection, by its own settings.
    let mut connection = test_db.db.read.acquire().await.expect("a connection");
    for (name, types, sql) in [
        ("page", "(uuid, text, text, uuid, timestamptz, timestamptz, uuid, bigint, bigint)", CALL_LIST),
        ("total", "(uuid, text, text, uuid, timestamptz, timestamptz, bigint)", CALL_COUNT),
    ] {
        let prepare = format!("prepare {name}{types} as {sql}");
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(prepare))).await.expect(name);
    }
    let (a, b) = (format!("'{a}'"), format!("'{b}'"));
    // Thousands of index entries are dozens of buffers; of the rows themselves, one buffer holds a few.
    for (who, status, counted) in [
        ("null", "FAILED", 400),
        (&a, "FAILED", 400),
        (&b, "FAILED", 100),
        ("null", "EXPIRED", 30),
        (&b, "EXPIRED", 30),
        (&b, "PENDING", 100),
        ("null", "COMPLETED", 1500),
    ] {
        for (execute, most) in [
            (format!("execute page({who}, '{status}', null, null, now() - interval '1 year', null, null, 11, 0)"), 150),
            (format!("execute total({who}, '{status}', null, null, now() - interval '1 year', null, 100000)"), counted),
        ] {
            // Often enough for a plan for all values to be turned to.
            for _ in 0..6 {
                connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(execute.clone()))).await.expect("a page");
            }
            let touched = buffers_of(&mut connection, &execute).await;
            println!("{touched} {execute}");
            assert!(touched <= most, "{execute} touches {touched} buffers");
        }
    }
}
