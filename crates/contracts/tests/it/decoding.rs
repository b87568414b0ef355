//! What becomes of records that are not as they should be.

use contracts::{Cause, Decoded, Encoded, Unusable, decode, names, proto};
use domain::{
    coupon::{Body, Request},
    ids::RequestId,
};
use prost::Message;

use crate::samples::{self, AT};

fn read(record: &Encoded) -> Decoded {
    decode(&record.at(3, 9, AT.unix_ms()), &samples::log_key(), &samples::log())
}

fn unusable(record: &Encoded) -> Unusable {
    match read(record) {
        Decoded::Unusable(unusable) => unusable,
        usable => panic!("{usable:?}"),
    }
}

fn usable(record: &Encoded) -> Request {
    match read(record) {
        Decoded::Usable(record) => match record.body {
            Body::Request(request) => request,
            other => panic!("{other:?}"),
        },
        unusable => panic!("{unusable:?}"),
    }
}

fn json(text: &str) -> Encoded {
    Encoded::new(Some(b"coupon-2024"), Some(text.as_bytes()), 0)
}

/// A request with another value, in its usual envelope.
fn request_of(value: &[u8]) -> Encoded {
    let mut record = Encoded::new(Some(b"coupon-2024"), Some(value), 4);
    record.push_text(names::CE_TYPE, names::TYPE_REQUEST);
    record.push_text(names::CE_ID, &samples::request_id().to_string());
    record
}

fn message() -> proto::CouponIssueRequestEvent {
    proto::CouponIssueRequestEvent {
        coupon_id: "coupon-2024".to_owned(),
        user_id: "user-1234".to_owned(),
        request_id: samples::request_id().to_string(),
        admitted: false,
        replay_of: String::new(),
    }
}

/// The same record with one header exchanged or taken away.
fn with_header(record: &Encoded, name: &str, value: Option<&str>) -> Encoded {
    let mut copy = Encoded::copy_of(&record.at(0, 0, 0));
    copy.retain_headers(|other| other != name.as_bytes());
    if let Some(value) = value {
        copy.push_text(name, value);
    }
    copy
}

