//! How to reach a merchant account at a payment gateway.

use domain::secret::Secret;
use reqwest::Url;
use serde::{Deserialize, Serialize};

/// Which adapter speaks with the gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// The generic HTTP contract of `openapi/generic.json`.
    #[default]
    Generic,
    /// Toss Payments.
    Toss,
    /// Stripe.
    Stripe,
}

impl ProviderKind {
    /// Where the gateway is, if the settings do not say; the generic contract has no such place.
    #[must_use]
    pub const fn default_url(self) -> &'static str {
        match self {
            Self::Generic => "",
            Self::Toss => "https://api.tosspayments.com",
            Self::Stripe => "https://api.stripe.com",
        }
    }
}

/// A merchant account, named `…__PROVIDERS__<NAME>__…` in the environment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderSettings {
    /// Which adapter.
    pub kind: ProviderKind,
    /// The address in front of `/v1/…`; empty: the gateway's own.
    pub base_url: String,
    /// The secret key of the account.
    pub api_key: Secret,
    /// What signs callbacks (generic, Stripe). Without it signed callbacks are refused, and payments are found by asking alone.
    pub callback_secret: Secret,
    /// The secret before the current one, accepted as well while it is being replaced.
    pub callback_secret_previous: Secret,
    /// How far the time in a signature may be from ours, in milliseconds.
    pub callback_tolerance_ms: u64,
    /// How long a connection may take to be made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long a call may take from its beginning to the end of its answer, in milliseconds.
    pub request_timeout_ms: u64,
    /// The largest answer that is read, in bytes.
    pub response_bytes_max: usize,
    /// Connections that are kept while idle.
    pub idle_connections_max: usize,
    /// Transactions on one page of the audit's list.
    pub page_size: u32,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        Self {
            kind: ProviderKind::Generic,
            base_url: String::new(),
            api_key: Secret::default(),
            callback_secret: Secret::default(),
            callback_secret_previous: Secret::default(),
            callback_tolerance_ms: 300_000,
            connect_timeout_ms: 2_000,
            request_timeout_ms: 10_000,
            response_bytes_max: 2 << 20,
            idle_connections_max: 32,
            page_size: 100,
        }
    }
}

/// What is wrong with one setting of an account, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The setting, such as `base_url`.
    pub field: &'static str,
    /// What is wrong.
    pub problem: &'static str,
    /// What to give instead.
    pub fix: &'static str,
}

impl ProviderSettings {
    /// Settings of an account at `base_url`, with everything else as it is by default.
    #[must_use]
    pub fn new(kind: ProviderKind, base_url: impl Into<String>, api_key: impl Into<Secret>) -> Self {
        Self { kind, base_url: base_url.into(), api_key: api_key.into(), ..Self::default() }
    }

    /// The address in force.
    #[must_use]
    pub fn url(&self) -> &str {
        if self.base_url.is_empty() { self.kind.default_url() } else { &self.base_url }
    }

    /// Every problem; none if all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingsProblem> {
        let mut problems = Vec::new();
        let mut check = |is_wrong: bool, field, problem, fix| {
            if is_wrong {
                problems.push(SettingsProblem { field, problem, fix });
            }
        };
        match Url::parse(self.url()) {
            Err(_) => check(true, "base_url", "is not an address", "give one such as https://api.example.com"),
            Ok(url) => {
                let is_clear = url.scheme() != "https" && !is_loopback(&url);
                check(is_clear, "base_url", "would send the key in clear", "give an https:// address");
                let has_more = !url.username().is_empty() || url.password().is_some() || url.query().is_some();
                check(has_more, "base_url", "holds more than an address", "give scheme, host, port and path only");
            }
        }
        check(self.api_key.is_empty(), "api_key", "is missing", "give the account's secret key");
        check(self.connect_timeout_ms == 0, "connect_timeout_ms", "is 0", "give at least 1");
        check(self.request_timeout_ms == 0, "request_timeout_ms", "is 0", "give at least 1");
        check(self.response_bytes_max < 4_096, "response_bytes_max", "is too small for an answer", "give at least 4096");
        check(!(1..=1_000).contains(&self.page_size), "page_size", "is out of range", "give 1 to 1000");
        problems
    }
}

fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
