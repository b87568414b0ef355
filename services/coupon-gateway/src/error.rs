//! Every error of the HTTP interface: one status, one stable code, one problem+json body.

use actix_web::{
    HttpResponse, ResponseError,
    http::{StatusCode, header},
};
use domain::{
    clock::Timestamp,
    coupon::CommandOutcome,
    ids::{CouponCode, RequestId},
};
use serde::Serialize;
use service_kit::problem;
pub use service_kit::problem::{FieldFault, PROBLEM_JSON};

/// Everything that can be answered instead of success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 400: fields are missing or wrong; all faults at once.
    #[error("some fields are not usable")]
    InvalidFields(Vec<FieldFault>),
    /// 400: the body is not the JSON object that is asked for.
    #[error("the body is not usable JSON: {0}")]
    MalformedBody(String),
    /// 401: who is asking could not be established.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// 401: the token was good, but its time is over.
    #[error("the token has expired")]
    TokenExpired,
    /// 403: somebody else's request, ticket or status.
    #[error("this belongs to another member")]
    NotYours,
    /// 403: no operator's token is set up, so the operators' interface is closed.
    #[error("the operators' interface is closed: no token is set up")]
    AdminDisabled,
    /// 403: before the opening time.
    #[error("coupon {coupon} is not open yet")]
    NotOpen {
        /// The coupon.
        coupon: CouponCode,
        /// When it opens.
        opens_at: Timestamp,
    },
    /// 403: at or after the closing time.
    #[error("coupon {coupon} is closed")]
    Closed {
        /// The coupon.
        coupon: CouponCode,
        /// When it closed, where that is known.
        closes_at: Option<Timestamp>,
    },
    /// 403: paused by an operator; asking later may succeed.
    #[error("coupon {0} is paused")]
    Paused(CouponCode),
    /// 403: ended by an operator, for good.
    #[error("coupon {0} has ended")]
    Ended(CouponCode),
    /// 404: no such address.
    #[error("there is nothing at this address")]
    NotFound,
    /// 404: no coupon has this code.
    #[error("no coupon has the code {0}")]
    UnknownCoupon(CouponCode),
    /// 404: the ticket was not issued here, is damaged, or was signed by a key that is no longer accepted.
    #[error("this is not a ticket of this service")]
    UnknownTicket,
    /// 404: no such command is known.
    #[error("no such command is known")]
    UnknownCommand,
    /// 404: the member never asked for this coupon, or the request is not known.
    #[error("no such request is known")]
    UnknownRequest,
    /// 405.
    #[error("this address does not take that method")]
    MethodNotAllowed(&'static str),
    /// 409: the log refused an operator's command.
    #[error("the command was refused: {}", .0.as_str())]
    CommandRefused(CommandOutcome),
    /// 410: no seat is left.
    #[error("coupon {0} is sold out")]
    SoldOut(CouponCode),
    /// 413: the body is longer than `limit_bytes`.
    #[error("the body is longer than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The longest body that is read.
        limit_bytes: usize,
    },
    /// 415: not `application/json`.
    #[error("the body must be application/json")]
    UnsupportedMediaType,
    /// 429: this member or address asks too often.
    #[error("too many requests from this {scope}")]
    RateLimited {
        /// `member` or `address`.
        scope: &'static str,
        /// Whole seconds until one more is taken.
        retry_after_s: u64,
    },
    /// 503: a bound on work in progress is reached.
    #[error("too much is in progress: {0}")]
    Overloaded(&'static str),
    /// 503: the service is going down and takes nothing new.
    #[error("the service is shutting down")]
    ShuttingDown,
    /// 503: nothing was appended; nothing is reserved.
    #[error("the log cannot be written at the moment; nothing was recorded")]
    LogUnavailable,
    /// 503: the append was sent, its answer was lost. Asking again is safe and heals it.
    #[error("it is not known whether the request was recorded; asking again is safe")]
    AppendUnknown {
        /// The request that may have been recorded.
        request_id: RequestId,
    },
    /// 503: the gate is down or cold, and this coupon is not to be sold without it.
    #[error("the reservation gate is not available")]
    GateUnavailable,
    /// 503: the database did not answer in time.
    #[error("the database is not available")]
    DatabaseUnavailable,
    /// 503: the keys that tokens are checked with are not there yet.
    #[error("tokens cannot be checked at the moment")]
    IdentityUnavailable,
    /// 500: a fault of this service; the log has the cause.
    #[error("an internal error")]
    Internal,
}

/// Seconds to wait that are named with a 503.
pub const RETRY_AFTER_S: u64 = 1;

