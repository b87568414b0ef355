//! One payment: its place in its script, its refunds, and what a call does to it.

use domain::{
    clock::Timestamp,
    payment::{Currency, PgRefundState},
};
use serde::{Deserialize, Serialize};

use crate::{
    ledger::{Booking, By, EntryKind},
    script::{Answer, Call, Fault, Method, RefundScript, Script},
    state::Dialect,
};

/// Refunds that one payment may have.
const REFUNDS_MAX: usize = 64;

/// How long a virtual account waits if its script does not say: three days, in milliseconds.
const DEPOSIT_WINDOW_MS: u64 = 3 * 24 * 3_600_000;

/// A payment to be placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewPayment {
    /// What it is known by: Toss' order id, Stripe's payment intent.
    pub reference: String,
    /// What is asked for, in minor units.
    pub amount: i64,
    /// Of what.
    pub currency: Currency,
    /// To which dialect's account it belongs: nobody else can ask about it or lists its money. Without it, to the first one that does.
    #[serde(default)]
    pub dialect: Option<Dialect>,
    /// What it does.
    #[serde(default)]
    pub script: Script,
}

impl NewPayment {
    /// A payment with a script.
    pub fn new(reference: impl Into<String>, amount: i64, currency: Currency, script: Script) -> Self {
        Self { reference: reference.into(), amount, currency, dialect: None, script }
    }

    /// The same in a dialect's account.
    #[must_use]
    pub fn belonging_to(mut self, dialect: Dialect) -> Self {
        self.dialect = Some(dialect);
        self
    }
}

/// A refund as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundView {
    /// The gateway's id.
    pub id: String,
    /// The idempotency key that came with it.
    pub key: Option<String>,
    /// What the caller wrote to it: Toss' reason, a mark in Stripe's metadata.
    pub note: Option<String>,
    /// In minor units.
    pub amount: i64,
    /// How far it is.
    pub state: PgRefundState,
    /// When it was made.
    pub at: Timestamp,
}

#[derive(Debug)]
struct Refund {
    view: RefundView,
    script: RefundScript,
    asks: u32,
}

/// A refund to be made.
#[derive(Debug, Clone, Copy)]
pub struct RefundOrder<'a> {
    /// In minor units; without it all that is held.
    pub amount: Option<i64>,
    pub key: Option<&'a str>,
    pub note: Option<&'a str>,
    pub by: By,
    pub has_payer_account: bool,
}

/// Why a refund or a close is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    NothingHeld,
    AlreadyRefunded,
    MoreThanHeld,
    NeedsPayer,
    Paid,
    TooMany,
    Scripted(String),
}

#[derive(Debug)]
pub struct Payment {
    pub reference: String,
    pub amount: i64,
    pub currency: Currency,
    pub dialect: Option<Dialect>,
    pub placed_at: Timestamp,
    pub paid_at: Option<Timestamp>,
    pub script: Script,
    pub captured: i64,
    pub captured_in: Currency,
    step: usize,
    step_asks: u32,
    told: Option<Answer>,
    refunds: Vec<Refund>,
    pub calls: crate::control::Counts,
    pub in_flight: u32,
}

impl Payment {
    /// Places it; the bookings are what its first answer moves.
    pub fn place(new: NewPayment, now: Timestamp) -> (Self, Vec<Booking>) {
        let NewPayment { reference, amount, currency, dialect, script } = new;
        let mut payment = Self {
            reference,
            amount,
            currency,
            dialect,
            placed_at: now,
            paid_at: None,
            script,
            captured: 0,
            captured_in: currency,
            step: 0,
            step_asks: 0,
            told: None,
            refunds: Vec::new(),
            calls: crate::control::Counts::default(),
            in_flight: 0,
        };
        let bookings = payment.enter(now);
        (payment, bookings)
    }

