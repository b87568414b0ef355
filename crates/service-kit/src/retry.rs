//! Waiting for a server: back-off without an end, because giving up would skip records.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio_util::sync::CancellationToken;

const DELAY_MIN: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(3);

/// One stretch of failures.
pub struct Retry {
    delays: ExponentialBackoff,
}

impl Retry {
    /// A new stretch: the next wait is short again.
    #[must_use]
    pub fn new() -> Self {
        let builder = ExponentialBuilder::default().with_min_delay(DELAY_MIN).with_max_delay(DELAY_MAX).with_jitter();
        Self { delays: builder.without_max_times().build() }
    }

    /// Waits before the next attempt, from 50 ms up to 3 s (with jitter, 6 s). False when cancelled meanwhile.
    pub async fn wait(&mut self, cancel: &CancellationToken) -> bool {
        let delay = self.next().unwrap_or(DELAY_MAX);
        tokio::select! {
            () = cancel.cancelled() => false,
            () = tokio::time::sleep(delay) => true,
        }
    }
}

/// The waits themselves, for whoever waits in another way.
impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.delays.next()
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}
