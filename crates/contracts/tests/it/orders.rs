//! Orders: what is taken, what is refused with which cause, and that no bytes make the reader panic.

use contracts::{
    Cause, Encoded, ORDER_LINES_MAX, ORDER_PAYMENTS_MAX, QUANTITY_MAX, names,
    order::{OrderPlaced, UnusableOrder, decode_order_placed, encode_order_placed},
    order_proto::{OrderLine, OrderPlaced as Wire, PaymentAttempt},
    payment::{PaymentOutcome, decode_payment_outcome},
};
use domain::clock::Timestamp;
use proptest::prelude::*;
use prost_reflect::prost::Message;

use crate::samples;

fn wire() -> Wire {
    Wire::decode(encode_order_placed(&samples::order(), &samples::envelope()).value().unwrap()).unwrap()
}

fn record(key: &[u8], event_type: Option<&str>, value: &[u8]) -> Encoded {
    let mut record = Encoded::new(Some(key), Some(value), 1);
    if let Some(event_type) = event_type {
        record.push_text(names::CE_TYPE, event_type);
    }
    record
}

fn read(wire: &Wire) -> Result<OrderPlaced, UnusableOrder> {
    let record = record(wire.order_id.as_bytes(), Some(names::TYPE_ORDER_PLACED), &wire.encode_to_vec());
    decode_order_placed(&record.at(0, 0, samples::AT.unix_ms()))
}

#[test]
fn equal_products_are_summed() {
    let line = |product: &str, quantity| OrderLine { product_id: product.to_owned(), quantity };
    let order = read(&Wire { lines: vec![line("b", 2), line("a", 1), line("b", 3)], ..wire() }).unwrap();
    let lines: Vec<_> = order.lines.iter().map(|(product, quantity)| (product.as_str(), *quantity)).collect();
    assert_eq!(lines, [("a", 1), ("b", 5)]);
}

#[test]
fn an_order_is_never_placed_after_it_was_appended() {
    let at = |placed_at| read(&Wire { placed_at, ..wire() }).unwrap().placed_at;
    let seconds = samples::AT.unix_ms() / 1_000;
    assert_eq!(at(None), samples::AT);
    assert_eq!(at(Some(prost_types::Timestamp { seconds: seconds + 3_600, nanos: 0 })), samples::AT);
    let before = Some(prost_types::Timestamp { seconds: seconds - 3_600, nanos: 0 });
    assert_eq!(at(before), Timestamp::from_unix_ms((seconds - 3_600) * 1_000));
}

#[test]
fn the_digest_covers_all_that_was_said_but_the_time_and_the_order_of_attempts() {
    let order = samples::order();
    let mut same = order.clone();
    same.payments.reverse();
    same.placed_at = Timestamp::from_unix_ms(7);
    assert_eq!(same.content_digest(), order.content_digest());
    let changes: [fn(&mut OrderPlaced); 7] = [
        |order| order.order = "order-2025".parse().unwrap(),
        |order| order.amount.amount += 1,
        |order| order.lines.values_mut().for_each(|quantity| *quantity += 1),
        |order| order.payments[0].reference = "other".parse().unwrap(),
        |order| order.payments[1].method = "card".to_owned(),
        |order| order.payments[0].deposit_secret = None,
        |order| order.payments.truncate(1),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut other = order.clone();
        change(&mut other);
        assert_ne!(other.content_digest(), order.content_digest(), "change {index}");
    }
}

#[test]
fn outcomes_pass_through_an_outbox_as_json() {
    for (name, outcome) in samples::payment_outcomes() {
        let json = outcome.to_json();
        assert_eq!(PaymentOutcome::from_json(outcome.event_type(), &json), Ok(outcome), "{name}: {json}");
    }
    let (_, completed) = samples::payment_outcomes().swap_remove(0);
    let mut json = completed.to_json();
    assert_eq!((json["amount"].as_str(), json["completedAt"].as_str()), (Some("15000"), Some("2024-05-01T09:00:00.123Z")));
    json["amount"] = 15_000.into();
    json["newer"] = true.into();
    assert_eq!(PaymentOutcome::from_json(completed.event_type(), &json), Ok(completed));
    for (field, bad) in [("amount", "many"), ("orderId", "a b"), ("currency", "?"), ("completedAt", "noon")] {
        let mut broken = json.clone();
        broken[field] = bad.into();
        assert!(PaymentOutcome::from_json(names::TYPE_ORDER_COMPLETED, &broken).is_err(), "{field}");
    }
    assert!(PaymentOutcome::from_json("trueup.payment.v1.Other", &json).is_err());
}

type Change = fn(&mut Wire);

