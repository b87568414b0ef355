//! Settings of the intake, with its bounds.

use std::time::Duration;

use kafka_io::{BatchLimits, ConsumerSettings};
use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

/// How orders are read from Kafka.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IntakeSettings {
    /// Whether orders come by Kafka at all; without it, the order service writes the tables itself.
    pub enabled: bool,
    /// The consumer group and its fetches.
    pub consumer: ConsumerSettings,
    /// The most orders of one transaction.
    pub batch_records_max: usize,
    /// The most bytes of one batch.
    pub batch_bytes_max: usize,
    /// How long a batch waits for more once it has an order, in milliseconds.
    pub batch_wait_ms: u64,
    /// How often the lag is looked at and positions are told to lag tools, in milliseconds.
    pub lag_interval_ms: u64,
    /// How long a partition's worker may take to end its batch when partitions are given back, in milliseconds.
    pub stop_timeout_ms: u64,
}

impl Default for IntakeSettings {
    fn default() -> Self {
        let consumer = ConsumerSettings {
            group_id: "payment-reconciler".to_owned(),
            // Orders come by the dozen, not by the ten thousand: a small queue ahead keeps the memory flat.
            queued_records_min: 200,
            queued_kilobytes_max: 1_024,
            fetch_wait_ms_max: 100,
            ..ConsumerSettings::default()
        };
        Self {
            enabled: true,
            consumer,
            batch_records_max: 200,
            batch_bytes_max: 1024 * 1024,
            batch_wait_ms: 10,
            lag_interval_ms: 5_000,
            stop_timeout_ms: 5_000,
        }
    }
}

impl IntakeSettings {
    /// When a batch is full.
    #[must_use]
    pub const fn limits(&self) -> BatchLimits {
        BatchLimits {
            records_max: self.batch_records_max,
            bytes_max: self.batch_bytes_max,
            wait: Duration::from_millis(self.batch_wait_ms),
        }
    }

    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if !(1..=10_000).contains(&self.batch_records_max) {
            faults.push(Fault::new("intake.batch_records_max", "is outside of 1 to 10000", "give such as 200"));
        }
        for (field, value) in [("intake.lag_interval_ms", self.lag_interval_ms), ("intake.stop_timeout_ms", self.stop_timeout_ms)]
        {
            if value == 0 {
                faults.push(Fault::new(field, "is 0", "give at least 1"));
            }
        }
        if self.batch_bytes_max == 0 {
            faults.push(Fault::new("intake.batch_bytes_max", "is 0", "give such as 1048576"));
        }
        faults
    }
}
