//! The HTTP interface: callbacks of gateways, the operators' addresses, their description, probes and metrics.

mod body;
mod path;
mod problem;
mod server;

pub use body::read;
pub use path::{id, piece};
pub use problem::{ApiError, ERRORS, FieldFault, PROBLEM_JSON};
pub use server::{App, serve};

use actix_web::{HttpResponse, http::StatusCode, http::header};
use serde::Serialize;

/// An answer in JSON that nobody may keep.
///
/// # Errors
/// The value cannot be written as JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Result<HttpResponse, ApiError> {
    let body = serde_json::to_vec(value).map_err(|error| ApiError::internal(&error))?;
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CONTENT_TYPE, "application/json")).insert_header((header::CACHE_CONTROL, "no-store"));
    Ok(response.body(body))
}
