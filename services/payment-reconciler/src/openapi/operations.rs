//! Every address and method.

use serde_json::{Value, json};

use super::responses;
use crate::audit::VERDICTS;

const OPERATOR: [&str; 5] = ["unauthorized", "admin_disabled", "rate_limited", "internal", "database_unavailable"];
const WISH: [&str; 4] = ["invalid_fields", "malformed_body", "body_too_large", "unsupported_media_type"];

fn with(base: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    [base, more].concat()
}

fn ok(description: &str, schema: &str) -> Value {
    json!({"200": {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}},
    }})
}

fn text(description: &str, media_type: &str) -> Value {
    json!({"200": {"description": description, "content": {media_type: {"schema": {"type": "string"}}}}})
}

fn in_path(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description,
        "schema": {"type": "string", "minLength": 1, "maxLength": 64}})
}

fn in_query(name: &str, required: bool, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "required": required, "description": description, "schema": schema})
}

fn limit() -> Value {
    in_query("limit", false, "The longest page.", &json!({"type": "integer", "minimum": 1, "default": 50}))
}

fn after() -> Value {
    in_query("after", false, "`next` of the page before.", &json!({"type": "string"}))
}

fn span() -> [Value; 2] {
    let time = json!({"type": "string", "format": "date-time"});
    [in_query("from", true, "From this moment.", &time), in_query("to", true, "To just before this one.", &time)]
}

