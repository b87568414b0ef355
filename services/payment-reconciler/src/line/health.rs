//! What all replicas know about a gateway: pauses that it asked for, the circuit breaker, and when it could not be asked.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use domain::payment::ProviderName;
use payment_providers::port::ProviderError;

use super::{Line, gateway::Gateway};
use crate::{
    error::LineError,
    pg::{self, Session},
};

/// An answer that cannot be read may be about one payment alone. So many times more of them in a row than of no answers at all open the breaker.
const UNREADABLE_TIMES: i32 = 10;
/// How often a well gateway's last answer is noted.
const TELL_WELL: Duration = Duration::from_secs(5);

const WELL: &str = "INSERT INTO provider_state AS s (provider, answered_at) VALUES ($1, payment_now()) \
    ON CONFLICT (provider) DO UPDATE SET answered_at = payment_now(), failures = 0, failing_since = NULL, breaker = 'closed', \
    breaker_until = NULL, updated_at = payment_now()";

const OUTAGE_ENDS: &str =
    "UPDATE provider_outage SET ended_at = greatest(began_at, payment_now()) WHERE provider = $1 AND ended_at IS NULL";

const UNWELL: &str = "INSERT INTO provider_state AS s (provider, failures, failing_since, breaker, breaker_until) \
    VALUES ($1, 1, payment_now(), CASE WHEN $2 <= 1 THEN 'open' ELSE 'closed' END, \
        CASE WHEN $2 <= 1 THEN payment_now() + $3::bigint * interval '1 millisecond' END) \
    ON CONFLICT (provider) DO UPDATE SET failures = s.failures + 1, failing_since = coalesce(s.failing_since, payment_now()), \
        breaker = CASE WHEN s.breaker <> 'closed' OR s.failures + 1 >= $2 THEN 'open' ELSE s.breaker END, \
        breaker_until = CASE WHEN s.breaker <> 'closed' OR s.failures + 1 >= $2 THEN payment_now() + $3::bigint * interval '1 millisecond' \
            ELSE s.breaker_until END, \
        updated_at = payment_now() \
    RETURNING breaker = 'open' AS open";

/// Answers that cannot be read, in a row: what is said is about the gateway only when they are many. One that was to try the gateway leaves
/// the breaker as it is.
const UNREADABLE: &str = "INSERT INTO provider_state AS s (provider, failures) VALUES ($1, 1) \
    ON CONFLICT (provider) DO UPDATE SET failures = s.failures + 1, \
        failing_since = CASE WHEN s.failures + 1 >= $2 THEN coalesce(s.failing_since, payment_now()) ELSE s.failing_since END, \
        breaker = CASE WHEN s.breaker = 'closed' AND s.failures + 1 >= $2 THEN 'open' ELSE s.breaker END, \
        breaker_until = CASE WHEN s.breaker = 'closed' AND s.failures + 1 >= $2 THEN payment_now() + $3::bigint * interval '1 millisecond' \
            ELSE s.breaker_until END, \
        updated_at = payment_now() \
    RETURNING breaker = 'open' AS open";

const OUTAGE_BEGINS: &str = "INSERT INTO provider_outage (provider, began_at) SELECT provider, failing_since FROM provider_state \
    WHERE provider = $1 AND breaker = 'open' AND failing_since IS NOT NULL ON CONFLICT DO NOTHING";

/// "Too many calls" is no good answer either; it does not open the breaker.
const PAUSE: &str = "INSERT INTO provider_state AS s (provider, paused_until, pause_reason, failing_since) \
    VALUES ($1, payment_now() + $2::bigint * interval '1 millisecond', $3, payment_now()) \
    ON CONFLICT (provider) DO UPDATE SET paused_until = CASE \
        WHEN s.paused_until > payment_now() + 2 * $4::bigint * interval '1 millisecond' THEN EXCLUDED.paused_until \
        ELSE greatest(s.paused_until, EXCLUDED.paused_until) END, pause_reason = EXCLUDED.pause_reason, \
    failing_since = coalesce(s.failing_since, payment_now()), \
    updated_at = payment_now()";

/// One replica at a time may try a gateway whose breaker is open; if it does not come back with a result, another one may later. A time that
/// no setting reaches was written before the clock stepped back: it does not count.
const PROBE: &str = "UPDATE provider_state SET breaker = 'half_open', breaker_until = payment_now() + $2::bigint * interval '1 millisecond', \
    updated_at = payment_now() \
    WHERE provider = $1 AND breaker <> 'closed' \
    AND coalesce(breaker_until <= payment_now() OR breaker_until > payment_now() + 2 * greatest($2, $3::bigint) * interval '1 millisecond', true) \
    AND coalesce(paused_until <= payment_now() OR paused_until > payment_now() + 2 * $4::bigint * interval '1 millisecond', true)";