    /// Whether it belongs to this account; a payment of nobody belongs to the first one that wants to know.
    pub fn is_of(&mut self, dialect: Dialect) -> bool {
        *self.dialect.get_or_insert(dialect) == dialect
    }

    /// What is answered now.
    pub fn answer(&self) -> &Answer {
        self.told.as_ref().or_else(|| self.script.steps.get(self.step).map(|step| &step.answer)).unwrap_or(&Answer::Open)
    }

    /// Jumps to an answer, which stays.
    pub fn tell(&mut self, answer: Answer, now: Timestamp) -> Vec<Booking> {
        self.told = Some(answer);
        self.enter(now)
    }

    /// Begins another script; money that moved stays moved.
    pub fn rewrite(&mut self, script: Script, now: Timestamp) -> Vec<Booking> {
        self.script = script;
        (self.step, self.step_asks, self.told) = (0, 0, None);
        self.enter(now)
    }

    /// Counts an ask: what the next one will be told may differ.
    pub fn asked(&mut self, now: Timestamp) -> Vec<Booking> {
        let mut bookings = self.refunds_asked();
        let asks_of_step = self.script.steps.get(self.step).and_then(|step| step.asks);
        if self.told.is_none()
            && let Some(asks) = asks_of_step
        {
            self.step_asks = self.step_asks.saturating_add(1);
            if self.step_asks >= asks && self.step.saturating_add(1) < self.script.steps.len() {
                self.step = self.step.saturating_add(1);
                self.step_asks = 0;
                bookings.extend(self.enter(now));
            }
        }
        bookings
    }

    fn enter(&mut self, now: Timestamp) -> Vec<Booking> {
        if *self.answer() != Answer::Paid || self.captured > 0 {
            return Vec::new();
        }
        self.captured = self.script.paid_amount.unwrap_or(self.amount);
        self.captured_in = self.script.paid_currency.as_deref().and_then(|code| code.parse().ok()).unwrap_or(self.currency);
        self.paid_at = Some(now);
        if self.captured == 0 {
            // Said to be paid, and nothing moved.
            return Vec::new();
        }
        vec![Booking {
            kind: EntryKind::Capture,
            amount: self.captured,
            currency: self.captured_in,
            refund_id: None,
            key: None,
            by: By::Payer,
        }]
    }

    fn refunds_asked(&mut self) -> Vec<Booking> {
        let currency = self.captured_in;
        let mut bookings = Vec::new();
        for refund in &mut self.refunds {
            refund.asks = refund.asks.saturating_add(1);
            let reached = |asks: u32| refund.asks >= asks;
            let next = match refund.script {
                RefundScript::Pending(asks) if reached(asks) => PgRefundState::Done,
                RefundScript::FailsLater(asks) | RefundScript::Reversed(asks) if reached(asks) => PgRefundState::Failed,
                _ => continue,
            };
            let kind = match (refund.view.state, next) {
                (PgRefundState::Pending, PgRefundState::Done) => EntryKind::Refund,
                (PgRefundState::Done, PgRefundState::Failed) => EntryKind::RefundReversed,
                (_, next) => {
                    refund.view.state = next;
                    continue;
                }
            };
            refund.view.state = next;
            let (refund_id, key) = (Some(refund.view.id.clone()), refund.view.key.clone());
            // Done and reached again and again: only the change of state is booked.
            bookings.push(Booking { kind, amount: refund.view.amount, currency, refund_id, key, by: By::Bank });
        }
        bookings
    }

    /// Money that went back for certain, in minor units.
    pub fn refunded(&self) -> i64 {
        self.sum(PgRefundState::Done)
    }

    /// Money on its way back, in minor units.
    pub fn returning(&self) -> i64 {
        self.sum(PgRefundState::Pending)
    }

    fn sum(&self, state: PgRefundState) -> i64 {
        self.refunds.iter().filter(|refund| refund.view.state == state).map(|refund| refund.view.amount).sum()
    }

