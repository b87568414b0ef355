//! Settings of the Kafka clients. Every queue and wait has its bound here.

use contracts::names;
use domain::secret::Secret;
use rdkafka::ClientConfig;
use serde::{Deserialize, Serialize};

/// How the broker is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }
}

/// Names of the topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// The log of commands.
    pub created: String,
    /// Outcomes that gave a coupon.
    pub issued: String,
    /// Outcomes that did not.
    pub rejected: String,
    /// Records that could not be used.
    pub dead_letter: String,
    /// Orders whose payments are to be looked after.
    pub order_placed: String,
    /// Orders that could not be used.
    pub order_placed_dead_letter: String,
    /// What became of orders and their payments.
    pub payment_outcome: String,
}

impl Default for Topics {
    fn default() -> Self {
        Self {
            created: names::TOPIC_CREATED.to_owned(),
            issued: names::TOPIC_ISSUED.to_owned(),
            rejected: names::TOPIC_REJECTED.to_owned(),
            dead_letter: names::TOPIC_DEAD_LETTER.to_owned(),
            order_placed: names::TOPIC_ORDER_PLACED.to_owned(),
            order_placed_dead_letter: names::TOPIC_ORDER_PLACED_DEAD_LETTER.to_owned(),
            payment_outcome: names::TOPIC_PAYMENT_OUTCOME.to_owned(),
        }
    }
}

/// Where Kafka is and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSettings {
    /// Bootstrap servers, `host:port` separated by commas.
    pub brokers: String,
    /// How the broker is spoken to.
    pub security_protocol: SecurityProtocol,
    /// File with the certificates of the authority; none: the system's.
    pub ssl_ca_location: Option<String>,
    /// File with the client's certificate, for mutual TLS.
    pub ssl_certificate_location: Option<String>,
    /// File with the client's private key, for mutual TLS.
    pub ssl_key_location: Option<String>,
    /// SASL mechanism, such as `SCRAM-SHA-512` or `PLAIN`.
    pub sasl_mechanism: Option<String>,
    /// SASL user.
    pub sasl_username: Option<String>,
    /// SASL password.
    pub sasl_password: Option<Secret>,
    /// The topics' names.
    pub topics: Topics,
    /// How long a metadata, watermark or admin call may take, in milliseconds.
    pub request_timeout_ms: u32,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            security_protocol: SecurityProtocol::default(),
            ssl_ca_location: None,
            ssl_certificate_location: None,
            ssl_key_location: None,
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: None,
            topics: Topics::default(),
            request_timeout_ms: 5_000,
        }
    }
}

impl KafkaSettings {
    /// Sizes and times that bound something, by their names: 0 would switch the bound off.
    #[must_use]
    pub fn bounds(&self) -> [(&'static str, u64); 1] {
        [("request_timeout_ms", u64::from(self.request_timeout_ms))]
    }
}

/// Settings of a producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProducerSettings {
    /// How long a record waits for company, in milliseconds. It is part of every 202's latency.
    pub linger_ms: u32,
    /// How long a record may wait for its acknowledgement before its fate is reported, in milliseconds.
    pub delivery_timeout_ms: u32,
    /// The most records that wait at the same time; one more is refused at once.
    pub queue_records_max: u32,
    /// The most kilobytes that wait at the same time.
    pub queue_kilobytes_max: u32,
    /// The most bytes of one produce request.
    pub batch_bytes_max: u32,
    /// The longest record, in bytes; the topics must allow as much.
    pub record_bytes_max: u32,
    /// Compression of batches: `none`, `lz4`, `gzip`, `snappy`.
    pub compression: String,
}

impl Default for ProducerSettings {
    fn default() -> Self {
        Self {
            linger_ms: 3,
            delivery_timeout_ms: 5_000,
            queue_records_max: 20_000,
            queue_kilobytes_max: 16 * 1024,
            batch_bytes_max: 512 * 1024,
            record_bytes_max: 2 * 1024 * 1024,
            compression: "none".to_owned(),
        }
    }
}

