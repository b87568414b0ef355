//! Wiring only: settings, telemetry, signals, and the service.

use payment_reconciler::{PREFIX, Settings};
use service_kit::{lifecycle::Shutdown, metrics, settings, telemetry};

/// Threads for IO; the work is waiting.
const WORKERS: usize = 2;

fn main() -> anyhow::Result<()> {
    settings::answer_help(
        "payment-reconciler",
        "Settles stale orders against the payment gateways, and gives back what must not be kept.",
        PREFIX,
        env!("CARGO_PKG_VERSION"),
    );
    let settings: Settings = settings::load_or_exit(PREFIX);
    service_kit::install_crypto_provider();
    let telemetry = telemetry::init("payment-reconciler", &settings.telemetry)?;
    #[cfg(feature = "failpoints")]
    service_kit::failpoint::install(payment_reconciler::failpoints::STEPS)?;
    tracing::info!(settings = %settings::Dump(&settings), "starting");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    let ended = runtime.block_on(async {
        let metrics = metrics::install()?;
        payment_reconciler::run(settings, metrics, Shutdown::on_signals()?).await
    });
    telemetry.shutdown();
    ended
}
