//! Orders as an order service tells them: `order_placed`.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    clock::Timestamp,
    payment::{Currency, Money, OrderId, PaymentId, PgReference, ProductId, ProviderName},
    secret::Secret,
};
use prost::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    encoded::Encoded,
    envelope::{Envelope, seal},
    limits::{DEPOSIT_SECRET_CHARS_MAX, METHOD_CHARS_MAX, ORDER_BYTES_MAX, ORDER_LINES_MAX, ORDER_PAYMENTS_MAX, QUANTITY_MAX},
    names,
    order_proto::{OrderLine, OrderPlaced as Wire, PaymentAttempt as WireAttempt},
    record::RawRecord,
    relay::{Cause, shortened},
    time,
};

/// The name space of event ids. It must never change: an order's event keeps its id.
const EVENT_NAMESPACE: Uuid = Uuid::from_u128(0x6b1d_92c4_50ae_5f1e_8c37_e0f4_91d2_7ba5);

/// An order whose payments are to be looked after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPlaced {
    /// The order.
    pub order: OrderId,
    /// What it costs in all.
    pub amount: Money,
    /// How many of each product; equal products are summed.
    pub lines: BTreeMap<ProductId, i64>,
    /// The attempts to pay it, in their order.
    pub payments: Vec<PaymentAttempt>,
    /// When it was placed: never later than the broker's append time.
    pub placed_at: Timestamp,
}

/// An attempt to pay an order at a gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentAttempt {
    /// The payment.
    pub payment: PaymentId,
    /// The merchant account.
    pub provider: ProviderName,
    /// What the gateway knows it by.
    pub reference: PgReference,
    /// How it is paid; empty where it is not known.
    pub method: String,
    /// What deposit callbacks have to carry, where there is such a thing.
    pub deposit_secret: Option<Secret>,
}

impl OrderPlaced {
    /// SHA-256 over everything that the order service said but the time: two events of an order with the same digest say the same.
    #[must_use]
    pub fn content_digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        // Each part goes behind its length, so that no byte can move from one part to the next.
        let mut feed = |part: &[u8]| {
            digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        };
        feed(self.order.as_str().as_bytes());
        feed(&self.amount.amount.to_be_bytes());
        feed(self.amount.currency.as_str().as_bytes());
        feed(&u64::try_from(self.lines.len()).unwrap_or(u64::MAX).to_be_bytes());
        for (product, quantity) in &self.lines {
            feed(product.as_str().as_bytes());
            feed(&quantity.to_be_bytes());
        }
        // The order of the attempts means nothing.
        let attempts: BTreeMap<_, _> = self.payments.iter().map(|attempt| (&attempt.payment, attempt)).collect();
        for attempt in attempts.values() {
            feed(attempt.payment.as_str().as_bytes());
            feed(attempt.provider.as_str().as_bytes());
            feed(attempt.reference.as_str().as_bytes());
            feed(attempt.method.as_bytes());
            feed(attempt.deposit_secret.as_ref().map_or("", Secret::expose).as_bytes());
        }
        digest.finalize().into()
    }
}

/// A record of `order_placed` that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableOrder {
    /// Why, as a stable code.
    pub cause: Cause,
    /// Why, in words; bounded and without control characters.
    pub detail: String,
    /// The order that it names, where that is a valid id.
    pub order: Option<OrderId>,
}

impl UnusableOrder {
    /// A record that cannot be used for `cause`; `detail` is cut to what a header holds.
    pub fn new(cause: Cause, detail: impl AsRef<str>, order: Option<OrderId>) -> Self {
        Self { cause, detail: shortened(detail.as_ref()), order }
    }
}

/// An order as an event. Its id follows from the order's, so that a repeat is the same event.
#[must_use]
pub fn encode_order_placed(order: &OrderPlaced, envelope: &Envelope<'_>) -> Encoded {
    let message = Wire {
        order_id: order.order.as_str().to_owned(),
        amount: order.amount.amount,
        currency: order.amount.currency.as_str().to_owned(),
        lines: order
            .lines
            .iter()
            .map(|(product, quantity)| OrderLine { product_id: product.as_str().to_owned(), quantity: *quantity })
            .collect(),
        payments: order.payments.iter().map(attempt_to_proto).collect(),
        placed_at: Some(time::to_proto(order.placed_at)),
    };
    let id = Uuid::new_v5(&EVENT_NAMESPACE, order.order.as_str().as_bytes()).to_string();
    seal(names::TYPE_ORDER_PLACED, &id, order.order.as_str(), &message, envelope, None)
}

fn attempt_to_proto(attempt: &PaymentAttempt) -> WireAttempt {
    WireAttempt {
        payment_id: attempt.payment.as_str().to_owned(),
        provider: attempt.provider.as_str().to_owned(),
        reference: attempt.reference.as_str().to_owned(),
        method: attempt.method.clone(),
        deposit_secret: attempt.deposit_secret.as_ref().map(|secret| secret.expose().to_owned()).unwrap_or_default(),
    }
}

