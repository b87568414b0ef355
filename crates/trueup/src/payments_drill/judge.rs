//! The money check: what the gateway's ledger, the orders and the stock have to say of each other.

use std::{collections::BTreeMap, fmt};

use super::{
    book::{PaymentRow, ProductRow},
    gateway::Moved,
    plan::Fate,
};

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// An order of the drill that the database does not have.
    OrderLost(String),
    /// A payment that the gateway does not know.
    PaymentUnknown(String),
    /// An order or a payment that has not come to rest.
    Open {
        /// The payment.
        payment: String,
        /// Its state and its order's.
        states: String,
    },
    /// What the gateway holds is not what it has to.
    Money {
        /// The payment.
        payment: String,
        /// Its state.
        state: String,
        /// paid − refunded at the gateway, in minor units.
        held: i64,
        /// What has to be held.
        expected: i64,
    },
    /// More than one capture, or more than one refund.
    Doubled {
        /// The payment.
        payment: String,
        /// Captures at the gateway.
        captures: u32,
        /// Refunds at the gateway.
        refunds: u32,
    },
    /// The accountant's book says something else than the gateway.
    Book {
        /// The payment.
        payment: String,
        /// What the book says is held, in minor units.
        booked: i64,
        /// What the gateway holds.
        held: i64,
    },
    /// An order that did not end as it had to.
    Fate {
        /// The order.
        order: String,
        /// As it is.
        state: String,
        /// As it has to be.
        expected: &'static str,
    },
    /// Stock, movements and completed lines differ, or stock is below zero.
    Stock {
        /// The product.
        product: String,
        /// What is gone of the stock, by movements, by completed lines.
        sums: [i64; 3],
        /// What is left.
        left: i64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OrderLost(order) => write!(f, "{order}: placed, and not in the database"),
            Self::PaymentUnknown(payment) => write!(f, "{payment}: the gateway does not know it"),
            Self::Open { payment, states } => write!(f, "{payment}: not at rest ({states})"),
            Self::Money { payment, state, held, expected } => {
                write!(f, "{payment}: is {state}, and the gateway holds {held} instead of {expected}")
            }
            Self::Doubled { payment, captures, refunds } => write!(f, "{payment}: {captures} captures, {refunds} refunds"),
            Self::Book { payment, booked, held } => write!(f, "{payment}: the book says {booked}, the gateway holds {held}"),
            Self::Fate { order, state, expected } => write!(f, "{order}: is {state} instead of {expected}"),
            Self::Stock { product, sums: [gone, moved, completed], left } => {
                write!(f, "{product}: {gone} gone, {moved} moved, {completed} in completed orders, {left} left")
            }
        }
    }
}

/// Everything that is judged.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// Payments as the database has them.
    pub payments: Vec<PaymentRow>,
    /// Products as the database has them.
    pub products: Vec<ProductRow>,
    /// The gateway's money, by reference.
    pub moved: BTreeMap<String, Moved>,
    /// What had to become of each order.
    pub fates: BTreeMap<String, Fate>,
}

/// Every finding; none if nobody's money is kept for nothing, and nothing was sold that was not paid.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: BTreeMap<&str, &PaymentRow> = BTreeMap::new();
    for row in &evidence.payments {
        seen.insert(&row.order_id, row);
        judge_payment(row, evidence.moved.get(&row.reference), &mut findings);
    }
    for (order, fate) in &evidence.fates {
        match seen.get(order.as_str()) {
            None => findings.push(Finding::OrderLost(order.clone())),
            Some(row) if row.order_state != fate.order_state() => findings.push(Finding::Fate {
                order: order.clone(),
                state: row.order_state.clone(),
                expected: fate.order_state(),
            }),
            Some(_) => {}
        }
    }
    for row in &evidence.products {
        if row.gone != row.moved || row.moved != row.completed || row.stock < 0 {
            let sums = [row.gone, row.moved, row.completed];
            findings.push(Finding::Stock { product: row.product_id.clone(), sums, left: row.stock });
        }
    }
    findings.sort();
    findings
}

fn judge_payment(row: &PaymentRow, moved: Option<&Moved>, findings: &mut Vec<Finding>) {
    let payment = row.payment_id.clone();
    let at_rest = matches!(row.state.as_str(), "SUCCESS" | "FAILED" | "REFUNDED") && row.open_refunds == 0;
    if !at_rest || row.order_state == "PENDING" {
        let states = format!("payment {}, order {}, {} refunds open", row.state, row.order_state, row.open_refunds);
        findings.push(Finding::Open { payment: payment.clone(), states });
    }
    let Some(moved) = moved else {
        findings.push(Finding::PaymentUnknown(payment));
        return;
    };
    let held = moved.paid.saturating_sub(moved.refunded);
    let expected = if row.state == "SUCCESS" { row.amount } else { 0 };
    if held != expected {
        findings.push(Finding::Money { payment: payment.clone(), state: row.state.clone(), held, expected });
    }
    if moved.captures > 1 || moved.refunds > 1 {
        findings.push(Finding::Doubled { payment: payment.clone(), captures: moved.captures, refunds: moved.refunds });
    }
    if row.booked != held {
        findings.push(Finding::Book { payment, booked: row.booked, held });
    }
}
