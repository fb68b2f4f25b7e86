//! Hot statements do what they are meant to do, whatever the tables hold: their plans are pinned, and what a claim touches stays
//! flat as waiting, future, blocked and finished calls grow.

use outdial::domain::ids::{OPERATOR, new_id};
use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection, Row};

use crate::support::{TestDb, buffers_of};

const FACTS: &str = include_str!("../../sql/queue/facts.sql");

/// A connection with the settings of the work pool, on which the statements are prepared as the service prepares them.
async fn prepared(test_db: &TestDb) -> PgConnection {
    let mut connection = PgConnection::connect_with(&test_db.options).await.expect("connect");
    let settings = "set jit = off; set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off";
    connection.execute(sqlx::raw_sql(settings)).await.expect("settings");
    for (name, types, sql) in [
        ("facts", "(uuid[])", FACTS.to_owned()),
        (
            "tidy",
            "(uuid[], uuid[], float8, bigint, int, float8, timestamptz)",
            statement_of(&mut connection, "tidy_lanes")
                .await
                .replace("now_is", "$7")
                .replace("any (spent)", "any ('{}')"),
        ),
        ("unpark", "(text[])", statement_of(&mut connection, "unpark_calls").await.replace("phones", "$1")),
        ("settle", SETTLES, statement_of(&mut connection, "settle_attempts").await.replace("now_is", "$31")),
        ("enqueue", "", statement_of(&mut connection, "enqueue").await.replace("givens[", "($9::text[])[")),
    ] {
        let prepare = format!("prepare {name}{types} as {sql}");
        connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(prepare))).await.expect(name);
    }
    connection
}

/// What the statements of functions are given.
const SETTLES: &str = "(uuid[], int[], text[], text[], bool[], smallint[], text[], text[], int[], jsonb[], text[], smallint[], bool[],
    float8[], float8[], text[], text[], float8[], timestamptz[], smallint[], smallint[], uuid[], text[], text[], text[], jsonb[], text[],
    text[], bool[], float8[], timestamptz)";

/// The statement inside a function, which names its parameters by number.
async fn statement_of(connection: &mut PgConnection, function: &str) -> String {
    let sql = "select prosrc from pg_proc where proname = $1 and pronamespace = 'public'::regnamespace";
    let body: String = sqlx::query_scalar(sql).bind(function).fetch_one(connection).await.expect("the function");
    let (_, statement) = body.split_once("return query").expect("its statement");
    statement.rsplit_once(';').expect("the statement's end").0.to_owned()
}

