//! The operators' interface on a real PostgreSQL.

use std::sync::atomic::{AtomicBool, Ordering};

use domain::payment::{Currency, Money, PgAnswer, PgPayment};
use payment_providers::port::ProviderError;
use payment_reconciler::audit::AuditSettings;
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{World, eventually};

use crate::{
    http::{Stage, TOKEN, stage, stage_on, stage_with},
    orders::{PATIENCE, Sql, attempt, order},
    scripted::paid,
};

const WON: fn(i64) -> Money = |amount| Money::new(amount, Currency::KRW);

/// An order that is paid and completed.
async fn completed(stage: &Stage, id: &str) {
    stage.sql.place(&order(id)).await;
    stage
        .sql
        .run(&format!(
            "INSERT INTO product (product_id, initial_stock, stock) VALUES ('book', 10, 10) ON CONFLICT DO NOTHING;
             BEGIN;
             INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, actor) VALUES ('p-{id}', 'capture', 't-{id}', 15000, 'KRW', 'test');
             UPDATE customer_order SET state = 'COMPLETED' WHERE order_id = '{id}';
             UPDATE payment SET state = 'SUCCESS' WHERE payment_id = 'p-{id}';
             INSERT INTO stock_movement (order_id, product_id, kind, change) VALUES ('{id}', 'book', 'sold', -2);
             COMMIT"
        ))
        .await;
}

