//! Outcomes reach Kafka at least once and the gates exactly, whoever is away meanwhile.

use std::collections::BTreeMap;

use contracts::{Envelope, decode_outcome, encode_request};
use domain::{
    clock::SystemClock,
    coupon::{Admission, Change},
    ids::CouponCode,
};
use redis_io::{Gate, GateRules, LoadToken, Reserve};
use testkit::{ENVELOPE, PrivateRedis, World, eventually, eventually_some, log_key, read_all};
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

/// The n-th member's request, in this trace.
fn traced(coupon: &CouponCode, n: usize, trace: &str) -> contracts::Encoded {
    let envelope = Envelope { trace_parent: trace.parse().ok(), ..ENVELOPE };
    encode_request(&request(coupon, n), None, &log_key(), &envelope)
}

/// Waits until the outcomes of these members are announced, and says in which trace each is.
async fn announced_traces(world: &World, writer: &Writer, coupon: &CouponCode, members: std::ops::Range<usize>) -> Vec<String> {
    eventually_some(PATIENCE, "the outcomes are announced", || async {
        let mut traces = BTreeMap::new();
        for topic in [&world.kafka.topics.issued, &world.kafka.topics.rejected] {
            for partition in 0..writer.partitions {
                for raw in read_all(&world.kafka, topic, partition).await.iter() {
                    let trace = raw.trace_parent().map_or_else(|| "none".to_owned(), |trace| trace.to_string());
                    traces.insert(decode_outcome(&raw).expect("an outcome").request, trace);
                }
            }
        }
        let found: Option<Vec<String>> = members.clone().map(|n| traces.get(&request(coupon, n).id).cloned()).collect();
        found.ok_or(traces)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_request_goes_on_in_the_event_of_its_outcome() {
    let world = World::new("traces").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("traces"));
    let home = writer.define(&coupon, Admission::Queued, 1).await;
    let recorded = |n: usize| format!("00-4bf92f3577b34da6a3ce929d0e0e{n:04x}-00f067aa0ba902b7-01");
    let unrecorded = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let consumer = Consumer::start(&world).await;
    let asked = [traced(&coupon, 0, &recorded(1)), traced(&coupon, 1, unrecorded), traced(&coupon, 2, &recorded(3))];
    writer.put_all(home, asked).await;
    // One is issued, two are refused.
    let told = announced_traces(&world, &writer, &coupon, 0..3).await;
    assert_eq!(told, [recorded(1), "none".to_owned(), recorded(3)]);
    consumer.stop().await;

    // What was decided by a consumer that never came to announce it is told by the next one, from the ledger.
    let folder = testkit::TestFolder::new("traces");
    let mut silent = spawn(&announcing_nowhere(&world), "silent", folder.path());
    writer.put_all(home, [traced(&coupon, 3, &recorded(4)), traced(&coupon, 4, unrecorded)]).await;
    sql.until_rows(&coupon, 5).await;
    silent.kill();
    let consumer = Consumer::start(&world).await;
    assert_eq!(announced_traces(&world, &writer, &coupon, 3..5).await, [recorded(4), "none".to_owned()]);
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

/// The environment of a consumer whose announcements go to topics that do not exist: it is always between commit and announcement.
fn announcing_nowhere(world: &World) -> BTreeMap<String, String> {
    let mut environment = environment(world);
    for topic in ["ISSUED", "REJECTED"] {
        environment.insert(format!("ISSUE_CONSUMER__KAFKA__TOPICS__{topic}"), testkit::unique("nowhere"));
    }
    environment
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_killed_between_commit_and_announcement_announces_after_its_restart() {
    let world = World::new("announce").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("announce"));
    let home = writer.define(&coupon, Admission::Queued, 50).await;
    let folder = testkit::TestFolder::new("announce");
    let mut first = spawn(&announcing_nowhere(&world), "first", folder.path());
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
    let rules = GateRules::always_open(100, partition);
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
