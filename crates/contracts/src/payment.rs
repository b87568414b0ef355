//! What became of orders and their payments: `payment_outcome`.

use domain::{
    clock::Timestamp,
    payment::{Money, OrderId, PaymentId, RefundId},
};
use prost::Message;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    encoded::Encoded,
    envelope::{Envelope, seal_bytes},
    names,
    payment_json::Json,
    payment_proto as wire,
    record::RawRecord,
    time,
};

/// An outcome, as settle and the refund driver tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PaymentOutcome {
    /// The order is paid and its stock is taken.
    OrderCompleted {
        /// The order.
        order: OrderId,
        /// What paid it.
        payment: PaymentId,
        /// How much.
        amount: Money,
        /// When it was settled.
        at: Timestamp,
    },
    /// The order will never be completed.
    OrderFailed {
        /// The order.
        order: OrderId,
        /// Why, a stable code.
        reason: String,
        /// When it was decided.
        at: Timestamp,
    },
    /// Money is back at the payer.
    PaymentRefunded {
        /// The order.
        order: OrderId,
        /// The payment.
        payment: PaymentId,
        /// The refund; none where it was made at the gateway.
        refund: Option<RefundId>,
        /// How much.
        amount: Money,
        /// Why, a stable code.
        reason: String,
        /// When the confirmation was recorded.
        at: Timestamp,
    },
    /// A person has to look at it.
    OrderNeedsAttention {
        /// The order.
        order: OrderId,
        /// The payment it is about, if it is about one.
        payment: Option<PaymentId>,
        /// Why, a stable code.
        reason: String,
        /// Since when.
        at: Timestamp,
    },
}

impl PaymentOutcome {
    /// The order it is about.
    #[must_use]
    pub const fn order(&self) -> &OrderId {
        match self {
            Self::OrderCompleted { order, .. }
            | Self::OrderFailed { order, .. }
            | Self::PaymentRefunded { order, .. }
            | Self::OrderNeedsAttention { order, .. } => order,
        }
    }

    /// The full name of its protobuf message.
    #[must_use]
    pub const fn event_type(&self) -> &'static str {
        match self {
            Self::OrderCompleted { .. } => names::TYPE_ORDER_COMPLETED,
            Self::OrderFailed { .. } => names::TYPE_ORDER_FAILED,
            Self::PaymentRefunded { .. } => names::TYPE_PAYMENT_REFUNDED,
            Self::OrderNeedsAttention { .. } => names::TYPE_ORDER_NEEDS_ATTENTION,
        }
    }

    /// The message in protobuf's JSON form, as an outbox keeps it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        // A struct of texts cannot fail to serialize.
        serde_json::to_value(Json::of(self)).unwrap_or_default()
    }

    /// Reads what [`to_json`](Self::to_json) wrote; fields that are not known are passed over.
    ///
    /// # Errors
    /// A type that is not known, or a value that breaks the contract.
    pub fn from_json(event_type: &str, payload: &Value) -> Result<Self, PaymentEventError> {
        let json: Json = serde_json::from_value(payload.clone()).map_err(|error| PaymentEventError(error.to_string()))?;
        json.read(event_type)
    }

    /// The message's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let order_id = self.order().as_str().to_owned();
        match self {
            Self::OrderCompleted { payment, amount, at, .. } => {
                let message = wire::OrderCompleted {
                    order_id,
                    payment_id: payment.as_str().to_owned(),
                    amount: amount.amount,
                    currency: amount.currency.as_str().to_owned(),
                    completed_at: Some(time::to_proto(*at)),
                };
                message.encode_to_vec()
            }
            Self::OrderFailed { reason, at, .. } => {
                let message = wire::OrderFailed { order_id, reason: reason.clone(), failed_at: Some(time::to_proto(*at)) };
                message.encode_to_vec()
            }
            Self::PaymentRefunded { payment, refund, amount, reason, at, .. } => {
                let message = wire::PaymentRefunded {
                    order_id,
                    payment_id: payment.as_str().to_owned(),
                    refund_id: refund.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
                    amount: amount.amount,
                    currency: amount.currency.as_str().to_owned(),
                    reason: reason.clone(),
                    refunded_at: Some(time::to_proto(*at)),
                };
                message.encode_to_vec()
            }
            Self::OrderNeedsAttention { payment, reason, at, .. } => {
                let message = wire::OrderNeedsAttention {
                    order_id,
                    payment_id: payment.as_ref().map(|id| id.as_str().to_owned()).unwrap_or_default(),
                    reason: reason.clone(),
                    since: Some(time::to_proto(*at)),
                };
                message.encode_to_vec()
            }
        }
    }
}

