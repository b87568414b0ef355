//! Calls of a service's HTTP interface by an operator: its replicas are asked in turn until one answers.

use std::time::Duration;

use anyhow::{Context, bail};
use domain::secret::Secret;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages of a list that are followed.
const PAGES_MAX: usize = 1_000;

/// What is done when a replica that was asked gives no answer, although it may have done it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    NextReplica,
    Stop,
}

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
        let http = reqwest::Client::builder().timeout(timeout).connect_timeout(CONNECT_TIMEOUT).no_proxy().build();
        if addresses.is_empty() {
            bail!("no {service} is known; set {known_by}");
        }
        let http = http.context("cannot make an HTTP client")?;
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
        self.ask(method, path, body, key, Unanswered::NextReplica).await
    }

    /// Makes a call that changes something, and that is not the same call if it is made again: the next replica gets it only if it never reached
    /// the one before.
    ///
    /// # Errors
    /// None of them answers, or one was asked and gave no answer.
    pub(crate) async fn call_once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, Value)> {
        self.ask(method, path, body, None, Unanswered::Stop).await
    }

    /// Every page of a list, up to a bound, or the answer that refuses it. A list that goes on behind the bound is said to be cut on standard error.
    ///
    /// # Errors
    /// None of the replicas answers.
    pub(crate) async fn list(&self, path: &str, name: &str) -> anyhow::Result<Result<Vec<Value>, (StatusCode, Value)>> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mark = if path.contains('?') { '&' } else { '?' };
            let page = after.as_ref().map_or_else(|| path.to_owned(), |after| format!("{path}{mark}after={after}"));
            let (status, answer) = self.call(&Method::GET, &page, None, None).await?;
            if !status.is_success() {
                return Ok(Err((status, answer)));
            }
            all.extend(answer.get(name).and_then(Value::as_array).into_iter().flatten().cloned());
            match answer.get("next").and_then(Value::as_str) {
                Some(next) => after = Some(percent(next)),
                None => return Ok(Ok(all)),
            }
        }
        eprintln!("trueup: only the first {} are shown; there are more", all.len());
        Ok(Ok(all))
    }

    async fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
        unanswered: Unanswered,
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
                Err(error) if unanswered == Unanswered::Stop && !error.is_connect() => {
                    bail!("{address} was asked and gave no answer: {error}; look whether it was done before you ask again");
                }
                Err(error) => last = Some(error),
            }
        }
        let error = last.map_or_else(String::new, |error| format!(": {error}"));
        bail!("no {} answers at {} ({}){error}", self.service, self.addresses.join(", "), self.known_by)
    }
}

/// A text as a part of a path.
pub(crate) fn percent(plain: &str) -> String {
    let mut text = String::new();
    for byte in plain.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The status, and the body as JSON; a body that is none is told as a problem.
async fn answered(request: reqwest::RequestBuilder) -> Result<(StatusCode, Value), reqwest::Error> {
    let response = request.send().await?;
    let status = response.status();
    let bytes = response.bytes().await?;
    let no_json = || json!({ "detail": String::from_utf8_lossy(&bytes), "code": "no_json" });
    Ok((status, serde_json::from_slice(&bytes).unwrap_or_else(|_| no_json())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// A replica that gives these answers, one a connection, and then the last one again; an empty one ends the connection without any.
    async fn replica(answers: &[&str]) -> (String, Arc<AtomicU32>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU32::new(0));
        let (answers, count) = (answers.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), Arc::clone(&asked));
        tokio::spawn(async move {
            loop {
                let (mut connection, _) = listener.accept().await.unwrap();
                let number = count.fetch_add(1, Ordering::SeqCst);
                let mut request = vec![0; 4_096];
                assert!(connection.read(&mut request).await.unwrap() > 0, "a request, which fits into a packet");
                let body = answers.get(usize::try_from(number).unwrap()).or(answers.last()).unwrap();
                if !body.is_empty() {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                    connection.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        (address, asked)
    }

    fn api(addresses: &[&String]) -> Api {
        service_kit::install_crypto_provider();
        let addresses = addresses.iter().map(|address| (*address).clone()).collect();
        Api::new("replica", "REPLICAS", addresses, &Secret::new("t"), Duration::from_secs(10)).unwrap()
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_not_asked_for_elsewhere() {
        let (mute, asked) = replica(&[""]).await;
        let (good, asked_good) = replica(&["{}"]).await;
        let error = api(&[&mute, &good]).call_once(&Method::POST, "/", None).await.unwrap_err().to_string();
        assert!(error.contains("gave no answer") && error.contains("before you ask again"), "{error}");
        assert_eq!((asked.load(Ordering::SeqCst), asked_good.load(Ordering::SeqCst)), (1, 0));
        api(&[&mute, &good]).call(&Method::GET, "/", None, None).await.unwrap();
        assert_eq!(asked_good.load(Ordering::SeqCst), 1, "what may be made again is");
    }

    #[tokio::test]
    async fn what_reached_nobody_is_asked_for_elsewhere() {
        let nobody = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        };
        let (good, asked) = replica(&["{}"]).await;
        api(&[&nobody, &good]).call_once(&Method::POST, "/", None).await.unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let error = api(&[&nobody]).call_once(&Method::POST, "/", None).await.unwrap_err().to_string();
        assert!(error.starts_with("no replica answers at ") && error.contains("(REPLICAS)"), "{error}");
    }

    #[tokio::test]
    async fn a_list_is_followed_to_its_end_and_no_further_than_its_bound() {
        let (ends, _) = replica(&[r#"{"things":[1,2],"next":"a b"}"#, r#"{"things":[3],"next":null}"#]).await;
        assert_eq!(api(&[&ends]).list("/things", "things").await.unwrap().unwrap(), [1, 2, 3]);
        let (endless, asked) = replica(&[r#"{"things":[1],"next":"x"}"#]).await;
        let all = api(&[&endless]).list("/things", "things").await.unwrap().unwrap();
        assert_eq!((all.len(), asked.load(Ordering::SeqCst)), (PAGES_MAX, 1_000));
    }
}
