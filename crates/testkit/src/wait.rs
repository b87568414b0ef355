//! Waiting for something to become true, with a deadline instead of a guess.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// How often a wait looks again.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `look` says yes.
///
/// # Panics
/// At the deadline, naming `what` was waited for.
pub async fn eventually<F: Future<Output = bool>>(limit: Duration, what: &str, mut look: impl FnMut() -> F) {
    eventually_some(limit, what, || {
        let looked = look();
        async move { if looked.await { Ok(()) } else { Err("not yet") } }
    })
    .await;
}

/// Waits until `look` finds something, and gives it back. What it says while it finds nothing is shown at the deadline.
///
/// # Panics
/// At the deadline, naming `what` was waited for and what was seen last.
pub async fn eventually_some<T, E: Debug, F: Future<Output = Result<T, E>>>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if started.elapsed() >= limit => panic!("{what}: not within {limit:?}; seen last: {seen:?}"),
            Err(_) => sleep(POLL).await,
        }
    }
}

/// Shows logs of the code under test with `RUST_LOG`, next to the test that wrote them.
pub fn show_logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    // Another test of this binary may have done it.
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}
