//! What a payment gateway says, translated by its adapter and by nothing else. Adapters only translate; the verdict is decided from this.

use serde::{Deserialize, Serialize};

use super::{Money, PgReference};
use crate::{clock::Timestamp, secret::Secret};

/// The gateway's answer to "what became of this payment?". That it could not be asked is an error of the port, not an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PgAnswer {
    /// It knows the payment.
    Found(PgPayment),
    /// It does not know the payment. This is *unknown*, not failed: a payment may be known later.
    NotFound,
}

impl PgAnswer {
    /// The payment, if the gateway knows it.
    #[must_use]
    pub const fn found(&self) -> Option<&PgPayment> {
        match self {
            Self::Found(pg) => Some(pg),
            Self::NotFound => None,
        }
    }
}

/// A payment as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PgPayment {
    /// What its status means.
    pub state: PgState,
    /// The gateway's own word for it, for people.
    pub status: String,
    /// The gateway's id of the money movement (Toss' payment key, Stripe's latest charge).
    pub transaction_id: Option<String>,
    /// When the money was taken, by the gateway's clock, if it says.
    pub paid_at: Option<Timestamp>,
    /// Money that was taken, ever.
    pub captured: Money,
    /// Money that was given back for certain.
    pub refunded: Money,
    /// Each refund that the gateway knows, of any state.
    pub refunds: Vec<PgRefund>,
    /// Whether a refund needs data that only the payer has (a virtual account's bank account).
    pub refund_needs_payer: bool,
    /// Until when money may still arrive (a virtual account's due date), if the gateway says.
    pub expires_at: Option<Timestamp>,
    /// Whether the gateway contradicts itself about the amounts in a way that only its adapter can see.
    pub contradictory: bool,
    /// What the gateway's unsigned callbacks about this payment carry to prove themselves (Toss' virtual accounts), if it told us.
    pub callback_secret: Option<Secret>,
}

impl PgPayment {
    /// What the gateway still holds: captured − refunded; None if the amounts do not add up.
    #[must_use]
    pub fn held(&self) -> Option<Money> {
        self.captured.minus(self.refunded).ok()
    }

    /// Whether a refund is on its way, ours or somebody's.
    #[must_use]
    pub fn is_moving(&self) -> bool {
        self.refunds.iter().any(|refund| refund.state == PgRefundState::Pending)
    }

    /// Whether the answer can be believed by itself: no amount is below zero, and no refund is done that the total does not have yet. A
    /// total that lags behind its list would be taken for money that is held.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let done = || self.refunds.iter().filter(|refund| refund.state == PgRefundState::Done).map(|refund| refund.amount);
        let is_same = |amount: Money| amount.currency == self.refunded.currency && amount.amount >= 0;
        let listed = done().fold(0_i64, |sum, refund| sum.saturating_add(refund.amount));
        !self.contradictory
            && self.captured.amount >= 0
            && self.refunded.amount >= 0
            && done().all(is_same)
            && listed <= self.refunded.amount
    }

    /// Whether the gateway is not through with the payer's money: some of it is held or on its way, or nobody can tell.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.is_moving() || super::verdict::amounts(self).is_none_or(|held| held.amount != 0)
    }
}

/// What a gateway's status means for us, from the adapter's table, which maps every known status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PgState {
    /// Settle: money was taken. What is held now follows from the amounts.
    Paid,
    /// Wait: not paid yet, may still be.
    Open,
    /// Fail: not paid, and will never be.
    Failed,
    /// Refund: everything that was taken has been given back, or is on its way back.
    Returned,
    /// Manual: a person has to look, such as at a partial cancel or a dispute.
    Manual,
    /// A status that the table does not know: wait, then manual.
    Unknown,
}

/// A refund as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PgRefund {
    /// The gateway's id of it.
    pub id: String,
    /// The idempotency key or reason mark that we gave with it, where the gateway echoes it.
    pub key: Option<String>,
    /// How much.
    pub amount: Money,
    /// When it was made, by the gateway's clock, if it says.
    pub at: Option<Timestamp>,
    /// How far it is.
    pub state: PgRefundState,
}

/// How far a refund is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PgRefundState {
    /// On its way; it may still fail.
    Pending,
    /// Done. Some gateways reverse even this later.
    Done,
    /// It did not happen, or it came back.
    Failed,
}

/// One line of a gateway's transaction list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PgTransaction {
    /// The gateway's id of this line.
    pub id: String,
    /// The payment it belongs to.
    pub reference: PgReference,
    /// In or out.
    pub kind: PgTransactionKind,
    /// How much, always positive.
    pub amount: Money,
    /// When, by the gateway's clock.
    pub at: Timestamp,
}

/// In which direction money moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PgTransactionKind {
    /// From the payer to us.
    Payment,
    /// Back to the payer.
    Refund,
    /// A refund that did not reach the payer: the money is with us again.
    RefundReversed,
}
