//! The service looks at what is due, and not at everything that ever was: beside a great many settled orders, no statement of a running replica
//! reads one of the tables that grow from its beginning to its end.

use pg_simulator::{Answer, NewPayment, Script};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use testkit::{eventually, eventually_some};

use crate::{
    audit_scale::scans,
    http::TOKEN,
    line_world::{Process, becomes, stage_that_calls_back},
    orders::{PATIENCE, Sql, Writer, attempt, order},
    refund_stage::{AMOUNT, HOUR, MINUTE, reference},
};

/// Orders that are over, every fourth with its money given back; enough that no planner reads them all for the few that are not.
const SETTLED: u32 = 20_000;

/// Orders that the planner's statistics still take for due.
const WORKED_OFF: u32 = 4_000;

/// The tables that grow with every order.
const TABLES: [&str; 8] =
    ["payment", "customer_order", "money_entry", "refund", "outbox", "stock_movement", "payment_callback", "payment_run"];

async fn fill(sql: &Sql) {
    let at = "payment_now() - interval '1 day' - n * interval '8 minutes'";
    sql.run(&format!(
        "BEGIN; SET LOCAL session_replication_role = replica;
         INSERT INTO customer_order (order_id, amount, currency, state, created_at, received_at)
            SELECT 's' || n, {AMOUNT}, 'KRW', CASE n % 4 WHEN 0 THEN 'FAILED' ELSE 'COMPLETED' END, {at}, {at} FROM generate_series(1, {SETTLED}) n;
         INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency, state, paid_order, created_at, checked_at, next_check_at, sweep_until)
            SELECT 'ps' || n, 's' || n, 'sim', 'rs' || n, {AMOUNT}, 'KRW', CASE n % 4 WHEN 0 THEN 'REFUNDED' ELSE 'SUCCESS' END, n % 4 > 0, {at}, {at},
                CASE n % 16 WHEN 0 THEN payment_now() + interval '1 day' END, CASE n % 16 WHEN 0 THEN payment_now() + interval '9 days' END
            FROM generate_series(1, {SETTLED}) n;
         INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, recorded_at, actor)
            SELECT 'ps' || n, 'capture', 't' || n, {AMOUNT}, 'KRW', {at}, 'a test' FROM generate_series(1, {SETTLED}) n;
         INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, recorded_at, actor)
            SELECT 'ps' || n, 'refund', 't' || n, {AMOUNT}, 'KRW', {at}, 'a test' FROM generate_series(4, {SETTLED}, 4) n;
         INSERT INTO refund (refund_id, payment_id, amount, currency, reason, actor, automatic, state, created_at, confirmed_at, watch_until)
            SELECT 'rf' || n, 'ps' || n, {AMOUNT}, 'KRW', 'OUT_OF_STOCK', 'settle', true, 'CONFIRMED', {at}, {at}, {at} FROM generate_series(4, {SETTLED}, 4) n;
         INSERT INTO stock_movement (order_id, product_id, kind, change)
            SELECT 's' || n, 'old', 'sold', -2 FROM generate_series(1, {SETTLED}) n WHERE n % 4 > 0;
         INSERT INTO outbox (event_id, topic, event_type, event_key, payload, occurred_at, published_at)
            SELECT gen_random_uuid(), 'payment_outcome', 'a test', 's' || n, '{{}}', {at}, {at} FROM generate_series(1, {SETTLED}) n;
         INSERT INTO payment_callback (provider, event_id, reference, payment_id, authenticated, received_at, last_received_at)
            SELECT 'sim', 'e' || n, 'rs' || n, CASE WHEN n % 1000 > 0 THEN 'ps' || n END, true, {at}, {at} FROM generate_series(1, {SETTLED}) n;
         INSERT INTO payment_run (holder, started_at, finished_at, found, asked, settled, failed, waiting, refunded, attention, errors, duration_ms)
            SELECT gen_random_uuid(), {at}, {at}, 0, 0, 0, 0, 0, 0, 0, 0, 1 FROM generate_series(1, {SETTLED}) n;
         COMMIT"
    ))
    .await;
    worked_off(sql).await;
}

/// A backlog that was there when the planner's statistics were made, and is worked off since: they say that much is due, as they do in an outage
/// and behind one.
async fn worked_off(sql: &Sql) {
    let at = "payment_now() - interval '1 day' - n * interval '1 second'";
    sql.run("ALTER TABLE payment SET (autovacuum_enabled = false)").await;
    sql.run(&format!(
        "BEGIN; SET LOCAL session_replication_role = replica;
         INSERT INTO customer_order (order_id, amount, currency, state, created_at, received_at)
            SELECT 'w' || n, {AMOUNT}, 'KRW', 'FAILED', {at}, {at} FROM generate_series(1, {WORKED_OFF}) n;
         INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency, state, created_at)
            SELECT 'pw' || n, 'w' || n, 'sim', 'rw' || n, {AMOUNT}, 'KRW', 'PENDING', {at} FROM generate_series(1, {WORKED_OFF}) n;
         COMMIT"
    ))
    .await;
    sql.run("VACUUM (ANALYZE)").await;
    sql.run(
        "BEGIN; SET LOCAL session_replication_role = replica;
         UPDATE payment SET state = 'FAILED', sweep_until = payment_now() WHERE payment_id LIKE 'pw%';
         COMMIT",
    )
    .await;
}

