//! One end for all: a signal, then phases in order, each with its bound.

use std::{future::Future, io, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit status after a second signal: the user does not want to wait.
const FORCED: i32 = 130;

/// The end of the process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownSettings {
    /// From SIGTERM to the exit, at most, in milliseconds.
    pub grace_ms: u64,
}

impl Default for ShutdownSettings {
    fn default() -> Self {
        Self { grace_ms: 20_000 }
    }
}

/// Tells every part that the process is to end. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// Listens for SIGTERM and SIGINT; a second one ends the process at once. Inside a tokio runtime.
    ///
    /// # Errors
    /// Signals cannot be caught.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::default();
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let token = shutdown.0.clone();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = term.recv() => "SIGTERM",
                    _ = int.recv() => "SIGINT",
                }
            };
            let name = next().await;
            tracing::info!(signal = name, "shutting down");
            token.cancel();
            let name = next().await;
            tracing::warn!(signal = name, "ending at once");
            std::process::exit(FORCED);
        });
        Ok(shutdown)
    }

    /// The token that is cancelled.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// Begins the end from inside, as a signal would.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Waits for the end to begin.
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }

    /// Whether the end has begun.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.0.is_cancelled()
    }
}

/// Runs one phase of the end within `limit`; `None` if it did not finish, which is logged by name.
pub async fn phase<T>(name: &'static str, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let began = tokio::time::Instant::now();
    match tokio::time::timeout(limit, work).await {
        Ok(result) => {
            tracing::info!(phase = name, seconds = began.elapsed().as_secs_f64(), "phase of the end done");
            Some(result)
        }
        Err(_) => {
            tracing::error!(
                phase = name,
                limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
                "phase of the end cut off"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_phase_is_cut_off_at_its_limit() {
        assert_eq!(phase("quick", Duration::from_secs(1), async { 42 }).await, Some(42));
        assert_eq!(phase("endless", Duration::from_secs(1), std::future::pending::<()>()).await, None);
    }

    #[tokio::test]
    async fn everybody_hears_of_the_end() {
        let shutdown = Shutdown::default();
        let token = shutdown.clone().token();
        shutdown.begin();
        token.cancelled().await;
        assert!(shutdown.is_begun());
    }
}
