//! `/health/live`, `/health/ready` and `/metrics`, for services with an HTTP interface and for those without one.

use std::{future::Future, io};

use actix_web::{App, HttpResponse, HttpServer, http::header, web};
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, probes::Health};

/// What these addresses show.
#[derive(Clone)]
pub struct Ops {
    /// The probes.
    pub health: Health,
    /// The metrics.
    pub metrics: Metrics,
}

/// Connections of the small server; probes and scrapes need few.
const CONNECTIONS_MAX: usize = 64;

/// Adds the addresses to an application.
pub fn configure(ops: Ops) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        config
            .app_data(web::Data::new(ops))
            .route("/health/live", web::get().to(live))
            .route("/health/ready", web::get().to(ready))
            .route("/metrics", web::get().to(metrics));
        #[cfg(feature = "failpoints")]
        crate::failpoint::configure(config);
    }
}

/// Serves only these addresses until `stop`; for services without an HTTP interface of their own.
///
/// # Errors
/// The address is taken or not ours.
pub fn serve(listen: &str, ops: Ops, stop: CancellationToken) -> io::Result<impl Future<Output = io::Result<()>> + use<>> {
    let server = HttpServer::new(move || App::new().configure(configure(ops.clone())))
        .workers(1)
        .max_connections(CONNECTIONS_MAX)
        .disable_signals()
        .shutdown_timeout(1)
        .bind(listen)
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}")))?
        .run();
    let handle = server.handle();
    tokio::spawn(async move {
        stop.cancelled().await;
        handle.stop(true).await;
    });
    Ok(server)
}

async fn live(ops: web::Data<Ops>) -> HttpResponse {
    answer(&ops.health.standing_still(), "live")
}

async fn ready(ops: web::Data<Ops>) -> HttpResponse {
    answer(&ops.health.not_ready(), "ready")
}

fn answer(problems: &[String], word: &str) -> HttpResponse {
    let (mut response, status) =
        if problems.is_empty() { (HttpResponse::Ok(), word) } else { (HttpResponse::ServiceUnavailable(), "waiting") };
    response.insert_header((header::CACHE_CONTROL, "no-store")).json(serde_json::json!({"status": status, "problems": problems}))
}

async fn metrics(ops: web::Data<Ops>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(ops.metrics.render())
}
