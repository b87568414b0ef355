//! Calls of every described operation, made from the document.

use reqwest::{Client, Method};
use serde_json::json;

use crate::{
    gateway::{Answer, Gateway},
    openapi::{Contract, Operation},
};

/// An operator's token, and the setting that makes it one.
pub const TOKEN: &str = "annas-token-that-only-tests-know";
pub const TOKENS: (&str, &str) = ("ADMIN__TOKENS", "anna:annas-token-that-only-tests-know");

/// A call of an operation, with what is usual for it.
#[derive(Debug, Clone)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub body: String,
    pub headers: Vec<(&'static str, String)>,
}

impl Call {
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    pub fn query(mut self, query: &str) -> Self {
        self.path = format!("{}?{query}", self.path);
        self
    }
}

/// What stands in paths: a coupon's code, a member, a ticket, and the id of a request or command.
#[derive(Clone)]
pub struct Names {
    pub code: String,
    pub member: String,
    pub ticket: String,
    pub id: String,
}

impl Names {
    pub fn call(&self, operation: &Operation<'_>) -> Call {
        let path = operation.path.replace("{code}", &self.code).replace("{memberId}", &self.member);
        let path = path.replace("{ticket}", &self.ticket).replace("{requestId}", &self.id).replace("{commandId}", &self.id);
        let body = match operation.body() {
            Some("CouponRequest" | "Cancel") => r#"{"memberId":"a"}"#.to_owned(),
            Some("NewCoupon") => json!({"code": self.code, "admission": "queued", "totalQuantity": 3}).to_string(),
            Some("CouponChanges") => r#"{"name":"Another name"}"#.to_owned(),
            Some(other) => panic!("a body that these tests do not know: {other}"),
            None => String::new(),
        };
        let mut headers = vec![("content-type", "application/json".to_owned())];
        if is_operators(operation) {
            headers.push(("authorization", format!("Bearer {TOKEN}")));
        }
        Call { method: operation.method.to_uppercase().parse().unwrap(), path, body, headers }
    }
}

pub fn is_operators(operation: &Operation<'_>) -> bool {
    operation.path.starts_with("/v1/admin/")
}

/// Calls, and holds the answer against the document.
pub async fn call(contract: &Contract, gateway: &Gateway, call: &Call) -> Answer {
    send(contract, &gateway.client, &gateway.url, call).await
}

/// [`call`] of whatever listens at `url`.
pub async fn send(contract: &Contract, client: &Client, url: &str, call: &Call) -> Answer {
    let mut request = client.request(call.method.clone(), format!("{url}{}", call.path));
    for (name, value) in &call.headers {
        request = request.header(*name, value);
    }
    let answer = Answer::of(request.body(call.body.clone()).send().await.unwrap()).await;
    contract.hold(call.method.as_str(), &call.path, &answer);
    answer
}

/// Calls every operation that describes the error `code`, and asserts that it is given. `change` makes the call such that it must be.
pub async fn provoke(
    contract: &Contract,
    gateway: &Gateway,
    names: &Names,
    code: &str,
    change: impl Fn(Call, &Operation<'_>) -> Option<Call>,
) {
    let mut called = 0;
    for operation in contract.operations().iter().filter(|operation| operation.codes().contains(code)) {
        let Some(changed) = change(names.call(operation), operation) else { continue };
        let answer = call(contract, gateway, &changed).await;
        assert_eq!(answer.problem().1, code, "{} by {changed:?}: {}", operation.id(), answer.text);
        called += 1;
    }
    assert!(called > 0, "{code} is described nowhere");
}
