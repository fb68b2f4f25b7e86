//! Tenants are strangers: nothing of one can be read, changed or guessed with another's key; and users are told of their own alone.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use chrono::{TimeDelta, Utc};
use outdial::api::scopes::{self, Scope};
use outdial::notifier;
use outdial::service::Role;
use serde_json::{Value, json};

use crate::support::{ANY_HOUR, TestDb, TestService, answer};

async fn service(pairs: &[(&str, &str)]) -> TestService {
    let test_db = TestDb::new().await;
    test_db.run(ANY_HOUR).await;
    TestService::start_on(test_db, Role::All, pairs).await
}

/// Everything a user may own, and the ids it has.
struct Tenant {
    key: String,
    /// Paths of things of theirs, as the document has them, and the ids to fill in.
    things: Vec<(&'static str, Vec<String>)>,
    /// Nothing of this may be seen by others.
    secrets: Vec<String>,
}

async fn tenant(service: &TestService, name: &str, digit: usize) -> Tenant {
    let id = |body: &Value| body["data"]["id"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned();
    let (_, user) = service
        .post(
            "/api/v1/users",
            json!({"name": format!("name of {name}"), "externalId": name, "email": format!("{name}@example.com")}),
        )
        .await;
    let user = id(&user);
    let numbers: Vec<String> = (0..6).map(|nth| format!("+1415555{digit}{nth:03}")).collect();
    let hours = json!([{"days": ["mon"], "opens": "09:00", "closes": "17:00"}]);
    let create = async |path: &str, mut body: Value| {
        body["userId"] = json!(name);
        let (status, body) = service.post(&format!("/api/v1/{path}"), body).await;
        assert_eq!(status, 201, "{path} {body}");
        id(&body)
    };
    let call = create("calls", json!({"to": numbers[0], "scriptId": format!("script of {name}"), "externalId": format!("call-{name}"), "scheduledAt": chrono::Utc::now() + chrono::TimeDelta::hours(9)})).await;
    let schedule = create("schedules", json!({"name": format!("schedule of {name}"), "externalId": format!("sched-{name}"), "timeZone": "Etc/UTC", "hours": hours})).await;
    let campaign = create("campaigns", json!({"name": format!("campaign of {name}"), "externalId": format!("camp-{name}"), "scriptId": "s", "paused": true})).await;
    let script =
        create("scripts", json!({"externalId": format!("script-{name}"), "prompt": format!("the prompt of {name}")}))
            .await;
    let number = create("phone-numbers", json!({"number": numbers[1], "externalId": format!("num-{name}")})).await;
    let own = async |path: &str, body: Value| {
        let (status, body) = service.post(&format!("/api/v1/users/{name}/{path}"), body).await;
        assert!(status == 201, "{path} {body}");
        body
    };
    let prospect = id(&own(
        "prospects",
        json!({"name": format!("prospect of {name}"), "phone": numbers[2], "externalId": format!("pros-{name}")}),
    )
    .await);
    own("suppressions", json!({"number": numbers[3]})).await;
    let endpoint = id(&own("webhook-endpoints", json!({"url": format!("https://{name}.example.com/hook")})).await);
    let key =
        own("keys", json!({"name": format!("key of {name}"), "scopes": ["read", "write", "dial", "admin"]})).await;
    let upload = service.upload(&campaign, &format!("number\n{}\n", numbers[4])).await;
    // A conversation that has ended.
    let dialed = create("calls", json!({"to": numbers[5], "scriptId": format!("other script of {name}")})).await;
    let talked = service.wait_for_status(&dialed, "COMPLETED").await;
    let conversation = talked["conversations"][0]["conversationId"].as_str().unwrap().to_owned();
    let settings = json!({"timeZone": "America/New_York", "callingHours": {"startAt": "09:00", "endAt": "17:00"}, "script": {"initial": format!("hello from {name}")}});
    let put = service.client.put(format!("{}/api/v1/users/{name}/settings", service.base)).json(&settings);
    assert_eq!(answer(put).await.0, 200);
    let key_id = id(&key);
    let mut secrets = vec![
        user.clone(),
        call.clone(),
        schedule.clone(),
        campaign.clone(),
        number.clone(),
        script.clone(),
        prospect.clone(),
        endpoint.clone(),
        conversation.clone(),
    ];
    secrets.extend(numbers.clone());
    secrets.extend([format!("of {name}"), format!("from {name}"), format!("{name}.example.com")]);
    let upload = upload["id"].as_str().unwrap().to_owned();
    let delivery = "00000000-0000-7000-8000-0000000000dd".to_owned();
    Tenant {
        key: key["data"]["key"].as_str().unwrap().to_owned(),
        things: vec![
            ("/users/{id}/suppressions/{number}", vec![user.clone(), numbers[3].replace('+', "%2B")]),
            ("/users/{id}/prospects/{prospect}", vec![user.clone(), prospect.clone()]),
            ("/users/{id}/prospects/{prospect}", vec![name.to_owned(), format!("pros-{name}")]),
            ("/users/{id}/webhook-endpoints/{endpoint}", vec![user.clone(), endpoint.clone(), delivery]),
            ("/users/{id}/keys/{key}", vec![user.clone(), key_id.clone()]),
            ("/keys/{key}", vec![key_id]),
            ("/users/{id}", vec![user]),
            ("/users/{id}", vec![name.to_owned()]),
            ("/calls/{id}", vec![call]),
            ("/calls/{id}", vec![dialed]),
            ("/calls/{id}", vec![format!("call-{name}")]),
            ("/schedules/{id}", vec![schedule]),
            ("/schedules/{id}", vec![format!("sched-{name}")]),
            ("/campaigns/{id}", vec![campaign]),
            ("/campaigns/{id}", vec![format!("camp-{name}")]),
            ("/scripts/{id}", vec![script]),
            ("/scripts/{id}", vec![format!("script-{name}")]),
            ("/phone-numbers/{id}", vec![number]),
            ("/phone-numbers/{id}", vec![format!("num-{name}")]),
            ("/uploads/{id}", vec![upload]),
            ("/conversations/{id}", vec![conversation]),
            ("/suppressions/{number}", vec![numbers[3].replace('+', "%2B")]),
            ("/legal-hours/{area}", vec!["US".to_owned()]),
            ("/test-numbers/{number}", vec![numbers[3].replace('+', "%2B")]),
            ("/plans/{id}", vec!["plan".to_owned()]),
        ],
        secrets,
    }
}

/// Bodies that would be right if they came from the owner.
fn body_for(method: &str, path: &str) -> Option<Value> {
    let number = "+14155559999";
    Some(match (method, path.rsplit('/').next()?) {
        ("put", "settings") => json!({"timeZone": "Etc/UTC", "callingHours": {"startAt": "00:00", "endAt": "00:00"}}),
        ("put", "subscription") => json!({"planId": "plan"}),
        ("post", "prospects") => json!({"phone": number}),
        ("post", "suppressions" | "phone-numbers" | "test-numbers") => json!({"number": number}),
        ("post", "keys") => json!({}),
        ("post", "webhook-endpoints") => json!({"url": "https://thief.example.com/"}),
        ("post", "legal-hours") => {
            json!({"area": "US", "source": "s", "asOf": "2026-01-01", "hours": [{"days": ["mon"], "opens": "00:00", "closes": "00:00"}]})
        }
        ("patch", "{id}" | "{prospect}") if path.contains("calls") => json!({"priority": "high"}),
        ("patch", "{id}") if path.contains("scripts") => json!({"prompt": "stolen"}),
        ("patch", "{endpoint}") => json!({"disabled": true}),
        ("patch", _) => json!({"name": "stolen"}),
        _ => return None,
    })
}

/// The whole document, walked with another user's key over one user's things: nothing is told, nothing changes.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_user_is_reached_with_anothers_key() {
    let service =
        service(&[("OUTDIAL_SERVER__KEY_REQUESTS_PER_SECOND", "0"), ("OUTDIAL_NOTIFIER__TICK_MS", "600000")]).await;
    service.post("/api/v1/plans", json!({"name": "p", "externalId": "plan", "minutes": 10, "duration": 30})).await;
    let ann = tenant(&service, "ann", 1).await;
    let bob = tenant(&service, "bob", 2).await;
    let own = service.client.get(format!("{}/api/v1/calls/call-ann", service.base)).bearer_auth(&ann.key);
    assert_eq!(answer(own).await.0, 200, "her own key works");
    let before = everything_of(&service, "ann").await;
    let document: Value =
        service.client.get(format!("{}/api-docs.json", service.base)).send().await.unwrap().json().await.unwrap();
    let (mut tried, mut refused) = (0, 0);
    for (path, operations) in document["paths"].as_object().expect("paths") {
        let Some(short) = path.strip_prefix("/api/v1") else { continue };
        for method in operations.as_object().expect("operations").keys() {
            for url in urls_of(short, &ann) {
                let verb = method.to_uppercase().parse().expect("a method");
                let request =
                    service.client.request(verb, format!("{}/api/v1{url}", service.base)).bearer_auth(&bob.key);
                let request = match body_for(method, path) {
                    Some(body) => request.json(&body),
                    None => request,
                };
                let response = request.send().await.expect("an answer");
                let status = response.status().as_u16();
                let text = response.text().await.unwrap_or_default();
                tried += 1;
                refused += usize::from(status >= 400);
                assert!(status < 500, "{method} {url}: {status} {text}");
                let leaked = ann.secrets.iter().find(|secret| text.contains(secret.as_str()));
                assert!(leaked.is_none(), "{method} {url} tells {leaked:?}: {text}");
                // What names a thing of hers is not found; lists are empty of her.
                if short.contains('{') && !short.starts_with("/plans") && !short.starts_with("/legal-hours") {
                    assert!(matches!(status, 400 | 403 | 404 | 405 | 415), "{method} {url}: {status} {text}");
                }
            }
        }
    }
    // In her name.
    for (path, body) in [
        ("calls", json!({"to": "+14155559999", "scriptId": "s", "userId": "ann"})),
        ("campaigns", json!({"name": "c", "scriptId": "s", "userId": "ann"})),
        ("campaigns", json!({"name": "c", "scriptId": "s", "scheduleId": "sched-ann"})),
        (
            "schedules",
            json!({"name": "s", "timeZone": "Etc/UTC", "hours": [{"days": ["mon"], "opens": "09:00", "closes": "17:00"}], "userId": "ann"}),
        ),
        ("phone-numbers", json!({"number": "+14155559999", "userId": "ann"})),
        ("scripts", json!({"externalId": "x", "prompt": "p", "userId": "ann"})),
    ] {
        let request = service.client.post(format!("{}/api/v1/{path}", service.base)).bearer_auth(&bob.key).json(&body);
        assert_eq!(answer(request).await.0, 400, "{path}");
    }
    for path in ["users", "calls", "campaigns", "schedules", "phone-numbers", "scripts", "appointments"] {
        let request = service.client.get(format!("{}/api/v1/{path}?userId=ann", service.base)).bearer_auth(&bob.key);
        assert_eq!(answer(request).await.0, 400, "{path}");
    }
    println!("{tried} requests with another's key, {refused} refused");
    assert!(tried > 80 && refused > 60, "{tried} {refused}");
    assert_eq!(before, everything_of(&service, "ann").await, "something of hers has changed");
    service.finish().await;
}

/// The path with her ids filled in; each way she can be named.
fn urls_of(path: &str, tenant: &Tenant) -> Vec<String> {
    if !path.contains('{') {
        return vec![path.to_owned()];
    }
    let fits =
        tenant.things.iter().filter(|(prefix, ids)| path.starts_with(prefix) && path.matches('{').count() <= ids.len());
    let longest =
        fits.clone().map(|(prefix, _)| prefix.len()).max().unwrap_or_else(|| panic!("nothing of hers for {path}"));
    fits.filter(|(prefix, _)| prefix.len() == longest)
        .map(|(_, ids)| {
            let mut ids = ids.iter();
            path.split('/')
                .map(|part| if part.starts_with('{') { ids.next().expect("an id").clone() } else { part.to_owned() })
                .collect::<Vec<_>>()
                .join("/")
        })
        .collect()
}

/// All rows of a user, as text.
async fn everything_of(service: &TestService, name: &str) -> String {
    let sql = "with u as (select id from users where external_id = $1)
        select string_agg(row, E'\\n' order by row) from (
          select 'user ' || t::text as row from users t where id in (select id from u)
          union all select 'setting ' || t::text from user_settings t where user_id in (select id from u)
          union all select 'call ' || t::text from calls t where user_id in (select id from u)
          union all select 'campaign ' || t::text from campaigns t where user_id in (select id from u)
          union all select 'schedule ' || t::text from schedules t where user_id in (select id from u)
          union all select 'number ' || t::text from phone_numbers t where user_id in (select id from u)
          union all select 'suppression ' || t::text from suppressions t where user_id in (select id from u)
          union all select 'prospect ' || t::text from prospects t where user_id in (select id from u)
          union all select 'endpoint ' || t::text from webhook_endpoints t where user_id in (select id from u)
          union all select 'key ' || id::text from api_keys t where user_id in (select id from u)
        ) rows";
    sqlx::query_scalar(sql).bind(name).fetch_one(service.test_db.pool()).await.expect("rows")
}

/// Keys are made, work, are rotated and revoked; too many requests are told to wait; only hashes are kept.
#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go() {
    let service = service(&[("OUTDIAL_SERVER__KEY_REQUESTS_PER_SECOND", "5")]).await;
    service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await;
    let (status, first) =
        service.post("/api/v1/users/ann/keys", json!({"name": "old", "scopes": ["read", "admin"]})).await;
    assert_eq!(status, 201, "{first}");
    let first = first["data"].clone();
    let with = |key: &Value, path: &str| {
        service.client.get(format!("{}/api/v1{path}", service.base)).bearer_auth(key.as_str().unwrap())
    };
    assert_eq!(answer(with(&first["key"], "/users/ann")).await.0, 200);
    // Rotation by the user itself.
    let rotate = service
        .client
        .post(format!("{}/api/v1/users/ann/keys", service.base))
        .bearer_auth(first["key"].as_str().unwrap())
        .json(&json!({"scopes": ["read", "admin"]}));
    let (status, second) = answer(rotate).await;
    assert_eq!(status, 201, "{second}");
    let second = second["data"].clone();
    assert_eq!(service.delete(&format!("/api/v1/users/ann/keys/{}", first["id"].as_str().unwrap())).await, 204);
    assert_eq!(answer(with(&first["key"], "/users/ann")).await.0, 401);
    let (_, keys) = answer(with(&second["key"], "/users/ann/keys")).await;
    assert_eq!(keys["data"].as_array().unwrap().len(), 1, "{keys}");
    assert!(keys["data"][0]["lastUsedAt"].is_string());
    let kept: String = sqlx::query_scalar("select string_agg(t::text, ' ') from api_keys t")
        .fetch_one(service.test_db.pool())
        .await
        .expect("keys");
    assert!(!kept.contains(second["key"].as_str().unwrap()), "only the hash is kept");
    let mut slowed = 0;
    for _ in 0..30 {
        let response = with(&second["key"], "/users/ann").send().await.expect("an answer");
        if response.status() == 429 {
            slowed += 1;
            assert!(response.headers().contains_key("retry-after"));
        }
    }
    assert!((15..=25).contains(&slowed), "{slowed} of 30 were told to wait");
    service.finish().await;
}

