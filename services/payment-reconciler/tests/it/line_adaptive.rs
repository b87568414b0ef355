//! Concurrency that gives way to a slow or failing gateway and comes back, and a pace that is kept: all of it as the gateway itself sees it.

use std::{sync::Arc, time::Duration};

use payment_providers::ProviderKind;
use payment_reconciler::{
    config::LineSettings,
    line::run::{Report, Scope},
};
use pg_simulator::{Call, Congestion, Fault, Latency, Script};
use testkit::eventually;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    orders::PATIENCE,
    refund_stage::{MINUTE, Stage, patient},
};

/// Calls at once, at most.
const HARD: u32 = 10;
/// What counts as slow here: far more than a busy machine adds to an answer.
const SLOW_MS: u64 = 600;

/// A line that adapts quickly enough for a test, and no breaker in its way.
fn adaptive() -> LineSettings {
    let mut own = patient();
    own.asking.slow_ms = SLOW_MS;
    own.breaker.failures = i32::MAX;
    own
}

impl Stage {
    async fn place_many(&self, prefix: &str, count: usize, script: &Script) {
        for number in 0..count {
            self.place(&format!("{prefix}{number}"), script.clone()).await;
        }
        self.sql.run("UPDATE product SET stock = 10000 WHERE product_id = 'book'").await;
    }

    /// A run beside the test.
    async fn begin_run(&self) -> JoinHandle<Report> {
        self.sql.time_passes(11 * MINUTE).await;
        let line = Arc::clone(&self.line);
        tokio::spawn(async move { Box::pin(line.run_once(Scope::Run, &CancellationToken::new())).await.unwrap() })
    }

    /// Watches a run, some calls at a time, until the gateway sees no more than `most` at once; the run must not end before.
    async fn gives_way(&self, run: &JoinHandle<Report>, most: u32) {
        const CALLS: u64 = 12;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.simulator.reset_load();
            eventually(PATIENCE, "the gateway is called", || async {
                self.simulator.calls_total() >= CALLS || run.is_finished()
            })
            .await;
            let at_once = self.simulator.in_flight_max();
            assert!(at_once <= HARD, "never more than the hard limit: {at_once}");
            assert!(
                !run.is_finished() && tokio::time::Instant::now() < deadline,
                "{at_once} calls at once to the end, {} slots",
                self.slots()
            );
            if at_once <= most {
                return;
            }
        }
    }

    /// How many calls at once the line allows itself now.
    fn slots(&self) -> usize {
        self.line.gateway(&"sim".parse().unwrap()).unwrap().slots()
    }

    /// The gateway is well, and quick enough: rounds of orders until as many as may be are asked about at once again.
    async fn comes_back(&self, prefix: &str) {
        self.simulator.set_congestion(Congestion::default());
        self.simulator.set_latency(Latency::fixed(100));
        self.simulator.reset_load();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut round = 0;
        while self.simulator.in_flight_max() < HARD {
            assert!(tokio::time::Instant::now() < deadline, "{} slots, {} at once", self.slots(), self.simulator.in_flight_max());
            round += 1;
            self.place_many(&format!("{prefix}{round}-"), 40, &Script::paid()).await;
            self.begin_run().await.await.unwrap();
        }
        assert_eq!((self.simulator.in_flight_max(), self.slots()), (HARD, HARD as usize), "never more than the hard limit");
        self.becomes_quiet().await;
        self.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_are_asked_about_at_once_while_that_makes_the_gateway_slow_and_more_again_after() {
    let stage = Stage::with("congested", ProviderKind::Generic, adaptive()).await;
    // Three at once are answered at once; four take 300 ms, five 600 ms, which is slow, and ten would take two seconds.
    stage.simulator.set_congestion(Congestion { free: 3, ms_per_call: 300 });
    stage.place_many("o", 120, &Script::paid()).await;
    let run = stage.begin_run().await;
    stage.gives_way(&run, 6).await;
    let report = run.await.unwrap();
    assert_eq!((report.found, report.successes()), (120, 120), "fewer at once, and none is lost: {report:?}");
    stage.comes_back("again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_are_asked_about_at_once_while_the_gateway_fails_and_more_again_after() {
    let stage = Stage::with("failing", ProviderKind::Generic, adaptive()).await;
    stage.simulator.set_latency(Latency::fixed(30));
    // Two of three tries fail, and the third one is answered.
    stage.place_many("o", 60, &Script::paid().fault(Call::Query, 2, Fault::Status(503))).await;
    let run = stage.begin_run().await;
    stage.gives_way(&run, 6).await;
    let report = run.await.unwrap();
    assert_eq!((report.found, report.successes()), (60, 60), "{report:?}");
    stage.comes_back("again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_sees_no_second_with_more_calls_than_are_allowed() {
    for (rate, orders) in [(5_u32, 20_usize), (40, 120)] {
        let mut own = patient();
        own.asking.rate_per_second = rate;
        own.asking.concurrency_max = 30;
        let stage = Stage::with("pace", ProviderKind::Generic, own).await;
        stage.place_many("o", orders, &Script::paid()).await;
        let report = stage.begin_run().await.await.unwrap();
        assert_eq!(report.successes(), i64::try_from(orders).unwrap(), "{report:?}");
        assert_eq!(stage.simulator.calls_total(), orders as u64);
        // To the letter the pace is held by a test of its own, with a clock that can be set. Here calls that were let through in their time
        // may arrive together, if the machine pauses in between; but never as many as a second's worth at once and the pace behind it.
        let busiest = stage.simulator.busiest(Duration::from_secs(1));
        assert!(busiest < 2 * rate as usize, "{busiest} in a second, {rate} are allowed");
        let at_once = (rate / 10).max(1);
        let least = Duration::from_secs_f64((orders as f64 - f64::from(at_once)) / f64::from(rate));
        assert!(report.duration >= least, "{:?}, {least:?} at least", report.duration);
    }
}
