//! The service around the line: probes, metrics, and the orderly end.

use std::time::Duration;

use postgres_io::Db;
use service_kit::{
    lifecycle::{Shutdown, phase},
    metrics::Metrics,
    ops_http::{self, Ops},
    probes::Health,
};
use tokio_util::sync::CancellationToken;

use crate::{Settings, edges::Edges};

/// Runs until `shutdown` begins, then ends in order.
///
/// # Errors
/// Settings that cannot be used, or an address that is taken.
pub async fn run(settings: Settings, metrics: Metrics, shutdown: Shutdown) -> anyhow::Result<()> {
    let health = Health::default();
    let stop_http = CancellationToken::new();
    let http = tokio::spawn(ops_http::serve(&settings.http.listen, Ops { health: health.clone(), metrics }, stop_http.clone())?);
    let db = Db::connect(&settings.postgres).await?;
    health.flag("postgres").set(db.conn().await.is_ok());
    let edges = Edges::start(&settings, &db, &health)?;

    shutdown.begun().await;
    edges.stop(Duration::from_millis(settings.shutdown.grace_ms / 2)).await;
    stop_http.cancel();
    phase("http", Duration::from_millis(settings.shutdown.grace_ms), http).await;
    Ok(())
}
