//! Servers that go away and come back, and logs that are not what they were.

use domain::coupon::Admission;
use issue_consumer::board::Alarm;
use testkit::{PrivateKafka, PrivatePostgres, World, create_topics, eventually, kafka_settings};

use crate::{harness::*, invariants};

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_restarted_in_mid_batch() {
    let mut postgres = tokio::task::spawn_blocking(PrivatePostgres::start).await.unwrap();
    let world = World::new("pg-restart").await;
    migrate(&postgres);
    let world = World { postgres_url: postgres.url(), ..world };
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("restart"));
    let home = writer.define(&coupon, Admission::Queued, 15_000).await;
    let mut environment = environment(&world);
    environment.insert("ISSUE_CONSUMER__BATCH__RECORDS_MAX".to_owned(), "200".to_owned());
    writer.put_all(home, asks(&coupon, 0..20_000)).await;
    let consumer = Consumer::with(&environment).await;
    for (rows, kill) in [(500, true), (4_000, false)] {
        let query = format!("SELECT CASE WHEN count(*) >= {rows} THEN 1::bigint ELSE 0 END FROM coupon_request");
        sql.until(&query, 1).await;
        postgres = tokio::task::spawn_blocking(move || {
            if kill {
                postgres.kill();
            } else {
                postgres.stop().expect("PostgreSQL stops");
            }
            // After a kill, the old backends hold the shared memory until they have noticed.
            assert!(stack::process::wait_until(PATIENCE, || postgres.restart().is_ok()), "PostgreSQL starts");
            postgres
        })
        .await
        .unwrap();
    }
    sql.until_rows(&coupon, 20_000).await;
    assert_eq!(sql.outcomes(&coupon, "issued").await, 15_000);
    assert!(consumer.board.alarms().is_empty());
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

