//! What follows from what a gateway says about a payment that is PENDING, or FAILED and swept for late money. A pure function.

use super::{Attention, Money, Order, OrderState, Payment, PaymentState, PgAnswer, PgPayment, PgState, Policy, RefundReason};
use crate::clock::Timestamp;

/// Whether the order's products can be handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    /// All of them. Also what is assumed before it is looked up.
    Enough,
    /// A product does not exist any more.
    ProductNotFound,
    /// Not enough pieces of a product.
    Short,
}

/// What a verdict is made from, besides the answer.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The order, locked.
    pub order: &'a Order,
    /// The payment, locked, PENDING or FAILED.
    pub payment: &'a Payment,
    /// Whether the products are there.
    pub stock: Stock,
    /// Now.
    pub now: Timestamp,
    /// For how long of the payment's life its gateway could not be asked, in milliseconds.
    pub outage_ms: i64,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Complete the order: payment SUCCESS, stock, order COMPLETED.
    Settle,
    /// Leave it and ask again later.
    Wait,
    /// End the payment at the gateway, so that it cannot be paid any more, and read what it says then.
    Close,
    /// Payment FAILED; the order, too, if no other attempt is left.
    Fail(FailReason),
    /// Give back what the gateway holds.
    Refund {
        /// Why.
        reason: RefundReason,
        /// How much: all that is held.
        amount: Money,
        /// Whether it needs data that only the payer has, so that an operator has to do it.
        by_operator: bool,
    },
    /// The money came and is already back: payment REFUNDED.
    Returned,
}

/// Why a payment failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailReason {
    /// The gateway says so.
    Failed,
    /// The gateway did not come to know it in twice its payment window.
    NeverSeen,
}

impl FailReason {
    /// The stable code.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "PAYMENT_FAILED",
            Self::NeverSeen => "PAYMENT_NOT_FOUND",
        }
    }
}

/// A verdict with what goes along with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// What to do.
    pub verdict: Verdict,
    /// Whether an operator should look, and why. Asking goes on.
    pub attention: Option<Attention>,
    /// In how many milliseconds to ask again, if the verdict leaves the payment where it is; none: not at all.
    pub next_check_ms: Option<i64>,
}

/// Judges.
#[must_use]
pub fn judge(case: &Case<'_>, answer: &PgAnswer, policy: &Policy) -> Judgement {
    match answer {
        PgAnswer::NotFound => not_found(case, policy),
        PgAnswer::Found(pg) => match amounts(pg) {
            Some(held) => found(case, pg, held, policy),
            None => wait(case, policy, Some(pg), Some(Attention::AmountsDisagree)),
        },
    }
}

/// What is held, if the amounts make sense: one currency, nothing below zero, not more back than came, and no refund done that is not in the total.
#[must_use]
pub fn amounts(pg: &PgPayment) -> Option<Money> {
    pg.held().filter(|held| held.amount >= 0 && pg.is_consistent())
}

/// Until when money may arrive, as far as the gateway has said so by now.
#[must_use]
pub fn expiry(payment: &Payment, pg: Option<&PgPayment>) -> Option<Timestamp> {
    pg.and_then(|pg| pg.expires_at).or(payment.expires_at)
}

/// Until when a failed payment is asked for late money: the gateway may name a later expiry than it had when the payment failed.
#[must_use]
pub fn swept_until(sweep_until: Timestamp, expiry: Option<Timestamp>) -> Timestamp {
    expiry.map_or(sweep_until, |expiry| expiry.max(sweep_until))
}

fn not_found(case: &Case<'_>, policy: &Policy) -> Judgement {
    let unknown_ms = policy.payment_window_ms.saturating_mul(2);
    let may_still_come = case.payment.expires_at.is_some_and(|expiry| case.now < expiry);
    // One answer may be a mistake of the gateway's, such as that of a replica of its own that lags: it has to say so twice running.
    let is_said_again = case.payment.was_not_found;
    if case.payment.state == PaymentState::Pending && age_ms(case) >= unknown_ms && !may_still_come && is_said_again {
        only(Verdict::Fail(FailReason::NeverSeen))
    } else {
        wait(case, policy, None, None)
    }
}

