//! The simulator as a program.

use std::time::Duration;

use clap::Parser;
use domain::secret::Secret;
use pg_simulator::{CallbackSettings, CallbackTarget, Latency, Options, Simulator};
use service_kit::{
    lifecycle::Shutdown,
    telemetry::{self, TelemetrySettings},
};

/// How often it is looked whether the server still runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A payment gateway to try things with: three dialects, scripted answers, a ledger in which doubles show.
///
/// It keeps everything in memory and ends with its process. `GET /` lists its addresses.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:
  pg-simulator --listen 127.0.0.1:8099
  pg-simulator --latency-ms-min 5 --latency-ms-max 500
  curl -s 127.0.0.1:8099/admin/payments -H 'content-type: application/json' \\
    -d '{\"reference\":\"order-1\",\"amount\":15000,\"currency\":\"KRW\",\"script\":{\"steps\":[{\"answer\":\"open\",\"asks\":2},{\"answer\":\"paid\"}]}}'
  curl -s 127.0.0.1:8099/generic/v1/payments/order-1 -H 'authorization: Bearer sk_simulator'
  curl -s 127.0.0.1:8099/admin/ledger"
)]
struct Arguments {
    /// Where to listen.
    #[arg(long, env = "PG_SIMULATOR__HTTP__LISTEN", default_value = "127.0.0.1:8099")]
    listen: String,
    /// The key that all dialects ask for.
    #[arg(long, env = "PG_SIMULATOR__API_KEY", default_value = Options::API_KEY, hide_env_values = true)]
    api_key: String,
    /// How long a call takes at least, in milliseconds.
    #[arg(long, env = "PG_SIMULATOR__LATENCY_MS_MIN", default_value_t = 0)]
    latency_ms_min: u64,
    /// How long a call takes at most, in milliseconds.
    #[arg(long, env = "PG_SIMULATOR__LATENCY_MS_MAX", default_value_t = 0)]
    latency_ms_max: u64,
    /// Where callbacks go; `{dialect}` stands for generic, toss or stripe. Without it none are sent.
    #[arg(long, env = "PG_SIMULATOR__CALLBACK_URL", default_value = "")]
    callback_url: String,
    /// What signs the callbacks of the generic dialect and of Stripe's.
    #[arg(long, env = "PG_SIMULATOR__CALLBACK_SECRET", default_value = "", hide_env_values = true)]
    callback_secret: String,
    /// Of how many in a hundred payments all callbacks are lost.
    #[arg(long, env = "PG_SIMULATOR__CALLBACKS_LOST_PERCENT", default_value_t = 0)]
    callbacks_lost_percent: u32,
}

#[actix_web::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let telemetry = telemetry::init("pg-simulator", &TelemetrySettings::default())?;
    let shutdown = Shutdown::on_signals()?;
    let simulator = tokio::task::spawn_blocking(move || Simulator::start_with(options(arguments))).await??;
    tracing::info!(url = simulator.url(), "the simulator listens");
    while simulator.is_running() && tokio::time::timeout(LOOK_EVERY, shutdown.begun()).await.is_err() {}
    tokio::task::spawn_blocking(move || drop(simulator)).await?;
    telemetry.shutdown();
    Ok(())
}

fn options(arguments: Arguments) -> Options {
    let target = |dialect: &str| CallbackTarget {
        url: arguments.callback_url.replace("{dialect}", dialect),
        secret: Secret::new(arguments.callback_secret.as_str()),
    };
    Options {
        callbacks: CallbackSettings {
            generic: target("generic"),
            toss: target("toss"),
            stripe: target("stripe"),
            lose_percent: arguments.callbacks_lost_percent,
            copies: 1,
        },
        listen: arguments.listen,
        api_key: arguments.api_key,
        latency: Latency { min_ms: arguments.latency_ms_min, max_ms: arguments.latency_ms_max },
        ..Options::default()
    }
}