/// What operators look at and do.
struct Operator {
    client: Client,
    url: String,
}

impl Operator {
    async fn call(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(TOKEN);
        let answer = request.header("content-type", "application/json").body(body.to_string()).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn looks(&self) {
        for list in
            ["orders", "orders/back", "orders/s4", "refunds", "refunds?state=held", "refunds?state=manual", "callbacks", "runs"]
        {
            self.call(Method::GET, &format!("/v1/admin/{list}"), Value::Null).await;
        }
    }

    async fn does(&self, path: &str, wish: Value) {
        self.call(Method::POST, &format!("/v1/admin/orders/{path}"), wish).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_reads_no_table_from_its_beginning_to_its_end() {
    let port = stack::ports::free().unwrap();
    let stage = stage_that_calls_back("scale", port).await.with_topics().await;
    fill(&stage.sql).await;
    for number in 0..24 {
        stage.place(&format!("paid{number}"), Script::paid()).await;
    }
    for number in 0..4 {
        stage.place(&format!("open{number}"), Script::open()).await;
    }
    stage.place_of("back", "nothing", vec![Script::paid()]).await;
    stage.place("failed", Script::default().then(Answer::Closed)).await;
    let mut logged = order("logged");
    logged.payments = vec![attempt("p-logged", "sim", &reference("p-logged"))];
    for payment in ["p-logged", "p-nobodys"] {
        let script = if payment == "p-logged" { Script::paid() } else { Script::open() };
        stage.simulator.place(NewPayment::new(reference(payment), AMOUNT, domain::payment::Currency::KRW, script)).unwrap();
    }
    Writer::new(&stage.world).place(&logged).await;
    stage.sql.text("SELECT pg_stat_force_next_flush()::text").await;
    let before = scans(&stage.sql, &TABLES).await;

    let tokens = format!("anna:{TOKEN}");
    let own = [
        ("INTAKE__ENABLED", "true"),
        ("OUTBOX__ENABLED", "true"),
        ("LINE__RUN__STALE_AFTER_MS", "600000"),
        ("ADMIN__TOKENS", &tokens),
    ];
    let mut process = Process::start_on(&stage, port, &own, &[]);
    becomes(&stage, "logged", "PENDING PENDING").await;
    stage.sql.time_passes(11 * MINUTE).await;
    for number in 0..24 {
        becomes(&stage, &format!("paid{number}"), "COMPLETED SUCCESS").await;
    }
    for (id, states) in [("logged", "COMPLETED SUCCESS"), ("back", "FAILED REFUNDED"), ("failed", "FAILED FAILED")] {
        becomes(&stage, id, states).await;
    }
    // A callback hints at one, and another one is about nobody's payment.
    stage.simulator.pay(&reference("p-open0")).unwrap();
    stage.simulator.pay(&reference("p-nobodys")).unwrap();
    becomes(&stage, "open0", "COMPLETED SUCCESS").await;
    let operator =
        Operator { client: Client::builder().timeout(PATIENCE).build().unwrap(), url: format!("http://127.0.0.1:{port}") };
    eventually(PATIENCE, "the callback about nobody's payment", || async {
        let listed = operator.call(Method::GET, "/v1/admin/callbacks", Value::Null).await;
        listed.to_string().contains(&reference("p-nobodys"))
    })
    .await;
    operator.looks().await;
    operator.does("open1/retry", json!({"reason": "a call"})).await;
    operator.does("open2/resolve", json!({"reason": "a call", "action": "settle"})).await;
    operator.does("paid0/resolve", json!({"reason": "a call", "action": "cancel", "restock": true})).await;
    becomes(&stage, "paid0", "CANCELLED REFUNDED").await;
    operator.looks().await;
    // Late money is looked for.
    stage.sql.time_passes(2 * HOUR).await;
    eventually(PATIENCE, "the sweep", || async { stage.of_payment("p-failed", "checks").await != "0" }).await;
    assert_eq!(process.service.terminate(PATIENCE).unwrap(), Some(0));

    // A session's counts are there when it has ended.
    eventually_some(PATIENCE, "the replica's sessions are gone", || async {
        let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' \
            AND pid <> pg_backend_pid()";
        match stage.sql.number(others).await {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
    let after = scans(&stage.sql, &TABLES).await;
    let whole: Vec<(&str, i64)> =
        TABLES.into_iter().zip(before.iter().zip(&after).map(|(before, after)| after.0 - before.0)).collect();
    assert!(whole.iter().all(|(_, times)| *times == 0), "tables that were read as a whole, and how often: {whole:?}");
    assert!(before.iter().zip(&after).all(|(before, after)| after.1 > before.1), "all of them were looked at");
}
