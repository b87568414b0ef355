//! Several replicas share the coupons, and one that dies is replaced.

use std::time::Duration;

use reconciler::{lease::Task, schedule::Signs};
use redis_io::GateState;
use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::stage::Stage;

#[tokio::test]
async fn a_lease_has_one_holder_until_it_ends() {
    let stage = Stage::new("lease").await;
    let code = stage.coupon("c", 5);
    let (first, second) = (stage.replica().await.store, stage.replica().await.store);
    let (minute, none) = (Duration::from_secs(60), Duration::ZERO);
    assert!(first.acquire(&code, Task::Gate, minute, none).await.unwrap());
    assert!(first.acquire(&code, Task::Gate, minute, none).await.unwrap(), "its holder renews it");
    assert!(!second.acquire(&code, Task::Gate, minute, none).await.unwrap());
    assert!(second.acquire(&code, Task::Pending, minute, none).await.unwrap(), "another task is another lease");

    // The first one dies: its time is over by the database's clock.
    stage.sql("UPDATE coupon_lease SET expires_at = now() - interval '1 second' WHERE task = 'gate'");
    assert!(second.acquire(&code, Task::Gate, minute, none).await.unwrap());
    assert!(!first.acquire(&code, Task::Gate, minute, none).await.unwrap());
    first.give_back(&code, Task::Gate, false).await.unwrap();
    assert!(!first.acquire(&code, Task::Gate, minute, none).await.unwrap(), "nobody gives back what another one holds");
    second.give_back(&code, Task::Gate, true).await.unwrap();
    assert!(!first.acquire(&code, Task::Gate, minute, minute).await.unwrap(), "it was done a moment ago");
    assert!(first.acquire(&code, Task::Gate, minute, none).await.unwrap());
}

#[tokio::test]
async fn a_periodic_run_is_done_by_one_replica() {
    let stage = Stage::new("periodic").await;
    let codes: Vec<_> = (0..5).map(|_| stage.coupon("c", 5)).collect();
    let (first, second) = (stage.replica().await.run_task(), stage.replica().await.run_task());
    let (walk, other_walk) = (stage.walk(), stage.walk());
    let (one, two) = tokio::join!(first.run_once(&walk), second.run_once(&other_walk));
    assert_eq!(one.unwrap().coupons.len() + two.unwrap().coupons.len(), codes.len());
    assert_eq!(stage.sql("SELECT count(*) FROM reconciliation_report"), "5");
}

#[tokio::test]
async fn another_replica_finishes_what_a_dead_one_began() {
    let stage = Stage::new("dead").await;
    let code = stage.coupon("c", 5);
    stage.append(&code, 1).await;
    stage.decided_up_to(0);
    let (mut dead, mut heir) = (stage.replica().await.gate_task(), stage.replica().await.gate_task());
    assert_eq!(dead.run_once(&stage.walk()).await.unwrap().draining, 1);
    assert_eq!(heir.run_once(&stage.walk()).await.unwrap().draining, 0, "the first one has the lease");
    stage.decided_up_to(1);
    stage.sql("UPDATE coupon_lease SET expires_at = now() - interval '1 second'");
    assert_eq!(heir.run_once(&stage.walk()).await.unwrap().opened, [(code.clone(), 0)]);
    // The first one was only asleep. It finds the gate open and leaves it so.
    let late = dead.run_once(&stage.walk()).await.unwrap();
    assert_eq!((late.open, late.opened.len(), late.draining), (1, 0, 0));
    assert_eq!(stage.status(&code).await.state, GateState::Open);
}

#[tokio::test]
async fn two_replicas_at_their_rates_open_every_gate_and_end_in_order() {
    let mut stage = Stage::new("rates").await;
    stage.settings.gates.interval_ms = 50;
    stage.settings.pending.interval_ms = 50;
    stage.decided_up_to(0);
    let stop = CancellationToken::new();
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let (replica, stop) = (stage.replica().await, stop.clone());
        replicas.push(tokio::spawn(async move { replica.run_until(stop, |_| Signs::silent()).await }));
    }
    let codes: Vec<_> = (0..6).map(|_| stage.coupon("c", 5)).collect();
    for code in &codes {
        eventually(Duration::from_secs(10), "the gate opens", || async { stage.status(code).await.state == GateState::Open })
            .await;
    }
    stop.cancel();
    for replica in replicas {
        tokio::time::timeout(Duration::from_secs(10), replica).await.expect("the tasks end when they are told to").unwrap();
    }
    assert_eq!(stage.sql("SELECT count(*) FROM coupon_lease WHERE expires_at > now()"), "0", "leases are given back");
}
