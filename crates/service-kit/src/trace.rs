//! One trace over processes: spans that continue a `traceparent`, and batches that link to their requests.

use std::sync::atomic::{AtomicBool, Ordering};

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

static ENABLED: AtomicBool = AtomicBool::new(false);

pub(crate) fn set_enabled(enabled: bool) {
    ENABLED.store(enabled, Ordering::Relaxed);
}

/// Whether spans go anywhere. Where they don't, callers should not make any.
#[must_use]
pub fn enabled() -> bool {
    ENABLED.load(Ordering::Relaxed)
}

/// Makes `span` a child of the remote span that `traceparent` names; one that cannot be read changes nothing.
pub fn continue_from(span: &Span, traceparent: &str) {
    if let Some(context) = context(traceparent) {
        // It fails only where no exporter is set up, and then there is nothing to continue.
        let _ = span.set_parent(Context::new().with_remote_span_context(context));
    }
}

/// Links `span` to the remote span that `traceparent` names; one that cannot be read changes nothing.
pub fn link_to(span: &Span, traceparent: &str) {
    if let Some(context) = context(traceparent) {
        span.add_link(context);
    }
}

/// The `traceparent` by which another process continues `span`; none where spans go nowhere.
#[must_use]
pub fn traceparent_of(span: &Span) -> Option<String> {
    traceparent(span, SpanContext::is_valid)
}

/// The same of the current span, if its trace is recorded: of one that nobody records, only the ids would be carried on.
#[must_use]
pub fn recorded() -> Option<String> {
    if !enabled() {
        return None;
    }
    traceparent(&Span::current(), |context| context.is_valid() && context.is_sampled())
}

fn traceparent(span: &Span, is_wanted: impl FnOnce(&SpanContext) -> bool) -> Option<String> {
    let context = span.context();
    let context = context.span().span_context().clone();
    is_wanted(&context).then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), context.trace_flags().to_u8()))
}

/// Reads `00-<trace>-<span>-<flags>` of the W3C's Trace Context.
fn context(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version.len() != 2 || version == "ff" || trace.len() != 32 || span.len() != 16 {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags.get(..2)?, 16).ok()?);
    let context =
        SpanContext::new(TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let read = context("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(read.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(read.is_sampled() && read.is_remote());
        for bad in [
            "",
            "00-0-0-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        ] {
            assert!(context(bad).is_none(), "{bad}");
        }
    }
}
