//! The payment reconcilers' admin API, which writes down who did what and why.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::{api, settings::Settings};

/// How long one call may take. An audit reads a gateway's whole list before it answers.
const CALL_TIMEOUT: Duration = Duration::from_secs(900);

/// The reconcilers, asked in turn until one answers.
pub(super) struct Api(api::Api);

impl Api {
    pub(super) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let (urls, token) = (settings.payment_reconciler_urls(), &settings.admin.token);
        Ok(Self(api::Api::new("payment reconciler", "TRUEUP__PAYMENT_RECONCILERS", urls, token, CALL_TIMEOUT)?))
    }

    /// Asks for something; a call that changes something is only made again elsewhere if it never reached the first one.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
        if method == Method::GET {
            self.0.call(&method, path, body, None).await
        } else {
            self.0.call_once(&method, path, body).await
        }
    }

    /// Every page of a list.
    pub(super) async fn list(&self, path: &str, name: &str) -> anyhow::Result<Result<Vec<Value>, (StatusCode, Value)>> {
        self.0.list(path, name).await
    }
}

/// A moment as the API takes it.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}
