//! `orders resolve` through the line: its claim, its ask, its settle, with the operator's name and reason in the same transaction.

use std::time::Duration;

use payment_providers::ProviderKind;
use pg_simulator::{Outage, Script};
use serde_json::{Value, json};
use testkit::eventually;

use crate::{
    admin::{IT_IS_KEPT, NOTHING_IS_KEPT},
    http::stage_over,
    orders::PATIENCE,
    refund_stage::{HOUR, MINUTE, SECOND, Stage, reference},
};

fn settle() -> Value {
    json!({"reason": "the payer called", "action": "settle"})
}

async fn actions(stage: &Stage) -> String {
    let all = "SELECT string_agg(concat_ws(' ', actor, action, target, reason, outcome, detail ->> 'outcome'), ', ' ORDER BY action_id) \
        FROM operator_action";
    stage.sql.text(all).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_not_settled_when_it_cannot_be_kept_who_wanted_it() {
    let stage = Stage::new("not-kept", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    let operators = stage_over(&stage.world, &stage.line, 1_000).await;
    stage.sql.run(NOTHING_IS_KEPT).await;
    let refused = operators.post("/v1/admin/orders/a/resolve", settle()).await;
    assert!(refused.status >= 500, "{}", refused.text);
    assert_eq!(stage.states("a").await, "PENDING PENDING");
    assert_eq!(stage.sql.number("SELECT (SELECT count(*) FROM money_entry) + (SELECT count(*) FROM outbox WHERE event_type LIKE '%OrderCompleted')").await, 0);
    stage.sql.run(IT_IS_KEPT).await;
    assert_eq!(operators.post("/v1/admin/orders/a/resolve", settle()).await.status, 200);
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_settled_at_once_in_the_operators_name() {
    let stage = Stage::new("resolved", ProviderKind::Generic).await;
    // Nobody runs here, and the order is not even stale: what happens is done by the operator's call.
    stage.place("a", Script::paid()).await;
    stage.place_of("gone", "nothing", vec![Script::paid()]).await;
    stage.place("open", Script::open()).await;
    let operators = stage_over(&stage.world, &stage.line, 1_000).await;
    let done = operators.post("/v1/admin/orders/a/resolve", settle()).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let done = done.json();
    assert_eq!((done["payments"][0]["outcome"].as_str(), done["order"]["state"].as_str()), (Some("settled"), Some("COMPLETED")));
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
    assert_eq!(stage.sql.text("SELECT actor FROM money_entry").await, "operator:anna");
    let gone = operators.post("/v1/admin/orders/gone/resolve", settle()).await.json();
    assert_eq!(gone["payments"][0]["outcome"], "refunding");
    assert_eq!(stage.states("gone").await, "PENDING REFUNDING");
    assert_eq!(
        stage.sql.text("SELECT concat_ws(' ', reason, actor, automatic) FROM refund").await,
        "PRODUCT_NOT_FOUND operator:anna t"
    );
    let open = operators.post("/v1/admin/orders/open/resolve", settle()).await.json();
    assert_eq!(open["payments"][0]["outcome"], "waiting");
    assert_eq!(stage.states("open").await, "PENDING PENDING", "what the tables do not say is not done");
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE holder IS NOT NULL").await, 0, "every claim is given back");
    let expected = "operator:anna orders resolve settle a the payer called done settled, \
        operator:anna orders resolve settle gone the payer called done refunding, \
        operator:anna orders resolve settle open the payer called done waiting";
    assert_eq!(actions(&stage).await, expected);
    assert_eq!(
        operators.post("/v1/admin/orders/a/resolve", settle()).await.code(),
        (409, "refused".to_owned()),
        "it is a success"
    );
    stage.run_for(HOUR, 10 * MINUTE).await;
    assert_eq!(stage.states("gone").await, "FAILED REFUNDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_replica_holds_is_waited_for_and_then_refused() {
    let stage = Stage::new("resolve-held", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    let other = crate::line_world::replica(&stage, 2, crate::refund_stage::patient());
    let held = other.claim_one(&"p-a".parse().unwrap()).await.unwrap().unwrap();
    let impatient = stage_over(&stage.world, &stage.line, 300).await;
    let busy = impatient.post("/v1/admin/orders/a/resolve", settle()).await;
    assert_eq!(busy.code(), (409, "busy".to_owned()));
    assert_eq!(busy.headers["content-type"], "application/problem+json");
    assert!(busy.json()["detail"].as_str().unwrap().contains("another replica holds this"), "{}", busy.text);
    assert_eq!(stage.simulator.calls(&reference("p-a")).query, 0, "nobody is asked about what somebody else holds");
    assert_eq!(stage.states("a").await, "PENDING PENDING");
    assert_eq!(actions(&stage).await, "operator:anna orders resolve settle a the payer called refused");

    // One that waits longer gets it once the other one gives it back.
    let patient = stage_over(&stage.world, &stage.line, 60_000).await;
    let since = stage.sql.text("SELECT clock_timestamp()::text").await;
    let call = tokio::spawn(async move { patient.post("/v1/admin/orders/a/resolve", settle()).await });
    eventually(PATIENCE, "the call waits for the claim", || async {
        let tries = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
             AND query LIKE 'SELECT EXISTS (SELECT FROM payment %' AND query_start > '{since}'"
        );
        stage.sql.number(&tries).await > 0
    })
    .await;
    other.give_back(&held).await.unwrap();
    let done = tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap();
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_an_answer_changes_nothing_and_is_told() {
    let stage = Stage::new("resolve-down", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    stage.simulator.set_outage(Outage::Unavailable);
    let operators = stage_over(&stage.world, &stage.line, 1_000).await;
    assert_eq!(operators.post("/v1/admin/orders/a/resolve", settle()).await.code(), (503, "gateway_unavailable".to_owned()));
    assert_eq!(stage.states("a").await, "PENDING PENDING");
    assert_eq!(stage.of_payment("p-a", "holder").await, "");
    assert_eq!(actions(&stage).await, "operator:anna orders resolve settle a the payer called refused");
    stage.simulator.set_outage(Outage::None);
    stage.run_after(11 * MINUTE + 30 * SECOND).await;
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS", "the runs go on with it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_hangs_up_breaks_nothing() {
    let stage = Stage::new("resolve-hangs-up", ProviderKind::Generic).await;
    stage.place("a", Script::paid().taking_ms(500)).await;
    let operators = stage_over(&stage.world, &stage.line, 1_000).await;
    let call = tokio::spawn(async move { operators.post("/v1/admin/orders/a/resolve", settle()).await });
    eventually(PATIENCE, "the gateway is asked", || async { stage.simulator.calls(&reference("p-a")).query > 0 }).await;
    call.abort();
    eventually(Duration::from_secs(60), "it is settled all the same", || async {
        stage.states("a").await == "COMPLETED SUCCESS"
    })
    .await;
    eventually(PATIENCE, "and kept", || async { actions(&stage).await.ends_with("done settled") }).await;
    stage.money().holds().await;
}