fn migrate(postgres: &PrivatePostgres) {
    let folder = stack::paths::workspace().expect("the workspace").join("migrations");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path().join("up.sql")).collect();
    files.sort();
    let database = postgres.url().rsplit('/').next().unwrap().to_owned();
    for file in files.iter().filter(|file| file.is_file()) {
        postgres.psql(&database, &std::fs::read_to_string(file).unwrap()).expect("a migration");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_is_stopped_and_comes_back() {
    let mut kafka = tokio::task::spawn_blocking(PrivateKafka::start).await.unwrap();
    let world = World::new("kafka-restart").await;
    let world = World { kafka: kafka_settings(&kafka.brokers(), &world.name), ..world };
    create_topics(&world.kafka, 2).await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("kafka"));
    let home = writer.define(&coupon, Admission::Queued, 1_500).await;
    writer.put_all(home, asks(&coupon, 0..1_000)).await;
    let consumer = Consumer::start(&world).await;
    sql.until_rows(&coupon, 1_000).await;
    let kafka = tokio::task::spawn_blocking(move || {
        kafka.kill();
        kafka.restart().expect("Kafka starts");
        kafka
    })
    .await
    .unwrap();
    writer.put_all(home, asks(&coupon, 1_000..2_000)).await;
    sql.until_rows(&coupon, 2_000).await;
    let published = format!("SELECT next_offset FROM publisher_position WHERE partition = {home}");
    sql.until(&published, 2_001).await;
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
    drop(kafka);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_start_behind_the_position_stops_that_partition_and_no_other() {
    let world = World::new("log-start").await;
    let (writer, sql) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url));
    let cut = world.coupon("cut");
    let other = std::iter::repeat_with(|| world.coupon("other")).find(|code| writer.home(code) != writer.home(&cut)).unwrap();
    let (cut_home, other_home) =
        (writer.define(&cut, Admission::Queued, 10).await, writer.define(&other, Admission::Queued, 10).await);
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM coupon", 2).await;
    consumer.stop().await;
    writer.put_all(cut_home, asks(&cut, 0..10)).await;
    testkit::delete_records(&world.kafka, &world.kafka.topics.created, cut_home, 5).await;
    let consumer = Consumer::start(&world).await;
    writer.put_all(other_home, asks(&other, 0..5)).await;
    sql.until_rows(&other, 5).await;
    let alarms = consumer.board.alarms();
    assert_eq!(alarms.get(&cut_home), Some(&Alarm::BelowLogStart { position: 1, low: 5 }), "{alarms:?}");
    assert_eq!(alarms.len(), 1);
    assert_eq!(sql.rows(&cut).await, 0, "nothing is skipped silently");
    // An operator who accepts the loss sets the position by hand.
    sql.execute(&format!("UPDATE consumer_position SET next_offset = 5 WHERE partition = {cut_home}")).await;
    consumer.stop().await;
    let consumer = Consumer::start(&world).await;
    sql.until_rows(&cut, 6).await;
    assert!(consumer.board.alarms().is_empty());
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_of_another_log_or_beyond_the_end_stops_the_partition() {
    let world = World::with_partitions("other-log", 3).await;
    let (writer, sql) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url));
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM consumer_position", 3).await;
    consumer.stop().await;
    sql.execute("UPDATE consumer_position SET topic_id = 'another' WHERE partition = 0").await;
    sql.execute("UPDATE consumer_position SET next_offset = 99 WHERE partition = 1").await;
    let consumer = Consumer::start(&world).await;
    let coupon = std::iter::repeat_with(|| world.coupon("fine")).find(|code| writer.home(code) == 2).unwrap();
    writer.define(&coupon, Admission::Queued, 1).await;
    sql.until("SELECT count(*) FROM coupon", 1).await;
    eventually(PATIENCE, "both alarms", || async { consumer.board.alarms().len() == 2 }).await;
    let alarms = consumer.board.alarms();
    assert!(matches!(alarms.get(&0), Some(Alarm::OtherLog { .. })), "{alarms:?}");
    assert_eq!(alarms.get(&1), Some(&Alarm::BeyondLogEnd { position: 99, high: 0 }));
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_starts_before_its_servers_waits_for_them() {
    let world = World::new("early").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("early"));
    // The database has no tables yet: they are moved away, as if the migration job came later.
    sql.execute("ALTER TABLE consumer_position RENAME TO not_yet").await;
    let consumer = Consumer::start(&world).await;
    let home = writer.define(&coupon, Admission::Queued, 1).await;
    writer.put(home, &encoded(&request(&coupon, 1))).await;
    eventually(PATIENCE, "it has asked", || async { !consumer.board.is_open() }).await;
    sql.execute("ALTER TABLE not_yet RENAME TO consumer_position").await;
    sql.until_rows(&coupon, 1).await;
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_start_that_moves_past_a_waiting_consumer_is_an_alarm_too() {
    let world = World::with_partitions("cut-live", 1).await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("live"));
    let mut environment = environment(&world);
    // Little is fetched ahead, so that the records that are deleted are not in memory yet.
    for (name, value) in
        [("BATCH__RECORDS_MAX", "10"), ("CONSUMER__QUEUED_RECORDS_MIN", "1"), ("CONSUMER__FETCH_BYTES_MAX", "4096")]
    {
        environment.insert(format!("ISSUE_CONSUMER__{name}"), value.to_owned());
    }
    writer.define(&coupon, Admission::Queued, 10).await;
    let consumer = Consumer::with(&environment).await;
    sql.until("SELECT count(*) FROM coupon", 1).await;
    // The consumer waits for the coupon's row, and the log is cut behind what it has fetched.
    let (mut holder, connection) = tokio_postgres::connect(&world.postgres_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = holder.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM coupon FOR UPDATE", &[]).await.unwrap();
    writer.put_all(0, asks(&coupon, 0..5_000)).await;
    testkit::delete_records(&world.kafka, &world.kafka.topics.created, 0, 4_000).await;
    lock.rollback().await.unwrap();
    eventually(PATIENCE, "the alarm", || async { !consumer.board.alarms().is_empty() }).await;
    let alarms = consumer.board.alarms();
    assert!(matches!(alarms.get(&0), Some(Alarm::BelowLogStart { low: 4_000, .. })), "{alarms:?}");
    let undecided = "SELECT count(*) FROM coupon_request WHERE log_offset >= 4000";
    assert_eq!(sql.number(undecided).await, 0, "what lies behind the gap is not decided");
    consumer.stop().await;
}
