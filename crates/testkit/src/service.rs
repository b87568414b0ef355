//! A service in the test's own process: its settings, its metrics, and its start.

use std::{collections::BTreeMap, fmt::Debug, future::Future, sync::OnceLock, time::Duration};

use serde::de::DeserializeOwned;
use service_kit::{metrics::Metrics, settings::Validate};
use tokio_util::sync::CancellationToken;

use crate::{
    running::Running,
    wait::{eventually, show_logs},
};

/// The settings that a service would read from its environment.
///
/// # Panics
/// They are faulty.
pub fn settings<T: DeserializeOwned + Validate>(prefix: &str, environment: &BTreeMap<String, String>) -> T {
    service_kit::settings::read(prefix, None, environment.clone().into_iter().collect()).expect("settings")
}

/// The metrics of this process; they can be installed once only.
///
/// # Panics
/// Somebody else has installed others.
pub fn metrics() -> Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| service_kit::metrics::install().expect("metrics")).clone()
}

/// Makes a service of the settings in its environment and runs it until [`Running::stop`].
///
/// # Panics
/// The settings are faulty, or it cannot be made.
pub async fn start<T, S, M, R, E>(
    prefix: &str,
    environment: &BTreeMap<String, String>,
    make: impl FnOnce(T) -> M,
    run: impl FnOnce(S, CancellationToken) -> R,
) -> Running<E>
where
    T: DeserializeOwned + Validate,
    M: Future<Output = Result<S, E>>,
    R: Future<Output = Result<(), E>> + Send + 'static,
    E: Debug + Send + 'static,
{
    show_logs();
    service_kit::install_crypto_provider();
    let service = make(settings(prefix, environment)).await.expect("a service");
    Running::start(|cancel| run(service, cancel))
}

/// Waits until somebody listens on a port of this machine.
///
/// # Panics
/// At the deadline.
pub async fn until_listening(limit: Duration, port: u16) {
    eventually(limit, "somebody listens", || async { tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() }).await;
}
