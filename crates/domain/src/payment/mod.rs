//! Orders, their payments, and what a payment gateway (PG) says about them.

mod answer;
mod ids;
mod money;

pub use answer::{PgAnswer, PgPayment, PgRefund, PgRefundState, PgState, PgTransaction, PgTransactionKind};
pub use ids::{OrderId, PaymentId, PgReference, ProductId, ProviderName, RefundId};
pub use money::{Currency, CurrencyError, Money, MoneyError};
