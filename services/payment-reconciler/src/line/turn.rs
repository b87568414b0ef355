//! An operator's turn at a gateway: under the same slots, the same pace, the same pause and the same breaker as the runs, and waited for only so long.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use domain::{
    clock::Timestamp,
    payment::{PgAnswer, PgReference, ProviderName},
};
use payment_providers::port::{ProviderError, TransactionPage};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Line,
    ask::{Question, code_of},
    gateway::{Gateway, Slot},
};
use crate::{error::LineError, pg};

/// When to come back for a turn that nobody can foretell: slots and the pace are free again by answers.
pub(crate) const COME_BACK: Duration = Duration::from_secs(1);

/// A pause that counts: one that is longer than any comes from before a step back of the clock.
const PAUSED: &str = "SELECT paused_until, (extract(epoch FROM paused_until - payment_now()) * 1000)::bigint AS left_ms FROM provider_state \
    WHERE provider = $1 AND paused_until > payment_now() AND paused_until <= payment_now() + 2 * $2::bigint * interval '1 millisecond'";

const BREAKER: &str = "SELECT breaker, breaker_until, greatest(0, extract(epoch FROM breaker_until - payment_now()) * 1000)::bigint AS left_ms \
    FROM provider_state WHERE provider = $1 AND breaker <> 'closed'";

/// An operator's ask tries a gateway whose breaker is open, before its time, too; not while somebody else is trying it.
const PROBE_NOW: &str = "UPDATE provider_state SET breaker = 'half_open', breaker_until = payment_now() + $2::bigint * interval '1 millisecond', \
    updated_at = payment_now() \
    WHERE provider = $1 AND (breaker = 'open' OR (breaker = 'half_open' AND coalesce(breaker_until <= payment_now() \
        OR breaker_until > payment_now() + 2 * greatest($2, $3::bigint) * interval '1 millisecond', true)))";

