//! The description of the HTTP interface, at `/openapi.json`. Tests hold every real answer against it.

mod operations;
mod schemas;

use actix_web::{HttpResponse, ResponseError, http::header, web};
use serde_json::{Map, Value, json};

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
            "headers": {"RetryAfter": {"description": "Whole seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
            "securitySchemes": {"operator": {"type": "http", "scheme": "bearer", "description": "An operator's token."}},
        },
    })
}

/// The answers of an operation: its own, and its errors by status.
fn responses(own: Value, codes: &[&str]) -> Value {
    let mut all = if let Value::Object(own) = own { own } else { Map::new() };
    for status in [400, 401, 403, 404, 409, 413, 415, 429, 500, 503] {
        let errors: Vec<_> = ERRORS.iter().filter(|(of, code, _)| *of == status && codes.contains(code)).collect();
        if !errors.is_empty() {
            all.insert(status.to_string(), problem(status, &errors));
        }
    }
    Value::Object(all)
}

fn problem(status: u16, errors: &[&(u16, &str, &str)]) -> Value {
    let description: Vec<String> = errors.iter().map(|(_, code, text)| format!("`{code}`: {text}")).collect();
    let codes: Vec<&str> = errors.iter().map(|(_, code, _)| *code).collect();
    let mut response = json!({
        "description": description.join("\n\n"),
        "content": {"application/problem+json": {"schema": {
            "$ref": "#/components/schemas/Problem",
            "properties": {"status": {"const": status}, "code": {"enum": codes}},
        }}},
    });
    if matches!(status, 429 | 503)
        && let Some(object) = response.as_object_mut()
    {
        object
            .insert("headers".to_owned(), json!({"Retry-After": {"$ref": "#/components/headers/RetryAfter", "required": true}}));
    }
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
    use super::*;

    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    match (name.as_str(), value.as_str()) {
                        ("$ref", Some(target)) => found.push(target.to_owned()),
                        _ => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn nothing_in_it_leads_nowhere_and_every_operation_names_its_path() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 30);
        for target in found {
            assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
        }
        let mut names = std::collections::HashSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}: a name twice");
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let in_path = parameters.iter().filter(|one| one["in"] == "path").map(|one| one["name"].as_str().unwrap());
                let written: Vec<&str> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
                assert_eq!(in_path.collect::<Vec<_>>(), written, "{method} {path}");
            }
        }
    }

    #[test]
    fn every_error_is_given_somewhere() {
        let text = document().to_string();
        for (_, code, _) in ERRORS.iter().filter(|(_, code, _)| !["not_found", "method_not_allowed"].contains(code)) {
            assert!(text.contains(&format!("\"{code}\"")), "{code}");
        }
    }
}
