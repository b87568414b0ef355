//! What one test has for itself.

use std::{
    collections::BTreeMap,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use domain::ids::CouponCode;
use kafka_io::{KafkaSettings, LogClient, Topics, topics};

use crate::{log::LOG_SECRET, servers};

/// Partitions of a test's topics: enough for coupons to be apart, few enough to be made quickly.
const PARTITIONS: i32 = 4;

/// The key of tickets in tests.
const TICKET_SECRET: &str = "a-ticket-secret-that-only-tests-know";

static NEXT: AtomicU32 = AtomicU32::new(1);

/// A name that nothing else in this run has, such as `audit-4711-3`.
#[must_use]
pub fn unique(name: &str) -> String {
    format!("{name}-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Topics of its own on the shared servers.
#[derive(Debug, Clone)]
pub struct World {
    /// A name that nothing else has; also the consumer group's.
    pub name: String,
    /// Kafka, with this world's topics.
    pub kafka: KafkaSettings,
    /// The address of this world's database.
    pub postgres_url: String,
    /// The address of Redis. It is shared: use this world's coupon codes.
    pub redis_url: String,
}

impl World {
    /// Topics with four partitions, and a migrated database.
    ///
    /// # Panics
    /// A server does not come up.
    pub async fn new(name: &str) -> Self {
        Self::with_partitions(name, PARTITIONS).await
    }

    /// Topics with `partitions` partitions, and a migrated database.
    ///
    /// # Panics
    /// A server does not come up.
    pub async fn with_partitions(name: &str, partitions: i32) -> Self {
        let name = unique(name);
        let kafka = kafka_settings(&servers::kafka_brokers(), &name);
        create_topics(&kafka, partitions).await;
        let postgres_url = crate::database::create(servers::postgres(), &name).await;
        Self { name, kafka, postgres_url, redis_url: servers::redis_url() }
    }

    /// A coupon code that no other test has.
    ///
    /// # Panics
    /// Never for short printable names.
    #[must_use]
    pub fn coupon(&self, name: &str) -> CouponCode {
        CouponCode::new(unique(name)).expect("a coupon code")
    }

    /// For tests of the payment line: its three topics with four partitions, and a migrated database.
    ///
    /// # Panics
    /// A server does not come up.
    pub async fn of_payments(name: &str) -> Self {
        let name = unique(name);
        let kafka = kafka_settings(&servers::kafka_brokers(), &name);
        create_payment_topics(&kafka, PARTITIONS).await;
        let postgres_url = crate::database::create(servers::postgres(), &name).await;
        // No part of the payment line speaks to Redis.
        Self { name, kafka, postgres_url, redis_url: String::new() }
    }

    /// For tests of the payment line that need no log: a migrated database.
    ///
    /// # Panics
    /// PostgreSQL does not come up.
    pub async fn of_tables(name: &str) -> Self {
        let name = unique(name);
        let postgres_url = crate::database::create(servers::postgres(), &name).await;
        Self { kafka: kafka_settings("", &name), name, postgres_url, redis_url: String::new() }
    }

    /// The environment of an issue-consumer, with time-outs that suit a test.
    #[must_use]
    pub fn consumer_environment(&self) -> BTreeMap<String, String> {
        let mut environment = self.environment("ISSUE_CONSUMER");
        let quick = [
            ("CONSUMER__GROUP_ID", self.name.as_str()),
            ("CONSUMER__SESSION_TIMEOUT_MS", "6000"),
            ("CONSUMER__HEARTBEAT_INTERVAL_MS", "500"),
            ("LAG_INTERVAL_MS", "100"),
            ("TELEMETRY__LOG_FORMAT", "text"),
        ];
        add(&mut environment, "ISSUE_CONSUMER", &quick);
        environment
    }

    /// The environment of a coupon-gateway that listens on `port` and refuses no member for asking often.
    #[must_use]
    pub fn gateway_environment(&self, port: u16) -> BTreeMap<String, String> {
        let mut environment = self.environment("COUPON_GATEWAY");
        let settings = [
            ("HTTP__LISTEN", format!("127.0.0.1:{port}")),
            ("HTTP__WORKERS", "1".to_owned()),
            ("KEYS__TICKET", TICKET_SECRET.to_owned()),
            ("LIMITS__MEMBER_PER_S", "0".to_owned()),
            ("TELEMETRY__LOG_FORMAT", "text".to_owned()),
        ];
        add(&mut environment, "COUPON_GATEWAY", &settings.each_ref().map(|(name, value)| (*name, value.as_str())));
        environment
    }

    /// The environment of a service: `COUPON_GATEWAY`, `ISSUE_CONSUMER`, `RECONCILER` or `TRUEUP`.
    #[must_use]
    pub fn environment(&self, service: &str) -> BTreeMap<String, String> {
        let topics = &self.kafka.topics;
        [
            ("KAFKA__BROKERS", self.kafka.brokers.as_str()),
            ("KAFKA__TOPICS__CREATED", &topics.created),
            ("KAFKA__TOPICS__ISSUED", &topics.issued),
            ("KAFKA__TOPICS__REJECTED", &topics.rejected),
            ("KAFKA__TOPICS__DEAD_LETTER", &topics.dead_letter),
            ("KAFKA__TOPICS__ORDER_PLACED", &topics.order_placed),
            ("KAFKA__TOPICS__ORDER_PLACED_DEAD_LETTER", &topics.order_placed_dead_letter),
            ("KAFKA__TOPICS__PAYMENT_OUTCOME", &topics.payment_outcome),
            ("POSTGRES__URL", &self.postgres_url),
            ("REDIS__URL", &self.redis_url),
            ("KEYS__LOG_SIGNING", LOG_SECRET),
        ]
        .into_iter()
        .map(|(name, value)| (format!("{service}__{name}"), value.to_owned()))
        .collect()
    }
}

/// Adds settings to a service's environment, written as `HTTP__LISTEN` without the service's prefix.
pub fn add(environment: &mut BTreeMap<String, String>, service: &str, settings: &[(&str, &str)]) {
    environment.extend(settings.iter().map(|(name, value)| (format!("{service}__{name}"), (*value).to_owned())));
}

/// Settings with topics whose names begin with `prefix`.
#[must_use]
pub fn kafka_settings(brokers: &str, prefix: &str) -> KafkaSettings {
    let named = |topic: &str| format!("{prefix}.{topic}");
    let default = Topics::default();
    KafkaSettings {
        brokers: brokers.to_owned(),
        topics: Topics {
            created: named(&default.created),
            issued: named(&default.issued),
            rejected: named(&default.rejected),
            dead_letter: named(&default.dead_letter),
            order_placed: named(&default.order_placed),
            order_placed_dead_letter: named(&default.order_placed_dead_letter),
            payment_outcome: named(&default.payment_outcome),
        },
        ..KafkaSettings::default()
    }
}

/// Makes the coupon line's four topics.
///
/// # Panics
/// The broker refuses.
pub async fn create_topics(settings: &KafkaSettings, partitions: i32) {
    let client = LogClient::new(settings).expect("a log client");
    topics::create(&client, &topics::coupon_plans(&settings.topics, partitions, 1, 1)).await.expect("topics");
}

/// Makes the payment line's three topics.
///
/// # Panics
/// The broker refuses.
pub async fn create_payment_topics(settings: &KafkaSettings, partitions: i32) {
    let client = LogClient::new(settings).expect("a log client");
    topics::create(&client, &topics::payment_plans(&settings.topics, partitions, 1, 1)).await.expect("topics");
}
