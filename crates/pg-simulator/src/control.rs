//! The simulator from behind: place payments, move them, set faults, read the ledger. The admin API and tests inside the process use the same.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use domain::{
    clock::{Clock, Timestamp},
    payment::Currency,
};
use serde::{Deserialize, Serialize};

use crate::{
    callbacks::Callbacks,
    faults::{Congestion, Latency, Outage},
    ledger::{Booking, By, Entry, EntryKind},
    payment::{NewPayment, Payment, RefundOrder, RefundView, Refusal},
    script::{Answer, Script},
    state::{Dialect, Limits, State},
};

/// Why the simulator does not do what it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// No payment has that reference.
    #[error("there is no payment {0}")]
    Unknown(String),
    /// The reference is taken by a payment of other content.
    #[error("{0} is placed already")]
    Taken(String),
    /// A bound is reached.
    #[error("the simulator is full: {0}")]
    Full(&'static str),
    /// A refund at the dashboard that cannot be made.
    #[error("refused: {0}")]
    Refused(String),
}

/// Calls about a payment so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Queries.
    pub query: u32,
    /// Refunds.
    pub refund: u32,
    /// Closes.
    pub close: u32,
    /// The most calls about it that were under way at once.
    pub at_once_max: u32,
}

/// The money of a payment, from the ledger alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// Captured, in minor units.
    pub paid: i64,
    /// Given back and not come back, in minor units.
    pub refunded: i64,
    /// Lines of captures; more than one is a double.
    pub captures: u32,
    /// Lines of refunds that did not come back.
    pub refunds: u32,
    /// Of what; None before anything moved.
    pub currency: Option<Currency>,
}

impl Money {
    /// paid − refunded.
    #[must_use]
    pub const fn held(&self) -> i64 {
        self.paid.saturating_sub(self.refunded)
    }
}

/// A payment as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaymentView {
    /// What it is known by.
    pub reference: String,
    /// What was asked for, in minor units.
    pub amount: i64,
    /// Of what.
    pub currency: Currency,
    /// To whose account it belongs; None: nobody has spoken of it yet.
    pub dialect: Option<Dialect>,
    /// What the next ask is told.
    pub answer: Answer,
    /// Its money.
    pub money: Money,
    /// Its refunds.
    pub refunds: Vec<RefundView>,
    /// Calls about it.
    pub calls: Counts,
}

/// The simulator from behind. Cheap to clone.
#[derive(Clone)]
pub struct Control(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    callbacks: Callbacks,
}

