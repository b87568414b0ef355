//! Who an operator is: a bearer token, compared in constant time. Without any set up, the interface is closed.

use std::num::NonZeroU32;

use actix_web::HttpRequest;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use service_kit::operators::{self, NoOperator};

use super::settings::AdminSettings;
use crate::http::ApiError;

/// The operators, and how fast wrong tokens may come.
pub struct Operators {
    all: operators::Operators,
    wrong: DefaultDirectRateLimiter,
}

impl Operators {
    /// Operators as set; settings with faults make none.
    #[must_use]
    pub fn new(settings: &AdminSettings) -> Self {
        let per_s = NonZeroU32::new(settings.wrong_tokens_per_s).unwrap_or(NonZeroU32::MIN);
        let all = operators::Operators::parse(&settings.tokens).unwrap_or_default();
        Self { all, wrong: RateLimiter::direct(Quota::per_second(per_s)) }
    }

    /// The operator who calls, as `operator:NAME`.
    ///
    /// # Errors
    /// 403 where no operator is set up, 401 without a token or with one that is nobody's, 429 when wrong ones come too fast.
    pub fn actor(&self, request: &HttpRequest) -> Result<String, ApiError> {
        let caller = self.all.caller(request).map_err(|no_operator| match no_operator {
            NoOperator::Closed => ApiError::AdminDisabled,
            NoOperator::NoToken => ApiError::Unauthorized("an operator's bearer token is needed"),
            NoOperator::WrongToken if self.wrong.check().is_err() => ApiError::RateLimited("calls with a wrong token"),
            NoOperator::WrongToken => ApiError::Unauthorized("the bearer token is nobody's"),
        })?;
        Ok(format!("operator:{caller}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use actix_web::{http::header, test::TestRequest};
    use domain::secret::Secret;

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
    fn a_call_without_an_operator_has_its_status() {
        assert_eq!(call("", Some("Bearer anything-at-all-1234")), Err(403));
        let tokens = "anna:aaaaaaaaaaaaaaaa, ben:bbbbbbbbbbbbbbbb";
        assert_eq!(call(tokens, Some("bearer bbbbbbbbbbbbbbbb")), Ok("operator:ben".to_owned()));
        for bad in [None, Some("Bearer aaaaaaaaaaaaaaa")] {
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
}
