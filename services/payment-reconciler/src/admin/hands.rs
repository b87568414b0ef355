//! The line's hands by way of the database: a hint that some replica follows, and what its look came to.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{OptionalExtension, QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use domain::payment::{Money, PaymentId, PgAnswer, RefundId};
use postgres_io::Db;
use tokio::time::Instant;

use super::{
    Hands,
    foresight::{Standing, foresee},
};
use crate::error::LineError;

/// How often it is looked whether the payment was asked about.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Makes a payment due ahead of everything else and waits, for a bounded time, until whichever replica takes it has looked after it.
pub struct ByHint {
    db: Db,
    wait: Duration,
}

#[derive(QueryableByName)]
struct Hinted {
    #[diesel(sql_type = sql_types::Timestamptz)]
    hinted_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Looked {
    #[diesel(sql_type = sql_types::Text)]
    outcome: String,
}

#[derive(QueryableByName)]
struct StandingRow {
    #[diesel(sql_type = sql_types::Text)]
    order_state: String,
    #[diesel(sql_type = sql_types::Text)]
    payment_state: String,
    #[diesel(sql_type = sql_types::BigInt)]
    amount: i64,
    #[diesel(sql_type = sql_types::Text)]
    currency: String,
    #[diesel(sql_type = sql_types::Bool)]
    product_gone: bool,
    #[diesel(sql_type = sql_types::Bool)]
    short: bool,
}

const HINT: &str =
    "UPDATE payment SET hinted_at = payment_now() WHERE payment_id = $1 AND state <> 'SUCCESS' RETURNING hinted_at";

const LOOKED: &str = "SELECT concat_ws(', ', state, last_status, last_error) AS outcome FROM payment \
    WHERE payment_id = $1 AND (hinted_at IS NULL OR hinted_at <> $2) AND checked_at >= $2 AND holder IS NULL";

const STANDING: &str = "SELECT o.state AS order_state, p.state AS payment_state, o.amount, o.currency, \
    EXISTS (SELECT FROM order_line l LEFT JOIN product d ON d.product_id = l.product_id WHERE l.order_id = o.order_id AND d.product_id IS NULL) AS product_gone, \
    EXISTS (SELECT FROM order_line l JOIN product d ON d.product_id = l.product_id WHERE l.order_id = o.order_id AND d.stock < l.quantity) AS short \
    FROM payment p JOIN customer_order o ON o.order_id = p.order_id WHERE p.payment_id = $1";

impl ByHint {
    /// Waits at most `wait` for the line's look.
    #[must_use]
    pub const fn new(db: Db, wait: Duration) -> Self {
        Self { db, wait }
    }
}

#[async_trait]
impl Hands for ByHint {
    async fn settle_now(&self, payment: &PaymentId) -> Result<Option<String>, LineError> {
        let mut connection = self.db.conn().await?;
        let hinted: Option<Hinted> =
            sql_query(HINT).bind::<sql_types::Text, _>(payment.as_str()).get_result(&mut connection).await.optional()?;
        drop(connection);
        let Some(Hinted { hinted_at }) = hinted else { return Ok(Some("SUCCESS".to_owned())) };
        let deadline = Instant::now() + self.wait;
        loop {
            let mut connection = self.db.conn().await?;
            let looked: Option<Looked> = sql_query(LOOKED)
                .bind::<sql_types::Text, _>(payment.as_str())
                .bind::<sql_types::Timestamptz, _>(hinted_at)
                .get_result(&mut connection)
                .await
                .optional()?;
            drop(connection);
            if let Some(Looked { outcome }) = looked {
                return Ok(Some(outcome));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn foresee(&self, payment: &PaymentId, answer: &PgAnswer) -> Result<String, LineError> {
        let mut connection = self.db.conn().await?;
        let row: Option<StandingRow> =
            sql_query(STANDING).bind::<sql_types::Text, _>(payment.as_str()).get_result(&mut connection).await.optional()?;
        let row = row.ok_or_else(|| LineError::UnknownPayment(payment.to_string()))?;
        let currency =
            row.currency.parse().map_err(|error: domain::payment::CurrencyError| LineError::Row(format!("currency {error}")))?;
        let standing = Standing {
            order: &row.order_state,
            payment: &row.payment_state,
            amount: Money::new(row.amount, currency),
            product_gone: row.product_gone,
            short: row.short,
        };
        Ok(foresee(&standing, answer))
    }

    fn refund_id(&self, payment: &PaymentId) -> RefundId {
        RefundId::of_payment(payment)
    }
}
