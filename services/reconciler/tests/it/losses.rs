//! Redis loses what it knew, under load: the gate shuts, requests go on without it, it is rebuilt and opens, and every seat is issued once.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use redis_io::GateState;
use rustix::process::Signal;
use testkit::{eventually, eventually_some};
use tokio_util::sync::CancellationToken;

use crate::line::{Line, PATIENCE, Told, start_consumer};

const SEATS: i64 = 300;
const MEMBERS: u32 = 700;

/// A line under load of which some members were promised a seat and most were not.
async fn under_load(line: &Line) -> (Arc<Mutex<Told>>, tokio::task::JoinSet<()>) {
    line.wait_open().await;
    let told = Arc::new(Mutex::new(Told::default()));
    let asking = line.rush(0..MEMBERS, &told, &CancellationToken::new());
    eventually(PATIENCE, "some are promised", || async { told.lock().unwrap().promised.len() >= 50 }).await;
    (told, asking)
}

/// What a reconciler says when it has opened a gate.
const OPENED: &str = "[RECONCILIATION] gate opened";

/// Waits until the gate that was lost is open again: it was opened once before.
async fn rebuilt(line: &Line) {
    eventually(PATIENCE, "the gate is rebuilt", || async { line.log_of("reconciler").matches(OPENED).count() >= 2 }).await;
}

/// Waits for the end of the load, lets new members ask for what is left, and judges.
async fn settle(line: &Line, told: &Arc<Mutex<Told>>, asking: tokio::task::JoinSet<()>) {
    asking.join_all().await;
    line.wait_open().await;
    line.quiet().await;
    // Seats that a lost gate held for nobody are free again, and members keep asking.
    let late = line.rush(MEMBERS..MEMBERS + SEATS as u32, told, &CancellationToken::new());
    late.join_all().await;
    line.quiet().await;
    let told = std::mem::take(&mut *told.lock().unwrap());
    line.judge(&told).await;
    assert_eq!(line.issued().len() as i64, SEATS, "no seat leaks: {:?}", told.others);
    let known = |member: &String| told.promised.contains_key(member) || told.unknown.contains(member);
    assert!(line.issued().iter().all(known), "nobody has it who was not told so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_is_rebuilt_under_load() {
    let line = Line::new("flushed", SEATS).await;
    let consumer = start_consumer(&line.world).await;
    let mut reconciler = line.reconciler("reconciler");
    let (told, asking) = under_load(&line).await;
    line.redis::<()>(&["FLUSHALL"]).await;
    rebuilt(&line).await;
    settle(&line, &told, asking).await;
    reconciler.terminate(PATIENCE).unwrap();
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_an_old_file_promises_nothing_before_it_is_rebuilt() {
    let mut line = Line::new("old-file", SEATS).await;
    let consumer = start_consumer(&line.world).await;
    let mut reconciler = line.reconciler("reconciler");
    line.wait_open().await;
    // The file as it is while the gate is open and empty.
    let folder = PathBuf::from(&line.redis::<Vec<String>>(&["CONFIG", "GET", "dir"]).await[1]);
    let append_only = folder.join("appendonlydir");
    eventually(PATIENCE, "the file holds the gate", || async { size_of(&append_only) > 500 }).await;
    let old = folder.join("old");
    copy(&append_only, &old);

    let (told, asking) = under_load(&line).await;
    line.redis.kill();
    std::fs::remove_dir_all(&append_only).unwrap();
    copy(&old, &append_only);
    line.redis.restart().unwrap();
    rebuilt(&line).await;
    settle(&line, &told, asking).await;
    reconciler.terminate(PATIENCE).unwrap();
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_frozen_in_the_middle_of_a_rebuild_is_replaced_and_wakes_to_nothing() {
    let line = Line::new("frozen", SEATS).await;
    let consumer = start_consumer(&line.world).await;
    let mut frozen = line.reconciler("frozen");
    let (told, asking) = under_load(&line).await;
    // Without a consumer the rebuild stands in its middle: shut, and waiting for the log's end.
    consumer.stop().await;
    line.redis::<()>(&["FLUSHALL"]).await;
    eventually(PATIENCE, "the gate is shut", || async {
        line.status().await.is_some_and(|status| status.state == GateState::Loading)
    })
    .await;
    frozen.process().signal(Signal::STOP);

    let mut heir = line.reconciler("heir");
    let shut = "cold gate shut";
    eventually(PATIENCE, "another one takes over", || async { line.log_of("heir").contains(shut) }).await;
    let consumer = start_consumer(&line.world).await;
    line.wait_open().await;
    let run_id = |status: redis_io::GateStatus| (status.state, status.total);
    let before = run_id(line.status().await.unwrap());
    frozen.process().signal(Signal::CONT);
    // It shows that it is awake by its probes, and that it did nothing by its log.
    eventually_some(PATIENCE, "the frozen one is awake", || async {
        let ready = stack::service::is_ready(frozen.http_port());
        if ready { Ok(()) } else { Err("not ready") }
    })
    .await;
    settle(&line, &told, asking).await;
    assert_eq!(run_id(line.status().await.unwrap()), before);
    assert_eq!(line.log_of("frozen").matches(OPENED).count(), 1, "only the gate of before: {}", line.log_of("frozen"));
    assert!(line.log_of("heir").contains(OPENED));
    heir.terminate(PATIENCE).unwrap();
    frozen.terminate(PATIENCE).unwrap();
    consumer.stop().await;
}

fn size_of(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.metadata().unwrap().len()).sum()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
