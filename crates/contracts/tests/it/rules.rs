//! Topic and key of every message. buf ignores options, so a renamed topic would pass it; it does not pass here.

use std::{fs, path::PathBuf};

use contracts::{Encoded, FILE_DESCRIPTOR_SET, names};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::samples;

/// The rules, written down a second time on purpose: message, topic, key field, signed.
const RULES: [(&str, &str, &str, bool); 11] = [
    ("trueup.coupon.v1.CouponIssueRequestEvent", "coupon_created", "coupon_id", false),
    ("trueup.coupon.v1.DefineCoupon", "coupon_created", "coupon_id", true),
    ("trueup.coupon.v1.ChangeCoupon", "coupon_created", "coupon_id", true),
    ("trueup.coupon.v1.CancelRequest", "coupon_created", "coupon_id", true),
    ("trueup.coupon.v1.CouponIssued", "coupon_issued", "coupon_id", false),
    ("trueup.coupon.v1.CouponRejected", "coupon_rejected", "coupon_id", false),
    ("trueup.order.v1.OrderPlaced", "order_placed", "order_id", false),
    ("trueup.payment.v1.OrderCompleted", "payment_outcome", "order_id", false),
    ("trueup.payment.v1.OrderFailed", "payment_outcome", "order_id", false),
    ("trueup.payment.v1.PaymentRefunded", "payment_outcome", "order_id", false),
    ("trueup.payment.v1.OrderNeedsAttention", "payment_outcome", "order_id", false),
];

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap()
}

fn annotated(message: &MessageDescriptor) -> Option<(String, String, bool)> {
    let extension = message.parent_pool().get_extension_by_name("trueup.options.v1.log").unwrap();
    let options = message.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let rule = options.get_extension(&extension).into_owned();
    let rule = rule.as_message().unwrap();
    let field = |name| rule.get_field_by_name(name).unwrap().into_owned();
    Some((
        field("topic").as_str().unwrap().to_owned(),
        field("key_field").as_str().unwrap().to_owned(),
        field("signed").as_bool().unwrap(),
    ))
}

fn readme() -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto/README.md")).unwrap()
}

#[test]
fn each_message_that_travels_says_its_topic_key_and_signature() {
    let pool = pool();
    let mut found: Vec<_> = pool
        .all_messages()
        .filter_map(|message| annotated(&message).map(|rule| (message.full_name().to_owned(), rule)))
        .collect();
    found.sort();
    let mut expected: Vec<_> = RULES
        .iter()
        .map(|(name, topic, key, signed)| ((*name).to_owned(), ((*topic).to_owned(), (*key).to_owned(), *signed)))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn constants_agree_with_the_messages() {
    assert_eq!(
        RULES.map(|(name, ..)| name),
        [
            names::TYPE_REQUEST,
            names::TYPE_DEFINE,
            names::TYPE_CHANGE,
            names::TYPE_CANCEL,
            names::TYPE_ISSUED,
            names::TYPE_REJECTED,
            names::TYPE_ORDER_PLACED,
            names::TYPE_ORDER_COMPLETED,
            names::TYPE_ORDER_FAILED,
            names::TYPE_PAYMENT_REFUNDED,
            names::TYPE_ORDER_NEEDS_ATTENTION
        ]
    );
    for (_, topic, ..) in RULES {
        let coupons = [names::TOPIC_CREATED, names::TOPIC_ISSUED, names::TOPIC_REJECTED];
        assert!(coupons.contains(&topic) || [names::TOPIC_ORDER_PLACED, names::TOPIC_PAYMENT_OUTCOME].contains(&topic));
    }
    assert_eq!(names::TOPIC_ORDER_PLACED_DEAD_LETTER, format!("{}_dlt", names::TOPIC_ORDER_PLACED));
    assert_eq!(names::TOPIC_DEAD_LETTER, format!("{}_dlt", names::TOPIC_CREATED));
    assert_eq!(names::PARTITIONS_DEFAULT, 12);
}

/// The value as any reader with the descriptors sees it, and the key beside it.
fn key_of_value(record: &Encoded, field: &str, message: MessageDescriptor) -> String {
    let value = DynamicMessage::decode(message, record.value().unwrap()).unwrap();
    value.get_field_by_name(field).unwrap().as_str().unwrap().to_owned()
}

#[test]
fn what_is_written_follows_the_rules() {
    let pool = pool();
    let mut seen = Vec::new();
    for (name, record) in samples::all() {
        let headers = record.headers();
        let event_type = headers.text(names::CE_TYPE).unwrap();
        let (_, _, field, signed) = RULES.into_iter().find(|rule| rule.0 == event_type).unwrap();
        let key = key_of_value(&record, field, pool.get_message_by_name(event_type).unwrap());
        assert_eq!(record.key(), Some(key.as_bytes()), "{name}");
        assert_eq!(headers.get(names::SIGNATURE).is_some(), signed || name == "request-admitted", "{name}");
        assert_eq!(headers.text(names::CE_SPECVERSION), Some("1.0"), "{name}");
        assert_eq!(headers.text(names::CONTENT_TYPE), Some("application/protobuf"), "{name}");
        assert_eq!(headers.text(names::CE_TIME), Some("2024-05-01T09:00:00.123Z"), "{name}");
        for header in [names::CE_ID, names::CE_SOURCE, names::TRACEPARENT] {
            assert!(headers.text(header).is_some_and(|value| !value.is_empty()), "{name}: {header}");
        }
        seen.push(event_type.to_owned());
    }
    for (name, ..) in RULES {
        assert!(seen.iter().any(|seen| seen == name), "{name} has no sample");
    }
}

#[test]
fn the_readme_tells_the_same_topics_keys_and_headers() {
    let readme = readme();
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `")).collect();
    for (name, topic, key, _) in RULES {
        let short = name.rsplit('.').next().unwrap();
        let row = rows.iter().find(|row| row.starts_with(&format!("| `{topic}`"))).unwrap_or_else(|| panic!("no row of {topic}"));
        assert!(row.contains(&format!("`{short}`")), "{topic}: {short} is missing in its row");
        assert!(row.contains(&format!("`{key}`")), "{topic}: the key is missing in its row");
    }
    for topic in [names::TOPIC_DEAD_LETTER, names::TOPIC_ORDER_PLACED_DEAD_LETTER] {
        assert!(rows.iter().any(|row| row.starts_with(&format!("| `{topic}`"))), "no row of {topic}");
    }
    for header in [
        names::CE_SPECVERSION,
        names::CE_ID,
        names::CE_TYPE,
        names::CE_SOURCE,
        names::CE_TIME,
        names::CONTENT_TYPE,
        names::TRACEPARENT,
        names::SIGNATURE,
        names::REQUEST_ID,
        names::ORIGIN,
        names::PLACE,
        names::CAUSE,
        names::CAUSE_DETAIL,
    ] {
        assert!(rows.iter().any(|row| row.contains(&format!("`{header}`"))), "{header} is missing in the README");
    }
    for cause in contracts::Cause::ALL {
        assert!(rows.iter().any(|row| row.starts_with(&format!("| `{cause}`"))), "{cause} is missing in the README");
        assert_eq!(cause.as_str().parse(), Ok(cause));
    }
}
