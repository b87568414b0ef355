//! The log is decided in order, on its own partition, and by one consumer for many partitions.

use domain::coupon::{Admission, Change};
use testkit::{World, eventually};

use crate::{harness::*, invariants};

#[tokio::test(flavor = "multi_thread")]
async fn the_first_members_of_the_log_are_issued_and_the_others_hear_sold_out() {
    let world = World::new("fold-first").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("first"));
    let home = writer.define(&coupon, Admission::Queued, 100).await;
    writer.put_all(home, asks(&coupon, 0..300)).await;
    let consumer = Consumer::start(&world).await;
    sql.until_rows(&coupon, 300).await;
    assert_eq!(sql.outcomes(&coupon, "issued").await, 100);
    assert_eq!(sql.outcomes(&coupon, "sold_out").await, 200);
    let last = format!("SELECT max(log_offset) FROM coupon_request WHERE coupon_code = '{coupon}' AND outcome = 'issued'");
    let first = format!("SELECT min(log_offset) FROM coupon_request WHERE coupon_code = '{coupon}' AND outcome = 'sold_out'");
    assert!(sql.number(&last).await < sql.number(&first).await, "the issued ones are the first of the log");
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_duplicates_changes_and_cancels_are_decided_at_their_place() {
    let world = World::new("fold-mixed").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("mixed"));
    let home = writer.define(&coupon, Admission::Queued, 50).await;
    let again = |id: &str, n: usize| {
        let id = domain::ids::RequestId::from_idempotency_key(&coupon, &member(n), id);
        encoded(&domain::coupon::Request { id, ..request(&coupon, n) })
    };
    let consumer = Consumer::start(&world).await;
    writer.put_all(home, asks(&coupon, 0..40)).await;
    sql.until_rows(&coupon, 40).await;
    // Repeats of decided ids, further ids of holders, and a cancel before and after its request.
    writer.put_all(home, asks(&coupon, 0..40)).await;
    writer.put_all(home, (0..10).map(|n| again("second", n))).await;
    writer.put(home, &encoded_cancel(&request(&coupon, 900))).await;
    writer.put(home, &encoded(&request(&coupon, 900))).await;
    writer.put(home, &encoded_cancel(&request(&coupon, 0))).await;
    writer.put(home, &encoded_change(&Change { paused: Some(true), ..change(&coupon) })).await;
    writer.put_all(home, asks(&coupon, 100..105)).await;
    writer.put(home, &encoded_change(&Change { paused: Some(false), total: Some(45), ..change(&coupon) })).await;
    writer.put(home, &encoded_change(&Change { total: Some(1), ..change(&coupon) })).await;
    writer.put_all(home, asks(&coupon, 200..210)).await;
    writer.put(home, &encoded_change(&Change { end: true, ..change(&coupon) })).await;
    writer.put_all(home, asks(&coupon, 300..303)).await;
    sql.until_rows(&coupon, 40 + 10 + 1 + 5 + 10 + 3).await;
    let expected = [("issued", 45), ("duplicate", 10), ("cancelled", 1), ("paused", 5), ("sold_out", 5), ("ended", 3)];
    for (outcome, count) in expected {
        assert_eq!(sql.outcomes(&coupon, outcome).await, count, "{outcome}");
    }
    let commands =
        |outcome: &str| format!("SELECT count(*) FROM coupon_command WHERE coupon_code = '{coupon}' AND outcome = '{outcome}'");
    assert_eq!(sql.number(&commands("already_decided")).await, 1);
    assert_eq!(sql.number(&commands("total_below_issued")).await, 1);
    assert_eq!(sql.number(&format!("SELECT count(*) FROM coupon WHERE coupon_code = '{coupon}' AND status = 'ENDED'")).await, 1);
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_is_known_after_a_restart_and_over_the_bound_of_fingerprints() {
    let world = World::new("fold-holders").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("holders"));
    let home = writer.define(&coupon, Admission::Queued, 1_000).await;
    let mut environment = environment(&world);
    environment.insert("ISSUE_CONSUMER__FINGERPRINTS_MAX".to_owned(), "50".to_owned());
    environment.insert("ISSUE_CONSUMER__BATCH__RECORDS_MAX".to_owned(), "100".to_owned());
    let second = |n: usize| {
        let id = domain::ids::RequestId::from_idempotency_key(&coupon, &member(n), "second");
        encoded(&domain::coupon::Request { id, ..request(&coupon, n) })
    };
    let consumer = Consumer::with(&environment).await;
    writer.put_all(home, asks(&coupon, 0..400)).await;
    sql.until_rows(&coupon, 400).await;
    writer.put_all(home, (0..200).map(second)).await;
    sql.until_rows(&coupon, 600).await;
    consumer.stop().await;
    // With room for all: the set is loaded from the ledger.
    environment.insert("ISSUE_CONSUMER__FINGERPRINTS_MAX".to_owned(), "5000".to_owned());
    let consumer = Consumer::with(&environment).await;
    writer.put_all(home, (200..400).map(second)).await;
    writer.put_all(home, asks(&coupon, 400..500)).await;
    sql.until_rows(&coupon, 900).await;
    assert_eq!(sql.outcomes(&coupon, "duplicate").await, 400);
    assert_eq!(sql.outcomes(&coupon, "issued").await, 500);
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_on_another_partition_is_forwarded_once_and_takes_its_place_there() {
    let world = World::new("fold-forward").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("forward"));
    let consumer = Consumer::start(&world).await;
    let home = writer.define(&coupon, Admission::Queued, 10).await;
    sql.until(&format!("SELECT count(*) FROM coupon WHERE coupon_code = '{coupon}'"), 1).await;
    let wrong = (home + 1) % writer.partitions;
    let foreign = format!(r#"{{"userId":"foreign-1","couponId":"{coupon}"}}"#);
    let foreign = contracts::Encoded::new(Some(coupon.as_str().as_bytes()), Some(foreign.as_bytes()), 0);
    let landed = writer.put(wrong, &foreign).await;
    writer.put(wrong, &encoded(&request(&coupon, 1))).await;
    sql.until_rows(&coupon, 2).await;
    let at_home = format!(
        "SELECT count(*) FROM coupon_request WHERE coupon_code = '{coupon}' AND partition = {home} AND outcome = 'issued'"
    );
    assert_eq!(sql.number(&at_home).await, 2);
    let copies = testkit::read_all(&world.kafka, &world.kafka.topics.created, home).await;
    let origins: Vec<_> = copies.iter().filter_map(|raw| raw.headers.text(contracts::names::ORIGIN).map(str::to_owned)).collect();
    assert_eq!(origins.len(), 2);
    assert_eq!(origins[0], landed.to_string());
    let copy = copies.iter().find(|raw| raw.value == foreign.value()).expect("the copy keeps its bytes");
    assert!(copy.headers.get(contracts::names::REQUEST_ID).is_some(), "and the id of its first landing");
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_partition_does_not_stop_the_others() {
    let world = World::new("fold-slow").await;
    let (writer, sql) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url));
    let slow = world.coupon("slow");
    let quick = std::iter::repeat_with(|| world.coupon("quick")).find(|code| writer.home(code) != writer.home(&slow)).unwrap();
    let (slow_home, quick_home) =
        (writer.define(&slow, Admission::Queued, 10).await, writer.define(&quick, Admission::Queued, 10).await);
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM coupon", 2).await;
    // Somebody holds the slow coupon's row.
    let (mut holder, connection) = tokio_postgres::connect(&world.postgres_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = holder.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM coupon WHERE coupon_code = $1 FOR UPDATE", &[&slow.as_str()]).await.unwrap();
    writer.put_all(slow_home, asks(&slow, 0..5)).await;
    writer.put_all(quick_home, asks(&quick, 0..5)).await;
    sql.until_rows(&quick, 5).await;
    assert_eq!(sql.rows(&slow).await, 0, "nothing was decided without the row");
    lock.rollback().await.unwrap();
    sql.until_rows(&slow, 5).await;
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_told_to_kafka_only_after_the_commit() {
    let world = World::new("fold-offsets").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("offsets"));
    let consumer = Consumer::start(&world).await;
    let home = writer.define(&coupon, Admission::Queued, 10).await;
    sql.until("SELECT count(*) FROM coupon", 1).await;
    let committed = || committed_offset(&world, home);
    eventually(PATIENCE, "the first offset is told", || async { committed().await == Some(1) }).await;
    let (mut holder, connection) = tokio_postgres::connect(&world.postgres_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = holder.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM coupon FOR UPDATE", &[]).await.unwrap();
    writer.put_all(home, asks(&coupon, 0..5)).await;
    // The batch stands inside its transaction now: the server says that it waits for the row.
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    sql.until(waiting, 1).await;
    assert_eq!(committed().await, Some(1));
    assert_eq!(sql.number(&format!("SELECT next_offset FROM consumer_position WHERE partition = {home}")).await, 1);
    lock.rollback().await.unwrap();
    sql.until_rows(&coupon, 5).await;
    eventually(PATIENCE, "the offset is told after the commit", || async { committed().await == Some(6) }).await;
    consumer.stop().await;
}

/// What the group has committed for a partition, asked as a lag tool does.
async fn committed_offset(world: &World, partition: i32) -> Option<i64> {
    use rdkafka::{
        ClientConfig, TopicPartitionList,
        consumer::{BaseConsumer, Consumer as _},
    };
    let (brokers, group, topic) = (world.kafka.brokers.clone(), world.name.clone(), world.kafka.topics.created.clone());
    tokio::task::spawn_blocking(move || {
        let tool: BaseConsumer = ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, partition);
        let list = tool.committed_offsets(list, std::time::Duration::from_secs(10)).ok()?;
        list.elements().first().and_then(|element| element.offset().to_raw()).filter(|offset| *offset >= 0)
    })
    .await
    .unwrap()
}
