//! The simulator from behind: place payments, let payers pay, read what was moved.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Payments of one call, at most.
const BATCH_MAX: usize = 500;

/// The simulator's admin API.
pub struct Gateway {
    client: Client,
    url: String,
}

/// The money of a payment, by the simulator's ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Moved {
    /// Captured, in minor units.
    pub paid: i64,
    /// Given back, in minor units.
    pub refunded: i64,
    /// Captures.
    pub captures: u32,
    /// Refunds that did not come back.
    pub refunds: u32,
}

#[derive(Deserialize)]
struct View {
    money: Moved,
}

impl Gateway {
    /// The simulator at `url`.
    ///
    /// # Errors
    /// No HTTP client can be made.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self { client: Client::builder().timeout(TIMEOUT).build()?, url: url.trim_end_matches('/').to_owned() })
    }

    async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response> {
        let hint = || format!("the simulator at {} (TRUEUP__SIMULATOR or --simulator)", self.url);
        let response = request.send().await.with_context(hint)?;
        let status = response.status();
        ensure!(status.is_success(), "{} says {status}: {}", hint(), response.text().await.unwrap_or_default());
        Ok(response)
    }

    /// Places payments.
    ///
    /// # Errors
    /// The simulator cannot be reached, or is full.
    pub async fn place(&self, payments: &[Value]) -> Result<()> {
        for batch in payments.chunks(BATCH_MAX) {
            self.send(self.client.post(format!("{}/admin/payments", self.url)).json(batch)).await?;
        }
        Ok(())
    }

    /// Payers pay; callbacks go out, as far as they are not lost.
    ///
    /// # Errors
    /// The simulator cannot be reached, or does not know one of them.
    pub async fn pay(&self, references: &[&str]) -> Result<()> {
        for batch in references.chunks(BATCH_MAX) {
            self.send(self.client.post(format!("{}/admin/pay", self.url)).json(&json!({"references": batch}))).await?;
        }
        Ok(())
    }

    /// A payer gives up.
    ///
    /// # Errors
    /// The simulator cannot be reached, or does not know it.
    pub async fn close(&self, reference: &str) -> Result<()> {
        let url = format!("{}/admin/payments/{reference}/state", self.url);
        self.send(self.client.put(url).json(&json!({"answer": "closed"}))).await.map(|_response| ())
    }

    /// What was moved of a payment; None if the simulator does not know it.
    ///
    /// # Errors
    /// The simulator cannot be reached.
    pub async fn moved(&self, reference: &str) -> Result<Option<Moved>> {
        let response = self.client.get(format!("{}/admin/payments/{reference}", self.url)).send().await?;
        if response.status() == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let view: View = response.error_for_status()?.json().await?;
        Ok(Some(view.money))
    }
}
