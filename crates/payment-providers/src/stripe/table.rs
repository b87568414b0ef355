//! What every status and code of Stripe's means. `tables/stripe.txt` holds Stripe's own lists, from its OpenAPI document.

use domain::payment::{PgRefundState, PgState, PgTransactionKind};

use crate::{
    port::Advice,
    tables::{Meaning, Moved},
    words::words,
};

words! {
    /// The status of a payment intent.
    StripeIntentStatus {
        Canceled = "canceled",
        Processing = "processing",
        RequiresAction = "requires_action",
        RequiresCapture = "requires_capture",
        RequiresConfirmation = "requires_confirmation",
        RequiresPaymentMethod = "requires_payment_method",
        Succeeded = "succeeded",
    }
}

impl StripeIntentStatus {
    /// Settle, wait, fail, refund or manual. `Paid` still depends on the charge: an intent stays `succeeded` after its refunds.
    #[must_use]
    pub const fn state(&self) -> PgState {
        match self {
            Self::Succeeded => PgState::Paid,
            // After a failed attempt an intent asks for another payment method, for ever: only `canceled` cannot be paid any more.
            Self::Processing | Self::RequiresAction | Self::RequiresConfirmation | Self::RequiresPaymentMethod => PgState::Open,
            // Authorised and not captured: capturing is the order service's, and without it the authorisation ends by itself.
            Self::RequiresCapture => PgState::Open,
            Self::Canceled => PgState::Failed,
            Self::Unknown(_) => PgState::Unknown,
        }
    }
}

words! {
    /// The status of a charge.
    StripeChargeStatus {
        Failed = "failed",
        Pending = "pending",
        Succeeded = "succeeded",
    }
}

impl StripeChargeStatus {
    /// What it says of an intent that has succeeded; one that has not is judged by the intent alone.
    #[must_use]
    pub const fn state(&self) -> PgState {
        match self {
            Self::Succeeded => PgState::Paid,
            Self::Pending => PgState::Open,
            // The intent says paid and its charge says failed: a bank took the money back.
            Self::Failed => PgState::Manual,
            Self::Unknown(_) => PgState::Unknown,
        }
    }
}

words! {
    /// The status of a refund.
    StripeRefundStatus {
        Pending = "pending",
        RequiresAction = "requires_action",
        Succeeded = "succeeded",
        Failed = "failed",
        Canceled = "canceled",
    }
}

impl StripeRefundStatus {
    /// How far it is; an unknown word may still fail.
    #[must_use]
    pub const fn state(&self) -> PgRefundState {
        match self {
            Self::Succeeded => PgRefundState::Done,
            Self::Failed | Self::Canceled => PgRefundState::Failed,
            // The payer has to do something, such as name a bank account.
            Self::RequiresAction | Self::Pending | Self::Unknown(_) => PgRefundState::Pending,
        }
    }
}

words! {
    /// The type of an error.
    StripeErrorType {
        ApiError = "api_error",
        CardError = "card_error",
        IdempotencyError = "idempotency_error",
        InvalidRequestError = "invalid_request_error",
    }
}

impl StripeErrorType {
    /// What it means if the code says nothing.
    #[must_use]
    pub const fn meaning(&self) -> Meaning {
        match self {
            Self::ApiError => Meaning::Unavailable,
            Self::CardError | Self::IdempotencyError | Self::InvalidRequestError => Meaning::Refused(Advice::Manual),
            Self::Unknown(_) => Meaning::Unknown,
        }
    }
}

words! {
    /// Codes of errors that say more than the type. Stripe's document has no list of all codes; the others go by their type.
    StripeCode {
        ResourceMissing = "resource_missing",
        ChargeAlreadyRefunded = "charge_already_refunded",
        ChargeDisputed = "charge_disputed",
        RefundDisputedPayment = "refund_disputed_payment",
        PaymentIntentUnexpectedState = "payment_intent_unexpected_state",
        AmountTooLarge = "amount_too_large",
        BalanceInsufficient = "balance_insufficient",
        InsufficientFunds = "insufficient_funds",
        LockTimeout = "lock_timeout",
        IdempotencyKeyInUse = "idempotency_key_in_use",
        RateLimit = "rate_limit",
        ApiKeyExpired = "api_key_expired",
        PlatformApiKeyExpired = "platform_api_key_expired",
        SecretKeyRequired = "secret_key_required",
        AccountInvalid = "account_invalid",
        LivemodeMismatch = "livemode_mismatch",
        TestmodeChargesOnly = "testmode_charges_only",
    }
}

impl StripeCode {
    /// What it means; None: the type decides.
    #[must_use]
    pub const fn meaning(&self) -> Option<Meaning> {
        Some(match self {
            Self::ResourceMissing => Meaning::NotFound,
            Self::ChargeAlreadyRefunded | Self::PaymentIntentUnexpectedState | Self::AmountTooLarge => {
                Meaning::Refused(Advice::Ask)
            }
            Self::ChargeDisputed | Self::RefundDisputedPayment => Meaning::Refused(Advice::Manual),
            Self::BalanceInsufficient | Self::InsufficientFunds => Meaning::Refused(Advice::Later),
            Self::LockTimeout | Self::IdempotencyKeyInUse => Meaning::Unavailable,
            Self::RateLimit => Meaning::Throttled,
            Self::ApiKeyExpired
            | Self::PlatformApiKeyExpired
            | Self::SecretKeyRequired
            | Self::AccountInvalid
            | Self::LivemodeMismatch
            | Self::TestmodeChargesOnly => Meaning::Account,
            Self::Unknown(_) => return None,
        })
    }
}

