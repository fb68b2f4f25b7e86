//! sql/schema.sql is the dumped schema: every migration shows its effect there as a diff, and an empty database can be loaded from it.

use std::process::Command;

use outdial::db::embedded;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{TestDb, TestService, config};
use outdial::service::Role;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/sql/schema.sql");

/// The file is what pg_dump says of a migrated database; UPDATE_SCHEMA=1 writes it.
#[tokio::test(flavor = "multi_thread")]
async fn the_schema_file_is_true() {
    let test_db = TestDb::new().await;
    let dumped = dump(&test_db).await;
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(PATH, &dumped).expect("write sql/schema.sql");
    }
    let kept = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(kept == dumped, "sql/schema.sql is stale: make schema renews it");
}

/// Loaded into an empty database, it is enough for the service to start and dial.
#[tokio::test(flavor = "multi_thread")]
async fn a_loaded_schema_serves() {
    let test_db = TestDb::new().await;
    let empty = format!("{}_loaded", test_db.options.get_database().expect("a name"));
    let mut admin = PgConnection::connect_with(&test_db.options.clone().database("postgres")).await.expect("connect");
    admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {empty}")))).await.expect("create");
    let options = test_db.options.clone().database(&empty);
    let mut connection = PgConnection::connect_with(&options).await.expect("connect");
    let schema = std::fs::read_to_string(PATH).expect("sql/schema.sql");
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(schema))).await.expect("load");
    outdial::db::migrate(&options, &config(&[]).database).await.expect("nothing left to migrate");
    let loaded = test_db.on(&empty);
    let service = TestService::start_on(loaded, Role::All, &[]).await;
    let (status, body) =
        service.post("/api/v1/calls", serde_json::json!({"to": "+14155550100", "scriptId": "s"})).await;
    assert_eq!(status, 201, "{body}");
    service.wait_for_status(body["data"]["id"].as_str().expect("an id"), "COMPLETED").await;
    service.finish().await;
}

/// Functions of an older edition, which took and gave something else, are taken out of the way.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_edition_of_functions_is_replaced() {
    let test_db = TestDb::new().await;
    test_db
        .run(
            "drop function bring_back; create function bring_back(phones text[], how text) returns void language sql as '';
             drop function tend; update installed_functions set digest = 'older'",
        )
        .await;
    outdial::db::migrate(&test_db.options, &config(&[]).database).await.expect("installed anew");
    let there = "select count(*) from pg_proc where proname in ('bring_back', 'tend')";
    assert_eq!(test_db.count(there).await, 2);
    assert_eq!(test_db.count("select bring_back('{+14155550100}')").await, 0);
}

/// What an older version let in through its door for plain SQL stops nobody after the upgrade: it is set aside, alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_sets_aside_what_was_let_in() {
    let test_db = TestDb::new().await;
    let old = format!("{}_old", test_db.options.get_database().expect("a name"));
    let mut admin = PgConnection::connect_with(&test_db.options.clone().database("postgres")).await.expect("connect");
    admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("create database {old}")))).await.expect("create");
    let options = test_db.options.clone().database(&old);
    let mut connection = PgConnection::connect_with(&options).await.expect("connect");
    sqlx::migrate!().run_to(10, &mut connection).await.expect("the older version");
    let poison = r#"
        select ops.enqueue('+14155550101', repeat('s', 20001), external_id => 'script');
        select ops.enqueue('+14155550102', 's', metadata => '{"n": 1e400}', external_id => 'number');
        select ops.enqueue('+14155550103', 's', external_id => repeat('e', 300));
        select ops.enqueue('+14155550104', 's', external_id => 'zone');
        update calls set time_zone = repeat('z', 300) where external_id = 'zone';
        select ops.enqueue('+14155550105', 's', external_id => 'good');
        insert into prospects (id, user_id, external_id, name, phone)
            select uuid_v7(), id, repeat('e', 300), repeat('n', 300), '+14155550106' from users limit 1;
    "#;
    connection.execute(sqlx::raw_sql(poison)).await.expect("let in");
    outdial::db::migrate(&options, &config(&[]).database).await.expect("the upgrade");
    let ended = "select coalesce(string_agg(external_id, ' ' order by external_id), '') from calls \
                 where state = 'failed' and disposition = 'UNREADABLE'";
    let ended: String = sqlx::query_scalar(ended).fetch_one(&mut connection).await.expect("calls");
    assert_eq!(ended, "number script zone");
    let kept: i64 =
        sqlx::query_scalar("select count(*) from dead_letters").fetch_one(&mut connection).await.expect("count");
    assert_eq!(kept, 5);
    let broken: i64 =
        sqlx::query_scalar("select count(*) from ops.broken").fetch_one(&mut connection).await.expect("count");
    assert_eq!(broken, 0);
    let service = TestService::start_on(test_db.on(&old), Role::All, &[]).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while service.test_db.count("select count(*) from calls where state = 'completed'").await < 2 {
        assert!(std::time::Instant::now() < deadline, "the good calls are not dialed");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    // What was cut may be written again.
    service.test_db.run("update prospects set deleted_at = clock()").await;
    service.finish().await;
}

