//! Every error of the HTTP interface: one status, one stable code, one problem+json body.

use std::time::Duration;

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use service_kit::problem::{self, NoMembers};
pub use service_kit::problem::{FieldFault, PROBLEM_JSON};

use crate::error::LineError;

/// Every error that can be answered: status, stable code, and what the client should make of it.
pub const ERRORS: [(u16, &str, &str); 20] = [
    (400, "invalid_fields", "Fields are missing or wrong; `errors` names all of them."),
    (400, "malformed_body", "The body is not what is asked for."),
    (401, "bad_signature", "The callback's signature or secret is missing, wrong or too old."),
    (401, "unauthorized", "An operator's bearer token is needed."),
    (403, "admin_disabled", "No operator's token is set up, so the operators' interface is closed."),
    (404, "not_found", "There is nothing at this address."),
    (404, "unknown_provider", "No payment gateway has this name here."),
    (404, "unknown_order", "No order has this id."),
    (404, "unknown_refund", "No refund has this id."),
    (405, "method_not_allowed", "`Allow` names the methods of this address."),
    (409, "busy", "Another replica is at it; ask again in a moment."),
    (409, "refused", "The tables of states have no such move from where it is now; nothing was changed."),
    (413, "body_too_large", "The body is longer than is read."),
    (415, "unsupported_media_type", "The body must be `application/json`."),
    (429, "rate_limited", "Too many of this kind; `Retry-After` says when to ask again."),
    (500, "internal", "A fault of this service."),
    (503, "database_unavailable", "The database did not answer in time."),
    (503, "gateway_unavailable", "The payment gateway gave no answer that can be used; nothing was changed."),
    (503, "gateway_busy", "No turn at the payment gateway was free in time, or somebody else is trying it; nothing was asked."),
    (
        503,
        "gateway_paused",
        "The payment gateway asked for fewer calls; nothing was asked, and `Retry-After` says until when nobody calls it.",
    ),
];

/// Everything that can be answered instead of success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 400: fields are missing or wrong; all faults at once.
    #[error("some fields are not usable")]
    InvalidFields(Vec<FieldFault>),
    /// 400: the body is not what is asked for.
    #[error("the body is not usable: {0}")]
    MalformedBody(String),
    /// 401: a callback that nobody vouches for.
    #[error("the callback's signature is {0}")]
    BadSignature(&'static str),
    /// 401: no operator.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// 403: no operator's token is set up.
    #[error("the operators' interface is closed: no token is set up")]
    AdminDisabled,
    /// 404: no such address.
    #[error("there is nothing at this address")]
    NotFound,
    /// 404: no such gateway.
    #[error("no payment gateway has this name here")]
    UnknownProvider,
    /// 404: no such order.
    #[error("no order has the id {0}")]
    UnknownOrder(String),
    /// 404: no such refund.
    #[error("no refund has the id {0}")]
    UnknownRefund(String),
    /// 405.
    #[error("this address does not take that method")]
    MethodNotAllowed(&'static str),
    /// 409: somebody else is at it.
    #[error("another replica holds this and did not end in time; nothing was changed by this call, and it can be made again")]
    Busy,
    /// 409: the tables of states have no such move.
    #[error("{0}")]
    Refused(String),
    /// 413.
    #[error("the body is longer than {0} bytes")]
    BodyTooLarge(usize),
    /// 415.
    #[error("the body must be application/json")]
    UnsupportedMediaType,
    /// 429.
    #[error("too many {0}")]
    RateLimited(&'static str),
    /// 500: the log has the cause.
    #[error("an internal error")]
    Internal,
    /// 503.
    #[error("the database is not available")]
    DatabaseUnavailable,
    /// 503.
    #[error("the payment gateway gave no answer: {0}")]
    GatewayUnavailable(String),
    /// 503: it was not asked.
    #[error("{detail}")]
    GatewayBusy {
        /// Why, and until when.
        detail: String,
        /// When to come back, in seconds.
        retry_after_s: u64,
    },
    /// 503: it was not asked.
    #[error("{detail}")]
    GatewayPaused {
        /// Until when.
        detail: String,
        /// When to come back, in seconds.
        retry_after_s: u64,
    },
}

/// Seconds to wait that are named with a 429 or 503.
const RETRY_AFTER_S: u64 = 1;

impl ApiError {
    /// One faulty field.
    pub fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self::InvalidFields(vec![FieldFault::new(field, problem)])
    }

    /// An internal error; its cause goes to the log and not to the client.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "an internal error was answered");
        Self::Internal
    }

    /// The HTTP status and the stable code that clients may rely on.
    #[must_use]
    pub const fn parts(&self) -> (u16, &'static str) {
        match self {
            Self::InvalidFields(_) => (400, "invalid_fields"),
            Self::MalformedBody(_) => (400, "malformed_body"),
            Self::BadSignature(_) => (401, "bad_signature"),
            Self::Unauthorized(_) => (401, "unauthorized"),
            Self::AdminDisabled => (403, "admin_disabled"),
            Self::NotFound => (404, "not_found"),
            Self::UnknownProvider => (404, "unknown_provider"),
            Self::UnknownOrder(_) => (404, "unknown_order"),
            Self::UnknownRefund(_) => (404, "unknown_refund"),
            Self::MethodNotAllowed(_) => (405, "method_not_allowed"),
            Self::Busy => (409, "busy"),
            Self::Refused(_) => (409, "refused"),
            Self::BodyTooLarge(_) => (413, "body_too_large"),
            Self::UnsupportedMediaType => (415, "unsupported_media_type"),
            Self::RateLimited(_) => (429, "rate_limited"),
            Self::Internal => (500, "internal"),
            Self::DatabaseUnavailable => (503, "database_unavailable"),
            Self::GatewayUnavailable(_) => (503, "gateway_unavailable"),
            Self::GatewayBusy { .. } => (503, "gateway_busy"),
            Self::GatewayPaused { .. } => (503, "gateway_paused"),
        }
    }

    const fn retry_after_s(&self) -> u64 {
        match self {
            Self::GatewayBusy { retry_after_s, .. } | Self::GatewayPaused { retry_after_s, .. } => *retry_after_s,
            _ => RETRY_AFTER_S,
        }
    }

    /// The problem+json body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let (status, code) = self.parts();
        let errors = if let Self::InvalidFields(faults) = self { Some(faults.as_slice()) } else { None };
        problem::body(status, code, &self.to_string(), errors, NoMembers {})
    }
}

