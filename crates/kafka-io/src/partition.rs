//! Records of one partition, in batches.

use std::{sync::Arc, time::Duration};

use contracts::RecordBatch;
use futures::{FutureExt, StreamExt};
use rdkafka::{
    Message,
    consumer::{ConsumerContext, StreamConsumer, stream_consumer::StreamPartitionQueue},
    error::KafkaError,
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};
use tokio::time::Instant;

use crate::{error::KafkaIoError, ffi};

/// Batches of so many records are made as small as they can be; smaller ones are soon gone.
const WORTH_SHRINKING: usize = 64;

/// When a batch is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// The most records.
    pub records_max: usize,
    /// The most bytes of keys, values and headers; the record that reaches it is still taken.
    pub bytes_max: usize,
    /// How long a batch waits for more once it has a record; zero takes what is there.
    pub wait: Duration,
}

/// The records of one assigned partition, in order.
pub struct PartitionRecords<C: ConsumerContext + 'static> {
    queue: StreamPartitionQueue<C>,
    partition: i32,
    pending: RecordBatch,
}

impl<C: ConsumerContext + 'static> PartitionRecords<C> {
    pub(crate) fn split(consumer: &Arc<StreamConsumer<C>>, topic: &str, partition: i32) -> Result<Self, KafkaIoError> {
        let queue = consumer
            .split_partition_queue(topic, partition)
            .ok_or_else(|| KafkaIoError::NoSuchTopic(format!("{topic}[{partition}]")))?;
        Ok(Self { queue, partition, pending: RecordBatch::new() })
    }

    /// Which partition it is.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition
    }

    /// Waits for a first record, then takes what is there within the limits. Cancel safe: records that were taken when
    /// the future is dropped come with the next batch. Dropping `self` gives the partition's memory back.
    ///
    /// # Errors
    /// [`KafkaIoError::OutOfRange`] if the position is not in the log: nothing is skipped. Transient errors of the
    /// client are reported, too; the next call goes on where this one stopped.
    pub async fn next_batch(&mut self, limits: BatchLimits) -> Result<RecordBatch, KafkaIoError> {
        let mut stream = self.queue.stream();
        if self.pending.is_empty() {
            let first = stream.next().await;
            take(first, self.partition, &mut self.pending)?;
        }
        let deadline = Instant::now() + limits.wait;
        while self.pending.len() < limits.records_max && self.pending.size_bytes() < limits.bytes_max {
            let next = match stream.next().now_or_never() {
                Some(next) => next,
                None if limits.wait.is_zero() => break,
                None => match tokio::time::timeout_at(deadline, stream.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            if let Err(error) = take(next, self.partition, &mut self.pending) {
                // What came before the error is good; the error comes again or was transient.
                tracing::warn!(partition = self.partition, %error, "a batch ends early");
                break;
            }
        }
        let mut batch = std::mem::take(&mut self.pending);
        if batch.len() >= WORTH_SHRINKING {
            batch.shrink_to_fit();
        }
        Ok(batch)
    }
}

fn take(
    next: Option<Result<BorrowedMessage<'_>, KafkaError>>,
    partition: i32,
    batch: &mut RecordBatch,
) -> Result<(), KafkaIoError> {
    match next {
        Some(Ok(message)) => {
            push(batch, &message);
            Ok(())
        }
        Some(Err(error)) => Err(classify(error, partition)),
        None => Err(KafkaIoError::Fenced("the partition's queue has ended".to_owned())),
    }
}

/// Copies a message into a batch, headers byte by byte as they came.
pub(crate) fn push(batch: &mut RecordBatch, message: &BorrowedMessage<'_>) {
    let timestamp_ms = message.timestamp().to_millis().unwrap_or(-1);
    let place = (message.partition(), message.offset(), timestamp_ms);
    batch.push(place, message.key(), message.payload(), []);
    ffi::for_each_header(message, |name, value| batch.push_header(name, value));
}

pub(crate) fn classify(error: KafkaError, partition: i32) -> KafkaIoError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            KafkaIoError::OutOfRange { partition, detail: error.to_string() }
        }
        Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::UnknownMemberId) => {
            KafkaIoError::Fenced(error.to_string())
        }
        _ => KafkaIoError::Client { what: "fetch", source: error },
    }
}
