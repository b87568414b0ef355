//! Reading one partition from one offset to another, for audits, explanations and dead letters.

use std::time::Duration;

use contracts::RecordBatch;
use futures::StreamExt;
use rdkafka::{
    ClientContext, Message, Offset, Statistics, TopicPartitionList,
    consumer::{Consumer, ConsumerContext, StreamConsumer},
    error::KafkaError,
};

use crate::{
    error::KafkaIoError,
    partition::{classify, push},
    settings::KafkaSettings,
};

/// How long a read waits for the next record before it gives up, as a multiple of the request time-out.
const WAIT_FACTOR: u32 = 3;
/// Records that are fetched ahead.
const QUEUED_RECORDS: &str = "5000";
/// Kilobytes that are fetched ahead.
const QUEUED_KILOBYTES: &str = "4096";

#[derive(Debug, Clone, Copy, Default)]
struct ReaderContext;

impl ClientContext for ReaderContext {
    fn stats(&self, _: Statistics) {}
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "log reader");
    }
}

impl ConsumerContext for ReaderContext {}

/// Reads the records of one partition with `from <= offset < to`, in order. It is in no group and commits nothing.
pub struct LogReader {
    consumer: StreamConsumer<ReaderContext>,
    partition: i32,
    next: i64,
    to: i64,
    wait: Duration,
    /// A record that came with the last of a batch; none yet.
    done: bool,
}

impl LogReader {
    /// Prepares to read. `to` is where to stop, usually the high watermark; the reader also stops at the log's end.
    ///
    /// # Errors
    /// The settings are refused by the client.
    pub fn open(settings: &KafkaSettings, topic: &str, partition: i32, from: i64, to: i64) -> Result<Self, KafkaIoError> {
        let mut config = settings.client_config("reader");
        config
            // The client wants a group's name even where nobody joins a group.
            .set("group.id", "trueup-reader")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.min.messages", QUEUED_RECORDS)
            .set("queued.max.messages.kbytes", QUEUED_KILOBYTES);
        let consumer: StreamConsumer<ReaderContext> =
            config.create_with_context(ReaderContext).map_err(|error| KafkaIoError::Settings(error.to_string()))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(from)).map_err(KafkaIoError::client("assign"))?;
        consumer.assign(&list).map_err(KafkaIoError::client("assign"))?;
        let wait = Duration::from_millis(u64::from(settings.request_timeout_ms.saturating_mul(WAIT_FACTOR)));
        Ok(Self { consumer, partition, next: from, to, wait, done: from >= to })
    }

    /// The offset that comes next.
    #[must_use]
    pub const fn position(&self) -> i64 {
        self.next
    }

    /// Up to `records_max` records; `None` when the end is reached.
    ///
    /// # Errors
    /// [`KafkaIoError::OutOfRange`] if the start is not in the log any more, or a client error, a time-out among them.
    pub async fn next_batch(&mut self, records_max: usize) -> Result<Option<RecordBatch>, KafkaIoError> {
        if self.done {
            return Ok(None);
        }
        let mut batch = RecordBatch::new();
        let mut stream = self.consumer.stream();
        while batch.len() < records_max && !self.done {
            let next = tokio::time::timeout(self.wait, stream.next()).await.map_err(|_| timed_out())?;
            match next {
                Some(Ok(message)) if message.offset() >= self.to => self.done = true,
                Some(Ok(message)) => {
                    self.next = message.offset().saturating_add(1);
                    push(&mut batch, &message);
                    self.done = self.next >= self.to;
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => self.done = true,
                Some(Err(error)) => match classify(error, self.partition) {
                    // The client reconnects by itself; the time-out above bounds how long that may take.
                    transient @ KafkaIoError::Client { .. } if transient.kind() == domain::failure::ErrorKind::Transient => {
                        tracing::debug!(error = %transient, "log reader");
                    }
                    other => return Err(other),
                },
            }
        }
        Ok((!batch.is_empty()).then_some(batch))
    }
}

fn timed_out() -> KafkaIoError {
    KafkaIoError::Client {
        what: "read",
        source: KafkaError::MessageConsumption(rdkafka::types::RDKafkaErrorCode::OperationTimedOut),
    }
}
