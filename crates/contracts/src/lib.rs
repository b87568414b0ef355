//! What travels through Kafka: generated messages, their envelope, topics, keys and signatures.
//!
//! A value is plain protobuf; the envelope is `CloudEvents`' Kafka binary mode, so that a reader picks the message type by
//! the header `ce_type`. A record without it is a foreign producer's JSON. Everything here is pure: no Kafka client is
//! needed to encode, decode, sign or place a record, and decoding never panics, whatever the bytes are.

mod decode;
mod encode;
mod encoded;
mod envelope;
mod foreign;
mod key;
mod limits;
pub mod names;
pub mod order;
mod outcome;
mod partition;
pub mod payment;
mod payment_json;
mod record;
mod relay;
mod time;
mod trace;

pub use decode::{Decoded, Unusable, decode};
pub use encode::{encode_cancel, encode_change, encode_define, encode_request};
pub use encoded::Encoded;
pub use envelope::Envelope;
pub use key::{LogKey, LogKeyError, LogKeySettings};
pub use limits::{
    ACTOR_CHARS_MAX, DEPOSIT_SECRET_CHARS_MAX, DETAIL_CHARS_MAX, METHOD_CHARS_MAX, NAME_CHARS_MAX, ORDER_BYTES_MAX,
    ORDER_LINES_MAX, ORDER_PAYMENTS_MAX, QUANTITY_MAX, TOTAL_MAX, VALUE_BYTES_MAX,
};
pub use outcome::{OutcomeError, OutcomeEvent, decode_outcome, encode_issued, encode_outcome, encode_rejected, outcome_event_id};
pub use partition::{murmur2, partition_of};
pub use record::{HeaderIter, HeaderSpan, Headers, RawRecord, RecordBatch};
pub use relay::{Cause, dead_letter, dead_letter_without_value, forwarded, origin_of};
pub use trace::TraceParent;

/// The messages as prost generates them. They stay at the edge: services speak `domain` types.
#[allow(missing_docs, clippy::all, clippy::as_conversions, rustdoc::all, reason = "generated code")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/trueup.coupon.v1.rs"));
}

/// The messages of `trueup.order.v1`, as [`proto`].
#[allow(missing_docs, clippy::all, clippy::as_conversions, rustdoc::all, reason = "generated code")]
pub mod order_proto {
    include!(concat!(env!("OUT_DIR"), "/trueup.order.v1.rs"));
}

/// The messages of `trueup.payment.v1`, as [`proto`].
#[allow(missing_docs, clippy::all, clippy::as_conversions, rustdoc::all, reason = "generated code")]
pub mod payment_proto {
    include!(concat!(env!("OUT_DIR"), "/trueup.payment.v1.rs"));
}

/// The compiled image of proto/, with its custom options, for tests and tools that read the contracts themselves.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contracts.binpb"));
