//! Every address and method.

use serde_json::{Value, json};
use service_kit::openapi::no_store;

use super::document::responses;

const ASKER: [&str; 5] = ["unauthorized", "token_expired", "rate_limited", "identity_unavailable", "internal"];
const OPERATOR: [&str; 6] =
    ["unauthorized", "admin_disabled", "rate_limited", "database_unavailable", "invalid_fields", "internal"];
/// What any command may meet on its way through the log.
const COMMAND: [&str; 3] = ["log_unavailable", "append_unknown", "overloaded"];

fn with(base: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    [base, more].concat()
}

fn json_of(description: &str, schema: &str) -> Value {
    json!({
        "description": description,
        "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}},
    })
}

/// An answer that must not be kept.
fn fresh(description: &str, schema: &str) -> Value {
    let mut response = json_of(description, schema);
    if let Some(object) = response.as_object_mut() {
        object.insert("headers".to_owned(), no_store());
    }
    response
}

/// An answer that may be kept, and asked for again by its name: 200 and 304.
fn named(mut response: Value) -> Value {
    let headers = json!({"ETag": {"$ref": "#/components/headers/ETag", "required": true}});
    if let Some(object) = response.as_object_mut() {
        object.insert("headers".to_owned(), headers.clone());
    }
    json!({"200": response, "304": {"description": "It is still what `If-None-Match` names.", "headers": headers}})
}

fn if_none_match() -> Value {
    json!({"name": "If-None-Match", "in": "header", "description": "The `ETag` of the answer before.", "schema": {"type": "string"}})
}

fn in_path(name: &str, schema: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": description,
        "schema": {"$ref": format!("#/components/schemas/{schema}")},
    })
}

fn code() -> Value {
    in_path("code", "CouponCode", "The coupon's code.")
}

fn page_parameters() -> [Value; 2] {
    [
        json!({"name": "limit", "in": "query", "description": "The longest page.", "schema": {"type": "integer", "minimum": 1, "default": 50}}),
        json!({"name": "after", "in": "query", "description": "`next` of the page before.", "schema": {"type": "string"}}),
    ]
}

fn idempotency_key(description: &str) -> Value {
    json!({
        "name": "Idempotency-Key", "in": "header", "description": description,
        "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[\\x20-\\x7e]+$"},
    })
}