impl Line {
    /// Asks once what became of a payment, for an operator who wants to know. Nothing of ours is changed but what is known of the gateway.
    /// Waits at most `wait` for its turn.
    ///
    /// # Errors
    /// [`LineError::GatewayPaused`] and [`LineError::GatewayBusy`]: nothing was asked. [`LineError::Provider`], [`LineError::Stopped`],
    /// [`LineError::UnknownProvider`], PostgreSQL.
    pub async fn ask_once(
        &self,
        name: &ProviderName,
        reference: &PgReference,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<PgAnswer, LineError> {
        let gateway = self.gateway(name)?;
        let _slot = Box::pin(self.turn(name, gateway, wait, stop)).await?;
        let said = tokio::select! {
            said = self.call(gateway, name, reference, Question::Status) => {
                let (outcome, seconds) = (said.outcome, said.seconds);
                tracing::info!(provider = %name, reference = %reference, outcome, seconds, "asked the payment gateway for somebody who only reads");
                said.answer
            }
            () = stop.cancelled() => {
                self.not_probed(name).await?;
                return Err(LineError::Stopped);
            }
        };
        match &said {
            Ok(_) => self.note_well(name, gateway).await?,
            Err(error) => self.note_unwell(name, gateway, error).await?,
        }
        Ok(said?)
    }

    /// Reads one page of the gateway's list, under the same slots, pace, pause and breaker. That a list does not come says nothing about payments, so
    /// that it opens no breaker; that the gateway wants fewer calls is noted for all.
    ///
    /// # Errors
    /// As [`Self::ask_once`].
    pub async fn list_once(
        &self,
        name: &ProviderName,
        (from, to): (Timestamp, Timestamp),
        cursor: Option<&str>,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<TransactionPage, LineError> {
        let gateway = self.gateway(name)?;
        let _slot = Box::pin(self.turn(name, gateway, wait, stop)).await?;
        let began = Instant::now();
        let said = tokio::select! {
            said = gateway.provider.transactions(from, to, cursor) => said,
            () = stop.cancelled() => {
                self.not_probed(name).await?;
                return Err(LineError::Stopped);
            }
        };
        let outcome = said.as_ref().map_or_else(code_of, |_| "read");
        let (lines, seconds) = (said.as_ref().map_or(0, |page| page.transactions.len()), began.elapsed().as_secs_f64());
        tracing::info!(provider = %name, from = %from, to = %to, outcome, lines, seconds, "read a page of the payment gateway's list");
        match &said {
            Err(error @ ProviderError::Throttled { .. }) => self.note_unwell(name, gateway, error).await?,
            // A list says nothing about asks for payments, neither that they work nor that they do not.
            Ok(_) | Err(_) => self.not_probed(name).await?,
        }
        Ok(said?)
    }

    /// A slot, counted against the pace, of a gateway that may be asked.
    async fn turn(
        &self,
        name: &ProviderName,
        gateway: &Arc<Gateway>,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Slot, LineError> {
        let until = Instant::now() + wait;
        self.not_paused(name).await?;
        let slot = self.slot_by(gateway, until, stop).await?;
        self.admit(name, gateway, until, stop).await?;
        Ok(slot)
    }

    /// A slot ahead of the runs.
    pub(super) async fn slot_by(
        &self,
        gateway: &Arc<Gateway>,
        until: Instant,
        stop: &CancellationToken,
    ) -> Result<Slot, LineError> {
        let slot = tokio::select! {
            slot = gateway.slot_by(until) => slot,
            () = stop.cancelled() => return Err(LineError::Stopped),
        };
        slot.ok_or(LineError::GatewayBusy { why: "as many calls as may be are under way", until: None, left: COME_BACK })
    }

    /// Counts a call against the pace, then looks whether the gateway may be asked: it does not pause, and its breaker is closed, or this ask
    /// is the one that tries it. Whoever is admitted asks.
    pub(super) async fn admit(
        &self,
        name: &ProviderName,
        gateway: &Gateway,
        until: Instant,
        stop: &CancellationToken,
    ) -> Result<(), LineError> {
        tokio::select! {
            () = gateway.admitted() => {}
            () = tokio::time::sleep_until(until) => {
                return Err(LineError::GatewayBusy { why: "as many calls a second as may be were made", until: None, left: COME_BACK });
            }
            () = stop.cancelled() => return Err(LineError::Stopped),
        }
        self.not_paused(name).await?;
        let session = pg::session(&self.pool).await?;
        if session.rows(BREAKER, &[&name.as_str()]).await?.is_empty() {
            return Ok(());
        }
        let params: pg::Params<'_> = &[&name.as_str(), &self.settings.run.lease_ms, &self.settings.breaker.open_ms];
        if session.run(PROBE_NOW, params).await? == 1 {
            gateway.begins_try();
            tracing::info!(provider = %name, "an operator's ask tries the gateway, whose breaker is open");
            return Ok(());
        }
        // Somebody else tries it, or has just found it well.
        match session.rows(BREAKER, &[&name.as_str()]).await?.first() {
            Some(row) => {
                let until: Option<DateTime<Utc>> = row.try_get("breaker_until")?;
                let left = millis(row.try_get::<_, Option<i64>>("left_ms")?.unwrap_or(0));
                Err(LineError::GatewayBusy { why: "its circuit breaker is open, and somebody else is trying it", until, left })
            }
            None => Ok(()),
        }
    }

    /// That the gateway did not ask for a pause.
    pub(super) async fn not_paused(&self, name: &ProviderName) -> Result<(), LineError> {
        let session = pg::session(&self.pool).await?;
        match session.rows(PAUSED, &[&name.as_str(), &self.settings.breaker.pause_ms_max]).await?.first() {
            Some(row) => {
                Err(LineError::GatewayPaused { until: row.try_get("paused_until")?, left: millis(row.try_get("left_ms")?) })
            }
            None => Ok(()),
        }
    }
}

fn millis(number: i64) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}
