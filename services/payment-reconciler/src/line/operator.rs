//! What an operator may do with the line: have one payment asked about now and settled by what the gateway says, as a run does, and be told
//! beforehand what that would come to.

use std::{sync::Arc, time::Duration};

use domain::payment::{PaymentId, PgAnswer, ProviderName};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Line,
    ask::Question,
    claim::Claimed,
    foresight,
    outcome::Outcome,
    rows::{Locked, parsed},
    settle::{Applied, Next},
    trace,
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

/// How long an operator's wish waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a payment that somebody else holds.
    pub held: Duration,
    /// For a turn at the gateway: a slot, and the pace.
    pub turn: Duration,
}

impl Line {
    /// Claims a payment, asks about it and applies the answer in one transaction that also keeps who wanted it and why. It takes a slot of the
    /// gateway for that, ahead of the runs. To be run in a task that is not dropped.
    ///
    /// # Errors
    /// The gateway gives no answer, PostgreSQL, or [`LineError::LeaseLost`]; the payment is asked about again at its next time.
    /// [`LineError::GatewayPaused`] and [`LineError::GatewayBusy`]: it was not asked.
    pub async fn settle_now(
        &self,
        payment: &PaymentId,
        by: OnBehalf,
        patience: Patience,
        stop: &CancellationToken,
    ) -> Result<Told, LineError> {
        let deadline = Instant::now() + patience.held;
        let by = Arc::new(by);
        let name = self.provider_of(payment).await?;
        let gateway = self.gateway(&name)?;
        // A slot is kept only while it is used: not while somebody else holds the payment.
        let (_slot, claimed, until) = loop {
            self.not_paused(&name).await?;
            let until = Instant::now() + patience.turn;
            let slot = self.slot_by(gateway, until, stop).await?;
            if let Some(claimed) = self.claim_one(payment).await? {
                break (slot, Claimed { on_behalf: Some(Arc::clone(&by)), ..claimed }, until);
            }
            drop(slot);
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
        if let Err(refused) = self.admit(&name, gateway, until, stop).await {
            self.give_back(&claimed).await?;
            return Err(refused);
        }
        let turn = Box::pin(async {
            let done = match self.ask_from(&claimed, Question::Status, true, stop).await {
                Ok(answer) => self.act_on(&claimed, &answer, stop).await,
                Err(error) => Err(error),
            };
            self.conclude(&claimed, &done).await;
            done
        });
        turn.instrument(trace::turn_of(&claimed)).await.map(Told::Done)
    }

    async fn provider_of(&self, payment: &PaymentId) -> Result<ProviderName, LineError> {
        let session = pg::session(&self.pool).await?;
        let rows = session.rows("SELECT provider FROM payment WHERE payment_id = $1", &[&payment.as_str()]).await?;
        let row = rows.first().ok_or_else(|| LineError::UnknownPayment(payment.to_string()))?;
        parsed(row, "provider")
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
