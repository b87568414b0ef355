//! One record of every kind, always the same.

use contracts::{
    Encoded, Envelope, LogKey, TraceParent, encode_cancel, encode_change, encode_define, encode_outcome, encode_request,
    order::{OrderPlaced, PaymentAttempt, encode_order_placed},
    payment::{PaymentOutcome, encode_payment_outcome},
};
use domain::{
    clock::Timestamp,
    coupon::{Admission, Cancel, Change, Define, LedgerRow, LogIncarnation, Outcome, Place, Refusal, Request},
    ids::{CommandId, CouponCode, MemberId, RequestId},
    payment::{Currency, Money},
    secret::Secret,
};
use uuid::Uuid;

pub const SECRET: &str = "the-golden-secret-of-version-one";
pub const AT: Timestamp = Timestamp::from_unix_ms(1_714_554_000_123);

pub fn log_key() -> LogKey {
    LogKey::parse(SECRET).unwrap()
}

pub fn log() -> LogIncarnation {
    LogIncarnation { cluster_id: "a-cluster".to_owned(), topic_id: "a-topic".to_owned() }
}

pub fn envelope() -> Envelope<'static> {
    let trace_parent =
        TraceParent { trace_id: 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, span_id: 0x00f0_67aa_0ba9_02b7, flags: 1 };
    Envelope { source: "/trueup/coupon-gateway", time: AT, trace_parent: Some(trace_parent) }
}

pub fn coupon() -> CouponCode {
    CouponCode::new("coupon-2024").unwrap()
}

pub fn member() -> MemberId {
    MemberId::new("user-1234").unwrap()
}

pub fn request_id() -> RequestId {
    "018f3384-8f80-7c3e-9f1a-0123456789ab".parse().unwrap()
}

pub fn command_id() -> CommandId {
    "018f3384-8f80-7d4f-8a2b-ba9876543210".parse().unwrap()
}

pub fn request(admitted: bool) -> Request {
    Request { id: request_id(), coupon: coupon(), member: member(), admitted }
}

pub fn define() -> Define {
    Define {
        id: command_id(),
        coupon: coupon(),
        actor: "alice".to_owned(),
        name: "봄 세일".to_owned(),
        admission: Admission::Reserved,
        total: 1_000,
        opens_at: Some(AT),
        closes_at: Some(AT.saturating_add_ms(3_600_000)),
    }
}

pub fn define_small() -> Define {
    Define { admission: Admission::Queued, name: String::new(), total: 0, opens_at: None, closes_at: None, ..define() }
}

pub fn change() -> Change {
    Change {
        id: command_id(),
        coupon: coupon(),
        actor: "bob".to_owned(),
        name: Some("Spring sale".to_owned()),
        total: Some(2_000),
        opens_at: Some(None),
        closes_at: Some(Some(AT)),
        paused: Some(false),
        end: true,
    }
}

pub fn change_nothing() -> Change {
    Change { name: None, total: None, opens_at: None, closes_at: None, paused: None, end: false, ..change() }
}

pub fn cancel() -> Cancel {
    Cancel { id: command_id(), coupon: coupon(), actor: "carol".to_owned(), member: member(), request: request_id() }
}

pub fn row(outcome: Outcome) -> LedgerRow {
    LedgerRow {
        coupon: coupon(),
        request: request_id(),
        member: Some(member()),
        place: Place { partition: 7, offset: 42 },
        at: AT,
        admitted: true,
        outcome,
    }
}

pub fn duplicate() -> LedgerRow {
    let other = "018f3384-8f80-7c3e-9f1a-00000000000f".parse().ok();
    row(Outcome::Refused { reason: Refusal::Duplicate, issued_request: other })
}

pub fn unreadable() -> LedgerRow {
    LedgerRow { member: None, ..row(Outcome::refused(Refusal::Unprocessable)) }
}

