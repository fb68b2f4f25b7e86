//! What each role of the database may, and no more: the owner of the schema without rights of a superuser, the service on a schema that it
//! cannot change, the platform's SQL, and who inspects (sql/roles.sql).

use outdial::db;
use serde_json::json;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::support::{self, Folder, Process, TestDb, answer, client};

async fn connect(options: &PgConnectOptions) -> PgConnection {
    PgConnection::connect_with(options).await.expect("connect")
}

/// Runs SQL; the SQLSTATE of what it is refused with.
async fn run(options: &PgConnectOptions, sql: &str) -> Result<(), String> {
    let done = connect(options).await.execute(sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))).await;
    done.map(drop).map_err(|error| error.as_database_error().and_then(|e| e.code()).unwrap_or_default().into_owned())
}

/// A call made by POST on a process that runs as this role is dialed.
async fn serves(name: &str, url: &str, folder: &Folder) {
    let settings = support::pairs(&[("DATABASE_URL", url), ("OUTDIAL_SIMULATOR__SPEED", "1000")]);
    let client = client();
    let mut process = Process::start(&folder.0.join(format!("{name}.log")), &settings);
    assert!(
        process.wait_until_up(&client).await,
        "{name}: {}",
        std::fs::read_to_string(folder.0.join(format!("{name}.log"))).unwrap_or_default()
    );
    let call = json!({"to": "+14155550100", "scriptId": "s"});
    let (status, body) = answer(client.post(format!("{}/api/v1/calls", process.base())).json(&call)).await;
    assert_eq!(status, 201, "{body}");
    let path = format!("{}/api/v1/calls/{}", process.base(), body["data"]["id"].as_str().expect("an id"));
    for _ in 0..500 {
        if answer(client.get(&path)).await.1["data"]["status"] == "COMPLETED" {
            process.kill();
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("{name}: not dialed: {}", answer(client.get(&path)).await.1);
}

/// A managed Postgres gives a role that owns its database and is no superuser: it migrates and serves. On a schema that is up to date a
/// role serves that can change none of it. (95e55f8: the private Postgres' service was a superuser.)
#[tokio::test(flavor = "multi_thread")]
async fn the_service_needs_no_superuser() {
    let test_db = TestDb::new().await;
    let folder = Folder::new("roles");
    let name = format!("owned_{}", std::process::id());
    for sql in [
        "do $$ begin create role test_owner login; exception when duplicate_object then null; end $$".to_owned(),
        "do $$ begin create role test_service login; exception when duplicate_object then null; end $$".to_owned(),
        format!("create database {name} owner test_owner"),
    ] {
        run(&test_db.options, &sql).await.expect("as a superuser");
    }
    let owned = test_db.on(&name);
    let owner = owned.options.clone().username("test_owner");
    db::migrate(&owner, &support::config(&[]).database).await.expect("the owner migrates");
    let url = |role: &str| {
        owned.url().replace("user=postgres", &format!("user={role}")).replace("//postgres@", &format!("//{role}@"))
    };
    serves("owner", &url("test_owner"), &folder).await;
    run(&owned.options, include_str!("../../sql/roles.sql")).await.expect("roles");
    run(&owned.options, "grant outdial_service to test_service").await.expect("granted");
    let service = owned.options.clone().username("test_service");
    for refused in [
        "create table x (n int)",
        "alter table calls add column x int",
        "drop table dead_letters",
        "alter table calls disable trigger all",
        "create schema x",
        "delete from _sqlx_migrations",
        "create or replace function is_service() returns boolean language sql as 'select true'",
    ] {
        let code = run(&service, refused).await.expect_err(refused);
        assert_eq!(code, "42501", "{refused}");
    }
    serves("service", &url("test_service"), &folder).await;
    for role in ["test_owner", "test_service"] {
        let is = connect(&owned.options.clone().username(role)).await;
        let mut is = is;
        let superuser: bool = sqlx::query_scalar("select rolsuper from pg_roles where rolname = current_user")
            .fetch_one(&mut is)
            .await
            .expect("a role");
        assert!(!superuser, "{role}");
    }
}

/// The platform's SQL works with rights to its views and to `ops.enqueue` alone, and who inspects reads `ops` alone: no keys, no secrets of
/// endpoints, no transcripts; and nobody passes for the service.
#[tokio::test(flavor = "multi_thread")]
async fn each_role_may_just_what_it_needs() {
    let test_db = TestDb::new().await;
    for role in ["test_platform", "test_inspect"] {
        let create = format!("do $$ begin create role {role} login; exception when duplicate_object then null; end $$");
        run(&test_db.options, &create).await.expect("a role");
    }
    run(&test_db.options, include_str!("../../sql/roles.sql")).await.expect("roles");
    run(&test_db.options, include_str!("../../sql/roles.sql")).await.expect("roles, again");
    run(&test_db.options, "grant outdial_platform to test_platform; grant outdial_inspect to test_inspect")
        .await
        .expect("granted");
    let (platform, inspect) =
        (test_db.options.clone().username("test_platform"), test_db.options.clone().username("test_inspect"));
    for allowed in [
        r#"insert into "User" (id, name) values ('ann', 'Ann'); update "User" set name = 'Anna'"#,
        r#"insert into "Plan" (id, name, price, minutes, duration, perDay) values ('p', 'Basic', 1, 600, 30, 10); update "Plan" set minutes = 700"#,
        r#"insert into "Subscription" (id, userId, planId, minutesLeft, status) values ('s', 'ann', 'p', 600, 'ACTIVE'); update "Subscription" set status = 'PAUSED'"#,
        r#"insert into "Setting" (id, userId) values ('t', 'ann')"#,
        r#"insert into "AdvancedSetting" (id, settingId, timeZone, startAt, endAt) values ('a', 't', 'Europe/Berlin', '2025-01-01 00:00', '2025-01-01 00:00')"#,
        r#"insert into "ScriptSetting" (id, settingId, initial) values ('x', 't', 'Hello')"#,
        r#"insert into "AgentSetting" (id, settingId, language) values ('y', 't', 'de')"#,
        r#"insert into "Prospect" (id, name, phone, userid, status, rescheduledFor) values ('q', 'Q', '+14155550154', 'ann', 'RESCHEDULED', now()); update "Prospect" set status = 'DO_NOT_CALL'; select * from "Prospect""#,
        "select ops.enqueue('+14155550151', 's')",
        "select ops.enqueue('+14155550152', 's', \"user\" => 'ann')",
        r#"delete from "Subscription"; delete from "Prospect""#,
    ] {
        run(&platform, allowed).await.unwrap_or_else(|code| panic!("{allowed}: {code}"));
    }
    assert_eq!(test_db.count("select count(*) from calls").await, 2);
    assert!(test_db.count("select count(*) from sql_changes").await > 0);
    // Saying that one is the service changes nothing.
    let before = test_db.count("select count(*) from sql_changes").await;
    let claims = r#"set outdial.service = 'on'; insert into "Prospect" (id, name, phone, userid, status, rescheduledFor) values ('z', 'Z', '+14155550159', 'ann', 'RESCHEDULED', now())"#;
    run(&platform, claims).await.expect("as any other");
    assert_eq!(test_db.count("select count(*) from sql_changes").await, before + 1);
    let views: Vec<String> = sqlx::query_scalar(
        "select table_name::text from information_schema.views where table_schema = 'ops' order by 1",
    )
    .fetch_all(test_db.pool())
    .await
    .expect("views");
    assert!(views.len() > 10);
    for view in &views {
        run(&inspect, &format!("select * from ops.{view}")).await.unwrap_or_else(|code| panic!("ops.{view}: {code}"));
    }
    run(&inspect, "select * from ops.explain('00000000-0000-7000-8000-000000000001')").await.expect("explain");
    for (who, role, refused) in [
        ("platform", &platform, "select * from webhook_endpoints"),
        ("platform", &platform, "select * from api_keys"),
        ("platform", &platform, "select * from calls"),
        (
            "platform",
            &platform,
            "insert into suppressions (phone, user_id) select '+14155550100', '00000000-0000-7000-8000-000000000001'",
        ),
        ("platform", &platform, "update users set allowed_countries = '{*}'"),
        ("platform", &platform, "select * from ops.waiting"),
        ("platform", &platform, "select admission_lock(false)"),
        ("platform", &platform, "select take_in_changes('00000000-0000-7000-8000-000000000001', 1)"),
        ("platform", &platform, "create table x (n int)"),
        ("inspect", &inspect, "select secret from webhook_endpoints"),
        ("inspect", &inspect, "select * from api_keys"),
        ("inspect", &inspect, "select transcript from attempts"),
        ("inspect", &inspect, r#"select * from "Prospect""#),
        ("inspect", &inspect, "select ops.enqueue('+14155550151', 's')"),
        ("inspect", &inspect, "delete from ops.waiting"),
        ("inspect", &inspect, "select admission_lock(true)"),
    ] {
        let code = run(role, refused).await.expect_err(refused);
        assert!(["42501", "55000"].contains(&code.as_str()), "{who}: {refused}: {code}");
    }
    test_db.assert_sound().await;
    outdial::queue::take_in(test_db.pool()).await.expect("taken in");
    test_db.assert_sound().await;
}
