//! What can fail while one payment is looked after. A failure belongs to its payment: the others go on.

use std::time::Duration;

use chrono::{DateTime, Utc};
use payment_providers::port::ProviderError;
use postgres_io::ErrorKind;

/// Why a payment could not be looked after this time.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// PostgreSQL refused or lost a statement.
    #[error("PostgreSQL: {0}")]
    Database(#[from] diesel::result::Error),
    /// No connection to PostgreSQL.
    #[error("no connection to PostgreSQL: {0}")]
    Connection(#[from] postgres_io::DbError),
    /// The same, of the line's own sessions.
    #[error("PostgreSQL: {}", postgres_io::describe(.0))]
    Sql(#[from] tokio_postgres::Error),
    /// No session with PostgreSQL.
    #[error("no connection to PostgreSQL: {0}")]
    Session(String),
    /// A row that the code cannot read; it and the schema do not fit.
    #[error("unreadable row: {0}")]
    Row(String),
    /// The gateway gave no answer that can be used.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// A payment names a gateway that the settings do not know.
    #[error("no payment gateway is called `{0}` in the settings")]
    UnknownProvider(String),
    /// No such payment.
    #[error("there is no payment `{0}`")]
    UnknownPayment(String),
    /// The gateway asked for fewer calls: nobody calls it, and nothing was asked.
    #[error("the payment gateway wants no calls until {until}; nothing was asked")]
    GatewayPaused {
        /// Until when.
        until: DateTime<Utc>,
        /// How long that is.
        left: Duration,
    },
    /// There was no turn at the gateway in time, and nothing was asked.
    #[error("the payment gateway cannot be asked now: {why}{}; nothing was asked", until_text(.until.as_ref()))]
    GatewayBusy {
        /// Why not.
        why: &'static str,
        /// Until when at the latest, where that is known.
        until: Option<DateTime<Utc>>,
        /// When to come back.
        left: Duration,
    },
    /// Another replica has taken the payment over; what this one wanted to write is dropped.
    #[error("the lease on the payment is lost")]
    LeaseLost,
    /// The task that held the transaction ended without a result.
    #[error("the transaction's task ended without a result")]
    TaskLost,
    /// The process is about to end.
    #[error("stopped by the end of the process")]
    Stopped,
}

fn until_text(until: Option<&DateTime<Utc>>) -> String {
    until.map(|until| format!(", until {until} at the latest")).unwrap_or_default()
}

impl LineError {
    /// Whether trying again changes nothing: PostgreSQL refuses the data, or the row cannot be read.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Sql(error) => matches!(postgres_io::classify_raw(error), ErrorKind::Data | ErrorKind::Fatal),
            Self::Database(error) => matches!(postgres_io::classify(error), ErrorKind::Data | ErrorKind::Fatal),
            Self::Row(_) => true,
            _ => false,
        }
    }

    /// A stable code for logs, metrics and the payment's row.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Database(_) | Self::Connection(_) | Self::Sql(_) | Self::Session(_) | Self::TaskLost => "POSTGRES",
            Self::Row(_) => "ROW",
            Self::Provider(ProviderError::Unavailable(_)) => "PG_UNAVAILABLE",
            Self::Provider(ProviderError::Throttled { .. }) => "PG_THROTTLED",
            Self::Provider(ProviderError::Refused { .. }) => "PG_REFUSED",
            Self::Provider(ProviderError::Malformed(_)) => "PG_MALFORMED",
            Self::Provider(ProviderError::Account { .. }) => "PG_ACCOUNT",
            Self::UnknownProvider(_) => "UNKNOWN_PROVIDER",
            Self::UnknownPayment(_) => "UNKNOWN_PAYMENT",
            Self::GatewayPaused { .. } => "PG_PAUSED",
            Self::GatewayBusy { .. } => "PG_BUSY",
            Self::LeaseLost => "LEASE_LOST",
            Self::Stopped => "STOPPED",
        }
    }
}
