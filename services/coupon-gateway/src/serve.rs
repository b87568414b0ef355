//! From settings to a running service, and its orderly end.

use std::{
    io,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use actix_web::{App, HttpServer, dev::ServerHandle};
use anyhow::Context;
use contracts::LogKey;
use domain::clock::{Clock, SystemClock};
use kafka_io::CommandProducer;
use postgres_io::Db;
use redis_io::Gate;
use service_kit::{
    lifecycle::{Shutdown, phase},
    metrics::Metrics,
    ops_http::{self, Ops},
    probes::{Health, ReadyFlag},
};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::Admin,
    config::Settings,
    coupons::{CouponCache, Fingerprinter, Refresher},
    identity::Identity,
    in_flight::InFlight,
    limits::Limits,
    log_health::LogHealth,
    metrics::GatewayMetrics,
    recent::Recent,
    routes,
    state::AppState,
    ticket::TicketKeys,
    worker::Worker,
};

/// A round of the refresher that takes longer than this is a standstill: every call in it has a shorter time-out.
const REFRESH_AGE_MAX: Duration = Duration::from_secs(60);
/// A producer that failed for good is told by liveness after this time.
const PRODUCER_AGE_MAX: Duration = Duration::from_secs(10);
/// How often the numbers that nobody counts up and down are looked at.
const OBSERVE_EVERY: Duration = Duration::from_millis(500);
/// How long connections get to write the last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Runs the gateway until `shutdown` begins and its end is done.
///
/// # Errors
/// The service cannot start: a setting, a taken address, a Redis that may evict.
pub async fn run(settings: Settings, shutdown: Shutdown, metrics: Metrics) -> anyhow::Result<()> {
    let health = Health::default();
    let ready = health.flag("accepting");
    let app = assemble(settings).await?;
    let gate = Arc::new(Gate::connect(&app.settings.redis).await.context("Redis")?);
    let background = CancellationToken::new();
    let heartbeat = health.heartbeat("coupon refresher", REFRESH_AGE_MAX);
    let refresher = Refresher::new(Arc::clone(&app), gate).run(background.clone(), move || heartbeat.beat());
    let refresher = actix_web::rt::spawn(refresher);
    let observer = actix_web::rt::spawn(observe(Arc::clone(&app), health.clone(), background.clone()));
    let (server, handle) = listen(&app, Ops { health, metrics })?;
    let server = actix_web::rt::spawn(server);
    ready.set(true);
    tracing::info!(listen = %app.settings.http.listen, "taking requests");
    let ended = tokio::select! {
        () = shutdown.begun() => None,
        ended = server => Some(ended),
    };
    end(&app, &handle, &ready).await;
    background.cancel();
    drop((refresher.await, observer.await));
    match ended {
        Some(ended) => ended.context("the HTTP server ended by itself")?.context("the HTTP server failed"),
        None => Ok(()),
    }
}

async fn assemble(settings: Settings) -> anyhow::Result<Arc<AppState>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let app = AppState {
        db: Db::connect(&settings.postgres).await.context("PostgreSQL")?,
        producer: CommandProducer::new(&settings.kafka, &settings.producer).context("Kafka")?,
        log_health: LogHealth::default(),
        log_key: LogKey::parse(settings.keys.log_signing.expose()).context("keys.log_signing")?,
        tickets: TicketKeys::new(&settings.keys.ticket),
        coupons: CouponCache::new(settings.coupons.clone(), Arc::clone(&clock)),
        fingerprinter: Fingerprinter::default(),
        recent: Recent::default(),
        in_flight: InFlight::new(settings.http.in_flight_max),
        streams: InFlight::new(settings.events.streams_max),
        identity: Identity::new(&settings.identity, Arc::clone(&clock)).await.context("identity")?,
        limits: Limits::new(&settings.limits),
        admin: Admin::new(&settings.admin),
        metrics: GatewayMetrics::new(),
        tracing_on: service_kit::trace::enabled(),
        draining: AtomicBool::new(false),
        clock,
        settings,
    };
    Ok(Arc::new(app))
}

