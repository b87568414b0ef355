//! What is noted of a payment that could not be looked after: when its next turn is, and whether an operator should look, who is then told
//! in the same transaction.

use chrono::{DateTime, Utc};
use contracts::payment::PaymentOutcome;
use domain::{
    clock::Timestamp,
    payment::{Attention, OrderId, PaymentState, Policy, refunding},
};
use payment_providers::port::ProviderError;
use tokio_postgres::Row;

use super::{Line, claim::Claimed, rows::parsed};
use crate::{
    error::LineError,
    pg::{self, Session},
};

/// Asks in a row without an answer after which one that cannot be read is shown to an operator: a single one may be a proxy's page.
pub(super) const UNREADABLE_MIN: u32 = 3;

/// A claim whose turn failed. Its ids are texts, because a row that cannot be read has no others.
pub(super) struct Fallen<'a> {
    pub payment: &'a str,
    pub order: &'a str,
    pub policy: &'a Policy,
    pub fence: i64,
    pub hinted_at: Option<DateTime<Utc>>,
    pub failed_checks: u32,
    pub run_began_at: DateTime<Utc>,
}

/// The age of a payment since its intake, as the judge counts it, for as long as it is held.
const AGES: &str = "SELECT p.state, p.method, greatest(p.created_at, o.received_at) AS created_at, p.pg_expires_at, payment_now() AS now, \
    payment_outage_ms(p.provider, greatest(p.created_at, o.received_at), payment_now()) AS outage_ms, \
    (extract(epoch FROM payment_now() - coalesce(r.reopened_at, r.created_at)) * 1000)::bigint \
        - payment_outage_ms(p.provider, coalesce(r.reopened_at, r.created_at), payment_now()) AS refund_age_ms \
    FROM payment p JOIN customer_order o USING (order_id) LEFT JOIN refund r USING (payment_id) WHERE p.payment_id = $1 AND p.fence = $2 AND p.holder = $3";

/// An order's events are written under its lock, so that they leave in its order.
const LOCK_ORDER: &str = "SELECT FROM customer_order WHERE order_id = $1 FOR NO KEY UPDATE";

/// A reason that is there stays, because only an answer says that it is over; but whoever fails otherwise has its gateway in the settings.
const UNANSWERED: &str = "UPDATE payment p SET failed_checks = failed_checks + 1, checked_at = payment_now(), last_error = $4, \
        next_check_at = greatest(payment_now(), $5::timestamptz) + $6::bigint * interval '1 millisecond', \
        hinted_at = CASE WHEN hinted_at IS NOT DISTINCT FROM $7 THEN NULL ELSE hinted_at END, \
        attention = known.reason IS NOT NULL, attention_reason = known.reason, \
        attention_since = CASE WHEN known.reason IS NULL THEN NULL WHEN known.reason = known.was THEN attention_since ELSE payment_now() END, \
        holder = NULL, lease_until = NULL, updated_at = payment_now() \
    FROM (SELECT payment_id, attention_reason AS was, \
            coalesce(CASE WHEN attention_reason = 'unknown_provider' AND $4 <> 'UNKNOWN_PROVIDER' THEN NULL ELSE attention_reason END, $8) AS reason \
        FROM payment WHERE payment_id = $1 AND fence = $2 AND holder = $3 FOR NO KEY UPDATE) known \
    WHERE p.payment_id = known.payment_id \
    RETURNING CASE WHEN known.reason IS DISTINCT FROM known.was THEN known.reason END AS shown, payment_now() AS now";

impl Line {
    /// Notes that the gateway gave no answer, or that it could not be settled, and gives the claim back until its next time. What an operator
    /// should look at is told in the same transaction, once a reason.
    ///
    /// # Errors
    /// PostgreSQL; the lease then ends by itself.
    pub async fn note_failure(&self, claimed: &Claimed, error: &LineError) -> Result<(), LineError> {
        let fallen = Fallen {
            payment: claimed.payment.as_str(),
            order: claimed.order.as_str(),
            policy: self.policy(&claimed.provider),
            fence: claimed.fence,
            hinted_at: claimed.hinted_at,
            failed_checks: claimed.failed_checks,
            run_began_at: claimed.run_began_at,
        };
        Box::pin(self.note(&fallen, error)).await
    }

