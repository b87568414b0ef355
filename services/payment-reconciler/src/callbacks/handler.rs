//! `POST /v1/payments/callbacks/{provider}`.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::StatusCode,
    web::{self, Data},
};

use super::{Desk, DeskError};
use crate::http::{self, ApiError, App};

/// The most headers that are shown to an adapter; signatures are among the first dozen.
const HEADERS_MAX: usize = 100;

/// Adds the address.
pub fn configure(app: &mut web::ServiceConfig) {
    app.service(
        web::resource("/v1/payments/callbacks/{provider}")
            .route(web::post().to(take))
            .default_service(web::to(|| async { ApiError::MethodNotAllowed("POST").error_response() })),
    );
}

async fn take(app: Data<App>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let provider = http::piece(&request, "provider")?.into_owned();
    let taken = answer(&app.desk, &provider, &request, payload).await;
    let result = taken.as_ref().map_or_else(|error| error.parts().1, |taken| taken.as_str());
    // A name that nobody set up would make a metric for each thing that somebody tries.
    let known = if app.desk.knows(&provider) { provider } else { "unknown".to_owned() };
    metrics::counter!("trueup_payment_callbacks_total", "provider" => known, "result" => result).increment(1);
    http::json(StatusCode::OK, &serde_json::json!({ "status": taken?.told() }))
}

async fn answer(desk: &Desk, provider: &str, request: &HttpRequest, payload: web::Payload) -> Result<super::Taken, ApiError> {
    if !desk.knows(provider) {
        return Err(ApiError::UnknownProvider);
    }
    let body = http::read(payload, desk.body_bytes_max()).await?;
    let headers: Vec<(String, String)> = request
        .headers()
        .iter()
        .take(HEADERS_MAX)
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect();
    desk.take(provider, &headers, &body).await.map_err(|error| match error {
        DeskError::UnknownProvider => ApiError::UnknownProvider,
        DeskError::Signature(what) => ApiError::BadSignature(what),
        DeskError::Malformed(what) => ApiError::MalformedBody(what.chars().take(contracts::DETAIL_CHARS_MAX).collect()),
        DeskError::TooMany => ApiError::RateLimited("unsigned callbacks"),
        DeskError::Store(error) => error.into(),
    })
}
