//! What every status and code of Toss Payments' core API means. `tables/toss.txt` says where they are documented.

use domain::payment::{PgRefundState, PgState, PgTransactionKind};

use crate::{
    port::Advice,
    tables::{Meaning, Moved, paid_state},
    words::words,
};

words! {
    /// The status of a Payment object.
    TossStatus {
        Ready = "READY",
        InProgress = "IN_PROGRESS",
        WaitingForDeposit = "WAITING_FOR_DEPOSIT",
        Done = "DONE",
        Canceled = "CANCELED",
        PartialCanceled = "PARTIAL_CANCELED",
        Aborted = "ABORTED",
        Expired = "EXPIRED",
    }
}

impl TossStatus {
    /// Settle, wait, fail, refund or manual, with the money that was taken, if it was approved, and what can still be cancelled of it.
    #[must_use]
    pub fn state(&self, taken: Option<i64>, balance: i64) -> PgState {
        match self {
            // A deposit that was booked by mistake goes back from DONE to WAITING_FOR_DEPOSIT, so neither is for ever.
            Self::Ready | Self::InProgress | Self::WaitingForDeposit => PgState::Open,
            Self::Done => PgState::Paid,
            // A virtual account that is cancelled before its deposit is CANCELED, too.
            Self::Canceled if taken.is_none() => PgState::Failed,
            Self::Canceled => PgState::Returned,
            // Toss' own guide shows a full cancel as PARTIAL_CANCELED with nothing left.
            Self::PartialCanceled => paid_state(taken.unwrap_or(0), balance),
            Self::Aborted | Self::Expired => PgState::Failed,
            Self::Unknown(_) => PgState::Unknown,
        }
    }

    /// Whether money has been taken by then.
    #[must_use]
    pub const fn is_approved(&self) -> bool {
        matches!(self, Self::Done | Self::Canceled | Self::PartialCanceled)
    }

    /// What a line of the transaction list with it moved.
    #[must_use]
    pub const fn moved(&self) -> Moved {
        match self {
            Self::Done => Moved::Money(PgTransactionKind::Payment),
            Self::Canceled | Self::PartialCanceled => Moved::Money(PgTransactionKind::Refund),
            Self::Ready | Self::InProgress | Self::WaitingForDeposit | Self::Aborted | Self::Expired => Moved::Nothing,
            Self::Unknown(_) => Moved::Unknown,
        }
    }
}

words! {
    /// The status of a Cancel object.
    TossCancelStatus {
        InProgress = "IN_PROGRESS",
        Done = "DONE",
        Aborted = "ABORTED",
    }
}

impl TossCancelStatus {
    /// How far the refund is; an unknown word may still fail.
    #[must_use]
    pub const fn state(&self) -> PgRefundState {
        match self {
            Self::Done => PgRefundState::Done,
            Self::Aborted => PgRefundState::Failed,
            Self::InProgress | Self::Unknown(_) => PgRefundState::Pending,
        }
    }
}

words! {
    /// The code of an error of the queries.
    TossQueryCode {
        NotSupportedMonthlyInstallmentPlanBelowAmount = "NOT_SUPPORTED_MONTHLY_INSTALLMENT_PLAN_BELOW_AMOUNT",
        UnauthorizedKey = "UNAUTHORIZED_KEY",
        ForbiddenConsecutiveRequest = "FORBIDDEN_CONSECUTIVE_REQUEST",
        IncorrectBasicAuthFormat = "INCORRECT_BASIC_AUTH_FORMAT",
        NotFoundPayment = "NOT_FOUND_PAYMENT",
        NotFound = "NOT_FOUND",
        FailedPaymentInternalSystemProcessing = "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING",
    }
}

impl TossQueryCode {
    /// What it means.
    #[must_use]
    pub const fn meaning(&self) -> Meaning {
        match self {
            Self::NotFoundPayment | Self::NotFound => Meaning::NotFound,
            Self::UnauthorizedKey | Self::IncorrectBasicAuthFormat => Meaning::Account,
            Self::ForbiddenConsecutiveRequest => Meaning::Throttled,
            Self::FailedPaymentInternalSystemProcessing => Meaning::Unavailable,
            Self::NotSupportedMonthlyInstallmentPlanBelowAmount => Meaning::Refused(Advice::Manual),
            Self::Unknown(_) => Meaning::Unknown,
        }
    }
}

