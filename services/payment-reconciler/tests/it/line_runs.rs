//! Runs one behind the other: one that takes longer than their interval is waited for, and covers what was due when it began.

use std::time::Duration;

use payment_providers::ProviderKind;
use pg_simulator::Script;

use crate::{
    line_world::{Process, becomes, becomes_quiet, calls},
    orders::PATIENCE,
    refund_stage::Stage,
};

/// More than there are slots, so that a run has to wait for answers before it can claim the rest.
const ORDERS: usize = 12;

/// How long each ask takes; the interval of the runs is a tenth of a second.
const ASK_MS: u64 = 1_500;

/// Nothing is given up and asked again, and whatever is not a run leaves the payments alone: each is asked about in the run that claims it.
const OWN: [(&str, &str); 3] =
    [("LINE__ASKING__TRY_TIMEOUT_MS", "30000"), ("LINE__RUN__LEASE_MS", "120000"), ("LINE__RUN__DUE_INTERVAL_MS", "60000")];

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_longer_than_the_interval_ends_before_the_next_one_begins() {
    let stage = Stage::new("no-overlap", ProviderKind::Generic).await;
    for number in 0..ORDERS {
        stage.place(&format!("slow{number}"), Script::paid().taking_ms(ASK_MS)).await;
    }
    let mut process = Process::start(&stage, &OWN);
    testkit::eventually(PATIENCE, "the first run asks", || async { calls(&stage, "slow0").query > 0 }).await;
    // Stale at once, and placed in the middle of a run: it is the next one's.
    stage.place("late", Script::paid()).await;
    becomes(&stage, "late", "COMPLETED SUCCESS").await;
    becomes_quiet(&stage.sql).await;
    testkit::eventually(PATIENCE, "three runs are reported", || async {
        stage.sql.number("SELECT count(*) FROM payment_run").await >= 3
    })
    .await;
    assert_eq!(process.service.terminate(Duration::from_secs(30)).unwrap(), Some(0));

    let first = "SELECT concat_ws(' ', found, asked, settled, duration_ms >= 2 * 1500) FROM payment_run ORDER BY run_id LIMIT 1";
    assert_eq!(
        stage.sql.text(first).await,
        "12 12 12 t",
        "what was due at its start, and no more, in more time than an interval"
    );
    let second = "SELECT concat_ws(' ', found, asked, settled) FROM payment_run ORDER BY run_id OFFSET 1 LIMIT 1";
    assert_eq!(stage.sql.text(second).await, "1 1 1");
    let overlapping = "SELECT count(*) FROM payment_run one JOIN payment_run other ON one.run_id <> other.run_id \
        AND one.started_at <= other.finished_at AND other.started_at <= one.finished_at";
    assert_eq!(stage.sql.number(overlapping).await, 0, "by the reports");
    let log = process.log();
    let told: Vec<bool> = log
        .lines()
        .filter_map(|line| match (line.contains("stale orders to reconcile"), line.contains("Reconciliation: success=")) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        })
        .collect();
    assert!(
        told.len() >= 6 && told.iter().enumerate().all(|(place, begins)| *begins == place.is_multiple_of(2)),
        "by the log: {log}"
    );
    stage.money().holds().await;
}
