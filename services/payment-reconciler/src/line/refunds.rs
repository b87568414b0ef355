//! The refund driver's transactions: a refund is wanted, is marked as being sent, is recorded, is confirmed, and is watched.

use domain::payment::{
    Attention, Money, PaymentState, PgAnswer, PgRefund, PgRefundState, Policy, Refund, RefundId, RefundReason, RefundState,
    refunding::{self, Step},
};
use payment_providers::port::{Advice, ProviderError, RefundOrder};

use super::{
    Line,
    claim::Claimed,
    outcome::Outcome,
    rows::{Locked, LockedRefund},
    settle::{Applied, Next},
    write::PaymentWrite,
};
use crate::{
    error::LineError,
    pg::{self, Session},
};

/// A refund to be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub reason: RefundReason,
    pub amount: Money,
    pub by_operator: bool,
}

/// A refund that was refused in so many attempts, although the gateway shows that it holds the money, is shown to an operator. Trying goes on.
const REFUSALS_SHOWN: i32 = 3;

/// Held by the transaction that counts automatic refunds, so that no two count at the same time. Any number that nobody else uses.
const COUNT_LOCK: &str = "SELECT pg_advisory_xact_lock(8390881592)";

/// Those that the line made by itself, and those that it opened again by itself, whoever had made them.
const COUNT: &str = "SELECT count(*) FROM refund WHERE NOT held AND state <> 'MANUAL' \
    AND (automatic AND created_at > payment_now() - $1::bigint * interval '1 millisecond' \
        OR reopened_at > payment_now() - $1::bigint * interval '1 millisecond')";

const INSERT: &str = "INSERT INTO refund (refund_id, payment_id, amount, currency, reason, actor, automatic, state, held, held_reason) \
    VALUES ($1, $2, $3, $4, $5, $6, true, $7, $8, CASE WHEN $8 THEN 'too many automatic refunds' END)";

/// A confirmed refund that the gateway took back. Its attempt is over.
const REOPEN: &str = "UPDATE refund SET state = 'REQUESTED', attempt = attempt + 1, sends = 0, amount = $2, pg_refund_id = NULL, \
    confirmed_at = NULL, watch_until = NULL, last_error = NULL, reopened_at = payment_now(), \
    held = $3, held_reason = CASE WHEN $3 THEN 'too many automatic refunds' END, held_by = NULL, updated_at = payment_now() WHERE refund_id = $1";

const SENDING: &str = "UPDATE refund SET state = 'SENDING', sending_since = payment_now(), sends = sends + 1, amount = $2, last_error = NULL, \
    updated_at = payment_now() WHERE refund_id = $1";

/// The attempt rises in a statement of its own: only what is not being sent may get a new key.
const ANEW: &str = "UPDATE refund SET state = 'REQUESTED', sending_since = NULL, attempt = attempt + 1, sends = 0, amount = $2, pg_refund_id = NULL, \
    updated_at = payment_now() WHERE refund_id = $1";

const MOVE: &str = "UPDATE refund SET state = $2, sending_since = CASE WHEN $2 = 'SENDING' THEN sending_since END, \
    pg_refund_id = coalesce($3, pg_refund_id), last_error = $4, updated_at = payment_now() WHERE refund_id = $1";

const CONFIRM: &str = "UPDATE refund SET state = 'CONFIRMED', sending_since = NULL, held = false, held_reason = NULL, confirmed_at = payment_now(), \
    watch_until = $2, last_error = NULL, updated_at = payment_now() WHERE refund_id = $1";

