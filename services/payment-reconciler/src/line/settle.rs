//! One transaction for one payment: lock the order, look again, apply the verdict.

use std::time::Instant;

use domain::payment::{
    Case, Judgement, OrderState, PaymentState, PgAnswer, ProductId, RefundReason, Stock, Verdict, expiry, judge, swept_until,
};
use payment_providers::port::RefundOrder;

use super::{
    Line,
    claim::Claimed,
    outcome::Outcome,
    rows::{Locked, parsed},
    write::PaymentWrite,
};
use crate::{
    error::LineError,
    pg::{self, Params, Session},
};

/// What a transaction came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// For the run's report.
    pub outcome: Outcome,
    /// What has to be asked of the gateway now.
    pub next: Next,
}

/// What follows a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing; the claim is given back.
    Done,
    /// The refund is marked as being sent: send it. The claim is kept and renewed.
    Send {
        /// The refund.
        order: RefundOrder,
        /// Until when the claim lasts, by this process' own clock.
        held_until: Instant,
    },
    /// End the payment at the gateway, then settle by what it says. The claim is kept, and nothing is written.
    Close,
}

impl Applied {
    pub(super) const fn done(outcome: Outcome) -> Self {
        Self { outcome, next: Next::Done }
    }
}

/// How an answer may be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As the verdict says.
    Normal,
    /// The gateway was just told to end the payment: it is not told again.
    Closed,
}

const PRODUCTS: &str = "SELECT product_id, stock FROM product WHERE product_id IN (SELECT product_id FROM order_line WHERE order_id = $1) \
    ORDER BY product_id FOR NO KEY UPDATE";

const LINES: &str = "SELECT product_id, quantity FROM order_line WHERE order_id = $1 ORDER BY product_id";

const SELL: &str = "INSERT INTO stock_movement (order_id, product_id, kind, change) \
    SELECT order_id, product_id, 'sold', -quantity FROM order_line WHERE order_id = $1 ORDER BY product_id";

/// An order's line with what is on hand; none: the product does not exist.
pub(super) struct Wanted {
    product: ProductId,
    quantity: i64,
    stock: Option<i64>,
}

impl Line {
    /// Applies what the gateway said, in one transaction that locks the order first. Its caller runs it in a task that is not dropped.
    ///
    /// # Errors
    /// PostgreSQL, or [`LineError::LeaseLost`]: then nothing was written.
    pub async fn settle(&self, claimed: &Claimed, answer: &PgAnswer, mode: Mode) -> Result<Applied, LineError> {
        let session = pg::session(&self.pool).await?;
        let applied = async {
            let locked = self.lock(&session, claimed).await?;
            let applied = self.apply(&session, claimed, &locked, answer, mode).await?;
            self.keep_wish(&session, claimed, &locked, answer, &applied).await?;
            Ok(applied)
        };
        match applied.await {
            Ok(applied) => {
                service_kit::failpoint!("payment.commit.before");
                session.commit().await?;
                service_kit::failpoint!("payment.commit.done");
                Ok(applied)
            }
            Err(error) => {
                session.rollback().await;
                Err(error)
            }
        }
    }

    async fn apply(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
        mode: Mode,
    ) -> Result<Applied, LineError> {
        match locked.payment.state {
            PaymentState::Pending | PaymentState::Failed => self.apply_verdict(session, claimed, locked, answer, mode).await,
            PaymentState::Refunding => self.drive_refund(session, claimed, locked, answer).await,
            PaymentState::Refunded => self.watch_refund(session, claimed, locked, answer).await,
            PaymentState::Success => {
                self.write_payment(session, claimed, locked, None, &PaymentWrite::to(PaymentState::Success)).await?;
                Ok(Applied::done(Outcome::Overtaken))
            }
        }
    }

    async fn apply_verdict(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
        mode: Mode,
    ) -> Result<Applied, LineError> {
        let policy = self.policy(&claimed.provider);
        let (judgement, wanted) = self.judged(session, locked, answer).await?;
        if judgement.verdict == Verdict::Close && mode == Mode::Normal {
            return Ok(Applied { outcome: Outcome::Waiting, next: Next::Close });
        }
        if let PgAnswer::Found(pg) = answer {
            self.write_book(session, locked, pg, claimed.actor(super::ACTOR_SETTLE)).await?;
        }
        match judgement.verdict {
            Verdict::Settle => self.complete(session, claimed, locked, answer, &wanted).await,
            Verdict::Wait | Verdict::Close => self.wait(session, claimed, locked, answer, &judgement).await,
            Verdict::Fail(reason) => {
                let sweep = locked.now.saturating_add_ms(policy.sweep_ms);
                let write = PaymentWrite {
                    next_check_ms: Some(policy.sweep.delay_ms(0)),
                    sweep_until: Some(swept_until(sweep, expiry(&locked.payment, answer.found()))),
                    ..PaymentWrite::to(PaymentState::Failed)
                };
                self.write_payment(session, claimed, locked, Some(answer), &write).await?;
                self.end_order(session, locked, reason.as_str()).await?;
                Ok(Applied::done(Outcome::Failed))
            }
            Verdict::Refund { reason, amount, by_operator } => {
                self.request_refund(session, claimed, locked, answer, super::refunds::Wish { reason, amount, by_operator }).await
            }
            Verdict::Returned => self.returned(session, claimed, locked, answer).await,
        }
    }

