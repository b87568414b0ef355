//! Where the drill itself finds everything: past the proxies, so that it sees what is, not what a link lets through.

use contracts::LogKey;
use domain::secret::Secret;
use kafka_io::{KafkaSettings, LogClient};
use postgres_io::PostgresSettings;
use redis_io::RedisSettings;

/// Signs the log of a drill. It is thrown away with its servers.
pub const LOG_SECRET: &str = "a-log-secret-of-one-fault-drill";
/// Signs tickets of a drill.
pub const TICKET_SECRET: &str = "a-ticket-secret-of-one-fault-drill";
/// The operator of a drill.
pub const ADMIN_TOKEN: &str = "an-operator-of-one-fault-drill";
/// Partitions of the topics at the beginning: enough for coupons to be apart and for three consumers.
pub const PARTITIONS: i32 = 4;
/// The consumers' group.
pub const GROUP: &str = "coupon-service";

/// Addresses and settings.
#[derive(Debug, Clone)]
pub struct Places {
    /// PostgreSQL.
    pub postgres: PostgresSettings,
    /// The broker.
    pub kafka: KafkaSettings,
    /// Redis.
    pub redis: RedisSettings,
    /// The gateways' addresses.
    pub gateways: Vec<String>,
}

impl Places {
    /// Those of servers on loopback.
    #[must_use]
    pub fn new(postgres_url: String, brokers: String, redis_url: String, gateways: Vec<String>) -> Self {
        Self {
            postgres: PostgresSettings {
                url: Secret::new(postgres_url),
                application_name: "trueup-faults".to_owned(),
                ..PostgresSettings::default()
            },
            kafka: KafkaSettings { brokers, ..KafkaSettings::default() },
            redis: RedisSettings { url: Secret::new(redis_url), ..RedisSettings::default() },
            gateways,
        }
    }

    /// The log's topic.
    #[must_use]
    pub fn log_topic(&self) -> &str {
        &self.kafka.topics.created
    }

    /// Verifies what is signed in the log.
    ///
    /// # Errors
    /// Never: the drill's own secret is long enough.
    pub fn log_key(&self) -> anyhow::Result<LogKey> {
        Ok(LogKey::parse(LOG_SECRET)?)
    }

    /// A client that asks about the log.
    ///
    /// # Errors
    /// The client refuses its settings.
    pub fn log_client(&self) -> anyhow::Result<LogClient> {
        Ok(LogClient::new(&self.kafka)?)
    }

    /// A database connection of its own.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn database(&self) -> anyhow::Result<tokio_postgres::Client> {
        Ok(postgres_io::raw_client(&self.postgres).await?)
    }
}
