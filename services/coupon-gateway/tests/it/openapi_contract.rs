//! Holds every answer that any test of the gateway gets against its description.

use std::sync::LazyLock;

use reqwest::Method;
use testkit::openapi::{Answered, Description};

use crate::gateway::{Answer, Gateway};

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| Description::new(coupon_gateway::openapi::document()));

/// What is not as described; nothing if all is.
fn deviations(method: &str, path: &str, answer: &Answer) -> Vec<String> {
    DESCRIPTION.deviations(method, path, answer.told())
}

/// Asserts that an answer is as described.
pub fn hold(method: &str, path: &str, answer: &Answer) {
    let found = deviations(method, path, answer);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

impl Answer {
    /// The answer, to be held against a description.
    pub fn told(&self) -> Answered<'_> {
        Answered { status: self.status, headers: &self.headers, text: &self.text }
    }
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
