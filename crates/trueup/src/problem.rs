//! What a service refuses, told to an operator, and how a command ends then.

use reqwest::StatusCode;
use serde_json::Value;

use crate::{exit::Exit, output};

/// How a command ends by this answer: what a service could not do was not refused, it cannot be told.
pub(crate) fn exit(status: StatusCode) -> Exit {
    match status {
        _ if status.is_success() => Exit::Done,
        _ if status.is_server_error() => Exit::CannotTell,
        _ => Exit::Difference,
    }
}

/// Says on standard error what was wrong, field by field; `tokens` is the service's setting that holds the operators' tokens.
pub(crate) fn tell(status: StatusCode, answer: &Value, tokens: &str) {
    eprint!("{}", text(status, answer, tokens));
}

fn text(status: StatusCode, answer: &Value, tokens: &str) -> String {
    let part = |of: &Value, name: &str| of.get(name).map(output::plain).unwrap_or_default();
    let hint = match status.as_u16() {
        401 | 403 => format!("; set TRUEUP__ADMIN__TOKEN to a token of {tokens}"),
        _ => String::new(),
    };
    let mut text = format!("trueup: {} ({}, {}){hint}\n", part(answer, "detail"), part(answer, "code"), status.as_u16());
    for fault in answer.get("errors").and_then(Value::as_array).into_iter().flatten() {
        text.push_str(&format!("  {} {}\n", part(fault, "field"), part(fault, "problem")));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_refused_differs_from_what_cannot_be_told() {
        let exit = |status: u16| exit(StatusCode::from_u16(status).unwrap());
        assert_eq!([200, 202, 409, 404, 401, 503, 500].map(exit).map(Exit::code), [0, 0, 1, 1, 1, 2, 2]);
    }

    #[test]
    fn every_field_is_named_and_a_missing_token_has_its_setting() {
        let answer = json!({ "detail": "it is faulty", "code": "invalid", "errors": [{ "field": "total", "problem": "is 0" }] });
        assert_eq!(text(StatusCode::BAD_REQUEST, &answer, "TOKENS"), "trueup: it is faulty (invalid, 400)\n  total is 0\n");
        let closed = text(StatusCode::UNAUTHORIZED, &json!({ "detail": "who are you", "code": "unauthorized" }), "TOKENS");
        assert_eq!(closed, "trueup: who are you (unauthorized, 401); set TRUEUP__ADMIN__TOKEN to a token of TOKENS\n");
    }
}
