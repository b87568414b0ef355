//! Reads the records of one partition ahead, so that the next batch is decoded while the current one commits.

use std::sync::Arc;

use contracts::LogKey;
use domain::coupon::LogIncarnation;
use kafka_io::{BatchLimits, GroupPartition, KafkaIoError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{batch::Batch, board::Alarm, decider::End, metric, retry::Retry};

/// Reads one partition.
pub struct Intake {
    /// Its records.
    pub records: GroupPartition,
    /// When a batch is full.
    pub limits: BatchLimits,
    /// The key that signed records are checked with.
    pub log_key: Arc<LogKey>,
    /// The log that is read.
    pub log: LogIncarnation,
    /// How many trace parents a batch keeps; 0 without a collector.
    pub traces_max: usize,
    /// Ends it.
    pub cancel: CancellationToken,
}

impl Intake {
    /// Reads until it is cancelled, nobody takes batches any more, or the log cannot be read on.
    pub async fn run(mut self, batches: mpsc::Sender<Batch>) -> End {
        let mut retry = Retry::new();
        loop {
            let raw = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return End::Cancelled,
                raw = self.records.next_batch(self.limits) => raw,
            };
            let raw = match raw {
                Ok(raw) => raw,
                Err(KafkaIoError::OutOfRange { partition, detail }) => {
                    return End::Alarm(Alarm::Fatal(format!("partition {partition} cannot be read on: {detail}")));
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
                    continue;
                }
            };
            retry = Retry::new();
            let batch = Batch::read(raw, &self.log_key, &self.log, self.traces_max);
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return End::Cancelled,
                sent = batches.send(batch) => if sent.is_err() { return End::Cancelled },
            }
        }
    }
}
