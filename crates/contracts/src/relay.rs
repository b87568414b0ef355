//! Records that are passed on: forwarded to their coupon's partition, or to the dead letter topic.
//!
//! Both keep the original bytes. A message that was decoded and encoded again would lose the fields that a newer producer
//! wrote, because prost drops what it does not know.

use std::{fmt, str::FromStr};

use domain::{coupon::Place, ids::RequestId};

use crate::{encoded::Encoded, limits::DETAIL_CHARS_MAX, names, record::RawRecord};

/// A key or header that is longer is left out of a dead letter without its value.
const KEPT_BYTES_MAX: usize = 256;
/// Headers of a dead letter without its value.
const KEPT_HEADERS_MAX: usize = 32;

/// Why a record could not be used. The codes are wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Without `ce_type`, and not the JSON of a foreign producer.
    BadJson,
    /// The value is not the protobuf message that `ce_type` names.
    BadProtobuf,
    /// A `ce_type` that nobody here knows.
    UnknownType,
    /// A coupon code, member id or request id that breaks the rules of ids.
    BadId,
    /// A value outside of its bounds, such as a negative total.
    BadValue,
    /// A command that needs a signature and has no valid one.
    BadSignature,
    /// The coupon was never defined, and this is the partition where it would be.
    UnknownCoupon,
    /// The value is longer than any command can be.
    TooLarge,
    /// PostgreSQL refused its data.
    RefusedByDatabase,
    /// An order with the same id and other content was taken before.
    ContentDiffers,
    /// A payment's id or its reference at the gateway belongs to another order.
    PaymentTaken,
}

impl Cause {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 11] = [
        Self::BadJson,
        Self::BadProtobuf,
        Self::UnknownType,
        Self::BadId,
        Self::BadValue,
        Self::BadSignature,
        Self::UnknownCoupon,
        Self::TooLarge,
        Self::RefusedByDatabase,
        Self::ContentDiffers,
        Self::PaymentTaken,
    ];

    /// The code in headers, the database and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::BadProtobuf => "bad_protobuf",
            Self::UnknownType => "unknown_type",
            Self::BadId => "bad_id",
            Self::BadValue => "bad_value",
            Self::BadSignature => "bad_signature",
            Self::UnknownCoupon => "unknown_coupon",
            Self::TooLarge => "too_large",
            Self::RefusedByDatabase => "refused_by_database",
            Self::ContentDiffers => "content_differs",
            Self::PaymentTaken => "payment_taken",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Cause {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text).ok_or_else(|| format!("unknown cause `{text}`"))
    }
}

/// Where a record first landed in the log: what its forwarding header says, else where it stands.
#[must_use]
pub fn origin_of(raw: &RawRecord<'_>) -> Place {
    raw.headers.text(names::ORIGIN).and_then(parse_place).unwrap_or_else(|| raw.place())
}

fn parse_place(text: &str) -> Option<Place> {
    let (partition, offset) = text.split_once('@')?;
    let place = Place { partition: partition.parse().ok()?, offset: offset.parse().ok()? };
    (place.partition >= 0 && place.offset >= 0).then_some(place)
}

/// The record for its coupon's own partition: key, value and headers as they are, and where it first landed. `request`
/// is the id that a foreign record got at its first landing; it must not change with the place.
#[must_use]
pub fn forwarded(raw: &RawRecord<'_>, request: Option<RequestId>) -> Encoded {
    let mut copy = Encoded::copy_of(raw);
    if let Some(id) = request.filter(|_| raw.headers.get(names::REQUEST_ID).is_none()) {
        copy.push_text(names::REQUEST_ID, &id.to_string());
    }
    if raw.headers.text(names::ORIGIN).and_then(parse_place).is_none() {
        copy.retain_headers(|name| name != names::ORIGIN.as_bytes());
        copy.push_text(names::ORIGIN, &raw.place().to_string());
    }
    copy
}

/// The record for the dead letter topic: key, value and headers as they are, and why it could not be used.
#[must_use]
pub fn dead_letter(raw: &RawRecord<'_>, cause: Cause, detail: &str) -> Encoded {
    let mut copy = Encoded::copy_of(raw);
    copy.retain_headers(|name| {
        ![names::CAUSE, names::CAUSE_DETAIL, names::PLACE, names::ORIGIN].iter().any(|own| own.as_bytes() == name)
    });
    copy.push_text(names::CAUSE, cause.as_str());
    copy.push_text(names::CAUSE_DETAIL, &shortened(detail));
    copy.push_text(names::PLACE, &raw.place().to_string());
    copy.push_text(names::ORIGIN, &origin_of(raw).to_string());
    copy
}

/// The dead letter of a record that no topic takes a whole copy of: without its value and its long headers, but with the key as far as
/// an id may reach, and the place where the record itself stands.
#[must_use]
pub fn dead_letter_without_value(raw: &RawRecord<'_>, cause: Cause, detail: &str) -> Encoded {
    let key = raw.key.filter(|key| key.len() <= KEPT_BYTES_MAX);
    let mut short = Encoded::new(key, None, KEPT_HEADERS_MAX);
    let kept = raw.headers.iter().filter(|(name, value)| name.len() + value.map_or(0, <[u8]>::len) <= KEPT_BYTES_MAX);
    for (name, value) in kept.take(KEPT_HEADERS_MAX) {
        short.push_header(name, value);
    }
    let mut letter = dead_letter(&short.at(raw.partition, raw.offset, raw.timestamp_ms), cause, detail);
    letter.push_text(names::VALUE_BYTES, &raw.value.map_or(0, <[u8]>::len).to_string());
    letter
}

/// A detail that fits a header and a log line: bounded, and without control characters.
pub(crate) fn shortened(detail: &str) -> String {
    detail.chars().take(DETAIL_CHARS_MAX).map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}
