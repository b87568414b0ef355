//! Settings of identity.

use actix_web::http::header::HeaderName;
use domain::secret::Secret;
use jsonwebtoken::Algorithm;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

use super::networks::Networks;

/// How members are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityMode {
    /// By the body, at their word: for trials.
    #[default]
    None,
    /// By a header that a proxy in front sets.
    Header,
    /// By the subject of a signed token.
    Jwt,
}

/// How members are known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentitySettings {
    /// `none`, `header` or `jwt`.
    pub mode: IdentityMode,
    /// `header`: the header's name.
    pub header: String,
    /// `header`: address ranges of the proxies that may set it, separated by commas; empty: every peer may.
    pub trusted_proxies: String,
    /// `jwt`: how tokens are checked.
    pub jwt: JwtSettings,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            mode: IdentityMode::None,
            header: "x-member-id".to_owned(),
            trusted_proxies: String::new(),
            jwt: JwtSettings::default(),
        }
    }
}

/// How tokens are checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JwtSettings {
    /// The one algorithm that is accepted, whatever a token says.
    pub algorithm: String,
    /// The secret of HS256, HS384 or HS512.
    pub secret: Secret,
    /// A file with the issuer's public keys (JWKS).
    pub jwks_file: String,
    /// An address with the issuer's public keys (JWKS).
    pub jwks_url: String,
    /// Who tokens are for, separated by commas; a token must name one of them.
    pub audience: String,
    /// Who issues tokens, separated by commas.
    pub issuer: String,
    /// How far the clocks of the issuer and of this service may differ.
    pub leeway_s: u64,
    /// How often keys are read again.
    pub refresh_s: u64,
    /// The shortest time between two readings, however many tokens name an unknown key.
    pub refresh_min_s: u64,
    /// How long reading keys from an address may take.
    pub fetch_timeout_ms: u64,
}

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            algorithm: "HS256".to_owned(),
            secret: Secret::default(),
            jwks_file: String::new(),
            jwks_url: String::new(),
            audience: String::new(),
            issuer: String::new(),
            leeway_s: 30,
            refresh_s: 300,
            refresh_min_s: 5,
            fetch_timeout_ms: 3_000,
        }
    }
}

/// A shorter secret can be guessed from one token.
pub const SECRET_BYTES_MIN: usize = 32;
/// A longer leeway would make expiry meaningless.
pub const LEEWAY_S_MAX: u64 = 300;
/// Keys that are read more seldom would be believed long after the issuer took them back.
pub const REFRESH_S_MAX: u64 = 86_400;
/// The start waits for the first reading.
pub const FETCH_TIMEOUT_MS_MAX: u64 = 30_000;

/// Whether an algorithm uses a shared secret.
#[must_use]
pub const fn is_symmetric(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

impl IdentitySettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        match self.mode {
            IdentityMode::None => {}
            IdentityMode::Header => {
                if HeaderName::try_from(self.header.as_str()).is_err() {
                    faults.push(Fault::new("identity.header", "is no header name", "give one such as x-member-id"));
                }
                if let Err(part) = Networks::parse(&self.trusted_proxies) {
                    let fix = "give ranges such as 10.0.0.0/8,192.168.0.7";
                    faults.push(Fault::new("identity.trusted_proxies", format!("has `{part}`"), fix));
                }
            }
            IdentityMode::Jwt => self.jwt.faults(&mut faults),
        }
        faults
    }
}