fn found(case: &Case<'_>, pg: &PgPayment, held: Money, policy: &Policy) -> Judgement {
    let wait = |attention| wait(case, policy, Some(pg), attention);
    let came_and_went = pg.captured.amount > 0 && held.amount == 0;
    match pg.state {
        PgState::Paid | PgState::Failed | PgState::Returned if came_and_went => only(Verdict::Returned),
        // Paid, or all of it back, and nothing ever came: a contradiction, which may be cleared up. It is no failed payment.
        PgState::Paid | PgState::Returned if held.amount == 0 => wait(Some(Attention::AmountsDisagree)),
        // Somebody is giving it back at the gateway: what is held will not stay.
        PgState::Paid if pg.is_moving() => wait(None),
        PgState::Paid => paid(case, pg, held),
        PgState::Open if held.amount > 0 => wait(Some(Attention::AmountsDisagree)),
        PgState::Open if should_close(case, pg, policy) => Judgement { verdict: Verdict::Close, ..wait(None) },
        PgState::Open => wait(None),
        PgState::Failed if held.amount > 0 => wait(Some(Attention::AmountsDisagree)),
        PgState::Returned => wait(None),
        PgState::Failed if case.payment.state == PaymentState::Pending => only(Verdict::Fail(FailReason::Failed)),
        PgState::Failed => wait(None),
        PgState::Manual => wait(Some(Attention::ManualStatus)),
        PgState::Unknown => {
            let late = age_ms(case) >= policy.unknown_ms;
            wait(late.then_some(Attention::UnknownStatus))
        }
    }
}

/// The gateway holds money. Is it the order's, and can the order have it?
fn paid(case: &Case<'_>, pg: &PgPayment, held: Money) -> Judgement {
    let reason = match (case.order.state, case.payment.state) {
        (OrderState::Cancelled, _) => Some(RefundReason::OrderCancelled),
        (OrderState::Completed, _) => Some(RefundReason::SecondPayment),
        (OrderState::Failed, _) => Some(RefundReason::OrderFailed),
        (OrderState::Pending, PaymentState::Pending) => unusable(case, held),
        // The attempt had failed, and another one may be on its way: late money is not counted on.
        (OrderState::Pending, _) => Some(RefundReason::PaidLate),
    };
    match reason {
        None => only(Verdict::Settle),
        Some(reason) => only(Verdict::Refund { reason, amount: held, by_operator: pg.refund_needs_payer }),
    }
}

fn unusable(case: &Case<'_>, held: Money) -> Option<RefundReason> {
    if held.currency != case.order.amount.currency {
        return Some(RefundReason::CurrencyMismatch);
    }
    if held.amount != case.order.amount.amount {
        return Some(RefundReason::AmountMismatch);
    }
    match case.stock {
        Stock::Enough => None,
        Stock::ProductNotFound => Some(RefundReason::ProductNotFound),
        Stock::Short => Some(RefundReason::OutOfStock),
    }
}

/// Nobody should be able to pay any more: the order is over, the attempt has failed, or the payer's time is up, which is long for a deposit.
/// What the gateway gives an expiry ends by itself. One that it named before and names no more counts until then: some gateways open a payment
/// again behind it, for another method.
fn should_close(case: &Case<'_>, pg: &PgPayment, policy: &Policy) -> bool {
    if case.order.state != OrderState::Pending || case.payment.state == PaymentState::Failed {
        return true;
    }
    let ends_by_itself = pg.expires_at.is_some() || case.payment.expires_at.is_some_and(|end| case.now < end);
    !ends_by_itself && age_ms(case) >= policy.window_ms(case.payment.method).saturating_mul(2)
}

/// The payment's age without the time in which its gateway could not be asked.
fn age_ms(case: &Case<'_>) -> i64 {
    case.now.unix_ms().saturating_sub(case.payment.created_at.unix_ms()).saturating_sub(case.outage_ms)
}

const fn only(verdict: Verdict) -> Judgement {
    Judgement { verdict, attention: None, next_check_ms: None }
}

fn wait(case: &Case<'_>, policy: &Policy, pg: Option<&PgPayment>, attention: Option<Attention>) -> Judgement {
    let payment = case.payment;
    let expires_at = expiry(payment, pg);
    let (next_check_ms, late) = match payment.state {
        PaymentState::Failed => {
            let until = payment.sweep_until.map(|until| swept_until(until, expires_at));
            let left = until.map_or(0, |until| until.unix_ms().saturating_sub(case.now.unix_ms()));
            let next = policy.sweep.delay_ms(payment.checks);
            match (left > 0, pg.is_some_and(PgPayment::is_unsettled)) {
                // The last look falls on the end itself.
                (true, _) => (Some(next.min(left)), None),
                // Nobody's money is kept for nothing: the end is not reached while the gateway has not done with it.
                (false, true) => (Some(next), Some(Attention::RefundOverdue)),
                // What an operator is shown is asked about until an answer says that it is over.
                (false, false) => (attention.is_some().then_some(next), None),
            }
        }
        _ => {
            let overdue = policy.is_overdue(payment.method, payment.created_at, expires_at, case.now, case.outage_ms);
            (Some(policy.open(payment.method).delay_ms(payment.checks)), overdue.then_some(Attention::Overdue))
        }
    };
    Judgement { verdict: Verdict::Wait, attention: attention.or(late), next_check_ms }
}
