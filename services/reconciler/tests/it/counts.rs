//! Counts are confirmed, differences repaired, and every run leaves its report.

use std::time::Duration;

use domain::ids::CouponCode;
use reconciler::{error::TaskError, run::Depth};
use testkit::eventually;

use crate::stage::Stage;

#[tokio::test]
async fn a_wrong_counter_is_repaired_and_reported() {
    let stage = Stage::new("counter").await;
    let (wrong, right) = (stage.coupon("a", 10), stage.coupon("b", 10));
    stage.issued(&wrong, 1..5);
    stage.issued(&right, 1..4);
    stage.sql(&format!("UPDATE coupon SET issued_quantity = 9 WHERE coupon_code = '{wrong}'"));
    let report = stage.replica().await.run_task().run_once(&stage.walk()).await.unwrap();
    assert_eq!(report.failures, []);
    let found: Vec<_> = report.coupons.iter().map(|one| (&one.coupon_code, one.db_count, one.issued_quantity_before)).collect();
    assert_eq!(found, [(&wrong, 4, Some(9)), (&right, 3, None)]);
    assert_eq!(stage.sql("SELECT string_agg(issued_quantity::text, ',' ORDER BY coupon_code) FROM coupon"), "4,3");

    let kept = stage.sql(&format!(
        "SELECT report->>'dbCount', report->>'redisCount', report->>'gate', report->>'issuedQuantityBefore', report->>'hasMismatch' \
         FROM reconciliation_report WHERE coupon_code = '{wrong}' AND finished_at >= started_at"
    ));
    assert_eq!(kept, "4|0|absent|9|false", "nothing in Redis is no mismatch");
}

#[tokio::test]
async fn an_unknown_coupon_is_an_error_that_names_it() {
    let stage = Stage::new("unknown").await;
    let code = CouponCode::new("no-such-coupon").unwrap();
    let error = stage.replica().await.run_task().run_coupon(&code, Depth::ORDINARY, &stage.walk()).await.unwrap_err();
    assert!(matches!(&error, TaskError::UnknownCoupon(named) if *named == code));
    assert!(error.to_string().contains("no-such-coupon"));
}

/// Counting in the statement that locks, or before it, would miss what the lock's holder writes: on real PostgreSQL that gave
/// 20 rows of 15 seats.
#[tokio::test]
async fn the_count_waits_for_the_consumers_batch() {
    let stage = Stage::new("lock").await;
    let code = stage.coupon("c", 10);
    stage.issued(&code, 1..3);
    let url = stage.world.postgres_url.clone();
    let (consumer, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    // A batch of the consumer: it holds the coupon's row and has written a row that nobody else sees yet.
    let batch = format!(
        "BEGIN; SELECT 1 FROM coupon WHERE coupon_code = '{code}' FOR UPDATE; \
         INSERT INTO coupon_request (coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, admitted, outcome, \
         sequence) VALUES ('{code}', gen_random_uuid(), 'late', 1, 50, 50, now(), true, 'issued', 3)"
    );
    consumer.batch_execute(&batch).await.unwrap();

    let (task, walk) = (stage.replica().await.run_task(), stage.walk());
    let counting = tokio::spawn({
        let code = code.clone();
        async move { task.run_coupon(&code, Depth::FULL, &walk).await }
    });
    // Asked from another session: within a transaction the statistics stand still.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually(Duration::from_secs(2), "the count waits for the row", || async { stage.sql(waiting) == "1" }).await;
    let end = format!("UPDATE coupon SET issued_quantity = 3 WHERE coupon_code = '{code}'; COMMIT");
    consumer.batch_execute(&end).await.unwrap();
    let report = counting.await.unwrap().unwrap().unwrap();
    assert_eq!((report.db_count, report.issued_quantity_before), (3, None));
    assert_eq!(stage.sql("SELECT issued_quantity FROM coupon"), "3");
}

#[tokio::test]
async fn rows_that_somebody_deleted_are_an_alarm_and_stop_no_further_issue() {
    let stage = Stage::new("deleted").await;
    let code = stage.coupon("c", 10);
    stage.issued(&code, 1..5);
    stage.sql(&format!("DELETE FROM coupon_request WHERE coupon_code = '{code}' AND sequence = 2"));
    let report = stage.replica().await.run_task().run_coupon(&code, Depth::FULL, &stage.walk()).await.unwrap().unwrap();
    assert_eq!((report.db_count, report.issued_quantity_before), (3, None));
    assert!(report.errors.iter().any(|error| error.contains("1 issues are missing")), "{report:?}");
    // The next issue's number is the one behind the highest: 5.
    assert_eq!(stage.sql("SELECT issued_quantity FROM coupon"), "4");
}
