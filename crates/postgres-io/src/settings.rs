//! Settings of PostgreSQL connections. Every wait has its bound here.

use domain::secret::Secret;
use serde::{Deserialize, Serialize};

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// Not encrypted.
    #[default]
    Disable,
    /// Encrypted, and the server's certificate and name are verified.
    VerifyFull,
}

/// Where PostgreSQL is and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// `postgres://user:password@host:port/database`.
    pub url: Secret,
    /// Connections of the pool.
    pub pool_size: usize,
    /// How long a connection may take to be made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long a caller waits for a connection of the pool, in milliseconds.
    pub pool_wait_ms: u64,
    /// How long a statement may take, in milliseconds.
    pub statement_timeout_ms: u64,
    /// How long a statement may wait for a lock, in milliseconds.
    pub lock_timeout_ms: u64,
    /// How long a transaction may stand idle before the server ends it, in milliseconds.
    pub idle_in_transaction_timeout_ms: u64,
    /// How long a server of which nothing is heard goes unnoticed on a connection, in milliseconds: a host that is gone, a network that drops
    /// everything. Independent of how long statements take, as an idle system still acknowledges. At least 4 seconds count.
    pub peer_timeout_ms: u64,
    /// Whether the connection is encrypted.
    pub tls: TlsMode,
    /// File with the certificates (PEM) that may sign the server's; none: the system's.
    pub tls_ca_file: Option<String>,
    /// The name that the server shows for this process.
    pub application_name: String,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: Secret::new("postgres://trueup@127.0.0.1:5432/trueup"),
            pool_size: 8,
            connect_timeout_ms: 3_000,
            pool_wait_ms: 3_000,
            statement_timeout_ms: 10_000,
            lock_timeout_ms: 3_000,
            idle_in_transaction_timeout_ms: 10_000,
            peer_timeout_ms: 20_000,
            tls: TlsMode::Disable,
            tls_ca_file: None,
            application_name: "trueup".to_owned(),
        }
    }
}

impl PostgresSettings {
    /// Sizes and times that bound something, by their names: 0 would switch the bound off.
    #[must_use]
    pub fn bounds(&self) -> [(&'static str, u64); 7] {
        [
            ("pool_size", u64::try_from(self.pool_size).unwrap_or(u64::MAX)),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("pool_wait_ms", self.pool_wait_ms),
            ("statement_timeout_ms", self.statement_timeout_ms),
            ("lock_timeout_ms", self.lock_timeout_ms),
            ("idle_in_transaction_timeout_ms", self.idle_in_transaction_timeout_ms),
            ("peer_timeout_ms", self.peer_timeout_ms),
        ]
    }
}
