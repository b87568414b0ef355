//! What can go wrong with a gate call, and what may have happened on the server meanwhile.

use deadpool_redis::{
    PoolError,
    redis::{ErrorKind as RedisKind, RedisError, ServerErrorKind},
};
use domain::failure::ErrorKind;

/// A gate call that has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The gate has no state, is being loaded, or was opened under another run id: it must not be asked.
    #[error("the gate is cold")]
    Cold,
    /// Redis gave no usable answer.
    #[error("Redis is unavailable: {reason}")]
    Unavailable {
        /// The script may have run all the same, so that a reservation may exist.
        maybe_executed: bool,
        /// The driver's words.
        reason: String,
    },
    /// The server may throw keys away; a member set that loses members would give their seats away twice.
    #[error("Redis runs with maxmemory-policy `{policy}`; set it to noeviction")]
    Eviction {
        /// The policy found.
        policy: String,
    },
    /// More items than one call may carry.
    #[error("{given} items in one call, at most {max} are allowed")]
    TooMany {
        /// Items in the call.
        given: usize,
        /// The bound.
        max: usize,
    },
    /// All connections of the pool are in use.
    #[error("no Redis connection became free in time")]
    PoolExhausted,
    /// The answer has another shape than the script gives; client and script do not fit.
    #[error("unexpected answer from Redis: {0}")]
    Reply(String),
    /// The settings cannot be used.
    #[error("Redis settings: {0}")]
    Settings(String),
}

impl GateError {
    /// Which policy this failure calls for.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Cold | Self::Unavailable { .. } => ErrorKind::Transient,
            Self::PoolExhausted => ErrorKind::Saturation,
            Self::TooMany { .. } => ErrorKind::Data,
            Self::Eviction { .. } | Self::Reply(_) | Self::Settings(_) => ErrorKind::Fatal,
        }
    }

    /// Whether the script may have run although there is no answer.
    #[must_use]
    pub const fn maybe_executed(&self) -> bool {
        matches!(self, Self::Unavailable { maybe_executed: true, .. } | Self::Reply(_))
    }

    pub(crate) fn not_executed(reason: impl std::fmt::Display) -> Self {
        Self::Unavailable { maybe_executed: false, reason: reason.to_string() }
    }

    pub(crate) fn maybe(reason: impl std::fmt::Display) -> Self {
        Self::Unavailable { maybe_executed: true, reason: reason.to_string() }
    }

    /// A failure of a command that was handed to the driver. Only what the server refuses before it runs a script
    /// counts as not executed; everything else is unknown.
    pub(crate) fn after_send(error: &RedisError) -> Self {
        let refused_first = match error.kind() {
            RedisKind::Server(kind) => matches!(
                kind,
                ServerErrorKind::BusyLoading
                    | ServerErrorKind::NoScript
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask
                    | ServerErrorKind::TryAgain
                    | ServerErrorKind::ClusterDown
                    | ServerErrorKind::CrossSlot
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::ReadOnly
                    | ServerErrorKind::NoPerm
            ),
            RedisKind::Extension => {
                matches!(error.code(), Some("OOM" | "MISCONF" | "NOAUTH" | "WRONGPASS" | "BUSY" | "NOREPLICAS"))
            }
            _ => error.is_connection_refusal(),
        };
        if refused_first { Self::not_executed(error) } else { Self::maybe(error) }
    }
}

impl From<PoolError> for GateError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(deadpool_redis::TimeoutType::Wait) => Self::PoolExhausted,
            other => Self::not_executed(other),
        }
    }
}
