//! What to do next about a payment that is REFUNDING, or REFUNDED and watched. Pure functions of the refund and the gateway's answer.

use super::{Attention, Money, PgAnswer, PgPayment, PgRefund, PgRefundState, Policy, Refund, RefundState, verdict::amounts};
use crate::clock::Timestamp;

/// The next step of a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The gateway's final word: nothing is held any more.
    Confirm,
    /// Send this attempt, for this amount. A first call, or the same call again.
    Send(Money),
    /// The attempt is definitely over without a refund, or with one that was not enough: begin another one for this amount, and send it.
    SendAnew(Money),
    /// The gateway has it; this is its id.
    Accepted(Option<String>),
    /// A person has to make it.
    Manual(Attention),
    /// Ask again later.
    Wait(Option<Attention>),
}

/// What a REFUNDING payment needs. `sent_ms` is how long ago the attempt was sent last.
#[must_use]
pub fn next_step(refund: &Refund, answer: &PgAnswer, age_ms: i64, sent_ms: Option<i64>, policy: &Policy) -> Step {
    let overdue = (age_ms >= policy.refund_overdue_ms).then_some(Attention::RefundOverdue);
    let PgAnswer::Found(pg) = answer else { return Step::Wait(Some(Attention::AmountsDisagree)) };
    let Some(held) = amounts(pg) else { return Step::Wait(Some(Attention::AmountsDisagree)) };
    let pending = pg.refunds.iter().find(|other| other.state == PgRefundState::Pending);
    if let Some(pending) = pending {
        // Ours or somebody's: a second one beside it might give back twice.
        return Step::Accepted(Some(pending.id.clone()));
    }
    if held.amount == 0 {
        return if pg.captured.amount > 0 { Step::Confirm } else { Step::Wait(Some(Attention::AmountsDisagree)) };
    }
    if refund.state == RefundState::Manual {
        return Step::Wait(overdue);
    }
    if pg.refund_needs_payer {
        return Step::Manual(Attention::RefundNeedsPayer);
    }
    if refund.held {
        return Step::Wait(Some(Attention::RefundHeld));
    }
    let ours = ours(refund, pg).map(|ours| ours.state);
    match (refund.state, ours) {
        // What the gateway ended without giving everything back needs another attempt.
        (_, Some(PgRefundState::Failed | PgRefundState::Done)) => Step::SendAnew(held),
        // Just sent: the gateway may still be at it.
        (RefundState::Sending, None) if sent_ms.is_some_and(|ms| ms < policy.refund_grace_ms) => Step::Wait(overdue),
        // Asked, and it shows nothing: the same call again, under the same key, for the same amount.
        (RefundState::Sending, None) => Step::Send(refund.amount),
        (RefundState::Requested, None) if refund.sends == 0 => Step::Send(held),
        // It was refused, and the gateway shows no refund: only now a new key.
        (RefundState::Requested, None) => Step::SendAnew(held),
        _ => Step::Wait(overdue),
    }
}

/// What a REFUNDED payment needs: none if its money is still away, else what came back.
#[must_use]
pub fn reversed(answer: &PgAnswer) -> Option<Money> {
    let PgAnswer::Found(pg) = answer else { return None };
    let moving = pg.refunds.iter().any(|refund| refund.state == PgRefundState::Pending);
    amounts(pg).filter(|held| held.amount > 0 && !moving)
}

/// In how many milliseconds a REFUNDED payment is asked again; none behind the end of the watch.
#[must_use]
pub fn next_watch_ms(watch_until: Option<Timestamp>, checks: u32, now: Timestamp, policy: &Policy) -> Option<i64> {
    let left = watch_until?.unix_ms().saturating_sub(now.unix_ms());
    (left > 0).then(|| policy.watch.delay_ms(checks).min(left))
}

fn ours<'a>(refund: &Refund, pg: &'a PgPayment) -> Option<&'a PgRefund> {
    let key = refund.key();
    pg.refunds
        .iter()
        .find(|other| other.key.as_deref() == Some(key.as_str()))
        .or_else(|| pg.refunds.iter().find(|other| refund.pg_refund_id.as_deref() == Some(other.id.as_str())))
}
