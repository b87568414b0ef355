//! What the payment line asks of a payment gateway.

use std::time::Duration;

use async_trait::async_trait;
use domain::{
    clock::Timestamp,
    payment::{Money, PgAnswer, PgReference, PgRefund, PgTransaction, ProviderName},
};

/// A merchant account at a payment gateway.
///
/// Each call is one try: tries, rate limits and the circuit breaker belong to the caller. Each is bounded by a time-out of the adapter.
#[async_trait]
pub trait PaymentProvider: Send + Sync {
    /// By which name payments refer to it.
    fn name(&self) -> &ProviderName;

    /// Whether a reference has the form that the gateway asks for (Toss: 6 to 64 letters, digits, `-`, `_` and `=`). Others need no asking.
    fn accepts(&self, reference: &PgReference) -> bool;

    /// What became of a payment. Asking changes nothing.
    ///
    /// # Errors
    /// [`ProviderError`]: nothing is known then.
    async fn query(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError>;

    /// Gives money back. Safe to repeat with the same key, which the gateway remembers for a time only: ask before each repeat.
    ///
    /// # Errors
    /// [`ProviderError::Refused`]: it was not done, for certain. Any other error: it may have been done.
    async fn refund(&self, order: &RefundOrder) -> Result<PgRefund, ProviderError>;

    /// Ends a payment that nobody has paid, so that it cannot be paid later. Gateways without such a call answer `Ok` with what a query says;
    /// read the state before an order is failed.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn close(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError>;

    /// One page of the gateway's transaction list, for the audit.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn transactions(&self, from: Timestamp, to: Timestamp, cursor: Option<&str>) -> Result<TransactionPage, ProviderError>;

    /// Reads a callback. It is a hint at most: it says which payment to look at, never what became of it.
    ///
    /// # Errors
    /// [`CallbackError`].
    fn read_callback(&self, callback: &Callback<'_>) -> Result<CallbackHint, CallbackError>;
}

/// A refund to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundOrder {
    /// Of which payment.
    pub reference: PgReference,
    /// The gateway's id of the payment, from the last answer, where it has one.
    pub transaction_id: Option<String>,
    /// How much: all that the gateway still holds.
    pub amount: Money,
    /// The idempotency key: refund id and number of the attempt.
    pub key: String,
    /// For the gateway's records, without personal data.
    pub reason: String,
}

/// A page of transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionPage {
    /// In the gateway's order.
    pub transactions: Vec<PgTransaction>,
    /// Where the next page begins; None at the end.
    pub next: Option<String>,
}

/// A callback as it arrived.
#[derive(Debug, Clone, Copy)]
pub struct Callback<'a> {
    /// Header names in small letters, with their values.
    pub headers: &'a [(String, String)],
    /// The body's bytes: signatures are computed over them.
    pub body: &'a [u8],
    /// When it arrived; signatures carry a time and expire.
    pub received_at: Timestamp,
}

/// What a callback hints at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallbackHint {
    /// The payment to look at.
    pub reference: PgReference,
    /// The provider's id of the event, or a digest of the body where it has none: repeats are one event.
    pub event_id: String,
    /// Whether a signature or a secret proved who sent it.
    pub authenticated: bool,
    /// A secret that has to be compared with the payment's (Toss' virtual accounts), where there is one.
    pub secret: Option<domain::secret::Secret>,
}

/// Why a callback is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallbackError {
    /// No signature, a wrong one, or one that is too old.
    #[error("the callback's signature is {0}")]
    Signature(&'static str),
    /// Not the provider's format.
    #[error("the callback cannot be read: {0}")]
    Malformed(String),
    /// An event that is about no payment of ours; answered 2xx and dropped.
    #[error("the callback is about nothing that is looked after here")]
    Irrelevant,
}

/// What follows from a definite refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Advice {
    /// It may be done later, such as when the bank opens: ask first, then try again.
    Later,
    /// What was asked seems to have been done already, or somebody else moved the payment: ask what became of it.
    Ask,
    /// It will not be done however often it is tried: a person has to look.
    Manual,
}

/// Why a gateway gave no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// No connection, a time-out, 5xx, or a reply that broke off: try again. What was asked may have been done.
    #[error("no answer: {0}")]
    Unavailable(String),
    /// Too many calls: the whole provider pauses.
    #[error("too many calls, come back in {retry_after:?}")]
    Throttled {
        /// How long to wait at least, if it was said.
        retry_after: Option<Duration>,
    },
    /// A definite no, with the gateway's code: what was asked was not done.
    #[error("refused with {code}: {message}")]
    Refused {
        /// The gateway's code.
        code: String,
        /// Its words, without secrets.
        message: String,
        /// What to do about it, from the adapter's table of codes.
        advice: Advice,
    },
    /// An answer that is not in the gateway's format: unknown, and an operator should know.
    #[error("the answer cannot be read: {0}")]
    Malformed(String),
    /// Our key or account is refused: nothing will work until an operator changes a setting.
    #[error("the account is refused with {code}: check the provider's key")]
    Account {
        /// The gateway's code.
        code: String,
    },
}