/// Schema, then the rows a new database has: migrations done, legal hours, the operator, its lane and turn.
async fn dump(test_db: &TestDb) -> String {
    let bin = embedded::find_binaries(std::path::Path::new("")).expect("Postgres").join("pg_dump");
    let socket = test_db.options.get_socket().expect("a socket");
    let output = Command::new(bin)
        .args(["--schema-only", "--no-owner", "--no-privileges", "-U", "postgres", "-h"])
        .arg(socket)
        .arg(test_db.options.get_database().expect("a name"))
        .output()
        .expect("pg_dump runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines() {
        // Versions, tokens and settings of the dumping client change from machine to machine.
        let noise = line.starts_with("--")
            || line.starts_with("\\")
            || line.starts_with("SET ")
            || line.starts_with("SELECT pg_catalog");
        let blank_again = line.is_empty() && lines.last().is_none_or(|last| last.is_empty());
        if !noise && !blank_again {
            lines.push(line);
        }
    }
    let migrations: Vec<String> = sqlx::query_scalar(
        "select format('insert into public._sqlx_migrations (version, description, success, checksum, execution_time) values (%L, %L, true, %L, 0);',
           version, description, checksum::text)
         from _sqlx_migrations order by version",
    )
    .fetch_all(&test_db.db.read)
    .await
    .expect("migrations");
    let laws: Vec<String> = sqlx::query_scalar(
        "select format('insert into public.legal_hours (area, hours, source, as_of) values (%L, %L, %L, %L);', area, hours, source, as_of)
         from legal_hours order by area",
    )
    .fetch_all(&test_db.db.read)
    .await
    .expect("legal hours");
    format!(
        "-- The schema of a new database, dumped from the migrations by `make schema` and held true by tests/it/schema.rs.\n\
         -- Loads into an empty database: psql -d name -f sql/schema.sql; the service then starts on it.\n\n\
         set check_function_bodies = false;\n\n{}\n\
         {}\n\
         {}\n\
         insert into public.planner default values;\n\
         insert into public.users (id, name, external_id) values ('00000000-0000-7000-8000-000000000001', 'Operator', 'operator');\n",
        lines.join("\n").trim_start(),
        migrations.join("\n"),
        laws.join("\n"),
    )
}

/// Every time that a statement from outside may write is bounded: a new column is, or its table is named here with the service as its
/// only writer.
#[tokio::test(flavor = "multi_thread")]
async fn times_that_sql_may_write_are_bounded() {
    /// Written by the service alone, from the database's clock.
    const OF_THE_SERVICE: &[&str] = &[
        "api_keys",
        "attempts",
        "audit_log",
        "dead_letters",
        "deliveries",
        "events",
        "idempotency_keys",
        "installation",
        "instances",
        "later_deltas",
        "later_tallies",
        "planner",
        "planning",
        "provider_rates",
        "provider_refusals",
        "provider_states",
        "stray_events",
        "uploads",
        "webhook_endpoints",
    ];
    /// Likewise, of tables that others write to.
    const COLUMNS_OF_THE_SERVICE: &[&str] =
        &["calls.created_at", "calls.updated_at", "calls.ended_at", "calls.cancel_requested_at", "lanes.refresh_at"];
    let test_db = TestDb::new().await;
    let unbounded: Vec<(String, String)> = sqlx::query_as(
        "select c.table_name::text, c.column_name::text
         from information_schema.columns c
         join information_schema.tables t using (table_schema, table_name)
         where c.table_schema = 'public' and t.table_type = 'BASE TABLE' and c.table_name <> '_sqlx_migrations'
           and c.udt_name in ('timestamptz', 'timestamp', 'date', '_date', 'interval', 'time')
           and not exists (
             select from pg_constraint k
             join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
             where k.contype = 'c' and k.conrelid = format('%I.%I', c.table_schema, c.table_name)::regclass and a.attname = c.column_name
               and (k.conname like '%computable' or k.conname = 'user_settings_hours_before_24'))
         order by 1, 2",
    )
    .fetch_all(test_db.pool())
    .await
    .expect("columns");
    let forgotten: Vec<String> = unbounded
        .into_iter()
        .filter(|(table, _)| !OF_THE_SERVICE.contains(&table.as_str()))
        .map(|(table, column)| format!("{table}.{column}"))
        .filter(|column| !COLUMNS_OF_THE_SERVICE.contains(&column.as_str()))
        .collect();
    assert!(forgotten.is_empty(), "no bound on {forgotten:?}");
}
