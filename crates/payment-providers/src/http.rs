//! One HTTP call within bounds: time, size, no redirects, and no secret in what is told about it.

use std::{error::Error, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{Client, RequestBuilder, Url, header, redirect};
use serde::de::DeserializeOwned;

use crate::{port::ProviderError, settings::ProviderSettings};

/// The longest pause that a gateway may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// The client of one merchant account.
pub struct Http {
    client: Client,
    base: Url,
    response_bytes_max: usize,
}

/// An answer as it came.
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

impl Http {
    pub fn new(settings: &ProviderSettings) -> Result<Self, String> {
        let client = Client::builder()
            .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
            .timeout(Duration::from_millis(settings.request_timeout_ms))
            .pool_max_idle_per_host(settings.idle_connections_max)
            // A redirect would carry the key elsewhere.
            .redirect(redirect::Policy::none())
            .user_agent(concat!("trueup/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        let base = Url::parse(settings.url()).map_err(|error| error.to_string())?;
        Ok(Self { client, base, response_bytes_max: settings.response_bytes_max })
    }

    /// The address of `segments` behind the base, each of them escaped.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    pub fn get(&self, url: Url) -> RequestBuilder {
        self.client.get(url)
    }

    pub fn post(&self, url: Url) -> RequestBuilder {
        self.client.post(url)
    }

    /// Sends it and reads the answer to its end, if it is not too large.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, ProviderError> {
        let mut response = request.send().await.map_err(unavailable)?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(pause);
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
            if body.len().saturating_add(chunk.len()) > self.response_bytes_max {
                return Err(ProviderError::Malformed(format!("the answer has more than {} bytes", self.response_bytes_max)));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after, body: body.freeze() })
    }
}

impl Answer {
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }

    /// Reads the body; what stands in it is not told, because it may hold personal data.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ProviderError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let kind = match error.classify() {
                serde_json::error::Category::Io | serde_json::error::Category::Eof => "it ends too early",
                serde_json::error::Category::Syntax => "it is no JSON",
                serde_json::error::Category::Data => "a field is missing or has another type",
            };
            ProviderError::Malformed(format!("{kind} (HTTP {}, line {}, column {})", self.status, error.line(), error.column()))
        })
    }

    /// What an answer without a readable code means, by its HTTP status alone. A bare 404 is no "not found": it may be a proxy's.
    pub fn without_code(&self) -> ProviderError {
        match self.status {
            429 => ProviderError::Throttled { retry_after: self.retry_after },
            401 | 403 => ProviderError::Account { code: format!("HTTP {}", self.status) },
            408 | 409 | 425 | 500..=599 => ProviderError::Unavailable(format!("HTTP {}", self.status)),
            _ => ProviderError::Malformed(format!("HTTP {} without a code", self.status)),
        }
    }
}

fn unavailable(error: reqwest::Error) -> ProviderError {
    let error = error.without_url();
    let what = if error.is_timeout() {
        "a time-out"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection ended"
    };
    // The innermost cause is the one that says something, such as "connection refused".
    let mut cause: &dyn Error = &error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    ProviderError::Unavailable(format!("{what} ({cause})"))
}

/// `Retry-After` in seconds; dates are not read, because they depend on the gateway's clock.
fn pause(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}