type Serving = std::pin::Pin<Box<dyn Future<Output = io::Result<()>>>>;

fn listen(app: &Arc<AppState>, ops: Ops) -> anyhow::Result<(Serving, ServerHandle)> {
    let http = app.settings.http.clone();
    let workers = match http.workers {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        set => set,
    };
    // Each worker thread has a connection of its own to Redis; it is made by the first request that needs it.
    let gates = Gate::lazy(&app.settings.redis).map(drop);
    gates.context("Redis")?;
    let shared = Arc::clone(app);
    let server = HttpServer::new(move || {
        let worker = Gate::lazy(&shared.settings.redis).map(|gate| Worker::start(Arc::clone(&shared), Arc::new(gate)));
        let ops = ops.clone();
        App::new().wrap(routes::not_to_be_kept()).configure(move |config| {
            // The settings were tried above, so there is a worker.
            if let Ok(worker) = &worker {
                routes::configure(config, worker);
            }
            ops_http::configure(ops)(config);
        })
    })
    .workers(workers)
    .max_connections(http.connections_max)
    .backlog(http.backlog)
    .keep_alive(Duration::from_millis(http.keep_alive_ms))
    .client_request_timeout(Duration::from_millis(http.client_timeout_ms))
    .shutdown_timeout(LAST_ANSWERS.as_secs())
    .disable_signals()
    .bind(&http.listen)
    .with_context(|| format!("cannot listen on {}", http.listen))?
    .run();
    let handle = server.handle();
    Ok((Box::pin(server), handle))
}

/// The end, in order: take nothing new, answer what is in, write what waits, count what could not be confirmed.
async fn end(app: &AppState, server: &ServerHandle, ready: &ReadyFlag) {
    let grace = Duration::from_millis(app.settings.shutdown.grace_ms);
    let deadline = Instant::now() + grace;
    ready.set(false);
    server.pause().await;
    app.draining.store(true, Ordering::Relaxed);
    // Part of the grace is kept for flushing, so that a hanging request does not cost the others theirs.
    let for_answers = grace.mul_f64(0.7);
    let answered = async {
        while app.in_flight.count() > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    phase("answer what is in", for_answers, answered).await;
    let left = deadline.saturating_duration_since(Instant::now());
    let flushed = phase("flush the log", left.mul_f64(0.7), app.producer.flush(left.mul_f64(0.6))).await;
    let unconfirmed = match flushed {
        Some(Ok(())) => 0,
        Some(Err(error)) => error.left,
        None => app.producer.in_flight(),
    };
    app.metrics.unconfirmed_at_exit.set(f64::from(u32::try_from(unconfirmed).unwrap_or(u32::MAX)));
    if unconfirmed > 0 {
        tracing::error!(unconfirmed, "appends could not be confirmed; asking again heals them");
    } else {
        tracing::info!("every append is confirmed");
    }
    let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
    if timeout(left, server.stop(true)).await.is_err() {
        tracing::warn!("connections were still open at the end of the grace time");
    }
}

/// Looks at the numbers that nobody counts up and down.
async fn observe(app: Arc<AppState>, health: Health, stop: CancellationToken) {
    let log = health.flag("log");
    // It stands still only when the producer failed for good: this process can append nothing any more, a new one can.
    let producer = health.heartbeat("producer", PRODUCER_AGE_MAX);
    let mut told = false;
    let count = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    loop {
        app.metrics.in_flight.set(count(app.in_flight.count()));
        app.metrics.streams.set(count(app.streams.count()));
        let up = app.log_is_up(app.clock.now());
        log.set(up);
        app.metrics.log_down.set(if up { 0.0 } else { 1.0 });
        if !app.producer.is_fatal() {
            producer.beat();
        } else if !std::mem::replace(&mut told, true) {
            tracing::error!("the producer failed for good; liveness will ask for a restart");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(OBSERVE_EVERY) => {}
        }
    }
}
