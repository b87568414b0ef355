//! What OpenAPI documents of our services have in common: how errors are described, and the headers that go with them.

use serde_json::{Map, Value, json};

/// An error that can be answered: status, stable code, and what the client should make of it.
pub type KnownError = (u16, &'static str, &'static str);

/// `components.headers`: what [`responses`] and [`no_store`] name.
#[must_use]
pub fn headers() -> Map<String, Value> {
    let all = [
        ("RetryAfter", json!({"description": "Whole seconds to wait.", "schema": {"type": "integer", "minimum": 1}})),
        ("NoStore", json!({"description": "The next answer may differ.", "schema": {"const": "no-store"}})),
    ];
    all.into_iter().map(|(name, header)| (name.to_owned(), header)).collect()
}

/// The headers of an answer that must not be kept.
#[must_use]
pub fn no_store() -> Value {
    json!({"Cache-Control": {"$ref": "#/components/headers/NoStore", "required": true}})
}

/// The answers of an operation: its own, and by status those of `errors` whose codes it may give.
#[must_use]
pub fn responses(errors: &[KnownError], own: Value, codes: &[&str]) -> Value {
    let mut all = if let Value::Object(own) = own { own } else { Map::new() };
    let mut given: Vec<&KnownError> = errors.iter().filter(|(_, code, _)| codes.contains(code)).collect();
    given.sort_by_key(|(status, ..)| *status);
    for errors in given.chunk_by(|one, next| one.0 == next.0) {
        if let Some((status, ..)) = errors.first() {
            all.insert(status.to_string(), problem(*status, errors));
        }
    }
    Value::Object(all)
}

fn problem(status: u16, errors: &[&KnownError]) -> Value {
    let description: Vec<String> = errors.iter().map(|(_, code, text)| format!("`{code}`: {text}")).collect();
    let codes: Vec<&str> = errors.iter().map(|(_, code, _)| *code).collect();
    let mut headers = no_store();
    if matches!(status, 429 | 503)
        && let Some(headers) = headers.as_object_mut()
    {
        headers.insert("Retry-After".to_owned(), json!({"$ref": "#/components/headers/RetryAfter", "required": true}));
    }
    json!({
        "description": description.join("\n\n"),
        "headers": headers,
        "content": {"application/problem+json": {"schema": {
            "$ref": "#/components/schemas/Problem",
            "properties": {"status": {"const": status}, "code": {"enum": codes}},
        }}},
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn errors_are_described_by_status_and_only_those_that_an_operation_may_give() {
        let errors = [(503, "away", "Gone."), (404, "unknown", "None."), (503, "full", "Too much."), (400, "wrong", "Wrong.")];
        let all = responses(&errors, json!({"200": {"description": "Well."}}), &["full", "away", "unknown", "no_error_at_all"]);
        let statuses: Vec<&String> = all.as_object().into_iter().flatten().map(|(status, _)| status).collect();
        assert_eq!(statuses, ["200", "404", "503"]);
        assert_eq!(all["503"]["description"], "`away`: Gone.\n\n`full`: Too much.");
        let schema = &all["503"]["content"]["application/problem+json"]["schema"];
        assert_eq!(schema["properties"]["code"]["enum"], json!(["away", "full"]));
        let wants = |status: &str| all[status]["headers"]["Retry-After"]["required"] == true;
        assert!(wants("503") && !wants("404"));
        assert_eq!(all["404"]["headers"], no_store());
    }
}