    /// Judges, with the products locked if the order could be completed.
    pub(super) async fn judged(
        &self,
        session: &Session,
        locked: &Locked,
        answer: &PgAnswer,
    ) -> Result<(Judgement, Vec<Wanted>), LineError> {
        let policy = self.policy(&locked.payment.provider);
        let mut case = Case {
            order: &locked.order,
            payment: &locked.payment,
            stock: Stock::Enough,
            now: locked.now,
            outage_ms: locked.outage_ms,
        };
        let judgement = judge(&case, answer, policy);
        if judgement.verdict != Verdict::Settle {
            return Ok((judgement, Vec::new()));
        }
        let wanted = self.lock_products(session, locked).await?;
        case.stock = stock_of(&wanted);
        Ok((judge(&case, answer, policy), wanted))
    }

    async fn complete(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
        wanted: &[Wanted],
    ) -> Result<Applied, LineError> {
        session.run(SELL, &[&locked.order.id.as_str()]).await?;
        for Wanted { product, quantity, stock } in wanted {
            let left = stock.map(|stock| stock.saturating_sub(*quantity));
            tracing::info!(orderId = %locked.order.id, productId = %product, quantity, left, "stock decreased");
        }
        self.write_order(session, locked, OrderState::Completed, None).await?;
        self.write_payment(session, claimed, locked, Some(answer), &PaymentWrite::to(PaymentState::Success)).await?;
        let told = contracts::payment::PaymentOutcome::OrderCompleted {
            order: locked.order.id.clone(),
            payment: locked.payment.id.clone(),
            amount: locked.order.amount,
            at: locked.now,
        };
        self.write_event(session, &told).await?;
        Ok(Applied::done(Outcome::Settled))
    }

    async fn wait(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
        judgement: &Judgement,
    ) -> Result<Applied, LineError> {
        let write = PaymentWrite {
            next_check_ms: judgement.next_check_ms,
            attention: judgement.attention,
            sweep_until: locked.payment.sweep_until.map(|until| swept_until(until, expiry(&locked.payment, answer.found()))),
            ..PaymentWrite::to(locked.payment.state)
        };
        self.write_payment(session, claimed, locked, Some(answer), &write).await?;
        if locked.order.state == OrderState::Completed {
            // Of a completed order this is another attempt, and its money may be what a cancel still waited for.
            self.end_order(session, locked, "").await?;
        }
        let shown = judgement.attention.is_some_and(|reason| locked.attention.as_deref() != Some(reason.as_str()));
        Ok(Applied::done(if shown { Outcome::Attention } else { Outcome::Waiting }))
    }

    /// The money came, and it is back already.
    async fn returned(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
    ) -> Result<Applied, LineError> {
        let policy = self.policy(&claimed.provider);
        let write = PaymentWrite {
            next_check_ms: Some(policy.watch.delay_ms(0)),
            sweep_until: Some(locked.now.saturating_add_ms(policy.watch_ms)),
            ..PaymentWrite::to(PaymentState::Refunded)
        };
        self.write_payment(session, claimed, locked, Some(answer), &write).await?;
        if let PgAnswer::Found(pg) = answer {
            let told = contracts::payment::PaymentOutcome::PaymentRefunded {
                order: locked.order.id.clone(),
                payment: locked.payment.id.clone(),
                refund: None,
                amount: pg.refunded,
                reason: super::RETURNED.to_owned(),
                at: locked.now,
            };
            self.write_event(session, &told).await?;
        }
        self.end_order(session, locked, super::RETURNED).await?;
        Ok(Applied::done(Outcome::Refunded))
    }

    /// Locks the order's products in the order of their ids, so that no two settles wait for each other.
    async fn lock_products(&self, session: &Session, locked: &Locked) -> Result<Vec<Wanted>, LineError> {
        session.ready(&[PRODUCTS, LINES]).await?;
        let id = locked.order.id.as_str();
        let params: Params<'_> = &[&id];
        let (products, lines) = futures::try_join!(session.rows(PRODUCTS, params), session.rows(LINES, params))?;
        let mut stock = std::collections::HashMap::new();
        for row in &products {
            stock.insert(parsed::<ProductId>(row, "product_id")?, row.try_get::<_, i64>("stock")?);
        }
        let line = |row: &tokio_postgres::Row| {
            let product: ProductId = parsed(row, "product_id")?;
            Ok(Wanted { stock: stock.get(&product).copied(), product, quantity: row.try_get("quantity")? })
        };
        lines.iter().map(line).collect()
    }
}

fn stock_of(wanted: &[Wanted]) -> Stock {
    if wanted.iter().any(|line| line.stock.is_none()) {
        Stock::ProductNotFound
    } else if wanted.iter().any(|line| line.stock.is_some_and(|stock| stock < line.quantity)) {
        Stock::Short
    } else {
        Stock::Enough
    }
}

/// Which reasons are failures of an order that was to be completed, to be logged as such.
pub(super) const fn is_order_failure(reason: RefundReason) -> bool {
    matches!(
        reason,
        RefundReason::ProductNotFound | RefundReason::OutOfStock | RefundReason::AmountMismatch | RefundReason::CurrencyMismatch
    )
}
