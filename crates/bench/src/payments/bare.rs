//! The ceiling for settles: the same claims and the same transactions on the same ten slots, without asking, runs, limits or reports. Its claims
//! are made ahead, which the service may not do, so that they cost no slot any time.

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use async_trait::async_trait;
use domain::{
    clock::Timestamp,
    payment::{Currency, Money, PgAnswer, PgPayment, PgReference, PgRefund, PgState, ProviderName},
};
use futures::{SinkExt, StreamExt, TryStreamExt, channel::mpsc, stream};
use payment_providers::port::{
    Callback, CallbackError, CallbackHint, PaymentProvider, ProviderError, RefundOrder, TransactionPage,
};
use payment_reconciler::{
    Line,
    config::LineSettings,
    line::{run::Scope, settle::Mode},
};
use postgres_io::PostgresSettings;
use uuid::Uuid;

use super::SLOTS;

/// A gateway that is never asked: its answers are made here.
struct Unasked(ProviderName);

#[async_trait]
impl PaymentProvider for Unasked {
    fn name(&self) -> &ProviderName {
        &self.0
    }

    fn accepts(&self, _reference: &PgReference) -> bool {
        true
    }

    async fn query(&self, _reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        Err(ProviderError::Unavailable("it is never asked".to_owned()))
    }

    async fn refund(&self, _order: &RefundOrder) -> Result<PgRefund, ProviderError> {
        Err(ProviderError::Unavailable("it is never asked".to_owned()))
    }

    async fn close(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        self.query(reference).await
    }

    async fn transactions(
        &self,
        _from: Timestamp,
        _to: Timestamp,
        _cursor: Option<&str>,
    ) -> Result<TransactionPage, ProviderError> {
        Err(ProviderError::Unavailable("it is never asked".to_owned()))
    }

    fn read_callback(&self, _callback: &Callback<'_>) -> Result<CallbackHint, CallbackError> {
        Err(CallbackError::Irrelevant)
    }
}

/// What a gateway would say of a paid order of the backlog.
fn paid(reference: &PgReference) -> PgAnswer {
    PgAnswer::Found(PgPayment {
        state: PgState::Paid,
        status: "paid".to_owned(),
        transaction_id: Some(format!("tx_{reference}")),
        paid_at: Some(Timestamp::from_unix_ms(0)),
        captured: Money::new(1_000, Currency::KRW),
        refunded: Money::zero(Currency::KRW),
        refunds: Vec::new(),
        refund_needs_payer: false,
        expires_at: None,
        contradictory: false,
        callback_secret: None,
    })
}

/// Settles everything that is stale; seconds.
///
/// # Errors
/// PostgreSQL refuses something.
pub async fn settle_all(postgres_url: &str) -> Result<f64> {
    let postgres = PostgresSettings { url: postgres_url.into(), ..PostgresSettings::default() };
    let name = ProviderName::new("generic")?;
    let providers: Vec<Arc<dyn PaymentProvider>> = vec![Arc::new(Unasked(name.clone()))];
    let line = Line::new(&postgres, providers, Uuid::from_u128(1), LineSettings::default())?;
    let began_at = line.now().await?;
    let began = Instant::now();
    // Claims go on beside the transactions, ten at a time and at most ten ahead, so that no slot waits for one.
    let (mut ahead, claims) = mpsc::channel(SLOTS);
    let claiming = async {
        loop {
            let more = line.claim(&name, Scope::Run, SLOTS, began_at, false).await?;
            if more.is_empty() {
                ahead.close_channel();
                return Ok::<_, anyhow::Error>(());
            }
            ahead.send_all(&mut stream::iter(more.into_iter().map(Ok))).await?;
        }
    };
    let settling = claims.map(Ok).try_for_each_concurrent(SLOTS, |claimed| {
        let line = Arc::clone(&line);
        async move {
            let settled = tokio::spawn(async move { line.settle(&claimed, &paid(&claimed.reference), Mode::Normal).await });
            settled.await??;
            Ok(())
        }
    });
    futures::future::try_join(claiming, settling).await?;
    Ok(began.elapsed().as_secs_f64())
}
