//! When runs are made: stale orders every minute, and between two such runs whatever is due or hinted at.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{Line, run::Scope};

impl Line {
    /// Makes runs, one after the other, until `stop`. A failed one is logged, and the next comes at its time.
    pub async fn repeat(self: Arc<Self>, stop: CancellationToken) {
        let interval = Duration::from_millis(self.settings.run.interval_ms);
        let due_interval = Duration::from_millis(self.settings.run.due_interval_ms);
        let mut next_run = Instant::now();
        while !stop.is_cancelled() {
            let scope = if Instant::now() >= next_run { Scope::Run } else { Scope::Due };
            if let Err(error) = self.run_once(scope, &stop).await {
                tracing::error!(%error, "Reconciliation: the run failed; the next one comes at its time");
            }
            if scope == Scope::Run {
                next_run = Instant::now() + interval;
            }
            let pause = due_interval.min(next_run.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
