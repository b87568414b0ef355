//! Keys, envelopes and reading back what is in the log.

use contracts::{Envelope, LogKey, RecordBatch};
use domain::clock::Timestamp;
use kafka_io::{KafkaSettings, LogClient, LogReader};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

/// The secret that signs commands in tests.
pub const LOG_SECRET: &str = "a-log-secret-that-only-tests-know";

/// An envelope for records that tests write.
pub const ENVELOPE: Envelope<'static> =
    Envelope { source: "/trueup/test", time: Timestamp::from_unix_ms(1_714_554_000_000), trace_parent: None };

/// The key of [`LOG_SECRET`].
///
/// # Panics
/// Never: the secret is long enough.
#[must_use]
pub fn log_key() -> LogKey {
    LogKey::parse(LOG_SECRET).expect("a log key")
}

/// Every record of a partition, from its start to its end.
///
/// # Panics
/// The log cannot be read.
pub async fn read_all(settings: &KafkaSettings, topic: &str, partition: i32) -> RecordBatch {
    const RECORDS_PER_BATCH: usize = 10_000;
    let client = LogClient::new(settings).expect("a log client");
    let marks = client.watermarks(topic, partition).await.expect("watermarks");
    let mut reader = LogReader::open(settings, topic, partition, marks.low, marks.high).expect("a reader");
    let mut all = RecordBatch::new();
    while let Some(batch) = reader.next_batch(RECORDS_PER_BATCH).await.expect("records") {
        for raw in batch.iter() {
            all.push_raw(&raw);
        }
    }
    all
}

/// Moves a partition's log start to `before`, as retention does.
///
/// # Panics
/// The broker refuses.
pub async fn delete_records(settings: &KafkaSettings, topic: &str, partition: i32, before: i64) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &settings.brokers).create().expect("a client");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(before)).expect("a list");
    admin.delete_records(&list, &AdminOptions::new()).await.expect("records are deleted");
}
