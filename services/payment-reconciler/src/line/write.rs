//! What a transaction of the line writes.

use chrono::{DateTime, Utc};
use contracts::payment::PaymentOutcome;
use domain::{
    clock::Timestamp,
    payment::{Attention, Entry, OrderState, PaymentState, PgAnswer, PgPayment, RefundReason},
};

use super::{Line, claim::Claimed, rows::Locked};
use crate::{error::LineError, pg::Session};

/// How a payment leaves a transaction.
#[derive(Debug, Clone)]
pub(super) struct PaymentWrite {
    /// Where it goes.
    pub state: PaymentState,
    /// In how many milliseconds it is asked about again; none: not at all.
    pub next_check_ms: Option<i64>,
    /// Why an operator should look, if one should.
    pub attention: Option<Attention>,
    /// Until when it is asked about, if it is FAILED or REFUNDED.
    pub sweep_until: Option<Timestamp>,
    /// Whether the lease is kept, and renewed, for a call that follows.
    pub keep_lease: bool,
}

impl PaymentWrite {
    /// Goes nowhere, or there, and is not asked about again.
    pub const fn to(state: PaymentState) -> Self {
        Self { state, next_check_ms: None, attention: None, sweep_until: None, keep_lease: false }
    }
}

const UPDATE_PAYMENT: &str = "UPDATE payment SET state = $3, \
        next_check_at = greatest(payment_now(), $5::timestamptz) + $4::bigint * interval '1 millisecond', \
        hinted_at = CASE WHEN $3 = 'SUCCESS' OR hinted_at IS NOT DISTINCT FROM $6 THEN NULL ELSE hinted_at END, \
        checks = $7, failed_checks = 0, checked_at = payment_now(), answered_at = payment_now(), \
        last_status = coalesce($8, last_status), last_answer = coalesce($9::text::jsonb, last_answer), last_error = NULL, \
        pg_transaction_id = coalesce($10, pg_transaction_id), pg_expires_at = coalesce($11, pg_expires_at), \
        callback_secret = coalesce($12, callback_secret), sweep_until = $13, \
        attention = $14::text IS NOT NULL, attention_reason = $14, \
        attention_since = CASE WHEN $14 IS NULL THEN NULL WHEN attention_reason = $14 THEN attention_since ELSE payment_now() END, \
        holder = CASE WHEN $15 THEN holder END, lease_until = CASE WHEN $15 THEN payment_now() + $16::bigint * interval '1 millisecond' END, \
        updated_at = payment_now() \
    WHERE payment_id = $1 AND fence = $2";

const UPDATE_ORDER: &str =
    "UPDATE customer_order SET state = $2, reason = $3, updated_at = payment_now() WHERE order_id = $1 AND state = $4";

/// The schema asks the same at the commit.
const MONEY_IS_BACK: &str = "SELECT order_money_is_back($1)";

/// If whoever wanted the refund of what paid for the order wants the pieces back in stock.
const RESTOCK: &str = "INSERT INTO stock_movement (order_id, product_id, kind, change) \
    SELECT m.order_id, m.product_id, 'returned', -m.change FROM stock_movement m WHERE m.order_id = $1 AND m.kind = 'sold' \
    AND EXISTS (SELECT FROM payment p JOIN refund r USING (payment_id) WHERE p.order_id = $1 AND p.paid_order AND r.restock) ORDER BY m.product_id";

const INSERT_ENTRY: &str = "INSERT INTO money_entry (payment_id, kind, pg_transaction_id, amount, currency, pg_at, actor) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

const INSERT_EVENT: &str = "INSERT INTO outbox (event_id, topic, event_type, event_key, payload, headers) \
    VALUES (gen_random_uuid(), $1, $2, $3, $4::text::jsonb, CASE WHEN $5::text IS NULL THEN '{}' ELSE jsonb_build_object('traceparent', $5::text) END)";