impl Line {
    /// Payment → REFUNDING with its refund, together.
    pub(super) async fn request_refund(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
        wish: Wish,
    ) -> Result<Applied, LineError> {
        let id = RefundId::of_payment(&locked.payment.id);
        let held = !wish.by_operator && self.too_many_refunds(session).await?;
        let state = if wish.by_operator { RefundState::Manual } else { RefundState::Requested };
        session
            .run(
                INSERT,
                &[
                    &id.as_str(),
                    &locked.payment.id.as_str(),
                    &wish.amount.amount,
                    &wish.amount.currency.as_str(),
                    &wish.reason.as_str(),
                    &claimed.actor(super::ACTOR_SETTLE),
                    &state.as_str(),
                    &held,
                ],
            )
            .await?;
        let attention = match (held, wish.by_operator) {
            (true, _) => Some(Attention::RefundHeld),
            (_, true) => Some(Attention::RefundNeedsPayer),
            _ if wish.reason == RefundReason::Reversed => Some(Attention::RefundReversed),
            _ => None,
        };
        // The driver asks again before it sends: an answer that was wrong for a moment gives nobody money.
        let write = PaymentWrite { next_check_ms: Some(0), attention, ..PaymentWrite::to(PaymentState::Refunding) };
        self.write_payment(session, claimed, locked, Some(answer), &write).await?;
        Ok(Applied::done(Outcome::Refunding(wish.reason)))
    }

    /// An emptied product table must not refund everybody.
    pub(super) async fn too_many_refunds(&self, session: &Session) -> Result<bool, LineError> {
        session.rows(COUNT_LOCK, &[]).await?;
        let refunds = &self.settings.refunds;
        let lately: i64 = session.row(COUNT, &[&refunds.automatic_window_ms]).await?.try_get(0)?;
        Ok(lately >= refunds.automatic_max)
    }

    /// The next step of a REFUNDING payment.
    pub(super) async fn drive_refund(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
    ) -> Result<Applied, LineError> {
        let LockedRefund { refund, age_ms, sent_ms } =
            locked.refund.as_ref().ok_or_else(|| LineError::Row(format!("payment {} has no refund", locked.payment.id)))?;
        let policy = self.policy(&claimed.provider);
        if let PgAnswer::Found(pg) = answer {
            self.write_book(session, locked, pg, super::ACTOR_REFUND_DRIVER).await?;
        }
        match refunding::next_step(refund, answer, *age_ms, *sent_ms, policy) {
            Step::Confirm => {
                service_kit::failpoint!("payment.refund.confirming");
                self.confirm(session, claimed, locked, answer, refund).await
            }
            Step::Send(amount) => self.mark_sending(session, claimed, locked, answer, refund, amount).await,
            Step::SendAnew(amount) => {
                session.run(ANEW, &[&refund.id.as_str(), &amount.amount]).await?;
                let next = Refund { attempt: refund.attempt.saturating_add(1), ..refund.clone() };
                self.mark_sending(session, claimed, locked, answer, &next, amount).await
            }
            Step::Accepted(pg_refund) => {
                self.move_refund(session, refund, RefundState::Accepted, pg_refund.as_deref(), None).await?;
                self.refund_waits(session, claimed, locked, answer, overdue(locked, policy)).await
            }
            Step::Manual(reason) => {
                self.move_refund(session, refund, RefundState::Manual, None, None).await?;
                self.refund_waits(session, claimed, locked, answer, Some(reason)).await
            }
            Step::Wait(attention) => self.refund_waits(session, claimed, locked, answer, attention).await,
        }
    }

    async fn mark_sending(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
        refund: &Refund,
        amount: Money,
    ) -> Result<Applied, LineError> {
        let held_until = self.held_from_now();
        session.run(SENDING, &[&refund.id.as_str(), &amount.amount]).await?;
        // Also what is sent again and again becomes old.
        let attention = kept(locked).or_else(|| overdue(locked, self.policy(&claimed.provider)));
        let write = PaymentWrite { attention, keep_lease: true, ..PaymentWrite::to(PaymentState::Refunding) };
        self.write_payment(session, claimed, locked, Some(answer), &write).await?;
        let transaction_id = if let PgAnswer::Found(pg) = answer { pg.transaction_id.clone() } else { None };
        let order = RefundOrder {
            reference: claimed.reference.clone(),
            transaction_id,
            amount,
            key: refund.key(),
            reason: refund.reason.as_str().to_owned(),
        };
        Ok(Applied { outcome: Outcome::RefundDriven, next: Next::Send { order, held_until } })
    }

