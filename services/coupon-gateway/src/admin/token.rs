//! Who an operator is: a bearer token, compared in constant time.

use actix_web::HttpRequest;
use domain::secret::Secret;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::settings::AdminSettings;
use crate::{
    error::ApiError,
    identity::bearer,
    in_flight::{InFlight, InFlightGuard},
};

/// A token has at least this many characters.
const TOKEN_CHARS_MIN: usize = 16;

/// The operators and their tokens.
pub struct Admin {
    operators: Vec<Operator>,
    waiting: InFlight,
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

impl Admin {
    /// Operators as set; settings with faults make none.
    #[must_use]
    pub fn new(settings: &AdminSettings) -> Self {
        Self { operators: parse_tokens(&settings.tokens).unwrap_or_default(), waiting: InFlight::new(settings.waiting_max) }
    }

    /// The name of the operator who calls.
    ///
    /// # Errors
    /// 403 where no operator is set up, 401 without a token or with one that is nobody's.
    pub fn operator(&self, request: &HttpRequest) -> Result<&str, ApiError> {
        if self.operators.is_empty() {
            return Err(ApiError::AdminDisabled);
        }
        let Some(token) = bearer(request) else {
            return Err(ApiError::Unauthorized("an operator's bearer token is needed"));
        };
        // Every operator is compared, whoever matched: the time tells nothing.
        let found =
            self.operators.iter().fold(None, |found, operator| if same(&operator.token, token) { Some(operator) } else { found });
        found.map(|operator| operator.name.as_str()).ok_or(ApiError::Unauthorized("the bearer token is nobody's"))
    }

    /// A place among the calls that wait for the log.
    ///
    /// # Errors
    /// 503 when all are taken.
    pub fn wait_place(&self) -> Result<InFlightGuard, ApiError> {
        self.waiting.enter().ok_or(ApiError::Overloaded("operators' calls wait for the log already"))
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
    use actix_web::{http::header, test::TestRequest};

    use super::*;

    fn admin(tokens: &str) -> Admin {
        Admin::new(&AdminSettings { tokens: Secret::new(tokens), ..AdminSettings::default() })
    }

    fn call(admin: &Admin, authorization: Option<&str>) -> Result<String, u16> {
        let mut request = TestRequest::default();
        if let Some(text) = authorization {
            request = request.insert_header((header::AUTHORIZATION, text));
        }
        admin.operator(&request.to_http_request()).map(str::to_owned).map_err(|error| error.parts().0)
    }

    #[test]
    fn without_tokens_it_is_closed_and_with_them_only_theirs_open_it() {
        assert_eq!(call(&admin(""), Some("Bearer anything-at-all-1234")), Err(403));
        let admin = admin("anna:aaaaaaaaaaaaaaaa, ben:bbbbbbbbbbbbbbbb");
        assert_eq!(call(&admin, Some("Bearer aaaaaaaaaaaaaaaa")), Ok("anna".to_owned()));
        assert_eq!(call(&admin, Some("bearer bbbbbbbbbbbbbbbb")), Ok("ben".to_owned()));
        for bad in
            [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Bearer aaaaaaaaaaaaaaa"), Some("Basic aaaaaaaaaaaaaaaa")]
        {
            assert_eq!(call(&admin, bad), Err(401), "{bad:?}");
        }
    }

    #[test]
    fn faulty_tokens_are_told_without_being_shown() {
        for bad in ["anna", ":aaaaaaaaaaaaaaaa", "anna:short"] {
            let problem = parse_tokens(&Secret::new(bad)).unwrap_err();
            assert!(!problem.contains("short,") && !problem.contains("aaaaaaaa"), "{problem}");
        }
    }
}