/// It was not tried: the next payment that is due does it.
const NOT_PROBED: &str = "UPDATE provider_state SET breaker = 'open', breaker_until = payment_now(), updated_at = payment_now() \
    WHERE provider = $1 AND breaker = 'half_open'";

impl Line {
    /// The gateway answered.
    pub(super) async fn note_well(&self, name: &ProviderName, gateway: &Gateway) -> Result<(), LineError> {
        let told = *gateway.told_well_at.lock().unwrap_or_else(PoisonError::into_inner);
        if !gateway.is_troubled() && told.is_some_and(|at| at.elapsed() < TELL_WELL) {
            return Ok(());
        }
        let session = pg::session(&self.pool).await?;
        session.run(WELL, &[&name.as_str()]).await?;
        session.run(OUTAGE_ENDS, &[&name.as_str()]).await?;
        gateway.troubled.store(false, Ordering::SeqCst);
        *gateway.told_well_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        Ok(())
    }

    /// The gateway gave no answer, for good of this ask.
    pub(super) async fn note_unwell(
        &self,
        name: &ProviderName,
        gateway: &Gateway,
        error: &ProviderError,
    ) -> Result<(), LineError> {
        gateway.troubled.store(true, Ordering::SeqCst);
        let session = pg::session(&self.pool).await?;
        let breaker = &self.settings.breaker;
        match error {
            ProviderError::Throttled { retry_after } => {
                let wait = retry_after.map_or(breaker.pause_ms, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
                let wait = wait.clamp(0, breaker.pause_ms_max);
                session.run(PAUSE, &[&name.as_str(), &wait, &"the gateway says too many calls", &breaker.pause_ms_max]).await?;
                metrics::counter!("trueup_payment_provider_pauses_total", "provider" => name.to_string()).increment(1);
                tracing::warn!(provider = %name, wait_ms = wait, "too many calls: the provider pauses");
            }
            ProviderError::Unavailable(_) | ProviderError::Account { .. } => {
                let row = session.row(UNWELL, &[&name.as_str(), &breaker.failures, &breaker.open_ms]).await?;
                Self::note_outage(&session, name, row.try_get("open")?, error).await?;
            }
            ProviderError::Malformed(_) => {
                let many = breaker.failures.saturating_mul(UNREADABLE_TIMES);
                let row = session.row(UNREADABLE, &[&name.as_str(), &many, &breaker.open_ms]).await?;
                Self::note_outage(&session, name, row.try_get("open")?, error).await?;
            }
            // It did answer, if only about this payment.
            ProviderError::Refused { .. } => {}
        }
        if !matches!(error, ProviderError::Unavailable(_) | ProviderError::Account { .. }) {
            // If this was to try the gateway, it says nothing about the breaker: the next payment tries.
            session.run(NOT_PROBED, &[&name.as_str()]).await?;
        }
        Ok(())
    }

    async fn note_outage(session: &Session, name: &ProviderName, is_open: bool, error: &ProviderError) -> Result<(), LineError> {
        if is_open {
            session.run(OUTAGE_BEGINS, &[&name.as_str()]).await?;
            tracing::warn!(provider = %name, %error, "the circuit breaker is open");
        }
        Ok(())
    }

    /// Whether this replica may try a gateway whose breaker is open, with one ask.
    pub(super) async fn may_probe(&self, name: &ProviderName) -> Result<bool, LineError> {
        let session = pg::session(&self.pool).await?;
        let (run, breaker) = (&self.settings.run, &self.settings.breaker);
        let params: pg::Params<'_> = &[&name.as_str(), &run.lease_ms, &breaker.open_ms, &breaker.pause_ms_max];
        let may = session.run(PROBE, params).await? == 1;
        if may {
            self.gateway(name)?.begins_try();
        }
        Ok(may)
    }

    /// This replica has nothing to try it with, or gives up what it was to be tried with.
    pub(super) async fn not_probed(&self, name: &ProviderName) -> Result<(), LineError> {
        let session = pg::session(&self.pool).await?;
        session.run(NOT_PROBED, &[&name.as_str()]).await?;
        Ok(())
    }
}
