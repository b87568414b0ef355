//! Whatever the bytes are, reading them ends in a command or a cause.

use contracts::{Decoded, Encoded, LogKey, RecordBatch, decode, decode_outcome, names};
use domain::coupon::Body;
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::samples;

fn header_name() -> impl Strategy<Value = Vec<u8>> {
    let known =
        [names::CE_TYPE, names::CE_ID, names::SIGNATURE, names::TRACEPARENT, names::REQUEST_ID, names::ORIGIN, names::CAUSE];
    prop_oneof![select(known.to_vec()).prop_map(|name| name.as_bytes().to_vec()), vec(any::<u8>(), 0..12)]
}

fn header_value() -> impl Strategy<Value = Option<Vec<u8>>> {
    let known = [names::TYPE_REQUEST, names::TYPE_DEFINE, names::TYPE_CHANGE, names::TYPE_CANCEL, "3@4", names::TYPE_ISSUED];
    option::weighted(
        0.95,
        prop_oneof![select(known.to_vec()).prop_map(|value| value.as_bytes().to_vec()), vec(any::<u8>(), 0..64)],
    )
}

/// Any bytes at all, in any envelope.
fn anything() -> impl Strategy<Value = Encoded> {
    let bytes = || option::weighted(0.9, vec(any::<u8>(), 0..200));
    (bytes(), bytes(), vec((header_name(), header_value()), 0..6)).prop_map(|(key, value, headers)| {
        let mut record = Encoded::new(key.as_deref(), value.as_deref(), headers.len());
        for (name, value) in headers {
            record.push_header(&name, value.as_deref());
        }
        record
    })
}

/// A good record with one byte changed, cut or added in its value, so that readers get far before they fail.
fn damaged() -> impl Strategy<Value = Encoded> {
    (0..samples::all().len(), any::<prop::sample::Index>(), any::<u8>(), 0..3_u8).prop_map(|(kind, at, byte, how)| {
        let (_, good) = samples::all().swap_remove(kind);
        let mut value = good.value().unwrap().to_vec();
        let at = at.index(value.len());
        match how {
            0 => value[at] = byte,
            1 => value.truncate(at),
            _ => value.insert(at, byte),
        }
        let mut record = Encoded::new(good.key(), Some(&value), 8);
        for (name, header) in good.headers() {
            // Signed again, or nothing would be read of a command.
            if name != names::SIGNATURE.as_bytes() {
                record.push_header(name, header);
            }
        }
        record
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_never_panics(record in anything(), partition in any::<i32>(), offset in any::<i64>(), at in any::<i64>()) {
        let raw = record.at(partition, offset, at);
        let _ = decode(&raw, &samples::log_key(), &samples::log());
        let _ = decode_outcome(&raw);
        let _ = (raw.trace_parent(), raw.size_bytes(), format!("{raw:?}"));
        let copy = contracts::forwarded(&raw, None);
        prop_assert_eq!((copy.key(), copy.value()), (raw.key, raw.value));
    }

    #[test]
    fn damaged_records_never_panic_and_are_never_taken_for_signed(record in damaged()) {
        let raw = record.at(1, 2, 3);
        let _ = decode_outcome(&raw);
        match decode(&raw, &samples::log_key(), &samples::log()) {
            Decoded::Usable(record) => prop_assert!(matches!(record.body, Body::Request(request) if !request.admitted)),
            Decoded::Unusable(unusable) => {
                prop_assert!(unusable.detail.chars().count() <= contracts::DETAIL_CHARS_MAX);
            }
        }
    }

    #[test]
    fn a_batch_gives_back_what_was_put_in(records in vec(anything(), 0..8)) {
        let mut batch = RecordBatch::new();
        for (offset, record) in records.iter().enumerate() {
            batch.push_raw(&record.at(1, offset as i64, 5));
        }
        prop_assert_eq!(batch.len(), records.len());
        for (raw, record) in batch.iter().zip(&records) {
            prop_assert_eq!((raw.key, raw.value), (record.key(), record.value()));
            prop_assert!(raw.headers.iter().eq(record.headers().iter()));
        }
    }

    #[test]
    fn any_secrets_make_a_key_or_an_error(text in ".{0,80}") {
        let _ = LogKey::parse(&text);
    }
}
