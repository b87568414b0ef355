//! Operators' calls: who makes them, and how many may wait for the log.

use actix_web::HttpRequest;
use service_kit::operators::{NoOperator, Operators};

use super::settings::AdminSettings;
use crate::{
    error::ApiError,
    in_flight::{InFlight, InFlightGuard},
};

/// The operators and the places for their calls.
pub struct Admin {
    operators: Operators,
    waiting: InFlight,
}

impl Admin {
    /// Operators as set; settings with faults make none.
    #[must_use]
    pub fn new(settings: &AdminSettings) -> Self {
        Self { operators: Operators::parse(&settings.tokens).unwrap_or_default(), waiting: InFlight::new(settings.waiting_max) }
    }

    /// The name of the operator who calls.
    ///
    /// # Errors
    /// 403 where no operator is set up, 401 without a token or with one that is nobody's.
    pub fn operator(&self, request: &HttpRequest) -> Result<&str, ApiError> {
        self.operators.caller(request).map_err(|error| match error {
            NoOperator::Closed => ApiError::AdminDisabled,
            NoOperator::NoToken => ApiError::Unauthorized("an operator's bearer token is needed"),
            NoOperator::WrongToken => ApiError::Unauthorized("the bearer token is nobody's"),
        })
    }

    /// A place among the calls that wait for the log.
    ///
    /// # Errors
    /// 503 when all are taken.
    pub fn wait_place(&self) -> Result<InFlightGuard, ApiError> {
        self.waiting.enter().ok_or(ApiError::Overloaded("operators' calls wait for the log already"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use actix_web::{http::header, test::TestRequest};
    use domain::secret::Secret;

    use super::*;

    #[test]
    fn a_call_without_an_operator_has_its_status() {
        let admin = |tokens: &str| Admin::new(&AdminSettings { tokens: Secret::new(tokens), ..AdminSettings::default() });
        let call = |admin: &Admin, token: &str| {
            let request = TestRequest::default().insert_header((header::AUTHORIZATION, format!("Bearer {token}")));
            admin.operator(&request.to_http_request()).map(str::to_owned).map_err(|error| error.parts().0)
        };
        assert_eq!(call(&admin(""), "aaaaaaaaaaaaaaaa"), Err(403));
        assert_eq!(call(&admin("anna:aaaaaaaaaaaaaaaa"), "bbbbbbbbbbbbbbbb"), Err(401));
        assert_eq!(call(&admin("anna:aaaaaaaaaaaaaaaa"), "aaaaaaaaaaaaaaaa"), Ok("anna".to_owned()));
    }
}
