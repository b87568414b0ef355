//! A request whose every row PostgreSQL refuses keeps no seat for ever, on the whole line.

use std::sync::{Arc, Mutex};

use testkit::eventually;
use tokio_util::sync::CancellationToken;

use crate::line::{Line, PATIENCE, Told, start_consumer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_even_be_refused_gives_its_seat_back() {
    let line = Line::new("refused-rows", 2).await;
    // A guard that somebody added, which no code here knows of: neither his issue nor the row that gives his request up passes it.
    line.sql("ALTER TABLE coupon_request ADD CHECK (member_id IS DISTINCT FROM 'm0' AND outcome <> 'unprocessable')");
    let consumer = start_consumer(&line.world).await;
    let mut reconciler = line.reconciler("reconciler");
    line.wait_open().await;
    let (told, stop) = (Arc::new(Mutex::new(Told::default())), CancellationToken::new());
    line.rush(0..1, &told, &stop).join_all().await;
    assert!(told.lock().unwrap().promised.contains_key("m0"));
    let given_up =
        "SELECT count(*) FROM failed_coupon_issue WHERE member_id = 'm0' AND reason LIKE 'Refused by the database: %check%'";
    eventually(PATIENCE, "his reservation is given up", || async { line.sql(given_up) == "1" }).await;
    let letters: u32 = line.sql("SELECT count(*) FROM dead_letter WHERE cause = 'refused_by_database'").parse().unwrap();
    assert!(letters >= 3, "{letters}");
    assert!(line.log_of("reconciler").contains("[ALARM] a reservation is given up"));

    // Both seats find somebody, and whoever is left hears that they are gone.
    line.rush(1..4, &told, &stop).join_all().await;
    line.quiet().await;
    let mut told = std::mem::take(&mut *told.lock().unwrap());
    told.promised.remove("m0");
    assert_eq!(told.promised.len(), 2, "{:?}", told.others);
    line.judge(&told).await;
    assert_eq!(line.issued(), told.promised.keys().cloned().collect());
    reconciler.terminate(PATIENCE).unwrap();
    consumer.stop().await;
}
