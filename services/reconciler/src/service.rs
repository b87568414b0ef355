//! The service around the tasks: probes, metrics, and the orderly end.

use std::{sync::Arc, time::Duration};

use service_kit::{
    lifecycle::{Shutdown, phase},
    metrics::Metrics,
    operators::Operators,
    ops_http::Ops,
    probes::Health,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Reconciler, Settings,
    admin::{self, Admin},
    error::TaskError,
    lease::Task,
    schedule::Signs,
};

/// A task that shows no sign of life for so long stands still. Above every time-out of one step.
const SILENT_MAX: Duration = Duration::from_secs(120);

/// Runs the reconciler until `shutdown` begins, then ends it in order: no further coupon, the tasks under way, what is being
/// published, the probes last.
///
/// # Errors
/// Settings that cannot be used, or an address that is taken.
pub async fn run(settings: Settings, metrics: Metrics, shutdown: Shutdown) -> anyhow::Result<()> {
    counters_from_the_start();
    let health = Health::default();
    let (stop, stop_http) = (shutdown.token(), CancellationToken::new());
    let (listen, grace) = (settings.http.listen.clone(), Duration::from_millis(settings.shutdown.grace_ms));
    let operators = Operators::parse(&settings.admin.tokens).map_err(|problem| anyhow::anyhow!("admin.tokens {problem}"))?;
    let (reconciler, log) = Reconciler::connect(settings).await?;
    let admin = Admin { operators, run: reconciler.run_task(), stop: stop.clone() };
    let ops = Ops { health: health.clone(), metrics };
    let http = tokio::spawn(admin::serve(&listen, ops, Arc::new(admin), stop_http.clone())?);

    let tasks = tokio::spawn(async move { reconciler.run_until(stop, move |task| signs(&health, task)).await });
    shutdown.begun().await;
    // The tasks await their acknowledgements themselves; the flush is for what an aborted task left behind.
    let deadline = tokio::time::Instant::now() + grace;
    let left = || deadline.saturating_duration_since(tokio::time::Instant::now());
    phase("tasks", left() * 3 / 4, tasks).await;
    if let Some(unconfirmed @ 1..) = phase("flush", left(), log.flush(left() / 2)).await {
        tracing::warn!(unconfirmed, "[RECONCILIATION] publishes without an answer; their reservations stay pending");
    }
    stop_http.cancel();
    phase("http", left(), http).await;
    Ok(())
}

/// Counters whose first increase raises an alert are there from the start: a counter that appears with its first event has not increased.
fn counters_from_the_start() {
    for name in [
        "trueup_reconciler_given_up_total",
        "trueup_reconciler_gates_shut_total",
        "trueup_reconciler_issued_quantity_repairs_total",
    ] {
        metrics::counter!(name).increment(0);
    }
    for cause in TaskError::CODES {
        metrics::counter!("trueup_reconciler_repair_failures_total", "cause" => cause).increment(0);
    }
}

/// Liveness from every task; readiness from the gate task, which asks Redis and PostgreSQL twice a second.
fn signs(health: &Health, task: Task) -> Signs {
    let heartbeat = health.heartbeat(task.as_str(), SILENT_MAX);
    let ready = (task == Task::Gate).then(|| health.flag("redis and postgres"));
    Signs {
        beat: Arc::new(move || heartbeat.beat()),
        ran: Arc::new(move |ok| {
            if let Some(ready) = &ready {
                ready.set(ok);
            }
        }),
    }
}
