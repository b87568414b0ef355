//! Who an operator is: a bearer token, compared in constant time. Closed unless tokens are set up.

use actix_web::{HttpRequest, http::header::AUTHORIZATION};
use domain::secret::Secret;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// A token has at least this many characters.
const TOKEN_CHARS_MIN: usize = 16;
/// An operator's name has at most this many characters; it is kept with everything that he does.
const NAME_CHARS_MAX: usize = 128;

/// The operators and their tokens.
#[derive(Debug, Clone, Default)]
pub struct Operators(Vec<Operator>);

#[derive(Debug, Clone)]
struct Operator {
    name: String,
    token: Secret,
}

/// Why a call is not an operator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoOperator {
    /// 403: no token is set up, so nobody is one.
    #[error("the operators' interface is closed: no token is set up")]
    Closed,
    /// 401: no token came with the call.
    #[error("an operator's bearer token is needed")]
    NoToken,
    /// 401: the token is nobody's.
    #[error("the bearer token is nobody's")]
    WrongToken,
}

impl Operators {
    /// What to write into a setting of tokens.
    pub const FIX: &'static str = "give name:token pairs separated by commas, each token of at least 16 characters";

    /// Reads `name:token,name:token`.
    ///
    /// # Errors
    /// What is wrong, without showing a token.
    pub fn parse(tokens: &Secret) -> Result<Self, String> {
        let pairs = tokens.expose().split(',').map(str::trim).filter(|pair| !pair.is_empty());
        let operators = pairs.map(|pair| {
            let (name, token) = pair.split_once(':').ok_or_else(|| "holds a part without a colon".to_owned())?;
            if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
                return Err("holds a name that is empty or too long".to_owned());
            }
            if token.len() < TOKEN_CHARS_MIN {
                return Err(format!("holds a token of {name} that is too short"));
            }
            Ok(Operator { name: name.to_owned(), token: Secret::new(token) })
        });
        operators.collect::<Result<_, _>>().map(Self)
    }

    /// The name of the operator who calls.
    ///
    /// # Errors
    /// [`NoOperator`].
    pub fn caller(&self, request: &HttpRequest) -> Result<&str, NoOperator> {
        if self.0.is_empty() {
            return Err(NoOperator::Closed);
        }
        let token = bearer(request).ok_or(NoOperator::NoToken)?;
        // Every operator is compared, whoever matched: the time tells nothing.
        let found = self.0.iter().fold(None, |found, operator| if same(&operator.token, token) { Some(operator) } else { found });
        found.map(|operator| operator.name.as_str()).ok_or(NoOperator::WrongToken)
    }
}

/// The token behind `Authorization: Bearer`. None where there is none, or more than one.
#[must_use]
pub fn bearer(request: &HttpRequest) -> Option<&str> {
    let mut values = request.headers().get_all(AUTHORIZATION);
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
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

    fn call(tokens: &str, authorization: Option<&str>) -> Result<String, NoOperator> {
        let mut request = TestRequest::default();
        if let Some(text) = authorization {
            request = request.insert_header((header::AUTHORIZATION, text));
        }
        Operators::parse(&Secret::new(tokens)).unwrap().caller(&request.to_http_request()).map(str::to_owned)
    }

    #[test]
    fn without_tokens_it_is_closed_and_with_them_only_theirs_open_it() {
        assert_eq!(call("", Some("Bearer anything-at-all-1234")), Err(NoOperator::Closed));
        let tokens = "anna:aaaaaaaaaaaaaaaa, ben:bbbbbbbbbbbbbbbb";
        assert_eq!(call(tokens, Some("Bearer aaaaaaaaaaaaaaaa")), Ok("anna".to_owned()));
        assert_eq!(call(tokens, Some("bearer bbbbbbbbbbbbbbbb")), Ok("ben".to_owned()));
        assert_eq!(call(tokens, Some("Bearer aaaaaaaaaaaaaaa")), Err(NoOperator::WrongToken));
        for none in [None, Some(""), Some("Bearer"), Some("Bearer "), Some("Basic aaaaaaaaaaaaaaaa")] {
            assert_eq!(call(tokens, none), Err(NoOperator::NoToken), "{none:?}");
        }
    }

    #[test]
    fn faulty_tokens_are_told_without_being_shown() {
        for bad in ["anna", ":aaaaaaaaaaaaaaaa", "anna:short"] {
            let problem = Operators::parse(&Secret::new(bad)).unwrap_err();
            assert!(!problem.contains("short,") && !problem.contains("aaaaaaaa"), "{problem}");
        }
    }
}
