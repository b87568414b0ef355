//! What a transaction of the line looks at: the order, locked first, then the payment, its refund, and what the book says.

use std::{fmt::Display, str::FromStr};

use chrono::{DateTime, Utc};
use domain::{
    clock::Timestamp,
    payment::{Entry, Money, Order, OrderId, Payment, PaymentId, PaymentState, Refund},
};
use tokio_postgres::Row;

use super::{Line, claim::Claimed};
use crate::{
    error::LineError,
    pg::{Params, Session},
};

/// A payment with everything around it, locked.
#[derive(Debug)]
pub struct Locked {
    /// The order.
    pub order: Order,
    /// The payment.
    pub payment: Payment,
    /// Where the order's other attempts are.
    pub others: Vec<PaymentState>,
    /// Its refund, if there is one.
    pub refund: Option<LockedRefund>,
    /// What the book says.
    pub entries: Vec<Entry>,
    /// Why an operator is shown it.
    pub attention: Option<String>,
    /// The database's time.
    pub now: Timestamp,
    /// For how long of its life its gateway could not be asked.
    pub outage_ms: i64,
}

/// A refund with its ages.
#[derive(Debug)]
pub struct LockedRefund {
    /// The refund.
    pub refund: Refund,
    /// Since when it is wanted, or wanted again, in milliseconds, without the time in which its gateway could not be asked.
    pub age_ms: i64,
    /// How long ago it was sent, if it is being sent.
    pub sent_ms: Option<i64>,
}

const ORDER: &str =
    "SELECT order_id, amount, currency, state, created_at FROM customer_order WHERE order_id = $1 FOR NO KEY UPDATE";

/// A payment's age counts from when it is here, by this database's clock: no payer loses an attempt because the order service's is late.
const PAYMENT: &str = "SELECT p.payment_id, p.order_id, p.provider, p.reference, p.method, p.amount, p.currency, p.state, \
    here.since AS created_at, p.pg_expires_at, p.sweep_until, p.checks, p.last_status, p.attention_reason, p.fence, p.holder, \
    payment_now() AS now, payment_outage_ms(p.provider, here.since, payment_now()) AS outage_ms \
    FROM payment p CROSS JOIN LATERAL (SELECT greatest(p.created_at, o.received_at) AS since FROM customer_order o WHERE o.order_id = p.order_id) here \
    WHERE p.payment_id = $1 FOR NO KEY UPDATE OF p";

const OTHERS: &str = "SELECT state FROM payment WHERE order_id = $1 AND payment_id <> $2";

const REFUND: &str = "SELECT refund_id, amount, currency, reason, state, attempt, sends, pg_refund_id, held, restock, watch_until, \
    (extract(epoch FROM payment_now() - coalesce(reopened_at, created_at)) * 1000)::bigint - payment_outage_ms( \
        (SELECT p.provider FROM payment p WHERE p.payment_id = refund.payment_id), coalesce(reopened_at, created_at), payment_now()) AS age_ms, \
    (extract(epoch FROM payment_now() - sending_since) * 1000)::bigint AS sent_ms \
    FROM refund WHERE payment_id = $1 FOR NO KEY UPDATE";

const ENTRIES: &str =
    "SELECT kind, pg_transaction_id, amount, currency, pg_at FROM money_entry WHERE payment_id = $1 ORDER BY entry_id";

impl Line {
    /// Begins a transaction and locks the order, then the payment. Its caller commits or rolls back.
    ///
    /// # Errors
    /// PostgreSQL, or [`LineError::LeaseLost`].
    pub(super) async fn lock(&self, session: &Session, claimed: &Claimed) -> Result<Locked, LineError> {
        let (locked, by) = self.read(session, &claimed.order, &claimed.payment).await?;
        if by != (claimed.fence, Some(self.holder)) {
            return Err(LineError::LeaseLost);
        }
        Ok(locked)
    }

