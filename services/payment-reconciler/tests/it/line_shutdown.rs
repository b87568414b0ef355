//! SIGTERM in the middle of a run.

use std::time::Duration;

use payment_providers::ProviderKind;
use pg_simulator::{Call, Fault, Latency, Script};

use crate::{
    line_world::{Process, becomes_quiet, calls},
    orders::PATIENCE,
    refund_stage::Stage,
};

/// The settings' own grace time, and what a busy machine needs to start and end a process.
const GRACE: Duration = Duration::from_secs(30);

/// As long as it is in use, so that nothing is waited for that was not given back, and asks that take longer than any test.
const AS_IN_USE: [(&str, &str); 2] = [("LINE__RUN__LEASE_MS", "120000"), ("LINE__ASKING__TRY_TIMEOUT_MS", "50000")];

const OPEN: &str =
    "SELECT count(*) FROM customer_order o JOIN payment p USING (order_id) WHERE o.state = 'PENDING' AND p.state = 'PENDING'";
const DONE: &str =
    "SELECT count(*) FROM customer_order o JOIN payment p USING (order_id) WHERE o.state = 'COMPLETED' AND p.state = 'SUCCESS'";
const HELD: &str = "SELECT count(*) FROM payment WHERE holder IS NOT NULL OR lease_until IS NOT NULL";

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_told_to_end_leaves_no_order_between_two_states_and_another_replica_goes_on_at_once() {
    let stage = Stage::new("sigterm", ProviderKind::Generic).await;
    for number in 0..20 {
        stage.place(&format!("quick{number}"), Script::paid().taking_ms(20)).await;
    }
    for number in 0..20 {
        stage.place(&format!("slow{number}"), Script::paid().taking_ms(45_000)).await;
    }
    // One run takes them all: looks help one that is longer than the interval.
    let [lease, timeout] = AS_IN_USE;
    let mut first = Process::start(&stage, &[lease, timeout, ("LINE__RUN__INTERVAL_MS", "600000")]);
    testkit::eventually(PATIENCE, "some are settled, and the slots are asking", || async {
        stage.sql.number(DONE).await == 20 && stage.sql.number(HELD).await == 10
    })
    .await;
    assert_eq!(first.service.terminate(GRACE).unwrap(), Some(0));
    assert_eq!((stage.sql.number(OPEN).await, stage.sql.number(DONE).await), (20, 20));
    assert_eq!(stage.sql.number(HELD).await, 0, "all claims are given back");
    assert!(first.log().contains("Reconciliation: success=20, failure=0"), "the run tells what it came to");
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_run WHERE interrupted AND settled = 20").await, 1);
    for number in 0..20 {
        stage.simulator.set_script(&format!("ref_p_slow{number}"), Script::paid()).unwrap();
    }
    // Nothing has to end by itself first: a lease is longer than anybody waits here.
    let second = Process::start(&stage, &AS_IN_USE);
    becomes_quiet(&stage.sql).await;
    stage.money().holds().await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_under_way_is_recorded_before_the_end() {
    let stage = Stage::new("sigterm-refund", ProviderKind::Generic).await;
    stage.place_of("a", "nothing", vec![Script::paid()]).await;
    stage.simulator.set_latency(Latency::fixed(2_000));
    let mut first = Process::start(&stage, &AS_IN_USE);
    testkit::eventually(PATIENCE, "the refund is under way", || async { calls(&stage, "a").refund == 1 }).await;
    assert_eq!(stage.of_payment("p-a", "r.state").await, "SENDING");
    assert_eq!(first.service.terminate(GRACE).unwrap(), Some(0));
    assert_eq!((stage.of_payment("p-a", "r.state").await.as_str(), stage.sql.number(HELD).await), ("ACCEPTED", 0));
    stage.simulator.set_latency(Latency::default());
    let second = Process::start(&stage, &AS_IN_USE);
    becomes_quiet(&stage.sql).await;
    assert_eq!(calls(&stage, "a").refund, 1);
    stage.money().holds().await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_does_not_hold_up_the_end_and_is_asked_about_by_whoever_comes_next() {
    let stage = Stage::new("sigterm-hangs", ProviderKind::Generic).await;
    // It is done when it arrives; its answer comes later than the process may live.
    let script = Script::paid().fault(Call::Refund, 1, Fault::Slow(45_000));
    stage.place_of("a", "nothing", vec![script]).await;
    let own = [AS_IN_USE[0], AS_IN_USE[1], ("SHUTDOWN__GRACE_MS", "2000")];
    let mut first = Process::start(&stage, &own);
    testkit::eventually(PATIENCE, "the refund is under way", || async { calls(&stage, "a").refund == 1 }).await;
    assert_eq!(first.service.terminate(GRACE).unwrap(), Some(0));
    first.logs(&["phase of the end cut off", "runs"]).await;
    assert_eq!(stage.of_payment("p-a", "r.state").await, "SENDING", "whether it was made is not known here");
    // Nobody gave the claim back: it ends by itself.
    stage.sql.time_passes(2 * 120_000).await;
    let second = Process::start(&stage, &AS_IN_USE);
    becomes_quiet(&stage.sql).await;
    assert_eq!((stage.states("a").await.as_str(), calls(&stage, "a").refund), ("FAILED REFUNDED", 1));
    stage.money().holds().await;
    drop(second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_ends_while_it_tries_a_gateway_again_leaves_that_to_the_next_one() {
    let stage = Stage::new("sigterm-probe", ProviderKind::Generic).await;
    stage.place("a", Script::paid().taking_ms(45_000)).await;
    let tried = "INSERT INTO provider_state (provider, breaker, breaker_until, failing_since) VALUES ('sim', 'open', payment_now(), payment_now())";
    stage.sql.run(tried).await;
    let mut first = Process::start(&stage, &AS_IN_USE);
    testkit::eventually(PATIENCE, "it is tried", || async { calls(&stage, "a").query == 1 }).await;
    assert_eq!(stage.sql.text("SELECT breaker FROM provider_state").await, "half_open");
    assert_eq!(first.service.terminate(GRACE).unwrap(), Some(0));
    stage.simulator.set_script("ref_p_a", Script::paid()).unwrap();
    let second = Process::start(&stage, &AS_IN_USE);
    becomes_quiet(&stage.sql).await;
    assert_eq!(stage.sql.text("SELECT breaker FROM provider_state").await, "closed");
    stage.money().holds().await;
    drop(second);
}
