//! The member as the subject of a signed token.

use std::sync::Arc;

use actix_web::HttpRequest;
use anyhow::Context;
use domain::{clock::Clock, ids::MemberId};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use serde_json::Number;

use super::{
    JwtSettings,
    jwks::{KeySet, NoKey},
    settings::{is_symmetric, names},
};
use crate::error::ApiError;

/// A longer token is not looked at.
const TOKEN_BYTES_MAX: usize = 8_192;

enum Keys {
    Secret(Box<DecodingKey>),
    Set(Arc<KeySet>),
}

/// Checks tokens.
pub struct TokenIdentity {
    validation: Validation,
    keys: Keys,
    leeway_ms: i64,
    clock: Arc<dyn Clock>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: Number,
    nbf: Option<Number>,
}

impl TokenIdentity {
    /// As set; keys at an address are fetched behind it from then on.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub async fn new(settings: &JwtSettings, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let algorithm: Algorithm = settings.algorithm.parse().context("identity.jwt.algorithm")?;
        let keys = if is_symmetric(algorithm) {
            Keys::Secret(Box::new(DecodingKey::from_secret(settings.secret.expose().as_bytes())))
        } else {
            Keys::Set(KeySet::keep(settings, algorithm).await?)
        };
        Ok(Self { validation: validation(settings, algorithm), keys, leeway_ms: ms(settings.leeway_s), clock })
    }

    /// The subject of the request's token.
    ///
    /// # Errors
    /// 401 without a token or with one that does not hold, 503 while there are no keys.
    pub fn member(&self, request: &HttpRequest) -> Result<MemberId, ApiError> {
        let token =
            service_kit::operators::bearer(request).ok_or(ApiError::Unauthorized("send a token as `Authorization: Bearer …`"))?;
        self.check(token)
    }

    fn check(&self, token: &str) -> Result<MemberId, ApiError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(ApiError::Unauthorized("the token is too long"));
        }
        let claims = match &self.keys {
            Keys::Secret(key) => self.claims(token, key)?,
            Keys::Set(set) => {
                let header = decode_header(token).map_err(|_| ApiError::Unauthorized("the token cannot be read"))?;
                if !self.validation.algorithms.contains(&header.alg) {
                    return Err(ApiError::Unauthorized("the token is not signed as this service demands"));
                }
                match set.find(header.kid.as_deref()) {
                    Ok(key) => self.claims(token, &key)?,
                    Err(NoKey::NotThereYet) => return Err(ApiError::IdentityUnavailable),
                    Err(NoKey::Unknown) => return Err(ApiError::Unauthorized("the token's key is not known")),
                }
            }
        };
        self.in_time(&claims)?;
        MemberId::new(&claims.sub).map_err(|_| ApiError::Unauthorized("the token's subject is no member id"))
    }

    /// Signature, audience and issuer. What is wrong is told by kind; nothing of the token is repeated or logged.
    fn claims(&self, token: &str, key: &DecodingKey) -> Result<Claims, ApiError> {
        decode::<Claims>(token, key, &self.validation).map(|data| data.claims).map_err(|error| {
            ApiError::Unauthorized(match error.kind() {
                ErrorKind::InvalidSignature => "the token's signature does not hold",
                ErrorKind::InvalidAlgorithm => "the token is not signed as this service demands",
                ErrorKind::InvalidAudience => "the token is for somebody else",
                ErrorKind::InvalidIssuer => "the token was issued by somebody else",
                ErrorKind::MissingRequiredClaim(_) => "the token lacks exp, aud, iss or sub",
                _ => "the token cannot be read",
            })
        })
    }

    /// By this service's own clock, which tests can hold still.
    fn in_time(&self, claims: &Claims) -> Result<(), ApiError> {
        let now = self.clock.now().unix_ms();
        let unusable = ApiError::Unauthorized("the token's times cannot be read");
        let expires = unix_ms(&claims.exp).ok_or_else(|| unusable.clone())?;
        if now >= expires.saturating_add(self.leeway_ms) {
            return Err(ApiError::TokenExpired);
        }
        let from = claims.nbf.as_ref().map_or(Some(i64::MIN), unix_ms).ok_or(unusable)?;
        if now < from.saturating_sub(self.leeway_ms) {
            return Err(ApiError::Unauthorized("the token is not valid yet"));
        }
        Ok(())
    }
}

