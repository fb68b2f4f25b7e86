//! Postgres misbehaves, or goes away.

use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{TestDb, TestService};

/// A dropped `begin()` may hand back a connection inside an open transaction; the pool closes it instead of lending it.
#[tokio::test(flavor = "multi_thread")]
async fn a_canceled_begin_poisons_nobody() {
    let test_db = TestDb::new().await;
    for round in 0..200_u64 {
        let pool = test_db.pool().clone();
        let task = tokio::spawn(async move {
            let transaction = pool.begin().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(transaction);
        });
        tokio::time::sleep(Duration::from_micros(round * 7 % 400)).await;
        task.abort();
        let _ = task.await;
    }
    for _ in 0..20 {
        let mut connection = test_db.pool().acquire().await.expect("a connection");
        let row =
            sqlx::raw_sql("select now() = statement_timestamp()").fetch_one(&mut *connection).await.expect("a row");
        assert!(sqlx::Row::get::<bool, _>(&row, 0), "a connection was lent inside a transaction");
    }
}

/// While Postgres is away the API answers 503; when it is back, calls are taken and dialed again by themselves.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_survived() {
    let service = TestService::start(&[("OUTDIAL_DATABASE__ACQUIRE_TIMEOUT_SECS", "1")]).await;
    let (_, body) = service.post("/api/v1/calls", json!({"to": "+14155550100", "scriptId": "s"})).await;
    let id = body["data"]["id"].as_str().expect("an id").to_owned();
    service.wait_for_status(&id, "COMPLETED").await;
    let name = service.test_db.options.get_database().expect("a name").to_owned();
    let mut admin =
        PgConnection::connect_with(&service.test_db.options.clone().database("postgres")).await.expect("connect");
    let away = format!(
        "alter database {name} allow_connections false;
         select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'"
    );
    admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(away))).await.expect("shut the door");
    let (status, body) = service.post("/api/v1/calls", json!({"to": "+14155550101", "scriptId": "s"})).await;
    assert_eq!((status, &body["code"]), (503, &json!("database_unavailable")), "{body}");
    assert_eq!(service.get("/health").await.0, 503);
    let back = format!("alter database {name} allow_connections true");
    admin.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(back))).await.expect("open the door");
    let deadline = Instant::now() + Duration::from_secs(20);
    let id = loop {
        let (status, body) = service.post("/api/v1/calls", json!({"to": "+14155550102", "scriptId": "s"})).await;
        if status == 201 {
            break body["data"]["id"].as_str().expect("an id").to_owned();
        }
        assert!(Instant::now() < deadline, "still away: {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    service.wait_for_status(&id, "COMPLETED").await;
    service.finish().await;
}