impl ApiError {
    /// One faulty field.
    pub fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self::InvalidFields(vec![FieldFault::new(field, problem)])
    }

    /// The HTTP status and the stable code that clients may rely on.
    #[must_use]
    pub const fn parts(&self) -> (u16, &'static str) {
        match self {
            Self::InvalidFields(_) => (400, "invalid_fields"),
            Self::MalformedBody(_) => (400, "malformed_body"),
            Self::Unauthorized(_) => (401, "unauthorized"),
            Self::TokenExpired => (401, "token_expired"),
            Self::NotYours => (403, "not_yours"),
            Self::AdminDisabled => (403, "admin_disabled"),
            Self::NotOpen { .. } => (403, "not_open"),
            Self::Closed { .. } => (403, "closed"),
            Self::Paused(_) => (403, "paused"),
            Self::Ended(_) => (403, "ended"),
            Self::NotFound => (404, "not_found"),
            Self::UnknownCoupon(_) => (404, "unknown_coupon"),
            Self::UnknownTicket => (404, "unknown_ticket"),
            Self::UnknownCommand => (404, "unknown_command"),
            Self::UnknownRequest => (404, "unknown_request"),
            Self::MethodNotAllowed(_) => (405, "method_not_allowed"),
            Self::CommandRefused(outcome) => (409, Self::command_code(*outcome)),
            Self::SoldOut(_) => (410, "sold_out"),
            Self::BodyTooLarge { .. } => (413, "body_too_large"),
            Self::UnsupportedMediaType => (415, "unsupported_media_type"),
            Self::RateLimited { .. } => (429, "rate_limited"),
            Self::Overloaded(_) => (503, "overloaded"),
            Self::ShuttingDown => (503, "shutting_down"),
            Self::LogUnavailable => (503, "log_unavailable"),
            Self::AppendUnknown { .. } => (503, "append_unknown"),
            Self::GateUnavailable => (503, "gate_unavailable"),
            Self::DatabaseUnavailable => (503, "database_unavailable"),
            Self::IdentityUnavailable => (503, "identity_unavailable"),
            Self::Internal => (500, "internal"),
        }
    }

    /// A code names one status only, so a command refused because the coupon has ended is not the member's `ended`.
    const fn command_code(outcome: CommandOutcome) -> &'static str {
        match outcome {
            CommandOutcome::Ended => "already_ended",
            other => other.as_str(),
        }
    }

    /// Seconds that the client should wait, where waiting helps.
    #[must_use]
    pub const fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_s, .. } => Some(*retry_after_s),
            _ if self.parts().0 == 503 => Some(RETRY_AFTER_S),
            _ => None,
        }
    }

    /// The problem+json body.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let (status, code) = self.parts();
        let errors = if let Self::InvalidFields(faults) = self { Some(faults.as_slice()) } else { None };
        let members = Members {
            request_id: if let Self::AppendUnknown { request_id } = self { Some(*request_id) } else { None },
            opens_at: if let Self::NotOpen { opens_at, .. } = self { Some(opens_at.to_string()) } else { None },
            closes_at: if let Self::Closed { closes_at: Some(at), .. } = self { Some(at.to_string()) } else { None },
        };
        problem::body(status, code, &self.to_string(), errors, members)
    }
}

