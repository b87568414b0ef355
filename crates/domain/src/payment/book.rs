//! The book of money: which entries bring it to what the gateway says. A pure function.

use super::{Currency, Money, PgPayment, PgReference, PgRefund, PgRefundState, words::words};
use crate::clock::Timestamp;

words! {
    /// In which direction money moved.
    EntryKind {
        /// From the payer.
        Capture = "capture",
        /// A capture, or a part of one, that the gateway says did not happen: a deposit that the bank had booked by mistake, a wrong amount.
        CaptureReversed = "capture_reversed",
        /// Back to the payer.
        Refund = "refund",
        /// A refund that came back.
        Reversal = "reversal",
    }
}

impl EntryKind {
    /// Whether what is held becomes less by it.
    #[must_use]
    pub const fn is_outgoing(self) -> bool {
        matches!(self, Self::Refund | Self::CaptureReversed)
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

/// What has to be written so that the book says what the gateway says: captured, and what of it is back. Nothing is written from an answer that
/// contradicts itself.
#[must_use]
pub fn entries_missing(known: &[Entry], pg: &PgPayment, reference: &PgReference) -> Vec<Entry> {
    let base = pg.transaction_id.clone().unwrap_or_else(|| reference.as_str().to_owned());
    let mut book = Book { known, missing: Vec::new(), base };
    if !pg.is_consistent() {
        return book.missing;
    }
    let mut currencies: Vec<Currency> = known.iter().map(|entry| entry.amount.currency).collect();
    currencies.extend([pg.captured.currency, pg.refunded.currency]);
    currencies.sort_unstable();
    currencies.dedup();
    for currency in currencies {
        // In a currency that it does not name, the gateway holds nothing, whatever it said before.
        let said = |money: Money| if money.currency == currency { money.amount } else { 0 };
        book.follow_captured(Money::new(said(pg.captured), currency), pg.paid_at);
        book.follow_refunded(Money::new(said(pg.refunded), currency), &pg.refunds);
    }
    book.missing
}

/// The book while it is brought to what the gateway says.
struct Book<'a> {
    known: &'a [Entry],
    missing: Vec<Entry>,
    base: String,
}

impl Book<'_> {
    fn sum(&self, kind: EntryKind, currency: Currency) -> i64 {
        let all = self.known.iter().chain(&self.missing);
        let same = all.filter(|entry| entry.kind == kind && entry.amount.currency == currency);
        same.fold(0_i64, |sum, entry| sum.saturating_add(entry.amount.amount))
    }

    fn has(&self, kind: EntryKind, id: &str) -> bool {
        self.known.iter().chain(&self.missing).any(|entry| entry.kind == kind && entry.transaction_id == id)
    }

    /// Writes under the gateway's own id, or under that with a number if an entry of this kind has it.
    fn write(&mut self, kind: EntryKind, id: &str, amount: Money, at: Option<Timestamp>) {
        let numbered = (2_u32..).map(|number| format!("{id}#{number}"));
        let free = std::iter::once(id.to_owned()).chain(numbered).find(|id| !self.has(kind, id)).unwrap_or_default();
        self.missing.push(Entry { kind, transaction_id: free, amount, at });
    }

    fn follow_captured(&mut self, captured: Money, paid_at: Option<Timestamp>) {
        let currency = captured.currency;
        let booked = self.sum(EntryKind::Capture, currency).saturating_sub(self.sum(EntryKind::CaptureReversed, currency));
        let more = captured.amount.saturating_sub(booked);
        let base = self.base.clone();
        if more > 0 {
            self.write(EntryKind::Capture, &base, Money::new(more, currency), paid_at);
        } else if more < 0 {
            self.write(EntryKind::CaptureReversed, &base, Money::new(more.saturating_abs(), currency), None);
        }
    }

    fn follow_refunded(&mut self, refunded: Money, refunds: &[PgRefund]) {
        let currency = refunded.currency;
        let back = self.sum(EntryKind::Refund, currency).saturating_sub(self.sum(EntryKind::Reversal, currency));
        let mut difference = refunded.amount.saturating_sub(back);
        let done = refunds.iter().filter(|refund| refund.state == PgRefundState::Done && refund.amount.currency == currency);
        for refund in done {
            if !self.has(EntryKind::Refund, &refund.id) && (1..=difference).contains(&refund.amount.amount) {
                difference = difference.saturating_sub(refund.amount.amount);
                self.write(EntryKind::Refund, &refund.id, refund.amount, refund.at);
            }
        }
        // What the gateway's list does not explain is written down all the same: the sum has to be right.
        let kind = match difference {
            0 => return,
            1.. => EntryKind::Refund,
            _ => EntryKind::Reversal,
        };
        let came_back = refunds.iter().find(|refund| refund.state == PgRefundState::Failed);
        let id = match (kind, came_back) {
            (EntryKind::Reversal, Some(refund)) => refund.id.clone(),
            _ => format!("{}#refunds", self.base),
        };
        self.write(kind, &id, Money::new(difference.saturating_abs(), currency), None);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::payment::PgState;

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
            contradictory: false,
            callback_secret: None,
        }
    }

    fn net(entries: &[Entry]) -> i64 {
        let signed = |e: &Entry| if e.kind.is_outgoing() { -e.amount.amount } else { e.amount.amount };
        entries.iter().map(signed).sum()
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
            // A capture that did not happen, and comes after all; and a wrong amount.
            (pg(20_000, 20_000, &[]), 0, 10),
            (pg(0, 0, &[]), 0, 12),
            (pg(0, 0, &[]), 0, 12),
            (pg(15_000, 0, &[]), 15_000, 13),
            (pg(999_999, 0, &[]), 999_999, 14),
            (pg(15_000, 0, &[]), 15_000, 15),
            // What contradicts itself is not written: a refund that is done and not in the total, and less than nothing.
            (pg(15_000, 0, &[("c", 15_000, Done)]), 15_000, 15),
            (pg(-1, 0, &[]), 15_000, 15),
            (pg(15_000, -1, &[]), 15_000, 15),
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

    /// Money that was said to be of another currency is none of that currency any more.
    #[test]
    fn a_currency_that_was_wrong_is_taken_back() {
        let reference = PgReference::new("r").unwrap();
        let mut dollars = pg(100, 0, &[]);
        (dollars.captured, dollars.refunded) = (Money::new(100, "USD".parse().unwrap()), Money::new(0, "USD".parse().unwrap()));
        let mut book = entries_missing(&[], &dollars, &reference);
        book.extend(entries_missing(&book, &pg(100, 0, &[]), &reference));
        let seen: Vec<_> = book.iter().map(|e| (e.kind, e.amount.amount, e.amount.currency.to_string())).collect();
        let expected =
            [(EntryKind::Capture, 100, "USD"), (EntryKind::Capture, 100, "KRW"), (EntryKind::CaptureReversed, 100, "USD")];
        assert_eq!(seen, expected.map(|(kind, amount, currency)| (kind, amount, currency.to_owned())));
    }
}
