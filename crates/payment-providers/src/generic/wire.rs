//! The generic contract's messages, and what they mean for us.

use chrono::DateTime;
use domain::{
    clock::Timestamp,
    payment::{Currency, Money, PgPayment, PgReference, PgRefund, PgTransaction, PgTransactionKind},
};
use serde::{Deserialize, Serialize};

use super::table::{GenericRefundStatus, GenericStatus};
use crate::port::ProviderError;

#[derive(Deserialize)]
pub struct Payment {
    pub reference: String,
    status: String,
    currency: Currency,
    captured: i64,
    refunded: i64,
    transaction_id: Option<String>,
    paid_at: Option<String>,
    #[serde(default)]
    refund_needs_payer: bool,
    expires_at: Option<String>,
    #[serde(default)]
    refunds: Vec<Refund>,
}

impl Payment {
    pub fn into_domain(self, asked: &PgReference) -> Result<PgPayment, ProviderError> {
        if self.reference != asked.as_str() {
            return Err(ProviderError::Malformed("the answer is about another payment".to_owned()));
        }
        Ok(PgPayment {
            state: GenericStatus::parse(&self.status).state(),
            status: crate::tables::clean(&self.status, 64),
            transaction_id: self.transaction_id,
            paid_at: self.paid_at.as_deref().map(moment).transpose()?,
            captured: Money::new(self.captured, self.currency),
            refunded: Money::new(self.refunded, self.currency),
            refunds: self.refunds.into_iter().map(Refund::into_domain).collect::<Result<_, _>>()?,
            refund_needs_payer: self.refund_needs_payer,
            expires_at: self.expires_at.as_deref().map(moment).transpose()?,
            contradictory: false,
            callback_secret: None,
        })
    }
}

#[derive(Deserialize)]
pub struct Refund {
    id: String,
    key: Option<String>,
    amount: i64,
    currency: Currency,
    status: String,
    created_at: Option<String>,
}

impl Refund {
    pub fn into_domain(self) -> Result<PgRefund, ProviderError> {
        Ok(PgRefund {
            id: self.id,
            key: self.key,
            amount: Money::new(self.amount, self.currency),
            at: self.created_at.as_deref().map(moment).transpose()?,
            state: GenericRefundStatus::parse(&self.status).state(),
        })
    }
}

#[derive(Serialize)]
pub struct RefundRequest<'a> {
    pub amount: i64,
    pub currency: Currency,
    pub reason: &'a str,
}

#[derive(Deserialize)]
pub struct Page {
    pub transactions: Vec<Line>,
    pub next: Option<String>,
}

#[derive(Deserialize)]
pub struct Line {
    id: String,
    reference: String,
    r#type: Kind,
    amount: i64,
    currency: Currency,
    at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Payment,
    Refund,
    RefundReversed,
}

impl Line {
    pub fn into_domain(self) -> Result<PgTransaction, ProviderError> {
        let reference =
            PgReference::new(&self.reference).map_err(|error| ProviderError::Malformed(format!("a reference {error}")))?;
        Ok(PgTransaction {
            id: self.id,
            reference,
            kind: match self.r#type {
                Kind::Payment => PgTransactionKind::Payment,
                Kind::Refund => PgTransactionKind::Refund,
                Kind::RefundReversed => PgTransactionKind::RefundReversed,
            },
            amount: Money::new(self.amount.saturating_abs(), self.currency),
            at: moment(&self.at)?,
        })
    }
}

#[derive(Deserialize)]
pub struct Failure {
    pub code: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
pub struct Event {
    pub event_id: String,
    pub r#type: String,
    pub reference: String,
}

fn moment(text: &str) -> Result<Timestamp, ProviderError> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| Timestamp::from_unix_ms(at.timestamp_millis()))
        .map_err(|_| ProviderError::Malformed("a time is not RFC 3339".to_owned()))
}