type Heard = Arc<Mutex<Vec<(HeaderMap, Bytes)>>>;

/// An endpoint of a user: refuses as often as it is told to, and keeps what it was told.
async fn listen(refuse: usize) -> (String, Heard) {
    let heard = Heard::default();
    let (kept, refusals) = (Arc::clone(&heard), Arc::new(Mutex::new(refuse)));
    let router = axum::Router::new().route(
        "/hook",
        post(move |headers: HeaderMap, body: Bytes| {
            let (kept, refusals) = (Arc::clone(&kept), Arc::clone(&refusals));
            async move {
                kept.lock().expect("no panic").push((headers, body));
                let mut refusals = refusals.lock().expect("no panic");
                if *refusals > 0 {
                    *refusals -= 1;
                    return StatusCode::BAD_GATEWAY;
                }
                StatusCode::NO_CONTENT
            }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, heard)
}

/// What becomes of calls is told to the user's endpoint: signed, in order, again after a failure with the same id, replayed on
/// demand; what the endpoint never takes is given up after a day, and internal addresses are refused.
#[tokio::test(flavor = "multi_thread")]
async fn users_are_told_what_became_of_calls() {
    let service = service(&[
        ("OUTDIAL_NOTIFIER__ALLOW_INTERNAL", "true"),
        ("OUTDIAL_NOTIFIER__TICK_MS", "20"),
        ("OUTDIAL_SIMULATOR__SPEED", "0.01"),
    ])
    .await;
    service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await;
    let (url, heard) = listen(1).await;
    let (status, endpoint) = service.post("/api/v1/users/ann/webhook-endpoints", json!({"url": url})).await;
    assert_eq!(status, 201, "{endpoint}");
    let (secret, id) =
        (endpoint["data"]["secret"].as_str().unwrap().to_owned(), endpoint["data"]["id"].as_str().unwrap().to_owned());
    let (_, shown) = service.get(&format!("/api/v1/users/ann/webhook-endpoints/{id}")).await;
    assert!(shown["data"].get("secret").is_none(), "the secret is shown once");
    let (_, call) = service
        .post(
            "/api/v1/calls",
            json!({"to": "+14155550100", "scriptId": "s", "userId": "ann", "metadata": {"order": 7}}),
        )
        .await;
    let call = call["data"]["id"].as_str().unwrap().to_owned();
    let live = service
        .wait_until(&format!("/api/v1/calls/{call}"), |call| call["conversations"][0]["state"] == "ACCEPTED")
        .await;
    let conversation = live["conversations"][0]["conversationId"].clone();
    let booked = json!({"eventType": "call.completed", "conversationId": conversation, "duration": 61, "outcome": {"type": "APPOINTMENT_SET", "appointmentTime": "2030-01-01T10:00:00Z"}});
    for _ in 0..2 {
        assert_eq!(service.post("/webhooks/outcome", booked.clone()).await.0, 200);
    }
    let path = format!("/api/v1/users/ann/webhook-endpoints/{id}/deliveries");
    let wait = async |delivered: usize| {
        for _ in 0..500 {
            let (_, page) = service.get(&path).await;
            let rows = page["data"].as_array().unwrap().clone();
            if rows.len() >= 2 && rows.iter().filter(|row| row["state"] == "delivered").count() == delivered {
                return rows;
            }
            // The failed one is tried again after seconds; not in this test.
            service.test_db.run("update deliveries set due_at = clock() where state = 'waiting' and attempts > 0 and due_at > clock() + interval '40 seconds' is not true").await;
            service.test_db.run("update webhook_endpoints set retry_at = '-infinity' where retry_at < clock() + interval '10 seconds'").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not delivered: {}", service.get(&path).await.1);
    };
    let rows = wait(2).await;
    assert_eq!(rows.len(), 2, "an event told twice is one event: {rows:?}");
    let told = heard.lock().expect("no panic").clone();
    assert_eq!(told.len(), 3, "one was refused and came again");
    let text = |nth: usize, name: &str| told[nth].0[name].to_str().unwrap().to_owned();
    let ids: Vec<String> = (0..3).map(|nth| text(nth, "webhook-id")).collect();
    assert_eq!(ids[0], ids[1], "under the same id, before the next of this call");
    for (nth, (_, body)) in told.iter().enumerate() {
        let timestamp: i64 = text(nth, "webhook-timestamp").parse().expect("seconds");
        let expected = outdial::provider::signature::sign(&secret, &ids[nth], timestamp, body);
        assert_eq!(Some(text(nth, "webhook-signature")), expected);
    }
    let events: Vec<Value> = told.iter().skip(1).map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
    let mut types: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    types.sort_unstable();
    assert_eq!(types, ["appointment.created", "call.completed"]);
    let completed = events.iter().find(|event| event["type"] == "call.completed").unwrap();
    assert_eq!((&completed["data"]["callId"], &completed["data"]["metadata"]["order"]), (&json!(call), &json!(7)));
    // Again on demand, while the secret changes: for a time one signature by each, then by the new one alone.
    let delivery = rows[0]["id"].as_str().unwrap();
    let mut secrets = vec![secret];
    for (nth, overlap, signed_by) in [(4, None, 1), (5, Some(1), 2), (6, Some(0), 1), (7, Some(168), 2)] {
        if let Some(hours) = overlap {
            let rotate = format!("/api/v1/users/ann/webhook-endpoints/{id}/rotate-secret");
            let (status, rotated) = service.post(&rotate, json!({"overlapHours": hours})).await;
            assert_eq!(status, 200, "{rotated}");
            secrets.push(rotated["data"]["secret"].as_str().unwrap().to_owned());
            assert_eq!(rotated["data"]["previousSecretUntil"].is_string(), hours > 0, "{rotated}");
        }
        assert_eq!(service.post(&format!("{path}/{delivery}/replay"), json!({})).await.0, 202);
        for _ in 0..200 {
            if heard.lock().expect("no panic").len() == nth && wait(2).await.len() == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (headers, body) = heard.lock().expect("no panic").last().unwrap().clone();
        assert_eq!(headers["webhook-id"], delivery);
        let timestamp: i64 = headers["webhook-timestamp"].to_str().unwrap().parse().expect("seconds");
        let signatures: Vec<&str> = headers["webhook-signature"].to_str().unwrap().split(' ').collect();
        let expected: Vec<String> = secrets
            .iter()
            .rev()
            .take(signed_by)
            .map(|secret| outdial::provider::signature::sign(secret, delivery, timestamp, &body).expect("signed"))
            .collect();
        assert_eq!(signatures, expected);
    }
    // Given up after a day of failures.
    let settings = notifier::Settings {
        patience: Duration::from_secs(30),
        tick: Duration::from_secs(1),
        timeout: Duration::from_secs(2),
        in_flight: 4,
        in_flight_per_user: 4,
        disable_after_days: 3,
        allow_internal: false,
    };
    // First where nobody listens, then the deliveries: the service itself sends beside this test.
    service.test_db.run("update webhook_endpoints set url = 'http://127.0.0.1:1/hook'").await;
    service.test_db.run("update deliveries set state = 'waiting', ended_at = null, attempts = 9, due_at = clock() - interval '1 day'").await;
    let client = notifier::client(settings).expect("a client");
    for _ in 0..100 {
        notifier::send_due(service.test_db.pool(), &client, settings).await.expect("send");
        if service
            .test_db
            .count("select count(*) from deliveries where state = 'dead' and last_error is not null")
            .await
            == 2
        {
            break;
        }
        // The endpoint sleeps after the first, for seconds.
        service.test_db.run("update webhook_endpoints set retry_at = '-infinity'").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        service.test_db.count("select count(*) from deliveries where state = 'dead'").await,
        2,
        "dead, until replayed"
    );
    service.finish().await;
}

/// Without leave, no address of this machine or its network is registered.
#[tokio::test(flavor = "multi_thread")]
async fn internal_endpoints_are_refused() {
    let service = service(&[]).await;
    for url in [
        "https://127.0.0.1/x",
        "http://example.com/x",
        "https://10.0.0.1",
        "https://metadata.internal",
        "https://[::1]/",
        "nonsense",
    ] {
        let (status, body) = service.post("/api/v1/users/operator/webhook-endpoints", json!({"url": url})).await;
        assert!(status == 400 && body["errors"][0]["path"] == "url", "{url}: {body}");
    }
    let (status, body) = service
        .post(
            "/api/v1/users/operator/webhook-endpoints",
            json!({"url": "https://example.com", "events": ["call.exploded"]}),
        )
        .await;
    assert!(status == 400 && body["errors"][0]["path"] == "events", "{body}");
    service.finish().await;
}

/// A key ends with its user, with its time, and when it is revoked, an admin's as well. (The version before let a deleted user's key make
/// calls, and admin keys could be neither listed nor revoked.)
#[tokio::test(flavor = "multi_thread")]
async fn keys_end() {
    let service = service(&[]).await;
    service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await;
    let made = async |path: &str, body: Value| -> (String, String) {
        let (status, key) = service.post(path, body).await;
        assert_eq!(status, 201, "{key}");
        (key["data"]["id"].as_str().unwrap().to_owned(), key["data"]["key"].as_str().unwrap().to_owned())
    };
    let with = |key: &str, path: &str| service.client.get(format!("{}/api/v1{path}", service.base)).bearer_auth(key);
    let status = async |key: &str, path: &str| answer(with(key, path)).await.0;

    let soon = Utc::now() + TimeDelta::seconds(2);
    let (_, short) = made("/api/v1/users/ann/keys", json!({"expiresAt": soon})).await;
    assert_eq!(status(&short, "/calls").await, 200);
    let (refused, problem) = service.post("/api/v1/keys", json!({"expiresAt": "2020-01-01T00:00:00Z"})).await;
    assert_eq!((refused, &problem["errors"][0]["path"]), (400, &json!("expiresAt")));

    let (id, admin) = made("/api/v1/keys", json!({"name": "ops"})).await;
    let (_, other) = made("/api/v1/keys", json!({})).await;
    let (_, of_user) = made("/api/v1/users/ann/keys", json!({})).await;
    assert_eq!(status(&of_user, "/keys").await, 403);
    let (_, listed) = answer(with(&admin, "/keys")).await;
    let names: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["key", "ops"], "no user's among them");
    assert!(!listed.to_string().contains(&admin));
    let revoke = service.client.delete(format!("{}/api/v1/keys/{id}", service.base)).bearer_auth(&other);
    assert_eq!(answer(revoke).await.0, 204);
    assert_eq!((status(&admin, "/keys").await, status(&other, "/keys").await), (401, 200));

    assert_eq!(status(&of_user, "/calls").await, 200);
    assert_eq!(service.delete("/api/v1/users/ann").await, 204);
    assert_eq!(service.test_db.count("select count(*) from api_keys where user_id is not null").await, 0);
    let call = service.client.post(format!("{}/api/v1/calls", service.base)).bearer_auth(&of_user);
    assert_eq!(answer(call.json(&json!({"to": "+14155550100", "scriptId": "s"}))).await.0, 401);

    service.post("/api/v1/users", json!({"name": "Bob", "externalId": "bob"})).await;
    let (_, short) = made("/api/v1/users/bob/keys", json!({"expiresAt": Utc::now() + TimeDelta::seconds(1)})).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let response = with(&short, "/calls").send().await.expect("an answer");
    assert_eq!(response.status().as_u16(), 401);
    assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"outdial\"");
    service.finish().await;
}

/// Guesses cost no query each, and keep nobody waiting whose key is known; a key made elsewhere opens at once. (The version before asked
/// Postgres for each, 7,000 times a second.)
#[tokio::test(flavor = "multi_thread")]
async fn guesses_cost_no_queries() {
    let service = service(&[]).await;
    let get = |key: String| answer(service.client.get(format!("{}/api/v1/calls", service.base)).bearer_auth(key));
    let (_, known) = service.post("/api/v1/keys", json!({})).await;
    let known = known["data"]["key"].as_str().unwrap().to_owned();
    assert_eq!(get(known.clone()).await.0, 200);
    // What has read the table so far; told by each session when it has been idle for a second.
    let reads = "select coalesce(sum(seq_scan + idx_scan), 0) from pg_stat_user_tables where relname = 'api_keys'";
    let settled = async || {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        service.test_db.count("select 1 from (select pg_stat_clear_snapshot()) s").await;
        service.test_db.count(reads).await
    };
    let before = settled().await;
    let guesses = futures::future::join_all((0..300).map(|nth| get(format!("od_guess-{nth}"))));
    let (guessed, during) = tokio::join!(guesses, get(known.clone()));
    // Of one address so many a second are looked at; good keys from there are not held up.
    assert!(guessed.iter().all(|(status, _)| [401, 429].contains(status)));
    let refused = guessed.iter().filter(|(status, _)| *status == 429).count();
    assert!(refused >= 200, "{refused} of 300 were refused by the address");
    assert_eq!(during.0, 200);
    let after = settled().await;
    assert!(after - before <= 20, "{} reads of the table for 300 guesses", after - before);
    // Made by another process, and used at once.
    let key = outdial::store::keys::fresh();
    outdial::store::keys::create(
        service.test_db.pool(),
        None,
        "elsewhere",
        &key,
        &["read", "write", "dial", "admin"],
        None,
    )
    .await
    .expect("kept");
    assert_eq!(get(key).await.0, 200);
    service.finish().await;
}

/// Whatever is answered, a browser takes it for nothing else, and shows it in nobody's frame.
#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_browsers_what_they_are() {
    let service = service(&[]).await;
    for path in [
        "/health",
        "/api/v1/calls",
        "/api/v1/calls/none",
        "/nowhere",
        "/api-docs/",
        "/api-docs.json",
        "/metrics/prometheus",
    ] {
        let response = service.client.get(format!("{}{path}", service.base)).send().await.expect("an answer");
        let header =
            |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        assert_eq!((header("x-content-type-options"), header("x-frame-options")), ("nosniff", "DENY"), "{path}");
        let policy = header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
    }
    service.finish().await;
}

/// The document's operations that need a key, with the scope each needs.
fn operations() -> Vec<(reqwest::Method, String, Scope)> {
    let document = serde_json::to_value(outdial::api::document()).expect("the document");
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        if ["/health", "/webhooks", "/metrics"].iter().any(|open| path.starts_with(open)) || path.contains("callbacks")
        {
            continue;
        }
        for method in methods.as_object().expect("methods").keys() {
            let method: reqwest::Method = method.to_uppercase().parse().expect("a method");
            let scope = scopes::needed(&method, path);
            all.push((method, path.clone(), scope));
        }
    }
    all
}

