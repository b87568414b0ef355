//! Every movement of money, in order. Nothing is ever taken out of it, so that a double shows.

use std::collections::HashMap;

use domain::{clock::Timestamp, payment::Currency};
use serde::{Deserialize, Serialize};

/// In which direction money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// From the payer to the merchant.
    Capture,
    /// Back to the payer.
    Refund,
    /// A refund that came back.
    RefundReversed,
}

/// Who moved it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The payer, by paying.
    Payer,
    /// The merchant's software.
    Api,
    /// A person at the gateway's dashboard.
    Dashboard,
    /// The gateway or a bank.
    Bank,
}

/// One movement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the ledger, from 1.
    pub sequence: u64,
    /// When, by the simulator's clock.
    pub at: Timestamp,
    /// Of which payment.
    pub reference: String,
    /// In which direction.
    pub kind: EntryKind,
    /// How much, in minor units; always positive.
    pub amount: i64,
    /// Of what.
    pub currency: Currency,
    /// Of which refund.
    pub refund_id: Option<String>,
    /// The idempotency key that came with it.
    pub key: Option<String>,
    /// Who moved it.
    pub by: By,
}

/// The ledger itself.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    places: HashMap<String, Vec<usize>>,
}

/// What is to be booked.
#[derive(Debug, Clone)]
pub struct Booking {
    pub kind: EntryKind,
    pub amount: i64,
    pub currency: Currency,
    pub refund_id: Option<String>,
    pub key: Option<String>,
    pub by: By,
}

impl Ledger {
    pub fn book(&mut self, at: Timestamp, reference: &str, booking: Booking) {
        let sequence = u64::try_from(self.entries.len()).unwrap_or(u64::MAX).saturating_add(1);
        let Booking { kind, amount, currency, refund_id, key, by } = booking;
        self.places.entry(reference.to_owned()).or_default().push(self.entries.len());
        self.entries.push(Entry { sequence, at, reference: reference.to_owned(), kind, amount, currency, refund_id, key, by });
    }

    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries of one payment.
    pub fn of(&self, reference: &str) -> impl Iterator<Item = &Entry> {
        self.places.get(reference).into_iter().flatten().filter_map(|&place| self.entries.get(place))
    }

    /// Entries of `[from, to)` behind `after` that are to be kept, at most `limit`, and whether there are more.
    pub fn page(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: u64,
        limit: usize,
        keep: impl Fn(&Entry) -> bool,
    ) -> (Vec<Entry>, bool) {
        let start = usize::try_from(after).unwrap_or(usize::MAX);
        let mut page: Vec<Entry> = self
            .entries
            .iter()
            .skip(start)
            .filter(|entry| entry.at >= from && entry.at < to && keep(entry))
            .take(limit.saturating_add(1))
            .cloned()
            .collect();
        let more = page.len() > limit;
        page.truncate(limit);
        (page, more)
    }
}
