//! A reservation whose message is still unread is never undone, however many runs come and go.

use std::sync::{Arc, Mutex};

use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::line::{Line, PATIENCE, Told, start_consumer};

const SEATS: i64 = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promises_outlive_a_consumer_that_stands_still_for_many_runs() {
    let line = Line::new("patience", SEATS).await;
    let consumer = start_consumer(&line.world).await;
    let mut reconciler = line.reconciler("reconciler");
    line.wait_open().await;
    let (told, stop) = (Arc::new(Mutex::new(Told::default())), CancellationToken::new());
    let promised = || told.lock().unwrap().promised.len();
    let asking = line.rush(0..600, &told, &stop);
    eventually(PATIENCE, "some are promised", || async { promised() >= 50 }).await;
    consumer.stop().await;

    // Everybody else asks while nobody decides; runs and full comparisons come and go.
    asking.join_all().await;
    let (runs, members) = (line.runs(), line.status().await.unwrap().members);
    eventually(PATIENCE, "many runs", || async { line.runs() >= runs + 10 }).await;
    let waiting = line.status().await.unwrap();
    assert!(waiting.pending > 0, "what nobody decided still waits: {waiting:?}");
    assert_eq!((waiting.members, members), (SEATS, SEATS), "every seat is promised, and no run undid a promise");
    assert_eq!(line.sql("SELECT count(*) FROM reconciliation_repair"), "0");

    let consumer = start_consumer(&line.world).await;
    line.quiet().await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert_eq!(told.promised.len() as i64, SEATS, "{:?}", told.others);
    let winners = line.issued();
    assert_eq!(winners, told.promised.keys().cloned().collect(), "every promised member has the coupon, and nobody else");
    line.judge(&told).await;
    assert!(!line.log_of("reconciler").contains("mismatch: only in"), "nobody was taken for a stranger");
    reconciler.terminate(PATIENCE).unwrap();
    consumer.stop().await;
}