fn body(schema: &str) -> Value {
    json!({"required": true, "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}}})
}

fn get(id: &str, summary: &str, tag: &str, parameters: &[Value], responses: &Value) -> Value {
    json!({"operationId": id, "tags": [tag], "summary": summary, "security": [{"operator": []}], "parameters": parameters, "responses": responses})
}

/// All paths.
pub(super) fn paths() -> Value {
    let mut all = operators();
    for more in [accountants(), others()] {
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
    }
    all
}

fn operators() -> Value {
    let order = || in_path("orderId", "The order.");
    let refund = || in_path("refundId", "The refund.");
    let post = |id: &str, summary: &str, parameter: Value, wish: &str, responses: Value| {
        json!({"post": {
            "operationId": id, "tags": ["operators"], "summary": summary, "security": [{"operator": []}],
            "description": "With `dryRun`, nothing is changed, and the answer says what would be done and why. Name, time and reason are kept.",
            "parameters": [parameter], "requestBody": body(wish), "responses": responses,
        }})
    };
    let state = in_query("state", false, "Which.", &json!({"enum": ["open", "held", "manual", "all"], "default": "open"}));
    let refund_answers = || {
        responses(
            ok("What was done, or would be.", "RefundChange"),
            &with(&with(&OPERATOR, &WISH), &["unknown_refund", "refused"]),
        )
    };
    json!({
        "/v1/admin/orders": {"get": get("staleOrders", "Orders that stand still, the oldest first", "operators", &[limit(), after()],
            &responses(ok("A page.", "OrderPage"), &with(&OPERATOR, &["invalid_fields"])))},
        "/v1/admin/orders/{orderId}": {"get": get("showOrder", "An order with everything around it", "operators", &[order()],
            &responses(ok("The order.", "OrderInFull"), &with(&OPERATOR, &["invalid_fields", "unknown_order"])))},
        "/v1/admin/orders/{orderId}/retry": post("retryOrder", "Ask about its payments ahead of everything else", order(), "Wish",
            responses(ok("What is due.", "Retried"), &with(&with(&OPERATOR, &WISH), &["unknown_order", "refused"]))),
        "/v1/admin/orders/{orderId}/resolve": post("resolveOrder", "Ask the gateway, then do what the tables of states allow", order(), "ResolveWish",
            responses(ok("What was done, or would be.", "Resolved"),
                &with(&with(&OPERATOR, &WISH), &["unknown_order", "refused", "busy", "gateway_unavailable", "gateway_busy", "gateway_paused"]))),
        "/v1/admin/refunds": {"get": get("refunds", "Refunds, the oldest first", "operators", &[limit(), after(), state],
            &responses(ok("A page.", "RefundPage"), &with(&OPERATOR, &["invalid_fields"])))},
        "/v1/admin/refunds/{refundId}/hold": post("holdRefund", "Keep it from being sent", refund(), "Wish", refund_answers()),
        "/v1/admin/refunds/{refundId}/release": post("releaseRefund", "Let it be sent, or tried again", refund(), "Wish", refund_answers()),
        "/v1/admin/runs": {"get": get("runs", "Reports of runs, the newest first", "operators", &[limit()],
            &responses(ok("The newest.", "Runs"), &with(&OPERATOR, &["invalid_fields"])))},
        "/v1/admin/callbacks": {"get": get("unknownCallbacks", "Callbacks about payments that are not known", "operators", &[limit()],
            &responses(ok("Those that an operator should look at first.", "Callbacks"), &with(&OPERATOR, &["invalid_fields"])))},
    })
}

fn accountants() -> Value {
    let [from, to] = span();
    let provider = in_query("provider", false, "One gateway; all without it.", &json!({"type": "string"}));
    let settling = in_query(
        "settlingMinutes",
        false,
        "What moved in the last so many minutes is left out, because it may not have been settled yet; as the settings say without it, and 0 where all is \
         known to be at rest.",
        &json!({"type": "integer", "minimum": 0, "maximum": 1440}),
    );
    let verdict = in_query("verdict", false, "Only with this verdict.", &json!({"enum": VERDICTS}));
    let mut audits = json!({"get": get("audits", "Reports of audits, the newest first", "accountants", &[limit(), provider.clone(), verdict],
        &responses(ok("The newest.", "Audits"), &with(&OPERATOR, &["invalid_fields"])))});
    if let Some(object) = audits.as_object_mut() {
        let audit = get(
            "audit",
            "Compare a gateway's transaction list with the book, now",
            "accountants",
            &[provider, from.clone(), to.clone(), settling],
            &responses(ok("What was found.", "AuditReports"), &with(&OPERATOR, &["invalid_fields", "unknown_provider", "busy"])),
        );
        object.insert("post".to_owned(), audit);
    }
    json!({
        "/v1/admin/audits": audits,
        "/v1/admin/totals": {"get": get("totals", "What moved, by gateway and currency", "accountants", &[from, to],
            &responses(ok("The totals.", "Totals"), &with(&OPERATOR, &["invalid_fields"])))},
    })
}

fn others() -> Value {
    let open = |id: &str, summary: &str, responses: Value| json!({"get": {"operationId": id, "tags": ["service"], "summary": summary, "responses": responses}});
    let probe = |what: &str| {
        let mut both = ok(what, "Probe");
        if let (Some(object), Value::Object(other)) = (both.as_object_mut(), ok("Not now; `problems` says why.", "Probe")) {
            object.extend(other.into_iter().map(|(_, response)| ("503".to_owned(), response)));
        }
        both
    };
    json!({
        "/v1/payments/callbacks/{provider}": {"post": {
            "operationId": "callback", "tags": ["callbacks"], "summary": "A hint that something became of a payment",
            "description": "In the gateway's own format, signed as the gateway signs. It is stored before it is answered, and makes its payment due. Repeats and any order are harmless. An unsigned one is answered the same whether its payment is known or not.",
            "parameters": [in_path("provider", "The merchant account, by the name that the settings give it.")],
            "requestBody": {"required": true, "content": {"application/json": {"schema": {"type": "object"}}}},
            "responses": responses(ok("It is taken.", "CallbackTaken"),
                &["invalid_fields", "malformed_body", "bad_signature", "unknown_provider", "body_too_large", "rate_limited", "internal", "database_unavailable"]),
        }},
        "/openapi.json": open("openapi", "This description", ok("The document.", "Anything")),
        "/health/live": open("live", "Whether the process gets on", probe("It does.")),
        "/health/ready": open("ready", "Whether the process can work", probe("It can.")),
        "/metrics": open("metrics", "Metrics in Prometheus' text format", text("The metrics.", "text/plain")),
    })
}
