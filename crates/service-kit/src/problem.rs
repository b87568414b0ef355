//! Errors by HTTP, as RFC 9457 words them: one status, one stable code, one body, whoever answers.

use actix_web::{
    HttpResponse,
    error::{InternalError, JsonPayloadError, PathError, QueryPayloadError},
    http::{StatusCode, header},
    web,
};
use serde::Serialize;

/// The media type of every error body.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What is wrong with one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldFault {
    /// The field, as the client wrote it: `memberId`, `Idempotency-Key`, `code`, `limit`.
    pub field: &'static str,
    /// What is wrong and what to send instead.
    pub problem: String,
}

impl FieldFault {
    /// A fault of `field`.
    pub fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self { field, problem: problem.into() }
    }
}

/// The body of an error, with the members that a service adds to those of the RFC.
#[derive(Debug, Serialize)]
struct Body<'a, M> {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [FieldFault]>,
    #[serde(flatten)]
    members: M,
}

/// Members of an error's body beyond those of the RFC: none.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct NoMembers {}

/// The body of an error: `code` is what programs rely on, `detail` what people read, `errors` the faulty fields where there are some,
/// `members` what a service adds.
#[must_use]
pub fn body(status: u16, code: &str, detail: &str, errors: Option<&[FieldFault]>, members: impl Serialize) -> Vec<u8> {
    let kind = format!("urn:trueup:problem:{code}");
    let body = Body { kind, title: code.replace('_', " "), status, code, detail, errors, members };
    // Serializing strings and numbers into memory does not fail; an empty body would still carry its status.
    serde_json::to_vec(&body).unwrap_or_default()
}

/// An error: `code` is what programs rely on, `detail` what people read. No cache keeps it.
#[must_use]
pub fn problem(status: StatusCode, code: &str, detail: &str) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CONTENT_TYPE, PROBLEM_JSON)).insert_header((header::CACHE_CONTROL, "no-store"));
    response.body(body(status.as_u16(), code, detail, None, NoMembers {}))
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