fn validation(settings: &JwtSettings, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "aud", "iss", "sub"]);
    validation.set_audience(&names(&settings.audience).collect::<Vec<_>>());
    validation.set_issuer(&names(&settings.issuer).collect::<Vec<_>>());
    // Times are judged here, by the clock of this service.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

fn ms(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000)
}

/// Seconds since 1970, whole or not.
fn unix_ms(seconds: &Number) -> Option<i64> {
    match seconds.as_i64() {
        Some(whole) => Some(whole.saturating_mul(1_000)),
        None => format!("{:.0}", seconds.as_f64()? * 1_000.0).parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use domain::{clock::Timestamp, secret::Secret};
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const NOW_S: i64 = 1_714_554_000;

    struct Still;
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_ms(NOW_S * 1_000)
        }
    }

    async fn identity() -> TokenIdentity {
        let settings = JwtSettings {
            secret: Secret::new(SECRET),
            audience: "coupons,shop".to_owned(),
            issuer: "https://login.example".to_owned(),
            leeway_s: 10,
            ..JwtSettings::default()
        };
        TokenIdentity::new(&settings, Arc::new(Still)).await.unwrap()
    }

    fn claims(change: Value) -> Value {
        let mut claims = json!({"sub": "user-1", "aud": "coupons", "iss": "https://login.example", "exp": NOW_S + 60});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        claims
    }

    fn token(algorithm: Algorithm, secret: &str, change: Value) -> String {
        encode(&Header::new(algorithm), &claims(change), &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[tokio::test]
    async fn a_good_token_names_its_subject() {
        let identity = identity().await;
        for change in [
            json!({}),
            json!({"aud": ["other", "shop"]}),
            json!({"exp": NOW_S - 9}),
            json!({"exp": (NOW_S + 5) as f64 + 0.5}),
            json!({"nbf": NOW_S + 9}),
        ] {
            let member = identity.check(&token(Algorithm::HS256, SECRET, change.clone()));
            assert_eq!(member.unwrap().as_str(), "user-1", "{change}");
        }
    }

    #[tokio::test]
    async fn every_other_token_is_refused_with_a_code() {
        let identity = identity().await;
        let cases = [
            (json!({"exp": NOW_S - 10}), "token_expired"),
            (json!({"exp": NOW_S - 100_000}), "token_expired"),
            (json!({"exp": null}), "unauthorized"),
            (json!({"exp": "soon"}), "unauthorized"),
            (json!({"aud": null}), "unauthorized"),
            (json!({"aud": "somebody"}), "unauthorized"),
            (json!({"iss": null}), "unauthorized"),
            (json!({"iss": "https://evil.example"}), "unauthorized"),
            (json!({"sub": null}), "unauthorized"),
            (json!({"sub": "a b"}), "unauthorized"),
            (json!({"nbf": NOW_S + 11}), "unauthorized"),
        ];
        for (change, code) in cases {
            let error = identity.check(&token(Algorithm::HS256, SECRET, change.clone())).unwrap_err();
            assert_eq!(error.parts(), (401, code), "{change}");
        }
        let refused = |token: &str| identity.check(token).unwrap_err().parts();
        assert_eq!(refused(&token(Algorithm::HS384, SECRET, json!({}))), (401, "unauthorized"), "another algorithm");
        assert_eq!(refused(&token(Algorithm::HS256, "another secret of the same length", json!({}))), (401, "unauthorized"));
        // {"alg":"none"} with good claims and no signature.
        let good = token(Algorithm::HS256, SECRET, json!({}));
        let body = good.split('.').nth(1).unwrap();
        assert_eq!(refused(&format!("eyJhbGciOiJub25lIn0.{body}.")), (401, "unauthorized"));
        let (unsigned, _) = good.rsplit_once('.').unwrap();
        for bad in ["", "a", "a.b.c", unsigned, &format!("{unsigned}."), &"a".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(refused(bad), (401, "unauthorized"));
        }
    }
}
