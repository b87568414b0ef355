//! Bodies of operators' calls; every faulty field is told at once.

use actix_web::{HttpMessage, HttpRequest, web::Payload};
use serde_json::{Map, Value};

use crate::http::{self, ApiError, FieldFault};

/// The longest body of an operator's call, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;
/// The longest reason, in characters.
const REASON_CHARS_MAX: usize = 500;

/// What an operator wants to be done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub reason: String,
    pub dry_run: bool,
    pub action: Option<String>,
    pub restock: bool,
}

/// Reads a wish; `fields` are those that this call knows besides `reason` and `dryRun`.
pub(super) async fn wish(request: &HttpRequest, payload: Payload, fields: &[&str]) -> Result<Wish, ApiError> {
    if request.content_type() != "application/json" {
        return Err(ApiError::UnsupportedMediaType);
    }
    let body = http::read(payload, BODY_BYTES_MAX).await?;
    let object: Map<String, Value> = serde_json::from_slice(&body).map_err(|error| ApiError::MalformedBody(error.to_string()))?;
    parse(&object, fields)
}

fn parse(object: &Map<String, Value>, fields: &[&str]) -> Result<Wish, ApiError> {
    let mut faults = Vec::new();
    let mut fault = |field: &'static str, problem: String| faults.push(FieldFault { field, problem });
    for name in object.keys() {
        if name != "reason" && name != "dryRun" && !fields.contains(&name.as_str()) {
            let shown: String = name.chars().take(64).collect();
            fault("body", format!("`{shown}` is not known here"));
        }
    }
    let reason = object.get("reason").and_then(Value::as_str).map(str::trim).unwrap_or_default();
    if !(1..=REASON_CHARS_MAX).contains(&reason.chars().count()) || reason.chars().any(char::is_control) {
        fault("reason", format!("give 1 to {REASON_CHARS_MAX} characters in one line; it is kept with your name"));
    }
    let mut flag = |field: &'static str| match object.get(field) {
        None => false,
        Some(Value::Bool(flag)) => *flag,
        Some(_) => {
            fault(field, "must be true or false".to_owned());
            false
        }
    };
    let (dry_run, restock) = (flag("dryRun"), flag("restock"));
    let action = object.get("action").map(|value| value.as_str().unwrap_or_default().to_owned());
    if faults.is_empty() {
        Ok(Wish { reason: reason.to_owned(), dry_run, action, restock })
    } else {
        Err(ApiError::InvalidFields(faults))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Result<Wish, Vec<&'static str>> {
        parse(&serde_json::from_str(text).unwrap(), &["action", "restock"]).map_err(|error| match error {
            ApiError::InvalidFields(faults) => faults.into_iter().map(|fault| fault.field).collect(),
            other => vec![other.parts().1],
        })
    }

    #[test]
    fn a_reason_is_needed_and_unknown_fields_are_told() {
        let wish = read(r#"{"reason":" a call of the payer ","dryRun":true,"action":"cancel","restock":true}"#).unwrap();
        assert_eq!((wish.reason.as_str(), wish.dry_run, wish.restock), ("a call of the payer", true, true));
        assert_eq!(read("{}"), Err(vec!["reason"]));
        assert_eq!(read(r#"{"reason":"x","dry-run":true}"#), Err(vec!["body"]));
        assert_eq!(read(r#"{"reason":"a\nb","dryRun":"yes","restock":1}"#), Err(vec!["reason", "dryRun", "restock"]));
    }
}