    async fn refund_waits(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
        attention: Option<Attention>,
    ) -> Result<Applied, LineError> {
        let policy = self.policy(&claimed.provider);
        let write = PaymentWrite {
            next_check_ms: Some(policy.refund.delay_ms(locked.payment.checks)),
            attention: attention.or_else(|| kept(locked)),
            ..PaymentWrite::to(PaymentState::Refunding)
        };
        self.write_payment(session, claimed, locked, Some(answer), &write).await?;
        Ok(Applied::done(Outcome::RefundDriven))
    }

    async fn confirm(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
        refund: &Refund,
    ) -> Result<Applied, LineError> {
        let policy = self.policy(&claimed.provider);
        let until = locked.now.saturating_add_ms(policy.watch_ms);
        let write = PaymentWrite {
            next_check_ms: Some(policy.watch.delay_ms(0)),
            sweep_until: Some(until),
            ..PaymentWrite::to(PaymentState::Refunded)
        };
        session.run(CONFIRM, &[&refund.id.as_str(), &until.to_datetime()]).await?;
        self.write_payment(session, claimed, locked, Some(answer), &write).await?;
        let told = contracts::payment::PaymentOutcome::PaymentRefunded {
            order: locked.order.id.clone(),
            payment: locked.payment.id.clone(),
            refund: Some(refund.id.clone()),
            amount: refund.amount,
            reason: refund.reason.as_str().to_owned(),
            at: locked.now,
        };
        self.write_event(session, &told).await?;
        self.end_order(session, locked, refund.reason.as_str()).await?;
        Ok(Applied::done(Outcome::Refunded))
    }

    /// A REFUNDED payment: is its money still away?
    pub(super) async fn watch_refund(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
    ) -> Result<Applied, LineError> {
        let policy = self.policy(&claimed.provider);
        let (Some(held), PgAnswer::Found(pg)) = (refunding::reversed(answer), answer) else {
            let until = locked.payment.sweep_until;
            let watch = refunding::watch(answer, until, locked.payment.checks, locked.now, policy);
            let write = PaymentWrite {
                next_check_ms: watch.next_check_ms,
                attention: watch.attention,
                sweep_until: until,
                ..PaymentWrite::to(PaymentState::Refunded)
            };
            self.write_payment(session, claimed, locked, Some(answer), &write).await?;
            return Ok(Applied::done(Outcome::Waiting));
        };
        self.write_book(session, locked, pg, super::ACTOR_REFUND_DRIVER).await?;
        let Some(LockedRefund { refund, .. }) = &locked.refund else {
            let wish = Wish { reason: RefundReason::Reversed, amount: held, by_operator: pg.refund_needs_payer };
            return self.request_refund(session, claimed, locked, answer, wish).await;
        };
        // Nobody asked for it: a gateway that shows all refunds of a month as failed gets none of them sent again.
        let is_held = !pg.refund_needs_payer && self.too_many_refunds(session).await?;
        session.run(REOPEN, &[&refund.id.as_str(), &held.amount, &is_held]).await?;
        let attention = if is_held { Attention::RefundHeld } else { Attention::RefundReversed };
        let write =
            PaymentWrite { next_check_ms: Some(0), attention: Some(attention), ..PaymentWrite::to(PaymentState::Refunding) };
        self.write_payment(session, claimed, locked, Some(answer), &write).await?;
        Ok(Applied::done(Outcome::Refunding(RefundReason::Reversed)))
    }