#[test]
fn what_cannot_be_used_is_refused_with_its_cause_and_its_order() {
    let cases: [(Cause, Change); 16] = [
        (Cause::BadId, |wire| wire.lines[0].product_id = "a b".to_owned()),
        (Cause::BadId, |wire| wire.payments[0].payment_id.clear()),
        (Cause::BadId, |wire| wire.payments[0].provider = "Toss".to_owned()),
        (Cause::BadId, |wire| wire.payments[0].reference = "x".repeat(65)),
        (Cause::BadValue, |wire| wire.amount = 0),
        (Cause::BadValue, |wire| wire.currency = "WON!".to_owned()),
        (Cause::BadValue, |wire| wire.lines.clear()),
        (Cause::BadValue, |wire| wire.lines = vec![wire.lines[0].clone(); ORDER_LINES_MAX + 1]),
        (Cause::BadValue, |wire| wire.lines[0].quantity = 0),
        (Cause::BadValue, |wire| {
            let line = OrderLine { quantity: QUANTITY_MAX, ..wire.lines[0].clone() };
            wire.lines = vec![line.clone(), OrderLine { quantity: 1, ..line }];
        }),
        (Cause::BadValue, |wire| wire.payments.clear()),
        (Cause::BadValue, |wire| wire.payments = vec![wire.payments[0].clone(); ORDER_PAYMENTS_MAX + 1]),
        (Cause::BadValue, |wire| wire.payments[1] = PaymentAttempt { payment_id: "p".to_owned(), ..wire.payments[0].clone() }),
        (Cause::BadValue, |wire| wire.payments[0].method = "Card".to_owned()),
        (Cause::BadValue, |wire| wire.payments[0].deposit_secret = "a\nb".to_owned()),
        (Cause::BadValue, |wire| wire.placed_at = Some(prost_types::Timestamp { seconds: 0, nanos: -1 })),
    ];
    for (index, (cause, change)) in cases.into_iter().enumerate() {
        let mut wire = wire();
        change(&mut wire);
        let unusable = read(&wire).unwrap_err();
        assert_eq!(unusable.cause, cause, "case {index}: {}", unusable.detail);
        assert_eq!(unusable.order, Some(samples::order().order), "case {index}");
        assert!(!unusable.detail.contains("a\nb"), "a secret is not repeated");
    }
}

#[test]
fn the_envelope_decides_before_the_value() {
    let value = wire().encode_to_vec();
    let cause = |key: &str, event_type: Option<&str>, value: &[u8]| {
        decode_order_placed(&record(key.as_bytes(), event_type, value).at(0, 0, 0)).map(drop).map_err(|unusable| unusable.cause)
    };
    let placed = Some(names::TYPE_ORDER_PLACED);
    assert_eq!(cause("order-2024", placed, &value), Ok(()));
    assert_eq!(cause("order-2024", None, &value), Err(Cause::UnknownType));
    assert_eq!(cause("order-2024", Some(names::TYPE_ORDER_FAILED), &value), Err(Cause::UnknownType));
    assert_eq!(cause("order-2024", placed, b"\xff"), Err(Cause::BadProtobuf));
    assert_eq!(cause("order-2024", placed, &[0; contracts::ORDER_BYTES_MAX + 1]), Err(Cause::TooLarge));
    assert_eq!(cause("another", placed, &value), Err(Cause::BadId));
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(key: Vec<u8>, value: Vec<u8>, time: i64, kind in 0_usize..6) {
        let kinds = [
            names::TYPE_ORDER_PLACED, names::TYPE_ORDER_COMPLETED, names::TYPE_ORDER_FAILED, names::TYPE_PAYMENT_REFUNDED,
            names::TYPE_ORDER_NEEDS_ATTENTION, "nothing",
        ];
        let record = record(&key, Some(kinds[kind]), &value);
        let raw = record.at(0, 0, time);
        let _ = (decode_order_placed(&raw), decode_payment_outcome(&raw));
    }

    #[test]
    fn an_order_is_read_as_it_was_written(
        amount in 1_i64..,
        lines in prop::collection::btree_map("[a-z0-9-]{1,64}", 1_i64..=QUANTITY_MAX, 1..20),
        earlier in 0_i64..1_000_000_000,
    ) {
        let mut order = samples::order();
        order.amount.amount = amount;
        order.lines = lines.into_iter().map(|(product, quantity)| (product.parse().unwrap(), quantity)).collect();
        order.placed_at = Timestamp::from_unix_ms(samples::AT.unix_ms() - earlier);
        let record = encode_order_placed(&order, &samples::envelope());
        prop_assert_eq!(decode_order_placed(&record.at(1, 2, samples::AT.unix_ms())), Ok(order));
    }
}
