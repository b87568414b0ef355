//! What every status and code of the generic contract means.

use domain::payment::{PgRefundState, PgState};

use crate::{port::Advice, tables::Meaning, words::words};

words! {
    /// A payment's status.
    GenericStatus {
        Open = "open",
        WaitingForDeposit = "waiting_for_deposit",
        Paid = "paid",
        PartiallyRefunded = "partially_refunded",
        Refunded = "refunded",
        Failed = "failed",
        Closed = "closed",
        Expired = "expired",
        Disputed = "disputed",
    }
}

impl GenericStatus {
    /// Settle, wait, fail, refund or manual.
    #[must_use]
    pub const fn state(&self) -> PgState {
        match self {
            Self::Paid => PgState::Paid,
            Self::Open | Self::WaitingForDeposit => PgState::Open,
            Self::Failed | Self::Closed | Self::Expired => PgState::Failed,
            Self::Refunded => PgState::Returned,
            Self::PartiallyRefunded | Self::Disputed => PgState::Manual,
            Self::Unknown(_) => PgState::Unknown,
        }
    }
}

words! {
    /// A refund's status.
    GenericRefundStatus {
        Pending = "pending",
        Done = "done",
        Failed = "failed",
    }
}

impl GenericRefundStatus {
    /// How far it is; an unknown word may still fail.
    #[must_use]
    pub const fn state(&self) -> PgRefundState {
        match self {
            Self::Done => PgRefundState::Done,
            Self::Failed => PgRefundState::Failed,
            Self::Pending | Self::Unknown(_) => PgRefundState::Pending,
        }
    }
}

words! {
    /// An error's code.
    GenericCode {
        PaymentNotFound = "payment_not_found",
        InvalidRequest = "invalid_request",
        Unauthorized = "unauthorized",
        Forbidden = "forbidden",
        NotPaid = "not_paid",
        AlreadyPaid = "already_paid",
        AlreadyRefunded = "already_refunded",
        AmountExceedsHeld = "amount_exceeds_held",
        CurrencyDiffers = "currency_differs",
        PayerAccountRequired = "payer_account_required",
        TooManyRefunds = "too_many_refunds",
        RefundRejected = "refund_rejected",
        RefundPeriodOver = "refund_period_over",
        TryLater = "try_later",
        IdempotencyConflict = "idempotency_conflict",
        RequestInProgress = "request_in_progress",
        RateLimited = "rate_limited",
        Internal = "internal",
    }
}

impl GenericCode {
    /// What it means.
    #[must_use]
    pub const fn meaning(&self) -> Meaning {
        match self {
            Self::PaymentNotFound => Meaning::NotFound,
            Self::Unauthorized | Self::Forbidden => Meaning::Account,
            Self::RateLimited => Meaning::Throttled,
            Self::RequestInProgress | Self::Internal => Meaning::Unavailable,
            Self::TryLater => Meaning::Refused(Advice::Later),
            Self::NotPaid | Self::AlreadyPaid | Self::AlreadyRefunded | Self::AmountExceedsHeld => Meaning::Refused(Advice::Ask),
            Self::InvalidRequest
            | Self::CurrencyDiffers
            | Self::PayerAccountRequired
            | Self::TooManyRefunds
            | Self::RefundRejected
            | Self::RefundPeriodOver
            | Self::IdempotencyConflict => Meaning::Refused(Advice::Manual),
            Self::Unknown(_) => Meaning::Unknown,
        }
    }
}
