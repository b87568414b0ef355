//! Lines of a gateway's list against entries of the book: a pure function.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use domain::payment::PgTransactionKind;
use serde::Serialize;

/// A line of the gateway's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The gateway's id of it.
    pub id: String,
    /// The payment that it names.
    pub reference: String,
    /// In which direction.
    pub kind: PgTransactionKind,
    /// How much, in minor units.
    pub amount: i64,
    /// Of what.
    pub currency: String,
    /// When, by the gateway's clock.
    pub at: DateTime<Utc>,
}

/// An entry of the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the book.
    pub id: i64,
    /// Its payment's reference at the gateway.
    pub reference: String,
    /// In which direction.
    pub kind: PgTransactionKind,
    /// The gateway's id of it, as far as it was known.
    pub transaction_id: String,
    /// How much, in minor units.
    pub amount: i64,
    /// Of what.
    pub currency: String,
    /// Whether it belongs to the time that is audited, and not only to the margin around it.
    pub inside: bool,
}

/// What does not agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// `orphan`: money of a payment that is not known here. `refund_elsewhere`: a refund that the book does not have, made at the gateway's
    /// dashboard. `not_in_book`: a payment's money that the book does not have. `amount_differs`. `not_at_gateway`: the book has it,
    /// and the gateway does not.
    pub kind: &'static str,
    /// The payment's reference at the gateway.
    pub reference: String,
    /// The gateway's id of the movement, or the book's.
    pub transaction_id: String,
    /// What the gateway says, in minor units.
    pub gateway_amount: Option<i64>,
    /// What the book says, in minor units.
    pub book_amount: Option<i64>,
    /// Of what.
    pub currency: String,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compared {
    /// What does not agree for certain.
    pub differences: Vec<Difference>,
    /// Entries inside the time that the list does not have: the gateway is asked about their payments.
    pub unlisted: Vec<Entry>,
}

/// Compares. `known` says whether a reference is a payment of ours; `inside` whether a line belongs to the audited time and is old enough to have
/// been settled.
#[must_use]
pub fn compare(lines: &[Line], entries: Vec<Entry>, known: impl Fn(&str) -> bool, inside: impl Fn(&Line) -> bool) -> Compared {
    let mut compared = Compared::default();
    let mut by_payment: BTreeMap<(String, u8), Vec<Entry>> = BTreeMap::new();
    for entry in entries {
        by_payment.entry((entry.reference.clone(), order_of(entry.kind))).or_default().push(entry);
    }
    // First by the gateway's own id, then by the amount, last whatever is left of that payment and direction.
    let mut left: Vec<&Line> = lines.iter().collect();
    let agrees: [fn(&Line, &Entry) -> bool; 3] = [
        |line, entry| line.id == entry.transaction_id && same_amount(line, entry),
        |line, entry| same_amount(line, entry),
        |line, entry| line.id == entry.transaction_id || line.currency == entry.currency,
    ];
    for (round, agrees) in agrees.into_iter().enumerate() {
        left.retain(|line| {
            let Some(entries) = by_payment.get_mut(&(line.reference.clone(), order_of(line.kind))) else { return true };
            let Some(index) = entries.iter().position(|entry| agrees(line, entry)) else { return true };
            let entry = entries.swap_remove(index);
            if round == 2 && (inside(line) || entry.inside) {
                compared.differences.push(difference("amount_differs", line, Some(entry.amount)));
            }
            false
        });
    }
    for line in left.into_iter().filter(|line| inside(line)) {
        let kind = match (known(&line.reference), line.kind) {
            (false, _) => "orphan",
            (true, PgTransactionKind::Refund) => "refund_elsewhere",
            (true, _) => "not_in_book",
        };
        compared.differences.push(difference(kind, line, None));
    }
    compared.unlisted = by_payment.into_values().flatten().filter(|entry| entry.inside).collect();
    compared
}