/// Reads a record of `order_placed`. Total: any bytes give an order or a cause, and never a panic.
///
/// # Errors
/// [`UnusableOrder`], for the dead letter topic.
pub fn decode_order_placed(raw: &RawRecord<'_>) -> Result<OrderPlaced, UnusableOrder> {
    let value = raw.value.unwrap_or_default();
    let of_key = || OrderId::new(std::str::from_utf8(raw.key?).ok()?).ok();
    match raw.headers.get(names::CE_TYPE) {
        Some(kind) if kind == names::TYPE_ORDER_PLACED.as_bytes() => {}
        Some(kind) => {
            let detail = format!("no message `{}` is known in this log", String::from_utf8_lossy(kind));
            return Err(UnusableOrder::new(Cause::UnknownType, detail, of_key()));
        }
        None => return Err(UnusableOrder::new(Cause::UnknownType, "the header ce_type is missing", of_key())),
    }
    if value.len() > ORDER_BYTES_MAX {
        let detail = format!("{} bytes; an order has at most {ORDER_BYTES_MAX}", value.len());
        return Err(UnusableOrder::new(Cause::TooLarge, detail, of_key()));
    }
    let message = Wire::decode(value).map_err(|error| UnusableOrder::new(Cause::BadProtobuf, error.to_string(), of_key()))?;
    let order = OrderId::new(&message.order_id)
        .map_err(|error| UnusableOrder::new(Cause::BadId, format!("the order's id {error}"), of_key()))?;
    // Records of one order must be in one partition, or two replicas could read them in either order.
    if raw.key != Some(message.order_id.as_bytes()) {
        return Err(UnusableOrder::new(Cause::BadId, "the key is not the order's id", Some(order)));
    }
    let appended_at = Timestamp::from_unix_ms(raw.timestamp_ms);
    checked(message, order.clone(), appended_at).map_err(|(cause, detail)| UnusableOrder::new(cause, detail, Some(order)))
}

type Fault = (Cause, String);

fn checked(message: Wire, order: OrderId, appended_at: Timestamp) -> Result<OrderPlaced, Fault> {
    let bad = |detail: String| (Cause::BadValue, detail);
    let currency: Currency =
        message.currency.parse().map_err(|error| bad(format!("the currency `{}` {error}", message.currency)))?;
    if message.amount < 1 {
        return Err(bad(format!("an amount of {} is below 1", message.amount)));
    }
    let placed_at = match &message.placed_at {
        Some(at) => time::from_proto(at).map_err(|error| bad(format!("placed_at: {error}")))?.min(appended_at),
        None => appended_at,
    };
    Ok(OrderPlaced {
        order,
        amount: Money::new(message.amount, currency),
        lines: lines(&message.lines)?,
        payments: payments(message.payments)?,
        placed_at,
    })
}

fn lines(lines: &[OrderLine]) -> Result<BTreeMap<ProductId, i64>, Fault> {
    if !(1..=ORDER_LINES_MAX).contains(&lines.len()) {
        return Err((Cause::BadValue, format!("{} lines; an order has 1 to {ORDER_LINES_MAX}", lines.len())));
    }
    let mut sums = BTreeMap::new();
    for line in lines {
        let product = ProductId::new(&line.product_id).map_err(|error| (Cause::BadId, format!("a product's id {error}")))?;
        let wrong = || (Cause::BadValue, format!("the quantity of `{product}` is outside of 1 to {QUANTITY_MAX}"));
        if line.quantity < 1 {
            return Err(wrong());
        }
        let before: i64 = sums.get(&product).copied().unwrap_or(0);
        let sum = before.checked_add(line.quantity).filter(|sum| *sum <= QUANTITY_MAX).ok_or_else(wrong)?;
        sums.insert(product, sum);
    }
    Ok(sums)
}

fn payments(attempts: Vec<WireAttempt>) -> Result<Vec<PaymentAttempt>, Fault> {
    if !(1..=ORDER_PAYMENTS_MAX).contains(&attempts.len()) {
        return Err((Cause::BadValue, format!("{} payments; an order has 1 to {ORDER_PAYMENTS_MAX}", attempts.len())));
    }
    let attempts = attempts.into_iter().map(attempt).collect::<Result<Vec<_>, _>>()?;
    let ids: BTreeSet<_> = attempts.iter().map(|attempt| &attempt.payment).collect();
    let references: BTreeSet<_> = attempts.iter().map(|attempt| (&attempt.provider, &attempt.reference)).collect();
    if ids.len() < attempts.len() || references.len() < attempts.len() {
        return Err((Cause::BadValue, "two payments have the same id or the same reference".to_owned()));
    }
    Ok(attempts)
}

fn attempt(attempt: WireAttempt) -> Result<PaymentAttempt, Fault> {
    let bad_id = |what: &str, error: domain::ids::IdError| (Cause::BadId, format!("{what} {error}"));
    let is_method = |text: &str| {
        text.len() <= METHOD_CHARS_MAX && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    if !is_method(&attempt.method) {
        let detail = format!("a method is at most {METHOD_CHARS_MAX} small letters, digits and `_`");
        return Err((Cause::BadValue, detail));
    }
    let secret = attempt.deposit_secret;
    if secret.chars().count() > DEPOSIT_SECRET_CHARS_MAX || secret.chars().any(char::is_control) {
        let detail = format!("a deposit's secret is at most {DEPOSIT_SECRET_CHARS_MAX} characters, none of control");
        return Err((Cause::BadValue, detail));
    }
    Ok(PaymentAttempt {
        payment: PaymentId::new(&attempt.payment_id).map_err(|error| bad_id("a payment's id", error))?,
        provider: ProviderName::new(&attempt.provider).map_err(|error| bad_id("a provider's name", error))?,
        reference: PgReference::new(&attempt.reference).map_err(|error| bad_id("a payment's reference", error))?,
        method: attempt.method,
        deposit_secret: (!secret.is_empty()).then(|| Secret::new(secret)),
    })
}
