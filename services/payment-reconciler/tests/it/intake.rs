//! Orders from a real Kafka into a real PostgreSQL.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use contracts::{Encoded, names, order::encode_order_placed, order_proto};
use domain::secret::Secret;
use kafka_io::ConsumerSettings;
use payment_reconciler::intake::{Intake, IntakeSettings, Progress};
use testkit::{ENVELOPE, PrivatePostgres, World, eventually, read_all};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::orders::{PATIENCE, Sql, Writer, attempt, db, order, producer};

/// An intake in this process.
struct Running {
    stop: CancellationToken,
    open: Arc<AtomicBool>,
    task: JoinHandle<Result<(), String>>,
}

fn settings(world: &World) -> IntakeSettings {
    let consumer = ConsumerSettings {
        group_id: world.name.clone(),
        session_timeout_ms: 6_000,
        heartbeat_interval_ms: 500,
        ..IntakeSettings::default().consumer
    };
    IntakeSettings { consumer, lag_interval_ms: 100, ..IntakeSettings::default() }
}

impl Running {
    async fn start(world: &World) -> Self {
        testkit::show_logs();
        let open = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&open);
        let progress = Progress { open: Arc::new(move |is_open| told.store(is_open, Ordering::Release)), ..Progress::default() };
        let intake = Intake::join(world.kafka.clone(), settings(world), db(world).await, producer(world), progress).unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(intake.run(stop.clone()));
        Self { stop, open, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops in time").unwrap().unwrap();
    }
}

async fn count_becomes(sql: &Sql, what: &str, query: &str, expected: i64) {
    eventually(PATIENCE, what, || async { sql.number(query).await == expected }).await;
}

/// Cause and key of each dead letter.
async fn dead_letters(world: &World) -> BTreeMap<String, String> {
    let mut letters = BTreeMap::new();
    for partition in 0..4 {
        let records = read_all(&world.kafka, &world.kafka.topics.order_placed_dead_letter, partition).await;
        for raw in records.iter() {
            let key = String::from_utf8_lossy(raw.key.unwrap()).into_owned();
            letters.insert(key, raw.headers.text(names::CAUSE).unwrap().to_owned());
        }
    }
    letters
}

