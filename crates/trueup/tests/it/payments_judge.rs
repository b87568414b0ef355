//! The money check finds what is planted.

use std::collections::BTreeMap;

use trueup_cli::payments_drill::{
    book::{PaymentRow, ProductRow},
    gateway::Moved,
    judge::{Evidence, Finding, judge},
    plan::{Fate, Plan},
};

fn row(number: u32, state: &str, order_state: &str, booked: i64) -> PaymentRow {
    PaymentRow {
        payment_id: format!("pay_{number}"),
        order_id: format!("o_{number}"),
        reference: format!("r_{number}"),
        amount: 1_000,
        state: state.to_owned(),
        order_state: order_state.to_owned(),
        open_refunds: 0,
        called_back: true,
        booked,
    }
}

fn moved(paid: i64, refunded: i64) -> Moved {
    Moved { paid, refunded, captures: u32::from(paid > 0), refunds: u32::from(refunded > 0) }
}

/// A completed, a refunded and an unpaid order.
fn clean() -> Evidence {
    Evidence {
        payments: vec![row(0, "SUCCESS", "COMPLETED", 1_000), row(1, "REFUNDED", "FAILED", 0), row(2, "FAILED", "FAILED", 0)],
        products: vec![ProductRow { product_id: "p".to_owned(), gone: 2, stock: 8, moved: 2, completed: 2 }],
        moved: BTreeMap::from([
            ("r_0".to_owned(), moved(1_000, 0)),
            ("r_1".to_owned(), moved(1_000, 1_000)),
            ("r_2".to_owned(), moved(0, 0)),
        ]),
        fates: BTreeMap::from([
            ("o_0".to_owned(), Fate::Paid),
            ("o_1".to_owned(), Fate::OutOfStock),
            ("o_2".to_owned(), Fate::Unpaid),
        ]),
    }
}

#[test]
fn what_adds_up_is_clean() {
    assert_eq!(judge(&clean()), []);
}

#[test]
fn lost_doubled_and_swapped_refunds_are_found() {
    let mut lost = clean();
    lost.moved.insert("r_1".to_owned(), moved(1_000, 0));
    assert!(
        matches!(judge(&lost).as_slice(), [Finding::Money { payment, held: 1_000, expected: 0, .. }, Finding::Book { .. }] if payment == "pay_1")
    );

    let mut doubled = clean();
    doubled.moved.insert("r_1".to_owned(), Moved { paid: 1_000, refunded: 2_000, captures: 1, refunds: 2 });
    let findings = judge(&doubled);
    assert!(findings.iter().any(|finding| matches!(finding, Finding::Doubled { refunds: 2, .. })), "{findings:?}");
    assert!(findings.iter().any(|finding| matches!(finding, Finding::Money { held: -1_000, .. })), "{findings:?}");

    let mut swapped = clean();
    swapped.moved.insert("r_0".to_owned(), moved(1_000, 1_000));
    swapped.moved.insert("r_1".to_owned(), moved(1_000, 0));
    let findings = judge(&swapped);
    let wrong: Vec<_> = findings.iter().filter(|finding| matches!(finding, Finding::Money { .. })).collect();
    assert_eq!(wrong.len(), 2, "both payments of the swap: {findings:?}");
}

#[test]
fn everything_else_that_must_not_be_is_found() {
    type Plant = fn(&mut Evidence);
    type Check = fn(&Finding) -> bool;
    let cases: [(&str, Plant, Check); 9] = [
        (
            "captured twice",
            |e| e.moved.get_mut("r_0").unwrap().captures = 2,
            |f| matches!(f, Finding::Doubled { captures: 2, .. }),
        ),
        ("still pending", |e| e.payments[2].state = "PENDING".to_owned(), |f| matches!(f, Finding::Open { .. })),
        ("order pending", |e| e.payments[2].order_state = "PENDING".to_owned(), |f| matches!(f, Finding::Open { .. })),
        ("refund open", |e| e.payments[1].open_refunds = 1, |f| matches!(f, Finding::Open { .. })),
        ("order lost", |e| e.payments.truncate(2), |f| matches!(f, Finding::OrderLost(_))),
        ("gateway forgot", |e| e.moved.retain(|reference, _| reference != "r_2"), |f| matches!(f, Finding::PaymentUnknown(_))),
        ("wrong end", |e| *e.fates.get_mut("o_1").unwrap() = Fate::Paid, |f| matches!(f, Finding::Fate { .. })),
        ("sold twice", |e| e.products[0].gone = 4, |f| matches!(f, Finding::Stock { .. })),
        ("booked wrong", |e| e.payments[0].booked = 0, |f| matches!(f, Finding::Book { .. })),
    ];
    for (name, plant, check) in cases {
        let mut evidence = clean();
        plant(&mut evidence);
        let findings = judge(&evidence);
        assert!(findings.iter().any(check), "{name}: {findings:?}");
    }
}

#[test]
fn a_plan_has_every_fate_and_few_refunds() {
    let plan = Plan::new("d1", 200, domain::clock::Timestamp::from_unix_ms(0)).unwrap();
    let counts = [Fate::Paid, Fate::Unpaid, Fate::OutOfStock, Fate::ProductGone, Fate::OtherAmount].map(|fate| plan.count(fate));
    assert_eq!(counts, [184, 10, 2, 2, 2]);
    let references: std::collections::BTreeSet<_> = plan.orders.iter().map(|planned| planned.reference()).collect();
    assert_eq!(references.len(), 200);
    // Toss takes 6 to 64 letters, digits, - and _; Stripe no -.
    assert!(references.iter().all(|r| (6..=64).contains(&r.len()) && r.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')));
}
