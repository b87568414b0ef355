//! Asking a gateway: three tries with growing delay, each bounded, none while the process ends.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use backon::{ExponentialBuilder, Retryable};
use domain::payment::{PgAnswer, PgReference, PgRefund, ProviderName};
use payment_providers::port::{ProviderError, RefundOrder};
use tokio_util::sync::CancellationToken;

use super::{Line, claim::Claimed, gateway::Gateway};
use crate::error::LineError;

/// The longest delay between two tries, without its jitter.
pub const TRY_DELAY_MAX: Duration = Duration::from_secs(60);

/// For how long after its claim a payment is asked about without another look whether the gateway pauses.
const FRESH: Duration = Duration::from_millis(100);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What became of the payment.
    Status,
    /// To end it, so that nobody can pay it any more.
    Close,
}

impl Question {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Close => "close",
        }
    }
}

/// What came of one call.
pub(super) struct Said {
    pub answer: Result<PgAnswer, ProviderError>,
    pub outcome: &'static str,
    pub seconds: f64,
}

impl Line {
    /// Asks what became of a payment, or ends it. No transaction is open meanwhile.
    ///
    /// # Errors
    /// [`LineError::Provider`] after the last try, [`LineError::GatewayPaused`] before one that would come too early,
    /// [`LineError::Stopped`] when the process ends, [`LineError::LeaseLost`] when the claim is over, [`LineError::UnknownProvider`].
    pub async fn ask(&self, claimed: &Claimed, question: Question, stop: &CancellationToken) -> Result<PgAnswer, LineError> {
        self.ask_from(claimed, question, false, stop).await
    }

