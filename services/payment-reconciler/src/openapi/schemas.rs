//! What bodies look like. Answers name all of their fields, so that a field that is not described fails a test.

use serde_json::{Map, Value, json};

use crate::audit::VERDICTS;

fn of(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list(name: &str) -> Value {
    json!({"type": "array", "items": of(name)})
}

/// An object with exactly these fields, all of them there.
fn exactly(properties: Value) -> Value {
    let required: Vec<Value> = properties.as_object().map(Map::keys).into_iter().flatten().map(|name| json!(name)).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// An object with exactly these fields; those that are named have to be there.
fn asked(properties: &Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn maybe(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn maybe_time() -> Value {
    json!({"type": ["string", "null"], "format": "date-time"})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn currency() -> Value {
    json!({"type": "string", "pattern": "^[A-Z]{3}$"})
}

/// All schemas.
pub(super) fn schemas() -> Value {
    let mut all = basics();
    for more in [orders(), refunds(), reports()] {
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
    }
    all
}

fn basics() -> Value {
    let reason = json!({"type": "string", "minLength": 1, "maxLength": 500, "description": "Kept with the operator's name."});
    json!({
        "Anything": {"type": "object"},
        "Problem": asked(&json!({
            "type": {"type": "string", "pattern": "^urn:trueup:problem:[a-z_]+$"},
            "title": text(),
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "code": {"type": "string", "pattern": "^[a-z_]+$"},
            "detail": {"type": "string", "minLength": 1},
            "errors": {"type": "array", "minItems": 1, "items": exactly(json!({"field": text(), "problem": text()}))},
        }), &["type", "title", "status", "code", "detail"]),
        "Probe": exactly(json!({"status": {"enum": ["live", "ready", "waiting"]}, "problems": {"type": "array", "items": text()}})),
        "CallbackTaken": exactly(json!({"status": {
            "enum": ["stored", "waiting", "repeated", "ignored"],
            "description": "`waiting`: its payment is not known yet. `ignored`: it is about nothing that is looked after here.",
        }})),
        "Wish": asked(&json!({"reason": reason, "dryRun": flag()}), &["reason"]),
        "ResolveWish": asked(&json!({
            "reason": reason, "dryRun": flag(),
            "action": {"enum": ["settle", "cancel"], "description": "`settle`: do what the gateway's answer says. `cancel`: give the money of a completed order back."},
            "restock": {"type": "boolean", "description": "Whether the pieces go back to stock when the order is cancelled."},
        }), &["reason", "action"]),
    })
}

fn order_fields() -> Value {
    json!({
        "orderId": text(), "state": {"enum": ["PENDING", "COMPLETED", "FAILED", "CANCELLED"]}, "reason": maybe("string"),
        "amount": count(), "currency": currency(), "createdAt": time(), "receivedAt": time(), "updatedAt": time(),
        "payments": list("Payment"),
    })
}

fn orders() -> Value {
    let mut full = order_fields();
    if let (Some(full), Value::Object(more)) = (
        full.as_object_mut(),
        json!({
            "lines": {"type": "array", "items": exactly(json!({"productId": text(), "quantity": count(), "stock": maybe("integer")}))},
            "refunds": list("Refund"),
            "money": {"type": "array", "items": exactly(json!({
                "paymentId": text(), "kind": {"enum": ["capture", "capture_reversed", "refund", "reversal"]}, "transactionId": text(), "amount": count(),
                "currency": currency(), "at": maybe_time(), "recordedAt": time(), "actor": text(),
            }))},
            "callbacks": count(),
            "actions": {"type": "array", "items": exactly(json!({
                "actor": text(), "action": text(), "target": text(), "reason": text(), "outcome": text(), "at": time(),
            }))},
        }),
    ) {
        full.extend(more);
    }
    json!({
        "Payment": exactly(json!({
            "paymentId": text(), "provider": text(), "reference": text(), "method": text(),
            "state": {"enum": ["PENDING", "SUCCESS", "FAILED", "REFUNDING", "REFUNDED"]},
            "nextCheckAt": maybe_time(), "hintedAt": maybe_time(), "checks": count(), "failedChecks": count(), "checkedAt": maybe_time(),
            "answeredAt": maybe_time(), "lastStatus": maybe("string"), "lastError": maybe("string"), "expiresAt": maybe_time(),
            "sweepUntil": maybe_time(), "attention": maybe("string"), "attentionSince": maybe_time(),
        })),
        "Order": exactly(order_fields()),
        "OrderInFull": exactly(full),
        "OrderPage": exactly(json!({"orders": list("Order"), "next": maybe("string")})),
        "Retried": asked(&json!({
            "dryRun": flag(), "orderId": text(), "due": {"type": "array", "items": text()}, "why": text(), "payments": list("Resolution"),
        }), &["dryRun", "orderId", "due", "why"]),
        "Resolution": asked(&json!({
            "paymentId": text(), "state": text(), "gatewaySays": text(), "would": text(), "outcome": text(),
        }), &["paymentId", "state"]),
        "Resolved": exactly(json!({
            "dryRun": flag(), "orderId": text(),
            "payments": {"type": "array", "minItems": 1, "items": of("Resolution")},
            "order": {"anyOf": [of("OrderInFull"), {"type": "null"}]},
        })),
    })
}

fn refunds() -> Value {
    json!({
        "Refund": exactly(json!({
            "refundId": text(), "paymentId": text(), "orderId": text(), "provider": text(), "amount": count(), "currency": currency(),
            "reason": text(), "actor": text(), "automatic": flag(), "restock": flag(),
            "state": {"enum": ["REQUESTED", "SENDING", "ACCEPTED", "MANUAL", "CONFIRMED"]}, "attempt": count(), "sends": count(),
            "gatewayRefundId": maybe("string"), "held": flag(), "heldReason": maybe("string"), "heldBy": maybe("string"),
            "createdAt": time(), "confirmedAt": maybe_time(), "lastError": maybe("string"), "attention": maybe("string"),
        })),
        "RefundPage": exactly(json!({"refunds": list("Refund"), "next": maybe("string")})),
        "RefundChange": exactly(json!({"dryRun": flag(), "would": flag(), "why": text(), "refund": of("Refund")})),
    })
}

fn reports() -> Value {
    let verdict = json!({"enum": VERDICTS});
    json!({
        "Runs": exactly(json!({"runs": {"type": "array", "items": exactly(json!({
            "runId": count(), "startedAt": time(), "finishedAt": time(), "found": count(), "asked": count(), "looked": count(),
            "settled": count(), "failed": count(), "waiting": count(), "refunded": count(), "attention": count(), "errors": count(), "durationMs": count(),
            "interrupted": flag(),
        }))}})),
        "Callbacks": exactly(json!({"callbacks": {"type": "array", "items": exactly(json!({
            "provider": text(), "reference": text(), "eventId": text(), "authenticated": flag(), "times": count(), "receivedAt": time(),
            "lastReceivedAt": time(), "attentionSince": maybe_time(),
        }))}})),
        "Difference": exactly(json!({
            "kind": {"enum": ["orphan", "refund_elsewhere", "not_in_book", "amount_differs", "not_at_gateway"]},
            "reference": text(), "transactionId": text(), "gatewayAmount": maybe("integer"), "bookAmount": maybe("integer"),
            "currency": currency(),
        })),
        "Audits": exactly(json!({"audits": {"type": "array", "items": exactly(json!({
            "auditId": count(), "provider": text(), "from": time(), "to": time(), "verdict": verdict, "reason": maybe("string"), "compared": count(),
            "confirmed": count(), "leftOut": count(), "settledBy": maybe("string"),
            "differences": list("Difference"), "actor": text(), "startedAt": time(), "finishedAt": time(),
        }))}})),
        "AuditReports": exactly(json!({"audits": {"type": "array", "minItems": 1, "items": exactly(json!({
            "provider": text(), "from": time(), "to": time(), "verdict": verdict, "reason": maybe("string"), "compared": count(),
            "confirmed": count(), "leftOut": count(), "settledBy": time(), "differences": list("Difference"), "differencesTotal": count(), "actor": text(), "startedAt": time(),
        }))}})),
        "Totals": exactly(json!({"totals": {"type": "array", "items": exactly(json!({
            "provider": text(), "currency": currency(), "captures": count(), "captured": text(), "refunds": count(), "refunded": text(),
            "reversals": count(), "reversed": text(), "net": text(),
        }))}})),
    })
}
