//! When runs are made: stale orders every minute, one run behind the other; and beside them, gateway by gateway, whatever is due or hinted at.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use domain::payment::ProviderName;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Line, run::Scope};
use crate::error::LineError;

impl Line {
    /// Makes runs and looks until `stop`, and waits for what is under way then.
    pub async fn repeat(self: Arc<Self>, stop: CancellationToken) {
        let mut looks = JoinSet::new();
        for name in self.gateways.keys() {
            looks.spawn(Arc::clone(&self).repeat_looks(name.clone(), stop.clone()));
        }
        self.repeat_runs(&stop).await;
        looks.join_all().await;
        if let Err(error) = self.report_rest().await {
            tracing::warn!(%error, "what was looked after since the last report is in no report");
        }
    }

    /// Runs never overlap. A failed one is logged, and the next comes at its time.
    async fn repeat_runs(self: &Arc<Self>, stop: &CancellationToken) {
        let interval = self.run_interval();
        metrics::counter!("trueup_payment_runs_total").increment(0);
        while !stop.is_cancelled() {
            self.progressed(Scope::Run);
            self.run_began(Some(Instant::now()));
            if let Err(error) = Box::pin(self.run_once(Scope::Run, stop)).await {
                metrics::counter!("trueup_payment_runs_failed_total").increment(1);
                tracing::error!(%error, "Reconciliation: the run failed; the next one comes at its time");
            }
            self.run_began(None);
            pause(interval, stop).await;
        }
    }

    const fn run_interval(&self) -> Duration {
        Duration::from_millis(self.settings.run.interval_ms)
    }

    fn run_began(&self, at: Option<Instant>) {
        *self.run_began.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// What a look takes: stale orders, too, if the run that should do it is still busy with older ones.
    fn scope_of_look(&self) -> Scope {
        let began = *self.run_began.lock().unwrap_or_else(PoisonError::into_inner);
        if began.is_some_and(|at| at.elapsed() > self.run_interval()) { Scope::Late } else { Scope::Due }
    }

    /// Looks for what is due or hinted at of one gateway. The next look begins although answers of the ones before are still waited for: a slow
    /// payment delays only itself. Each of them has a payment in a slot, so that there are never more looks than slots, and one that claims.
    async fn repeat_looks(self: Arc<Self>, name: ProviderName, stop: CancellationToken) {
        let interval = Duration::from_millis(self.settings.run.due_interval_ms);
        let mut looks = JoinSet::new();
        while !stop.is_cancelled() {
            let claimed = CancellationToken::new();
            let (line, name, stop_look, claiming) = (Arc::clone(&self), name.clone(), stop.clone(), claimed.clone().drop_guard());
            looks.spawn(async move {
                match line.now().await {
                    Ok(began_at) => line.drain(&name, line.scope_of_look(), began_at, &stop_look, Some(claiming)).await.failed,
                    Err(error) => Some(error),
                }
            });
            claimed.cancelled().await;
            pause(interval, &stop).await;
            while let Some(look) = looks.try_join_next() {
                log_failed(look);
            }
        }
        while let Some(look) = looks.join_next().await {
            log_failed(look);
        }
    }
}

fn log_failed(look: Result<Option<LineError>, tokio::task::JoinError>) {
    match look {
        Ok(None) => {}
        Ok(Some(error)) => tracing::error!(%error, "what is due could not be looked after; the next look comes at its time"),
        Err(error) => tracing::error!(%error, "a look for what is due ended in its middle"),
    }
}

async fn pause(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}
