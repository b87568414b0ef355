//! All that the simulator remembers, within bounds.

use std::collections::{HashMap, VecDeque};

use domain::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    faults::{Congestion, Latency, Outage},
    ledger::{Booking, Ledger},
    load::Load,
    payment::Payment,
};

/// A way of speaking, and the merchant's account in which one speaks so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// The generic HTTP contract.
    #[default]
    Generic,
    /// Toss Payments.
    Toss,
    /// Stripe.
    Stripe,
}

/// Bounds of what is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Payments; further ones are refused.
    pub payments_max: usize,
    /// Lines of the ledger; payments whose first line would not fit are refused.
    pub entries_max: usize,
    /// Idempotency keys; the oldest one is forgotten for a further one.
    pub keys_max: usize,
    /// For how long an idempotency key is remembered, in milliseconds.
    pub key_ttl_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { payments_max: 250_000, entries_max: 1_000_000, keys_max: 100_000, key_ttl_ms: 24 * 3_600_000 }
    }
}

/// An answer that is repeated for the same idempotency key, refusals included.
#[derive(Debug, Clone)]
pub struct Remembered {
    /// What was asked, so that the same key with another question is noticed.
    pub question: String,
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: serde_json::Value,
    at: Timestamp,
}

#[derive(Debug, Default)]
pub struct State {
    pub payments: HashMap<String, Payment>,
    pub ledger: Ledger,
    pub latency: Latency,
    pub congestion: Congestion,
    pub outage: Outage,
    pub throttle_per_second: Option<u32>,
    pub throttled_second: (i64, u32),
    pub refund_ids: u64,
    pub unknown_calls: u64,
    pub load: Load,
    keys: HashMap<String, Remembered>,
    key_order: VecDeque<String>,
    pub limits: Limits,
}

impl State {
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// A payment, if this merchant's account has it; None: whose it is does not matter.
    pub fn payment_of(&mut self, account: Option<Dialect>, reference: &str) -> Option<&mut Payment> {
        let payment = self.payments.get_mut(reference)?;
        account.is_none_or(|dialect| payment.is_of(dialect)).then_some(payment)
    }

    pub fn book(&mut self, at: Timestamp, reference: &str, bookings: Vec<Booking>) {
        for booking in bookings {
            self.ledger.book(at, reference, booking);
        }
    }

    pub fn remembered(&mut self, key: &str, now: Timestamp) -> Option<Remembered> {
        let ttl = i64::try_from(self.limits.key_ttl_ms).unwrap_or(i64::MAX);
        let found = self.keys.get(key)?;
        (now < found.at.saturating_add_ms(ttl)).then(|| found.clone())
    }

    pub fn remember(&mut self, key: &str, question: &str, status: u16, body: serde_json::Value, at: Timestamp) {
        if self.keys.insert(key.to_owned(), Remembered { question: question.to_owned(), status, body, at }).is_none() {
            self.key_order.push_back(key.to_owned());
        }
        while self.key_order.len() > self.limits.keys_max {
            if let Some(oldest) = self.key_order.pop_front() {
                self.keys.remove(&oldest);
            }
        }
    }

    pub fn forget_keys(&mut self) {
        self.keys.clear();
        self.key_order.clear();
    }

    /// Whether this call is one too many in its second.
    pub fn is_throttled(&mut self, now: Timestamp) -> bool {
        let Some(limit) = self.throttle_per_second else { return false };
        let second = now.unix_ms().div_euclid(1_000);
        let (counted, calls) = self.throttled_second;
        let calls = if counted == second { calls.saturating_add(1) } else { 1 };
        self.throttled_second = (second, calls);
        calls > limit
    }
}
