//! What every service has: settings, telemetry, metrics, an orderly end, probes.

pub mod failpoint;
pub mod lifecycle;
pub mod metrics;
pub mod openapi;
pub mod operators;
pub mod ops_http;
pub mod path;
pub mod probes;
pub mod problem;
pub mod retry;
pub mod settings;
pub mod telemetry;
pub mod trace;

/// Makes ring the TLS provider of this process; harmless when repeated. Call it before the first TLS client is made.
pub fn install_crypto_provider() {
    // An error says that a provider is there already, which is all that is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
