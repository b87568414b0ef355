//! What is to be done with a batch of orders, given what is in the tables: a pure function.

use std::collections::BTreeMap;

use contracts::{
    Cause,
    order::{OrderPlaced, PaymentAttempt, UnusableOrder},
};
use domain::payment::{Money, OrderId, PaymentId, PgReference, ProductId, ProviderName};

/// An order as the tables have it; what an order service may change later is not part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The digest of what it was told with; none where the order service wrote the rows itself, and then the rows are compared.
    pub digest: Option<Vec<u8>>,
    /// What it costs.
    pub amount: Money,
    /// How many of each product.
    pub lines: BTreeMap<ProductId, i64>,
    /// Its payments: account and reference of each.
    pub payments: BTreeMap<PaymentId, (ProviderName, PgReference)>,
}

/// What the tables have of a batch's orders and payments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Existing {
    /// Orders of the batch that are there.
    pub orders: BTreeMap<OrderId, Known>,
    /// Whose the batch's payment ids are.
    pub payments: BTreeMap<PaymentId, OrderId>,
    /// Whose the batch's references are.
    pub references: BTreeMap<(ProviderName, PgReference), OrderId>,
}

/// A record that goes to the dead letter topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Its place in the batch.
    pub index: usize,
    /// Why.
    pub unusable: UnusableOrder,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Orders that are new.
    pub insert: Vec<OrderPlaced>,
    /// Records that cannot be used.
    pub letters: Vec<Letter>,
    /// Orders that were taken before, with the same content.
    pub repeated: usize,
}

/// Sorts a batch into new orders, repeats and dead letters. Earlier records of the batch count as if they were in the tables.
#[must_use]
pub fn resolve(batch: &[Result<OrderPlaced, UnusableOrder>], mut existing: Existing) -> Resolution {
    let mut resolution = Resolution::default();
    for (index, record) in batch.iter().enumerate() {
        let unusable = match record {
            Err(unusable) => unusable.clone(),
            Ok(order) => match existing.orders.get(&order.order) {
                Some(known) if says_the_same(order, known) => {
                    resolution.repeated = resolution.repeated.saturating_add(1);
                    continue;
                }
                Some(known) => unusable(order, Cause::ContentDiffers, &difference(order, known)),
                None => match taken(order, &existing) {
                    Some(detail) => unusable(order, Cause::PaymentTaken, &detail),
                    None => {
                        add(order, &mut existing);
                        resolution.insert.push(order.clone());
                        continue;
                    }
                },
            },
        };
        resolution.letters.push(Letter { index, unusable });
    }
    resolution
}

fn unusable(order: &OrderPlaced, cause: Cause, detail: &str) -> UnusableOrder {
    UnusableOrder::new(cause, detail, Some(order.order.clone()))
}

/// Of rows that the order service wrote, what the event tells has to be there as it tells it; attempts may have been added since.
fn says_the_same(order: &OrderPlaced, known: &Known) -> bool {
    if let Some(digest) = &known.digest {
        return order.content_digest().as_slice() == digest.as_slice();
    }
    order.amount == known.amount
        && order.lines == known.lines
        && order.payments.iter().all(|attempt| same_attempt(attempt, known))
}

fn same_attempt(attempt: &PaymentAttempt, known: &Known) -> bool {
    known
        .payments
        .get(&attempt.payment)
        .is_some_and(|(provider, reference)| *provider == attempt.provider && *reference == attempt.reference)
}

fn difference(order: &OrderPlaced, known: &Known) -> String {
    if order.amount != known.amount {
        format!("the order was taken with an amount of {}, not {}", known.amount, order.amount)
    } else {
        "the order was taken with other lines or payments".to_owned()
    }
}

fn taken(order: &OrderPlaced, existing: &Existing) -> Option<String> {
    order.payments.iter().find_map(|attempt| {
        if let Some(other) = existing.payments.get(&attempt.payment) {
            return Some(format!("the payment `{}` belongs to the order `{other}`", attempt.payment));
        }
        let other = existing.references.get(&(attempt.provider.clone(), attempt.reference.clone()))?;
        Some(format!("the reference `{}` of {} belongs to the order `{other}`", attempt.reference, attempt.provider))
    })
}

