//! Wiring of the issue-consumer: settings, telemetry, probes, and the end.

use std::time::Duration;

use anyhow::Context;
use issue_consumer::{Service, board::Board, config::Settings};
use service_kit::{
    lifecycle::{Shutdown, phase},
    metrics,
    ops_http::{self, Ops},
    probes::Health,
    settings::{self, Dump},
    telemetry,
};

const PREFIX: &str = "ISSUE_CONSUMER";
/// How often liveness and readiness are brought up to date.
const PROBE_EVERY: Duration = Duration::from_millis(500);

fn main() -> anyhow::Result<()> {
    settings::answer_help("issue-consumer", "Decides coupons from the log.", PREFIX, env!("CARGO_PKG_VERSION"));
    let settings: Settings = settings::load_or_exit(PREFIX);
    service_kit::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime")?;
    runtime.block_on(serve(settings))
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let telemetry = telemetry::init("issue-consumer", &settings.telemetry)?;
    tracing::info!(settings = %Dump(&settings), "issue-consumer starts");
    #[cfg(feature = "failpoints")]
    service_kit::failpoint::install(issue_consumer::failpoints::STEPS).context("failpoints")?;
    let shutdown = Shutdown::on_signals().context("signals")?;
    let health = Health::default();
    let ops = Ops { health: health.clone(), metrics: metrics::install().context("metrics")? };
    let ended = tokio_util::sync::CancellationToken::new();
    let server = tokio::spawn(ops_http::serve(&settings.http.listen, ops, ended.clone())?);

    let (grace, stall) = (Duration::from_millis(settings.grace_ms), Duration::from_millis(settings.stall_ms));
    let service = Service::new(settings).await?;
    let probing = tokio::spawn(probe(service.board(), health, stall));
    let mut running = tokio::spawn(service.run(shutdown.token()));
    let result = tokio::select! {
        result = &mut running => Some(result),
        () = shutdown.begun() => phase("partitions", grace, &mut running).await,
    };
    probing.abort();
    ended.cancel();
    phase("http", Duration::from_secs(2), server).await;
    telemetry.shutdown();
    match result {
        Some(result) => result.context("the service panicked")?,
        None => anyhow::bail!("the grace time was over before all partitions had stopped; the group will notice"),
    }
}

/// Keeps the probes true: alive while partitions progress or wait for a server, ready while all assigned ones are open.
async fn probe(board: std::sync::Arc<Board>, health: Health, stall: Duration) {
    let deciding = health.heartbeat("deciding", stall.saturating_add(PROBE_EVERY));
    let ready = health.flag("partitions_open");
    let mut tick = tokio::time::interval(PROBE_EVERY);
    loop {
        tick.tick().await;
        if board.stalled(i64::try_from(stall.as_millis()).unwrap_or(i64::MAX)).is_none() {
            deciding.beat();
        }
        ready.set(board.is_open());
    }
}
