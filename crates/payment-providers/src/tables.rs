//! What every status and code of every gateway means. The enums hold what the gateways document; tests hold them against those documents.

use domain::payment::{PgState, PgTransactionKind};

use crate::port::{Advice, ProviderError};
pub use crate::{
    generic::table::{GenericCode, GenericRefundStatus, GenericStatus},
    stripe::table::{BalanceKind, StripeChargeStatus, StripeCode, StripeErrorType, StripeIntentStatus, StripeRefundStatus},
    toss::table::{TossCancelCode, TossCancelStatus, TossQueryCode, TossStatus},
};

/// What a line of a transaction list moved between a payer and us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// Money.
    Money(PgTransactionKind),
    /// Nothing.
    Nothing,
    /// A word that the table does not know: it might be money.
    Unknown,
}

/// What an error code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The gateway does not know the payment.
    NotFound,
    /// Wait: try again, it may have been done.
    Unavailable,
    /// Wait: too many calls.
    Throttled,
    /// Manual: our account is refused.
    Account,
    /// It was not done.
    Refused(Advice),
    /// Wait, then manual: a code that the table does not know.
    Unknown,
}

impl Meaning {
    /// The error of the port; `NotFound` is a refusal here, because only a query has an answer for it.
    #[must_use]
    pub fn error(self, code: &str, message: &str, retry_after: Option<std::time::Duration>) -> ProviderError {
        let code = clean(code, 100);
        match self {
            Self::Unavailable => ProviderError::Unavailable(code),
            Self::Throttled => ProviderError::Throttled { retry_after },
            Self::Account => ProviderError::Account { code },
            Self::NotFound => ProviderError::Refused { code, message: clean(message, 200), advice: Advice::Ask },
            Self::Refused(advice) => ProviderError::Refused { code, message: clean(message, 200), advice },
            Self::Unknown => ProviderError::Malformed(format!("the code {code} is in no table")),
        }
    }
}

/// A gateway's words, fit for a log: short, and of printable characters only.
#[must_use]
pub fn clean(text: &str, chars_max: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars_max).collect()
}

/// The state of a payment of which money was taken, by what is left of it: all, nothing, or a part, which a person has to look at.
pub(crate) fn paid_state(captured: i64, left: i64) -> PgState {
    if left >= captured {
        PgState::Paid
    } else if left <= 0 {
        PgState::Returned
    } else {
        PgState::Manual
    }
}

/// An error of the port, or that the payment is not known.
pub(crate) enum Failed {
    NotFound(ProviderError),
    Other(ProviderError),
}

impl Failed {
    /// An error that the gateway gave a code with this meaning.
    pub(crate) fn of(meaning: Meaning, error: ProviderError) -> Self {
        if meaning == Meaning::NotFound { Self::NotFound(error) } else { Self::Other(error) }
    }
}

impl From<ProviderError> for Failed {
    fn from(error: ProviderError) -> Self {
        Self::Other(error)
    }
}

impl From<Failed> for ProviderError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NotFound(error) | Failed::Other(error) => error,
        }
    }
}
