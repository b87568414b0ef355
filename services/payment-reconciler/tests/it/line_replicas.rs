//! Several replicas on the same payments: nothing is settled twice, nothing is asked about twice at the same time, and who comes late is refused.

use std::time::Duration;

use domain::payment::PgAnswer;
use payment_providers::ProviderKind;
use payment_reconciler::{
    Line,
    error::LineError,
    line::{
        ask::Question,
        claim::Claimed,
        run::Scope,
        settle::{Applied, Mode, Next},
    },
};
use pg_simulator::{Latency, Script};
use stack::ports;
use tokio_util::sync::CancellationToken;

use crate::{
    line_world::{Process, becomes_quiet, calls, replica, stage_that_calls_back},
    refund_stage::{SECOND, Stage, patient},
};

const ORDERS: usize = 24;

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_and_callbacks_on_the_same_payments_settle_each_once_and_never_ask_twice_at_once() {
    let port = ports::free().unwrap();
    let stage = stage_that_calls_back("two-replicas", port).await;
    stage.simulator.set_latency(Latency { min_ms: 5, max_ms: 60 });
    for number in 0..ORDERS {
        // Every third one cannot be had, so that money goes back, too.
        stage.place_of(&format!("o{number}"), if number % 3 == 0 { "nothing" } else { "book" }, vec![Script::open()]).await;
    }
    // No call is given up and made again, so that each one counts.
    let patient =
        [("LINE__ASKING__TRY_TIMEOUT_MS", "20000"), ("LINE__RUN__LEASE_MS", "60000"), ("CALLBACKS__SIGNED_GAP_MS", "1")];
    let first = Process::start_on(&stage, port, &patient, &[]);
    let second = Process::start(&stage, &patient);
    // Both ask about everything again and again, while the payers pay one after the other and the gateway calls back.
    for number in 0..ORDERS {
        stage.simulator.pay(&format!("ref_p_o{number}")).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    becomes_quiet(&stage.sql).await;
    for number in 0..ORDERS {
        let (states, calls) = (stage.states(&format!("o{number}")).await, calls(&stage, &format!("o{number}")));
        assert_eq!(states, if number % 3 == 0 { "FAILED REFUNDED" } else { "COMPLETED SUCCESS" }, "o{number}");
        assert_eq!((calls.at_once_max, calls.refund), (1, u32::from(number % 3 == 0)), "o{number}: {calls:?}");
    }
    assert!(stage.sql.number("SELECT count(*) FROM payment_callback").await > 0, "callbacks came");
    let told = "SELECT count(*) FROM outbox WHERE event_type LIKE '%OrderCompleted'";
    assert_eq!(stage.sql.number(told).await, 16, "each was told once");
    let holders = "SELECT count(DISTINCT holder) FROM payment_run WHERE asked > 0";
    assert_eq!(stage.sql.number(holders).await, 2, "both took part");
    stage.money().holds().await;
    drop((first, second));
}

/// A claim of the stage's line whose lease is outlived when this returns, with what the gateway said in time.
async fn outlived(stage: &Stage, id: &str) -> (Claimed, PgAnswer) {
    let name = "sim".parse().unwrap();
    let began = stage.line.now().await.unwrap();
    let claimed = stage.line.claim(&name, Scope::Run, 1, began, false).await.unwrap().remove(0);
    assert_eq!(claimed.order.as_str(), id);
    let answer = stage.line.ask(&claimed, Question::Status, &CancellationToken::new()).await.unwrap();
    (claimed, answer)
}

async fn settle(line: &Line, claimed: &Claimed, answer: &PgAnswer) -> Result<Applied, LineError> {
    Box::pin(line.settle(claimed, answer, Mode::Normal)).await
}

fn lost<T>(result: Result<T, LineError>) -> bool {
    matches!(result, Err(LineError::LeaseLost))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_outlives_a_lease_writes_nothing_any_more() {
    let mut own = patient();
    own.run.stale_after_ms = 0;
    let stage = Stage::with("outlived", ProviderKind::Generic, own.clone()).await;
    let other = replica(&stage, 2, own.clone());
    let stop = CancellationToken::new();
    stage.place("a", Script::paid()).await;
    let (late, answer) = Box::pin(outlived(&stage, "a")).await;
    assert_eq!(other.run_once(Scope::Run, &stop).await.unwrap().asked(), 0, "while the lease lasts nobody else takes it");
    stage.sql.time_passes(own.run.lease_ms).await;
    // The other one has it, and has not settled it yet.
    let name = "sim".parse().unwrap();
    let began = other.now().await.unwrap();
    let taken = other.claim(&name, Scope::Due, 10, began, false).await.unwrap().remove(0);
    assert!(taken.fence > late.fence);
    assert!(lost(settle(&stage.line, &late, &answer).await), "the late one is refused");
    stage.line.note_failure(&late, &LineError::TaskLost).await.unwrap();
    stage.line.give_back(&late).await.unwrap();
    let held = "SELECT fence || ' ' || holder::text || ' ' || failed_checks FROM payment";
    assert_eq!(stage.sql.text(held).await, format!("{} {} 0", taken.fence, uuid::Uuid::from_u128(2)), "and changes nothing");
    settle(&other, &taken, &answer).await.unwrap();
    assert!(lost(settle(&stage.line, &late, &answer).await), "nor behind the other's commit");
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_was_marked_by_whoever_outlived_the_lease_is_sent_once() {
    let mut own = patient();
    own.run.stale_after_ms = 0;
    let stage = Stage::with("outlived-refund", ProviderKind::Generic, own.clone()).await;
    let other = replica(&stage, 2, own.clone());
    stage.place_of("a", "nothing", vec![Script::paid()]).await;
    stage.run().await;
    let (late, answer) = Box::pin(outlived(&stage, "a")).await;
    let Next::Send { order, held_until } = settle(&stage.line, &late, &answer).await.unwrap().next else {
        panic!("the refund is to be sent")
    };
    stage.sql.time_passes(own.run.lease_ms + own.policy.refund_grace_ms + SECOND).await;
    let stop = CancellationToken::new();
    for _ in 0..3 {
        other.run_once(Scope::Run, &stop).await.unwrap();
    }
    assert_eq!(stage.states("a").await, "FAILED REFUNDED");
    // Its own clock says so, too: then it does not even send.
    let over = Claimed { held_until: std::time::Instant::now(), ..late.clone() };
    let said = stage.line.send_refund(&over, &order).await;
    assert_eq!(calls(&stage, "a").refund, 1);
    assert!(lost(stage.line.record_refund(&late, &said).await));
    // By its own clock it still holds the payment: the key makes it the same refund.
    let said = stage.line.send_refund(&Claimed { held_until, ..late.clone() }, &order).await;
    assert!(lost(stage.line.record_refund(&late, &said).await));
    assert_eq!(calls(&stage, "a").refund, 2);
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gave_a_claim_back_or_took_it_again_writes_nothing_by_the_former_one() {
    let mut own = patient();
    own.run.stale_after_ms = 0;
    let stage = Stage::with("given-back", ProviderKind::Generic, own).await;
    stage.place("a", Script::paid()).await;
    let (former, answer) = Box::pin(outlived(&stage, "a")).await;
    stage.line.give_back(&former).await.unwrap();
    assert!(lost(settle(&stage.line, &former, &answer).await), "nobody holds it");
    let (claimed, answer) = Box::pin(outlived(&stage, "a")).await;
    assert!(lost(settle(&stage.line, &former, &answer).await), "the same replica holds it by another claim");
    // What is left to the former claim to say changes nothing of the one that holds.
    stage.line.give_back(&former).await.unwrap();
    stage.line.note_failure(&former, &LineError::TaskLost).await.unwrap();
    settle(&stage.line, &claimed, &answer).await.unwrap();
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
    assert_eq!(stage.of_payment("p-a", "failed_checks").await, "0");
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stood_still_past_the_lease_does_not_ask() {
    let mut own = patient();
    own.run.stale_after_ms = 0;
    let stage = Stage::with("stood-still", ProviderKind::Generic, own).await;
    stage.place("a", Script::paid()).await;
    let began = stage.line.now().await.unwrap();
    let claimed = stage.line.claim(&"sim".parse().unwrap(), Scope::Run, 1, began, false).await.unwrap().remove(0);
    let over = Claimed { held_until: std::time::Instant::now(), ..claimed };
    assert!(lost(stage.line.ask(&over, Question::Status, &CancellationToken::new()).await));
    assert_eq!(calls(&stage, "a").query, 0);
}
