//! What bodies look like. Answers name all of their fields, so that a field that is not described fails a test.

use domain::{
    coupon::{CommandOutcome, Refusal},
    ids::ID_CHARS_MAX,
};
use serde_json::{Value, json};

fn of(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object with exactly these fields.
fn closed(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

/// All schemas.
pub fn schemas() -> Value {
    let mut all = ids();
    for more in [requests(), coupons(), commands()] {
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
    }
    all
}

fn ids() -> Value {
    json!({
        "CouponCode": {
            "type": "string", "minLength": 1, "maxLength": ID_CHARS_MAX, "pattern": "^[^\\s{}]+$",
            "description": "Printable characters without spaces and braces.",
        },
        "MemberId": {"type": "string", "minLength": 1, "maxLength": ID_CHARS_MAX, "pattern": "^\\S+$", "description": "Printable characters without spaces."},
        "Uuid": {"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"},
        "Ticket": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$", "description": "Opaque; whoever has it can ask for the status."},
        "Time": {"type": "string", "pattern": "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{3}Z$", "description": "UTC, in milliseconds."},
        "TimeIn": {"type": "string", "format": "date-time", "description": "RFC 3339 with an offset."},
        "Problem": {
            "type": "object",
            "description": "RFC 9457. `code` is stable; `detail` is for people.",
            "properties": {
                "type": {"type": "string", "pattern": "^urn:trueup:problem:[a-z_]+$"},
                "title": {"type": "string"},
                "status": {"type": "integer", "minimum": 400, "maximum": 599},
                "code": {"type": "string", "pattern": "^[a-z_]+$"},
                "detail": {"type": "string", "minLength": 1},
                "errors": {
                    "type": "array", "minItems": 1,
                    "items": closed(json!({"field": {"type": "string"}, "problem": {"type": "string"}}), &["field", "problem"]),
                },
                "requestId": of("Uuid"), "opensAt": of("Time"), "closesAt": of("Time"),
            },
            "required": ["type", "title", "status", "code", "detail"],
            "additionalProperties": false,
        },
        "Probe": closed(json!({
            "status": {"enum": ["live", "ready", "waiting"]}, "problems": {"type": "array", "items": {"type": "string"}},
        }), &["status", "problems"]),
    })
}

/// The fields of a request's status, by its outcome, beside those that every one has.
fn by_outcome(common: &Value, required: &[&str]) -> Value {
    let variant = |own: Value, more: &[&str]| {
        let mut properties = common.clone();
        if let (Value::Object(all), Value::Object(own)) = (&mut properties, own) {
            all.extend(own);
        }
        closed(properties, &[required, &["status", "ahead"], more].concat())
    };
    let reasons: Vec<&str> = Refusal::ALL.iter().map(|reason| reason.as_str()).collect();
    json!({"oneOf": [
        variant(json!({"status": {"const": "pending"}, "ahead": {
            "type": "integer", "minimum": 0, "description": "Records that will be decided before it, at most.",
        }}), &[]),
        variant(json!({
            "status": {"const": "success"}, "ahead": {"const": 0},
            "sequence": {"type": "integer", "minimum": 1, "description": "The issue's number."}, "decidedAt": of("Time"),
        }), &["sequence", "decidedAt"]),
        variant(json!({
            "status": {"const": "failed"}, "ahead": {"const": 0}, "reason": {"enum": reasons}, "decidedAt": of("Time"),
            "issuedRequestId": {"$ref": "#/components/schemas/Uuid", "description": "Of a duplicate: the request that was issued."},
        }), &["reason", "decidedAt"]),
    ]})
}

fn requests() -> Value {
    let known = || json!({"requestId": of("Uuid"), "couponCode": of("CouponCode"), "memberId": of("MemberId")});
    let mut with_ticket = known();
    if let Some(object) = with_ticket.as_object_mut() {
        object.insert("ticket".to_owned(), of("Ticket"));
        object.insert("statusUrl".to_owned(), json!({"type": "string", "pattern": "^/v1/tickets/[A-Za-z0-9_-]+$"}));
    }
    let required = ["requestId", "couponCode", "memberId"];
    let member = json!({
        "oneOf": [of("MemberId"), {"type": "integer", "minimum": 0}], "description": "An integer is taken as its digits.",
    });
    json!({
        "CouponRequest": {
            "type": "object",
            "description": "Whoever is proven by identity may leave the member or the whole body out.",
            "properties": {"memberId": member, "userId": {"$ref": "#/components/schemas/CouponRequest/properties/memberId", "description": "Another name of memberId."}},
            "examples": [{"memberId": "user-1234"}],
        },
        "Accepted": by_outcome(&with_ticket, &[required.as_slice(), &["ticket", "statusUrl"]].concat()),
        "RequestStatus": by_outcome(&known(), &required),
        "MemberStatus": by_outcome(&with_ticket, &required),
        "MemberCoupons": closed(json!({"items": {"type": "array", "items": of("RequestStatus")}, "next": {"type": "string"}}), &["items"]),
    })
}

fn coupons() -> Value {
    let bound = |what: &str| json!({"oneOf": [of("TimeIn"), {"type": "null"}], "description": what});
    let rules = |mut object: Value| {
        if let Some(object) = object.as_object_mut() {
            object.insert("name".to_owned(), json!({"type": "string", "minLength": 1, "maxLength": contracts::NAME_CHARS_MAX}));
            object.insert("totalQuantity".to_owned(), json!({"type": "integer", "minimum": 0, "maximum": contracts::TOTAL_MAX}));
            object.insert("opensAt".to_owned(), bound("Requests before it are refused; null: open from the start."));
            object.insert("closesAt".to_owned(), bound("Requests at or after it are refused; null: open for ever."));
        }
        object
    };
    let admission =
        || json!({"enum": ["reserved", "queued"], "description": "Who judges first: the Redis gate, or the log alone."});
    json!({
        "Coupon": closed(json!({
            "code": of("CouponCode"), "name": {"type": "string"}, "admission": admission(),
            "status": {"enum": ["ACTIVE", "PAUSED", "ENDED"]},
            "totalQuantity": count(), "issuedQuantity": count(), "left": count(), "opensAt": of("Time"), "closesAt": of("Time"),
        }), &["code", "name", "admission", "status", "totalQuantity", "issuedQuantity", "left"]),
        "CouponList": closed(json!({"coupons": {"type": "array", "items": of("Coupon")}, "next": {"type": "string"}}), &["coupons"]),
        "NewCoupon": closed(rules(json!({"code": of("CouponCode"), "admission": admission()})), &["code", "admission", "totalQuantity"]),
        "CouponChanges": {
            "type": "object", "minProperties": 1, "additionalProperties": false, "properties": rules(json!({})),
            "description": "What is not there stays; null takes a bound away.",
        },
        "Cancel": closed(json!({"memberId": {"oneOf": [of("MemberId"), {"type": "integer", "minimum": 0}]}}), &["memberId"]),
    })
}

fn commands() -> Value {
    let outcomes: Vec<&str> = CommandOutcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    let pending = |required: &[&str]| {
        closed(
            json!({
                "commandId": of("Uuid"), "status": {"const": "pending"},
                "statusUrl": {"type": "string", "pattern": "^/v1/admin/commands/.+\\?partition=\\d+&offset=\\d+$"},
            }),
            required,
        )
    };
    json!({
        "CommandAccepted": closed(json!({"commandId": of("Uuid"), "status": {"const": "accepted"}, "coupon": of("Coupon")}),
            &["commandId", "status", "coupon"]),
        "CommandPending": pending(&["commandId", "status", "statusUrl"]),
        "Command": closed(json!({
            "commandId": of("Uuid"), "code": of("CouponCode"), "kind": {"enum": ["define", "change", "cancel"]},
            "actor": {"type": "string", "description": "The operator."},
            "status": {"enum": ["accepted", "refused"]}, "outcome": {"enum": outcomes},
            "partition": count(), "offset": count(), "appendedAt": of("Time"), "decidedAt": of("Time"),
            "payload": {"description": "The command as it stands in the log, for people."},
        }), &["commandId", "code", "kind", "actor", "status", "outcome", "partition", "offset", "appendedAt", "decidedAt", "payload"]),
        "CommandStatus": {"oneOf": [of("Command"), pending(&["commandId", "status"])]},
        "CommandList": closed(json!({"commands": {"type": "array", "items": of("Command")}, "next": {"type": "string"}}), &["commands"]),
    })
}