async fn actions(stage: &Stage) -> String {
    let all = "SELECT string_agg(concat_ws(' ', actor, action, target, outcome), ', ' ORDER BY action_id) FROM operator_action";
    stage.sql.text(all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_closed_without_tokens_and_open_to_operators_alone() {
    let stage = stage("closed").await;
    for (method, path) in [
        (Method::GET, "/v1/admin/orders"),
        (Method::GET, "/v1/admin/orders/a"),
        (Method::POST, "/v1/admin/orders/a/retry"),
        (Method::POST, "/v1/admin/orders/a/resolve"),
        (Method::GET, "/v1/admin/refunds"),
        (Method::POST, "/v1/admin/refunds/r/hold"),
        (Method::POST, "/v1/admin/refunds/r/release"),
        (Method::GET, "/v1/admin/runs"),
        (Method::GET, "/v1/admin/callbacks"),
        (Method::GET, "/v1/admin/totals"),
        (Method::GET, "/v1/admin/audits"),
        (Method::POST, "/v1/admin/audits"),
    ] {
        let body = json!({"reason": "x", "action": "settle"});
        let nobody = stage.call_as(method.clone(), path, &body, &[]).await;
        assert_eq!(nobody.code(), (401, "unauthorized".to_owned()), "{method} {path}");
    }
    let closed = stage_with("no-tokens", "", AuditSettings::default()).await;
    let answer = closed.get("/v1/admin/orders").await;
    assert_eq!(answer.code(), (403, "admin_disabled".to_owned()), "{TOKEN}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_still_is_listed_shown_and_retried() {
    let stage = stage("stale").await;
    for id in ["a", "b", "c", "fresh"] {
        stage.sql.place(&order(id)).await;
    }
    completed(&stage, "done").await;
    stage.sql.run("INSERT INTO payment_clock VALUES (true, 700000)").await;
    stage.sql.place(&order("young")).await;
    stage
        .sql
        .run("UPDATE payment SET attention = true, attention_reason = 'overdue', attention_since = payment_now() WHERE payment_id = 'p-a'")
        .await;
    let first = stage.get("/v1/admin/orders?limit=3").await.json();
    let ids = |page: &Value| -> Vec<String> {
        page["orders"].as_array().unwrap().iter().map(|order| order["orderId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&first), ["a", "b", "c"]);
    assert_eq!(first["orders"][0]["payments"][0]["attention"], "overdue");
    let second = stage.get(&format!("/v1/admin/orders?limit=3&after={}", first["next"].as_str().unwrap())).await.json();
    assert_eq!(
        (ids(&second), &second["next"]),
        (vec!["fresh".to_owned()], &Value::Null),
        "done and young ones do not stand still"
    );
    assert_eq!(stage.get("/v1/admin/orders?limit=0").await.code().1, "invalid_fields");

    let shown = stage.get("/v1/admin/orders/done").await.json();
    assert_eq!((shown["state"].as_str(), shown["money"][0]["amount"].as_i64()), (Some("COMPLETED"), Some(15_000)));
    assert!(!shown.to_string().contains("secret"));
    assert_eq!(stage.get("/v1/admin/orders/nobodys").await.code().1, "unknown_order");

    let dry = stage.post("/v1/admin/orders/b/retry", json!({"reason": "a call", "dryRun": true})).await.json();
    assert_eq!(dry["due"], json!(["p-b"]));
    assert_eq!(dry["payments"][0]["would"], "wait", "and what it would come to");
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE hinted_at IS NOT NULL").await, 0);
    stage.post("/v1/admin/orders/b/retry", json!({"reason": "a call"})).await;
    assert_eq!(stage.sql.text("SELECT payment_id FROM payment WHERE hinted_at IS NOT NULL").await, "p-b");
    assert_eq!(stage.post("/v1/admin/orders/done/retry", json!({"reason": "x"})).await.code().1, "refused");
    assert_eq!(stage.post("/v1/admin/orders/b/retry", json!({})).await.code().1, "invalid_fields");
    assert_eq!(actions(&stage).await, "operator:anna orders retry b done");
    let kept = stage.get("/v1/admin/orders/b").await.json();
    assert_eq!(
        (kept["actions"][0]["actor"].as_str(), kept["actions"][0]["reason"].as_str()),
        (Some("operator:anna"), Some("a call"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn resolving_asks_first_and_a_dry_run_changes_nothing() {
    let stage = stage("resolve").await;
    stage.sql.place(&order("a")).await;
    let path = "/v1/admin/orders/a/resolve";
    let settle = |dry_run: bool| json!({"reason": "the payer called", "action": "settle", "dryRun": dry_run});
    stage.pg.says("ref-a", Err(ProviderError::Unavailable("a test".to_owned())));
    assert_eq!(stage.post(path, settle(true)).await.code(), (503, "gateway_unavailable".to_owned()));
    stage.pg.says("ref-a", Ok(PgAnswer::Found(paid(WON(15_000)))));
    let dry = stage.post(path, settle(true)).await.json();
    assert_eq!(dry["payments"][0]["would"], "complete the order");
    assert!(dry["payments"][0]["gatewaySays"].as_str().unwrap().contains("15000 KRW"));
    assert!(stage.hands.settled.lock().unwrap().is_empty());
    assert_eq!(actions(&stage).await, "");

    let done = stage.post(path, settle(false)).await.json();
    assert_eq!(done["payments"][0]["outcome"], "settled");
    assert_eq!(*stage.hands.settled.lock().unwrap(), ["p-a"]);
    *stage.hands.busy.lock().unwrap() = true;
    assert_eq!(stage.post(path, settle(false)).await.code(), (409, "busy".to_owned()));
    let cancel = json!({"reason": "x", "action": "cancel"});
    assert_eq!(
        stage.post(path, cancel).await.code(),
        (409, "refused".to_owned()),
        "an order that is not paid is not the operator's to cancel"
    );
    assert_eq!(stage.post(path, json!({"reason": "x", "action": "fail"})).await.code().1, "invalid_fields");
    // What is done is kept by the line, together with what it did.
    let expected = "operator:anna orders resolve settle a refused, operator:anna orders resolve cancel a refused";
    assert_eq!(actions(&stage).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_order_is_cancelled_by_a_refund_that_the_line_drives() {
    let stage = stage("cancel").await;
    completed(&stage, "a").await;
    let path = "/v1/admin/orders/a/resolve";
    let cancel = |dry_run: bool| json!({"reason": "sent back", "action": "cancel", "restock": true, "dryRun": dry_run});
    assert_eq!(stage.post(path, cancel(false)).await.code(), (409, "refused".to_owned()), "the gateway does not know it");
    stage.pg.says("ref-a", Ok(PgAnswer::Found(paid(WON(15_000)))));
    let dry = stage.post(path, cancel(true)).await.json();
    assert!(dry["payments"][0]["would"].as_str().unwrap().contains("cancelled"));
    assert_eq!(stage.sql.number("SELECT count(*) FROM refund").await, 0);

    // Somebody gave it back at the gateway's dashboard: there is nothing to send.
    stage.pg.says("ref-a", Ok(PgAnswer::Found(PgPayment { refunded: WON(15_000), ..paid(WON(15_000)) })));
    let dry = stage.post(path, cancel(true)).await.json();
    assert!(dry["payments"][0]["would"].as_str().unwrap().starts_with("nothing is sent"), "{dry}");
    stage.pg.says("ref-a", Ok(PgAnswer::Found(paid(WON(15_000)))));

    let done = stage.post(path, cancel(false)).await.json();
    assert_eq!(done["order"]["payments"][0]["state"], "REFUNDING");
    let refund = "SELECT concat_ws(' ', refund_id, amount, reason, actor, automatic, restock, state) FROM refund";
    assert_eq!(stage.sql.text(refund).await, "rf-p-a 15000 OPERATOR operator:anna f t REQUESTED");
    assert_eq!(stage.sql.text("SELECT state FROM customer_order").await, "COMPLETED", "until the refund is confirmed");
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE hinted_at IS NOT NULL").await, 1);
    assert_eq!(stage.post(path, cancel(false)).await.code(), (409, "refused".to_owned()), "once");
    assert_eq!(stage.sql.number("SELECT count(*) FROM refund").await, 1);
    assert!(actions(&stage).await.contains("operator:anna orders resolve cancel a done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_are_held_and_released_with_a_reason() {
    let stage = stage("refunds").await;
    for id in ["a", "b"] {
        completed(&stage, id).await;
        stage.pg.says(&format!("ref-{id}"), Ok(PgAnswer::Found(paid(WON(15_000)))));
        stage.post(&format!("/v1/admin/orders/{id}/resolve"), json!({"reason": "x", "action": "cancel"})).await;
    }
    let open = stage.get("/v1/admin/refunds?limit=1").await.json();
    assert_eq!((open["refunds"][0]["refundId"].as_str(), open["next"].as_str()), (Some("rf-p-a"), Some("rf-p-a")));
    assert_eq!(stage.get("/v1/admin/refunds?after=rf-p-a").await.json()["refunds"].as_array().unwrap().len(), 1);

    let (hold, release) = ("/v1/admin/refunds/rf-p-a/hold", "/v1/admin/refunds/rf-p-a/release");
    let dry = stage.post(hold, json!({"reason": "why?", "dryRun": true})).await.json();
    assert_eq!((dry["would"].as_bool(), dry["refund"]["held"].as_bool()), (Some(true), Some(false)));
    let held = stage.post(hold, json!({"reason": "looks wrong"})).await.json();
    assert_eq!((held["refund"]["held"].as_bool(), held["refund"]["heldBy"].as_str()), (Some(true), Some("operator:anna")));
    assert_eq!(stage.post(hold, json!({"reason": "again"})).await.code(), (409, "refused".to_owned()));
    assert_eq!(stage.get("/v1/admin/refunds?state=held").await.json()["refunds"].as_array().unwrap().len(), 1);
    stage.sql.run("UPDATE payment SET hinted_at = NULL").await;
    let released = stage.post(release, json!({"reason": "is right"})).await.json();
    assert_eq!(released["refund"]["held"], false);
    assert_eq!(
        stage.sql.text("SELECT payment_id FROM payment WHERE hinted_at IS NOT NULL").await,
        "p-a",
        "its turn comes at once"
    );
    assert_eq!(stage.post(release, json!({"reason": "again"})).await.code(), (409, "refused".to_owned()));
    stage.sql.run("UPDATE refund SET state = 'SENDING', sending_since = now(), sends = 1 WHERE refund_id = 'rf-p-b'").await;
    let sent = stage.post("/v1/admin/refunds/rf-p-b/hold", json!({"reason": "too late"})).await;
    assert_eq!(sent.code(), (409, "refused".to_owned()));
    assert_eq!(stage.post("/v1/admin/refunds/nobodys/hold", json!({"reason": "x"})).await.code().1, "unknown_refund");
    let kept = actions(&stage).await;
    assert!(kept.contains("refunds hold rf-p-a done") && kept.contains("refunds hold rf-p-b refused"), "{kept}");
}

/// A fault in whatever keeps what an operator did.
pub const NOTHING_IS_KEPT: &str =
    "CREATE FUNCTION planted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'planted'; END $$;
    CREATE TRIGGER planted BEFORE INSERT ON operator_action FOR EACH ROW EXECUTE FUNCTION planted()";
/// The end of the fault.
pub const IT_IS_KEPT: &str = "DROP TRIGGER planted ON operator_action";

/// What an operator did and what is kept of it are one transaction: if one of them fails, there is neither.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_kept_of_an_operator_is_not_done() {
    let stage = stage("not-kept").await;
    for id in ["a", "b", "c"] {
        completed(&stage, id).await;
        stage.pg.says(&format!("ref-{id}"), Ok(PgAnswer::Found(paid(WON(15_000)))));
    }
    stage.sql.place(&order("open")).await;
    for id in ["b", "c"] {
        stage.post(&format!("/v1/admin/orders/{id}/resolve"), json!({"reason": "x", "action": "cancel"})).await;
    }
    stage.post("/v1/admin/refunds/rf-p-c/hold", json!({"reason": "x"})).await;
    stage.sql.run(NOTHING_IS_KEPT).await;
    let all = "SELECT concat_ws(' ', (SELECT string_agg(o::text, ' ' ORDER BY order_id) FROM customer_order o), \
        (SELECT string_agg(p::text, ' ' ORDER BY payment_id) FROM payment p), \
        (SELECT string_agg(r::text, ' ' ORDER BY refund_id) FROM refund r))";
    let (before, kept) = (stage.sql.text(all).await, actions(&stage).await);
    let deeds = [
        ("orders/open/retry", json!({"reason": "a call"})),
        ("orders/a/resolve", json!({"reason": "a call", "action": "cancel"})),
        ("refunds/rf-p-b/hold", json!({"reason": "looks wrong"})),
        ("refunds/rf-p-c/release", json!({"reason": "is right"})),
    ];
    for (path, wish) in &deeds {
        let answer = stage.post(&format!("/v1/admin/{path}"), wish.clone()).await;
        assert!(answer.status >= 500, "{path}: {}", answer.text);
        assert_eq!(stage.sql.text(all).await, before, "{path}");
    }
    // The fault alone kept them from being done.
    stage.sql.run(IT_IS_KEPT).await;
    for (path, wish) in &deeds {
        let answer = stage.post(&format!("/v1/admin/{path}"), wish.clone()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    let done = [
        "operator:anna orders retry open done",
        "operator:anna orders resolve cancel a done",
        "operator:anna refunds hold rf-p-b done",
        "operator:anna refunds release rf-p-c done",
    ];
    assert_eq!(actions(&stage).await, format!("{kept}, {}", done.join(", ")));
}

/// As a sweep of callbacks does, so that neither waits for the other in a ring.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_takes_its_payments_in_the_order_of_their_ids() {
    let world = World::of_payments("retry-order").await;
    let stage = stage_on(&world).await;
    let mut order = order("b");
    order.payments = ["p-9", "p-5", "p-1"].map(|id| attempt(id, "sim", &format!("ref-{id}"))).into();
    stage.sql.place(&order).await;
    let (holding, looking) = (Sql::of(&world).await, Sql::of(&world).await);
    holding.run("BEGIN; SELECT FROM payment WHERE payment_id = 'p-1' FOR UPDATE").await;
    let is_done = AtomicBool::new(false);
    let retry = async {
        stage.post("/v1/admin/orders/b/retry", json!({"reason": "a call"})).await;
        is_done.store(true, Ordering::SeqCst);
    };
    let look = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually(PATIENCE, "the retry waits for the first one", || async {
            is_done.load(Ordering::SeqCst) || looking.number(waiting).await > 0
        })
        .await;
        let others = "SELECT FROM payment WHERE payment_id IN ('p-5', 'p-9') FOR UPDATE NOWAIT";
        looking.try_run(others).await.expect("nothing behind the first one is taken yet");
        holding.run("COMMIT").await;
    };
    tokio::join!(retry, look);
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_runs_and_unknown_callbacks_are_readable() {
    let stage = stage("reports").await;
    stage
        .sql
        .run(
            "INSERT INTO payment_run (holder, started_at, finished_at, found, asked, settled, failed, waiting, refunded, attention, errors, duration_ms)
             VALUES (gen_random_uuid(), now(), now(), 5, 5, 3, 1, 1, 0, 0, 0, 120), (gen_random_uuid(), now(), now(), 0, 0, 0, 0, 0, 0, 0, 0, 1);
             INSERT INTO payment_callback (provider, event_id, reference, authenticated, attention_since) VALUES
             ('sim', 'u', 'waits', true, NULL), ('sim', 'f', 'anybodys', false, now() - interval '1 day'), ('sim', 'e', 'nobodys', true, now())",
        )
        .await;
    let runs = stage.get("/v1/admin/runs?limit=2").await.json();
    assert_eq!((runs["runs"][0]["found"].as_i64(), runs["runs"][1]["settled"].as_i64()), (Some(0), Some(3)), "the newest first");
    let unknown = stage.get("/v1/admin/callbacks").await.json();
    let references: Vec<_> = (0..3).map(|place| unknown["callbacks"][place]["reference"].as_str().unwrap()).collect();
    assert_eq!(references, ["nobodys", "anybodys", "waits"], "signed ones first, and those that wait too long before others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_fails_is_told() {
    let stage = stage("broken").await;
    stage.sql.run("ALTER TABLE customer_order RENAME TO gone; ALTER TABLE refund RENAME TO gone_too").await;
    for path in ["/v1/admin/orders", "/v1/admin/orders/a", "/v1/admin/refunds"] {
        assert_eq!(stage.get(path).await.code(), (503, "database_unavailable".to_owned()), "{path}");
    }
}
