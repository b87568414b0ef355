//! The server around the addresses.

use std::{future::Future, io, sync::Arc, time::Duration};

use actix_web::{HttpServer, ResponseError, web};
use service_kit::ops_http::{self, Ops};
use tokio_util::sync::CancellationToken;

use super::ApiError;
use crate::{admin, callbacks, config::HttpSettings, openapi};

/// What the addresses need.
pub struct App {
    /// Takes callbacks.
    pub desk: callbacks::Desk,
    /// The operators' interface.
    pub admin: admin::Admin,
}

/// Serves until `stop`; what is in progress then gets a moment to end.
///
/// # Errors
/// The address is taken or not ours.
pub fn serve(
    settings: &HttpSettings,
    ops: Ops,
    app: Arc<App>,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = io::Result<()>> + use<>> {
    let listen = settings.listen.clone();
    let app = web::Data::from(app);
    let server = HttpServer::new(move || {
        actix_web::App::new()
            .app_data(app.clone())
            .configure(callbacks::configure)
            .configure(admin::configure)
            .configure(openapi::configure)
            .configure(ops_http::configure(ops.clone()))
            .default_service(web::to(|| async { ApiError::NotFound.error_response() }))
    })
    .workers(settings.workers.max(1))
    .max_connections(settings.connections_max)
    .client_request_timeout(Duration::from_millis(settings.client_timeout_ms))
    .disable_signals()
    .shutdown_timeout(2)
    .bind(&listen)
    .map_err(|error| ops_http::cannot_listen(&listen, &error))?
    .run();
    Ok(ops_http::until(stop, server))
}
