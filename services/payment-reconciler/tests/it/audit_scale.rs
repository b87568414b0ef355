//! Audits, totals, lists for operators and the numbers for alerts look at what they are about, and not at everything that ever was.

use payment_reconciler::{
    audit::{AuditSettings, Auditor, Span, Wish, totals},
    observe,
};
use reqwest::Method;
use serde_json::Value;
use testkit::{World, eventually_some};
use uuid::Uuid;

use crate::{
    http::{OBSERVED, Stage, stage_on},
    orders::{PATIENCE, Sql, db},
    scripted::Scripted,
};

/// Orders with a payment, its capture and a refund, over a hundred days; enough that no planner reads them all for an hour of them.
const ORDERS: u32 = 40_000;

const TABLES: [&str; 4] = ["money_entry", "payment", "customer_order", "refund"];

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
         INSERT INTO refund (refund_id, payment_id, amount, currency, reason, actor, automatic, state, held, held_reason, held_by, created_at, confirmed_at, watch_until)
            SELECT 'f' || n, 'p' || n, 100, 'KRW', 'OUT_OF_STOCK', 'a test', true, CASE n % 10000 WHEN 3 THEN 'REQUESTED' WHEN 4 THEN 'MANUAL' ELSE 'CONFIRMED' END,
                n % 10000 = 3, CASE WHEN n % 10000 = 3 THEN 'a test' END, CASE WHEN n % 10000 = 3 THEN 'a test' END, timestamptz '2026-01-01T00:00:00Z' + n * interval '216 seconds', now(), now()
            FROM generate_series(0, {ORDERS} - 1) n;
         COMMIT; ANALYZE money_entry; ANALYZE payment; ANALYZE customer_order; ANALYZE refund"
    ))
    .await;
    (world, sql)
}

/// How often each table was read from its beginning to its end, and how often by an index.
pub async fn scans(sql: &Sql, tables: &[&str]) -> Vec<(i64, i64)> {
    let mut all = Vec::new();
    for table in tables {
        let of = |column: &str| format!("SELECT {column} FROM pg_stat_user_tables WHERE relid = '{table}'::regclass");
        all.push((sql.number(&of("seq_scan")).await, sql.number(&of("coalesce(idx_scan, 0)")).await));
    }
    all
}

/// The ids of a list, page by page.
async fn pages(stage: &Stage, path: &str, list: &str, id: &str, pages_max: usize) -> Vec<String> {
    let (mut listed, mut next) = (Vec::new(), format!("/v1/admin/{path}"));
    for _ in 0..pages_max {
        let page = stage.call(Method::GET, &next, &Value::Null).await.json();
        listed.extend(page[list].as_array().unwrap().iter().map(|item| item[id].as_str().unwrap().to_owned()));
        let Some(after) = page["next"].as_str() else { break };
        next = format!("/v1/admin/{path}&after={after}");
    }
    listed
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_costs_an_hour_however_long_the_book_is() {
    let (world, sql) = full("scale").await;
    sql.text("SELECT pg_stat_force_next_flush()::text").await;
    let before = scans(&sql, &TABLES).await;
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
        let orders = pages(&stage, "orders?limit=3", "orders", "orderId", usize::MAX).await;
        assert_eq!(orders, ["o1", "o2", "o10001", "o10002", "o20001", "o20002", "o30001", "o30002"]);
        let refunds = async |state: &str, pages_max| {
            pages(&stage, &format!("refunds?limit=3&state={state}"), "refunds", "refundId", pages_max).await
        };
        assert_eq!(refunds("held", usize::MAX).await, ["f3", "f10003", "f20003", "f30003"]);
        assert_eq!(refunds("manual", usize::MAX).await, ["f4", "f10004", "f20004", "f30004"]);
        let open = ["f3", "f4", "f10003", "f10004", "f20003", "f20004", "f30003", "f30004"];
        assert_eq!(refunds("open", usize::MAX).await, open);
        assert_eq!(refunds("all", 2).await, ["f0", "f1", "f2", "f3", "f4", "f5"]);
        let gateways = vec!["sim".to_owned(), "other".to_owned()];
        let watch = observe::Watch { gateways, stale_after_ms: 600_000, nightly: Some(AuditSettings::default()) };
        let _alone = OBSERVED.lock().await;
        observe::look(&own, &watch).await.unwrap();
    }
    // The servers' counts come when their sessions end or are idle.
    let after = eventually_some(PATIENCE, "the counts of all sessions", || async {
        let after = scans(&sql, &TABLES).await;
        let all_told = before.iter().zip(&after).all(|(before, after)| after.1 > before.1);
        if all_told { Ok(after) } else { Err(format!("{before:?} {after:?}")) }
    })
    .await;
    let whole: Vec<i64> = before.iter().zip(&after).map(|(before, after)| after.0 - before.0).collect();
    assert_eq!(whole, [0; 4], "tables that were read as a whole: {TABLES:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ages_for_alerts_are_read_without_the_backlog() {
    const BACKLOG: i64 = 20_000;
    let world = World::of_payments("ages").await;
    let sql = Sql::of(&world).await;
    // Half of them were never asked about, the other half is due; two gateways.
    sql.run(&format!(
        "BEGIN; SET LOCAL session_replication_role = replica;
         INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency, created_at, next_check_at)
            SELECT 'p' || n, 'o' || n, CASE n % 4 / 2 WHEN 0 THEN 'sim' ELSE 'other' END, 'r' || n, 100, 'KRW', now() - interval '1 hour' - n * interval '1 second',
                CASE WHEN n % 2 = 0 THEN now() - n * interval '10 seconds' END FROM generate_series(0, {BACKLOG} - 1) n;
         COMMIT; ANALYZE payment"
    ))
    .await;
    // What was read by statements that are over is told when a session ends or stands idle; the backlog's own is told before.
    let read = "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes i WHERE i.relid = t.relid)::bigint
        FROM pg_stat_user_tables t WHERE relid = 'payment'::regclass";
    sql.text("SELECT pg_stat_force_next_flush()::text").await;
    let scans = "SELECT idx_scan FROM pg_stat_user_tables WHERE relid = 'payment'::regclass";
    let (read_before, scans_before) = (sql.number(read).await, sql.number(scans).await);
    {
        let own = db(&world).await;
        let watch = observe::Watch { gateways: vec!["sim".to_owned()], stale_after_ms: 600_000, nightly: None };
        let _alone = OBSERVED.lock().await;
        observe::look(&own, &watch).await.unwrap();
    }
    eventually_some(PATIENCE, "the counts of the session", || async {
        let more = sql.number(scans).await;
        if more > scans_before { Ok(()) } else { Err(format!("{scans_before} {more}")) }
    })
    .await;
    let rows = sql.number(read).await - read_before;
    assert!(rows < 100, "{rows} rows were read to find the oldest of {BACKLOG}");
}
