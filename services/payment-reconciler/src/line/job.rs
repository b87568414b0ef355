//! One claimed payment, from the ask to the end of its claim.

use domain::payment::PgAnswer;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::{
    Line,
    ask::Question,
    claim::Claimed,
    outcome::Outcome,
    settle::{Applied, Mode, Next, is_order_failure},
    trace,
};
use crate::error::LineError;

impl Line {
    /// Asks about a claimed payment and applies the answer. Whatever fails belongs to this payment alone. To be run in a task that is not
    /// dropped: a transaction must not be left in its middle.
    pub async fn look_after(&self, claimed: &Claimed, stop: &CancellationToken) -> Outcome {
        let turn = async {
            service_kit::failpoint!("payment.claimed");
            let done = Box::pin(self.ask_and_apply(claimed, stop)).await;
            self.conclude(claimed, &done).await
        };
        turn.instrument(trace::turn_of(claimed)).await
    }

    /// Notes what came of a claimed payment, for the log, the metrics, and its next time if it failed.
    pub(super) async fn conclude(&self, claimed: &Claimed, done: &Result<Outcome, LineError>) -> Outcome {
        let outcome = match done {
            Ok(outcome) => *outcome,
            Err(LineError::LeaseLost) => Outcome::Overtaken,
            Err(LineError::Stopped | LineError::GatewayPaused { .. }) => self.unasked(claimed).await,
            Err(error) => self.failed(claimed, error).await,
        };
        if let Outcome::Refunding(reason) = outcome {
            if is_order_failure(reason) {
                Self::log_failure(claimed, reason.as_str(), "its money goes back");
            } else {
                tracing::info!(orderId = %claimed.order, paymentId = %claimed.payment, reason = reason.as_str(), "the money goes back");
            }
        }
        Span::current().record("outcome", outcome.as_str());
        metrics::counter!(
            "trueup_payment_outcomes_total", "provider" => claimed.provider.to_string(), "outcome" => outcome.as_str()
        )
        .increment(1);
        if claimed.on_behalf.is_some() {
            self.looked.add(outcome, 1);
        }
        outcome
    }

    async fn ask_and_apply(&self, claimed: &Claimed, stop: &CancellationToken) -> Result<Outcome, LineError> {
        let answer = self.ask(claimed, Question::Status, stop).await?;
        self.act_on(claimed, &answer, stop).await
    }

    pub(super) async fn act_on(
        &self,
        claimed: &Claimed,
        answer: &PgAnswer,
        stop: &CancellationToken,
    ) -> Result<Outcome, LineError> {
        service_kit::failpoint!("payment.asked");
        let applied = Box::pin(self.settle(claimed, answer, Mode::Normal)).await?;
        Box::pin(self.follow(claimed, applied, stop)).await
    }

    /// Does what follows a settle.
    ///
    /// # Errors
    /// As of its phases.
    pub async fn follow(&self, claimed: &Claimed, applied: Applied, stop: &CancellationToken) -> Result<Outcome, LineError> {
        match applied.next {
            Next::Done => Ok(applied.outcome),
            Next::Close => {
                let answer: PgAnswer = self.ask(claimed, Question::Close, stop).await?;
                Ok(Box::pin(self.settle(claimed, &answer, Mode::Closed)).await?.outcome)
            }
            Next::Send { order, held_until } => {
                let claimed = &Claimed { held_until, ..claimed.clone() };
                service_kit::failpoint!("payment.refund.sending");
                let said = self.send_refund(claimed, &order).await;
                service_kit::failpoint!("payment.refund.sent");
                Ok(Box::pin(self.record_refund(claimed, &said)).await?.outcome)
            }
        }
    }

    /// It was not asked about, at no fault of its own: it is due at once, for whoever may ask.
    async fn unasked(&self, claimed: &Claimed) -> Outcome {
        if let Err(error) = self.give_back(claimed).await {
            tracing::warn!(paymentId = %claimed.payment, %error, "a claim could not be given back; it ends by itself");
        }
        if let Err(error) = self.not_probed(&claimed.provider).await {
            tracing::warn!(provider = %claimed.provider, %error, "a half-open breaker could not be given back; it is tried again later");
        }
        Outcome::GivenBack
    }

    async fn failed(&self, claimed: &Claimed, error: &LineError) -> Outcome {
        Self::log_failure(claimed, error.code(), &error.to_string());
        if let Err(error) = self.note_failure(claimed, error).await {
            tracing::warn!(paymentId = %claimed.payment, %error, "a failure could not be noted; the claim ends by itself");
        }
        Outcome::Error
    }

    fn log_failure(claimed: &Claimed, reason: &str, detail: &str) {
        tracing::error!(
            orderId = %claimed.order, paymentId = %claimed.payment, provider = %claimed.provider, reason, detail,
            "Failed to reconcile order: {} ({reason})", claimed.order
        );
    }
}
