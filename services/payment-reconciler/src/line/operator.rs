//! What an operator may do with the line: have one payment asked about now and settled by what the gateway says, as a run does, and be told
//! beforehand what that would come to.

use std::{sync::Arc, time::Duration};

use domain::payment::{PaymentId, PgAnswer};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Line,
    claim::Claimed,
    foresight,
    outcome::Outcome,
    rows::Locked,
    settle::{Applied, Next},
};
use crate::{
    error::LineError,
    pg::{self, Session},
};

/// How often a payment that somebody else holds is tried again.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Keeps what an operator did; the detail is JSON as text.
pub(crate) const KEEP_ACTION: &str =
    "INSERT INTO operator_action (actor, action, target, reason, outcome, detail) VALUES ($1, $2, $3, $4, $5, $6::text::jsonb)";

/// Who wants an order to be settled, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OnBehalf {
    /// The operator.
    pub actor: String,
    /// Why; it is kept.
    pub reason: String,
}

/// What became of a payment that an operator wants to be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The gateway was asked, and its answer is applied.
    Done(Outcome),
    /// It is a success; nobody asks about that one.
    Success,
    /// Somebody else held it all the time.
    Busy,
}

impl Line {
    /// Claims a payment, asks about it and applies the answer in one transaction that also keeps who wanted it and why. Waits at most `wait`
    /// for a claim of somebody else. To be run in a task that is not dropped.
    ///
    /// # Errors
    /// The gateway gives no answer, PostgreSQL, or [`LineError::LeaseLost`]; the payment is asked about again at its next time.
    pub async fn settle_now(
        &self,
        payment: &PaymentId,
        by: OnBehalf,
        wait: Duration,
        stop: &CancellationToken,
    ) -> Result<Told, LineError> {
        let deadline = Instant::now() + wait;
        let by = Arc::new(by);
        let claimed = loop {
            if let Some(claimed) = self.claim_one(payment).await? {
                break Claimed { on_behalf: Some(Arc::clone(&by)), ..claimed };
            }
            if self.is_success(payment).await? {
                return Ok(Told::Success);
            }
            if Instant::now() >= deadline {
                return Ok(Told::Busy);
            }
            tokio::select! {
                () = stop.cancelled() => return Err(LineError::Stopped),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        };
        let done = Box::pin(self.ask_and_apply(&claimed, stop)).await;
        self.conclude(&claimed, &done).await;
        done.map(Told::Done)
    }

    async fn is_success(&self, payment: &PaymentId) -> Result<bool, LineError> {
        let session = pg::session(&self.pool).await?;
        let sql = "SELECT EXISTS (SELECT FROM payment WHERE payment_id = $1 AND state = 'SUCCESS')";
        Ok(session.row(sql, &[&payment.as_str()]).await?.try_get(0)?)
    }

    /// Keeps an operator's wish in the transaction of what it led to.
    pub(super) async fn keep_wish(
        &self,
        session: &Session,
        claimed: &Claimed,
        locked: &Locked,
        answer: &PgAnswer,
        applied: &Applied,
    ) -> Result<(), LineError> {
        // Of a payment that is ended first, what the gateway says to that is what counts.
        let Some(by) = claimed.on_behalf.as_deref().filter(|_| applied.next != Next::Close) else { return Ok(()) };
        let outcome = applied.outcome.as_str();
        let detail = json!({
            "paymentId": claimed.payment.as_str(), "was": locked.payment.state.as_str(), "gatewaySaid": foresight::said(answer), "outcome": outcome,
        });
        let order = claimed.order.as_str();
        session
            .run(KEEP_ACTION, &[&by.actor, &"orders resolve settle", &order, &by.reason, &"done", &detail.to_string()])
            .await?;
        tracing::info!(actor = by.actor, orderId = order, paymentId = %claimed.payment, reason = by.reason, outcome, "an operator had it settled");
        Ok(())
    }
}