words! {
    /// The type of a balance transaction.
    BalanceKind {
        Adjustment = "adjustment",
        Advance = "advance",
        AdvanceFunding = "advance_funding",
        AnticipationRepayment = "anticipation_repayment",
        ApplicationFee = "application_fee",
        ApplicationFeeRefund = "application_fee_refund",
        Charge = "charge",
        ClimateOrderPurchase = "climate_order_purchase",
        ClimateOrderRefund = "climate_order_refund",
        ConnectCollectionTransfer = "connect_collection_transfer",
        Contribution = "contribution",
        FeeCreditFunding = "fee_credit_funding",
        InboundTransfer = "inbound_transfer",
        InboundTransferReversal = "inbound_transfer_reversal",
        IssuingAuthorizationHold = "issuing_authorization_hold",
        IssuingAuthorizationRelease = "issuing_authorization_release",
        IssuingDispute = "issuing_dispute",
        IssuingTransaction = "issuing_transaction",
        ObligationOutbound = "obligation_outbound",
        ObligationReversalInbound = "obligation_reversal_inbound",
        Payment = "payment",
        PaymentFailureRefund = "payment_failure_refund",
        PaymentNetworkReserveHold = "payment_network_reserve_hold",
        PaymentNetworkReserveRelease = "payment_network_reserve_release",
        PaymentRefund = "payment_refund",
        PaymentReversal = "payment_reversal",
        PaymentUnreconciled = "payment_unreconciled",
        Payout = "payout",
        PayoutCancel = "payout_cancel",
        PayoutFailure = "payout_failure",
        PayoutMinimumBalanceHold = "payout_minimum_balance_hold",
        PayoutMinimumBalanceRelease = "payout_minimum_balance_release",
        Refund = "refund",
        RefundFailure = "refund_failure",
        ReserveHold = "reserve_hold",
        ReserveRelease = "reserve_release",
        ReserveTransaction = "reserve_transaction",
        ReservedFunds = "reserved_funds",
        StripeBalancePaymentDebit = "stripe_balance_payment_debit",
        StripeBalancePaymentDebitReversal = "stripe_balance_payment_debit_reversal",
        StripeFee = "stripe_fee",
        StripeFxFee = "stripe_fx_fee",
        TaxFee = "tax_fee",
        TaxFund = "tax_fund",
        Topup = "topup",
        TopupReversal = "topup_reversal",
        Transfer = "transfer",
        TransferCancel = "transfer_cancel",
        TransferFailure = "transfer_failure",
        TransferRefund = "transfer_refund",
    }
}

impl BalanceKind {
    /// What it moved between a payer and us.
    #[must_use]
    pub const fn moved(&self) -> Moved {
        match self {
            Self::Charge | Self::Payment => Moved::Money(PgTransactionKind::Payment),
            Self::Refund | Self::PaymentRefund | Self::PaymentFailureRefund | Self::PaymentReversal => {
                Moved::Money(PgTransactionKind::Refund)
            }
            Self::RefundFailure => Moved::Money(PgTransactionKind::RefundReversed),
            // Between us and Stripe, banks, other accounts, or (adjustment) a dispute, which the charge tells of.
            Self::Adjustment
            | Self::Advance
            | Self::AdvanceFunding
            | Self::AnticipationRepayment
            | Self::ApplicationFee
            | Self::ApplicationFeeRefund
            | Self::ClimateOrderPurchase
            | Self::ClimateOrderRefund
            | Self::ConnectCollectionTransfer
            | Self::Contribution
            | Self::FeeCreditFunding
            | Self::InboundTransfer
            | Self::InboundTransferReversal
            | Self::IssuingAuthorizationHold
            | Self::IssuingAuthorizationRelease
            | Self::IssuingDispute
            | Self::IssuingTransaction
            | Self::ObligationOutbound
            | Self::ObligationReversalInbound
            | Self::PaymentNetworkReserveHold
            | Self::PaymentNetworkReserveRelease
            | Self::PaymentUnreconciled
            | Self::Payout
            | Self::PayoutCancel
            | Self::PayoutFailure
            | Self::PayoutMinimumBalanceHold
            | Self::PayoutMinimumBalanceRelease
            | Self::ReserveHold
            | Self::ReserveRelease
            | Self::ReserveTransaction
            | Self::ReservedFunds
            | Self::StripeBalancePaymentDebit
            | Self::StripeBalancePaymentDebitReversal
            | Self::StripeFee
            | Self::StripeFxFee
            | Self::TaxFee
            | Self::TaxFund
            | Self::Topup
            | Self::TopupReversal
            | Self::Transfer
            | Self::TransferCancel
            | Self::TransferFailure
            | Self::TransferRefund => Moved::Nothing,
            Self::Unknown(_) => Moved::Unknown,
        }
    }
}
