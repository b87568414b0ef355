//! One member's conversation with the gateways.

use std::time::Duration;

use anyhow::Context;
use domain::ids::RequestId;
use reqwest::{StatusCode, header};
use serde::Deserialize;

use super::plan::Plan;

/// How often one ask is repeated after 429, 503 and lost connections.
pub const ATTEMPTS_MAX: u32 = 12;
/// The longest pause that a Retry-After may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(5);
/// The pause after a lost connection, or an answer that asks for none.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A 202, or what a ticket tells.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The request; tickets name it, too.
    pub request_id: Option<RequestId>,
    /// The ticket.
    pub ticket: Option<Box<str>>,
    /// `pending`, `success` or `failed`.
    pub status: Option<String>,
    /// Why it failed.
    pub reason: Option<String>,
}

impl Told {
    /// The outcome's name as the ledger has it; none while it is pending.
    #[must_use]
    pub fn outcome(&self) -> Option<&str> {
        match self.status.as_deref() {
            Some("success") => Some("issued"),
            Some("failed") => Some(self.reason.as_deref().unwrap_or("failed")),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Problem {
    code: Option<String>,
}

/// What one call came to.
#[derive(Debug)]
pub enum Answer {
    /// 202 (or 200 for a request that is known).
    Accepted(Told),
    /// A final refusal, by its code.
    Refused(String),
    /// Ask again after a pause; the code says why.
    Again(String, Duration),
}

/// HTTP to all gateways, over connections that are kept.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    gateways: Vec<String>,
    identity_header: Option<String>,
}

impl Client {
    /// Prepares connections.
    ///
    /// # Errors
    /// The HTTP client cannot be made.
    pub fn new(plan: &Plan) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .http1_only()
            .tcp_nodelay(true)
            .timeout(CALL_TIMEOUT)
            .pool_max_idle_per_host(plan.concurrency.clamp(64, 4_096))
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        let gateways = plan.gateways.iter().map(|url| url.trim_end_matches('/').to_owned()).collect();
        Ok(Self { http, gateways, identity_header: plan.identity_header.clone() })
    }

    fn gateway(&self, index: usize) -> &str {
        self.gateways.get(index % self.gateways.len().max(1)).map_or("", String::as_str)
    }

    /// Asks once for a coupon at the gateway with this index (counted round).
    pub async fn ask(&self, gateway: usize, code: &str, member: &str, key: Option<&str>) -> Answer {
        let url = format!("{}/v1/coupons/{code}/requests", self.gateway(gateway));
        let mut request = self.http.post(url).header(header::CONTENT_TYPE, "application/json");
        // Member ids of a drill need no escaping.
        request = request.body(format!("{{\"memberId\":\"{member}\"}}"));
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(name) = &self.identity_header {
            request = request.header(name, member);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(_) => return Answer::Again("connection".to_owned(), RETRY_PAUSE),
        };
        let status = response.status();
        let retry_after = retry_after(&response);
        let Ok(body) = response.bytes().await else {
            return Answer::Again("connection".to_owned(), RETRY_PAUSE);
        };
        match status {
            StatusCode::ACCEPTED | StatusCode::OK => match serde_json::from_slice(&body) {
                Ok(told) => Answer::Accepted(told),
                Err(_) => Answer::Refused("unreadable_answer".to_owned()),
            },
            _ => {
                let code = problem_code(status, &body);
                let again = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
                if again { Answer::Again(code, retry_after.unwrap_or(RETRY_PAUSE)) } else { Answer::Refused(code) }
            }
        }
    }

    /// What a ticket tells.
    ///
    /// # Errors
    /// The pause before asking again.
    pub async fn ticket(&self, gateway: usize, ticket: &str, member: &str) -> Result<Told, Duration> {
        let mut request = self.http.get(format!("{}/v1/tickets/{ticket}", self.gateway(gateway)));
        if let Some(name) = &self.identity_header {
            request = request.header(name, member);
        }
        let response = request.send().await.map_err(|_| RETRY_PAUSE)?;
        if response.status() != StatusCode::OK {
            return Err(retry_after(&response).unwrap_or(RETRY_PAUSE));
        }
        let body = response.bytes().await.map_err(|_| RETRY_PAUSE)?;
        serde_json::from_slice(&body).map_err(|_| RETRY_PAUSE)
    }
}

fn problem_code(status: StatusCode, body: &[u8]) -> String {
    let problem = serde_json::from_slice::<Problem>(body).ok();
    problem.and_then(|problem| problem.code).unwrap_or_else(|| format!("status_{}", status.as_u16()))
}

fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let seconds: u64 = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A gateway that gives one answer and closes; and the request that it got.
    async fn answering(answer: &'static str) -> (Client, tokio::task::JoinHandle<String>) {
        // No provider is needed without TLS, but the client asks for one when it is made.
        service_kit::install_crypto_provider();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateways = vec![format!("http://{}", listener.local_addr().unwrap())];
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let mut part = [0_u8; 1_024];
            loop {
                let length = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(part.get(..length).unwrap());
                let text = String::from_utf8_lossy(&bytes);
                let is_complete = if text.starts_with("GET") { text.ends_with("\r\n\r\n") } else { text.ends_with('}') };
                if length == 0 || is_complete {
                    break;
                }
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(bytes).unwrap()
        });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        (Client { http, gateways, identity_header: Some("X-Member-Id".to_owned()) }, server)
    }

    async fn ask(answer: &'static str) -> (Answer, String) {
        let (client, server) = answering(answer).await;
        let answer = client.ask(0, "coupon", "m1", Some("key-1")).await;
        (answer, server.await.unwrap())
    }

    #[tokio::test]
    async fn an_ask_names_member_key_and_identity() {
        let body = r#"{"requestId":"0190c2f4-6a3e-7c54-9d9e-2f6f0a1b2c3d","ticket":"t","status":"pending","ahead":3}"#;
        let answer = Box::leak(format!("HTTP/1.1 202 Accepted\r\nConnection: close\r\n\r\n{body}").into_boxed_str());
        let (answer, request) = ask(answer).await;
        let Answer::Accepted(told) = answer else { panic!("{answer:?}") };
        assert_eq!((told.ticket.as_deref(), told.outcome()), (Some("t"), None));
        let request = request.to_lowercase();
        assert!(request.starts_with("post /v1/coupons/coupon/requests "), "{request}");
        for part in ["idempotency-key: key-1", "x-member-id: m1", r#"{"memberid":"m1"}"#] {
            assert!(request.contains(part), "{part} is not in {request}");
        }
    }

    #[tokio::test]
    async fn what_is_final_is_told_from_what_is_asked_again() {
        let gone = "HTTP/1.1 410 Gone\r\nConnection: close\r\n\r\n{\"code\":\"sold_out\"}";
        assert!(matches!(ask(gone).await.0, Answer::Refused(code) if code == "sold_out"));
        let busy = "HTTP/1.1 503 Busy\r\nRetry-After: 2\r\nConnection: close\r\n\r\n{\"code\":\"overloaded\"}";
        let (answer, _) = ask(busy).await;
        assert!(
            matches!(&answer, Answer::Again(code, pause) if code == "overloaded" && *pause == Duration::from_secs(2)),
            "{answer:?}"
        );
        let limited = "HTTP/1.1 429 Slow\r\nRetry-After: 3600\r\nConnection: close\r\n\r\n{}";
        let (answer, _) = ask(limited).await;
        assert!(matches!(&answer, Answer::Again(code, pause) if code == "status_429" && *pause == RETRY_AFTER_MAX), "{answer:?}");
        let (answer, _) = ask("").await;
        assert!(matches!(&answer, Answer::Again(code, _) if code == "connection"), "{answer:?}");
        let nonsense = "HTTP/1.1 202 Accepted\r\nConnection: close\r\n\r\nnonsense";
        assert!(matches!(ask(nonsense).await.0, Answer::Refused(code) if code == "unreadable_answer"));
    }

    #[tokio::test]
    async fn a_ticket_tells_its_outcome_or_when_to_ask_again() {
        let (client, _server) =
            answering("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"status\":\"failed\",\"reason\":\"duplicate\"}").await;
        assert_eq!(client.ticket(0, "t", "m1").await.unwrap().outcome(), Some("duplicate"));
        let (client, _server) = answering("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nConnection: close\r\n\r\n{}").await;
        assert_eq!(client.ticket(0, "t", "m1").await.unwrap_err(), Duration::from_secs(1));
    }
}