    /// The same; `is_counted`: its first try has waited for the rate limit already.
    pub(super) async fn ask_from(
        &self,
        claimed: &Claimed,
        question: Question,
        is_counted: bool,
        stop: &CancellationToken,
    ) -> Result<PgAnswer, LineError> {
        let gateway = self.gateway(&claimed.provider)?;
        let asking = &self.settings.asking;
        let is_counted = AtomicBool::new(is_counted);
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(asking.try_delay_ms))
            .with_factor(2.0)
            .with_max_delay(TRY_DELAY_MAX)
            .with_max_times(asking.tries.saturating_sub(1))
            .with_jitter();
        let is_first = AtomicBool::new(true);
        let one_try = async || {
            let waits_since = Instant::now();
            if !is_counted.swap(false, Ordering::Relaxed) {
                gateway.admitted().await;
            }
            // It was claimed while the gateway did not pause. That may be long ago, and others may have been told to pause since.
            let is_late = !is_first.swap(false, Ordering::Relaxed) || waits_since.elapsed() > FRESH || gateway.is_troubled();
            if is_late {
                self.not_paused(&claimed.provider).await?;
            }
            self.one_try(gateway, claimed, question).await
        };
        let tries = one_try
            .retry(delays)
            .when(|error| matches!(error, LineError::Provider(ProviderError::Unavailable(_))))
            .notify(|error, wait| {
                tracing::info!(paymentId = %claimed.payment, %error, wait_ms = wait.as_secs_f64() * 1_000.0, "asking again");
            });
        let answered = tokio::select! {
            biased;
            answered = tries => answered,
            // Asking changes nothing: it can be broken off at any place.
            () = stop.cancelled() => return Err(LineError::Stopped),
        };
        match answered {
            Ok(answer) => {
                self.note_well(&claimed.provider, gateway).await?;
                Ok(answer)
            }
            Err(LineError::Provider(error)) => {
                self.note_unwell(&claimed.provider, gateway, &error).await?;
                Err(error.into())
            }
            Err(error) => Err(error),
        }
    }

    async fn one_try(&self, gateway: &Gateway, claimed: &Claimed, question: Question) -> Result<PgAnswer, LineError> {
        // This process may have stood still: then somebody else is asking by now, or will be before this call ends.
        if !claimed.lasts(self.try_limit()) {
            return Err(LineError::LeaseLost);
        }
        let said = self.call(gateway, &claimed.provider, &claimed.reference, question).await;
        tracing::info!(
            orderId = %claimed.order, paymentId = %claimed.payment, provider = %claimed.provider, question = question.as_str(),
            outcome = said.outcome, seconds = said.seconds, "asked the payment gateway"
        );
        Ok(said.answer?)
    }

    /// One call, bounded, from which the limit of calls at once learns.
    pub(super) async fn call(&self, gateway: &Gateway, name: &ProviderName, reference: &PgReference, question: Question) -> Said {
        let limit = self.try_limit();
        let began = Instant::now();
        let call = async {
            match question {
                Question::Status => gateway.provider.query(reference).await,
                Question::Close => gateway.provider.close(reference).await,
            }
        };
        let answer = tokio::time::timeout(limit, call).await;
        let answer = answer.unwrap_or_else(|_| Err(ProviderError::Unavailable(format!("not within {} ms", limit.as_millis()))));
        let took = began.elapsed();
        let congested = matches!(&answer, Err(ProviderError::Unavailable(_) | ProviderError::Throttled { .. }));
        gateway.observe(took, !congested);
        let (outcome, seconds) = (outcome_of(&answer), took.as_secs_f64());
        metrics::histogram!(
            "trueup_payment_ask_seconds", "provider" => name.to_string(), "question" => question.as_str(), "outcome" => outcome
        )
        .record(seconds);
        Said { answer, outcome, seconds }
    }

    fn try_limit(&self) -> Duration {
        Duration::from_millis(self.settings.asking.try_timeout_ms)
    }

    /// Sends a refund that is marked as being sent. One try: what became of it is asked before the next one. It is not broken off
    /// when the process ends, only by its time-out. It is not begun when the claim is over: somebody else asks what became of it; nor while the
    /// gateway pauses.
    ///
    /// # Errors
    /// What the gateway says.
    pub async fn send_refund(&self, claimed: &Claimed, order: &RefundOrder) -> Result<PgRefund, ProviderError> {
        let gateway = self.gateway(&claimed.provider).map_err(|error| ProviderError::Unavailable(error.to_string()))?;
        gateway.admitted().await;
        if let Err(error) = self.not_paused(&claimed.provider).await {
            return Err(ProviderError::Unavailable(format!("not sent: {error}")));
        }
        let limit = self.try_limit();
        if !claimed.lasts(limit) {
            return Err(ProviderError::Unavailable("not sent: the claim is over".to_owned()));
        }
        let said = tokio::time::timeout(limit, gateway.provider.refund(order)).await;
        let said = said.unwrap_or_else(|_| Err(ProviderError::Unavailable(format!("not within {} ms", limit.as_millis()))));
        let outcome = match &said {
            Ok(_) => "sent",
            Err(error) => code_of(error),
        };
        metrics::counter!("trueup_payment_refund_calls_total", "provider" => claimed.provider.to_string(), "outcome" => outcome)
            .increment(1);
        tracing::info!(
            orderId = %claimed.order, paymentId = %claimed.payment, provider = %claimed.provider, key = %order.key,
            amount = %order.amount, outcome, "sent a refund"
        );
        // That refunds fail says nothing about the asks, which have a breaker of their own. A pause is for all calls.
        if let Err(error @ ProviderError::Throttled { .. }) = &said
            && let Err(failed) = self.note_unwell(&claimed.provider, gateway, error).await
        {
            tracing::warn!(provider = %claimed.provider, error = %failed, "the provider's state could not be noted");
        }
        said
    }
}

fn outcome_of(said: &Result<PgAnswer, ProviderError>) -> &'static str {
    match said {
        Ok(PgAnswer::Found(_)) => "found",
        Ok(PgAnswer::NotFound) => "not_found",
        Err(error) => code_of(error),
    }
}

pub(super) const fn code_of(error: &ProviderError) -> &'static str {
    match error {
        ProviderError::Unavailable(_) => "unavailable",
        ProviderError::Throttled { .. } => "throttled",
        ProviderError::Refused { .. } => "refused",
        ProviderError::Malformed(_) => "malformed",
        ProviderError::Account { .. } => "account",
    }
}
