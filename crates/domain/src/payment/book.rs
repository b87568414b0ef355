//! The book of money: which entries bring it to what the gateway says. A pure function.

use super::{Money, PgPayment, PgReference, PgRefundState, words::words};
use crate::clock::Timestamp;

words! {
    /// In which direction money moved.
    EntryKind {
        /// From the payer.
        Capture = "capture",
        /// Back to the payer.
        Refund = "refund",
        /// A refund that came back.
        Reversal = "reversal",
    }
}

/// An entry of the book. There is one of each kind and transaction id, and none is ever changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In which direction.
    pub kind: EntryKind,
    /// The gateway's id of the movement, or one made from the payment's, where the gateway does not list it.
    pub transaction_id: String,
    /// How much, above zero.
    pub amount: Money,
    /// When, by the gateway's clock, if it says.
    pub at: Option<Timestamp>,
}

/// What has to be written so that the book says what the gateway says: captured, and what of it is back.
#[must_use]
pub fn entries_missing(known: &[Entry], pg: &PgPayment, reference: &PgReference) -> Vec<Entry> {
    let mut missing = Vec::new();
    let base = pg.transaction_id.clone().unwrap_or_else(|| reference.as_str().to_owned());
    let of = |kind: EntryKind, entries: &[Entry]| -> i64 {
        let same = entries.iter().filter(|entry| entry.kind == kind && entry.amount.currency == pg.captured.currency);
        same.fold(0_i64, |sum, entry| sum.saturating_add(entry.amount.amount))
    };
    let is_known =
        |kind: EntryKind, id: &str, entries: &[Entry]| entries.iter().any(|e| e.kind == kind && e.transaction_id == id);
    // An id that no entry of its kind has yet: the gateway's own, or that with a number.
    let free = |kind: EntryKind, id: &str, entries: &[Entry]| {
        let numbered = (2_u32..).map(|n| format!("{id}#{n}"));
        std::iter::once(id.to_owned()).chain(numbered).find(|id| !is_known(kind, id, entries)).unwrap_or_default()
    };

    let captured = pg.captured.amount.saturating_sub(of(EntryKind::Capture, known));
    if captured > 0 {
        let id = free(EntryKind::Capture, &base, known);
        let amount = Money::new(captured, pg.captured.currency);
        missing.push(Entry { kind: EntryKind::Capture, transaction_id: id, amount, at: pg.paid_at });
    }

    let back = of(EntryKind::Refund, known).saturating_sub(of(EntryKind::Reversal, known));
    let mut difference = pg.refunded.amount.saturating_sub(back);
    let done =
        pg.refunds.iter().filter(|refund| refund.state == PgRefundState::Done && refund.amount.currency == pg.refunded.currency);
    for refund in done {
        if !is_known(EntryKind::Refund, &refund.id, known) && (1..=difference).contains(&refund.amount.amount) {
            difference = difference.saturating_sub(refund.amount.amount);
            missing.push(Entry {
                kind: EntryKind::Refund,
                transaction_id: refund.id.clone(),
                amount: refund.amount,
                at: refund.at,
            });
        }
    }
    // What the gateway's list does not explain is written down all the same: the sum has to be right.
    if difference != 0 {
        let kind = if difference > 0 { EntryKind::Refund } else { EntryKind::Reversal };
        let came_back = pg.refunds.iter().find(|refund| refund.state == PgRefundState::Failed);
        let id = match (kind, came_back) {
            (EntryKind::Reversal, Some(refund)) => refund.id.clone(),
            _ => format!("{base}#refunds"),
        };
        let written: Vec<_> = known.iter().chain(&missing).cloned().collect();
        let amount = Money::new(difference.saturating_abs(), pg.refunded.currency);
        missing.push(Entry { kind, transaction_id: free(kind, &id, &written), amount, at: None });
    }
    missing
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::payment::{Currency, PgRefund, PgState};

    fn won(amount: i64) -> Money {
        Money::new(amount, Currency::KRW)
    }

    fn pg(captured: i64, refunded: i64, refunds: &[(&str, i64, PgRefundState)]) -> PgPayment {
        let refunds = refunds.iter().map(|(id, amount, state)| PgRefund {
            id: (*id).to_owned(),
            key: None,
            amount: won(*amount),
            at: None,
            state: *state,
        });
        PgPayment {
            state: PgState::Paid,
            status: "x".to_owned(),
            transaction_id: Some("t".to_owned()),
            paid_at: None,
            captured: won(captured),
            refunded: won(refunded),
            refunds: refunds.collect(),
            refund_needs_payer: false,
            expires_at: None,
            callback_secret: None,
        }
    }

    fn net(entries: &[Entry]) -> i64 {
        entries.iter().map(|e| if e.kind == EntryKind::Refund { -e.amount.amount } else { e.amount.amount }).sum()
    }

    /// Whatever a gateway says one after the other, the book follows it, and nothing is written twice.
    #[test]
    fn the_book_follows_the_gateway() {
        use PgRefundState::{Done, Failed, Pending};
        let reference = PgReference::new("r").unwrap();
        let story = [
            (pg(0, 0, &[]), 0, 0),
            (pg(15_000, 0, &[]), 15_000, 1),
            (pg(15_000, 0, &[("a", 15_000, Pending)]), 15_000, 1),
            (pg(15_000, 15_000, &[("a", 15_000, Done)]), 0, 2),
            (pg(15_000, 15_000, &[("a", 15_000, Done)]), 0, 2),
            (pg(15_000, 0, &[("a", 15_000, Failed)]), 15_000, 3),
            (pg(15_000, 15_000, &[("a", 15_000, Failed), ("b", 15_000, Done)]), 0, 4),
            // A list that does not explain the sum, and a second capture.
            (pg(20_000, 20_000, &[]), 0, 6),
            (pg(20_000, 5_000, &[]), 15_000, 7),
            (pg(20_000, 20_000, &[]), 0, 8),
            (pg(20_000, 5_000, &[]), 15_000, 9),
        ];
        let mut book = Vec::new();
        for (place, (said, held, entries)) in story.iter().enumerate() {
            let missing = entries_missing(&book, said, &reference);
            assert!(missing.iter().all(|entry| entry.amount.amount > 0));
            book.extend(missing);
            assert_eq!((net(&book), book.len()), (*held, *entries), "step {place}: {book:?}");
            let unique: std::collections::HashSet<_> = book.iter().map(|e| (e.kind, e.transaction_id.clone())).collect();
            assert_eq!(unique.len(), book.len(), "step {place}: {book:?}");
        }
    }
}
