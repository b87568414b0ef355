//! The line's hands: what operators want goes through the line's own claim, ask and settle.

use std::sync::Arc;

use async_trait::async_trait;
use domain::payment::{OrderId, PaymentId, PgAnswer, PgReference, ProviderName, RefundId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Hands;
use crate::{
    Line,
    error::LineError,
    line::{
        operator::{OnBehalf, Patience, Told},
        turn::COME_BACK,
    },
};

/// Wishes of operators that are looked after at the same time, in one replica: so many slots they take from the runs at most.
const AT_ONCE: usize = 2;

/// Hands of a line.
pub struct LineHands {
    line: Arc<Line>,
    patience: Patience,
    stop: CancellationToken,
    free: Arc<Semaphore>,
}

impl LineHands {
    /// Waits for payments that somebody else holds and for turns at gateways as long as `patience` says. After `stop` nothing is asked any more.
    #[must_use]
    pub fn new(line: Arc<Line>, patience: Patience, stop: CancellationToken) -> Self {
        Self { line, patience, stop, free: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The right to be one of those who ask.
    async fn free(&self) -> Result<OwnedSemaphorePermit, LineError> {
        let free = tokio::time::timeout(self.patience.turn, Arc::clone(&self.free).acquire_owned()).await;
        let busy = LineError::GatewayBusy { why: "other operators are asking", until: None, left: COME_BACK };
        free.map_err(|_| busy)?.map_err(|_| LineError::Stopped)
    }
}

#[async_trait]
impl Hands for LineHands {
    async fn settle_now(&self, payment: &PaymentId, by: OnBehalf) -> Result<Told, LineError> {
        let (line, patience, stop) = (Arc::clone(&self.line), self.patience, self.stop.clone());
        let (free, payment) = (self.free().await?, payment.clone());
        // A task of its own: a caller that hangs up would drop this future in its transaction.
        let told = tokio::spawn(async move {
            let told = Box::pin(line.settle_now(&payment, by, patience, &stop)).await;
            drop(free);
            told
        });
        told.await.map_err(|_| LineError::TaskLost)?
    }

    async fn ask(&self, provider: &ProviderName, reference: &PgReference) -> Result<PgAnswer, LineError> {
        let (line, wait, stop) = (Arc::clone(&self.line), self.patience.turn, self.stop.clone());
        let (free, provider, reference) = (self.free().await?, provider.clone(), reference.clone());
        // The same: whoever tries an open breaker has to say what came of it.
        let said = tokio::spawn(async move {
            let said = Box::pin(line.ask_once(&provider, &reference, wait, &stop)).await;
            drop(free);
            said
        });
        said.await.map_err(|_| LineError::TaskLost)?
    }

    async fn foresee(&self, order: &OrderId, payment: &PaymentId, answer: &PgAnswer) -> Result<String, LineError> {
        let (line, order, payment, answer) = (Arc::clone(&self.line), order.clone(), payment.clone(), answer.clone());
        let foreseen = tokio::spawn(async move { line.foresee(&order, &payment, &answer).await });
        foreseen.await.map_err(|_| LineError::TaskLost)?
    }

    fn refund_overdue_ms(&self, provider: &ProviderName) -> i64 {
        self.line.policy(provider).refund_overdue_ms
    }

    fn refund_id(&self, payment: &PaymentId) -> RefundId {
        RefundId::of_payment(payment)
    }
}