    /// Records what the gateway said to a refund that was sent, and gives the claim back.
    ///
    /// # Errors
    /// PostgreSQL, or [`LineError::LeaseLost`]: whoever holds the payment now asks what became of the refund.
    pub async fn record_refund(&self, claimed: &Claimed, said: &Result<PgRefund, ProviderError>) -> Result<Applied, LineError> {
        let session = pg::session(&self.pool).await?;
        let recorded = match self.lock(&session, claimed).await {
            Ok(locked) => self.record(&session, claimed, &locked, said).await,
            Err(error) => Err(error),
        };
        match recorded {
            Ok(applied) => session.commit().await.map(|()| applied),
            Err(error) => {
                session.rollback().await;
                Err(error)
            }
        }
    }

    async fn record(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        said: &Result<PgRefund, ProviderError>,
    ) -> Result<Applied, LineError> {
        let refund = locked.refund.as_ref().map(|locked| &locked.refund).filter(|refund| refund.state == RefundState::Sending);
        let refund = refund.ok_or(LineError::LeaseLost)?;
        let policy = self.policy(&claimed.provider);
        let later = policy.refund.delay_ms(locked.payment.checks);
        let (state, pg_refund, error, next_ms, attention) = match said {
            // Done is confirmed by asking, at once.
            Ok(PgRefund { id, state: PgRefundState::Done, .. }) => (RefundState::Accepted, Some(id.as_str()), None, 0, None),
            Ok(PgRefund { id, state: PgRefundState::Pending, .. }) => {
                (RefundState::Accepted, Some(id.as_str()), None, later, None)
            }
            Ok(PgRefund { id, state: PgRefundState::Failed, .. }) => {
                (RefundState::Requested, Some(id.as_str()), Some("REFUND_FAILED".to_owned()), later, None)
            }
            Err(ProviderError::Refused { code, advice, .. }) => {
                let code = Some(code.clone());
                match advice {
                    Advice::Later => (RefundState::Requested, None, code, later, None),
                    // What is shown then may say that it is done already, by whomever. If not, it is tried again like any other.
                    Advice::Ask if refund.attempt == 1 && refund.sends == 1 => (RefundState::Requested, None, code, 0, None),
                    Advice::Ask => {
                        let shown = (refund.attempt >= REFUSALS_SHOWN).then_some(Attention::RefundRefused);
                        (RefundState::Requested, None, code, later, shown)
                    }
                    Advice::Manual => (RefundState::Manual, None, code, later, Some(Attention::RefundRefused)),
                }
            }
            // It may have been made: it stays marked until the gateway is asked.
            Err(error) => (RefundState::Sending, None, Some(error.to_string()), later, None),
        };
        self.move_refund(session, refund, state, pg_refund, error.as_deref()).await?;
        let attention = attention.or_else(|| kept(locked)).or_else(|| overdue(locked, policy));
        let write = PaymentWrite { next_check_ms: Some(next_ms), attention, ..PaymentWrite::to(PaymentState::Refunding) };
        self.write_payment(session, claimed, locked, None, &write).await?;
        Ok(Applied::done(Outcome::RefundDriven))
    }

    async fn move_refund(
        &self,
        session: &Session,
        refund: &Refund,
        to: RefundState,
        pg_refund: Option<&str>,
        error: Option<&str>,
    ) -> Result<(), LineError> {
        session.run(MOVE, &[&refund.id.as_str(), &to.as_str(), &pg_refund, &error]).await?;
        Ok(())
    }
}

/// A refund that is open for too long, whichever way it goes round.
fn overdue(locked: &Locked, policy: &Policy) -> Option<Attention> {
    let is_overdue = locked.refund.as_ref().is_some_and(|refund| refund.age_ms >= policy.refund_overdue_ms);
    is_overdue.then_some(Attention::RefundOverdue)
}

/// Reasons that stay until the refund is confirmed, because they are about the refund and not about the last answer.
fn kept(locked: &Locked) -> Option<Attention> {
    let reason: Attention = locked.attention.as_deref()?.parse().ok()?;
    let stays = matches!(
        reason,
        Attention::RefundNeedsPayer | Attention::RefundRefused | Attention::RefundReversed | Attention::RefundOverdue
    );
    stays.then_some(reason)
}