impl Control {
    pub(crate) fn new(limits: Limits, clock: Arc<dyn Clock>, callbacks: Callbacks) -> Self {
        Self(Arc::new(Inner { state: Mutex::new(State::new(limits)), clock, callbacks }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Places a payment. The same one again is no error.
    ///
    /// # Errors
    /// The reference is taken by another content, or the simulator is full.
    pub fn place(&self, new: NewPayment) -> Result<(), ControlError> {
        let now = self.now();
        let mut state = self.state();
        if let Some(old) = state.payments.get_mut(&new.reference) {
            let same = old.amount == new.amount && old.currency == new.currency;
            let same = same && (new.dialect.is_none() || old.dialect.is_none() || old.dialect == new.dialect);
            old.dialect = if same { old.dialect.or(new.dialect) } else { old.dialect };
            return if same { Ok(()) } else { Err(ControlError::Taken(new.reference)) };
        }
        if state.payments.len() >= state.limits.payments_max {
            return Err(ControlError::Full("payments"));
        }
        if state.ledger.entries().len() >= state.limits.entries_max {
            return Err(ControlError::Full("ledger"));
        }
        let reference = new.reference.clone();
        let (payment, bookings) = Payment::place(new, now);
        state.book(now, &reference, bookings);
        state.payments.insert(reference, payment);
        Ok(())
    }

    /// Lets a payment's state jump, such as to [`Answer::Paid`]; a callback goes out.
    ///
    /// # Errors
    /// There is no such payment.
    pub fn tell(&self, reference: &str, answer: Answer) -> Result<(), ControlError> {
        let now = self.now();
        let mut state = self.state();
        let payment = state.payments.get_mut(reference).ok_or_else(|| ControlError::Unknown(reference.to_owned()))?;
        let bookings = payment.tell(answer, now);
        self.0.callbacks.offer(payment, now);
        state.book(now, reference, bookings);
        Ok(())
    }

    /// The payer pays: [`Self::tell`] with [`Answer::Paid`].
    ///
    /// # Errors
    /// There is no such payment.
    pub fn pay(&self, reference: &str) -> Result<(), ControlError> {
        self.tell(reference, Answer::Paid)
    }

    /// Gives a payment another script, from its beginning; money that moved stays moved.
    ///
    /// # Errors
    /// There is no such payment.
    pub fn set_script(&self, reference: &str, script: Script) -> Result<(), ControlError> {
        let now = self.now();
        let mut state = self.state();
        let payment = state.payments.get_mut(reference).ok_or_else(|| ControlError::Unknown(reference.to_owned()))?;
        let bookings = payment.rewrite(script, now);
        state.book(now, reference, bookings);
        Ok(())
    }

    /// A person gives money back at the gateway's dashboard; without an amount all that is held.
    ///
    /// # Errors
    /// There is no such payment, or so much is not held.
    pub fn refund_at_dashboard(&self, reference: &str, amount: Option<i64>) -> Result<RefundView, ControlError> {
        let order = RefundOrder { amount, key: None, note: None, by: By::Dashboard, has_payer_account: true };
        self.refund(None, reference, order).map_err(|refusal| match refusal {
            Refusal::NotFound => ControlError::Unknown(reference.to_owned()),
            other => ControlError::Refused(format!("{other:?}")),
        })
    }

    pub(crate) fn refund(
        &self,
        account: Option<Dialect>,
        reference: &str,
        order: RefundOrder<'_>,
    ) -> Result<RefundView, Refusal> {
        let now = self.now();
        let mut state = self.state();
        state.refund_ids = state.refund_ids.saturating_add(1);
        let id = format!("re_{:08}", state.refund_ids);
        let payment = state.payment_of(account, reference).ok_or(Refusal::NotFound)?;
        let (view, bookings) = payment.refund(order, id, now)?;
        self.0.callbacks.offer(payment, now);
        state.book(now, reference, bookings);
        Ok(view)
    }

    /// Sets how long calls take whose payment does not say.
    pub fn set_latency(&self, latency: Latency) {
        self.state().latency = latency;
    }

    /// Sets how much slower calls become by others that are under way with them.
    pub fn set_congestion(&self, congestion: Congestion) {
        self.state().congestion = congestion;
    }

    /// Sets whether the gateway is there at all.
    pub fn set_outage(&self, outage: Outage) {
        self.state().outage = outage;
    }

    /// Calls a second until 429 is answered; None for no limit.
    pub fn set_throttle(&self, per_second: Option<u32>) {
        self.state().throttle_per_second = per_second;
    }

    /// Forgets every idempotency key, as gateways do after a while.
    pub fn forget_keys(&self) {
        self.state().forget_keys();
    }

    /// A payment as it stands.
    #[must_use]
    pub fn payment(&self, reference: &str) -> Option<PaymentView> {
        let state = self.state();
        let payment = state.payments.get(reference)?;
        Some(PaymentView {
            reference: payment.reference.clone(),
            amount: payment.amount,
            currency: payment.currency,
            dialect: payment.dialect,
            answer: payment.answer().clone(),
            money: money(state.ledger.of(reference)),
            refunds: payment.refunds().cloned().collect(),
            calls: payment.calls,
        })
    }

    /// Calls about a payment so far.
    #[must_use]
    pub fn calls(&self, reference: &str) -> Counts {
        self.state().payments.get(reference).map(|payment| payment.calls).unwrap_or_default()
    }

    /// Calls about payments that are not placed, or belong to another account.
    #[must_use]
    pub fn unknown_calls(&self) -> u64 {
        self.state().unknown_calls
    }

    /// The most calls that were under way at once, since [`Self::reset_load`].
    #[must_use]
    pub fn in_flight_max(&self) -> u32 {
        self.state().load.in_flight_max()
    }

    /// Calls of all kinds that came since [`Self::reset_load`], whatever they were answered.
    #[must_use]
    pub fn calls_total(&self) -> u64 {
        self.state().load.calls()
    }

    /// The most calls that came within any time of this length since [`Self::reset_load`]; the last 100,000 calls are looked at.
    #[must_use]
    pub fn busiest(&self, window: Duration) -> usize {
        self.state().load.busiest(window)
    }

    /// Begins to count [`Self::in_flight_max`], [`Self::calls_total`] and [`Self::busiest`] again.
    pub fn reset_load(&self) {
        self.state().load.reset();
    }

    /// Payments that are placed.
    #[must_use]
    pub fn payment_count(&self) -> usize {
        self.state().payments.len()
    }

    /// Lines of the ledger.
    #[must_use]
    pub fn entry_count(&self) -> usize {
        self.state().ledger.entries().len()
    }

    /// Whether the callbacks of a payment are lost.
    #[must_use]
    pub fn is_callback_lost(&self, reference: &str) -> bool {
        self.0.callbacks.is_lost(reference)
    }

    /// The money of one payment.
    #[must_use]
    pub fn money(&self, reference: &str) -> Money {
        money(self.state().ledger.of(reference))
    }

    /// Writes a line into the ledger that nothing moved, in won: for checks of money that have to find it.
    pub fn plant(&self, reference: &str, kind: EntryKind, amount: i64, key: Option<&str>) {
        let key = key.map(str::to_owned);
        let booking = Booking { kind, amount, currency: Currency::KRW, refund_id: None, key, by: By::Bank };
        self.state().ledger.book(self.now(), reference, booking);
    }

    /// The whole ledger.
    #[must_use]
    pub fn ledger(&self) -> Vec<Entry> {
        self.state().ledger.entries().to_vec()
    }

    /// A page of the ledger behind line `after`, and whether there is more.
    #[must_use]
    pub fn ledger_page(&self, after: u64, limit: usize) -> (Vec<Entry>, bool) {
        let (from, to) = (Timestamp::from_unix_ms(i64::MIN), Timestamp::from_unix_ms(i64::MAX));
        self.state().ledger.page(from, to, after, limit, |_| true)
    }
}

fn money<'a>(entries: impl Iterator<Item = &'a Entry>) -> Money {
    entries.fold(Money { paid: 0, refunded: 0, captures: 0, refunds: 0, currency: None }, |mut sum, entry| {
        sum.currency = Some(entry.currency);
        match entry.kind {
            EntryKind::Capture => {
                sum.paid = sum.paid.saturating_add(entry.amount);
                sum.captures = sum.captures.saturating_add(1);
            }
            EntryKind::Refund => {
                sum.refunded = sum.refunded.saturating_add(entry.amount);
                sum.refunds = sum.refunds.saturating_add(1);
            }
            EntryKind::RefundReversed => {
                sum.refunded = sum.refunded.saturating_sub(entry.amount);
                sum.refunds = sum.refunds.saturating_sub(1);
            }
        }
        sum
    })
}
