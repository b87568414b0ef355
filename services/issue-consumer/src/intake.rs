//! Reads and decodes the records of one partition, while the batch before them commits.

use std::{sync::Arc, time::Duration};

use contracts::LogKey;
use domain::coupon::LogIncarnation;
use kafka_io::{BatchLimits, GroupPartition, KafkaIoError};
use service_kit::retry::Retry;
use tokio_util::sync::CancellationToken;

use crate::{batch::Batch, decider::End, hopper::Hopper, memory::PartitionMemory, metric};

/// Records that are decoded at a time, so that other tasks get their turn and what is there can be taken early.
const CHUNK_RECORDS_MAX: usize = 1_000;
/// Bytes that are decoded at a time; a record that reaches it is still taken.
const CHUNK_BYTES_MAX: usize = 512 * 1024;

/// Reads one partition.
pub struct Intake {
    /// Its records.
    pub records: GroupPartition,
    /// Where it puts them.
    pub hopper: Arc<Hopper>,
    /// The memory that it shares with the other partitions.
    pub memory: PartitionMemory,
    /// The key that signed records are checked with.
    pub log_key: Arc<LogKey>,
    /// The log that is read.
    pub log: LogIncarnation,
    /// Ends it.
    pub cancel: CancellationToken,
}

impl Intake {
    /// Reads until it is cancelled, nobody takes batches any more, or the log cannot be read on.
    pub async fn run(mut self) -> End {
        let mut retry = Retry::new();
        loop {
            let raw = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return End::Cancelled,
                room = self.hopper.room() => {
                    let Some(room) = room else { return End::Cancelled };
                    let limits =
                        BatchLimits { records_max: room.min(CHUNK_RECORDS_MAX), bytes_max: CHUNK_BYTES_MAX, wait: Duration::ZERO };
                    tokio::select! {
                        biased;
                        () = self.cancel.cancelled() => return End::Cancelled,
                        raw = self.records.next_batch(limits) => raw,
                    }
                }
            };
            match raw {
                Ok(raw) => {
                    retry = Retry::new();
                    let (records, bytes) = (raw.len(), raw.held_bytes());
                    let share = tokio::select! {
                        biased;
                        share = self.memory.take(records, bytes) => share,
                        () = self.cancel.cancelled() => return End::Cancelled,
                        () = self.hopper.closed() => return End::Cancelled,
                    };
                    self.hopper.put(Batch::read(raw, &self.log_key, &self.log), share);
                }
                Err(KafkaIoError::OutOfRange { partition, detail }) => {
                    tracing::error!(partition, detail, "the log cannot be read on");
                    return End::OutOfRange;
                }
                Err(KafkaIoError::Fenced(reason)) => {
                    tracing::warn!(partition = self.records.partition(), reason, "fenced off");
                    return End::Zombie;
                }
                Err(error) => {
                    metric::retried("fetching");
                    tracing::warn!(partition = self.records.partition(), %error, "fetching");
                    if !retry.wait(&self.cancel).await {
                        return End::Cancelled;
                    }
                }
            }
        }
    }
}
