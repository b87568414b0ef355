//! Wiring only: settings, telemetry, signals, run.

use anyhow::Context;
use coupon_gateway::config::{PREFIX, Settings};
use service_kit::{
    lifecycle::Shutdown,
    settings::{self, Dump},
    telemetry,
};

/// Requests are begun on worker threads and their records are freed by Kafka's: the system's allocator pays a lock for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    settings::answer_help("coupon-gateway", env!("CARGO_PKG_DESCRIPTION"), PREFIX, env!("CARGO_PKG_VERSION"));
    let settings: Settings = settings::load_or_exit(PREFIX);
    let telemetry = telemetry::init("coupon-gateway", &settings.telemetry)?;
    service_kit::install_crypto_provider();
    #[cfg(feature = "failpoints")]
    service_kit::failpoint::install(coupon_gateway::failpoints::STEPS).context("failpoints")?;
    let metrics = service_kit::metrics::install().context("metrics")?;
    let shutdown = Shutdown::on_signals().context("signals")?;
    tracing::info!(settings = %Dump(&settings), "starting");
    let result = coupon_gateway::run(settings, shutdown, metrics).await;
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "the gateway ends with an error");
    }
    telemetry.shutdown();
    result
}
