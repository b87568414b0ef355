//! The payment reconcilers' admin API, which writes down who did what and why.

use std::time::Duration;

use anyhow::{Context, bail};
use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::settings::Settings;

/// How long one call may take. An audit reads a gateway's whole list before it answers.
const CALL_TIMEOUT: Duration = Duration::from_secs(900);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The reconcilers, asked in turn until one answers.
pub(super) struct Api {
    http: reqwest::Client,
    urls: Vec<String>,
    token: String,
}

impl Api {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(CALL_TIMEOUT).connect_timeout(CONNECT_TIMEOUT).no_proxy().build();
        let urls = settings.payment_reconciler_urls();
        if urls.is_empty() {
            bail!("no payment reconciler is known; set TRUEUP__PAYMENT_RECONCILERS");
        }
        let http = http.context("cannot make an HTTP client")?;
        Ok(Self { http, urls, token: settings.admin.token.expose().to_owned() })
    }

    /// Asks for something; a call that changes something is only made again elsewhere if it never reached the first one.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
        let mut last = String::new();
        for url in &self.urls {
            let mut request = self.http.request(method.clone(), format!("{url}{path}"));
            if !self.token.is_empty() {
                request = request.bearer_auth(&self.token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            match answered(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_connect() || method == Method::GET => last = format!(": {error}"),
                Err(error) => bail!("{url} was asked and gave no answer: {error}; look whether it was done before you ask again"),
            }
        }
        let tried = self.urls.join(", ");
        bail!("no payment reconciler answers at {tried} (TRUEUP__PAYMENT_RECONCILERS){last}")
    }
}

async fn answered(request: reqwest::RequestBuilder) -> Result<(StatusCode, Value), reqwest::Error> {
    let response = request.send().await?;
    let status = response.status();
    let bytes = response.bytes().await?;
    let no_json = || json!({ "detail": String::from_utf8_lossy(&bytes), "code": "no_json" });
    Ok((status, serde_json::from_slice(&bytes).unwrap_or_else(|_| no_json())))
}

/// A moment as the API takes it.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
