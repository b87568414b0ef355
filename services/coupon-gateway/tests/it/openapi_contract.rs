//! Holds every answer that any test of the gateway gets against the description: status, headers, content type and body.

use std::sync::LazyLock;

use jsonschema::{Draft, Validator};
use reqwest::Method;
use serde_json::{Value, json};

use crate::gateway::{Answer, Gateway};

static DOCUMENT: LazyLock<Value> = LazyLock::new(coupon_gateway::openapi::document);

fn validator(schema: &Value) -> Validator {
    let root = json!({"allOf": [schema], "components": DOCUMENT["components"]});
    jsonschema::options().with_draft(Draft::Draft202012).build(&root).unwrap_or_else(|error| panic!("{error}: {schema}"))
}

/// The described path that an address belongs to.
fn template(path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap();
    let parts: Vec<&str> = path.split('/').collect();
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let fits = |template: &str| {
        let template: Vec<&str> = template.split('/').collect();
        template.len() == parts.len()
            && template.iter().zip(&parts).all(|(a, b)| if a.starts_with('{') { !b.is_empty() } else { a == b })
    };
    paths.get(path).or_else(|| paths.iter().find(|(template, _)| fits(template)).map(|(_, item)| item))
}

/// What is not as described; nothing if all is.
fn deviations(method: &str, path: &str, answer: &Answer) -> Vec<String> {
    let of = format!("{method} {path} → {}", answer.status);
    let problem = |status: u16| {
        let schema = json!({"$ref": "#/components/schemas/Problem", "properties": {"status": {"const": status}}});
        json!({"content": {"application/problem+json": {"schema": schema}}})
    };
    let response = match template(path).map(|item| &item[method.to_lowercase()]) {
        None if answer.status == 404 => problem(404),
        None => return vec![format!("{of}: the path is not described")],
        Some(Value::Null) if answer.status == 405 && answer.headers.contains_key("allow") => problem(405),
        Some(operation) => match &operation["responses"][answer.status.to_string()] {
            Value::Null => return vec![format!("{of}: the status is not described; the body is {}", answer.text)],
            response => response.clone(),
        },
    };
    let mut found = Vec::new();
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        match answer.headers.get(name.to_lowercase().as_str()) {
            None if header["required"] == true => found.push(format!("{of}: without the header {name}")),
            Some(value) if name == "Retry-After" && !value.to_str().unwrap().parse::<u64>().is_ok_and(|seconds| seconds >= 1) => {
                found.push(format!("{of}: Retry-After is {value:?}"));
            }
            _ => {}
        }
    }
    if answer.status == 401 && !answer.headers.contains_key("www-authenticate") {
        found.push(format!("{of}: without WWW-Authenticate"));
    }
    found.extend(body_deviations(&of, &response, answer));
    found
}

fn body_deviations(of: &str, response: &Value, answer: &Answer) -> Vec<String> {
    let Some(contents) = response["content"].as_object() else {
        return if answer.text.is_empty() { Vec::new() } else { vec![format!("{of}: has a body")] };
    };
    let media_type = answer.headers.get("content-type").map(|value| value.to_str().unwrap()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap();
    let Some(content) = contents.get(media_type) else {
        return vec![format!("{of}: the content type `{media_type}` is not described")];
    };
    if !media_type.ends_with("json") {
        return Vec::new();
    }
    let body = answer.json();
    validator(&content["schema"]).iter_errors(&body).map(|error| format!("{of}: {error}; the body is {body}")).collect()
}

/// Asserts that an answer is as described.
pub fn hold(method: &str, path: &str, answer: &Answer) {
    let found = deviations(method, path, answer);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Calls any address, and holds the answer.
pub async fn call(gateway: &Gateway, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = gateway.client.request(method.clone(), format!("{}{path}", gateway.url)).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = Answer::of(request.send().await.unwrap()).await;
    hold(method.as_str(), path, &answer);
    answer
}

fn answer(status: u16, media_type: &str, text: &str) -> Answer {
    let mut headers = reqwest::header::HeaderMap::new();
    for (name, value) in [("content-type", media_type), ("cache-control", "no-store"), ("traceparent", "x"), ("retry-after", "1")]
    {
        headers.insert(name, value.parse().unwrap());
    }
    Answer { status, headers, text: text.to_owned() }
}

#[test]
fn what_is_not_described_is_found() {
    let (path, json, problem) = ("/v1/coupons/c/requests", "application/json", "application/problem+json");
    let sold_out = r#"{"type":"urn:trueup:problem:sold_out","title":"sold out","status":410,"code":"sold_out","detail":"x"}"#;
    let good = answer(410, problem, sold_out);
    assert_eq!(deviations("POST", path, &good), Vec::<String>::new());
    let bad = [
        answer(410, json, sold_out),
        answer(418, problem, sold_out),
        answer(404, problem, sold_out),
        answer(410, problem, &sold_out.replace("sold_out", "gone")),
        answer(410, problem, &sold_out.replace("\"detail\"", "\"details\"")),
        answer(202, json, "{}"),
        answer(202, json, r#"{"status":"pending","ahead":1}"#),
    ];
    for answer in bad {
        assert!(!deviations("POST", path, &answer).is_empty(), "{answer:?}");
    }
    assert!(!deviations("DELETE", path, &good).is_empty() && !deviations("GET", "/v1/nothing", &good).is_empty());
    let mut silent = answer(503, problem, &sold_out.replace("410", "503").replace("sold_out", "overloaded"));
    assert_eq!(deviations("POST", path, &silent), Vec::<String>::new());
    silent.headers.remove("retry-after");
    assert_eq!(deviations("POST", path, &silent).len(), 1);
}
