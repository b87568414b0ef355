//! Processes that are killed or stand still at a step of the line, in builds that have the steps, and nothing of it in builds that have not.

use payment_providers::ProviderKind;

use crate::{line_world::Process, refund_stage::Stage};

#[cfg(not(feature = "failpoints"))]
#[tokio::test(flavor = "multi_thread")]
async fn a_build_for_use_has_no_failpoints() {
    let stage = Stage::new("no-failpoints", ProviderKind::Generic).await;
    let process = Process::start(&stage, &[]);
    for path in ["/failpoints", "/failpoints/payment.claimed", "/clock-offset-ms"] {
        assert_eq!(stack::http::status(process.service.http_port(), "GET", path).unwrap(), 404, "{path}");
    }
}

#[cfg(feature = "failpoints")]
mod with {
    use std::{fmt, path::Path, time::Duration};

    use futures::{StreamExt, stream};
    use pg_simulator::Script;
    use stack::ports;

    use super::*;
    use crate::{
        line_world::{becomes, becomes_quiet, calls},
        orders::PATIENCE,
        refund_stage::MINUTE,
    };

    /// Cases at the same time: enough to use two cores while some of them wait.
    const AT_ONCE: usize = 3;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        /// As by kill -9, at the step.
        Killed,
        /// SIGSTOP at the step, past its lease; SIGCONT when another replica has done everything.
        StoodStill,
    }

    /// A step, how many times it is passed first, and whether the order can be had.
    #[derive(Debug, Clone, Copy)]
    struct Case {
        step: &'static str,
        passes: u32,
        product: &'static str,
        fault: Fault,
    }

    impl fmt::Display for Case {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "{} passed {} times, {}, {:?}", self.step, self.passes, self.product, self.fault)
        }
    }

    const STEPS: [(&str, u32, &str); 11] = [
        ("payment.claimed", 0, "book"),
        ("payment.asked", 0, "book"),
        ("payment.commit.before", 0, "book"),
        ("payment.commit.done", 0, "book"),
        // An order that cannot be had: the refund is wanted, and then marked as being sent.
        ("payment.commit.before", 0, "nothing"),
        ("payment.commit.done", 0, "nothing"),
        ("payment.asked", 1, "nothing"),
        ("payment.commit.before", 1, "nothing"),
        ("payment.refund.sending", 0, "nothing"),
        ("payment.refund.sent", 0, "nothing"),
        ("payment.refund.confirming", 0, "nothing"),
    ];

    #[test]
    fn every_step_is_declared_used_and_documented() {
        let names: Vec<&str> = payment_reconciler::failpoints::STEPS.iter().map(|step| step.name).collect();
        testkit::failpoints::hold(&names, &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "payment.");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_is_killed_or_stands_still_at_a_step_another_replica_finishes_it_once() {
        let faults = [Fault::Killed, Fault::StoodStill];
        let cases = STEPS.iter().flat_map(|&(step, passes, product)| faults.map(|fault| Case { step, passes, product, fault }));
        stream::iter(cases).for_each_concurrent(AT_ONCE, go_through).await;
    }

    async fn go_through(case: Case) {
        let stage = Stage::new("steps", ProviderKind::Generic).await;
        stage.place_of("a", case.product, vec![Script::paid()]).await;
        let action = if case.fault == Fault::Killed { "kill" } else { "pause" };
        let plan = format!("{}={}+1*{action}", case.step, case.passes);
        let mut first = Process::start_with_steps(&stage, &plan);
        let mut before = 0;
        match case.fault {
            Fault::Killed => {
                let ended = first.service.process().identity();
                testkit::eventually(PATIENCE, &format!("{case}: the process is gone"), || async move { !ended.is_running() })
                    .await;
            }
            Fault::StoodStill => {
                let points = first.service.failpoints();
                testkit::eventually(PATIENCE, &format!("{case}: the step is reached"), || async {
                    points.step(case.step).is_ok_and(|step| step.waiting == 1)
                })
                .await;
                before = outcomes(&first).await;
                first.service.process().pause();
            }
        }
        // What nobody had touched goes on, too.
        stage.place("b", Script::paid()).await;
        let second = Process::start(&stage, &[]);
        becomes_quiet(&stage.sql).await;
        judge(&stage, case).await;
        if case.fault == Fault::StoodStill {
            first.service.process().resume();
            // Whoever is paused at the step goes on, behind everything, and comes to its end.
            first.service.failpoints().clear(case.step).unwrap();
            testkit::eventually(PATIENCE, &format!("{case}: the late one ends"), || async { outcomes(&first).await > before })
                .await;
            judge(&stage, case).await;
        }
        drop((first, second));
    }

    async fn judge(stage: &Stage, case: Case) {
        let expected = if case.product == "book" { "COMPLETED SUCCESS" } else { "FAILED REFUNDED" };
        assert_eq!(stage.states("a").await, expected, "{case}");
        assert_eq!(stage.states("b").await, "COMPLETED SUCCESS", "{case}");
        let calls = calls(stage, "a");
        assert_eq!((calls.at_once_max, calls.refund), (1, u32::from(case.product != "book")), "{case}: {calls:?}");
        stage.money().holds().await;
    }

    /// How many payments a process has come to an end with.
    async fn outcomes(process: &Process) -> u64 {
        let url = format!("http://127.0.0.1:{}/metrics", process.service.http_port());
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let of = |line: &str| line.rsplit_once(' ').and_then(|(_, number)| number.parse::<u64>().ok());
        text.lines().filter(|line| line.starts_with("trueup_payment_outcomes_total{")).filter_map(of).sum()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_service_whose_clock_is_an_hour_wrong_decides_by_the_database() {
        for offset in ["3600000", "-3600000"] {
            let stage = Stage::new("wrong-clock", ProviderKind::Generic).await;
            stage.place("early", Script::paid()).await;
            stage.sql.time_passes(9 * MINUTE).await;
            let variables = [("TRUEUP_CLOCK_OFFSET_MS", offset)];
            let own = [("LINE__RUN__STALE_AFTER_MS", "600000")];
            let process = Process::start_on(&stage, ports::free().unwrap(), &own, &variables);
            process.logs(&["Found 0 stale orders to reconcile"]).await;
            assert_eq!(calls(&stage, "early").query, 0, "it is nine minutes old, whatever the service's clock says");
            stage.sql.time_passes(MINUTE).await;
            becomes(&stage, "early", "COMPLETED SUCCESS").await;
            // A refund's steps and their pauses, too.
            stage.place_of("back", "nothing", vec![Script::paid()]).await;
            stage.sql.time_passes(11 * MINUTE).await;
            becomes_quiet(&stage.sql).await;
            assert_eq!((stage.states("back").await.as_str(), calls(&stage, "back").refund), ("FAILED REFUNDED", 1));
            stage.money().holds().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_takes_what_a_living_replica_holds() {
        let stage = Stage::new("held", ProviderKind::Generic).await;
        stage.place("a", Script::paid()).await;
        let own = [("LINE__RUN__LEASE_MS", "120000")];
        let variables = [("FAILPOINTS", "payment.asked=1*pause")];
        let first = Process::start_on(&stage, ports::free().unwrap(), &own, &variables);
        let points = first.service.failpoints();
        points.wait_for("payment.asked", Duration::from_secs(60), |step| step.waiting == 1).unwrap();
        let second = Process::start(&stage, &own);
        second.logs(&["Reconciliation: success=0, failure=0"]).await;
        assert_eq!(calls(&stage, "a").query, 1);
        points.clear("payment.asked").unwrap();
        becomes(&stage, "a", "COMPLETED SUCCESS").await;
        assert_eq!(calls(&stage, "a").query, 1);
        stage.money().holds().await;
    }
}
