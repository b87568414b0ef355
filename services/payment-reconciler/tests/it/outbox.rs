//! The outbox on a real PostgreSQL, told to a real Kafka.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use contracts::payment::{PaymentOutcome, decode_payment_outcome};
use domain::clock::Timestamp;
use kafka_io::{CommandProducer, ProducerSettings};
use payment_reconciler::outbox::{Cleaned, OutboxSettings, Relay, Told};
use postgres_io::raw_client;
use testkit::{PrivateKafka, World, create_payment_topics, eventually, kafka_settings, read_all, unique};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::orders::{PATIENCE, Sql, db, producer, settings};

fn failed(order: &str, reason: &str) -> PaymentOutcome {
    PaymentOutcome::OrderFailed {
        order: order.parse().unwrap(),
        reason: reason.to_owned(),
        at: Timestamp::from_unix_ms(1_714_554_000_123),
    }
}

const INSERT: &str = "INSERT INTO outbox (event_id, topic, event_type, event_key, payload, headers) VALUES ($1, 'payment_outcome', $2, $3, $4::text::jsonb, $5::text::jsonb)";

const TRACED: &str = r#"{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#;

async fn put(sql: &Sql, number: u128, outcome: &PaymentOutcome) {
    let key = outcome.order().as_str();
    sql.execute(INSERT, &[&Uuid::from_u128(number), &outcome.event_type(), &key, &outcome.to_json().to_string(), &TRACED]).await;
}

/// Reasons of each order's events, as they stand in the topic, and the number of records.
async fn told(world: &World) -> (BTreeMap<String, Vec<String>>, usize) {
    let (mut reasons, mut seen, mut records) = (BTreeMap::<String, Vec<String>>::new(), BTreeSet::new(), 0);
    for partition in 0..4 {
        for raw in read_all(&world.kafka, &world.kafka.topics.payment_outcome, partition).await.iter() {
            records += 1;
            let event = decode_payment_outcome(&raw).unwrap();
            assert!(raw.trace_parent().is_some(), "the trace goes on");
            let PaymentOutcome::OrderFailed { order, reason, .. } = event.outcome else { panic!("another outcome") };
            assert_eq!(raw.key, Some(order.as_str().as_bytes()));
            if seen.insert(event.event_id) {
                reasons.entry(order.to_string()).or_default().push(reason);
            }
        }
    }
    (reasons, records)
}

