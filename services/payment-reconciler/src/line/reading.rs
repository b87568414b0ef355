//! A gateway as an audit reads it: each call waits for its turn at the gateway, as the line's own asks do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use domain::{
    clock::Timestamp,
    payment::{PgAnswer, PgReference, PgRefund, ProviderName},
};
use payment_providers::port::{
    Callback, CallbackError, CallbackHint, PaymentProvider, ProviderError, RefundOrder, TransactionPage,
};
use tokio_util::sync::CancellationToken;

use super::Line;
use crate::error::LineError;

/// A gateway that is only read, and by turns.
pub struct Reading {
    line: Arc<Line>,
    provider: Arc<dyn PaymentProvider>,
    wait: Duration,
    stop: CancellationToken,
}

impl Line {
    /// This line's gateways for whoever only reads: a call waits at most `wait` for its turn and is then told to come back, as it is while the
    /// gateway pauses. After `stop` nothing is asked any more.
    #[must_use]
    pub fn readings(self: &Arc<Self>, wait: Duration, stop: &CancellationToken) -> Vec<Arc<dyn PaymentProvider>> {
        let reading = |provider: &Arc<dyn PaymentProvider>| {
            let (line, provider, stop) = (Arc::clone(self), Arc::clone(provider), stop.clone());
            let reading: Arc<dyn PaymentProvider> = Arc::new(Reading { line, provider, wait, stop });
            reading
        };
        self.gateways.values().map(|gateway| reading(&gateway.provider)).collect()
    }
}

/// What a reader makes of a call that had no answer.
fn refused(error: LineError) -> ProviderError {
    match error {
        LineError::Provider(error) => error,
        LineError::GatewayPaused { left, .. } | LineError::GatewayBusy { left, .. } => {
            ProviderError::Throttled { retry_after: Some(left) }
        }
        other => ProviderError::Unavailable(other.to_string()),
    }
}

#[async_trait]
impl PaymentProvider for Reading {
    fn name(&self) -> &ProviderName {
        self.provider.name()
    }

    fn accepts(&self, reference: &PgReference) -> bool {
        self.provider.accepts(reference)
    }

    async fn query(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        let (line, wait, stop) = (Arc::clone(&self.line), self.wait, self.stop.clone());
        let (name, reference) = (self.name().clone(), reference.clone());
        // A task of its own: whoever tries an open breaker has to say what came of it, also when nobody waits for the answer any more.
        let said = tokio::spawn(async move { Box::pin(line.ask_once(&name, &reference, wait, &stop)).await });
        said.await.map_err(|_| refused(LineError::TaskLost))?.map_err(refused)
    }

    async fn refund(&self, _order: &RefundOrder) -> Result<PgRefund, ProviderError> {
        Err(ProviderError::Unavailable("whoever only reads gives nothing back".to_owned()))
    }

    async fn close(&self, _reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        Err(ProviderError::Unavailable("whoever only reads ends nothing".to_owned()))
    }

    async fn transactions(&self, from: Timestamp, to: Timestamp, cursor: Option<&str>) -> Result<TransactionPage, ProviderError> {
        let (line, wait, stop) = (Arc::clone(&self.line), self.wait, self.stop.clone());
        let (name, cursor) = (self.name().clone(), cursor.map(str::to_owned));
        let said = tokio::spawn(async move { line.list_once(&name, (from, to), cursor.as_deref(), wait, &stop).await });
        said.await.map_err(|_| refused(LineError::TaskLost))?.map_err(refused)
    }

    fn read_callback(&self, callback: &Callback<'_>) -> Result<CallbackHint, CallbackError> {
        self.provider.read_callback(callback)
    }
}
