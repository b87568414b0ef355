//! What to do next about a payment that is REFUNDING, or REFUNDED and watched. Pure functions of the refund and the gateway's answer.

use super::{
    Attention, Money, PgAnswer, PgPayment, PgRefund, PgRefundState, PgState, Policy, Refund, RefundState, verdict::amounts,
};
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
    let overdue = overdue(age_ms, policy);
    let PgAnswer::Found(pg) = answer else { return Step::Wait(Some(Attention::AmountsDisagree)) };
    let Some(held) = amounts(pg) else { return Step::Wait(Some(Attention::AmountsDisagree)) };
    if let Some(pending) = pg.refunds.iter().find(|other| other.state == PgRefundState::Pending) {
        // Ours or somebody's: a second one beside it might give back twice.
        return Step::Accepted(Some(pending.id.clone()));
    }
    if held.amount == 0 {
        // A capture may be taken back, such as a deposit that the bank had booked by mistake. Over is that when the gateway says so: until then
        // the deposit may come again.
        let is_over = pg.captured.amount > 0 || pg.state == PgState::Failed;
        return if is_over { Step::Confirm } else { Step::Wait(Some(Attention::AmountsDisagree)) };
    }
    if refund.state == RefundState::Manual {
        let why = if pg.refund_needs_payer { Attention::RefundNeedsPayer } else { Attention::RefundRefused };
        return Step::Wait(overdue.or(Some(why)));
    }
    if pg.refund_needs_payer {
        return Step::Manual(Attention::RefundNeedsPayer);
    }
    if refund.held {
        return Step::Wait(Some(Attention::RefundHeld));
    }
    let ours = ours(refund, pg).map(|ours| ours.state);
    match (refund.state, ours) {
        // What the gateway ended without giving everything back needs another attempt. One that is done is in the total here.
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

/// Whether a refund of this age, still open, is shown to an operator for it, answered or not.
#[must_use]
pub fn overdue(age_ms: i64, policy: &Policy) -> Option<Attention> {
    (age_ms >= policy.refund_overdue_ms).then_some(Attention::RefundOverdue)
}

/// What a REFUNDED payment needs: none if its money is still away, else what came back.
#[must_use]
pub fn reversed(answer: &PgAnswer) -> Option<Money> {
    let PgAnswer::Found(pg) = answer else { return None };
    amounts(pg).filter(|held| held.amount > 0 && !pg.is_moving())
}

/// How a REFUNDED payment is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// In how many milliseconds to ask again; none: not at all.
    pub next_check_ms: Option<i64>,
    /// Whether an operator should look, and why.
    pub attention: Option<Attention>,
}

/// When a REFUNDED payment of which nothing is to be given back is asked about again: not behind the end of the watch, unless the gateway's
/// last word leaves open where the money is.
#[must_use]
pub fn watch(answer: &PgAnswer, watch_until: Option<Timestamp>, checks: u32, now: Timestamp, policy: &Policy) -> Watch {
    let left = watch_until.map_or(0, |until| until.unix_ms().saturating_sub(now.unix_ms()));
    let unsettled = match answer {
        PgAnswer::Found(pg) if pg.is_unsettled() => {
            Some(amounts(pg).map_or(Attention::AmountsDisagree, |_| Attention::RefundOverdue))
        }
        PgAnswer::Found(_) | PgAnswer::NotFound => None,
    };
    let Some(attention) = unsettled else {
        return Watch { next_check_ms: (left > 0).then(|| policy.watch.delay_ms(checks).min(left)), attention: None };
    };
    // As often as a refund that is open: whether the money is away is not known.
    let shown = attention == Attention::AmountsDisagree || left <= 0;
    Watch { next_check_ms: Some(policy.refund.delay_ms(checks)), attention: shown.then_some(attention) }
}

fn ours<'a>(refund: &Refund, pg: &'a PgPayment) -> Option<&'a PgRefund> {
    let key = refund.key();
    pg.refunds
        .iter()
        .find(|other| other.key.as_deref() == Some(key.as_str()))
        .or_else(|| pg.refunds.iter().find(|other| refund.pg_refund_id.as_deref() == Some(other.id.as_str())))
}