impl Line {
    /// Writes the payment, and tells of it if an operator should look and was not told of this reason yet.
    pub(super) async fn write_payment(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: Option<&PgAnswer>,
        write: &PaymentWrite,
    ) -> Result<(), LineError> {
        let found = answer.and_then(|answer| if let PgAnswer::Found(pg) = answer { Some(pg) } else { None });
        let status = answer.map(|_| found.map_or(super::NOT_FOUND, |pg| pg.status.as_str()));
        let json = answer.and_then(|answer| serde_json::to_string(answer).ok());
        let checks = if write.state == locked.payment.state { locked.payment.checks.saturating_add(1) } else { 0 };
        let checks = i32::try_from(checks).unwrap_or(i32::MAX);
        let attention = write.attention.map(Attention::as_str);
        let next_check_ms =
            if write.keep_lease { Some(self.settings.run.lease_ms) } else { write.next_check_ms.map(Self::jittered) };
        let transaction = found.and_then(|pg| pg.transaction_id.as_deref());
        let secret = found.and_then(|pg| pg.callback_secret.as_ref()).map(domain::secret::Secret::expose);
        let expires: Option<DateTime<Utc>> = found.and_then(|pg| pg.expires_at).map(Timestamp::to_datetime);
        let sweep: Option<DateTime<Utc>> = write.sweep_until.map(Timestamp::to_datetime);
        let written = session
            .run(
                UPDATE_PAYMENT,
                &[
                    &claimed.payment.as_str(),
                    &claimed.fence,
                    &write.state.as_str(),
                    &next_check_ms,
                    &claimed.run_began_at,
                    &claimed.hinted_at,
                    &checks,
                    &status,
                    &json,
                    &transaction,
                    &expires,
                    &secret,
                    &sweep,
                    &attention,
                    &write.keep_lease,
                    &self.settings.run.lease_ms,
                ],
            )
            .await?;
        if written != 1 {
            return Err(LineError::LeaseLost);
        }
        if let Some(reason) = attention.filter(|reason| locked.attention.as_deref() != Some(*reason)) {
            let told = PaymentOutcome::OrderNeedsAttention {
                order: claimed.order.clone(),
                payment: Some(claimed.payment.clone()),
                reason: reason.to_owned(),
                at: locked.now,
            };
            self.write_event(session, &told).await?;
        }
        Ok(())
    }

    /// Moves the order.
    pub(super) async fn write_order(
        &self,
        session: &Session,
        locked: &Locked,
        to: OrderState,
        reason: Option<&str>,
    ) -> Result<(), LineError> {
        let moved =
            session.run(UPDATE_ORDER, &[&locked.order.id.as_str(), &to.as_str(), &reason, &locked.order.state.as_str()]).await?;
        // The row is locked: nobody can have moved it.
        if moved == 1 { Ok(()) } else { Err(LineError::Row(format!("order {} has moved under its lock", locked.order.id))) }
    }

    /// Ends the order, if this payment was the last that it waited for. One that is not paid fails when every other attempt is over. One that is
    /// completed is cancelled when what paid for it is back and nothing of another attempt is held, whichever of them came back last.
    pub(super) async fn end_order(&self, session: &Session, locked: &Locked, reason: &str) -> Result<(), LineError> {
        match locked.order.state {
            OrderState::Pending if locked.others.iter().all(|state| state.is_over()) => {
                self.write_order(session, locked, OrderState::Failed, Some(reason)).await?;
                let told =
                    PaymentOutcome::OrderFailed { order: locked.order.id.clone(), reason: reason.to_owned(), at: locked.now };
                self.write_event(session, &told).await
            }
            OrderState::Completed if self.money_is_back(session, locked).await? => {
                // Only an operator gives back what paid for an order.
                self.write_order(session, locked, OrderState::Cancelled, Some(RefundReason::Operator.as_str())).await?;
                session.run(RESTOCK, &[&locked.order.id.as_str()]).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn money_is_back(&self, session: &Session, locked: &Locked) -> Result<bool, LineError> {
        Ok(session.row(MONEY_IS_BACK, &[&locked.order.id.as_str()]).await?.try_get(0)?)
    }

    /// Brings the book to what the gateway says.
    pub(super) async fn write_book(
        &self,
        session: &Session,
        locked: &Locked,
        pg: &PgPayment,
        actor: &str,
    ) -> Result<(), LineError> {
        for entry in domain::payment::entries_missing(&locked.entries, pg, &locked.payment.reference) {
            let Entry { kind, transaction_id, amount, at } = entry;
            let at: Option<DateTime<Utc>> = at.map(Timestamp::to_datetime);
            let id = locked.payment.id.as_str();
            session
                .run(
                    INSERT_ENTRY,
                    &[&id, &kind.as_str(), &transaction_id, &amount.amount, &amount.currency.as_str(), &at, &actor],
                )
                .await?;
        }
        Ok(())
    }

    /// Leaves an event for the relay, with the trace in which it was decided if somebody records that.
    pub(super) async fn write_event(&self, session: &Session, told: &PaymentOutcome) -> Result<(), LineError> {
        let payload = told.to_json().to_string();
        let topic = contracts::names::TOPIC_PAYMENT_OUTCOME;
        let trace = service_kit::trace::recorded();
        session.run(INSERT_EVENT, &[&topic, &told.event_type(), &told.order().as_str(), &payload, &trace]).await?;
        Ok(())
    }
}