pub fn order() -> OrderPlaced {
    let attempt = |payment: &str, provider: &str, reference: &str| PaymentAttempt {
        payment: payment.parse().unwrap(),
        provider: provider.parse().unwrap(),
        reference: reference.parse().unwrap(),
        method: String::new(),
        deposit_secret: None,
    };
    let deposit = PaymentAttempt {
        method: "virtual_account".to_owned(),
        deposit_secret: Some(Secret::new("ps_a-golden-secret")),
        ..attempt("payment-1", "toss", "order-2024-1")
    };
    OrderPlaced {
        order: "order-2024".parse().unwrap(),
        amount: Money::new(15_000, Currency::KRW),
        lines: [("book-1", 2), ("책-2", 1)].map(|(product, quantity)| (product.parse().unwrap(), quantity)).into(),
        payments: vec![deposit, attempt("payment-2", "stripe", "pi_3MtwBwLkdIwHu7ix28a3tqPa")],
        placed_at: AT,
    }
}

pub fn payment_outcomes() -> Vec<(&'static str, PaymentOutcome)> {
    let (order, amount, at) = (order().order, Money::new(15_000, Currency::KRW), AT);
    let payment = "payment-1".parse::<domain::payment::PaymentId>().unwrap();
    let refunded = |refund: Option<&str>, reason: &str| PaymentOutcome::PaymentRefunded {
        order: order.clone(),
        payment: payment.clone(),
        refund: refund.map(|id| id.parse().unwrap()),
        amount,
        reason: reason.to_owned(),
        at,
    };
    let attention = |payment| PaymentOutcome::OrderNeedsAttention {
        order: order.clone(),
        payment,
        reason: "refund_needs_payer".to_owned(),
        at,
    };
    vec![
        ("order-completed", PaymentOutcome::OrderCompleted { order: order.clone(), payment: payment.clone(), amount, at }),
        ("order-failed", PaymentOutcome::OrderFailed { order: order.clone(), reason: "payment_failed".to_owned(), at }),
        ("payment-refunded", refunded(Some("refund-1"), "out_of_stock")),
        ("payment-refunded-elsewhere", refunded(None, "refunded_at_gateway")),
        ("order-needs-attention", attention(Some(payment.clone()))),
        ("order-needs-attention-whole", attention(None)),
    ]
}

pub const EVENT_ID: Uuid = Uuid::from_u128(0x018f_3384_8f80_7c3e_9f1a_aaaa_bbbb_cccc);

/// Every kind of record that our own code writes, by the name of its golden file.
pub fn all() -> Vec<(&'static str, Encoded)> {
    let (key, envelope) = (log_key(), envelope());
    let mut all = coupon_records(&key, &envelope);
    all.push(("order-placed", encode_order_placed(&order(), &envelope)));
    all.extend(payment_outcomes().iter().map(|(name, outcome)| (*name, encode_payment_outcome(EVENT_ID, outcome, &envelope))));
    all
}

fn coupon_records(key: &LogKey, envelope: &Envelope<'_>) -> Vec<(&'static str, Encoded)> {
    vec![
        ("request", encode_request(&request(false), None, key, envelope)),
        ("request-admitted", encode_request(&request(true), None, key, envelope)),
        ("request-replayed", encode_request(&request(false), "018f3384-8f80-7c3e-9f1a-00000000000f".parse().ok(), key, envelope)),
        ("define", encode_define(&define(), key, envelope)),
        ("define-small", encode_define(&define_small(), key, envelope)),
        ("change", encode_change(&change(), key, envelope)),
        ("change-nothing", encode_change(&change_nothing(), key, envelope)),
        ("cancel", encode_cancel(&cancel(), key, envelope)),
        ("issued", encode_outcome(&row(Outcome::Issued { sequence: 17 }), envelope)),
        ("rejected-duplicate", encode_outcome(&duplicate(), envelope)),
        ("rejected-unreadable", encode_outcome(&unreadable(), envelope)),
    ]
}
