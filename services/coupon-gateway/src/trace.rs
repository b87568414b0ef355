//! One trace from the HTTP request through the log: taken from the request, or begun here.

use actix_web::{
    HttpRequest,
    http::header::{HeaderName, HeaderValue},
};
use contracts::TraceParent;
use domain::clock::Timestamp;
use tracing::Span;

/// The header, in requests, records and answers.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

fn given(request: &HttpRequest) -> Option<&str> {
    request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok())
}

/// The trace of a request where no spans are made. A header that cannot be read is as good as none, as the standard asks.
#[must_use]
pub fn of(request: &HttpRequest, now: Timestamp) -> TraceParent {
    match given(request).and_then(|text| text.parse().ok()) {
        Some(parent) => TraceParent::child(parent, now),
        None => TraceParent::fresh(now, false),
    }
}

/// The span of a request, continued from the caller's, and the trace by which the log continues it. Only where spans
/// go somewhere.
#[must_use]
pub fn begin(request: &HttpRequest) -> (Span, Option<TraceParent>) {
    let span = tracing::info_span!("coupon request", otel.kind = "server", path = request.path());
    if let Some(parent) = given(request) {
        service_kit::trace::continue_from(&span, parent);
    }
    let trace = service_kit::trace::traceparent_of(&span).and_then(|text| text.parse().ok());
    (span, trace)
}

/// The header's value for an answer.
#[must_use]
pub fn header(trace: TraceParent) -> HeaderValue {
    // 55 digits and dashes are a header's value; the other arm is never taken.
    HeaderValue::from_bytes(&trace.to_bytes()).unwrap_or_else(|_| HeaderValue::from_static(""))
}