fn add(order: &OrderPlaced, existing: &mut Existing) {
    let digest = Some(order.content_digest().to_vec());
    let mut known = Known { digest, amount: order.amount, lines: order.lines.clone(), payments: BTreeMap::new() };
    for attempt in &order.payments {
        let (payment, provider, reference) = (attempt.payment.clone(), attempt.provider.clone(), attempt.reference.clone());
        existing.payments.insert(payment.clone(), order.order.clone());
        existing.references.insert((provider.clone(), reference.clone()), order.order.clone());
        known.payments.insert(payment, (provider, reference));
    }
    existing.orders.insert(order.order.clone(), known);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use domain::{clock::Timestamp, payment::Currency};

    use super::*;

    fn order(id: &str, payment: &str, reference: &str) -> OrderPlaced {
        OrderPlaced {
            order: id.parse().unwrap(),
            amount: Money::new(1_000, Currency::KRW),
            lines: [("book".parse().unwrap(), 2)].into(),
            payments: vec![attempt(payment, reference)],
            placed_at: Timestamp::from_unix_ms(0),
        }
    }

    fn attempt(payment: &str, reference: &str) -> PaymentAttempt {
        PaymentAttempt {
            payment: payment.parse().unwrap(),
            provider: "toss".parse().unwrap(),
            reference: reference.parse().unwrap(),
            method: "card".to_owned(),
            deposit_secret: None,
        }
    }

    fn causes(resolution: &Resolution) -> Vec<(usize, Cause)> {
        resolution.letters.iter().map(|letter| (letter.index, letter.unusable.cause)).collect()
    }

    #[test]
    fn new_orders_are_inserted_and_repeats_do_nothing_even_within_a_batch() {
        let batch = [Ok(order("a", "p1", "r1")), Ok(order("a", "p1", "r1")), Ok(order("b", "p2", "r2"))];
        let first = resolve(&batch, Existing::default());
        assert_eq!((first.insert.len(), first.repeated, first.letters.len()), (2, 1, 0));
        let mut existing = Existing::default();
        add(&order("a", "p1", "r1"), &mut existing);
        add(&order("b", "p2", "r2"), &mut existing);
        let again = resolve(&batch, existing);
        assert_eq!((again.insert.len(), again.repeated, again.letters.len()), (0, 3, 0));
    }

    #[test]
    fn rows_of_the_order_service_are_compared_and_may_have_more_attempts() {
        let mut written = order("a", "p1", "r1");
        written.payments.push(attempt("p9", "r9"));
        let mut existing = Existing::default();
        add(&written, &mut existing);
        existing.orders.values_mut().for_each(|known| known.digest = None);
        assert_eq!(resolve(&[Ok(order("a", "p1", "r1"))], existing.clone()).repeated, 1);
        let changes: [fn(&mut OrderPlaced); 4] = [
            |order| order.payments.push(attempt("p10", "r10")),
            |order| order.payments[0].reference = "r2".parse().unwrap(),
            |order| order.amount.amount = 1,
            |order| order.lines.clear(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut other = order("a", "p1", "r1");
            change(&mut other);
            assert_eq!(causes(&resolve(&[Ok(other)], existing.clone())), [(0, Cause::ContentDiffers)], "change {index}");
        }
    }

    #[test]
    fn other_content_under_the_same_id_is_refused() {
        let mut existing = Existing::default();
        add(&order("a", "p1", "r1"), &mut existing);
        let changes: [fn(&mut OrderPlaced); 6] = [
            |order| order.amount.amount = 999,
            |order| order.amount.currency = "USD".parse().unwrap(),
            |order| order.lines.values_mut().for_each(|quantity| *quantity = 3),
            |order| order.lines = [("pen".parse().unwrap(), 2)].into(),
            |order| order.payments[0].reference = "r2".parse().unwrap(),
            |order| order.payments[0].method = "transfer".to_owned(),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut other = order("a", "p1", "r1");
            change(&mut other);
            let resolution = resolve(&[Ok(other)], existing.clone());
            assert_eq!(causes(&resolution), [(0, Cause::ContentDiffers)], "change {index}");
        }
    }

    #[test]
    fn a_payment_of_another_order_is_refused_and_stops_nobody() {
        let batch =
            [Ok(order("a", "p1", "r1")), Ok(order("b", "p1", "r2")), Ok(order("c", "p3", "r1")), Ok(order("d", "p4", "r4"))];
        let resolution = resolve(&batch, Existing::default());
        assert_eq!(causes(&resolution), [(1, Cause::PaymentTaken), (2, Cause::PaymentTaken)]);
        let inserted: Vec<_> = resolution.insert.iter().map(|order| order.order.as_str()).collect();
        assert_eq!(inserted, ["a", "d"]);
    }

    #[test]
    fn what_cannot_be_read_keeps_its_cause_and_place() {
        let unusable = UnusableOrder::new(Cause::BadProtobuf, "x", None);
        let resolution = resolve(&[Ok(order("a", "p1", "r1")), Err(unusable.clone())], Existing::default());
        assert_eq!(resolution.letters, [Letter { index: 1, unusable }]);
        assert_eq!(resolution.insert.len(), 1);
    }
}
