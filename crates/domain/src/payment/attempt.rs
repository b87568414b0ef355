//! A payment, which is one attempt to pay an order, and the refund of one.

use super::{Money, OrderId, PaymentId, PgReference, ProviderName, RefundId, words::words};
use crate::clock::Timestamp;

words! {
    /// Where a payment is.
    PaymentState {
        /// Nobody knows yet.
        Pending = "PENDING",
        /// Paid: it completed its order.
        Success = "SUCCESS",
        /// Not paid. It is still asked for late money for some days.
        Failed = "FAILED",
        /// Its money is on the way back.
        Refunding = "REFUNDING",
        /// Its money is back at the payer.
        Refunded = "REFUNDED",
    }
}

impl PaymentState {
    /// Whether the table of a payment's states has this move. The schema refuses the others.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending, Self::Success | Self::Failed | Self::Refunding | Self::Refunded)
                | (Self::Failed, Self::Refunding | Self::Refunded)
                | (Self::Success | Self::Refunded, Self::Refunding)
                | (Self::Refunding, Self::Refunded)
        )
    }

    /// An attempt that keeps no order from failing.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Refunded)
    }
}

words! {
    /// How somebody pays; it decides how often and how long the gateway is asked.
    PaymentMethod {
        /// A card.
        Card = "card",
        /// A transfer from a bank account.
        Transfer = "transfer",
        /// A deposit to an account that was opened for this payment; money may arrive until it expires.
        VirtualAccount = "virtual_account",
        /// A mobile phone's bill.
        Mobile = "mobile",
        /// A wallet, such as Kakao Pay.
        EasyPay = "easy_pay",
        /// Anything else, or unknown.
        Other = "other",
    }
}

/// A payment as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its id.
    pub id: PaymentId,
    /// Whose attempt it is.
    pub order: OrderId,
    /// At which gateway.
    pub provider: ProviderName,
    /// What the gateway knows it by.
    pub reference: PgReference,
    /// How the payer pays.
    pub method: PaymentMethod,
    /// What it was made for.
    pub amount: Money,
    /// Where it is.
    pub state: PaymentState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when money may arrive, if the gateway ever said so.
    pub expires_at: Option<Timestamp>,
    /// Until when a failed payment is asked for late money.
    pub sweep_until: Option<Timestamp>,
    /// Answers so far in this state; the schedule grows with it.
    pub checks: u32,
    /// Whether the gateway's last answer was that it does not know the payment.
    pub was_not_found: bool,
}

words! {
    /// How far a refund is.
    RefundState {
        /// To be sent.
        Requested = "REQUESTED",
        /// Committed before the call: it may have been made. The gateway has to be asked.
        Sending = "SENDING",
        /// The gateway has it, and it is not final.
        Accepted = "ACCEPTED",
        /// It needs the payer's data, or an operator.
        Manual = "MANUAL",
        /// The gateway's final word: the money is back.
        Confirmed = "CONFIRMED",
    }
}

impl RefundState {
    /// Whether a refund may go there. The schema refuses the other moves.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Requested => matches!(next, Self::Sending | Self::Accepted | Self::Manual | Self::Confirmed),
            Self::Sending => matches!(next, Self::Requested | Self::Accepted | Self::Manual | Self::Confirmed),
            Self::Accepted => matches!(next, Self::Requested | Self::Manual | Self::Confirmed),
            Self::Manual => matches!(next, Self::Requested | Self::Accepted | Self::Confirmed),
            Self::Confirmed => matches!(next, Self::Requested | Self::Manual),
        }
    }
}

words! {
    /// Why money goes back. Stable codes: they are in rows, events and log lines.
    RefundReason {
        /// A product of the order does not exist any more.
        ProductNotFound = "PRODUCT_NOT_FOUND",
        /// Not enough pieces of a product.
        OutOfStock = "OUT_OF_STOCK",
        /// What is held is not what the order costs.
        AmountMismatch = "AMOUNT_MISMATCH",
        /// It was paid in another currency.
        CurrencyMismatch = "CURRENCY_MISMATCH",
        /// Another attempt has paid the order.
        SecondPayment = "SECOND_PAYMENT",
        /// The order was cancelled before it was paid.
        OrderCancelled = "ORDER_CANCELLED",
        /// The order had failed before the money came.
        OrderFailed = "ORDER_FAILED",
        /// The attempt had failed, and the money came late.
        PaidLate = "PAID_LATE",
        /// An operator wants it.
        Operator = "OPERATOR",
        /// The gateway gave back what it had confirmed as refunded, or took the money again.
        Reversed = "REVERSED",
    }
}

/// A refund as its row has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// Its id.
    pub id: RefundId,
    /// How much this attempt gives back.
    pub amount: Money,
    /// Why.
    pub reason: RefundReason,
    /// How far it is.
    pub state: RefundState,
    /// Which attempt it is in, from 1.
    pub attempt: i32,
    /// How often this attempt was sent.
    pub sends: i32,
    /// The gateway's id of this attempt, once it is known.
    pub pg_refund_id: Option<String>,
    /// Not to be sent before an operator releases it.
    pub held: bool,
    /// Whether the pieces go back to stock when it cancels a completed order.
    pub restock: bool,
    /// A confirmed refund is asked about until here.
    pub watch_until: Option<Timestamp>,
}

impl Refund {
    /// The idempotency key of the attempt that it is in.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}-{}", self.id, self.attempt)
    }
}

words! {
    /// Why an operator should look at a payment. A flag: asking and settling go on.
    Attention {
        /// Still not paid, and older than the handover's age.
        Overdue = "overdue",
        /// A status that the adapter's table does not know, for too long.
        UnknownStatus = "unknown_status",
        /// The gateway's status is one for people: a partial cancel, a dispute.
        ManualStatus = "manual_status",
        /// The gateway's amounts do not add up.
        AmountsDisagree = "amounts_disagree",
        /// The gateway's answers cannot be read.
        UnreadableAnswer = "unreadable_answer",
        /// The gateway refuses to answer about it.
        QueryRefused = "query_refused",
        /// Settling fails for a reason that does not pass.
        SettleFails = "settle_fails",
        /// Its gateway is not in the settings, so that nobody can ask.
        UnknownProvider = "unknown_provider",
        /// The refund needs data that only the payer has.
        RefundNeedsPayer = "refund_needs_payer",
        /// The gateway refuses the refund.
        RefundRefused = "refund_refused",
        /// The refund is open for too long.
        RefundOverdue = "refund_overdue",
        /// Too many automatic refunds in a short time.
        RefundHeld = "refund_held",
        /// A refund that was confirmed came back.
        RefundReversed = "refund_reversed",
    }
}
