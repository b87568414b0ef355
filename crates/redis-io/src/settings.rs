//! How to reach Redis.

use domain::secret::Secret;
use serde::{Deserialize, Serialize};

/// Redis connection settings, named `…__REDIS__…` in the environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// `redis://` or, for TLS, `rediss://` with host, port, user, password and database. A secret, because it may hold a password.
    pub url: Secret,
    /// A PEM file with the certificate authorities to trust instead of the system's; only with `rediss://`.
    pub tls_ca_file: Option<std::path::PathBuf>,
    /// Connections in the pool. Gate calls of the hot path share one of them; the others serve loads and look-ups.
    pub pool_size: usize,
    /// How long a connection may take to be made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long a command may take until it counts as lost (and perhaps executed), in milliseconds.
    pub command_timeout_ms: u64,
    /// Commands in flight on one connection; further ones wait within their time-out.
    pub in_flight_max: usize,
    /// After a failed connect, calls fail at once for this long, in milliseconds, instead of queueing behind the next attempt.
    pub reconnect_pause_ms: u64,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: Secret::new("redis://127.0.0.1:6379/"),
            tls_ca_file: None,
            pool_size: 4,
            connect_timeout_ms: 500,
            command_timeout_ms: 500,
            in_flight_max: 1_024,
            reconnect_pause_ms: 50,
        }
    }
}

impl RedisSettings {
    /// Sizes and times that bound something, by their names: 0 would switch the bound off.
    #[must_use]
    pub fn bounds(&self) -> [(&'static str, u64); 4] {
        [
            ("pool_size", u64::try_from(self.pool_size).unwrap_or(u64::MAX)),
            ("connect_timeout_ms", self.connect_timeout_ms),
            ("command_timeout_ms", self.command_timeout_ms),
            ("in_flight_max", u64::try_from(self.in_flight_max).unwrap_or(u64::MAX)),
        ]
    }
}
