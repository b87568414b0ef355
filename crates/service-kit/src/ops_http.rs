//! `/health/live`, `/health/ready` and `/metrics`, for services with an HTTP interface and for those without one.

use std::{future::Future, io};

use actix_web::{
    App, HttpResponse, HttpServer, Resource,
    dev::Server,
    http::{StatusCode, header},
    web,
};
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, probes::Health, problem::problem};

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
            .service(read_only("/health/live").route(web::get().to(live)).route(web::head().to(live)))
            .service(read_only("/health/ready").route(web::get().to(ready)).route(web::head().to(ready)))
            .service(read_only("/metrics").route(web::get().to(metrics)).route(web::head().to(metrics)));
        #[cfg(feature = "failpoints")]
        crate::failpoint::configure(config);
    }
}

/// An address that is only read: any other method is answered with 405, and with those that are allowed.
fn read_only(path: &str) -> Resource {
    web::resource(path).default_service(web::to(method_not_allowed))
}

async fn method_not_allowed() -> HttpResponse {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this address is only read");
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
    response
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
        .map_err(|error| cannot_listen(listen, &error))?
        .run();
    Ok(until(stop, server))
}

/// What is told when an address is taken or not ours.
#[must_use]
pub fn cannot_listen(listen: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {listen}: {error}"))
}

/// The server, which ends in order once `stop` is cancelled: it takes nothing new and answers what is in, as long as its
/// `shutdown_timeout` lets it. Needs a runtime of tokio around it.
pub fn until(stop: CancellationToken, server: Server) -> Server {
    let handle = server.handle();
    tokio::spawn(async move {
        stop.cancelled().await;
        handle.stop(true).await;
    });
    server
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use actix_web::{http::Method, test};

    use super::*;

    #[actix_web::test]
    async fn what_is_only_read_says_so_to_any_other_method() {
        let metrics = crate::metrics::install().unwrap();
        let ops = Ops { health: Health::default(), metrics };
        let app = test::init_service(App::new().configure(configure(ops))).await;
        for path in ["/health/live", "/health/ready", "/metrics"] {
            for method in [Method::GET, Method::HEAD] {
                let request = test::TestRequest::with_uri(path).method(method).to_request();
                assert_ne!(test::call_service(&app, request).await.status(), 405, "{path}");
            }
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let request = test::TestRequest::with_uri(path).method(method.clone()).to_request();
                let response = test::call_service(&app, request).await;
                assert_eq!(response.status(), 405, "{method} {path}");
                assert_eq!(response.headers().get("allow").unwrap(), "GET, HEAD");
                let problem: serde_json::Value = test::read_body_json(response).await;
                assert_eq!(problem["code"], "method_not_allowed");
            }
        }
        let nowhere = test::TestRequest::with_uri("/health").to_request();
        assert_eq!(test::call_service(&app, nowhere).await.status(), 404);
    }
}