async fn explain(connection: &mut PgConnection, execute: &str) -> Value {
    let sql = format!("explain (format json) execute {execute}");
    let row = connection.fetch_one(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect(execute);
    let text: String = row.get_unchecked::<String, _>(0);
    serde_json::from_str::<Value>(&text).expect("a plan")[0]["Plan"].clone()
}

/// Every scan of a table in the plan, as (table, node, index).
fn scans(plan: &Value, found: &mut Vec<(String, String, String)>) {
    if let Some(table) = plan["Relation Name"].as_str() {
        let text = |key: &str| plan[key].as_str().unwrap_or_default().to_owned();
        found.push((table.to_owned(), text("Node Type"), text("Index Name")));
    }
    for child in plan["Plans"].as_array().into_iter().flatten() {
        scans(child, found);
    }
}

/// With the rules on how often a number is dialed, as where phones ring.
fn claim_of(want: usize) -> String {
    claim_under(want, 3, 900)
}

fn claim_under(want: usize, dials_per_day: i32, gap_secs: i32) -> String {
    let ids: Vec<String> = (0..want).map(|_| new_id().to_string()).collect();
    let ids = ids.join(",");
    format!(
        "select * from claim_calls({want}, {want}, '{}', 'test', 2.0, '{{{ids}}}', 64, 15.0, 0.0, 1.0, {dials_per_day}, {gap_secs}, now())",
        new_id()
    )
}

/// On empty tables and on large ones, analyzed and not: the hot tables are only reached by the indexes made for that.
#[tokio::test(flavor = "multi_thread")]
async fn hot_statements_use_their_indexes() {
    let test_db = TestDb::new().await;
    let ids = format!("'{{{},{}}}'", new_id(), new_id());
    for stage in ["empty", "analyzed while empty", "large", "large and analyzed"] {
        match stage {
            "large" => fill(&test_db, 20_000, "now() - interval '1 hour'").await,
            "analyzed while empty" | "large and analyzed" => test_db.run("analyze").await,
            _ => {}
        }
        let mut connection = prepared(&test_db).await;
        let settle = format!(
            "settle({ids}, '{{0,0}}', '{{ended,ended}}', '{{a,b}}', '{{t,t}}', '{{2,2}}', '{{COMPLETED,COMPLETED}}', '{{a,b}}', '{{1,1}}',
             array[null,null]::jsonb[], '{{a,b}}', '{{0,0}}', '{{f,f}}', '{{0,0}}', '{{0,0}}', '{{live,live}}', '{{completed,completed}}',
             '{{0,0}}', array[null,null]::timestamptz[], '{{0,0}}', '{{1,1}}', {ids}, '{{a,b}}', '{{a,b}}', '{{a,b}}', array['{{}}','{{}}']::jsonb[],
             '{{a,b}}', '{{a,b}}', '{{f,f}}', '{{1,1}}', now())"
        );
        for execute in [
            format!("tidy({ids}, {ids}, 2.0, 34, 3, 900, now())"),
            format!("facts({ids})"),
            "unpark('{+14155550100,+14155550101}')".to_owned(),
            settle,
            format!(
                "enqueue({ids}, {ids}, {ids}, {ids}, '{{3,3}}', '{{3,3}}', array[null,null]::timestamptz[], array[null,null]::timestamptz[],
                 '{{+14155550100,+14155550101}}', '{{s,s}}', array['{{}}','{{}}']::jsonb[], array['{{}}','{{}}']::jsonb[],
                 array[null,null]::text[], array[null,null]::text[], '{{f,f}}', '{{3,3}}', '{{f,f}}', array[null,null]::uuid[])"
            ),
        ] {
            let plan = explain(&mut connection, &execute).await;
            let mut found = Vec::new();
            scans(&plan, &mut found);
            assert!(!found.is_empty());
            for (table, node, index) in found {
                let good = match table.as_str() {
                    "calls" | "attempts" | "lanes" | "user_turns" | "users" | "campaigns" | "events" => {
                        node.starts_with("Index") || node == "ModifyTable"
                    }
                    _ => true,
                };
                let name = execute.split('(').next().unwrap_or_default();
                assert!(good, "{stage}: {name} reads {table} by {node} {index}");
                let wrong_index = matches!(
                    index.as_str(),
                    "calls_by_user"
                        | "calls_by_phone"
                        | "attempts_number_key"
                        | "lanes_of_user_key"
                        | "lanes_of_campaign"
                );
                // Whether a number has a call already is asked by its index.
                let asks_for_number = name == "enqueue" && index == "calls_by_phone";
                assert!(!wrong_index || asks_for_number, "{stage}: {name} reads {table} by {index}");
            }
        }
    }
}

/// The steps of a claim are planned one by one, perhaps while there is next to nothing, and read the hot tables by the indexes made for that
/// alone: Postgres counts what it has read by what.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_uses_its_indexes() {
    let test_db = TestDb::new().await;
    fill(&test_db, 1, "now() - interval '1 hour'").await;
    let mut first = prepared(&test_db).await;
    for stage in ["almost empty", "analyzed while almost empty", "large", "large and analyzed"] {
        match stage {
            "large" => {
                insert(
                    &test_db,
                    20_000,
                    &format!("'{OPERATOR}'"),
                    "'waiting'",
                    "now() - interval '1 hour'",
                    "'+1' || (3000000000 + g)",
                )
                .await;
            }
            "analyzed while almost empty" | "large and analyzed" => test_db.run("analyze").await,
            _ => {}
        }
        let mut fresh = prepared(&test_db).await;
        for connection in [&mut first, &mut fresh] {
            connection.execute("select pg_stat_force_next_flush()").await.expect("flush");
            connection.execute("select pg_stat_reset()").await.expect("reset");
            connection.execute("begin").await.expect("begin");
            run(connection, claim_of(30)).await;
            connection.execute("rollback; select pg_stat_force_next_flush()").await.expect("rollback");
            let read: Vec<String> = sqlx::query_scalar(
                "select relname::text from pg_stat_user_tables
                 where seq_scan > 0 and relname in ('calls', 'attempts', 'lanes', 'user_turns', 'users', 'campaigns', 'dials')
                 union all
                 select indexrelname::text from pg_stat_user_indexes where idx_scan > 0 and relname in ('calls', 'attempts', 'lanes')
                 order by 1",
            )
            .fetch_all(&mut *connection)
            .await
            .expect("what was read");
            assert!(read.iter().any(|index| index == "calls_waiting"), "{stage}: {read:?}");
            let good = [
                "calls_waiting",
                "calls_pkey",
                "attempts_one_per_phone",
                "attempts_pkey",
                "lanes_pkey",
                "lanes_ring",
                "lanes_urgent",
            ];
            let bad: Vec<&String> = read.iter().filter(|name| !good.contains(&name.as_str())).collect();
            assert!(bad.is_empty(), "{stage}: a claim reads by {bad:?}");
        }
    }
}

