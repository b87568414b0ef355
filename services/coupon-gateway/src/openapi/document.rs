//! The OpenAPI 3.1 document, put together from its parts. Tests hold every real answer against it.

use serde_json::{Map, Value, json};

use super::{operations, schemas};

/// Every error that can be answered: status, stable code, and what the client should make of it.
pub const ERRORS: [(u16, &str, &str); 33] = [
    (400, "invalid_fields", "Fields are missing or wrong; `errors` names all of them."),
    (400, "malformed_body", "The body is not the JSON object that is asked for."),
    (401, "unauthorized", "Who is asking could not be established."),
    (401, "token_expired", "The token was good, but its time is over; get a new one."),
    (403, "not_yours", "This belongs to another member."),
    (403, "admin_disabled", "No operator's token is set up, so the operators' interface is closed."),
    (403, "not_open", "Before the opening time, which stands in `opensAt`."),
    (403, "closed", "At or after the closing time, which stands in `closesAt` where it is known."),
    (403, "paused", "Paused by an operator; asking later may succeed."),
    (403, "ended", "Ended by an operator, for good."),
    (404, "not_found", "There is nothing at this address."),
    (404, "unknown_coupon", "No coupon has this code."),
    (404, "unknown_ticket", "This is no ticket of this service."),
    (404, "unknown_command", "No such command is known."),
    (404, "unknown_request", "The member never asked for this coupon, or the request is not known."),
    (405, "method_not_allowed", "`Allow` names the methods of this address."),
    (409, "already_defined", "The code is taken."),
    (409, "total_below_issued", "More seats than that are given already."),
    (409, "window_empty", "The coupon would close before it opens."),
    (409, "already_ended", "An ended coupon stays as it is."),
    (409, "already_decided", "The request has its final outcome."),
    (410, "sold_out", "No seat is left. One may come free again."),
    (413, "body_too_large", "The body is longer than is read."),
    (415, "unsupported_media_type", "The body must be `application/json`."),
    (429, "rate_limited", "This member or address asks too often; `Retry-After` says when to ask again."),
    (500, "internal", "A fault of this service."),
    (503, "overloaded", "A bound on work in progress is reached."),
    (503, "shutting_down", "This process is going down; ask another one."),
    (503, "log_unavailable", "Nothing was recorded, nothing is reserved."),
    (503, "append_unknown", "It is not known whether `requestId` was recorded. Asking again is safe and heals it."),
    (503, "gate_unavailable", "The reservation gate is down or cold, and this coupon is not given without it."),
    (503, "database_unavailable", "The database did not answer in time."),
    (503, "identity_unavailable", "The keys that tokens are checked with are not there yet."),
];

const INTRODUCTION: &str = "Takes requests for limited coupons and tells what became of them. 202 means that the request is in \
the log: it promises an outcome, and only `success` promises the coupon. The coupon's log decides, in its order.\n\nEvery error is \
`application/problem+json` with a stable `code`.";

/// The whole document.
#[must_use]
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trueup coupon gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "First come, first served coupons",
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "requests", "description": "Ask for a coupon and learn the outcome."},
            {"name": "coupons", "description": "What can be asked for."},
            {"name": "operators", "description": "Define and change coupons. A bearer token is needed; without any set up, all of it is closed."},
            {"name": "service", "description": "Probes, metrics and this description."},
        ],
        "paths": operations::paths(),
        "components": {
            "schemas": schemas::schemas(),
            "headers": {
                "RetryAfter": {"description": "Whole seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
                "ETag": {"description": "Names what was answered, for `If-None-Match`.", "schema": {"type": "string", "pattern": "^\".+\"$"}},
                "NoStore": {"description": "The next answer may differ.", "schema": {"const": "no-store"}},
            },
            "securitySchemes": {
                "member": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "Where identity is `jwt`: the subject is the member.",
                },
                "memberHeader": {
                    "type": "apiKey", "in": "header", "name": "X-Member-Id",
                    "description": "Where identity is `header`: set by a trusted proxy; the name is a setting.",
                },
                "operator": {"type": "http", "scheme": "bearer", "description": "An operator's token."},
            },
        },
    })
}

/// The answers of an operation: its own, and its errors by status.
pub(super) fn responses(own: Value, codes: &[&str]) -> Value {
    let mut all = match own {
        Value::Object(own) => own,
        _ => Map::new(),
    };
    for status in [400, 401, 403, 404, 409, 410, 413, 415, 429, 500, 503] {
        let of_status = |code: &&&(u16, &str, &str)| code.0 == status && codes.contains(&code.1);
        let errors: Vec<_> = ERRORS.iter().collect();
        let errors: Vec<_> = errors.iter().filter(of_status).collect();
        if !errors.is_empty() {
            all.insert(status.to_string(), problem(status, &errors));
        }
    }
    Value::Object(all)
}

fn problem(status: u16, errors: &[&&(u16, &str, &str)]) -> Value {
    let description: Vec<String> = errors.iter().map(|(_, code, text)| format!("`{code}`: {text}")).collect();
    let codes: Vec<&str> = errors.iter().map(|(_, code, _)| *code).collect();
    let mut response = json!({
        "description": description.join("\n\n"),
        "headers": no_store(),
        "content": {"application/problem+json": {"schema": {
            "$ref": "#/components/schemas/Problem",
            "properties": {"status": {"const": status}, "code": {"enum": codes}},
        }}},
    });
    if matches!(status, 429 | 503)
        && let Some(headers) = response.get_mut("headers").and_then(Value::as_object_mut)
    {
        headers.insert("Retry-After".to_owned(), json!({"$ref": "#/components/headers/RetryAfter", "required": true}));
    }
    response
}

/// The headers of an answer that must not be kept.
pub(super) fn no_store() -> Value {
    json!({"Cache-Control": {"$ref": "#/components/headers/NoStore", "required": true}})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
    use super::*;

    /// Every `$ref` in a value.
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
    fn nothing_in_it_leads_nowhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 50);
        for target in found {
            assert!(document.pointer(target.strip_prefix('#').unwrap()).is_some(), "{target}");
        }
    }

    #[test]
    fn every_operation_has_a_name_and_its_path_parameters() {
        let document = document();
        let mut names = std::collections::HashSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path}"));
                assert!(names.insert(name.to_owned()), "{name} twice");
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let in_path = parameters
                    .iter()
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap());
                let written: Vec<&str> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
                assert_eq!(in_path.collect::<Vec<_>>(), written, "{method} {path}");
            }
        }
    }

    #[test]
    fn an_error_has_one_status_and_is_described() {
        let mut codes = std::collections::HashSet::new();
        for (status, code, text) in ERRORS {
            assert!((400..600).contains(&status) && text.ends_with('.') && codes.insert(code), "{code}");
        }
    }
}
