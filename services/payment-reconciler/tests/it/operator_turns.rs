//! Operators' asks under the same limits as the runs: the slots, the pace, the pause, the breaker; a dry run as much as a resolve.

use std::{sync::Arc, time::Duration};

use payment_providers::ProviderKind;
use payment_reconciler::{config::LineSettings, line::run::Scope};
use pg_simulator::{Call, Fault, Outage, Script};
use serde_json::{Value, json};
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::{
    http::{Answer, Stage as Operators, stage_over},
    line_world::{becomes, calls},
    orders::PATIENCE,
    refund_stage::{MINUTE, SECOND, Stage, patient},
};

/// An ask that ends long after the test.
const NEVER_MS: u64 = 600_000;
/// Longer than a turn takes on a busy machine, where one is to be had.
const LONG_MS: u64 = 60_000;

fn wish(dry_run: bool) -> Value {
    json!({"reason": "the payer called", "action": "settle", "dryRun": dry_run})
}

async fn resolve(operators: &Operators, id: &str, dry_run: bool) -> Answer {
    operators.post(&format!("/v1/admin/orders/{id}/resolve"), wish(dry_run)).await
}

fn retry_after(answer: &Answer) -> i64 {
    answer.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

/// Settings with so few slots, for gateways that a test lets hang.
fn with_slots(slots: u16) -> LineSettings {
    let mut own = patient();
    own.asking.concurrency_max = slots;
    own.asking.tries = 1;
    own.asking.try_timeout_ms = 2 * NEVER_MS;
    own.run.lease_ms = i64::try_from(3 * NEVER_MS).unwrap();
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_gateway_is_not_asked_for_operators_either_and_they_are_told_until_when() {
    let stage = Stage::new("turn-paused", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    stage.place("b", Script::paid().fault(Call::Query, 1, Fault::Throttled(Some(40)))).await;
    let operators = stage_over(&stage.world, &stage.line, LONG_MS).await;
    assert_eq!(resolve(&operators, "b", true).await.code(), (503, "gateway_unavailable".to_owned()), "its own ask is told 429");
    let until = stage.sql.text("SELECT to_char(paused_until AT TIME ZONE 'UTC', 'HH24:MI:SS') FROM provider_state").await;
    for dry_run in [true, false] {
        let refused = resolve(&operators, "a", dry_run).await;
        assert_eq!(refused.code(), (503, "gateway_paused".to_owned()));
        assert!((1..=40).contains(&retry_after(&refused)), "{}", retry_after(&refused));
        assert!(detail(&refused).contains(&until), "{} says {until}", detail(&refused));
    }
    let told = operators.post("/v1/admin/orders/a/retry", json!({"reason": "what?", "dryRun": true})).await.json();
    assert!(told["payments"][0]["gatewaySays"].as_str().unwrap().contains("wants no calls until"), "{told}");
    assert_eq!(calls(&stage, "a").query, 0, "nobody was asked");
    assert_eq!((stage.states("a").await.as_str(), stage.of_payment("p-a", "holder").await.as_str()), ("PENDING PENDING", ""));
    stage.sql.time_passes(41 * SECOND).await;
    let done = resolve(&operators, "a", false).await;
    assert_eq!((done.status, stage.states("a").await.as_str()), (200, "COMPLETED SUCCESS"), "{}", done.text);
    stage.becomes_quiet().await;
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_waits_for_a_slot_only_so_long_and_is_told() {
    let stage = Stage::with("turn-slots", ProviderKind::Generic, with_slots(2)).await;
    for id in ["slow1", "slow2"] {
        stage.place(id, Script::paid().taking_ms(NEVER_MS)).await;
    }
    stage.place("a", Script::paid()).await;
    // The oldest are what is taken first.
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id LIKE 'p-slow%'").await;
    stage.sql.time_passes(11 * MINUTE).await;
    let (line, stop) = (Arc::clone(&stage.line), CancellationToken::new());
    let stopped = stop.clone();
    let run = tokio::spawn(async move { Box::pin(line.run_once(Scope::Run, &stopped)).await });
    eventually(PATIENCE, "both slots are asking", || async { calls(&stage, "slow1").query + calls(&stage, "slow2").query == 2 })
        .await;
    let impatient = stage_over(&stage.world, &stage.line, 1_000).await;
    for dry_run in [true, false] {
        let busy = resolve(&impatient, "a", dry_run).await;
        assert_eq!(busy.code(), (503, "gateway_busy".to_owned()));
        assert!(detail(&busy).contains("as many calls as may be are under way") && retry_after(&busy) >= 1, "{}", detail(&busy));
    }
    assert_eq!((calls(&stage, "a").query, stage.simulator.in_flight_max()), (0, 2), "nobody asks past the slots");
    assert_eq!(stage.of_payment("p-a", "holder").await, "", "and nothing is held meanwhile");

    // The slots are free again.
    stop.cancel();
    assert!(tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap().unwrap().interrupted);
    assert_eq!((resolve(&impatient, "a", false).await.status, stage.states("a").await.as_str()), (200, "COMPLETED SUCCESS"));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_leave_the_next_free_slot_to_an_operator() {
    let mut own = with_slots(1);
    own.run.stale_after_ms = 0;
    let stage = Stage::with("turn-ahead", ProviderKind::Generic, own).await;
    for number in 0..20 {
        stage.place(&format!("o{number:02}"), Script::paid().taking_ms(100)).await;
    }
    stage.place("wanted", Script::paid()).await;
    let operators = stage_over(&stage.world, &stage.line, LONG_MS).await;
    let line = Arc::clone(&stage.line);
    let run = tokio::spawn(async move { Box::pin(line.run_once(Scope::Run, &CancellationToken::new())).await });
    eventually(PATIENCE, "the run is under way", || async { stage.simulator.calls_total() > 0 }).await;
    let done = resolve(&operators, "wanted", false).await;
    let before = stage.simulator.calls_total();
    assert_eq!((done.status, stage.states("wanted").await.as_str()), (200, "COMPLETED SUCCESS"), "{}", done.text);
    assert!(before < 15, "it did not wait for the backlog: {before} calls before it came back");
    assert_eq!(run.await.unwrap().unwrap().successes(), 20);
    assert_eq!(stage.simulator.in_flight_max(), 1);
    stage.becomes_quiet().await;
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_asks_count_against_the_pace() {
    let mut own = patient();
    own.asking.rate_per_second = 1;
    let stage = Stage::with("turn-pace", ProviderKind::Generic, own).await;
    stage.place("a", Script::open()).await;
    let operators = stage_over(&stage.world, &stage.line, LONG_MS).await;
    for _ in 0..3 {
        assert_eq!(resolve(&operators, "a", true).await.status, 200);
    }
    assert_eq!(resolve(&operators, "a", false).await.status, 200);
    assert_eq!(stage.simulator.calls_total(), 4);
    let busiest = stage.simulator.busiest(Duration::from_secs(1));
    assert!(busiest <= 2, "{busiest} calls in a second, where one is allowed, and one may come late");
    // Who cannot wait for the pace is told, and nothing is asked.
    let impatient = stage_over(&stage.world, &stage.line, 1).await;
    for dry_run in [true, false] {
        let busy = resolve(&impatient, "a", dry_run).await;
        assert_eq!(busy.code(), (503, "gateway_busy".to_owned()));
        assert!(detail(&busy).contains("a second"), "{}", detail(&busy));
    }
    assert_eq!((stage.simulator.calls_total(), stage.of_payment("p-a", "holder").await.as_str()), (4, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_ask_tries_a_gateway_whose_breaker_is_open_and_closes_it() {
    let mut own = patient();
    own.asking.tries = 1;
    own.breaker.failures = 1;
    let stage = Stage::with("turn-probe", ProviderKind::Generic, own).await;
    stage.place("a", Script::paid()).await;
    stage.place("b", Script::paid()).await;
    let operators = stage_over(&stage.world, &stage.line, LONG_MS).await;
    stage.simulator.set_outage(Outage::Unavailable);
    stage.run_after(11 * MINUTE).await;
    let breaker = "SELECT breaker FROM provider_state";
    assert_eq!(stage.sql.text(breaker).await, "open");
    let asked = calls(&stage, "a").query;
    assert_eq!(resolve(&operators, "a", true).await.code(), (503, "gateway_unavailable".to_owned()), "it was tried");
    assert_eq!((calls(&stage, "a").query, stage.sql.text(breaker).await.as_str()), (asked + 1, "open"));
    // Somebody else is trying it: one at a time.
    stage.sql.run("UPDATE provider_state SET breaker = 'half_open', breaker_until = payment_now() + interval '20 seconds'").await;
    for dry_run in [true, false] {
        let busy = resolve(&operators, "a", dry_run).await;
        assert_eq!(busy.code(), (503, "gateway_busy".to_owned()));
        assert!(
            detail(&busy).contains("somebody else is trying it, until") && (1..=20).contains(&retry_after(&busy)),
            "{}",
            busy.text
        );
    }
    assert_eq!(calls(&stage, "a").query, asked + 1);
    stage.sql.run("UPDATE provider_state SET breaker = 'open', breaker_until = payment_now() + interval '30 seconds'").await;
    stage.simulator.set_outage(Outage::None);
    let done = resolve(&operators, "a", false).await;
    assert_eq!((done.status, stage.states("a").await.as_str()), (200, "COMPLETED SUCCESS"), "{}", done.text);
    assert_eq!(stage.sql.text(breaker).await, "closed", "what the operator's ask found out holds for all");
    assert_eq!(stage.sql.number("SELECT count(*) FROM provider_outage WHERE ended_at IS NULL").await, 0);
    becomes_settled(&stage).await;
    stage.money().holds().await;
}

async fn becomes_settled(stage: &Stage) {
    stage.run_after(MINUTE).await;
    becomes(stage, "b", "COMPLETED SUCCESS").await;
}