    /// The same of a claim whose row may be unreadable.
    pub(super) async fn note(&self, fallen: &Fallen<'_>, error: &LineError) -> Result<(), LineError> {
        let session = pg::session(&self.pool).await?;
        let rows = session.rows(AGES, &[&fallen.payment, &fallen.fence, &self.holder]).await?;
        let Some(ages) = rows.first() else { return Ok(()) };
        let attention = match attention_of(error, fallen.failed_checks.saturating_add(1)) {
            Some(attention) => Some(attention),
            None => attention_by_age(ages, fallen.policy)?,
        };
        let Some(attention) = attention else { return self.write_failure(&session, fallen, error, None).await };
        session.begin().await?;
        let noted = async {
            session.rows(LOCK_ORDER, &[&fallen.order]).await?;
            self.write_failure(&session, fallen, error, Some(attention)).await
        };
        match noted.await {
            Ok(()) => session.commit().await,
            Err(error) => {
                session.rollback().await;
                Err(error)
            }
        }
    }

    async fn write_failure(
        &self,
        session: &Session,
        fallen: &Fallen<'_>,
        error: &LineError,
        attention: Option<Attention>,
    ) -> Result<(), LineError> {
        let delay_ms = Self::jittered(fallen.policy.unanswered.delay_ms(fallen.failed_checks));
        let reason = attention.map(Attention::as_str);
        let params: pg::Params<'_> = &[
            &fallen.payment,
            &fallen.fence,
            &self.holder,
            &error.code(),
            &fallen.run_began_at,
            &delay_ms,
            &fallen.hinted_at,
            &reason,
        ];
        let rows = session.rows(UNANSWERED, params).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let Some(shown) = row.try_get::<_, Option<String>>("shown")? else { return Ok(()) };
        // No message can name an order whose id is none; the log and the operators' lists do.
        let Ok(order) = fallen.order.parse::<OrderId>() else { return Ok(()) };
        let told = PaymentOutcome::OrderNeedsAttention {
            order,
            payment: fallen.payment.parse().ok(),
            reason: shown,
            at: row.try_get::<_, DateTime<Utc>>("now")?.into(),
        };
        self.write_event(session, &told).await
    }
}

/// The flag that a failure raises, because trying again will not help. `in_a_row`: asks without an answer, with this one.
fn attention_of(error: &LineError, in_a_row: u32) -> Option<Attention> {
    match error {
        LineError::Provider(ProviderError::Malformed(_)) => (in_a_row >= UNREADABLE_MIN).then_some(Attention::UnreadableAnswer),
        LineError::Provider(ProviderError::Refused { .. }) => Some(Attention::QueryRefused),
        LineError::UnknownProvider(_) => Some(Attention::UnknownProvider),
        error if error.is_lasting() => Some(Attention::SettleFails),
        _ => None,
    }
}

/// The flag that age raises, by the same rules as after an answer.
fn attention_by_age(row: &Row, policy: &Policy) -> Result<Option<Attention>, LineError> {
    let moment = |column| Ok::<_, LineError>(row.try_get::<_, Option<DateTime<Utc>>>(column)?.map(Timestamp::from));
    let state = row.try_get::<_, &str>("state")?.parse::<PaymentState>();
    let (Some(created_at), Some(now)) = (moment("created_at")?, moment("now")?) else { return Ok(None) };
    Ok(match state {
        Ok(PaymentState::Pending) => {
            let (expires_at, outage_ms) = (moment("pg_expires_at")?, row.try_get("outage_ms")?);
            let overdue = policy.is_overdue(parsed(row, "method")?, created_at, expires_at, now, outage_ms);
            overdue.then_some(Attention::Overdue)
        }
        Ok(PaymentState::Refunding) => {
            row.try_get::<_, Option<i64>>("refund_age_ms")?.and_then(|age_ms| refunding::overdue(age_ms, policy))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_that_cannot_be_read_shows_nobody_and_several_in_a_row_do() {
        let malformed = LineError::Provider(ProviderError::Malformed("a proxy's page".to_owned()));
        let shown = [1, 2, 3, 4].map(|in_a_row| attention_of(&malformed, in_a_row));
        assert_eq!(shown, [None, None, Some(Attention::UnreadableAnswer), Some(Attention::UnreadableAnswer)]);
        assert_eq!(attention_of(&LineError::UnknownProvider("x".to_owned()), 1), Some(Attention::UnknownProvider));
        assert_eq!(attention_of(&LineError::Row("x".to_owned()), 1), Some(Attention::SettleFails));
        assert_eq!(attention_of(&LineError::Provider(ProviderError::Unavailable("x".to_owned())), 9), None);
    }
}
