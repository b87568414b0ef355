//! The description of the HTTP interface, at `/openapi.json`. Tests hold every real answer against it.

mod operations;
mod schemas;

use actix_web::{HttpResponse, ResponseError, http::header, web};
use serde_json::{Value, json};
use service_kit::openapi;

use crate::http::{ApiError, ERRORS};

const INTRODUCTION: &str = "Takes callbacks of payment gateways, which are hints and never decide, and lets operators see and resolve what \
stands still.\n\nEvery error is `application/problem+json` with a stable `code`. Amounts are whole minor units of their currency.";

/// Adds `/openapi.json`.
pub fn configure(app: &mut web::ServiceConfig) {
    let not_allowed = || async { ApiError::MethodNotAllowed("GET").error_response() };
    app.service(web::resource("/openapi.json").route(web::get().to(serve)).default_service(web::to(not_allowed)));
}

async fn serve() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(document().to_string())
}

/// The whole document.
#[must_use]
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trueup payment reconciler",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Stale orders settled, nobody's money kept for nothing",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "callbacks", "description": "For payment gateways."},
            {"name": "operators", "description": "What stands still, why, and doing something about it. A bearer token is needed; without any set up, all of it is closed."},
            {"name": "accountants", "description": "Audits and totals, with an operator's token."},
            {"name": "service", "description": "Probes, metrics and this description."},
        ],
        "paths": operations::paths(),
        "components": {
            "schemas": schemas::schemas(),
            "headers": openapi::headers(),
            "securitySchemes": {"operator": {"type": "http", "scheme": "bearer", "description": "An operator's token."}},
        },
    })
}

/// The answers of an operation: its own, and its errors by status.
fn responses(own: Value, codes: &[&str]) -> Value {
    openapi::responses(&ERRORS, own, codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sound() {
        let faults = testkit::openapi::Description::new(document()).faults();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    #[test]
    fn every_error_is_given_somewhere() {
        let text = document().to_string();
        for (_, code, _) in ERRORS.iter().filter(|(_, code, _)| !["not_found", "method_not_allowed"].contains(code)) {
            assert!(text.contains(&format!("\"{code}\"")), "{code}");
        }
    }
}