impl JwtSettings {
    fn faults(&self, faults: &mut Vec<Fault>) {
        let mut fault = |field: &str, problem: &str, fix: &str| {
            faults.push(Fault::new(format!("identity.jwt.{field}"), problem, fix));
        };
        let by_keys = [&self.jwks_file, &self.jwks_url].iter().filter(|source| !source.is_empty()).count();
        match self.algorithm.parse::<Algorithm>() {
            Err(_) => fault("algorithm", "is not known", "give one such as HS256, RS256, ES256 or EdDSA"),
            Ok(algorithm) if is_symmetric(algorithm) => {
                if self.secret.expose().len() < SECRET_BYTES_MIN {
                    fault("secret", "is missing or short", "give at least 32 random characters");
                }
                if by_keys > 0 {
                    fault("jwks_url", "or jwks_file is set, but the algorithm uses a secret", "give one or the other");
                }
            }
            Ok(_) if by_keys != 1 => fault("jwks_url", "or jwks_file must be set", "give one of them"),
            Ok(_) => {}
        }
        if !self.jwks_url.is_empty() && !Url::parse(&self.jwks_url).is_ok_and(|url| may_be_asked(&url)) {
            fault("jwks_url", "is no https address", "give one; http is taken on loopback only");
        }
        for (field, value) in [("audience", &self.audience), ("issuer", &self.issuer)] {
            if names(value).next().is_none() {
                fault(field, "is missing", "tokens for somebody else must be told apart");
            }
        }
        if self.leeway_s > LEEWAY_S_MAX {
            fault("leeway_s", "is too long", "give at most 300");
        }
        for (field, value) in
            [("refresh_s", self.refresh_s), ("refresh_min_s", self.refresh_min_s), ("fetch_timeout_ms", self.fetch_timeout_ms)]
        {
            if value == 0 {
                fault(field, "is 0", "give at least 1");
            }
        }
        if self.refresh_s > REFRESH_S_MAX {
            fault("refresh_s", "is too long", "give at most 86400");
        }
        if self.refresh_min_s > self.refresh_s {
            fault("refresh_min_s", "is longer than refresh_s", "give at most as much");
        }
        if self.fetch_timeout_ms > FETCH_TIMEOUT_MS_MAX {
            fault("fetch_timeout_ms", "is too long", "give at most 30000");
        }
    }
}

/// Keys must not be changed on their way.
fn may_be_asked(url: &Url) -> bool {
    let loopback = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    url.scheme() == "https" || (url.scheme() == "http" && loopback)
}

/// The names in a list that is separated by commas.
pub fn names(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(change: impl FnOnce(&mut JwtSettings)) -> Vec<String> {
        let mut jwt = JwtSettings {
            secret: Secret::new("0123456789abcdef0123456789abcdef"),
            audience: "coupons".to_owned(),
            issuer: "https://login.example".to_owned(),
            ..JwtSettings::default()
        };
        change(&mut jwt);
        let settings = IdentitySettings { mode: IdentityMode::Jwt, jwt, ..IdentitySettings::default() };
        settings.faults().into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn every_setting_that_would_weaken_the_check_is_a_fault() {
        assert!(faults(|_| {}).is_empty());
        assert_eq!(faults(|jwt| jwt.algorithm = "none".to_owned()), ["identity.jwt.algorithm"]);
        assert_eq!(faults(|jwt| jwt.secret = Secret::new("short")), ["identity.jwt.secret"]);
        assert_eq!(faults(|jwt| jwt.audience = " , ".to_owned()), ["identity.jwt.audience"]);
        assert_eq!(faults(|jwt| jwt.issuer.clear()), ["identity.jwt.issuer"]);
        assert_eq!(faults(|jwt| jwt.leeway_s = 3_600), ["identity.jwt.leeway_s"]);
        assert_eq!(faults(|jwt| jwt.refresh_s = 86_401), ["identity.jwt.refresh_s"]);
        assert_eq!(faults(|jwt| jwt.refresh_min_s = 301), ["identity.jwt.refresh_min_s"]);
        assert_eq!(faults(|jwt| jwt.fetch_timeout_ms = 30_001), ["identity.jwt.fetch_timeout_ms"]);
        assert_eq!(faults(|jwt| jwt.algorithm = "RS256".to_owned()), ["identity.jwt.jwks_url"]);
        let by_url = |url: &str| {
            let url = url.to_owned();
            faults(move |jwt| (jwt.algorithm, jwt.jwks_url) = ("ES256".to_owned(), url))
        };
        assert!(by_url("https://login.example/keys").is_empty());
        assert!(by_url("http://127.0.0.1:9/keys").is_empty());
        assert_eq!(by_url("http://login.example/keys"), ["identity.jwt.jwks_url"]);
    }

    #[test]
    fn header_settings_are_checked_in_their_mode_only() {
        let mut settings =
            IdentitySettings { header: "a b".to_owned(), trusted_proxies: "x".to_owned(), ..IdentitySettings::default() };
        assert!(settings.faults().is_empty());
        settings.mode = IdentityMode::Header;
        assert_eq!(settings.faults().len(), 2);
    }
}