/// Due calls of the operator to distinct numbers, in bulk.
async fn fill(test_db: &TestDb, count: usize, due: &str) {
    insert(test_db, count, &format!("'{OPERATOR}'"), "'waiting'", due, "'+1' || (2000000000 + g)").await;
    test_db.run("update lanes set next_at = now() where next_at > now() and blocked_on is null").await;
    test_db.run("update user_turns set next_at = now() where next_at > now()").await;
}

async fn insert(test_db: &TestDb, count: usize, lane: &str, state: &str, due: &str, phone: &str) {
    let sql = format!(
        "insert into calls (id, user_id, lane_id, state, due_at, phone, script_id, dials_max)
         select gen_random_uuid(), '{OPERATOR}', {lane}, {state}, {due}, {phone}, 's', 3 from generate_series(1, {count}) g"
    );
    let mut connection = PgConnection::connect_with(&test_db.options).await.expect("connect");
    run(&mut connection, sql).await;
}

/// Buffers touched by one claim of 100 calls.
async fn buffers_of_a_claim(test_db: &TestDb) -> f64 {
    let mut connection = prepared(test_db).await;
    let claim = claim_of(100);
    connection.execute("begin").await.expect("begin");
    run(&mut connection, claim.clone()).await;
    let claimed: i64 =
        sqlx::query_scalar("select count(*) from attempts").fetch_one(&mut connection).await.expect("count");
    assert_eq!(claimed, 100, "the claim is a full one");
    connection.execute("rollback").await.expect("rollback");
    f64::from(i32::try_from(buffers_of(&mut connection, &claim).await).expect("not that many"))
}

/// Claiming 100 of a million touches at most 1.25 times what 100 of 100,000 touch; a million more in the future, a million in
/// closed and paused lanes and 100,000 parked behind one number add at most a fifth.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_costs_the_same_as_the_queue_grows() {
    let test_db = TestDb::new().await;
    fill(&test_db, 100_000, "now() - interval '1 hour' + g * interval '1 millisecond'").await;
    test_db.run("vacuum analyze calls").await;
    let of_100_000 = buffers_of_a_claim(&test_db).await;
    fill(&test_db, 900_000, "now() - interval '1 minute' + g * interval '10 microseconds'").await;
    test_db.run("vacuum analyze calls").await;
    let of_1_000_000 = buffers_of_a_claim(&test_db).await;
    insert(
        &test_db,
        1_000_000,
        &format!("'{OPERATOR}'"),
        "'waiting'",
        "now() + interval '1 day'",
        "'+1' || (3000000000 + g)",
    )
    .await;
    let lanes = "insert into lanes (id, user_id, campaign_id, paused, blocked_on)
                 values ('00000000-0000-7000-8000-0000000000a1', (select id from users where external_id = 'operator'), gen_random_uuid(), true, 'pause');
                 insert into lanes (id, user_id, campaign_id, opens_at, closes_at, next_at)
                 values ('00000000-0000-7000-8000-0000000000a2', (select id from users where external_id = 'operator'), gen_random_uuid(),
                         now() + interval '1 hour', now() + interval '9 hours', now() + interval '1 hour')";
    test_db.run(lanes).await;
    for lane in ["a1", "a2"] {
        let lane = format!("'00000000-0000-7000-8000-0000000000{lane}'");
        insert(&test_db, 500_000, &lane, "'waiting'", "now() - interval '2 hours'", "'+1' || (4000000000 + g)").await;
    }
    insert(&test_db, 100_000, &format!("'{OPERATOR}'"), "'parked'", "now() - interval '2 hours'", "'+15005550100'")
        .await;
    test_db.run("vacuum analyze calls").await;
    let of_all = buffers_of_a_claim(&test_db).await;
    println!(
        "buffers of a claim of 100: {of_100_000} of 100,000; {of_1_000_000} of 1 M; {of_all} with 2.1 M blocked or in the future"
    );
    assert!(of_1_000_000 <= of_100_000 * 1.25, "{of_1_000_000} > 1.25 × {of_100_000}");
    assert!(of_all <= of_1_000_000 * 1.2, "{of_all} > 1.2 × {of_1_000_000}");
}

