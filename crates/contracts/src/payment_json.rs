//! Outcomes of payments in protobuf's JSON form: names in camelCase, 64-bit integers as texts, times in RFC 3339.
//!
//! An outbox keeps them like this because people read outboxes, too.

use chrono::{DateTime, SecondsFormat};
use domain::{
    clock::Timestamp,
    payment::{Money, OrderId},
};
use serde::{Deserialize, Serialize};

use crate::{
    names,
    payment::{PaymentEventError, PaymentOutcome, id, money, optional_id},
};

/// All fields of all outcomes; each message has some of them.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Json {
    #[serde(skip_serializing_if = "String::is_empty")]
    order_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    payment_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    refund_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<Integer>,
    #[serde(skip_serializing_if = "String::is_empty")]
    currency: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refunded_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
}

/// Protobuf's JSON writes 64-bit integers as texts, and its readers take both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Integer {
    Text(String),
    Number(i64),
}

impl Json {
    pub(crate) fn of(outcome: &PaymentOutcome) -> Self {
        let order_id = outcome.order().as_str().to_owned();
        let amount_of = |amount: &Money| (Some(Integer::Text(amount.amount.to_string())), amount.currency.as_str().to_owned());
        match outcome {
            PaymentOutcome::OrderCompleted { payment, amount, at, .. } => {
                let (amount, currency) = amount_of(amount);
                let payment_id = payment.as_str().to_owned();
                Self { order_id, payment_id, amount, currency, completed_at: Some(text(*at)), ..Self::default() }
            }
            PaymentOutcome::OrderFailed { reason, at, .. } => {
                Self { order_id, reason: reason.clone(), failed_at: Some(text(*at)), ..Self::default() }
            }
            PaymentOutcome::PaymentRefunded { payment, refund, amount, reason, at, .. } => {
                let (amount, currency) = amount_of(amount);
                let refund_id = refund.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
                Self {
                    order_id,
                    payment_id: payment.as_str().to_owned(),
                    refund_id,
                    amount,
                    currency,
                    reason: reason.clone(),
                    refunded_at: Some(text(*at)),
                    ..Self::default()
                }
            }
            PaymentOutcome::OrderNeedsAttention { payment, reason, at, .. } => {
                let payment_id = payment.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default();
                Self { order_id, payment_id, reason: reason.clone(), since: Some(text(*at)), ..Self::default() }
            }
        }
    }

    pub(crate) fn read(self, event_type: &str) -> Result<PaymentOutcome, PaymentEventError> {
        let order: OrderId = id(&self.order_id)?;
        match event_type {
            names::TYPE_ORDER_COMPLETED => Ok(PaymentOutcome::OrderCompleted {
                order,
                payment: id(&self.payment_id)?,
                amount: self.money()?,
                at: moment(self.completed_at.as_deref())?,
            }),
            names::TYPE_ORDER_FAILED => {
                let at = moment(self.failed_at.as_deref())?;
                Ok(PaymentOutcome::OrderFailed { order, reason: self.reason, at })
            }
            names::TYPE_PAYMENT_REFUNDED => Ok(PaymentOutcome::PaymentRefunded {
                order,
                payment: id(&self.payment_id)?,
                refund: optional_id(&self.refund_id)?,
                amount: self.money()?,
                at: moment(self.refunded_at.as_deref())?,
                reason: self.reason,
            }),
            names::TYPE_ORDER_NEEDS_ATTENTION => Ok(PaymentOutcome::OrderNeedsAttention {
                order,
                payment: optional_id(&self.payment_id)?,
                at: moment(self.since.as_deref())?,
                reason: self.reason,
            }),
            _ => Err(PaymentEventError(format!("`{event_type}` is no outcome of a payment"))),
        }
    }

    fn money(&self) -> Result<Money, PaymentEventError> {
        let amount = match &self.amount {
            Some(Integer::Number(number)) => Some(*number),
            Some(Integer::Text(text)) => text.parse().ok(),
            None => None,
        };
        money(amount.ok_or_else(|| PaymentEventError("the amount is missing or no integer".to_owned()))?, &self.currency)
    }
}

fn text(at: Timestamp) -> String {
    at.to_datetime().to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn moment(text: Option<&str>) -> Result<Timestamp, PaymentEventError> {
    let text = text.ok_or_else(|| PaymentEventError("the time is missing".to_owned()))?;
    let at = DateTime::parse_from_rfc3339(text).map_err(|error| PaymentEventError(format!("the time `{text}`: {error}")))?;
    Ok(Timestamp::from(at.to_utc()))
}
