//! What members and operators say to the gateways over HTTP.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use domain::ids::{CouponCode, MemberId, RequestId};
use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{evidence::What, places::ADMIN_TOKEN, plan::CouponPlan};

/// Idle connections that are kept to each gateway.
const IDLE_MAX: usize = 4_096;
/// How long an operator waits.
const OPERATOR_PATIENCE: Duration = Duration::from_secs(10);
/// How often an operator tries until a coupon is defined.
const DEFINE_ATTEMPTS: u32 = 20;
/// The pause in between.
const DEFINE_PAUSE: Duration = Duration::from_millis(500);

/// The fields of a 202, of a ticket's answer, or of a problem.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    request_id: Option<RequestId>,
    ticket: Option<String>,
    status: Option<Value>,
    reason: Option<String>,
    code: Option<String>,
}

impl Body {
    /// The outcome's name as the ledger has it.
    fn outcome(&self) -> Option<String> {
        match self.status.as_ref().and_then(Value::as_str) {
            Some("success") => Some("issued".to_owned()),
            Some("failed") => Some(self.reason.clone().unwrap_or_else(|| "failed".to_owned())),
            _ => None,
        }
    }
}

/// HTTP to all gateways.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    gateways: Vec<String>,
}

impl Client {
    /// Prepares connections.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(gateways: Vec<String>) -> Result<Self> {
        service_kit::install_crypto_provider();
        let http = reqwest::Client::builder()
            .http1_only()
            .tcp_nodelay(true)
            .pool_max_idle_per_host(IDLE_MAX)
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http, gateways })
    }

    fn url(&self, gateway: usize, path: &str) -> String {
        let base = self.gateways.get(gateway % self.gateways.len().max(1)).map_or("", String::as_str);
        format!("{base}{path}")
    }

    /// Asks for a coupon; also the ticket, if one came.
    pub async fn ask(
        &self,
        gateway: usize,
        code: &CouponCode,
        member: &MemberId,
        key: Option<u8>,
        patience: Duration,
    ) -> (What, Option<String>) {
        let url = self.url(gateway, &format!("/v1/coupons/{code}/requests"));
        let mut request = self.http.post(url).timeout(patience).header(header::CONTENT_TYPE, "application/json");
        request = request.body(format!("{{\"memberId\":\"{member}\"}}"));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", format!("{member}-key-{key}"));
        }
        said(request).await
    }

    /// Asks what became of a ticket.
    pub async fn look(&self, gateway: usize, ticket: &str, patience: Duration) -> What {
        let request = self.http.get(self.url(gateway, &format!("/v1/tickets/{ticket}"))).timeout(patience);
        said(request).await.0
    }

    /// Defines a coupon, however long that takes within bounds; repeats are the same command.
    ///
    /// # Errors
    /// It is refused, or no gateway takes it.
    pub async fn define(&self, coupon: &CouponPlan, opens_at: Option<String>, closes_at: Option<String>) -> Result<()> {
        let code = &coupon.code;
        let body = json!({
            "code": code, "admission": coupon.admission.as_str(), "totalQuantity": coupon.total, "name": code,
            "opensAt": opens_at, "closesAt": closes_at,
        });
        let mut last = String::new();
        for attempt in 0..DEFINE_ATTEMPTS {
            let gateway = usize::try_from(attempt).unwrap_or(0);
            match self.operate(gateway, Method::POST, "/v1/admin/coupons", &format!("define-{code}"), &body).await {
                Ok((201 | 200, _)) => return Ok(()),
                Ok((status @ (202 | 429 | 500..), text)) => last = format!("{status} {text}"),
                Ok((status, text)) => bail!("coupon {code} is not defined: {status} {text}"),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(DEFINE_PAUSE).await;
        }
        bail!("coupon {code} is not defined after {DEFINE_ATTEMPTS} attempts: {last}");
    }

    /// Sets a coupon's total; the status, whatever it is.
    ///
    /// # Errors
    /// No answer.
    pub async fn set_total(&self, code: &CouponCode, total: i64, key: &str) -> Result<(u16, String)> {
        let path = format!("/v1/admin/coupons/{code}");
        self.operate(0, Method::PATCH, &path, key, &json!({ "totalQuantity": total })).await
    }

    async fn operate(&self, gateway: usize, method: Method, path: &str, key: &str, body: &Value) -> Result<(u16, String)> {
        let request = self.http.request(method, self.url(gateway, path)).timeout(OPERATOR_PATIENCE);
        let request = request.bearer_auth(ADMIN_TOKEN).header("Idempotency-Key", key);
        let response = request.json(body).send().await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await.unwrap_or_default()))
    }
}

async fn said(request: reqwest::RequestBuilder) -> (What, Option<String>) {
    let Ok(response) = request.send().await else { return (What::Lost, None) };
    let status = response.status();
    let Ok(bytes) = response.bytes().await else { return (What::Lost, None) };
    let body: Body = serde_json::from_slice(&bytes).unwrap_or_default();
    let code = || body.code.clone().unwrap_or_else(|| format!("status_{}", status.as_u16()));
    let what = match (status, body.request_id) {
        (StatusCode::ACCEPTED | StatusCode::OK, Some(request)) => What::Told { request, outcome: body.outcome() },
        (StatusCode::ACCEPTED | StatusCode::OK, None) => What::Again { code: "unreadable_answer".to_owned(), request: None },
        // 408 comes before a request was read: its connection was open for too long without one.
        _ if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT) || status.is_server_error() => {
            What::Again { code: code(), request: body.request_id }
        }
        _ => What::Refused { code: code() },
    };
    (what, body.ticket)
}
