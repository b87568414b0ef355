//! Holds answers of a running service against its OpenAPI document: status, headers, content type and body.
#![allow(clippy::indexing_slicing, reason = "what a document does not have is null")]

use std::collections::BTreeSet;

use jsonschema::Draft;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// An OpenAPI 3.1 document that answers are held against.
#[derive(Debug, Clone)]
pub struct Description(Value);

/// Every `$ref` in a value.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match (name.as_str(), value.as_str()) {
                    ("$ref", Some(target)) => found.push(target),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// An answer as it came.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body.
    pub text: &'a str,
}

impl Description {
    /// Answers are held against this document.
    #[must_use]
    pub const fn new(document: Value) -> Self {
        Self(document)
    }

    /// The document.
    #[must_use]
    pub const fn document(&self) -> &Value {
        &self.0
    }

    /// What is wrong with the document itself: a reference that leads nowhere, an operation without a name of its own, a path whose
    /// parameters are not those that it is described with.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut targets = Vec::new();
        references(&self.0, &mut targets);
        let leads_nowhere = |target: &&str| target.strip_prefix('#').is_none_or(|place| self.0.pointer(place).is_none());
        let mut found: Vec<String> =
            targets.into_iter().filter(leads_nowhere).map(|target| format!("{target} leads nowhere")).collect();
        let mut names = BTreeSet::new();
        for (path, item) in self.0["paths"].as_object().into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                match operation["operationId"].as_str() {
                    Some(name) if names.insert(name) => {}
                    Some(name) => found.push(format!("{method} {path}: {name} stands twice")),
                    None => found.push(format!("{method} {path} has no name")),
                }
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let described: Vec<&str> =
                    parameters.filter(|one| one["in"] == "path").filter_map(|one| one["name"].as_str()).collect();
                let written: Vec<&str> = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
                if described != written {
                    found.push(format!("{method} {path}: described with {described:?}"));
                }
            }
        }
        if names.is_empty() {
            found.push("no operation is described".to_owned());
        }
        found
    }

    /// The described path that an address belongs to, and its operations by method. A path that is described as it stands goes before
    /// one with parameters.
    #[must_use]
    pub fn path(&self, address: &str) -> Option<(&str, &Value)> {
        let address = address.split('?').next().unwrap_or_default();
        let parts: Vec<&str> = address.split('/').collect();
        let fits = |template: &str| {
            let template: Vec<&str> = template.split('/').collect();
            template.len() == parts.len()
                && template.iter().zip(&parts).all(|(a, b)| a == b || (a.starts_with('{') && !b.is_empty()))
        };
        let mut paths = self.0["paths"].as_object().into_iter().flatten().map(|(path, item)| (path.as_str(), item));
        paths.clone().find(|(path, _)| *path == address).or_else(|| paths.find(|(path, _)| fits(path)))
    }

    /// What is not as described; nothing if all is. An address that is not described may answer 404, and one that does not take the
    /// method 405 with `Allow`.
    #[must_use]
    pub fn deviations(&self, method: &str, address: &str, answer: Answered<'_>) -> Vec<String> {
        let of = format!("{method} {address} → {}", answer.status);
        let problem = |status: u16| {
            let schema = json!({"$ref": "#/components/schemas/Problem", "properties": {"status": {"const": status}}});
            json!({"content": {"application/problem+json": {"schema": schema}}})
        };
        let response = match self.path(address).map(|(_, item)| &item[method.to_lowercase()]) {
            None if answer.status == 404 => problem(404),
            None => return vec![format!("{of}: the path is not described")],
            Some(Value::Null) if answer.status == 405 && answer.headers.contains_key("allow") => problem(405),
            Some(operation) => match &operation["responses"][answer.status.to_string()] {
                Value::Null => return vec![format!("{of}: the status is not described; the body is {}", answer.text)],
                response => response.clone(),
            },
        };
        let mut found = self.header_deviations(&of, &response, answer.headers);
        if answer.status == 401 && !answer.headers.contains_key("www-authenticate") {
            found.push(format!("{of}: without WWW-Authenticate"));
        }
        // Whether it is described or not; a probe is asked again anyway.
        let problem = answer.headers.get("content-type").is_some_and(|value| value == "application/problem+json");
        if problem && matches!(answer.status, 429 | 503) && found.is_empty() && !answer.headers.contains_key("retry-after") {
            found.push(format!("{of}: without Retry-After"));
        }
        found.extend(self.body_deviations(&of, &response, answer));
        found
    }

    fn header_deviations(&self, of: &str, response: &Value, headers: &HeaderMap) -> Vec<String> {
        let mut found = Vec::new();
        for (name, described) in response["headers"].as_object().into_iter().flatten() {
            let target = described["$ref"].as_str().and_then(|target| self.0.pointer(target.trim_start_matches('#')));
            let schema = &target.unwrap_or(described)["schema"];
            let Some(value) = headers.get(name.as_str()) else {
                if described["required"] == true {
                    found.push(format!("{of}: without the header {name}"));
                }
                continue;
            };
            let text = String::from_utf8_lossy(value.as_bytes());
            let value =
                if schema["type"] == "integer" { text.parse::<i64>().map_or(json!(text), Value::from) } else { json!(text) };
            found.extend(self.value_deviations(schema, &value).into_iter().map(|fault| format!("{of}: {name}: {fault}")));
        }
        found
    }

    fn body_deviations(&self, of: &str, response: &Value, answer: Answered<'_>) -> Vec<String> {
        let Some(contents) = response["content"].as_object() else {
            return if answer.text.is_empty() { Vec::new() } else { vec![format!("{of}: has a body")] };
        };
        let media_type = answer.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default();
        let Some(content) = contents.get(media_type) else {
            return vec![format!("{of}: the content type `{media_type}` is not described")];
        };
        if !media_type.ends_with("json") {
            return Vec::new();
        }
        match serde_json::from_str(answer.text) {
            Ok(body) => {
                let faults = self.value_deviations(&content["schema"], &body);
                faults.into_iter().map(|fault| format!("{of}: {fault}; the body is {body}")).collect()
            }
            Err(error) => vec![format!("{of}: {error}; the body is {}", answer.text)],
        }
    }

    /// Why a value is not as a schema of the document says; nothing if it is.
    #[must_use]
    pub fn value_deviations(&self, schema: &Value, value: &Value) -> Vec<String> {
        let root = json!({"allOf": [schema], "components": self.0["components"]});
        match jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true).build(&root) {
            Ok(validator) => {
                validator.iter_errors(value).map(|fault| format!("{fault} at `{}`", fault.instance_path())).collect()
            }
            Err(error) => vec![format!("the schema {schema} cannot be used: {error}")],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        let schema =
            json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
        let wait = json!({"Retry-After": {"$ref": "#/components/headers/RetryAfter", "required": true}});
        let problem = json!({"type": "object", "properties": {"status": {"type": "integer"}}, "required": ["status"]});
        Description::new(json!({
            "paths": {"/things/{id}": {"get": {"responses": {
                "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                "204": {},
                "503": {"headers": wait, "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}},
            }}}},
            "components": {
                "schemas": {"Thing": schema, "Problem": problem},
                "headers": {"RetryAfter": {"schema": {"type": "integer", "minimum": 1}}},
            },
        }))
    }

    fn found(method: &str, address: &str, status: u16, headers: &[(&'static str, &str)], text: &str) -> usize {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.extend(value.parse().ok().map(|value| (reqwest::header::HeaderName::from_static(name), value)));
        }
        description().deviations(method, address, Answered { status, headers: &map, text }).len()
    }

    #[test]
    fn what_is_described_passes_and_nothing_else_does() {
        let (json, problem) = (("content-type", "application/json; charset=utf-8"), ("content-type", "application/problem+json"));
        assert_eq!(found("GET", "/things/a?x=1", 200, &[json], r#"{"n":1}"#), 0);
        assert_eq!(found("GET", "/things/a", 204, &[], ""), 0);
        assert_eq!(found("GET", "/things/a", 503, &[problem, ("retry-after", "1")], r#"{"status":503}"#), 0);
        assert_eq!(found("GET", "/nothing", 404, &[problem], r#"{"status":404}"#), 0);
        assert_eq!(found("PUT", "/things/a", 405, &[problem, ("allow", "GET")], r#"{"status":405}"#), 0);

        assert_eq!(found("GET", "/things/a", 200, &[json], r#"{"n":"1"}"#), 1, "another type");
        assert_eq!(found("GET", "/things/a", 200, &[json], r#"{"n":1,"m":1}"#), 1, "a field more");
        assert_eq!(found("GET", "/things/a", 200, &[json], "{"), 1, "no JSON");
        assert_eq!(found("GET", "/things/a", 200, &[problem], r#"{"n":1}"#), 1, "another content type");
        assert_eq!(found("GET", "/things/a", 200, &[], ""), 1, "no content type");
        assert_eq!(found("GET", "/things/a", 204, &[json], "{}"), 1, "a body");
        assert_eq!(found("GET", "/things/a", 418, &[json], "{}"), 1, "another status");
        assert_eq!(found("GET", "/things/a", 503, &[problem, ("retry-after", "0")], r#"{"status":503}"#), 1, "a header's value");
        assert_eq!(found("GET", "/things/a", 503, &[problem], r#"{"status":503}"#), 1, "a header");
        assert_eq!(found("GET", "/things/", 404, &[problem], r#"{"status":405}"#), 1, "another status in the body");
        assert_eq!(found("GET", "/nothing", 200, &[json], "{}"), 1, "another path");
        assert_eq!(found("PUT", "/things/a", 405, &[problem], r#"{"status":405}"#), 1, "405 without Allow");
    }

    #[test]
    fn what_is_wrong_with_a_document_is_found() {
        let sound = json!({"paths": {"/things/{id}": {"get": {
            "operationId": "thing", "parameters": [{"name": "id", "in": "path"}], "responses": {"200": {"$ref": "#/components/thing"}},
        }}}, "components": {"thing": {}}});
        assert_eq!(Description::new(sound.clone()).faults(), Vec::<String>::new());
        let mut nowhere = sound.clone();
        nowhere["components"] = json!({});
        let mut unnamed = sound.clone();
        unnamed["paths"]["/things/{id}"]["get"]["operationId"] = Value::Null;
        let mut twice = sound.clone();
        twice["paths"]["/things"] = json!({"get": {"operationId": "thing"}});
        let mut without = sound.clone();
        without["paths"]["/things/{id}"]["get"]["parameters"] = json!([]);
        for faulty in [nowhere, unnamed, twice, without] {
            let faults = Description::new(faulty).faults();
            assert!(!faults.is_empty() && faults.len() <= 2, "{faults:?}");
        }
        assert_eq!(Description::new(json!({})).faults().len(), 1);
    }
}