impl ProducerSettings {
    /// Sizes and times that bound something, by their names: 0 would switch the bound off.
    #[must_use]
    pub fn bounds(&self) -> [(&'static str, u64); 5] {
        [
            ("delivery_timeout_ms", u64::from(self.delivery_timeout_ms)),
            ("queue_records_max", u64::from(self.queue_records_max)),
            ("queue_kilobytes_max", u64::from(self.queue_kilobytes_max)),
            ("batch_bytes_max", u64::from(self.batch_bytes_max)),
            ("record_bytes_max", u64::from(self.record_bytes_max)),
        ]
    }
}

/// Settings of a group consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsumerSettings {
    /// The consumer group.
    pub group_id: String,
    /// How long the group waits for a silent member, in milliseconds.
    pub session_timeout_ms: u32,
    /// How often the member says that it lives, in milliseconds.
    pub heartbeat_interval_ms: u32,
    /// The most bytes of one fetch of one partition.
    pub fetch_bytes_max: u32,
    /// How long the broker may wait for new records, in milliseconds.
    pub fetch_wait_ms_max: u32,
    /// Records that are fetched ahead, per partition.
    pub queued_records_min: u32,
    /// Kilobytes that are fetched ahead, per partition, by keys and values alone: the client's own structures come on top.
    pub queued_kilobytes_max: u32,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            group_id: "coupon-service".to_owned(),
            session_timeout_ms: 10_000,
            heartbeat_interval_ms: 2_000,
            // A partition whose queue is full is left out of the next fetch, and that fetch then waits for the *other* partitions: a
            // backlog stands still for that long, so the wait is short and the queue covers it. Measured with 300,000 records behind:
            // 21,000 rows/s with 100 ms and 1,000 records; the deciding itself took 15 % of the time. With 10 ms, 1,000 records are as good
            // as 2,500. Twelve busy partitions hold about 12 × (1,000 records ahead + one fetch) × 0.9 kB.
            fetch_bytes_max: 256 * 1024,
            fetch_wait_ms_max: 10,
            queued_records_min: 1_000,
            queued_kilobytes_max: 512,
        }
    }
}

impl ConsumerSettings {
    /// Sizes and times that bound something, by their names: 0 would switch the bound off.
    #[must_use]
    pub fn bounds(&self) -> [(&'static str, u64); 5] {
        [
            ("session_timeout_ms", u64::from(self.session_timeout_ms)),
            ("heartbeat_interval_ms", u64::from(self.heartbeat_interval_ms)),
            ("fetch_bytes_max", u64::from(self.fetch_bytes_max)),
            ("queued_records_min", u64::from(self.queued_records_min)),
            ("queued_kilobytes_max", u64::from(self.queued_kilobytes_max)),
        ]
    }
}

/// The back-off of the client when a queue is full or a fetch failed. The library's default of a second is a stall.
const FETCH_BACKOFF_MS: &str = "5";

/// How often a group consumer looks whether its topic has grown. The library's default of five minutes would leave the records of a new partition,
/// and the coupons that are defined there, undecided for so long.
const METADATA_REFRESH_MS: &str = "10000";

impl KafkaSettings {
    /// The client configuration that every client shares.
    pub(crate) fn client_config(&self, role: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("trueup-{role}"))
            .set("security.protocol", self.security_protocol.as_str())
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            // A broker that comes back should be found within a second, not ten.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("allow.auto.create.topics", "false");
        let optional = [
            ("ssl.ca.location", self.ssl_ca_location.as_deref()),
            ("ssl.certificate.location", self.ssl_certificate_location.as_deref()),
            ("ssl.key.location", self.ssl_key_location.as_deref()),
            ("sasl.mechanisms", self.sasl_mechanism.as_deref()),
            ("sasl.username", self.sasl_username.as_deref()),
            ("sasl.password", self.sasl_password.as_ref().map(Secret::expose)),
        ];
        for (name, value) in optional {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                config.set(name, value);
            }
        }
        config
    }

    pub(crate) fn producer_config(&self, producer: &ProducerSettings) -> ClientConfig {
        let mut config = self.client_config("producer");
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Records without an explicit partition go where Java's client would send them.
            .set("partitioner", "murmur2_random")
            .set("linger.ms", producer.linger_ms.to_string())
            .set("message.timeout.ms", producer.delivery_timeout_ms.to_string())
            .set("request.timeout.ms", producer.delivery_timeout_ms.clamp(1_000, 30_000).to_string())
            .set("socket.timeout.ms", producer.delivery_timeout_ms.max(1_000).to_string())
            .set("queue.buffering.max.messages", producer.queue_records_max.to_string())
            .set("queue.buffering.max.kbytes", producer.queue_kilobytes_max.to_string())
            .set("batch.size", producer.batch_bytes_max.to_string())
            .set("message.max.bytes", producer.record_bytes_max.to_string())
            .set("compression.type", &producer.compression);
        config
    }

    pub(crate) fn consumer_config(&self, consumer: &ConsumerSettings) -> ClientConfig {
        let mut config = self.client_config("consumer");
        config
            .set("group.id", &consumer.group_id)
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "range,roundrobin")
            .set("session.timeout.ms", consumer.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", consumer.heartbeat_interval_ms.to_string())
            .set("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // Positions are explicit, so a reset could only mean that records are missing: that is an alarm, not a skip.
            .set("auto.offset.reset", "error")
            .set("fetch.message.max.bytes", consumer.fetch_bytes_max.to_string())
            .set("fetch.wait.max.ms", consumer.fetch_wait_ms_max.to_string())
            .set("fetch.queue.backoff.ms", FETCH_BACKOFF_MS)
            .set("queued.min.messages", consumer.queued_records_min.max(1).to_string())
            .set("queued.max.messages.kbytes", consumer.queued_kilobytes_max.max(1).to_string());
        config
    }
}