#[test]
fn foreign_json_is_taken_in_every_spelling() {
    let landed = RequestId::from_first_landing("a-cluster/a-topic", 3, 9);
    for text in [
        r#"{"userId":"user-1234","couponId":"coupon-2024"}"#,
        r#" {"couponId" : "coupon-2024", "userId":"user-1234", "at": {"any": [1, null]}} "#,
        r#"{"memberId":"user-1234","couponId":"coupon-2024"}"#,
        r#"{"userId":"user-\u0031234","couponId":"coupon-2024"}"#,
    ] {
        let request = usable(&json(text));
        assert_eq!(request, Request { id: landed, ..samples::request(false) }, "{text}");
    }
    assert_eq!(usable(&json(r#"{"userId":1234,"couponId":"coupon-2024"}"#)).member.as_str(), "1234");
    assert_eq!(usable(&json(r#"{"userId":"m","couponId":77}"#)).coupon.as_str(), "77");
    // No key at all: the value says which coupon it is.
    let keyless = Encoded::new(None, Some(br#"{"userId":"m","couponId":"c"}"#), 0);
    assert_eq!(usable(&keyless).coupon.as_str(), "c");
}

#[test]
fn a_forwarded_foreign_record_keeps_the_id_of_its_first_landing() {
    let first = json(r#"{"userId":"user-1234","couponId":"coupon-2024"}"#);
    let raw = first.at(3, 9, AT.unix_ms());
    let id = usable(&first).id;
    let with_id = contracts::forwarded(&raw, Some(id));
    let without_id = contracts::forwarded(&raw, None);
    for copy in [&with_id, &without_id] {
        let moved = copy.at(8, 1_000, AT.unix_ms());
        let Decoded::Usable(record) = decode(&moved, &samples::log_key(), &samples::log()) else { panic!() };
        let Body::Request(request) = record.body else { panic!() };
        assert_eq!(request.id, id);
        assert_eq!(contracts::origin_of(&moved), raw.place());
        // Forwarded once more, it still says where it first landed.
        let again = contracts::forwarded(&moved, Some(id));
        assert_eq!(contracts::origin_of(&again.at(5, 5, 0)), raw.place());
    }
}

#[test]
fn bad_json_names_nobody() {
    for text in [
        "",
        "nonsense",
        "{",
        "[]",
        "{}",
        r#"{"userId":"m"}"#,
        r#"{"userId":null,"couponId":"c"}"#,
        r#"{"userId":1.5,"couponId":"c"}"#,
    ] {
        let found = unusable(&json(text));
        assert_eq!((found.cause, found.coupon, found.request), (Cause::BadJson, None, None), "{text}");
        assert!(!found.detail.is_empty());
    }
    let nothing = Encoded::new(None, None, 0);
    assert_eq!(unusable(&nothing).cause, Cause::BadJson);
}

#[test]
fn a_bad_id_keeps_what_is_good() {
    let long = "x".repeat(65);
    for member in ["", "a b", "a\\u0000", long.as_str()] {
        let found = unusable(&json(&format!(r#"{{"userId":"{member}","couponId":"coupon-2024"}}"#)));
        assert_eq!(found.cause, Cause::BadId, "{member}");
        assert_eq!((found.coupon, found.member), (Some(samples::coupon()), None));
        assert_eq!(found.request, Some(RequestId::from_first_landing("a-cluster/a-topic", 3, 9)));
    }
    let found = unusable(&json(r#"{"userId":"user-1234","couponId":"{x}"}"#));
    assert_eq!((found.coupon, found.member), (None, Some(samples::member())));

    let member = proto::CouponIssueRequestEvent { user_id: "nul\0".to_owned(), ..message() };
    let found = unusable(&request_of(&member.encode_to_vec()));
    assert_eq!((found.cause, found.coupon, found.request), (Cause::BadId, Some(samples::coupon()), Some(samples::request_id())));
    let id = proto::CouponIssueRequestEvent { request_id: "no-uuid".to_owned(), ..message() };
    let found = unusable(&request_of(&id.encode_to_vec()));
    assert_eq!((found.cause, found.request, found.member), (Cause::BadId, None, Some(samples::member())));
    let other = proto::CouponIssueRequestEvent { request_id: samples::command_id().to_string(), ..message() };
    let found = unusable(&request_of(&other.encode_to_vec()));
    assert_eq!((found.cause, found.request), (Cause::BadId, None), "two ids are claimed");
}

#[test]
fn a_truncated_request_is_known_by_its_envelope() {
    let value = message().encode_to_vec();
    for cut in [1, value.len() / 2, value.len() - 1] {
        let found = unusable(&request_of(&value[..cut]));
        assert_eq!(found.cause, Cause::BadProtobuf, "cut at {cut}");
        assert_eq!((found.coupon, found.request), (Some(samples::coupon()), Some(samples::request_id())));
    }
    let empty = unusable(&request_of(b""));
    assert_eq!(empty.cause, Cause::BadId, "an empty message is a message without ids");
    let huge = unusable(&request_of(&vec![0; contracts::VALUE_BYTES_MAX + 1]));
    assert_eq!((huge.cause, huge.request), (Cause::TooLarge, Some(samples::request_id())));
}

#[test]
fn an_unknown_type_names_no_request() {
    for unknown in ["trueup.coupon.v2.CouponIssueRequestEvent", "", "trueup.coupon.v1.CouponIssued", "x"] {
        let found = unusable(&with_header(&request_of(&message().encode_to_vec()), names::CE_TYPE, Some(unknown)));
        assert_eq!((found.cause, found.request), (Cause::UnknownType, None), "{unknown}");
        assert_eq!(found.coupon, Some(samples::coupon()));
    }
}

#[test]
fn admitted_counts_only_with_a_valid_signature() {
    let signed = &samples::all()[1].1;
    assert!(usable(signed).admitted);
    for (name, value) in [
        (names::SIGNATURE, None),
        (names::SIGNATURE, Some("AAAA")),
        (names::SIGNATURE, Some("!!!")),
        (names::CE_ID, Some("018F3384-8F80-7C3E-9F1A-0123456789AB")),
    ] {
        let request = usable(&with_header(signed, name, value));
        assert!(!request.admitted, "{name}");
        assert_eq!(request.id, samples::request_id());
    }
    // Signed for another member: the value is part of the signature.
    let mut stolen =
        request_of(&proto::CouponIssueRequestEvent { user_id: "thief".to_owned(), admitted: true, ..message() }.encode_to_vec());
    stolen.push_text(names::SIGNATURE, signed.headers().text(names::SIGNATURE).unwrap());
    assert!(!usable(&stolen).admitted);
}

#[test]
fn commands_need_a_signature() {
    let other = contracts::LogKey::parse("somebody-elses-secret").unwrap();
    let forged = [
        contracts::encode_define(&samples::define(), &other, &samples::envelope()),
        contracts::encode_change(&samples::change(), &other, &samples::envelope()),
        contracts::encode_cancel(&samples::cancel(), &other, &samples::envelope()),
    ];
    for record in &forged {
        for record in [record.clone(), with_header(record, names::SIGNATURE, None)] {
            let found = unusable(&record);
            assert_eq!((found.cause, found.request), (Cause::BadSignature, None));
            assert_eq!(found.coupon, Some(samples::coupon()));
        }
    }
}

#[test]
fn signed_commands_with_impossible_values_are_refused() {
    use domain::coupon::{Change, Define};
    let (key, envelope) = (samples::log_key(), samples::envelope());
    let define = |define: Define| contracts::encode_define(&define, &key, &envelope);
    let change = |change: Change| contracts::encode_change(&change, &key, &envelope);
    let cases = [
        ("negative total", define(Define { total: -1, ..samples::define() })),
        ("total beyond the bound", define(Define { total: contracts::TOTAL_MAX + 1, ..samples::define() })),
        ("window the wrong way", define(Define { closes_at: Some(AT), ..samples::define() })),
        ("NUL in the name", define(Define { name: "a\0b".to_owned(), ..samples::define() })),
        ("long name", define(Define { name: "x".repeat(201), ..samples::define() })),
        ("long actor", define(Define { actor: "x".repeat(129), ..samples::define() })),
        ("negative new total", change(Change { total: Some(-5), ..samples::change() })),
        ("newline in the actor", change(Change { actor: "a\nb".to_owned(), ..samples::change() })),
    ];
    for (what, record) in cases {
        let found = unusable(&record);
        assert_eq!(found.cause, Cause::BadValue, "{what}");
        assert_eq!(found.coupon, Some(samples::coupon()), "{what}");
    }
}

#[test]
fn what_a_newer_producer_adds_is_ignored_and_survives_a_relay() {
    let mut value = message().encode_to_vec();
    // Field 99, length-delimited, as a later version may write it.
    value.extend_from_slice(&[0x9a, 0x06, 0x03, b'n', b'e', b'w']);
    let record = request_of(&value);
    assert_eq!(usable(&record), samples::request(false));
    let copy = contracts::forwarded(&record.at(3, 9, 0), None);
    assert_eq!(copy.value(), Some(&value[..]));
}

#[test]
fn details_fit_a_header_and_a_log_line() {
    let found = unusable(&with_header(&request_of(b""), names::CE_TYPE, Some(&"\n\0x".repeat(1_000))));
    assert!(found.detail.chars().count() <= contracts::DETAIL_CHARS_MAX);
    assert!(!found.detail.contains(char::is_control));
}
