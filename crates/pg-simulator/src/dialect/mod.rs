//! The three ways of speaking.

pub mod generic;
pub mod stripe;
pub mod toss;

use actix_web::{HttpRequest, HttpResponse, http::header};
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::clock::Timestamp;
use serde_json::Value;

use crate::{control::Control, respond::Reply};

/// What every handler needs.
#[derive(Clone)]
pub struct Shared {
    pub control: Control,
    pub api_key: String,
}

/// Whether a request carries the key: as `Bearer key`, or as user name of `Basic` without a password.
fn is_authorized(request: &HttpRequest, key: &str) -> bool {
    let Some(value) = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else { return false };
    match value.split_once(' ') {
        Some(("Bearer", token)) => token == key,
        Some(("Basic", text)) => STANDARD.decode(text).is_ok_and(|plain| plain == format!("{key}:").as_bytes()),
        _ => false,
    }
}

fn idempotency_key(request: &HttpRequest) -> Option<&str> {
    request.headers().get("Idempotency-Key").and_then(|value| value.to_str().ok())
}

fn unauthorized(body: Value) -> HttpResponse {
    HttpResponse::Unauthorized().json(body)
}

/// Text in UTC with milliseconds.
fn rfc3339(at: Timestamp) -> String {
    at.to_string()
}

fn found(body: Option<Value>, missing: impl FnOnce() -> Reply) -> Reply {
    body.map_or_else(missing, |body| Reply::new(200, body))
}
