//! What has no key and no signature and may come from elsewhere: every operation of the document is walked as a web page, a name that was
//! made to point here, and a proxy would call it, and nothing is done.

use outdial::service::Role;
use serde_json::{Value, json};

use crate::support::{TestDb, TestService};

/// What anybody may ask: nothing of it says or does more than that the service is there.
const PUBLIC: [&str; 3] = ["/health", "/health/live", "/health/ready"];

/// Every row of every table that a request could change, in one text.
async fn everything(test_db: &TestDb) -> String {
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.tables
         where table_schema = 'public' and table_type = 'BASE TABLE' and table_name not in ('instances', '_sqlx_migrations', 'time_zones')
         order by 1",
    )
    .fetch_all(test_db.pool())
    .await
    .expect("tables");
    assert!(tables.len() > 20, "{tables:?}");
    let mut all = String::new();
    for table in tables {
        let sql = format!("select coalesce(string_agg(t::text, E'\\n' order by t::text), '') from {table} t");
        let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(test_db.pool()).await.expect("rows");
        all += &format!("{table}\n{rows}\n");
    }
    all
}

/// A user, a call, a campaign, a script: each is named `x`.
async fn furnished(pairs: &[(&str, &str)]) -> TestService {
    let service = TestService::start_on(TestDb::new().await, Role::Api, pairs).await;
    for (path, body) in [
        ("/api/v1/users", json!({"name": "X", "externalId": "x"})),
        ("/api/v1/scripts", json!({"userId": "x", "externalId": "x", "prompt": "You sell tea."})),
        (
            "/api/v1/calls",
            json!({"userId": "x", "externalId": "x", "to": "+14155550100", "scriptId": "x", "scheduledAt": "2030-01-01T00:00:00Z"}),
        ),
        ("/api/v1/campaigns", json!({"userId": "x", "externalId": "x", "name": "x", "scriptId": "x", "paused": true})),
        ("/api/v1/users/x/webhook-endpoints", json!({"url": "https://example.org/hook", "events": ["call.completed"]})),
    ] {
        let (status, answer) = service.post(path, body).await;
        assert!(status < 300, "{path}: {answer}");
    }
    service
}

async fn operations(service: &TestService) -> Vec<(reqwest::Method, String)> {
    let (_, document) = service.get("/api-docs.json").await;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let of_x: String =
            path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect::<Vec<_>>().join("/");
        for method in item.as_object().expect("an item").keys() {
            let method = method.to_uppercase().parse().expect("a method");
            operations.push((method, format!("{of_x}?userId=x")));
        }
    }
    assert!(operations.len() > 70, "{}", operations.len());
    operations
}

/// (The version before took all of these for the operator's: they made calls, users and keys, and canceled calls.)
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_for_what_may_come_from_elsewhere() {
    let open = [("OUTDIAL_SERVER__BIND", "0.0.0.0"), ("OUTDIAL_AUTH__OPEN", "true")];
    for pairs in [&[][..], &open[..]] {
        let service = furnished(pairs).await;
        let before = everything(&service.test_db).await;
        let body = json!({"to": "+14155550101", "scriptId": "s", "name": "y", "externalId": "y", "numbers": ["+14155550102"], "calls": [],
            "eventType": "call.completed", "callId": "x", "status": "COMPLETED", "duration": 5});
        let ways: [(&str, &[(&str, &str)]); 9] = [
            ("a name that points here", &[("host", "evil.example")]),
            ("the same with its origin", &[("host", "evil.example:3000"), ("origin", "http://evil.example:3000")]),
            ("a page that asks by fetch", &[("origin", "https://evil.example")]),
            ("a page in a frame without a site", &[("origin", "null")]),
            ("a page of an old browser", &[("sec-fetch-site", "cross-site")]),
            ("a page of a sister's name", &[("sec-fetch-site", "same-site")]),
            ("a proxy", &[("x-forwarded-for", "203.0.113.7")]),
            ("a proxy by the standard", &[("forwarded", "for=203.0.113.7;host=dialer.example")]),
            ("a form", &[("content-type", "text/plain")]),
        ];
        for (method, path) in operations(&service).await {
            let is_public = PUBLIC.iter().any(|public| path.starts_with(&format!("{public}?")));
            for (way, headers) in ways {
                for with_body in [true, false] {
                    if way == "a form" && (!with_body || method == reqwest::Method::GET) {
                        continue;
                    }
                    let mut request = service.client.request(method.clone(), format!("{}{path}", service.base));
                    request = if with_body { request.body(body.to_string()) } else { request };
                    let has_type = headers.iter().any(|(name, _)| *name == "content-type");
                    request = if has_type { request } else { request.header("content-type", "application/json") };
                    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
                    let status = request.send().await.expect("an answer").status().as_u16();
                    assert!(is_public || [401, 403].contains(&status), "{method} {path} as {way}: {status}");
                }
            }
        }
        assert_eq!(everything(&service.test_db).await, before);
        service.finish().await;
    }
}

/// What a person types here works as before, with and without a body, by any name of loopback; so does a name that was listed.
#[tokio::test(flavor = "multi_thread")]
async fn the_local_operator_is_let_in() {
    let service = furnished(&[("OUTDIAL_SERVER__HOSTS", "dialer.example")]).await;
    let port = service.base.rsplit(':').next().expect("a port").to_owned();
    for host in
        [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "[::1]".to_owned(), "dialer.example".to_owned()]
    {
        for (path, body) in [
            ("/api/v1/campaigns/x/resume?userId=x", None),
            ("/api/v1/campaigns/x/pause?userId=x", None),
            ("/api/v1/campaigns/x/pause?userId=x", Some(json!({}))),
        ] {
            let request = service.client.post(format!("{}{path}", service.base)).header("host", &host);
            let request = match &body {
                Some(body) => request.json(body),
                None => request,
            };
            assert_eq!(request.send().await.expect("an answer").status().as_u16(), 200, "{host} {path}");
        }
    }
    let same = service.client.get(format!("{}/api/v1/calls", service.base)).header("origin", &service.base);
    assert_eq!(same.header("sec-fetch-site", "same-origin").send().await.expect("an answer").status().as_u16(), 200);
    let (status, refused): (u16, Value) = crate::support::answer(
        service.client.get(format!("{}/api/v1/calls", service.base)).header("host", "evil.example"),
    )
    .await;
    assert_eq!((status, &refused["code"]), (403, &json!("forbidden")));
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("server.hosts")), "{refused}");
    service.finish().await;
}