words! {
    /// The code of an error of the cancel, with those of its idempotency key.
    TossCancelCode {
        AlreadyCanceledPayment = "ALREADY_CANCELED_PAYMENT",
        InvalidRefundAccountInfo = "INVALID_REFUND_ACCOUNT_INFO",
        ExceedCancelAmountDiscountAmount = "EXCEED_CANCEL_AMOUNT_DISCOUNT_AMOUNT",
        InvalidRequest = "INVALID_REQUEST",
        InvalidRefundAccountNumber = "INVALID_REFUND_ACCOUNT_NUMBER",
        InvalidBank = "INVALID_BANK",
        NotMatchesRefundableAmount = "NOT_MATCHES_REFUNDABLE_AMOUNT",
        ProviderError = "PROVIDER_ERROR",
        RefundRejected = "REFUND_REJECTED",
        AlreadyRefundPayment = "ALREADY_REFUND_PAYMENT",
        ForbiddenBankRefundRequest = "FORBIDDEN_BANK_REFUND_REQUEST",
        UnauthorizedKey = "UNAUTHORIZED_KEY",
        NotCancelableAmount = "NOT_CANCELABLE_AMOUNT",
        ForbiddenConsecutiveRequest = "FORBIDDEN_CONSECUTIVE_REQUEST",
        ForbiddenRequest = "FORBIDDEN_REQUEST",
        NotCancelablePayment = "NOT_CANCELABLE_PAYMENT",
        ExceedMaxRefundDue = "EXCEED_MAX_REFUND_DUE",
        NotAllowedPartialRefundWaitingDeposit = "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT",
        NotAllowedPartialRefund = "NOT_ALLOWED_PARTIAL_REFUND",
        NotAvailableBank = "NOT_AVAILABLE_BANK",
        IncorrectBasicAuthFormat = "INCORRECT_BASIC_AUTH_FORMAT",
        NotCancelablePaymentForDormantUser = "NOT_CANCELABLE_PAYMENT_FOR_DORMANT_USER",
        ExceedCancelLimit = "EXCEED_CANCEL_LIMIT",
        NotFoundPayment = "NOT_FOUND_PAYMENT",
        FailedInternalSystemProcessing = "FAILED_INTERNAL_SYSTEM_PROCESSING",
        FailedRefundProcess = "FAILED_REFUND_PROCESS",
        FailedMethodHandlingCancel = "FAILED_METHOD_HANDLING_CANCEL",
        FailedPartialRefund = "FAILED_PARTIAL_REFUND",
        CommonError = "COMMON_ERROR",
        FailedPaymentInternalSystemProcessing = "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING",
        InvalidIdempotencyKey = "INVALID_IDEMPOTENCY_KEY",
        IdempotentRequestProcessing = "IDEMPOTENT_REQUEST_PROCESSING",
    }
}

impl TossCancelCode {
    /// What it means. The HTTP status says less: `PROVIDER_ERROR` is a 400 that passes by itself, and a closed bank is a 403.
    #[must_use]
    pub const fn meaning(&self) -> Meaning {
        match self {
            Self::NotFoundPayment => Meaning::NotFound,
            Self::UnauthorizedKey | Self::IncorrectBasicAuthFormat => Meaning::Account,
            Self::ForbiddenConsecutiveRequest => Meaning::Throttled,
            Self::IdempotentRequestProcessing
            | Self::FailedInternalSystemProcessing
            | Self::CommonError
            | Self::FailedPaymentInternalSystemProcessing => Meaning::Unavailable,
            // These say that the refund was not made; under the same key they would be said again.
            Self::ProviderError
            | Self::NotAvailableBank
            | Self::ExceedCancelLimit
            | Self::FailedRefundProcess
            | Self::FailedMethodHandlingCancel
            | Self::FailedPartialRefund => Meaning::Refused(Advice::Later),
            Self::AlreadyCanceledPayment
            | Self::AlreadyRefundPayment
            | Self::NotMatchesRefundableAmount
            | Self::NotCancelableAmount => Meaning::Refused(Advice::Ask),
            Self::InvalidRefundAccountInfo
            | Self::ExceedCancelAmountDiscountAmount
            | Self::InvalidRequest
            | Self::InvalidRefundAccountNumber
            | Self::InvalidBank
            | Self::RefundRejected
            | Self::ForbiddenBankRefundRequest
            | Self::ForbiddenRequest
            | Self::NotCancelablePayment
            | Self::ExceedMaxRefundDue
            | Self::NotAllowedPartialRefundWaitingDeposit
            | Self::NotAllowedPartialRefund
            | Self::NotCancelablePaymentForDormantUser
            | Self::InvalidIdempotencyKey => Meaning::Refused(Advice::Manual),
            Self::Unknown(_) => Meaning::Unknown,
        }
    }
}
