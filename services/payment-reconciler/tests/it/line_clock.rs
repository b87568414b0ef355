//! Time is the database's, and it may step back.

use payment_providers::ProviderKind;
use payment_reconciler::line::run::Scope;
use pg_simulator::{Call, Fault, Outage, Script};
use tokio_util::sync::CancellationToken;

use crate::{
    line_world::{calls, replica},
    refund_stage::{HOUR, MINUTE, SECOND, Stage, patient},
};

async fn stage(name: &str) -> Stage {
    let mut own = patient();
    own.asking.tries = 1;
    Stage::with(name, ProviderKind::Generic, own).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_and_a_hint_from_before_the_clock_stepped_back_hold_nobody_up() {
    let stage = stage("stepped-back").await;
    stage.place("a", Script::paid()).await;
    stage.place("b", Script::pending(1).then(pg_simulator::Answer::Paid)).await;
    stage.sql.time_passes(11 * MINUTE).await;
    // One is claimed by a replica that dies, the other one was hinted at.
    let began = stage.line.now().await.unwrap();
    let claimed = stage.line.claim(&"sim".parse().unwrap(), Scope::Run, 1, began, false).await.unwrap().remove(0);
    assert_eq!(claimed.order.as_str(), "a");
    stage.run().await;
    assert_eq!(stage.states("b").await, "PENDING PENDING");
    stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
    stage.sql.time_passes(-HOUR).await;
    let other = replica(&stage, 2, patient());
    let report = other.run_once(Scope::Due, &CancellationToken::new()).await.unwrap();
    assert_eq!(report.asked(), 2, "{report:?}");
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
    assert_eq!(stage.states("b").await, "COMPLETED SUCCESS");
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_during_which_the_clock_steps_back_ends_and_asks_once() {
    let stage = stage("steps-back").await;
    for number in 0..30 {
        stage.place(&format!("o{number}"), Script::open().taking_ms(30)).await;
    }
    stage.sql.time_passes(HOUR).await;
    let line = std::sync::Arc::clone(&stage.line);
    let run = tokio::spawn(async move { line.run_once(Scope::Run, &CancellationToken::new()).await.unwrap() });
    testkit::eventually(crate::orders::PATIENCE, "the run is under way", || async { stage.simulator.in_flight_max() > 0 }).await;
    stage.sql.time_passes(-30 * MINUTE).await;
    assert_eq!(run.await.unwrap().asked(), 30);
    assert!((0..30).all(|number| calls(&stage, &format!("o{number}")).query == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_and_a_pause_from_before_the_clock_stepped_back_do_not_count() {
    let stage = stage("breaker-back").await;
    for number in 0..8 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    stage.sql.time_passes(HOUR).await;
    stage.simulator.set_outage(Outage::Unavailable);
    stage.run().await;
    assert_eq!(stage.sql.text("SELECT breaker FROM provider_state").await, "open");
    stage.simulator.set_outage(Outage::None);
    stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
    stage.sql.time_passes(-40 * MINUTE).await;
    // One tries the gateway, and the others follow in the same run.
    stage.run().await;
    assert_eq!(stage.sql.text("SELECT breaker FROM provider_state").await, "closed");
    assert_eq!(stage.sql.number("SELECT count(*) FROM customer_order WHERE state = 'COMPLETED'").await, 8);
    stage.place("last", Script::paid().fault(Call::Query, 1, Fault::Throttled(Some(60)))).await;
    for _ in 0..2 {
        stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE state = 'PENDING'").await;
        stage.run().await;
        assert_eq!((stage.states("last").await.as_str(), calls(&stage, "last").query), ("PENDING PENDING", 1), "it pauses");
    }
    stage.sql.time_passes(-HOUR).await;
    stage.run().await;
    assert_eq!(stage.states("last").await, "COMPLETED SUCCESS");
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_stale_when_the_database_says_so_and_not_a_second_earlier() {
    let stage = stage("stale").await;
    stage.place("a", Script::paid()).await;
    stage.sql.time_passes(9 * MINUTE).await;
    assert_eq!((stage.run().await.found, calls(&stage, "a").query), (0, 0));
    stage.sql.time_passes(MINUTE + SECOND).await;
    assert_eq!((stage.run().await.found, calls(&stage, "a").query), (1, 1));
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
}
