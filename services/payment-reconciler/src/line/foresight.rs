//! What an answer of the gateway would come to, for a dry run: judged by the same functions on the same rows under the same locks as a real
//! settle, and rolled back. Here are only the words for what they decide.

use domain::payment::{
    Attention, FailReason, Judgement, Money, OrderId, PaymentId, PaymentState, PgAnswer, PgState, RefundReason, Verdict,
    refunding::{self, Step},
};

use super::Line;
use crate::{
    error::LineError,
    pg::{self, Session},
};

impl Line {
    /// What this answer would lead to now, and why. Nothing is changed.
    ///
    /// # Errors
    /// PostgreSQL; there is no such payment.
    pub async fn foresee(&self, order: &OrderId, payment: &PaymentId, answer: &PgAnswer) -> Result<String, LineError> {
        let session = pg::session(&self.pool).await?;
        let foreseen = self.foreseen(&session, order, payment, answer).await;
        session.rollback().await;
        foreseen
    }

    async fn foreseen(
        &self,
        session: &Session,
        order: &OrderId,
        payment: &PaymentId,
        answer: &PgAnswer,
    ) -> Result<String, LineError> {
        let (locked, _) = self.read(session, order, payment).await?;
        let policy = self.policy(&locked.payment.provider);
        Ok(match locked.payment.state {
            PaymentState::Pending | PaymentState::Failed => {
                let (judgement, _) = self.judged(session, &locked, answer).await?;
                let automatic = matches!(judgement.verdict, Verdict::Refund { by_operator: false, .. });
                let held = automatic && self.too_many_refunds(session).await?;
                of_judgement(&judgement, answer, locked.order.amount, held)
            }
            PaymentState::Refunding => match &locked.refund {
                Some(own) => of_step(&refunding::next_step(&own.refund, answer, own.age_ms, own.sent_ms, policy)),
                None => return Err(LineError::Row(format!("payment {payment} has no refund"))),
            },
            PaymentState::Refunded => match refunding::reversed(answer) {
                Some(held) => format!("give {held} back again: the gateway holds it although it was refunded"),
                None => "nothing: its money is back".to_owned(),
            },
            PaymentState::Success => "nothing: it is a success, and nobody asks about that one".to_owned(),
        })
    }
}

fn of_judgement(judgement: &Judgement, answer: &PgAnswer, costs: Money, held_back: bool) -> String {
    match judgement.verdict {
        Verdict::Settle => format!("complete the order: {costs} are paid, and the products are there"),
        Verdict::Wait => match judgement.attention {
            Some(attention) => format!("wait, and show it to an operator: {}", of_attention(attention)),
            None => format!("wait: {}", why_wait(answer)),
        },
        Verdict::Close => "end the payment at the gateway, and do what it says then: nobody should pay it any more".to_owned(),
        Verdict::Fail(FailReason::Failed) => {
            "fail the payment, and the order if no other attempt is left: the gateway says that it failed".to_owned()
        }
        Verdict::Fail(FailReason::NeverSeen) => {
            "fail the payment, and the order if no other attempt is left: the gateway did not come to know it in twice its window"
                .to_owned()
        }
        Verdict::Refund { reason, amount, by_operator } => {
            let how = match (by_operator, held_back) {
                (true, _) => "; it needs the payer's data, so a person has to make it",
                (_, true) => "; held, because there were too many automatic refunds lately",
                _ => "",
            };
            format!("give {amount} back: {} ({}){how}", of_reason(reason, costs), reason.as_str())
        }
        Verdict::Returned => "take note: the money came and is back already".to_owned(),
    }
}

fn of_step(step: &Step) -> String {
    match step {
        Step::Confirm => "confirm the refund: nothing is held any more".to_owned(),
        Step::Send(amount) => format!("send the refund of {amount}: the gateway shows none"),
        Step::SendAnew(amount) => {
            format!("send another refund of {amount}: the one before is over and did not give everything back")
        }
        Step::Accepted(_) => "wait: the gateway works on the refund".to_owned(),
        Step::Manual(attention) | Step::Wait(Some(attention)) => {
            format!("wait, and show it to an operator: {}", of_attention(*attention))
        }
        Step::Wait(None) => "wait: the refund was sent".to_owned(),
    }
}

const fn why_wait(answer: &PgAnswer) -> &'static str {
    match answer {
        PgAnswer::NotFound => "the gateway does not know the payment; that is unknown until twice its payment window",
        PgAnswer::Found(pg) => match pg.state {
            PgState::Open => "it is not paid yet, and may still be",
            PgState::Paid => "somebody is giving it back at the gateway",
            PgState::Returned => "its money is on the way back",
            PgState::Failed => "it has failed already, and is only looked at for late money",
            PgState::Unknown => "its status is not known here; after a time it is shown to an operator",
            PgState::Manual => "its status is one for people",
        },
    }
}

fn of_reason(reason: RefundReason, costs: Money) -> String {
    match reason {
        RefundReason::ProductNotFound => "a product does not exist any more".to_owned(),
        RefundReason::OutOfStock => "there are not enough pieces of a product".to_owned(),
        RefundReason::AmountMismatch | RefundReason::CurrencyMismatch => format!("the order costs {costs}"),
        RefundReason::SecondPayment => "another attempt has paid the order".to_owned(),
        RefundReason::OrderCancelled => "the order is cancelled".to_owned(),
        RefundReason::OrderFailed => "the order has failed".to_owned(),
        RefundReason::PaidLate => "the attempt had failed, and the money came late".to_owned(),
        RefundReason::Operator => "an operator wants it".to_owned(),
        RefundReason::Reversed => "a refund came back".to_owned(),
    }
}

const fn of_attention(attention: Attention) -> &'static str {
    match attention {
        Attention::Overdue => "it is not paid, and older than the handover's age",
        Attention::UnknownStatus => "the gateway's status has not been known here for too long",
        Attention::ManualStatus => "the gateway's status is one for people",
        Attention::AmountsDisagree => "the gateway's amounts and status do not agree",
        Attention::UnreadableAnswer => "the gateway's answers cannot be read",
        Attention::QueryRefused => "the gateway refuses to answer about it",
        Attention::SettleFails => "settling fails for a reason that does not pass",
        Attention::UnknownProvider => "its gateway is not in the settings",
        Attention::RefundNeedsPayer => "the refund needs data that only the payer has",
        Attention::RefundRefused => "the gateway refuses the refund",
        Attention::RefundOverdue => "the refund has been open for too long",
        Attention::RefundHeld => "the refund is held",
        Attention::RefundReversed => "a refund that was confirmed came back",
    }
}

/// What the gateway says, for people.
#[must_use]
pub fn said(answer: &PgAnswer) -> String {
    match answer {
        PgAnswer::NotFound => "it does not know the payment".to_owned(),
        PgAnswer::Found(pg) => format!("{}: took {}, gave back {}", pg.status, pg.captured, pg.refunded),
    }
}
