//! Calls of a service's HTTP interface by an operator: its replicas are asked in turn until one answers.

use std::time::Duration;

use anyhow::{Context, bail};
use domain::secret::Secret;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The replicas of a service.
pub(crate) struct Api {
    http: reqwest::Client,
    addresses: Vec<String>,
    token: String,
    service: &'static str,
    known_by: &'static str,
}

impl Api {
    /// The `service`, such as `gateway`, at these addresses, which the operator tells by `known_by`, such as `TRUEUP__GATEWAYS`. Without a
    /// token nobody is named. A call that takes longer than `timeout` is given up.
    ///
    /// # Errors
    /// There is no address.
    pub(crate) fn new(
        service: &'static str,
        known_by: &'static str,
        addresses: Vec<String>,
        token: &Secret,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(timeout).no_proxy().build().context("cannot make an HTTP client")?;
        if addresses.is_empty() {
            bail!("no {service} is known; set {known_by}");
        }
        Ok(Self { http, addresses, token: token.expose().to_owned(), service, known_by })
    }

    /// Makes a call that may be made again by the next replica when this one gives no answer, although it may have done it: one that changes
    /// nothing the second time, or that has a `key` under which it is the same call wherever and however often it is made.
    ///
    /// # Errors
    /// None of them answers.
    pub(crate) async fn call(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        let mut last = None;
        for address in &self.addresses {
            let mut request = self.http.request(method.clone(), format!("{address}{path}"));
            if !self.token.is_empty() {
                request = request.bearer_auth(&self.token);
            }
            if let Some(key) = key {
                request = request.header("Idempotency-Key", key);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            match answered(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => last = Some(error),
            }
        }
        let error = last.map_or_else(String::new, |error| format!(": {error}"));
        bail!("no {} answers at {} ({}){error}", self.service, self.addresses.join(", "), self.known_by)
    }
}

/// The status, and the body as JSON; a body that is none is told as a problem.
async fn answered(request: reqwest::RequestBuilder) -> Result<(StatusCode, Value), reqwest::Error> {
    let response = request.send().await?;
    let status = response.status();
    let bytes = response.bytes().await?;
    let no_json = || json!({ "detail": String::from_utf8_lossy(&bytes), "code": "no_json" });
    Ok((status, serde_json::from_slice(&bytes).unwrap_or_else(|_| no_json())))
}
