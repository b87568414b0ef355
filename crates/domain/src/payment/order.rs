//! An order: what was placed, and how it moves.

use serde::{Deserialize, Serialize};

use super::{Money, OrderId, ProductId, words::words};
use crate::clock::Timestamp;

words! {
    /// Where an order is.
    OrderState {
        /// Placed; nobody knows yet whether it is paid.
        Pending = "PENDING",
        /// Paid, and its stock has moved.
        Completed = "COMPLETED",
        /// Not paid, or the money went back.
        Failed = "FAILED",
        /// Cancelled by the user, or by an operator with a refund.
        Cancelled = "CANCELLED",
    }
}

impl OrderState {
    /// Whether the table of an order's states has this move. The schema refuses the others.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Completed | Self::Failed | Self::Cancelled) | (Self::Completed, Self::Cancelled)
        )
    }
}

/// A product of an order. Equal products of an order are one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderLine {
    /// What.
    pub product: ProductId,
    /// Pieces, at least 1.
    pub quantity: i64,
}

/// An order as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// What it costs.
    pub amount: Money,
    /// Where it is.
    pub state: OrderState,
    /// When it was placed.
    pub created_at: Timestamp,
}