/// An outcome as a record: with the same id it is the same event each time it is told.
#[must_use]
pub fn encode_payment_outcome(event_id: Uuid, outcome: &PaymentOutcome, envelope: &Envelope<'_>) -> Encoded {
    let key = outcome.order().as_str();
    seal_bytes(outcome.event_type(), &event_id.to_string(), key, &outcome.to_bytes(), envelope, None)
}

/// An outcome as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent {
    /// The event's id, by which repeats are known.
    pub event_id: Uuid,
    /// The outcome.
    pub outcome: PaymentOutcome,
}

/// Why a record of `payment_outcome` could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PaymentEventError(pub(crate) String);

/// Reads a record of `payment_outcome`.
///
/// # Errors
/// A type that is not known, or a value that breaks the contract.
pub fn decode_payment_outcome(raw: &RawRecord<'_>) -> Result<PaymentEvent, PaymentEventError> {
    let event_id = raw.headers.text(names::CE_ID).and_then(|id| Uuid::parse_str(id).ok());
    let event_id = event_id.ok_or_else(|| PaymentEventError("ce_id is no UUID".to_owned()))?;
    let event_type = raw.headers.text(names::CE_TYPE).unwrap_or_default();
    Ok(PaymentEvent { event_id, outcome: read(event_type, raw.value.unwrap_or_default())? })
}

fn read(event_type: &str, value: &[u8]) -> Result<PaymentOutcome, PaymentEventError> {
    match event_type {
        names::TYPE_ORDER_COMPLETED => {
            let message: wire::OrderCompleted = message(value)?;
            Ok(PaymentOutcome::OrderCompleted {
                order: id(&message.order_id)?,
                payment: id(&message.payment_id)?,
                amount: money(message.amount, &message.currency)?,
                at: moment(message.completed_at.as_ref())?,
            })
        }
        names::TYPE_ORDER_FAILED => {
            let message: wire::OrderFailed = message(value)?;
            let (order, at) = (id(&message.order_id)?, moment(message.failed_at.as_ref())?);
            Ok(PaymentOutcome::OrderFailed { order, reason: message.reason, at })
        }
        names::TYPE_PAYMENT_REFUNDED => {
            let message: wire::PaymentRefunded = message(value)?;
            Ok(PaymentOutcome::PaymentRefunded {
                order: id(&message.order_id)?,
                payment: id(&message.payment_id)?,
                refund: optional_id(&message.refund_id)?,
                amount: money(message.amount, &message.currency)?,
                reason: message.reason,
                at: moment(message.refunded_at.as_ref())?,
            })
        }
        names::TYPE_ORDER_NEEDS_ATTENTION => {
            let message: wire::OrderNeedsAttention = message(value)?;
            Ok(PaymentOutcome::OrderNeedsAttention {
                order: id(&message.order_id)?,
                payment: optional_id(&message.payment_id)?,
                reason: message.reason,
                at: moment(message.since.as_ref())?,
            })
        }
        _ => Err(PaymentEventError("ce_type is no outcome of a payment".to_owned())),
    }
}

fn message<M: Message + Default>(value: &[u8]) -> Result<M, PaymentEventError> {
    M::decode(value).map_err(|error| PaymentEventError(error.to_string()))
}

pub(crate) fn id<T: std::str::FromStr<Err = domain::ids::IdError>>(text: &str) -> Result<T, PaymentEventError> {
    text.parse().map_err(|error| PaymentEventError(format!("an id {error}")))
}

pub(crate) fn optional_id<T: std::str::FromStr<Err = domain::ids::IdError>>(text: &str) -> Result<Option<T>, PaymentEventError> {
    if text.is_empty() { Ok(None) } else { id(text).map(Some) }
}

pub(crate) fn money(amount: i64, currency: &str) -> Result<Money, PaymentEventError> {
    let currency = currency.parse().map_err(|error| PaymentEventError(format!("the currency {error}")))?;
    Ok(Money::new(amount, currency))
}

fn moment(at: Option<&prost_types::Timestamp>) -> Result<Timestamp, PaymentEventError> {
    at.map(time::from_proto).transpose().map_err(PaymentEventError).map(Option::unwrap_or_default)
}
