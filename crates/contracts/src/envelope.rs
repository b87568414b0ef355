//! The `CloudEvents` envelope, Kafka binary mode: attributes are headers, the value is the bare message.

use domain::clock::Timestamp;
use prost::Message;

use crate::{encoded::Encoded, key::LogKey, names, time, trace::TraceParent};

/// Who speaks, when, and in which trace.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// `ce_source`: a URI reference that names the service, such as `/trueup/coupon-gateway`.
    pub source: &'a str,
    /// `ce_time`: when it was written. Rules never read it.
    pub time: Timestamp,
    /// The trace it belongs to.
    pub trace_parent: Option<TraceParent>,
}

/// Puts a message into its envelope; with a key, signed.
pub(crate) fn seal(
    event_type: &str,
    event_id: &str,
    key: &str,
    message: &impl Message,
    envelope: &Envelope<'_>,
    sign: Option<&LogKey>,
) -> Encoded {
    seal_bytes(event_type, event_id, key, &message.encode_to_vec(), envelope, sign)
}

/// Puts a message's bytes into their envelope; with a key, signed.
pub(crate) fn seal_bytes(
    event_type: &str,
    event_id: &str,
    key: &str,
    value: &[u8],
    envelope: &Envelope<'_>,
    sign: Option<&LogKey>,
) -> Encoded {
    const HEADERS: usize = 8;
    let mut sealed = Encoded::new(Some(key.as_bytes()), Some(value), HEADERS);
    sealed.push_text(names::CE_SPECVERSION, names::SPECVERSION);
    sealed.push_text(names::CE_ID, event_id);
    sealed.push_text(names::CE_TYPE, event_type);
    sealed.push_text(names::CE_SOURCE, envelope.source);
    sealed.push_header(names::CE_TIME.as_bytes(), Some(&time::rfc3339_ms(envelope.time)));
    sealed.push_text(names::CONTENT_TYPE, names::PROTOBUF);
    if let Some(trace) = envelope.trace_parent {
        sealed.push_header(names::TRACEPARENT.as_bytes(), Some(&trace.to_bytes()));
    }
    if let Some(log_key) = sign {
        sealed.push_text(names::SIGNATURE, &log_key.sign(event_type, event_id, key.as_bytes(), value));
    }
    sealed
}
