//! One trace from the HTTP request through the log: taken from the request, or begun here.

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
};
use contracts::TraceParent;
use domain::clock::Clock;

/// The header, in requests, records and answers.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The trace of a request. A header that cannot be read is as good as none, as the standard asks.
#[must_use]
pub fn of(request: &HttpRequest, clock: &dyn Clock, sampled: bool) -> TraceParent {
    let given = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    match given {
        Some(parent) => TraceParent::child(parent, clock),
        None => TraceParent::fresh(clock, sampled),
    }
}

/// The header's value for an answer.
#[must_use]
pub fn header(trace: TraceParent) -> HeaderValue {
    // 55 digits and dashes are a header's value; the other arm is never taken.
    HeaderValue::from_bytes(&trace.to_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""))
}
