//! Orders, their payments, and what a payment gateway (PG) says about them.

mod answer;
mod attempt;
mod book;
mod ids;
mod money;
mod order;
pub mod refunding;
mod schedule;
mod verdict;
mod words;

pub use answer::{PgAnswer, PgPayment, PgRefund, PgRefundState, PgState, PgTransaction, PgTransactionKind};
pub use attempt::{Attention, Payment, PaymentMethod, PaymentState, Refund, RefundReason, RefundState};
pub use book::{Entry, EntryKind, entries_missing};
pub use ids::{OrderId, PaymentId, PgReference, ProductId, ProviderName, RefundId};
pub use money::{Currency, CurrencyError, Money, MoneyError};
pub use order::{Order, OrderLine, OrderState};
pub use schedule::{Policy, Schedule};
pub use verdict::{Case, FailReason, Judgement, Stock, Verdict, amounts, expiry, judge, swept_until};
pub use words::UnknownWord;
