//! Outcomes reach Kafka at least once and the gates exactly, whoever is away meanwhile.

use std::collections::BTreeMap;

use contracts::decode_outcome;
use domain::{
    clock::SystemClock,
    coupon::{Admission, Change},
    ids::CouponCode,
};
use redis_io::{Gate, GateRules, LoadToken, Reserve};
use testkit::{PrivateRedis, World, eventually, eventually_some, read_all};
use uuid::Uuid;

use crate::{gates::*, harness::*, invariants};

/// Event id → (type, times seen), of one coupon in one topic.
async fn events(world: &World, topic: &str, partitions: i32, coupon: &CouponCode) -> BTreeMap<Uuid, usize> {
    let mut seen = BTreeMap::new();
    for partition in 0..partitions {
        for raw in read_all(&world.kafka, topic, partition).await.iter() {
            let event = decode_outcome(&raw).expect("an outcome");
            if event.coupon == *coupon {
                assert_eq!(event.event_id, contracts::outcome_event_id(coupon, event.request));
                *seen.entry(event.event_id).or_default() += 1;
            }
        }
    }
    seen
}

async fn until_announced(world: &World, writer: &Writer, coupon: &CouponCode, issued: usize, rejected: usize) {
    eventually_some(PATIENCE, "all outcomes are announced", || async {
        let topics = &world.kafka.topics;
        let seen = (
            events(world, &topics.issued, writer.partitions, coupon).await.len(),
            events(world, &topics.rejected, writer.partitions, coupon).await.len(),
        );
        if seen == (issued, rejected) { Ok(()) } else { Err(seen) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_outcome_is_announced_with_an_id_of_its_own() {
    let world = World::new("events").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("events"));
    let home = writer.define(&coupon, Admission::Queued, 30).await;
    let consumer = Consumer::start(&world).await;
    writer.put_all(home, asks(&coupon, 0..100)).await;
    until_announced(&world, &writer, &coupon, 30, 70).await;
    let cursor = format!("SELECT next_offset FROM publisher_position WHERE partition = {home}");
    sql.until(&cursor, 101).await;
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_killed_between_commit_and_announcement_announces_after_its_restart() {
    let world = World::new("announce").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("announce"));
    let home = writer.define(&coupon, Admission::Queued, 50).await;
    let folder = testkit::TestFolder::new("announce");
    // This one decides, and its announcements go to topics that do not exist: it is always between commit and announcement.
    let mut broken = environment(&world);
    broken.insert("ISSUE_CONSUMER__KAFKA__TOPICS__ISSUED".to_owned(), testkit::unique("nowhere"));
    broken.insert("ISSUE_CONSUMER__KAFKA__TOPICS__REJECTED".to_owned(), testkit::unique("nowhere"));
    let mut first = spawn(&broken, "first", folder.path());
    writer.put_all(home, asks(&coupon, 0..80)).await;
    sql.until_rows(&coupon, 80).await;
    first.kill();
    assert_eq!(sql.number("SELECT count(*) FROM publisher_position WHERE next_offset > 0").await, 0, "nothing was announced");
    let second = Consumer::start(&world).await;
    until_announced(&world, &writer, &coupon, 50, 30).await;
    assert_eq!(sql.rows(&coupon).await, 80, "nothing was decided twice");
    second.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_says_what_the_ledger_says_after_an_outage_of_redis() {
    let mut redis = tokio::task::spawn_blocking(PrivateRedis::start).await.unwrap();
    let world = World { redis_url: redis.url(), ..World::new("gate").await };
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("gate"));
    let home = writer.define(&coupon, Admission::Reserved, 100).await;
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM coupon", 1).await;
    let gate = gate(&world.redis_url).await;
    open_gate(&gate, &sql, &coupon, home, 100).await;
    // One is reserved and gets its outcome, one is reserved and never asks again, one comes by the log alone.
    let reserved = request(&coupon, 1);
    let lost = request(&coupon, 2);
    let answers = gate.reserve(&coupon, &[(reserved.member.clone(), reserved.id), (lost.member.clone(), lost.id)]).await.unwrap();
    assert!(matches!(answers[..], [Reserve::Reserved { .. }, Reserve::Reserved { .. }]), "{answers:?}");
    writer.put(home, &encoded(&domain::coupon::Request { admitted: true, ..reserved })).await;
    writer.put_all(home, asks(&coupon, 3..43)).await;
    until_settled(&gate, &sql, &coupon, home, 42, 1).await;

    // Away, and deciding goes on; back with its files and under another run id it is cold until it is opened again.
    redis.stop().expect("Redis stops");
    writer.put_all(home, asks(&coupon, 43..63)).await;
    sql.until_rows(&coupon, 61).await;
    redis.restart().expect("Redis starts");
    writer.put(home, &encoded_change(&Change { total: Some(80), ..change(&coupon) })).await;
    sql.until("SELECT total_quantity FROM coupon", 80).await;
    open_from_ledger(&gate, &sql, &coupon, home).await;
    writer.put_all(home, asks(&coupon, 63..70)).await;
    until_settled(&gate, &sql, &coupon, home, 68, 0).await;
    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.total, status.stock), (Some(80), Some(12)));
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

/// Opens the gate with the members of the ledger, from the beginning of the log: the settler catches up by itself.
async fn open_from_ledger(gate: &Gate, sql: &Sql, coupon: &CouponCode, partition: i32) {
    let token = LoadToken::new(domain::ids::CommandId::fresh(&SystemClock).uuid());
    let rules =
        GateRules { total: 100, opens_at: None, closes_at: None, paused: false, ended: false, partition, rules_offset: 0 };
    eventually(PATIENCE, "Redis answers again", || async { gate.begin_load(coupon, token).await == Ok(true) }).await;
    assert!(sql.rows(coupon).await > 0);
    assert_eq!(gate.open(coupon, token, &rules, 0).await.expect("Redis answers"), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_give_reserved_seats_back_and_duplicates_keep_theirs() {
    let world = World::new("settle").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("settle"));
    let home = writer.define(&coupon, Admission::Reserved, 2).await;
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM coupon", 1).await;
    let gate = gate(&world.redis_url).await;
    open_gate(&gate, &sql, &coupon, home, 2).await;
    let (first, second) = (request(&coupon, 1), request(&coupon, 2));
    gate.reserve(&coupon, &[(first.member.clone(), first.id), (second.member.clone(), second.id)]).await.unwrap();
    // Two others come before them in the log, so the reserved ones are sold out and leave the gate.
    writer.put_all(home, asks(&coupon, 8..10)).await;
    for request in [first, second] {
        writer.put(home, &encoded(&domain::coupon::Request { admitted: true, ..request })).await;
    }
    until_settled(&gate, &sql, &coupon, home, 2, 0).await;
    assert_eq!(sql.outcomes(&coupon, "sold_out").await, 2);
    let again =
        gate.reserve(&coupon, &[(member(8), request(&coupon, 99).id), (member(1), request(&coupon, 98).id)]).await.unwrap();
    assert_eq!(again, [Reserve::Issued, Reserve::SoldOut]);
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_coupon_is_issued_with_redis_stopped() {
    let mut redis = tokio::task::spawn_blocking(PrivateRedis::start).await.unwrap();
    let world = World { redis_url: redis.url(), ..World::new("no-redis").await };
    redis.stop().expect("Redis stops");
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("queued"));
    let home = writer.define(&coupon, Admission::Queued, 20).await;
    let consumer = Consumer::start(&world).await;
    writer.put_all(home, asks(&coupon, 0..30)).await;
    until_announced(&world, &writer, &coupon, 20, 10).await;
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}
