//! What a settle waits for: somebody else's transaction on its order or its products. It is judged by what is there when that has ended.

use std::sync::Arc;

use payment_providers::ProviderKind;
use payment_reconciler::line::run::{Report, Scope};
use pg_simulator::Script;
use tokio_util::sync::CancellationToken;

use crate::{
    orders::{PATIENCE, Sql},
    refund_stage::{MINUTE, Stage},
};

/// Somebody has begun this and takes his time; a paid order `a` of two books is settled meanwhile, and then he commits.
async fn settled_beside(name: &str, somebody: &str) -> (Stage, Report) {
    let stage = Stage::new(name, ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    stage.sql.time_passes(11 * MINUTE).await;
    let sitter = Sql::of(&stage.world).await;
    sitter.run(&format!("BEGIN; {somebody}")).await;
    let line = Arc::clone(&stage.line);
    let run = tokio::spawn(async move { Box::pin(line.run_once(Scope::Run, &CancellationToken::new())).await.unwrap() });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    testkit::eventually(PATIENCE, "the settle waits", || async { stage.sql.number(waits).await == 1 }).await;
    sitter.run("COMMIT").await;
    let report = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
    (stage, report)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_its_user_is_cancelling_is_judged_as_cancelled() {
    let cancels = "UPDATE customer_order SET state = 'CANCELLED', reason = 'USER' WHERE order_id = 'a'";
    let (stage, report) = settled_beside("lock-order", cancels).await;
    assert_eq!((report.failures(), stage.states("a").await.as_str()), (0, "CANCELLED REFUNDING"), "{report:?}");
    assert_eq!(stage.of_payment("p-a", "r.reason").await, "ORDER_CANCELLED");
    stage.becomes_quiet().await;
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_that_somebody_is_taking_is_judged_as_taken() {
    let (stage, report) = settled_beside("lock-stock", "UPDATE product SET stock = 1 WHERE product_id = 'book'").await;
    assert_eq!(stage.states("a").await, "PENDING REFUNDING", "{report:?}");
    assert_eq!(stage.of_payment("p-a", "r.reason").await, "OUT_OF_STOCK");
    stage.becomes_quiet().await;
    stage.money().holds().await;
}
