//! Wiring only: settings, telemetry, signals, and the service.

use reconciler::{PREFIX, Settings};
use service_kit::{lifecycle::Shutdown, metrics, settings, telemetry};

/// Threads for IO; the work is waiting.
const WORKERS: usize = 2;

fn main() -> anyhow::Result<()> {
    settings::answer_help(
        "reconciler",
        "Publishes forgotten reservations again, opens cold gates, and holds counts against each other.",
        PREFIX,
        env!("CARGO_PKG_VERSION"),
    );
    let settings: Settings = settings::load_or_exit(PREFIX);
    service_kit::install_crypto_provider();
    let telemetry = telemetry::init("reconciler", &settings.telemetry)?;
    #[cfg(feature = "failpoints")]
    service_kit::failpoint::install(reconciler::failpoints::STEPS)?;
    tracing::info!(settings = %settings::Dump(&settings), "starting");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let ended = runtime.block_on(async {
        let metrics = metrics::install()?;
        reconciler::run(settings, metrics, Shutdown::on_signals()?).await
    });
    telemetry.shutdown();
    ended
}
