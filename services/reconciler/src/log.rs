//! The port to the command log: how far it goes, and publishing reservations again.

use async_trait::async_trait;
use domain::coupon::{LogIncarnation, Request};

/// Kafka could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Kafka: {0}")]
pub struct LogError(pub String);

/// What became of one published request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// It stands in the log.
    Acknowledged,
    /// It never reached a broker.
    Refused(String),
    /// It may stand in the log. That is no harm: the same id is decided once.
    Unknown(String),
}

/// The command log, as far as the reconciler needs it.
#[async_trait]
pub trait CommandLog: Send + Sync {
    /// Which log it is.
    ///
    /// # Errors
    /// Kafka cannot be asked.
    async fn incarnation(&self) -> Result<LogIncarnation, LogError>;

    /// The offset behind the last record of a partition.
    ///
    /// # Errors
    /// Kafka cannot be asked.
    async fn end_of(&self, partition: i32) -> Result<i64, LogError>;

    /// Publishes requests to a partition and waits for what becomes of each, within the producer's delivery time-out. The answers
    /// come in the order of the requests.
    async fn publish(&self, partition: i32, requests: &[Request]) -> Vec<Published>;
}
