//! Lines that are added to an order while it is settled: either they are sold with it, or they are refused.

use std::time::Duration;

use domain::payment::PgAnswer;
use payment_providers::ProviderKind;
use payment_reconciler::line::{ask::Question, claim::Claimed, run::Scope, settle::Mode};
use pg_simulator::Script;
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::{
    orders::{PATIENCE, Sql},
    refund_stage::{MINUTE, Stage},
};

const ADD_LINE: &str = "INSERT INTO order_line (order_id, product_id, quantity) VALUES ('a', 'rarity', 1)";

/// Pieces that a completed order was to have and that nobody took from the stock.
const UNSOLD: &str = "SELECT count(*) FROM order_line l JOIN customer_order o USING (order_id) WHERE o.state = 'COMPLETED' AND NOT EXISTS \
    (SELECT FROM stock_movement m WHERE m.order_id = l.order_id AND m.product_id = l.product_id AND m.kind = 'sold')";

async fn paid_and_asked_about(name: &str) -> (Stage, Claimed, PgAnswer) {
    let stage = Stage::new(name, ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    stage.sql.time_passes(11 * MINUTE).await;
    let began = stage.line.now().await.unwrap();
    let claimed = stage.line.claim(&"sim".parse().unwrap(), Scope::Run, 1, began, false).await.unwrap().remove(0);
    let answer = Box::pin(stage.line.ask(&claimed, Question::Status, &CancellationToken::new())).await.unwrap();
    (stage, claimed, answer)
}

/// Whether somebody waits for a lock in this database.
async fn somebody_waits(sql: &Sql) -> bool {
    sql.number("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'").await > 0
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_not_committed_yet_is_waited_for_and_sold() {
    let (stage, claimed, answer) = paid_and_asked_about("late-line").await;
    let adding = Sql::of(&stage.world).await;
    adding.run(&format!("BEGIN; {ADD_LINE}")).await;
    let line = stage.line.clone();
    let settling = tokio::spawn(async move { Box::pin(line.settle(&claimed, &answer, Mode::Normal)).await });
    eventually(PATIENCE, "the settle waits, or does not", || async {
        settling.is_finished() || somebody_waits(&stage.sql).await
    })
    .await;
    adding.run("COMMIT").await;
    settling.await.unwrap().unwrap();
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
    assert_eq!(stage.sql.number(UNSOLD).await, 0, "all lines are sold");
    assert_eq!(stage.sql.number("SELECT stock FROM product WHERE product_id = 'rarity'").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_comes_behind_a_settle_is_refused() {
    let (stage, claimed, answer) = paid_and_asked_about("later-line").await;
    // Holds up the settle in its middle: the order is locked and looked at, its products are not.
    let holding = Sql::of(&stage.world).await;
    holding.run("BEGIN; SELECT * FROM product FOR UPDATE").await;
    let line = stage.line.clone();
    let settling = tokio::spawn(async move { Box::pin(line.settle(&claimed, &answer, Mode::Normal)).await });
    eventually(PATIENCE, "the settle is in its middle", || async { somebody_waits(&stage.sql).await }).await;
    let adding = Sql::of(&stage.world).await;
    adding.run("SET lock_timeout = '60s'; SET statement_timeout = '60s'").await;
    let added = tokio::spawn(async move { adding.try_run(ADD_LINE).await });
    // Time for it to be written, if nothing holds it: then it is there, and the settle has not seen it.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(PATIENCE, "the line waits, or does not", || async { added.is_finished() || stage.sql.number(waiting).await > 1 })
        .await;
    holding.run("COMMIT").await;
    settling.await.unwrap().unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(60), added).await.unwrap().unwrap();
    assert_eq!(refused.unwrap_err().as_db_error().and_then(|error| error.constraint()), Some("order_line_in_time"));
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
    assert_eq!(stage.sql.number(UNSOLD).await, 0);
}
