//! The ceiling for settles: the same claims and the same transactions on the same ten slots, without asking, runs, limits or reports.

use std::{sync::Arc, time::Instant};

use anyhow::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
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
    line::{claim::Claimed, run::Scope, settle::Mode},
};
use postgres_io::PostgresSettings;
use tokio::task::JoinSet;
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

/// How claims are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claims {
    /// For all slots that are free, as the service has to.
    ForFreeSlots,
    /// Beside the transactions, ten at a time and at most ten ahead, so that no slot waits for one.
    Ahead,
}

/// Settles everything that is stale; seconds.
///
/// # Errors
/// PostgreSQL refuses something.
pub async fn settle_all(postgres_url: &str, claims: Claims) -> Result<f64> {
    let postgres = PostgresSettings { url: postgres_url.into(), ..PostgresSettings::default() };
    let name = ProviderName::new("generic")?;
    let providers: Vec<Arc<dyn PaymentProvider>> = vec![Arc::new(Unasked(name.clone()))];
    let line = Line::new(&postgres, providers, Uuid::from_u128(1), LineSettings::default())?;
    let began_at = line.now().await?;
    let began = Instant::now();
    match claims {
        Claims::ForFreeSlots => for_free_slots(&line, &name, began_at).await?,
        Claims::Ahead => ahead(&line, &name, began_at).await?,
    }
    Ok(began.elapsed().as_secs_f64())
}

async fn for_free_slots(line: &Arc<Line>, name: &ProviderName, began_at: DateTime<Utc>) -> Result<()> {
    let mut jobs: JoinSet<Result<()>> = JoinSet::new();
    let mut is_more = true;
    loop {
        while let Some(ended) = jobs.try_join_next() {
            ended??;
        }
        let free = SLOTS.saturating_sub(jobs.len());
        if free > 0 && is_more {
            let claims = line.claim(name, Scope::Run, free, began_at, false).await?;
            is_more = !claims.is_empty();
            for claimed in claims {
                jobs.spawn(settle(Arc::clone(line), claimed));
            }
        }
        let Some(ended) = jobs.join_next().await else { return Ok(()) };
        ended??;
    }
}

async fn ahead(line: &Arc<Line>, name: &ProviderName, began_at: DateTime<Utc>) -> Result<()> {
    let (mut ahead, claims) = mpsc::channel(SLOTS);
    let claiming = async {
        loop {
            let more = line.claim(name, Scope::Run, SLOTS, began_at, false).await?;
            if more.is_empty() {
                ahead.close_channel();
                return Ok::<_, anyhow::Error>(());
            }
            ahead.send_all(&mut stream::iter(more.into_iter().map(Ok))).await?;
        }
    };
    let settling = claims
        .map(Ok)
        .try_for_each_concurrent(SLOTS, |claimed| async move { tokio::spawn(settle(Arc::clone(line), claimed)).await? });
    futures::future::try_join(claiming, settling).await?;
    Ok(())
}

async fn settle(line: Arc<Line>, claimed: Claimed) -> Result<()> {
    line.settle(&claimed, &paid(&claimed.reference), Mode::Normal).await?;
    Ok(())
}
