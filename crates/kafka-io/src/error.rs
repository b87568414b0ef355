//! What can go wrong, with the kind that picks the policy.

use domain::failure::ErrorKind;
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode};

/// The client's code, of administrative calls, too, for which the wrapper tells none.
pub(crate) fn code_of(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// An error of the Kafka client, outside of publishing.
#[derive(Debug, thiserror::Error)]
pub enum KafkaIoError {
    /// The client's settings are refused.
    #[error("kafka settings: {0}")]
    Settings(String),
    /// The topic is not there.
    #[error("topic `{0}` does not exist; create it with `trueup topics create`")]
    NoSuchTopic(String),
    /// The position is before the log's start or after its end. Nothing is skipped silently.
    #[error("partition {partition}: the position is outside of the log ({detail})")]
    OutOfRange {
        /// The partition.
        partition: i32,
        /// What the client said.
        detail: String,
    },
    /// The group's coordinator or the broker fenced this consumer off.
    #[error("this consumer was fenced off: {0}")]
    Fenced(String),
    /// A client call failed.
    #[error("{what}: {source}")]
    Client {
        /// What was tried.
        what: &'static str,
        /// What the client said.
        #[source]
        source: KafkaError,
    },
    /// A blocking task of the runtime was cancelled or panicked.
    #[error("the runtime gave up a task: {0}")]
    Runtime(String),
}

impl KafkaIoError {
    pub(crate) fn client(what: &'static str) -> impl FnOnce(KafkaError) -> Self {
        move |source| Self::Client { what, source }
    }

    /// The kind that picks the policy.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Settings(_) | Self::OutOfRange { .. } | Self::Fenced(_) => ErrorKind::Fatal,
            // A topic may just be on its way; a service that starts before the set-up job should wait for it.
            Self::NoSuchTopic(_) | Self::Runtime(_) => ErrorKind::Transient,
            Self::Client { source, .. } => match code_of(source) {
                Some(RDKafkaErrorCode::QueueFull) => ErrorKind::Saturation,
                Some(
                    RDKafkaErrorCode::Fatal
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::ClusterAuthorizationFailed,
                ) => ErrorKind::Fatal,
                Some(
                    RDKafkaErrorCode::InvalidPartitions
                    | RDKafkaErrorCode::InvalidReplicationFactor
                    | RDKafkaErrorCode::InvalidConfig
                    | RDKafkaErrorCode::InvalidTopic
                    | RDKafkaErrorCode::PolicyViolation,
                ) => ErrorKind::Data,
                _ => ErrorKind::Transient,
            },
        }
    }
}

/// Why a record was not acknowledged, and what that means for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It did not reach a broker and never will: whatever was reserved for it can be released.
    #[error("refused before it could reach a broker: {0}")]
    Refused(String),
    /// It did not reach a log and never will: the client, the broker or the topic takes no record of this size.
    #[error("refused for its size: {0}")]
    TooLarge(String),
    /// It may or may not be in the log: nothing that depends on it may be undone.
    #[error("it is not known whether the broker has it: {0}")]
    Unknown(String),
    /// The producer cannot go on; this record did not reach a broker. A new producer or a restart is needed.
    #[error("the producer failed for good: {0}")]
    Fatal(String),
}

impl PublishError {
    /// Whether the record may be in the log nevertheless.
    #[must_use]
    pub const fn may_be_persisted(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// A short name for metrics: `refused`, `too_large`, `unknown`, `fatal`.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::TooLarge(_) => "too_large",
            Self::Unknown(_) => "unknown",
            Self::Fatal(_) => "fatal",
        }
    }
}