const fn order_of(kind: PgTransactionKind) -> u8 {
    match kind {
        PgTransactionKind::Payment => 0,
        PgTransactionKind::Refund => 1,
        PgTransactionKind::RefundReversed => 2,
    }
}

fn same_amount(line: &Line, entry: &Entry) -> bool {
    line.amount == entry.amount && line.currency == entry.currency
}

fn difference(kind: &'static str, line: &Line, book_amount: Option<i64>) -> Difference {
    Difference {
        kind,
        reference: line.reference.clone(),
        transaction_id: line.id.clone(),
        gateway_amount: Some(line.amount),
        book_amount,
        currency: line.currency.clone(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn line(id: &str, reference: &str, kind: PgTransactionKind, amount: i64) -> Line {
        Line {
            id: id.to_owned(),
            reference: reference.to_owned(),
            kind,
            amount,
            currency: "KRW".to_owned(),
            at: DateTime::default(),
        }
    }

    fn entry(id: i64, reference: &str, kind: PgTransactionKind, transaction_id: &str, amount: i64) -> Entry {
        let (reference, transaction_id) = (reference.to_owned(), transaction_id.to_owned());
        Entry { id, reference, kind, transaction_id, amount, currency: "KRW".to_owned(), inside: true }
    }

    fn kinds(compared: &Compared) -> Vec<(&'static str, &str)> {
        compared.differences.iter().map(|difference| (difference.kind, difference.reference.as_str())).collect()
    }

    use PgTransactionKind::{Payment, Refund};

    #[test]
    fn what_agrees_by_id_or_by_amount_is_no_difference() {
        let lines = [
            line("t1", "a", Payment, 100),
            line("t2", "a", Refund, 100),
            line("x", "b", Payment, 50),
            line("y", "b", Payment, 70),
        ];
        let entries = vec![
            entry(1, "a", Payment, "t1", 100),
            entry(2, "a", Refund, "made-up", 100),
            entry(3, "b", Payment, "y", 70),
            entry(4, "b", Payment, "z", 50),
        ];
        assert_eq!(compare(&lines, entries, |_| true, |_| true), Compared::default());
    }

    #[test]
    fn each_kind_of_difference_is_found() {
        let lines = [
            line("t1", "nobodys", Payment, 100),
            line("t2", "a", Payment, 100),
            line("t3", "a", Refund, 100),
            line("t4", "b", Payment, 99),
            line("t5", "c", Payment, 10),
        ];
        let entries = vec![entry(1, "a", Payment, "t2", 100), entry(2, "b", Payment, "t4", 100), entry(3, "d", Payment, "t9", 7)];
        let compared = compare(&lines, entries, |reference| reference != "nobodys", |_| true);
        let expected = [("amount_differs", "b"), ("orphan", "nobodys"), ("refund_elsewhere", "a"), ("not_in_book", "c")];
        assert_eq!(kinds(&compared), expected);
        assert_eq!((compared.differences[0].gateway_amount, compared.differences[0].book_amount), (Some(99), Some(100)));
        assert_eq!(compared.unlisted.iter().map(|entry| entry.id).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn the_margin_matches_and_is_not_judged() {
        let lines = [line("t1", "a", Payment, 100), line("t2", "nobodys", Payment, 5)];
        let outside = Entry { inside: false, ..entry(1, "z", Payment, "t8", 3) };
        let compared = compare(&lines, vec![entry(2, "a", Payment, "t1", 100), outside], |_| false, |_| false);
        assert_eq!(compared, Compared::default());
    }

    #[test]
    fn a_payment_that_was_taken_twice_is_found_once() {
        let lines = [line("t1", "a", Payment, 100), line("t2", "a", Payment, 100)];
        let compared = compare(&lines, vec![entry(1, "a", Payment, "t1", 100)], |_| true, |_| true);
        assert_eq!(kinds(&compared), [("not_in_book", "a")]);
    }
}