/// Every partition is taken up to its end.
async fn all_taken(world: &World, sql: &Sql, records: i64) {
    let taken = format!(
        "SELECT coalesce(sum(next_offset), 0)::bigint FROM consumer_position WHERE topic = '{}'",
        world.kafka.topics.order_placed
    );
    count_becomes(sql, "every record is taken", &taken, records).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_are_taken_once_and_written_in_full() {
    let world = World::of_payments("intake").await;
    let (sql, writer) = (Sql::of(&world).await, Writer::new(&world));
    let running = Running::start(&world).await;

    let mut first = order("a");
    first.payments.push(attempt("p-a-2", "toss", "toss-a"));
    first.payments[1].deposit_secret = Some(Secret::new("ps_secret"));
    first.payments[1].method = "virtual_account".to_owned();
    // Two lines of one product, as an order service may write them.
    let record = encode_order_placed(&first, &ENVELOPE);
    let mut wire: order_proto::OrderPlaced = prost::Message::decode(record.value().unwrap()).unwrap();
    wire.lines.push(order_proto::OrderLine { product_id: "book".to_owned(), quantity: 3 });
    let mut doubled = Encoded::new(Some(b"a"), Some(&prost::Message::encode_to_vec(&wire)), 1);
    doubled.push_text(names::CE_TYPE, names::TYPE_ORDER_PLACED);
    writer.put(&doubled).await;
    writer.put(&doubled).await;
    writer.place(&order("b")).await;
    all_taken(&world, &sql, 3).await;

    assert_eq!(sql.number("SELECT count(*) FROM customer_order").await, 2);
    assert_eq!(
        sql.text("SELECT state || ' ' || amount || ' ' || currency FROM customer_order WHERE order_id = 'a'").await,
        "PENDING 15000 KRW"
    );
    assert_eq!(sql.number("SELECT quantity FROM order_line WHERE order_id = 'a' AND product_id = 'book'").await, 5);
    let payments = "SELECT string_agg(concat_ws(' ', payment_id, provider, reference, method, state, amount, callback_secret), ', ' \
                    ORDER BY payment_id) FROM payment WHERE order_id = 'a'";
    assert_eq!(
        sql.text(payments).await,
        "p-a sim ref-a card PENDING 15000, p-a-2 toss toss-a virtual_account PENDING 15000 ps_secret"
    );
    assert!(dead_letters(&world).await.is_empty(), "a repeat is nothing");

    // A second replica takes over where the first one stopped.
    running.stop().await;
    writer.place(&order("c")).await;
    let second = Running::start(&world).await;
    all_taken(&world, &sql, 4).await;
    assert_eq!(sql.number("SELECT count(*) FROM customer_order").await, 3);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_a_dead_letter_and_stops_nobody() {
    let world = World::of_payments("poison").await;
    let (sql, writer) = (Sql::of(&world).await, Writer::new(&world));
    sql.place(&order("by-table")).await;
    let running = Running::start(&world).await;

    let mut other = order("changed");
    writer.place(&other).await;
    all_taken(&world, &sql, 1).await;
    other.amount.amount = 1;
    writer.place(&other).await;
    writer.place(&order("by-table")).await;
    let mut thief = order("thief");
    thief.payments[0].reference = "ref-changed".parse().unwrap();
    writer.place(&thief).await;
    // A row that somebody wrote before the schema knew the rule for ids: nobody can read it, and what has something in common with it.
    sql.run(
        "SET session_replication_role = replica;
         INSERT INTO customer_order (order_id, amount, currency) VALUES ('bad 1', 1, 'KRW');
         INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency) VALUES ('p-bad', 'bad 1', 'sim', 'ref-bad', 1, 'KRW');
         SET session_replication_role = origin",
    )
    .await;
    let mut sharer = order("sharer");
    sharer.payments[0].reference = "ref-bad".parse().unwrap();
    writer.place(&sharer).await;
    let mut garbage = Encoded::new(Some(b"garbage"), Some(b"\xff\xff"), 1);
    garbage.push_text(names::CE_TYPE, names::TYPE_ORDER_PLACED);
    writer.put(&garbage).await;
    writer.put(&Encoded::new(Some(b"bare"), Some(b"{}"), 0)).await;
    // The schema takes no such time, and only the database knows.
    let mut ancient = order_proto::OrderPlaced::default();
    ancient.clone_from(&prost::Message::decode(encode_order_placed(&order("ancient"), &ENVELOPE).value().unwrap()).unwrap());
    ancient.payments[0].provider = "x".repeat(64);
    ancient.currency = "KRW".to_owned();
    let mut record = Encoded::new(Some(b"ancient"), Some(&prost::Message::encode_to_vec(&ancient)), 1);
    record.push_text(names::CE_TYPE, names::TYPE_ORDER_PLACED);
    sql.run("ALTER TABLE payment ADD CONSTRAINT only_short CHECK (char_length(provider) < 64)").await;
    writer.put(&record).await;
    for id in ["x", "y", "z"] {
        writer.place(&order(id)).await;
    }
    all_taken(&world, &sql, 11).await;

    let expected = [
        ("ancient", "refused_by_database"),
        ("bare", "unknown_type"),
        ("changed", "content_differs"),
        ("garbage", "bad_protobuf"),
        ("sharer", "refused_by_database"),
        ("thief", "payment_taken"),
    ];
    let expected: BTreeMap<_, _> = expected.into_iter().map(|(key, cause)| (key.to_owned(), cause.to_owned())).collect();
    assert_eq!(dead_letters(&world).await, expected);
    let orders = "SELECT string_agg(order_id, ' ' ORDER BY order_id) FROM customer_order";
    assert_eq!(sql.text(orders).await, "bad 1 by-table changed x y z");
    assert_eq!(sql.number("SELECT amount FROM customer_order WHERE order_id = 'changed'").await, 15_000, "insert only");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_taken_by_two_replicas_without_loss_or_repeat() {
    const ORDERS: usize = 600;
    let world = World::of_payments("backlog").await;
    let (sql, writer) = (Sql::of(&world).await, Writer::new(&world));
    for number in 0..ORDERS {
        writer.place(&order(&format!("o{number}"))).await;
    }
    let first = Running::start(&world).await;
    let second = Running::start(&world).await;
    all_taken(&world, &sql, 600).await;
    assert_eq!(sql.number("SELECT count(*) FROM customer_order").await, 600);
    assert_eq!(sql.number("SELECT count(*) FROM payment").await, 600);
    first.stop().await;
    writer.place(&order("last")).await;
    count_becomes(&sql, "the other goes on", "SELECT count(*) FROM customer_order", 601).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_waited_for() {
    let mut world = World::of_payments("away").await;
    let mut server = tokio::task::spawn_blocking(PrivatePostgres::start).await.unwrap();
    world.postgres_url = server.url();
    postgres_io::migrate(&crate::orders::settings(&world)).await.unwrap();
    let writer = Writer::new(&world);
    let running = Running::start(&world).await;
    writer.place(&order("before")).await;
    {
        let sql = Sql::of(&world).await;
        count_becomes(&sql, "the first order", "SELECT count(*) FROM customer_order", 1).await;
    }
    let server = tokio::task::spawn_blocking(move || {
        server.kill();
        server
    });
    let mut server = server.await.unwrap();
    writer.place(&order("meanwhile")).await;
    let _server = tokio::task::spawn_blocking(move || {
        server.restart().unwrap();
        server
    })
    .await
    .unwrap();
    let sql = Sql::of(&world).await;
    count_becomes(&sql, "the order that waited", "SELECT count(*) FROM customer_order", 2).await;
    assert!(running.open.load(Ordering::Acquire));
    assert!(dead_letters(&world).await.is_empty(), "an outage is no fault of the data");
    running.stop().await;
}
