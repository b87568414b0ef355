//! Errors by HTTP, as RFC 9457 words them: one status, one stable code, one body, whoever answers.

use actix_web::{
    HttpResponse,
    error::{InternalError, JsonPayloadError, PathError, QueryPayloadError},
    http::{StatusCode, header},
    web,
};

/// The media type of every error body.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error: `code` is what programs rely on, `detail` what people read. No cache keeps it.
#[must_use]
pub fn problem(status: StatusCode, code: &str, detail: &str) -> HttpResponse {
    let body = serde_json::json!({
        "type": format!("urn:trueup:problem:{code}"), "title": code.replace('_', " "), "status": status.as_u16(), "code": code, "detail": detail,
    });
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CONTENT_TYPE, PROBLEM_JSON)).insert_header((header::CACHE_CONTROL, "no-store"));
    response.body(body.to_string())
}

/// Lets the extractors of actix-web answer so, too: bodies of at most `bytes_max`, paths and queries.
pub fn of_extractors(bytes_max: usize) -> impl FnOnce(&mut web::ServiceConfig) {
    move |config| {
        config
            .app_data(web::JsonConfig::default().limit(bytes_max).error_handler(|error, _request| {
                let (status, code) = match &error {
                    JsonPayloadError::OverflowKnownLength { .. } | JsonPayloadError::Overflow { .. } => {
                        (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large")
                    }
                    JsonPayloadError::ContentType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
                    _ => (StatusCode::BAD_REQUEST, "malformed_body"),
                };
                let answer = problem(status, code, &format!("the body is not usable: {error}"));
                InternalError::from_response(error, answer).into()
            }))
            .app_data(web::PathConfig::default().error_handler(|error: PathError, _request| {
                let answer = problem(StatusCode::NOT_FOUND, "not_found", &format!("there is nothing at this address: {error}"));
                InternalError::from_response(error, answer).into()
            }))
            .app_data(web::QueryConfig::default().error_handler(|error: QueryPayloadError, _request| {
                let answer = problem(StatusCode::BAD_REQUEST, "invalid_fields", &format!("the query is not usable: {error}"));
                InternalError::from_response(error, answer).into()
            }));
    }
}
