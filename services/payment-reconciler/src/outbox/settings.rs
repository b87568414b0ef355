//! Settings of the relay, with its bounds.

use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

/// How the outbox is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxSettings {
    /// Whether outcomes are told by Kafka at all.
    pub enabled: bool,
    /// How often the outbox is looked at when less than a batch waits, in milliseconds.
    pub poll_ms: u64,
    /// The most events that are read and in flight at a time.
    pub batch_events_max: u32,
    /// How long a replica that falls silent keeps the others from telling, in milliseconds.
    pub lease_ms: u64,
    /// How long told events are kept, in hours.
    pub retention_hours: u32,
    /// How often old events are deleted, in milliseconds.
    pub cleanup_interval_ms: u64,
    /// The most events that one statement deletes.
    pub cleanup_events_max: u32,
}

impl Default for OutboxSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            poll_ms: 250,
            batch_events_max: 500,
            lease_ms: 15_000,
            retention_hours: 7 * 24,
            cleanup_interval_ms: 600_000,
            cleanup_events_max: 1_000,
        }
    }
}

impl OutboxSettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let numbers = [
            ("outbox.poll_ms", self.poll_ms),
            ("outbox.batch_events_max", self.batch_events_max.into()),
            ("outbox.lease_ms", self.lease_ms),
            ("outbox.cleanup_interval_ms", self.cleanup_interval_ms),
            ("outbox.cleanup_events_max", self.cleanup_events_max.into()),
        ];
        let zero = numbers.into_iter().filter(|(_, value)| *value == 0);
        zero.map(|(field, _)| Fault::new(field, "is 0", "give at least 1")).collect()
    }
}
