//! Two consumers share the partitions; whoever loses one stops at the position row.

use std::time::Duration;

use domain::coupon::Admission;
use testkit::{TestFolder, World, eventually};

use crate::{harness::*, invariants};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_consumer_joins_and_the_first_leaves_in_mid_load() {
    let world = World::new("rebalance").await;
    let (writer, sql) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url));
    let mut environment = environment(&world);
    environment.insert("ISSUE_CONSUMER__BATCH__RECORDS_MAX".to_owned(), "100".to_owned());
    let coupons: Vec<_> = (0..4).map(|n| world.coupon(&format!("c{n}"))).collect();
    let mut homes = Vec::new();
    for coupon in &coupons {
        homes.push(writer.define(coupon, Admission::Queued, 1_500).await);
    }
    let first = Consumer::with(&environment).await;
    for (coupon, home) in coupons.iter().zip(&homes) {
        writer.put_all(*home, asks(coupon, 0..1_000)).await;
    }
    let second = Consumer::with(&environment).await;
    for (coupon, home) in coupons.iter().zip(&homes) {
        writer.put_all(*home, asks(coupon, 1_000..2_000)).await;
    }
    eventually(PATIENCE, "both have partitions", || async {
        !first.board.running().is_empty() && !second.board.running().is_empty()
    })
    .await;
    first.stop().await;
    for (coupon, home) in coupons.iter().zip(&homes) {
        writer.put_all(*home, asks(coupon, 2_000..2_500)).await;
    }
    for coupon in &coupons {
        sql.until_rows(coupon, 2_500).await;
        assert_eq!(sql.outcomes(coupon, "issued").await, 1_500);
    }
    second.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_stopped_past_its_session_decides_nothing_when_it_wakes() {
    let world = World::with_partitions("zombie", 1).await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("zombie"));
    let folder = TestFolder::new("zombie");
    let mut environment = environment(&world);
    environment.insert("ISSUE_CONSUMER__BATCH__RECORDS_MAX".to_owned(), "50".to_owned());
    let home = writer.define(&coupon, Admission::Queued, 3_000).await;
    let mut sleeper = spawn(&environment, "sleeper", folder.path());
    sleeper.wait_ready().expect("the first is ready");
    writer.put_all(home, asks(&coupon, 0..2_000)).await;
    sql.until("SELECT CASE WHEN count(*) >= 100 THEN 1::bigint ELSE 0 END FROM coupon_request", 1).await;
    sleeper.process().pause();
    let mut second = spawn(&environment, "second", folder.path());
    writer.put_all(home, asks(&coupon, 2_000..4_000)).await;
    sql.until_rows(&coupon, 4_000).await;
    sleeper.process().resume();
    writer.put_all(home, asks(&coupon, 4_000..4_500)).await;
    sql.until_rows(&coupon, 4_500).await;
    // It is a member again, and neither of them stands still.
    sleeper.wait_ready().expect("the sleeper is ready again");
    assert_eq!(sql.outcomes(&coupon, "issued").await, 3_000);
    assert_eq!(sleeper.terminate(Duration::from_secs(20)).expect("it ends"), Some(0));
    assert_eq!(second.terminate(Duration::from_secs(20)).expect("it ends"), Some(0));
    invariants::hold(&world, &writer, &sql).await;
}