/// The two rules on how often a number is dialed cost one look a candidate, four to five buffers, whatever stands in the ledger: a million
/// dials to others, and the last of each of these numbers.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_costs_a_look_a_candidate() {
    let test_db = TestDb::new().await;
    fill(&test_db, 20_000, "now() - interval '1 hour' + g * interval '1 millisecond'").await;
    let mut connection = prepared(&test_db).await;
    let mut extra = Vec::new();
    for (count, to) in [(10_000, "2000000000"), (1_000_000, "3000000000")] {
        let dials = format!(
            "insert into dials (user_id, phone, dialed_at, call_id)
             select '{OPERATOR}', '+1' || ({to} + g % 20000), now() - interval '20 hours' - g * interval '1 second', gen_random_uuid()
             from generate_series(1, {count}) g"
        );
        run(&mut connection, dials).await;
        connection.execute("vacuum analyze").await.expect("vacuum");
        let without = buffers_of(&mut connection, &claim_under(100, 0, 0)).await;
        let with = buffers_of(&mut connection, &claim_under(100, 3, 900)).await;
        println!(
            "{count} more dials in the ledger: a claim of 100 reads {without} buffers without the rules, {with} with them"
        );
        extra.push(with - without);
    }
    // A claim of 100 looks at 104 candidates of its lane and rank: a descent of the index for both rules, and the page that says it is enough.
    assert!(extra.iter().all(|more| *more <= 5 * 104), "{extra:?}");
}

/// Many open lanes of a campaign each, with 200,000 calls in all.
async fn open_lanes(test_db: &TestDb, lanes: usize) {
    let mut connection = PgConnection::connect_with(&test_db.options).await.expect("connect");
    let each = 200_000 / lanes;
    let sql = format!(
        "with made as (insert into campaigns (id, user_id, name, script_id)
           select md5('lane ' || g)::uuid, '{OPERATOR}', 'c', 's' from generate_series(1, {lanes}) g returning id)
         insert into lanes (id, user_id, campaign_id, next_at) select id, '{OPERATOR}', id, now() - interval '1 hour' from made;
         insert into calls (id, user_id, lane_id, campaign_id, due_at, phone, script_id, dials_max)
         select gen_random_uuid(), '{OPERATOR}', md5('lane ' || g)::uuid, md5('lane ' || g)::uuid, now() - interval '1 hour',
           '+1' || (2000000000 + g * {each} + n), 's', 3
         from generate_series(1, {lanes}) g, generate_series(1, {each}) n;
         update user_turns set next_at = now()"
    );
    run(&mut connection, sql).await;
    connection.execute("vacuum analyze").await.expect("vacuum");
}