impl From<LineError> for ApiError {
    fn from(error: LineError) -> Self {
        let detail = error.to_string();
        match &error {
            LineError::GatewayBusy { left, .. } => return Self::GatewayBusy { detail, retry_after_s: whole_seconds(*left) },
            LineError::GatewayPaused { left, .. } => return Self::GatewayPaused { detail, retry_after_s: whole_seconds(*left) },
            _ => {}
        }
        match error.code() {
            "POSTGRES" => {
                tracing::warn!(%error, "the database did not answer a caller");
                Self::DatabaseUnavailable
            }
            code if code.starts_with("PG_") => Self::GatewayUnavailable(error.to_string()),
            "STOPPED" => Self::GatewayUnavailable(error.to_string()),
            "UNKNOWN_PROVIDER" => Self::Refused(error.to_string()),
            "LEASE_LOST" => Self::Busy,
            _ => Self::internal(&error),
        }
    }
}

/// Rounded up: whoever comes back then does not come too early.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0)).max(1)
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.parts().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CONTENT_TYPE, PROBLEM_JSON)).insert_header((header::CACHE_CONTROL, "no-store"));
        if matches!(self.parts().0, 429 | 503) {
            response.insert_header((header::RETRY_AFTER, self.retry_after_s()));
        }
        match self {
            Self::Unauthorized(_) => drop(response.insert_header((header::WWW_AUTHENTICATE, "Bearer"))),
            Self::BadSignature(_) => drop(response.insert_header((header::WWW_AUTHENTICATE, "Signature"))),
            Self::MethodNotAllowed(allowed) => drop(response.insert_header((header::ALLOW, *allowed))),
            _ => {}
        }
        response.body(self.body())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn every_error_has_its_status_code_and_body() {
        let all = [
            ApiError::field("reason", "is missing"),
            ApiError::MalformedBody("x".into()),
            ApiError::BadSignature("wrong"),
            ApiError::Unauthorized("no token"),
            ApiError::AdminDisabled,
            ApiError::NotFound,
            ApiError::UnknownProvider,
            ApiError::UnknownOrder("o".into()),
            ApiError::UnknownRefund("r".into()),
            ApiError::MethodNotAllowed("GET"),
            ApiError::Busy,
            ApiError::Refused("no".into()),
            ApiError::BodyTooLarge(1),
            ApiError::UnsupportedMediaType,
            ApiError::RateLimited("calls"),
            ApiError::Internal,
            ApiError::DatabaseUnavailable,
            ApiError::GatewayUnavailable("x".into()),
            ApiError::GatewayBusy { detail: "x".into(), retry_after_s: 1 },
            ApiError::GatewayPaused { detail: "x".into(), retry_after_s: 7 },
        ];
        let described: Vec<(u16, &str)> = ERRORS.iter().map(|(status, code, _)| (*status, *code)).collect();
        assert_eq!(all.iter().map(ApiError::parts).collect::<Vec<_>>(), described, "each is described, and nothing else is");
        for error in all {
            let (status, code) = error.parts();
            let response = error.error_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().get("content-type").unwrap(), PROBLEM_JSON);
            assert_eq!(response.headers().contains_key("retry-after"), matches!(status, 429 | 503), "{code}");
            assert_eq!(response.headers().contains_key("www-authenticate"), status == 401, "{code}");
            let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
            assert_eq!((body["status"].as_u64(), body["code"].as_str()), (Some(u64::from(status)), Some(code)));
            assert_eq!(body["type"], format!("urn:trueup:problem:{code}"));
        }
    }
}
