//! The gateway as the merchant of one dialect sees it: only its own payments.

use domain::clock::Timestamp;

use crate::{
    control::Control,
    ledger::Entry,
    payment::{Payment, RefundOrder, RefundView, Refusal},
    script::{Answer, Call},
    state::{Dialect, State},
};

/// A merchant's account. Each dialect has one.
#[derive(Clone, Copy)]
pub struct Account<'a> {
    pub control: &'a Control,
    pub dialect: Dialect,
}

impl Account<'_> {
    /// Shows a payment by `show`, and counts the ask if it is one; `None` if this account does not have it.
    pub fn look<T>(&self, reference: &str, call: Call, show: impl FnOnce(&Payment) -> T) -> Option<T> {
        let now = self.control.now();
        let mut state = self.control.state();
        let payment = state.payment_of(Some(self.dialect), reference)?;
        let shown = (*payment.answer() != Answer::NotFound).then(|| show(payment));
        let bookings = if call == Call::Query { payment.asked(now) } else { Vec::new() };
        state.book(now, reference, bookings);
        shown
    }

    pub fn refund(&self, reference: &str, order: RefundOrder<'_>) -> Result<RefundView, Refusal> {
        self.control.refund(Some(self.dialect), reference, order)
    }

    pub fn close(&self, reference: &str) -> Result<(), Refusal> {
        let now = self.control.now();
        self.control.state().payment_of(Some(self.dialect), reference).ok_or(Refusal::NotFound)?.close(now)
    }

    /// A page of this account's movements, as [`crate::ledger::Ledger::page`]. A payment of nobody yet belongs to whoever lists its money first;
    /// a line without a payment, which only a test can plant, stands in the generic account's list.
    pub fn list(
        &self,
        from: Timestamp,
        to: Timestamp,
        after: u64,
        limit: usize,
        keep: impl Fn(&Entry) -> bool,
    ) -> (Vec<Entry>, bool) {
        let mut state = self.control.state();
        let State { payments, ledger, .. } = &mut *state;
        let is_own = |entry: &Entry| {
            let belongs_to = payments.get(&entry.reference).map_or(Some(Dialect::default()), |payment| payment.dialect);
            belongs_to.is_none_or(|dialect| dialect == self.dialect)
        };
        let page = ledger.page(from, to, after, limit, |entry| keep(entry) && is_own(entry));
        for entry in &page.0 {
            let _ = payments.get_mut(&entry.reference).map(|payment| payment.is_of(self.dialect));
        }
        page
    }
}
