//! The OpenAPI 3.1 document, put together from its parts. Tests hold every real answer against it.

use serde_json::{Value, json};
use service_kit::openapi;

use super::{operations, schemas};

/// Every error that can be answered: status, stable code, and what the client should make of it.
pub const ERRORS: [openapi::KnownError; 33] = [
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

fn headers() -> Value {
    let mut headers = openapi::headers();
    headers.insert(
        "ETag".to_owned(),
        json!({"description": "Names what was answered, for `If-None-Match`.", "schema": {"type": "string", "pattern": "^\".+\"$"}}),
    );
    Value::Object(headers)
}

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
            "headers": headers(),
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
    fn an_error_has_one_status_and_is_described() {
        let mut codes = std::collections::HashSet::new();
        for (status, code, text) in ERRORS {
            assert!((400..600).contains(&status) && text.ends_with('.') && codes.insert(code), "{code}");
        }
    }
}
