//! What can fail while one coupon is looked after. A failure belongs to its coupon: the next one goes on.

use domain::ids::CouponCode;
use redis_io::GateError;

use crate::log::LogError;

/// Why a coupon could not be looked after this time.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// No such coupon.
    #[error("there is no coupon `{0}`")]
    UnknownCoupon(CouponCode),
    /// Redis.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// PostgreSQL refused or lost a statement.
    #[error("PostgreSQL: {0}")]
    Database(#[from] diesel::result::Error),
    /// No connection to PostgreSQL.
    #[error("no connection to PostgreSQL: {0}")]
    Connection(String),
    /// A row that the code cannot read; it and the schema do not fit.
    #[error("unreadable row: {0}")]
    Row(String),
    /// The same of a coupon's row.
    #[error(transparent)]
    Coupon(#[from] postgres_io::RowError),
    /// Kafka.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The decided position belongs to another log than the one that Kafka has now: offsets of one say nothing about the other.
    #[error("the decided position belongs to log {recorded}, but Kafka has {found}")]
    OtherLog {
        /// What the position row names.
        recorded: String,
        /// What Kafka says.
        found: String,
    },
    /// The process is about to end.
    #[error("stopped by the end of the process")]
    Stopped,
}

impl TaskError {
    /// All labels in metrics.
    pub const CODES: [&'static str; 7] = ["unknown_coupon", "redis", "postgres", "row", "kafka", "other_log", "stopped"];

    /// The label in metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownCoupon(_) => "unknown_coupon",
            Self::Gate(_) => "redis",
            Self::Database(_) | Self::Connection(_) => "postgres",
            Self::Row(_) | Self::Coupon(_) => "row",
            Self::Log(_) => "kafka",
            Self::OtherLog { .. } => "other_log",
            Self::Stopped => "stopped",
        }
    }
}
