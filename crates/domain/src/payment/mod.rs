//! Orders, their payments, and what a payment gateway (PG) says about them.

mod answer;
mod attempt;
mod ids;
mod money;
mod order;
mod words;

pub use answer::{PgAnswer, PgPayment, PgRefund, PgRefundState, PgState, PgTransaction, PgTransactionKind};
pub use attempt::{Attention, Payment, PaymentMethod, PaymentState, Refund, RefundReason, RefundState};
pub use ids::{OrderId, PaymentId, PgReference, ProductId, ProviderName, RefundId};
pub use money::{Currency, CurrencyError, Money, MoneyError};
pub use order::{Order, OrderLine, OrderState};
pub use words::UnknownWord;