/// This service's members of an error's body.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<RequestId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closes_at: Option<String>,
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.parts().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((header::CONTENT_TYPE, PROBLEM_JSON));
        if let Some(seconds) = self.retry_after_s() {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        match self {
            Self::Unauthorized(_) | Self::TokenExpired => drop(response.insert_header((header::WWW_AUTHENTICATE, "Bearer"))),
            Self::MethodNotAllowed(allowed) => drop(response.insert_header((header::ALLOW, *allowed))),
            _ => {}
        }
        response.body(self.body())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use std::collections::HashMap;

    use domain::clock::{Clock, SystemClock};

    use super::*;

    fn all() -> Vec<(ApiError, u16, &'static str)> {
        let coupon = || CouponCode::new("c").unwrap();
        let at = Timestamp::from_unix_ms(1_700_000_000_000);
        let mut table = vec![
            (ApiError::field("memberId", "is missing"), 400, "invalid_fields"),
            (ApiError::MalformedBody("x".into()), 400, "malformed_body"),
            (ApiError::Unauthorized("no token"), 401, "unauthorized"),
            (ApiError::TokenExpired, 401, "token_expired"),
            (ApiError::NotYours, 403, "not_yours"),
            (ApiError::AdminDisabled, 403, "admin_disabled"),
            (ApiError::NotOpen { coupon: coupon(), opens_at: at }, 403, "not_open"),
            (ApiError::Closed { coupon: coupon(), closes_at: Some(at) }, 403, "closed"),
            (ApiError::Paused(coupon()), 403, "paused"),
            (ApiError::Ended(coupon()), 403, "ended"),
            (ApiError::NotFound, 404, "not_found"),
            (ApiError::UnknownCoupon(coupon()), 404, "unknown_coupon"),
            (ApiError::UnknownTicket, 404, "unknown_ticket"),
            (ApiError::UnknownCommand, 404, "unknown_command"),
            (ApiError::UnknownRequest, 404, "unknown_request"),
            (ApiError::MethodNotAllowed("GET"), 405, "method_not_allowed"),
            (ApiError::SoldOut(coupon()), 410, "sold_out"),
            (ApiError::BodyTooLarge { limit_bytes: 1 }, 413, "body_too_large"),
            (ApiError::UnsupportedMediaType, 415, "unsupported_media_type"),
            (ApiError::RateLimited { scope: "member", retry_after_s: 3 }, 429, "rate_limited"),
            (ApiError::Overloaded("in flight"), 503, "overloaded"),
            (ApiError::ShuttingDown, 503, "shutting_down"),
            (ApiError::LogUnavailable, 503, "log_unavailable"),
            (ApiError::AppendUnknown { request_id: RequestId::fresh(&SystemClock) }, 503, "append_unknown"),
            (ApiError::GateUnavailable, 503, "gate_unavailable"),
            (ApiError::DatabaseUnavailable, 503, "database_unavailable"),
            (ApiError::IdentityUnavailable, 503, "identity_unavailable"),
            (ApiError::Internal, 500, "internal"),
        ];
        let commands = [
            (CommandOutcome::AlreadyDefined, "already_defined"),
            (CommandOutcome::TotalBelowIssued, "total_below_issued"),
            (CommandOutcome::WindowEmpty, "window_empty"),
            (CommandOutcome::Ended, "already_ended"),
            (CommandOutcome::AlreadyDecided, "already_decided"),
        ];
        table.extend(commands.map(|(outcome, code)| (ApiError::CommandRefused(outcome), 409, code)));
        table
    }

    #[test]
    fn every_error_has_its_status_code_and_body() {
        let mut status_of: HashMap<&str, u16> = HashMap::new();
        for (error, status, code) in all() {
            assert_eq!(error.parts(), (status, code));
            assert!(crate::openapi::ERRORS.iter().any(|known| (known.0, known.1) == (status, code)), "{code} is not described");
            let response = error.error_response();
            assert_eq!(response.status().as_u16(), status);
            assert_eq!(response.headers().get("content-type").unwrap(), PROBLEM_JSON);
            assert_eq!(response.headers().contains_key("retry-after"), matches!(status, 429 | 503), "{code}");
            let body: serde_json::Value = serde_json::from_slice(&error.body()).unwrap();
            assert_eq!((body["status"].as_u64(), body["code"].as_str()), (Some(u64::from(status)), Some(code)));
            assert_eq!(body["type"], format!("urn:trueup:problem:{code}"));
            assert!(!body["detail"].as_str().unwrap().is_empty());
            assert_eq!(*status_of.entry(code).or_insert(status), status, "{code} stands for two statuses");
        }
        assert_eq!(status_of.len(), all().len(), "a code is used twice");
        assert_eq!(crate::openapi::ERRORS.len(), all().len(), "the description has errors that do not exist");
    }

    #[test]
    fn what_helps_the_client_stands_in_the_body() {
        let at = Timestamp::from_unix_ms(1_700_000_000_000);
        let coupon = CouponCode::new("c").unwrap();
        let json = |error: ApiError| serde_json::from_slice::<serde_json::Value>(&error.body()).unwrap();
        assert_eq!(json(ApiError::NotOpen { coupon: coupon.clone(), opens_at: at })["opensAt"], "2023-11-14T22:13:20.000Z");
        assert_eq!(json(ApiError::Closed { coupon, closes_at: Some(at) })["closesAt"], "2023-11-14T22:13:20.000Z");
        let id = RequestId::fresh(&SystemClock);
        assert_eq!(json(ApiError::AppendUnknown { request_id: id })["requestId"], id.to_string());
        let faults = json(ApiError::InvalidFields(vec![FieldFault::new("memberId", "a"), FieldFault::new("code", "b")]));
        assert_eq!(faults["errors"].as_array().unwrap().len(), 2);
        assert!(SystemClock.now() > at);
    }
}
