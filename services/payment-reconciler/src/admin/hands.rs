//! The line's hands: what operators want goes through the line's own claim, ask and settle.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use domain::payment::{OrderId, PaymentId, PgAnswer, RefundId};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Hands;
use crate::{
    Line,
    error::LineError,
    line::operator::{OnBehalf, Told},
};

/// Payments that operators have settled at the same time, in one replica. They take no slots of the runs, so that a long backlog keeps no operator waiting.
const AT_ONCE: usize = 2;

/// Hands of a line.
pub struct LineHands {
    line: Arc<Line>,
    wait: Duration,
    stop: CancellationToken,
    free: Arc<Semaphore>,
}

impl LineHands {
    /// Waits at most `wait` for a payment that somebody else holds. After `stop` nothing is asked any more.
    #[must_use]
    pub fn new(line: Arc<Line>, wait: Duration, stop: CancellationToken) -> Self {
        Self { line, wait, stop, free: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

#[async_trait]
impl Hands for LineHands {
    async fn settle_now(&self, payment: &PaymentId, by: OnBehalf) -> Result<Told, LineError> {
        let (line, wait, stop) = (Arc::clone(&self.line), self.wait, self.stop.clone());
        let Ok(free) = tokio::time::timeout(wait, Arc::clone(&self.free).acquire_owned()).await else { return Ok(Told::Busy) };
        let (free, payment) = (free.map_err(|_| LineError::Stopped)?, payment.clone());
        // A task of its own: a caller that hangs up would drop this future in its transaction.
        let told = tokio::spawn(async move {
            let told = Box::pin(line.settle_now(&payment, by, wait, &stop)).await;
            drop(free);
            told
        });
        told.await.map_err(|_| LineError::TaskLost)?
    }

    async fn foresee(&self, order: &OrderId, payment: &PaymentId, answer: &PgAnswer) -> Result<String, LineError> {
        let (line, order, payment, answer) = (Arc::clone(&self.line), order.clone(), payment.clone(), answer.clone());
        let foreseen = tokio::spawn(async move { line.foresee(&order, &payment, &answer).await });
        foreseen.await.map_err(|_| LineError::TaskLost)?
    }

    fn refund_id(&self, payment: &PaymentId) -> RefundId {
        RefundId::of_payment(payment)
    }
}
