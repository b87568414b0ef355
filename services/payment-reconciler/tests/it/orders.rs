//! Orders as tests place them, and the words to look at what became of them.

use std::time::Duration;

use contracts::{
    Encoded,
    order::{OrderPlaced, PaymentAttempt, encode_order_placed},
};
use domain::{
    clock::{Clock, SystemClock},
    coupon::Place,
    payment::{Currency, Money},
    secret::Secret,
};
use kafka_io::{CommandProducer, ProducerSettings};
use postgres_io::{Db, PostgresSettings, raw_client};
use testkit::{ENVELOPE, World};
use tokio_postgres::{Client, types::ToSql};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn attempt(payment: &str, provider: &str, reference: &str) -> PaymentAttempt {
    PaymentAttempt {
        payment: payment.parse().unwrap(),
        provider: provider.parse().unwrap(),
        reference: reference.parse().unwrap(),
        method: "card".to_owned(),
        deposit_secret: None,
    }
}

/// An order `id` of two books, with the payment `p-id` known as `ref-id` at the provider `sim`.
pub fn order(id: &str) -> OrderPlaced {
    OrderPlaced {
        order: id.parse().unwrap(),
        amount: Money::new(15_000, Currency::KRW),
        lines: [("book".parse().unwrap(), 2)].into(),
        payments: vec![attempt(&format!("p-{id}"), "sim", &format!("ref-{id}"))],
        placed_at: SystemClock.now(),
    }
}

pub fn settings(world: &World) -> PostgresSettings {
    PostgresSettings { url: Secret::new(world.postgres_url.clone()), ..PostgresSettings::default() }
}

pub async fn db(world: &World) -> Db {
    service_kit::install_crypto_provider();
    Db::connect(&settings(world)).await.unwrap()
}

pub fn producer(world: &World) -> CommandProducer {
    let settings = ProducerSettings { delivery_timeout_ms: 60_000, ..ProducerSettings::default() };
    CommandProducer::new(&world.kafka, &settings).unwrap()
}

/// SQL on a world's database.
pub struct Sql(Client);

impl Sql {
    pub async fn of(world: &World) -> Self {
        Self(raw_client(&settings(world)).await.unwrap())
    }

    pub async fn number(&self, query: &str) -> i64 {
        self.0.query_one(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}")).get(0)
    }

    pub async fn text(&self, query: &str) -> String {
        let row = self.0.query_opt(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
        row.and_then(|row| row.get::<_, Option<String>>(0)).unwrap_or_default()
    }

    pub async fn run(&self, statement: &str) {
        self.0.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }

    /// The same for a statement that may be refused.
    pub async fn try_run(&self, statement: &str) -> Result<(), tokio_postgres::Error> {
        self.0.batch_execute(statement).await
    }

    pub async fn execute(&self, statement: &str, params: &[&(dyn ToSql + Sync)]) -> u64 {
        self.0.execute(statement, params).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"))
    }

    /// Sets the payment line's clock to this moment, whatever the clock says.
    pub async fn time_is(&self, moment: &str) {
        let sets = format!(
            "INSERT INTO payment_clock SELECT true, (extract(epoch FROM timestamptz '{moment}' - statement_timestamp()) * 1000)::bigint"
        );
        self.run(&sets).await;
    }

    /// Moves the payment line's clock on, for all replicas at once.
    pub async fn time_passes(&self, ms: i64) {
        let moves = "INSERT INTO payment_clock (offset_ms) VALUES ($1) \
            ON CONFLICT (only_row) DO UPDATE SET offset_ms = payment_clock.offset_ms + $1";
        self.execute(moves, &[&ms]).await;
    }

    /// Puts an order into the tables as an order service would that does not use Kafka.
    pub async fn place(&self, order: &OrderPlaced) {
        let (id, currency) = (order.order.as_str(), order.amount.currency.as_str());
        let insert = "INSERT INTO customer_order (order_id, amount, currency) VALUES ($1, $2, $3)";
        self.execute(insert, &[&id, &order.amount.amount, &currency]).await;
        for (product, quantity) in &order.lines {
            let insert = "INSERT INTO order_line (order_id, product_id, quantity) VALUES ($1, $2, $3)";
            self.execute(insert, &[&id, &product.as_str(), quantity]).await;
        }
        for attempt in &order.payments {
            let insert =
                "INSERT INTO payment (payment_id, order_id, provider, reference, method, amount, currency, callback_secret)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            let secret = attempt.deposit_secret.as_ref().map(Secret::expose);
            let (payment, provider) = (attempt.payment.as_str(), attempt.provider.as_str());
            let (reference, method) = (attempt.reference.as_str(), attempt.method.as_str());
            let params: [&(dyn ToSql + Sync); 8] =
                [&payment, &id, &provider, &reference, &method, &order.amount.amount, &currency, &secret];
            self.execute(insert, &params).await;
        }
    }
}

/// Writes to `order_placed`.
pub struct Writer {
    producer: CommandProducer,
    topic: String,
}

impl Writer {
    pub fn new(world: &World) -> Self {
        Self { producer: producer(world), topic: world.kafka.topics.order_placed.clone() }
    }

    pub async fn put(&self, record: &Encoded) -> Place {
        self.producer.publish(&self.topic, None, record).unwrap().await.unwrap()
    }

    pub async fn place(&self, order: &OrderPlaced) -> Place {
        self.put(&encode_order_placed(order, &ENVELOPE)).await
    }
}
