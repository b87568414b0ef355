//! Who an operator is: a bearer token, compared in constant time. Without any set up, the interface is closed.

use std::num::NonZeroU32;

use actix_web::{HttpRequest, http::header};
use domain::secret::Secret;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::settings::AdminSettings;
use crate::http::ApiError;

/// A token has at least this many characters.
const TOKEN_CHARS_MIN: usize = 16;

/// The operators and their tokens.
pub struct Operators {
    all: Vec<Operator>,
    wrong: DefaultDirectRateLimiter,
}

#[derive(Debug, Clone)]
pub(super) struct Operator {
    name: String,
    token: Secret,
}

/// Reads `name:token,name:token`.
pub(super) fn parse_tokens(tokens: &Secret) -> Result<Vec<Operator>, String> {
    let pairs = tokens.expose().split(',').map(str::trim).filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, token) = pair.split_once(':').ok_or_else(|| "holds a part without a colon".to_owned())?;
            if name.is_empty() || name.chars().count() > contracts::ACTOR_CHARS_MAX || name.chars().any(char::is_control) {
                return Err("holds a name that is empty or too long".to_owned());
            }
            if token.len() < TOKEN_CHARS_MIN {
                return Err(format!("holds a token of {name} that is too short"));
            }
            Ok(Operator { name: name.to_owned(), token: Secret::new(token) })
        })
        .collect()
}

impl Operators {
    /// Operators as set; settings with faults make none.
    #[must_use]
    pub fn new(settings: &AdminSettings) -> Self {
        let per_s = NonZeroU32::new(settings.wrong_tokens_per_s).unwrap_or(NonZeroU32::MIN);
        Self { all: parse_tokens(&settings.tokens).unwrap_or_default(), wrong: RateLimiter::direct(Quota::per_second(per_s)) }
    }

    /// The operator who calls, as `operator:NAME`.
    ///
    /// # Errors
    /// 403 where no operator is set up, 401 without a token or with one that is nobody's, 429 when wrong ones come too fast.
    pub fn actor(&self, request: &HttpRequest) -> Result<String, ApiError> {
        if self.all.is_empty() {
            return Err(ApiError::AdminDisabled);
        }
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Some(token) = token.filter(|token| !token.is_empty()) else {
            return Err(ApiError::Unauthorized("an operator's bearer token is needed"));
        };
        // Every operator is compared, whoever matched: the time tells nothing.
        let found =
            self.all.iter().fold(None, |found, operator| if same(&operator.token, token) { Some(operator) } else { found });
        match found {
            Some(operator) => Ok(format!("operator:{}", operator.name)),
            None if self.wrong.check().is_err() => Err(ApiError::RateLimited("calls with a wrong token")),
            None => Err(ApiError::Unauthorized("the bearer token is nobody's")),
        }
    }
}

/// Compares by their MACs, whose comparison takes the same time whatever the texts have in common.
fn same(token: &Secret, given: &str) -> bool {
    let mac = |text: &str| Hmac::<Sha256>::new_from_slice(b"operator").map(|mac| mac.chain_update(text.as_bytes()));
    match (mac(token.expose()), mac(given)) {
        (Ok(token), Ok(given)) => token.verify(&given.finalize().into_bytes()).is_ok(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use actix_web::test::TestRequest;

    use super::*;

    fn call(tokens: &str, authorization: Option<&str>) -> Result<String, u16> {
        let operators = Operators::new(&AdminSettings { tokens: Secret::new(tokens), ..AdminSettings::default() });
        let mut request = TestRequest::default();
        if let Some(text) = authorization {
            request = request.insert_header((header::AUTHORIZATION, text));
        }
        operators.actor(&request.to_http_request()).map_err(|error| error.parts().0)
    }

    #[test]
    fn without_tokens_it_is_closed_and_with_them_only_theirs_open_it() {
        assert_eq!(call("", Some("Bearer anything-at-all-1234")), Err(403));
        let tokens = "anna:aaaaaaaaaaaaaaaa, ben:bbbbbbbbbbbbbbbb";
        assert_eq!(call(tokens, Some("Bearer aaaaaaaaaaaaaaaa")), Ok("operator:anna".to_owned()));
        assert_eq!(call(tokens, Some("bearer bbbbbbbbbbbbbbbb")), Ok("operator:ben".to_owned()));
        for bad in
            [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Bearer aaaaaaaaaaaaaaa"), Some("Basic aaaaaaaaaaaaaaaa")]
        {
            assert_eq!(call(tokens, bad), Err(401), "{bad:?}");
        }
    }

    #[test]
    fn wrong_tokens_cannot_be_tried_fast() {
        let settings = AdminSettings { tokens: Secret::new("anna:aaaaaaaaaaaaaaaa"), ..AdminSettings::default() };
        let operators = Operators::new(&settings);
        let request = TestRequest::default().insert_header((header::AUTHORIZATION, "Bearer wrong")).to_http_request();
        let answers: Vec<u16> = (0..100).filter_map(|_| operators.actor(&request).err()).map(|error| error.parts().0).collect();
        assert!(answers.contains(&401) && answers.contains(&429));
        let right = TestRequest::default().insert_header((header::AUTHORIZATION, "Bearer aaaaaaaaaaaaaaaa")).to_http_request();
        assert!(operators.actor(&right).is_ok(), "nobody can lock an operator out");
    }

    #[test]
    fn faulty_tokens_are_told_without_being_shown() {
        for bad in ["anna", ":aaaaaaaaaaaaaaaa", "anna:short"] {
            let problem = parse_tokens(&Secret::new(bad)).unwrap_err();
            assert!(!problem.contains("short,") && !problem.contains("aaaaaaaa"), "{problem}");
        }
    }
}