/// With 200,000 calls waiting, a claim of 100 from 10,000 open lanes touches at most 1.2 times what one from 100 open lanes does, and
/// so does one beside a million calls in closed lanes.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_costs_the_same_as_lanes_grow() {
    let few = TestDb::new().await;
    open_lanes(&few, 100).await;
    let of_100 = buffers_of_a_claim(&few).await;
    let many = TestDb::new().await;
    open_lanes(&many, 10_000).await;
    let of_10_000 = buffers_of_a_claim(&many).await;
    let closed = "insert into lanes (id, user_id, campaign_id, opens_at, closes_at, next_at)
                  select md5('closed ' || g)::uuid, id, gen_random_uuid(), now() + interval '1 hour', now() + interval '9 hours', now() + interval '1 hour'
                  from users, generate_series(0, 99) g where external_id = 'operator'";
    many.run(closed).await;
    let lane = "md5('closed ' || g % 100)::uuid";
    insert(&many, 1_000_000, lane, "'waiting'", "now() - interval '2 hours'", "'+1' || (4000000000 + g)").await;
    many.run("vacuum analyze calls").await;
    let beside_closed = buffers_of_a_claim(&many).await;
    println!(
        "buffers of a claim of 100: {of_100} from 100 open lanes, {of_10_000} from 10,000; {beside_closed} beside 1 M calls in closed lanes"
    );
    assert!(of_10_000 <= of_100 * 1.2, "{of_10_000} > 1.2 × {of_100}");
    assert!(beside_closed <= of_10_000 * 1.2, "{beside_closed} > 1.2 × {of_10_000}");
}

async fn run(connection: &mut PgConnection, sql: String) {
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.expect("run");
}

/// Why the calls of a campaign wait is read by look-ups, some fifty buffers a lane, though the plan was made when none of them waited
/// for a later time; why one call waits is one look-up, however many lanes there are.
#[tokio::test(flavor = "multi_thread")]
async fn reasons_cost_the_same_whatever_was_there_when_they_were_planned() {
    const LANES: i64 = 500;
    let test_db = TestDb::new().await;
    // With the settings of the pool for reading: none that make plans of look-ups.
    let mut reader = PgConnection::connect_with(&test_db.options).await.expect("connect");
    let campaign = "md5('lane 1')::uuid";
    open_lanes(&test_db, 2_000).await;
    let lanes = format!(
        "insert into lanes (id, user_id, campaign_id, zones)
         select md5('zone ' || g)::uuid, '{OPERATOR}', {campaign}, array['zone ' || g] from generate_series(1, {LANES}) g"
    );
    run(&mut reader, lanes).await;
    let add = |each: i64, rank: i64, due: &str| {
        format!(
            "insert into calls (id, user_id, lane_id, campaign_id, rank, due_at, phone, script_id, dials_max)
             select gen_random_uuid(), '{OPERATOR}', md5('zone ' || g)::uuid, {campaign}, {rank}, {due},
               '+{rank}' || (3000000000 + g * {each} + n), 's', 3
             from generate_series(1, {LANES}) g, generate_series(1, {each}) n;
             insert into tally_deltas (lane_id, user_id, campaign_id, what, n)
             select md5('zone ' || g)::uuid, '{OPERATOR}', {campaign}, 'PENDING', {each} from generate_series(1, {LANES}) g"
        )
    };
    run(&mut reader, add(1, 3, "now()")).await;
    reader.execute("vacuum analyze").await.expect("vacuum");
    let explain = format!("select * from ops.explain({campaign})");
    for _ in 0..7 {
        run(&mut reader, explain.clone()).await;
    }
    run(&mut reader, add(100, 2, "now() + interval '1 hour' + n * interval '7 minutes'")).await;
    let unfolded = buffers_of(&mut reader, &explain).await;
    while test_db.count("select count(*) from later_deltas").await > 0 {
        outdial::queue::fold_tallies(test_db.pool()).await.expect("fold");
    }
    // As autovacuum does, which comes once a minute.
    reader.execute("vacuum later_deltas").await.expect("vacuum");
    let folded = buffers_of(&mut reader, &explain).await;
    let later = format!("select count from ops.explain({campaign}) where reason = 'RETRY_LATER'");
    let later: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(later)).fetch_one(&mut reader).await.expect("explain");
    assert_eq!(later, LANES * 100);
    let call: String =
        sqlx::query_scalar("select max(id::text) from calls").fetch_one(&mut reader).await.expect("a call");
    let of_a_call = buffers_of(&mut reader, &format!("select * from ops.waiting where call_id = '{call}'")).await;
    println!(
        "buffers a lane: {} with counts to fold, {} without; of a call: {of_a_call}",
        unfolded / LANES,
        folded / LANES
    );
    assert!(unfolded < LANES * 200, "{unfolded} buffers before the fold");
    assert!(folded < LANES * 100, "{folded} buffers");
    assert!(of_a_call < 100, "{of_a_call} buffers");
}