/// Which scope each operation needs, written down: `UPDATE_GOLDEN=1` writes it anew.
#[test]
fn the_scopes_of_routes_are_written_down() {
    let lines: Vec<String> = operations()
        .into_iter()
        .map(|(method, path, scope)| format!("{:5} {method} {path}\n", scope.as_str()))
        .collect();
    let matrix = lines.concat();
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/scopes.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &matrix).expect("written");
    }
    assert_eq!(std::fs::read_to_string(file).expect("the matrix"), matrix);
}

/// Each operation of the document, with a key of every scope but the one it needs: refused; with a key of that scope alone: let in. No key
/// makes one that may more, or lives longer, than itself.
#[tokio::test(flavor = "multi_thread")]
async fn keys_do_what_their_scopes_say() {
    let service = service(&[("OUTDIAL_SERVER__KEY_REQUESTS_PER_SECOND", "0")]).await;
    service.post("/api/v1/users", json!({"name": "Ann", "externalId": "ann"})).await;
    let key_of = async |path: &str, body: Value| {
        let (status, made) = service.post(path, body).await;
        assert_eq!(status, 201, "{made}");
        made["data"]["key"].as_str().expect("a key").to_owned()
    };
    let mut alone = Vec::new();
    for scope in Scope::ALL {
        let others: Vec<Scope> = Scope::ALL.into_iter().filter(|other| *other != scope).collect();
        let with = key_of("/api/v1/keys", json!({"scopes": [scope]})).await;
        let without = key_of("/api/v1/keys", json!({"scopes": others})).await;
        alone.push((scope, with, without));
    }
    for (method, path, scope) in operations() {
        let (_, with, without) = alone.iter().find(|(of, ..)| *of == scope).expect("each has its keys");
        let url = format!("{}{}", service.base, path.replace(['{', '}'], ""));
        let ask = |key: &str| {
            let request = service.client.request(method.clone(), &url).bearer_auth(key);
            answer(if method == "GET" { request } else { request.json(&json!({})) })
        };
        let (status, body) = ask(without).await;
        let refused =
            |body: &Value| body["detail"].as_str().is_some_and(|detail| detail.contains("needs a key with the scope"));
        assert!(status == 403 && refused(&body), "{method} {path} without {scope:?}: {status} {body}");
        let (status, body) = ask(with).await;
        assert!(!refused(&body), "{method} {path} with {scope:?}: {status} {body}");
    }
    let soon = chrono::Utc::now() + chrono::TimeDelta::hours(1);
    let short = key_of("/api/v1/users/ann/keys", json!({"scopes": ["read", "admin"], "expiresAt": soon})).await;
    let make = |body: Value| {
        answer(service.client.post(format!("{}/api/v1/users/ann/keys", service.base)).bearer_auth(&short).json(&body))
    };
    assert_eq!(make(json!({"scopes": ["read"], "expiresAt": soon + chrono::TimeDelta::hours(1)})).await.0, 400);
    assert_eq!(make(json!({"scopes": ["read", "dial"]})).await.0, 400);
    assert_eq!(make(json!({})).await.0, 400, "the usual scopes are more than its own");
    assert_eq!(make(json!({"scopes": ["read"]})).await.0, 201);
    let (_, keys) = service.get("/api/v1/users/ann/keys").await;
    let newest = &keys["data"][0];
    assert_eq!(newest["scopes"], json!(["read"]), "{keys}");
    assert!(newest["expiresAt"].is_string(), "as long as the key that made it: {keys}");
    assert_eq!(keys["data"][1]["lastUsedFrom"], "127.0.0.1", "{keys}");
    service.finish().await;
}
