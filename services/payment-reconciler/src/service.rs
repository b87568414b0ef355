//! The service around the line: probes, metrics, and the orderly end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use domain::{clock::SystemClock, ids::RequestId};
use payment_providers::Providers;
use postgres_io::Db;
use service_kit::{
    lifecycle::{Shutdown, phase},
    metrics::Metrics,
    ops_http::Ops,
    probes::Health,
};
use tokio_util::sync::CancellationToken;

use crate::{Line, Settings, admin::LineHands, edges::Edges, http, line::operator::Patience};

/// One part in so many of the grace time is kept for the last answers by HTTP.
const HTTP_SHARE: u32 = 8;

/// Runs until `shutdown` begins, then ends in order.
///
/// # Errors
/// Settings that cannot be used, or an address that is taken.
pub async fn run(settings: Settings, metrics: Metrics, shutdown: Shutdown) -> anyhow::Result<()> {
    let health = Health::default();
    let stop_http = CancellationToken::new();
    let db = Db::connect(&settings.postgres).await?;
    health.flag("postgres").set(db.conn().await.is_ok());
    let providers = Providers::build(&settings.providers).context("providers")?.all();
    // Only an id of this process, for its claims.
    let holder = RequestId::fresh(&SystemClock).uuid();
    let line = Line::new(&settings.postgres, providers.clone(), holder, settings.line.clone())?;
    let stop_line = CancellationToken::new();
    let patience = Patience {
        held: Duration::from_millis(settings.admin.ask_timeout_ms),
        turn: Duration::from_millis(settings.admin.turn_wait_ms),
    };
    let hands = LineHands::new(Arc::clone(&line), patience, stop_line.clone());
    let audited = line.readings(patience.turn, &stop_line);
    let (edges, app) = Edges::start(&settings, &db, &health, &providers, audited, Arc::new(hands))?;
    let ops = Ops { health: health.clone(), metrics };
    let http = tokio::spawn(http::serve(&settings.http, ops, Arc::new(app), stop_http.clone())?);

    // A run takes as long as its backlog does: its life is shown by its progress.
    let beat = health.heartbeat("runs", settings.line.silent_max());
    line.on_progress(move || beat.beat());
    let runs = tokio::spawn(line.repeat(stop_line.clone()));

    shutdown.begun().await;
    let grace = Duration::from_millis(settings.shutdown.grace_ms);
    let ends = Instant::now() + grace;
    let left = || ends.saturating_duration_since(Instant::now());
    stop_line.cancel();
    phase("runs", grace / 2, runs).await;
    edges.stop(left().saturating_sub(grace / HTTP_SHARE)).await;
    stop_http.cancel();
    phase("http", left(), http).await;
    Ok(())
}