async fn relay(world: &World, holder: u128) -> Relay {
    let (topic, settings) = (world.kafka.topics.payment_outcome.clone(), OutboxSettings::default());
    Relay::new(db(world).await, Uuid::from_u128(holder), producer(world), topic, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_told_in_an_orders_order_and_by_one_replica_at_a_time() {
    let world = World::of_payments("outbox").await;
    let sql = Sql::of(&world).await;
    for number in 0..300_u128 {
        put(&sql, number, &failed(&format!("o{}", number % 7), &format!("r{number}"))).await;
    }
    let (mut first, mut second) = (relay(&world, 1).await, relay(&world, 2).await);
    assert_eq!(first.run_once().await.unwrap(), Some(Told { found: 300, told: 300 }));
    assert_eq!(second.run_once().await.unwrap(), None, "another replica tells");
    assert_eq!(first.run_once().await.unwrap(), Some(Told::default()));
    let (reasons, records) = told(&world).await;
    assert_eq!(records, 300);
    for (order, reasons) in reasons {
        let first: u128 = order[1..].parse().unwrap();
        let expected: Vec<String> = (0..300_u128).filter(|number| number % 7 == first).map(|n| format!("r{n}")).collect();
        assert_eq!(reasons, expected, "{order}");
    }
    // Its lease ends; the other one goes on behind it.
    sql.run("UPDATE payment_task SET expires_at = now()").await;
    put(&sql, 1_000, &failed("o0", "later")).await;
    assert_eq!(second.run_once().await.unwrap(), Some(Told { found: 1, told: 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_commits_late_is_told_although_its_id_is_lower() {
    let world = World::of_payments("late").await;
    let sql = Sql::of(&world).await;
    let mut slow = raw_client(&settings(&world)).await.unwrap();
    let open = slow.transaction().await.unwrap();
    let late = failed("slow", "late");
    let key = late.order().as_str();
    open.execute(INSERT, &[&Uuid::from_u128(1), &late.event_type(), &key, &late.to_json().to_string(), &TRACED]).await.unwrap();
    put(&sql, 2, &failed("quick", "early")).await;
    let mut relay = relay(&world, 1).await;
    assert_eq!(relay.run_once().await.unwrap(), Some(Told { found: 1, told: 1 }));
    open.commit().await.unwrap();
    assert_eq!(sql.number("SELECT outbox_id FROM outbox WHERE published_at IS NULL").await, 1, "a lower id than what was told");
    assert_eq!(relay.run_once().await.unwrap(), Some(Told { found: 1, told: 1 }));
    assert_eq!(told(&world).await.1, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_nobody_can_read_stops_nobody_and_stays() {
    let world = World::of_payments("unreadable").await;
    let sql = Sql::of(&world).await;
    put(&sql, 1, &failed("a", "first")).await;
    sql.run("UPDATE outbox SET payload = '{}'").await;
    put(&sql, 2, &failed("b", "second")).await;
    let mut relay = relay(&world, 1).await;
    assert_eq!(relay.run_once().await.unwrap(), Some(Told { found: 2, told: 1 }));
    assert_eq!(relay.run_once().await.unwrap(), Some(Told::default()));
    assert_eq!(sql.number("SELECT count(*) FROM outbox WHERE published_at IS NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_deleted_in_bounded_steps_and_what_waits_is_kept() {
    let world = World::of_payments("retention").await;
    let sql = Sql::of(&world).await;
    for number in 0..25_u128 {
        put(&sql, number, &failed(&format!("o{number}"), "x")).await;
    }
    sql.run("UPDATE outbox SET published_at = now() - interval '8 days' WHERE outbox_id <= 20").await;
    sql.run("UPDATE outbox SET published_at = now() - interval '6 days' WHERE outbox_id IN (21, 22)").await;
    let settings = OutboxSettings { cleanup_events_max: 3, ..OutboxSettings::default() };
    let topic = world.kafka.topics.payment_outcome.clone();
    let relay = Relay::new(db(&world).await, Uuid::from_u128(1), producer(&world), topic, settings);
    assert_eq!(relay.clean().await.unwrap(), Cleaned { deleted: 20, is_all: true });
    assert_eq!(sql.number("SELECT count(*) FROM outbox").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_told_does_not_wait_until_all_that_is_old_is_deleted() {
    let world = World::of_payments("retention-pieces").await;
    let sql = Sql::of(&world).await;
    for number in 0..25_u128 {
        put(&sql, number, &failed(&format!("o{number}"), "x")).await;
    }
    sql.run("UPDATE outbox SET published_at = now() - interval '8 days'").await;
    let settings = OutboxSettings { cleanup_events_max: 1, poll_ms: 10, ..OutboxSettings::default() };
    let topic = world.kafka.topics.payment_outcome.clone();
    let relay = Relay::new(db(&world).await, Uuid::from_u128(1), producer(&world), topic, settings);
    assert_eq!(relay.clean().await.unwrap(), Cleaned { deleted: 10, is_all: false });
    // The looks that follow go on with it, long before the next cleaning is due.
    let stop = CancellationToken::new();
    let running = tokio::spawn(relay.run(stop.clone(), || {}));
    eventually(PATIENCE, "the rest is deleted", || async { sql.number("SELECT count(*) FROM outbox").await == 0 }).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_told_batch_behind_batch_and_less_than_a_batch_waits_for_company() {
    let world = World::of_payments("batches").await;
    let sql = Sql::of(&world).await;
    for number in 0..35_u128 {
        put(&sql, number, &failed(&format!("o{number}"), "x")).await;
    }
    // Nobody lives to see the next look that comes by itself.
    let settings = OutboxSettings { batch_events_max: 10, poll_ms: 3_600_000, ..OutboxSettings::default() };
    let topic = world.kafka.topics.payment_outcome.clone();
    let relay = Relay::new(db(&world).await, Uuid::from_u128(1), producer(&world), topic, settings);
    let (stop, looks) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&looks);
    let beat = move || {
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let running = tokio::spawn(relay.run(stop.clone(), beat));
    let waiting = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
    eventually(PATIENCE, "the whole backlog is told", || async { sql.number(waiting).await == 0 }).await;
    // A look that should not come would come at once.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(looks.load(Ordering::SeqCst), 4, "looks for 10, 10, 10 and 5 events");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_is_waited_for_and_nothing_is_lost() {
    let mut world = World::of_payments("no-broker").await;
    let mut kafka = tokio::task::spawn_blocking(PrivateKafka::start).await.unwrap();
    world.kafka = kafka_settings(&kafka.brokers(), &unique("no-broker"));
    create_payment_topics(&world.kafka, 4).await;
    let sql = Sql::of(&world).await;
    let settings = ProducerSettings { delivery_timeout_ms: 1_500, ..ProducerSettings::default() };
    let producer = CommandProducer::new(&world.kafka, &settings).unwrap();
    let topic = world.kafka.topics.payment_outcome.clone();
    let mut relay = Relay::new(db(&world).await, Uuid::from_u128(1), producer, topic, OutboxSettings::default());
    put(&sql, 1, &failed("a", "r1")).await;
    // The producer's patience is short for the sake of what follows; a busy broker may need more than one round.
    let mut told_first = false;
    for _ in 0..40 {
        told_first = told_first || relay.run_once().await.unwrap() == Some(Told { found: 1, told: 1 });
    }
    assert!(told_first);
    kafka.process().pause();
    for number in 2..=5_u128 {
        put(&sql, number, &failed("a", &format!("r{number}"))).await;
    }
    let hanging = relay.run_once().await.unwrap();
    assert_eq!(hanging, Some(Told { found: 4, told: 0 }), "nothing is marked without an acknowledgement");
    kafka.process().resume();
    let stop = CancellationToken::new();
    let running = tokio::spawn(relay.run(stop.clone(), || {}));
    let waiting = "SELECT count(*) FROM outbox WHERE published_at IS NULL";
    eventually(PATIENCE, "the events that waited", || async { sql.number(waiting).await == 0 }).await;
    let (reasons, _) = told(&world).await;
    assert_eq!(reasons["a"], ["r1", "r2", "r3", "r4", "r5"], "in order, once repeats are dropped");
    stop.cancel();
    running.await.unwrap();
}
