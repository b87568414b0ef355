//! The settings: defaults < file < environment (`ISSUE_CONSUMER__BATCH__RECORDS_MAX=100`).

use std::time::Duration;

use contracts::LogKeySettings;
use kafka_io::{BatchLimits, ConsumerSettings, KafkaSettings, ProducerSettings};
use postgres_io::PostgresSettings;
use redis_io::RedisSettings;
use serde::{Deserialize, Serialize};
use service_kit::{
    settings::{Fault, Validate, no_address, switched_off},
    telemetry::TelemetrySettings,
};

/// All settings of the service.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Health and metrics.
    pub http: HttpSettings,
    /// Kafka.
    pub kafka: KafkaSettings,
    /// The group.
    pub consumer: ConsumerSettings,
    /// The producer of outcomes, forwarded records and dead letters.
    pub producer: ProducerSettings,
    /// PostgreSQL. Each assigned partition uses two connections of its own.
    pub postgres: PostgresSettings,
    /// Redis, for the settler.
    pub redis: RedisSettings,
    /// Keys.
    pub keys: LogKeySettings,
    /// When a batch is full.
    pub batch: BatchSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
    /// Bytes of records in work and of events under way, of all partitions together.
    pub memory_bytes_max: usize,
    /// Fingerprints of holders that all partitions keep together, 10 to 20 bytes each. A coupon that does not fit is looked up instead.
    pub fingerprints_max: usize,
    /// A transaction or query that takes longer is given up and tried again, in milliseconds.
    pub transaction_timeout_ms: u64,
    /// How often the lag is looked at and offsets are told to Kafka, in milliseconds.
    pub lag_interval_ms: u64,
    /// Not live any more, when records wait, no server is to blame, and nothing moved for this long, in milliseconds.
    pub stall_ms: u64,
    /// How long a partition's tasks may take to stop before they are dropped, in milliseconds.
    pub stop_timeout_ms: u64,
    /// The grace time of the whole shutdown, in milliseconds.
    pub grace_ms: u64,
}

/// Where health and metrics are served.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// `address:port`.
    pub listen: String,
}

/// When a batch is full.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BatchSettings {
    /// The most records.
    pub records_max: usize,
    /// The most bytes.
    pub bytes_max: usize,
    /// How long a batch waits for more records once it has one, in milliseconds; 0 takes what is there.
    pub wait_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            http: HttpSettings::default(),
            kafka: KafkaSettings::default(),
            consumer: ConsumerSettings::default(),
            producer: ProducerSettings::default(),
            postgres: PostgresSettings::default(),
            redis: RedisSettings::default(),
            keys: LogKeySettings::default(),
            batch: BatchSettings::default(),
            telemetry: TelemetrySettings::default(),
            memory_bytes_max: 12 * 1024 * 1024,
            fingerprints_max: 400_000,
            transaction_timeout_ms: 30_000,
            lag_interval_ms: 1_000,
            stall_ms: 60_000,
            stop_timeout_ms: 5_000,
            grace_ms: 20_000,
        }
    }
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8091".to_owned() }
    }
}

impl Default for BatchSettings {
    fn default() -> Self {
        Self { records_max: 5_000, bytes_max: 4 * 1024 * 1024, wait_ms: 2 }
    }
}

impl BatchSettings {
    /// As the intake takes them.
    #[must_use]
    pub const fn limits(&self) -> BatchLimits {
        BatchLimits { records_max: self.records_max, bytes_max: self.bytes_max, wait: Duration::from_millis(self.wait_ms) }
    }
}

impl Settings {
    /// The bound of a transaction or query.
    #[must_use]
    pub const fn transaction_timeout(&self) -> Duration {
        Duration::from_millis(self.transaction_timeout_ms)
    }
}

impl Validate for Settings {
    fn faults(&self) -> Vec<Fault> {
        let mut faults = self.telemetry.faults();
        faults.extend(no_address("http.listen", &self.http.listen, 8091));
        faults.extend(switched_off("kafka", &self.kafka.bounds()));
        faults.extend(switched_off("consumer", &self.consumer.bounds()));
        faults.extend(switched_off("producer", &self.producer.bounds()));
        faults.extend(switched_off("postgres", &self.postgres.bounds()));
        faults.extend(switched_off("redis", &self.redis.bounds()));
        let mut fault = |wrong: bool, field: &str, problem: &str, fix: &str| {
            if wrong {
                faults.push(Fault::new(field, problem, fix));
            }
        };
        fault(self.kafka.brokers.is_empty(), "kafka.brokers", "is empty", "give host:port, several separated by commas");
        fault(
            self.keys.log_key().is_err(),
            "keys.log_signing",
            "holds no usable key",
            "give the secret that the gateways sign with",
        );
        fault(!(1..=50_000).contains(&self.batch.records_max), "batch.records_max", "is out of range", "give 1 to 50000");
        fault(
            !(1_024..=64 * 1024 * 1024).contains(&self.batch.bytes_max),
            "batch.bytes_max",
            "is out of range",
            "give 1024 to 67108864 bytes",
        );
        fault(
            !(1024 * 1024..=4 * 1024 * 1024 * 1024).contains(&self.memory_bytes_max),
            "memory_bytes_max",
            "is out of range",
            "give 1048576 to 4294967296 bytes",
        );
        fault(self.batch.wait_ms > 10_000, "batch.wait_ms", "is too long", "give at most 10000");
        fault(
            !(1_000..=600_000).contains(&self.transaction_timeout_ms),
            "transaction_timeout_ms",
            "is out of range",
            "give 1000 to 600000",
        );
        fault(!(50..=60_000).contains(&self.lag_interval_ms), "lag_interval_ms", "is out of range", "give 50 to 60000");
        fault(self.stall_ms < 5_000, "stall_ms", "is shorter than a slow transaction", "give at least 5000");
        fault(self.stop_timeout_ms > self.grace_ms, "stop_timeout_ms", "is longer than grace_ms", "give less than grace_ms");
        faults
    }
}