    /// What can still be refunded.
    pub fn refundable(&self) -> i64 {
        self.captured.saturating_sub(self.refunded()).saturating_sub(self.returning())
    }

    /// Whether all that was captured is back or on its way.
    pub fn is_given_back(&self) -> bool {
        self.captured > 0 && self.refundable() == 0
    }

    pub fn refunds(&self) -> impl Iterator<Item = &RefundView> {
        self.refunds.iter().map(|refund| &refund.view)
    }

    pub fn deposit_until(&self) -> Option<Timestamp> {
        (self.script.method == Method::VirtualAccount).then(|| {
            let window = self.script.deposit_window_ms.unwrap_or(DEPOSIT_WINDOW_MS);
            self.placed_at.saturating_add_ms(i64::try_from(window).unwrap_or(i64::MAX))
        })
    }

    /// Gives money back.
    pub fn refund(&mut self, order: RefundOrder<'_>, id: String, now: Timestamp) -> Result<(RefundView, Vec<Booking>), Refusal> {
        let RefundOrder { amount, key, note, by, has_payer_account } = order;
        if *self.answer() == Answer::NotFound {
            return Err(Refusal::NotFound);
        }
        if self.captured == 0 {
            return Err(Refusal::NothingHeld);
        }
        let amount = amount.unwrap_or_else(|| self.refundable());
        if !self.script.over_refunds {
            if self.refundable() == 0 {
                return Err(Refusal::AlreadyRefunded);
            }
            if amount > self.refundable() || amount <= 0 {
                return Err(Refusal::MoreThanHeld);
            }
        }
        if self.script.method == Method::VirtualAccount && by == By::Api && !has_payer_account {
            return Err(Refusal::NeedsPayer);
        }
        if self.refunds.len() >= REFUNDS_MAX {
            return Err(Refusal::TooMany);
        }
        // The script is for refunds by the API: what a person does at the dashboard is done.
        let script =
            if by == By::Api && !self.script.refunds.is_empty() { self.script.refunds.remove(0) } else { RefundScript::Done };
        let state = match &script {
            RefundScript::Refused(code) => return Err(Refusal::Scripted(code.clone())),
            RefundScript::Done | RefundScript::Reversed(_) => PgRefundState::Done,
            RefundScript::Pending(_) | RefundScript::FailsLater(_) => PgRefundState::Pending,
        };
        let key = key.map(str::to_owned);
        let note = note.map(str::to_owned);
        let view = RefundView { id: id.clone(), key: key.clone(), note, amount, state, at: now };
        self.refunds.push(Refund { view: view.clone(), script, asks: 0 });
        let booked = (state == PgRefundState::Done).then_some(Booking {
            kind: EntryKind::Refund,
            amount,
            currency: self.captured_in,
            refund_id: Some(id),
            key,
            by,
        });
        Ok((view, booked.into_iter().collect()))
    }

    /// Ends it, if nobody has paid.
    pub fn close(&mut self, now: Timestamp) -> Result<(), Refusal> {
        match self.answer() {
            Answer::NotFound => Err(Refusal::NotFound),
            Answer::Paid => Err(Refusal::Paid),
            Answer::Closed | Answer::Expired => Ok(()),
            Answer::Open | Answer::Deposit | Answer::Failed | Answer::Strange(_) => {
                if !self.script.close_refusals.is_empty() {
                    return Err(Refusal::Scripted(self.script.close_refusals.remove(0)));
                }
                self.tell(Answer::Closed, now);
                Ok(())
            }
        }
    }

    /// The fault that hits this call, if any; each is used up.
    pub fn fault(&mut self, call: Call) -> Option<Fault> {
        let rule = self.script.faults.iter_mut().find(|rule| rule.times > 0 && rule.call.is_none_or(|only| only == call))?;
        rule.times = rule.times.saturating_sub(1);
        Some(rule.fault.clone())
    }
}
