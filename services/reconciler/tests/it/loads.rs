//! A load that takes longer than its lease is finished once, and one whose replica is gone is begun anew by another.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use diesel_async::SimpleAsyncConnection;
use domain::ids::CouponCode;
use postgres_io::Db;
use reconciler::gates::{GateReport, GateTask};
use redis_io::GateState;
use testkit::eventually;

use crate::stage::Stage;

/// Long enough for a busy machine to renew it in time.
const LEASE: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(90);

/// A stage with a cold gate of five members, and runs that do not wait for their loads.
async fn stage(name: &str) -> (Stage, CouponCode) {
    let mut stage = Stage::new(name).await;
    stage.settings.gates.lease_ms = LEASE.as_millis() as u64;
    stage.settings.gates.interval_ms = 10;
    let postgres = &mut stage.settings.postgres;
    for limit in [&mut postgres.statement_timeout_ms, &mut postgres.lock_timeout_ms, &mut postgres.idle_in_transaction_timeout_ms]
    {
        *limit = 2 * PATIENCE.as_millis() as u64;
    }
    let code = stage.coupon("slow", 10);
    stage.decided_up_to(0);
    stage.issued(&code, 1..6);
    (stage, code)
}

/// Keeps the ledger from everybody, so that a load stands in its first page, until its connection is dropped.
async fn held_ledger(stage: &Stage) -> impl Sized + use<> {
    let db = Db::connect(&stage.settings.postgres).await.unwrap();
    let mut connection = db.conn().await.unwrap();
    connection.batch_execute("BEGIN; LOCK TABLE coupon_request IN ACCESS EXCLUSIVE MODE").await.unwrap();
    (connection, db)
}

async fn run(stage: &Stage, task: &Mutex<Option<GateTask>>) -> GateReport {
    let mut taken = task.lock().unwrap().take().unwrap();
    let report = Box::pin(taken.run_once(&stage.walk())).await.unwrap();
    *task.lock().unwrap() = Some(taken);
    report
}

async fn task(stage: &Stage) -> Mutex<Option<GateTask>> {
    Mutex::new(Some(stage.replica().await.gate_task()))
}

#[tokio::test]
async fn a_load_that_takes_longer_than_its_lease_is_finished_once() {
    let (stage, code) = stage("slow-load").await;
    let (first, second) = (task(&stage).await, task(&stage).await);
    let ledger = held_ledger(&stage).await;
    assert_eq!(run(&stage, &first).await.loading, 1);
    let until = stage.sql("SELECT expires_at FROM coupon_lease WHERE task = 'gate'");
    let begun = Instant::now();
    // Past the moment at which the lease would have ended, if nobody renewed it.
    while stage.sql(&format!("SELECT now() > timestamptz '{until}' + interval '1 second'")) == "f" {
        assert!(begun.elapsed() < PATIENCE);
        let other = run(&stage, &second).await;
        assert_eq!((other.draining, other.loading, other.opened.len()), (0, 0, 0), "the first one is at it");
        run(&stage, &first).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(stage.status(&code).await.state, GateState::Loading);
    drop(ledger);
    eventually(PATIENCE, "the first one opens it", || async { run(&stage, &first).await.opened == [(code.clone(), 5)] }).await;
    let other = run(&stage, &second).await;
    assert_eq!((other.open, other.opened.len(), other.loading), (1, 0, 0));
    assert_eq!(stage.sql("SELECT count(*) FROM coupon_lease WHERE expires_at > now()"), "0", "it is given back");
}

#[tokio::test]
async fn a_replica_that_lost_its_lease_stops_loading_in_the_middle_of_a_page() {
    let (stage, code) = stage("lost-lease").await;
    let first = task(&stage).await;
    let ledger = held_ledger(&stage).await;
    assert_eq!(run(&stage, &first).await.loading, 1);
    stage.sql("UPDATE coupon_lease SET holder = gen_random_uuid(), expires_at = now() + interval '1 hour'");
    let stopped = || async {
        let report = run(&stage, &first).await;
        assert_eq!((report.opened.len(), report.failures.len()), (0, 0));
        report.loading == 0
    };
    eventually(PATIENCE, "it stops", stopped).await;
    // Whoever took the lease dies as well. The ledger answers again, and the first one begins anew.
    drop(ledger);
    assert_eq!(run(&stage, &first).await.loading, 0, "another one has the lease");
    stage.sql("UPDATE coupon_lease SET expires_at = now() - interval '1 second'");
    eventually(PATIENCE, "the gate opens", || async { run(&stage, &first).await.opened == [(code.clone(), 5)] }).await;
}

#[tokio::test]
async fn a_replica_that_is_gone_in_the_middle_of_a_load_is_replaced() {
    let (stage, code) = stage("gone").await;
    let (first, second) = (task(&stage).await, task(&stage).await);
    let ledger = held_ledger(&stage).await;
    assert_eq!(run(&stage, &first).await.loading, 1);
    drop(first);
    drop(ledger);
    assert_eq!(run(&stage, &second).await.loading, 0, "its lease has not ended yet");
    eventually(PATIENCE, "the other one opens it", || async { run(&stage, &second).await.opened == [(code.clone(), 5)] }).await;
}

#[tokio::test]
async fn a_large_coupon_keeps_no_other_one_shut() {
    let (stage, slow) = stage("two").await;
    let replica = task(&stage).await;
    // Only the members of the one coupon are out of reach: its rows are locked, and its load asks for them one by one.
    let ledger = held_ledger(&stage).await;
    assert_eq!(run(&stage, &replica).await.loading, 1);
    let other = stage.coupon("other", 5);
    eventually(PATIENCE, "the other one is noticed", || async {
        run(&stage, &replica).await;
        stage.status(&other).await.state == GateState::Loading
    })
    .await;
    drop(ledger);
    for code in [slow, other] {
        eventually(PATIENCE, "the gate opens", || async {
            run(&stage, &replica).await;
            stage.status(&code).await.state == GateState::Open
        })
        .await;
    }
}
