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

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_killed_in_mid_load_neither_loses_nor_repeats_a_decision() {
    let world = World::with_partitions("killed", 2).await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("killed"));
    let folder = TestFolder::new("killed");
    let mut environment = environment(&world);
    environment.insert("ISSUE_CONSUMER__BATCH__RECORDS_MAX".to_owned(), "50".to_owned());
    let home = writer.define(&coupon, Admission::Queued, 4_000).await;
    writer.put_all(home, asks(&coupon, 0..6_000)).await;
    for (n, rows) in [500, 2_000, 4_000].into_iter().enumerate() {
        let mut consumer = spawn(&environment, &format!("victim-{n}"), folder.path());
        sql.until(&format!("SELECT CASE WHEN count(*) >= {rows} THEN 1::bigint ELSE 0 END FROM coupon_request"), 1).await;
        consumer.kill();
    }
    let consumer = Consumer::with(&environment).await;
    sql.until_rows(&coupon, 6_000).await;
    assert_eq!(sql.outcomes(&coupon, "issued").await, 4_000);
    sql.until(&format!("SELECT next_offset FROM publisher_position WHERE partition = {home}"), 6_001).await;
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_client_fell_silent_does_not_hold_the_partition() {
    let world = World::with_partitions("silent", 1).await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("silent"));
    let mut environment = environment(&world);
    for (name, value) in [("STATEMENT_TIMEOUT_MS", "1500"), ("LOCK_TIMEOUT_MS", "500")] {
        environment.insert(format!("ISSUE_CONSUMER__POSTGRES__{name}"), value.to_owned());
    }
    let home = writer.define(&coupon, Admission::Queued, 10).await;
    let consumer = Consumer::with(&environment).await;
    sql.until("SELECT count(*) FROM coupon", 1).await;
    // As a process that was stopped after it had moved the position and begun to copy.
    let (silent, connection) = tokio_postgres::connect(&world.postgres_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    silent.batch_execute("SET statement_timeout = 1500; SET idle_in_transaction_session_timeout = 1500; BEGIN").await.unwrap();
    silent.execute("UPDATE consumer_position SET next_offset = 99", &[]).await.unwrap();
    let copy = silent.copy_in::<_, bytes::Bytes>(issue_consumer::copy_rows::COPY_LEDGER).await.unwrap();
    writer.put_all(home, asks(&coupon, 0..5)).await;
    sql.until_rows(&coupon, 5).await;
    eventually(PATIENCE, "the silent one has lost its connection", || async { silent.is_closed() }).await;
    drop(copy);
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}
