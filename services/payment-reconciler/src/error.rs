//! What can fail while one payment is looked after. A failure belongs to its payment: the others go on.

use payment_providers::port::ProviderError;

/// Why a payment could not be looked after this time.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// PostgreSQL refused or lost a statement.
    #[error("PostgreSQL: {0}")]
    Database(#[from] diesel::result::Error),
    /// No connection to PostgreSQL.
    #[error("no connection to PostgreSQL: {0}")]
    Connection(#[from] postgres_io::DbError),
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

impl LineError {
    /// A stable code for logs, metrics and the payment's row.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Database(_) | Self::Connection(_) | Self::TaskLost => "POSTGRES",
            Self::Row(_) => "ROW",
            Self::Provider(ProviderError::Unavailable(_)) => "PG_UNAVAILABLE",
            Self::Provider(ProviderError::Throttled { .. }) => "PG_THROTTLED",
            Self::Provider(ProviderError::Refused { .. }) => "PG_REFUSED",
            Self::Provider(ProviderError::Malformed(_)) => "PG_MALFORMED",
            Self::Provider(ProviderError::Account { .. }) => "PG_ACCOUNT",
            Self::UnknownProvider(_) => "UNKNOWN_PROVIDER",
            Self::UnknownPayment(_) => "UNKNOWN_PAYMENT",
            Self::LeaseLost => "LEASE_LOST",
            Self::Stopped => "STOPPED",
        }
    }
}