    /// The same whoever holds the payment, and who that is: the fencing token and the holder.
    ///
    /// # Errors
    /// PostgreSQL.
    pub(super) async fn read(
        &self,
        session: &Session,
        order: &OrderId,
        payment: &PaymentId,
    ) -> Result<(Locked, (i64, Option<uuid::Uuid>)), LineError> {
        session.ready(&[ORDER, PAYMENT, OTHERS, REFUND, ENTRIES]).await?;
        let (order_id, payment_id) = (order.as_str(), payment.as_str());
        let (for_order, for_payment, for_both): (Params<'_>, Params<'_>, Params<'_>) =
            (&[&order_id], &[&payment_id], &[&order_id, &payment_id]);
        // Sent one behind the other without waiting: the server takes them in this order.
        let (_, order, payment, others, refund, entries) = futures::try_join!(
            session.begin(),
            session.row(ORDER, for_order),
            session.row(PAYMENT, for_payment),
            session.rows(OTHERS, for_both),
            session.rows(REFUND, for_payment),
            session.rows(ENTRIES, for_payment),
        )?;
        let (fence, holder): (i64, Option<uuid::Uuid>) = (payment.try_get("fence")?, payment.try_get("holder")?);
        let locked = Locked {
            order: Order {
                id: parsed(&order, "order_id")?,
                amount: money(&order)?,
                state: parsed(&order, "state")?,
                created_at: moment(&order, "created_at")?,
            },
            attention: payment.try_get("attention_reason")?,
            now: moment(&payment, "now")?,
            outage_ms: payment.try_get("outage_ms")?,
            payment: self::payment(&payment)?,
            others: others.iter().map(|row| parsed(row, "state")).collect::<Result<_, _>>()?,
            refund: refund.first().map(self::refund).transpose()?,
            entries: entries.iter().map(entry).collect::<Result<_, _>>()?,
        };
        Ok((locked, (fence, holder)))
    }
}

fn payment(row: &Row) -> Result<Payment, LineError> {
    Ok(Payment {
        id: parsed(row, "payment_id")?,
        order: parsed(row, "order_id")?,
        provider: parsed(row, "provider")?,
        reference: parsed(row, "reference")?,
        method: parsed(row, "method")?,
        amount: money(row)?,
        state: parsed(row, "state")?,
        created_at: moment(row, "created_at")?,
        expires_at: optional_moment(row, "pg_expires_at")?,
        sweep_until: optional_moment(row, "sweep_until")?,
        checks: u32::try_from(row.try_get::<_, i32>("checks")?).unwrap_or(0),
        was_not_found: row.try_get::<_, Option<&str>>("last_status")? == Some(super::NOT_FOUND),
    })
}

fn refund(row: &Row) -> Result<LockedRefund, LineError> {
    let refund = Refund {
        id: parsed(row, "refund_id")?,
        amount: money(row)?,
        reason: parsed(row, "reason")?,
        state: parsed(row, "state")?,
        attempt: row.try_get("attempt")?,
        sends: row.try_get("sends")?,
        pg_refund_id: row.try_get("pg_refund_id")?,
        held: row.try_get("held")?,
        restock: row.try_get("restock")?,
        watch_until: optional_moment(row, "watch_until")?,
    };
    Ok(LockedRefund { refund, age_ms: row.try_get("age_ms")?, sent_ms: row.try_get("sent_ms")? })
}

fn entry(row: &Row) -> Result<Entry, LineError> {
    Ok(Entry {
        kind: parsed(row, "kind")?,
        transaction_id: row.try_get("pg_transaction_id")?,
        amount: money(row)?,
        at: optional_moment(row, "pg_at")?,
    })
}

/// A column whose text has a meaning.
pub(super) fn parsed<T: FromStr<Err: Display>>(row: &Row, column: &str) -> Result<T, LineError> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| LineError::Row(format!("{column} {error}")))
}

fn money(row: &Row) -> Result<Money, LineError> {
    Ok(Money::new(row.try_get("amount")?, parsed(row, "currency")?))
}

fn moment(row: &Row, column: &str) -> Result<Timestamp, LineError> {
    Ok(row.try_get::<_, DateTime<Utc>>(column)?.into())
}

fn optional_moment(row: &Row, column: &str) -> Result<Option<Timestamp>, LineError> {
    Ok(row.try_get::<_, Option<DateTime<Utc>>>(column)?.map(Timestamp::from))
}
