//! Audits, totals and lists of what stands still look at what they are about, and not at everything that ever was.

use payment_reconciler::audit::{AuditSettings, Auditor, Span, Wish, totals};
use reqwest::Method;
use serde_json::Value;
use testkit::{World, eventually_some};
use uuid::Uuid;

use crate::{
    http::stage_on,
    orders::{PATIENCE, Sql, db},
    scripted::Scripted,
};

/// Orders with a payment and its capture, over a hundred days; enough that no planner reads them all for an hour of them.
const ORDERS: u32 = 40_000;

const TABLES: [&str; 3] = ["money_entry", "payment", "customer_order"];

async fn full(name: &str) -> (World, Sql) {
    let world = World::of_payments(name).await;
    let sql = Sql::of(&world).await;
    sql.run(&format!(
        "BEGIN; SET LOCAL session_replication_role = replica;
         INSERT INTO customer_order (order_id, amount, currency, state, created_at)
            SELECT 'o' || n, 100, 'KRW', CASE WHEN n % 10000 = 1 THEN 'PENDING' ELSE 'COMPLETED' END,
                timestamptz '2026-01-01T00:00:00Z' + n * interval '216 seconds' FROM generate_series(0, {ORDERS} - 1) n;
         INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency, state, paid_order, attention, attention_reason, attention_since)
            SELECT 'p' || n, 'o' || n, CASE n % 2 WHEN 0 THEN 'sim' ELSE 'other' END, 'r' || n, 100, 'KRW', 'SUCCESS', true, n % 10000 IN (1, 2),
                CASE WHEN n % 10000 IN (1, 2) THEN 'overdue' END, CASE WHEN n % 10000 IN (1, 2) THEN now() END FROM generate_series(0, {ORDERS} - 1) n;
         INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, pg_at, recorded_at, actor)
            SELECT 'p' || n, 'capture', 't' || n, 100, 'KRW', CASE WHEN n % 3 > 0 THEN timestamptz '2026-01-01T00:00:00Z' + n * interval '216 seconds' END,
                timestamptz '2026-01-01T00:00:00Z' + n * interval '216 seconds', 'a test' FROM generate_series(0, {ORDERS} - 1) n;
         COMMIT; ANALYZE money_entry; ANALYZE payment; ANALYZE customer_order"
    ))
    .await;
    (world, sql)
}

/// How often each table was read from its beginning to its end, and how often by an index.
async fn scans(sql: &Sql) -> Vec<(i64, i64)> {
    let mut all = Vec::new();
    for table in TABLES {
        let of = |column: &str| format!("SELECT {column} FROM pg_stat_user_tables WHERE relid = '{table}'::regclass");
        all.push((sql.number(&of("seq_scan")).await, sql.number(&of("coalesce(idx_scan, 0)")).await));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_costs_an_hour_however_long_the_book_is() {
    let (world, sql) = full("scale").await;
    sql.text("SELECT pg_stat_force_next_flush()::text").await;
    let before = scans(&sql).await;
    {
        let own = db(&world).await;
        let at = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        let span = Span::new(at("2026-02-01T00:00:00Z"), at("2026-02-01T06:00:00Z")).unwrap();
        // Nothing is in the list, and the gateway knows nothing: every second entry of the time is a difference.
        let auditor = Auditor::new(own.clone(), Uuid::from_u128(1), [Scripted::named("sim") as _], AuditSettings::default());
        let wish = Wish { span, settling_minutes: None, actor: "a test", once: false };
        let report = auditor.audit(&"sim".parse().unwrap(), wish).await.unwrap().unwrap();
        assert_eq!((report.verdict, report.differences_total), ("difference", 50));
        let sums = totals(&own, span).await.unwrap();
        assert_eq!(
            sums.iter().map(|sum| (sum.captures, sum.captured.as_str())).collect::<Vec<_>>(),
            [(50, "5000"), (50, "5000")]
        );
        // Longer than a page.
        let whole = totals(&own, Span::new(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z")).unwrap()).await.unwrap();
        assert_eq!(whole.iter().map(|sum| sum.captures).sum::<i64>(), i64::from(ORDERS));
        let stage = stage_on(&world).await;
        let mut listed = Vec::new();
        let mut path = "/v1/admin/orders?limit=3".to_owned();
        loop {
            let page = stage.call(Method::GET, &path, &Value::Null).await.json();
            listed.extend(page["orders"].as_array().unwrap().iter().map(|order| order["orderId"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else { break };
            path = format!("/v1/admin/orders?limit=3&after={next}");
        }
        assert_eq!(listed, ["o1", "o2", "o10001", "o10002", "o20001", "o20002", "o30001", "o30002"]);
    }
    // The servers' counts come when their sessions end or are idle.
    let after = eventually_some(PATIENCE, "the counts of all sessions", || async {
        let after = scans(&sql).await;
        let all_told = before.iter().zip(&after).all(|(before, after)| after.1 > before.1);
        if all_told { Ok(after) } else { Err(format!("{before:?} {after:?}")) }
    })
    .await;
    let whole: Vec<i64> = before.iter().zip(&after).map(|(before, after)| after.0 - before.0).collect();
    assert_eq!(whole, [0, 0, 0], "tables that were read as a whole: {TABLES:?}");
}