fn body(schema: &str, required: bool) -> Value {
    json!({"required": required, "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}}})
}

/// Members may be asked to prove who they are, by the service's settings.
fn member_security() -> Value {
    json!([{}, {"member": []}, {"memberHeader": []}])
}

/// All paths.
pub fn paths() -> Value {
    let mut all = members();
    for more in [operators(), service()] {
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
    }
    all
}

fn members() -> Value {
    let ticket = || in_path("ticket", "Ticket", "As the 202 gave it.");
    let member = || in_path("memberId", "MemberId", "The member.");
    let [limit, after] = page_parameters();
    let reading = with(&ASKER, &["database_unavailable", "overloaded"]);
    json!({
        "/v1/coupons/{code}/requests": {"post": {
            "operationId": "requestCoupon", "tags": ["requests"], "security": member_security(),
            "summary": "Ask for a coupon",
            "description": "Of a reserved coupon, the same member gets his existing request. Of a queued coupon every request is a new one unless it carries the same `Idempotency-Key`.",
            "parameters": [code(), idempotency_key("The same key of the same member is the same request.")],
            "requestBody": body("CouponRequest", false),
            "responses": responses(json!({"202": {
                "description": "The request is in the log, or in the ledger already.",
                "headers": {"Cache-Control": {"$ref": "#/components/headers/NoStore", "required": true},
                    "traceparent": {"description": "The trace of this request.", "required": true, "schema": {"type": "string"}}},
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Accepted"}}},
            }}), &with(&ASKER, &[
                "invalid_fields", "malformed_body", "not_yours", "not_open", "closed", "paused", "ended", "unknown_coupon",
                "sold_out", "body_too_large", "unsupported_media_type", "overloaded", "shutting_down", "log_unavailable",
                "append_unknown", "gate_unavailable", "database_unavailable",
            ])),
        }},
        "/v1/tickets/{ticket}": {"get": {
            "operationId": "ticketStatus", "tags": ["requests"], "security": member_security(),
            "summary": "What became of a request", "parameters": [ticket()],
            "responses": responses(json!({"200": fresh("Its status.", "RequestStatus")}),
                &with(&reading, &["invalid_fields", "not_yours", "unknown_ticket"])),
        }},
        "/v1/tickets/{ticket}/events": {"get": {
            "operationId": "ticketEvents", "tags": ["requests"], "security": member_security(),
            "summary": "The same as server-sent events",
            "description": "One event `status` at once and one for each change; its data is a RequestStatus. The stream ends with the outcome or after a bounded time; while the database does not answer, it is silent.",
            "parameters": [ticket()],
            "responses": responses(json!({"200": {
                "description": "The stream.", "content": {"text/event-stream": {"schema": {"type": "string"}}},
                "headers": no_store(),
            }}), &with(&ASKER, &["invalid_fields", "not_yours", "unknown_ticket", "overloaded"])),
        }},
        "/v1/coupons/{code}/members/{memberId}": {"get": {
            "operationId": "memberStatus", "tags": ["requests"], "security": member_security(),
            "summary": "A member's issue of a coupon, else his newest request", "parameters": [code(), member()],
            "responses": responses(json!({"200": fresh("Its status.", "MemberStatus")}),
                &with(&reading, &["invalid_fields", "not_yours", "unknown_coupon", "unknown_request"])),
        }},
        "/v1/members/{memberId}/coupons": {"get": {
            "operationId": "memberCoupons", "tags": ["requests"], "security": member_security(),
            "summary": "All that a member asked for and that is decided", "parameters": [member(), limit, after],
            "responses": responses(json!({"200": fresh("A page.", "MemberCoupons")}), &with(&ASKER, &["invalid_fields", "not_yours", "database_unavailable"])),
        }},
        "/v1/coupons/{code}": {"get": {
            "operationId": "coupon", "tags": ["coupons"], "summary": "A coupon, at most about half a second old", "parameters": [code(), if_none_match()],
            "responses": responses(named(json_of("The coupon.", "Coupon")), &["invalid_fields", "unknown_coupon", "rate_limited", "database_unavailable", "overloaded", "internal"]),
        }},
    })
}

fn command(
    id: &str,
    summary: &str,
    parameters: &[Value],
    request: Option<Value>,
    accepted: u16,
    codes: &[&'static str],
) -> Value {
    let mut parameters = parameters.to_vec();
    parameters
        .push(idempotency_key("The same key of the same operator at the same address is the same command, whatever its body."));
    let mut codes = with(&with(&OPERATOR, &COMMAND), codes);
    let mut own = json!({"202": fresh("It is in the log and not decided yet; ask at `statusUrl`.", "CommandPending")});
    if let Some(own) = own.as_object_mut() {
        own.insert(accepted.to_string(), fresh("Decided and done.", "CommandAccepted"));
    }
    let mut operation = json!({
        "operationId": id, "tags": ["operators"], "security": [{"operator": []}], "summary": summary, "parameters": parameters,
    });
    if let Some(object) = operation.as_object_mut() {
        if let Some(request) = request {
            object.insert("requestBody".to_owned(), request);
            codes.extend(["malformed_body", "body_too_large", "unsupported_media_type"]);
        }
        object.insert("responses".to_owned(), responses(own, &codes));
    }
    operation
}

fn reading(id: &str, summary: &str, parameters: &[Value], own: Value, codes: &[&'static str]) -> Value {
    json!({
        "operationId": id, "tags": ["operators"], "security": [{"operator": []}], "summary": summary, "parameters": parameters,
        "responses": responses(json!({"200": own}), &with(&OPERATOR, codes)),
    })
}

fn operators() -> Value {
    let [limit, after] = page_parameters();
    let pages = [limit, after];
    let changed = ["unknown_coupon", "already_ended"];
    let place =
        |name: &str| json!({"name": name, "in": "query", "description": "As the 202 named it.", "schema": {"type": "integer"}});
    let history: Vec<Value> = [vec![code()], pages.to_vec()].concat();
    let request = in_path("requestId", "Uuid", "The request, which is not decided yet.");
    json!({
        "/v1/admin/coupons": {
            "get": reading("listCoupons", "All coupons by code", &pages, fresh("A page.", "CouponList"), &[]),
            "post": command("defineCoupon", "Define a coupon", &[], Some(body("NewCoupon", true)), 201, &["already_defined"]),
        },
        "/v1/admin/coupons/{code}": {
            "get": reading("showCoupon", "A coupon as it is now", &[code()], fresh("The coupon.", "Coupon"), &["unknown_coupon"]),
            "patch": command("changeCoupon", "Change name, window or total", &[code()], Some(body("CouponChanges", true)), 200,
                &with(&changed, &["total_below_issued", "window_empty"])),
        },
        "/v1/admin/coupons/{code}/pause": {"post": command("pauseCoupon", "Pause: newcomers are refused", &[code()], None, 200, &changed)},
        "/v1/admin/coupons/{code}/resume": {"post": command("resumeCoupon", "Resume a paused coupon", &[code()], None, 200, &changed)},
        "/v1/admin/coupons/{code}/end": {"post": command("endCoupon", "End it, for good", &[code()], None, 200, &changed)},
        "/v1/admin/coupons/{code}/requests/{requestId}/cancel": {"post": command("cancelRequest",
            "Cancel a request that is not decided yet", &[code(), request], Some(body("Cancel", true)), 200,
            &["unknown_coupon", "already_decided"])},
        "/v1/admin/coupons/{code}/commands": {
            "get": reading("couponHistory", "Who did what, when, and what became of it", &history, fresh("A page.", "CommandList"), &["unknown_coupon"]),
        },
        "/v1/admin/commands/{commandId}": {"get": reading("commandStatus", "What became of a command",
            &[in_path("commandId", "Uuid", "The command."), place("partition"), place("offset")],
            fresh("The command.", "CommandStatus"), &["unknown_command"])},
    })
}

fn service() -> Value {
    let get = |id: &str, summary: &str, own: Value| json!({"get": {"operationId": id, "tags": ["service"], "summary": summary, "responses": own}});
    let text =
        |media_type: &str| json!({"200": {"description": "The text.", "content": {media_type: {"schema": {"type": "string"}}}}});
    let probe = || json!({"200": fresh("All is well.", "Probe"), "503": fresh("`problems` says why not.", "Probe")});
    json!({
        "/health/live": get("live", "Whether the process gets on", probe()),
        "/health/ready": get("ready", "Whether it takes requests", probe()),
        "/metrics": get("metrics", "Prometheus metrics", text("text/plain")),
        "/openapi.json": get("openapi", "This description", named(json!({
            "description": "OpenAPI 3.1.", "content": {"application/json": {"schema": {"type": "object", "required": ["openapi", "paths"]}}},
        }))),
        "/docs": get("docs", "A page to read it", text("text/html")),
    })
}
