//! Stripe's messages, and what they mean for us. Amounts are whole minor units.

use std::collections::BTreeMap;

use domain::{
    clock::Timestamp,
    payment::{Currency, Money, PgPayment, PgReference, PgRefund, PgRefundState, PgState, PgTransaction},
};
use serde::Deserialize;

use super::table::{BalanceKind, StripeChargeStatus, StripeIntentStatus, StripeRefundStatus};
use crate::{
    port::ProviderError,
    tables::{Moved, paid_state},
};

/// Our key in a refund's metadata: Stripe does not show the idempotency key.
pub const KEY_MARK: &str = "trueup_key";

/// Something that comes whole when it is asked for so, and as its id otherwise.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Expandable<T> {
    Id(String),
    Whole(Box<T>),
}

#[derive(Deserialize)]
pub struct List<T> {
    pub data: Vec<T>,
    pub has_more: bool,
}

#[derive(Deserialize)]
pub struct Intent {
    pub id: String,
    status: String,
    currency: Currency,
    latest_charge: Option<Expandable<Charge>>,
    #[serde(default)]
    next_action: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
pub struct Charge {
    pub id: String,
    amount_captured: i64,
    amount_refunded: i64,
    captured: bool,
    created: i64,
    currency: Currency,
    disputed: bool,
    status: String,
    refunds: Option<List<Refund>>,
    #[serde(default)]
    payment_method_details: Option<MethodDetails>,
}

#[derive(Deserialize)]
struct MethodDetails {
    card: Option<CardDetails>,
}

#[derive(Deserialize)]
struct CardDetails {
    capture_before: Option<i64>,
}

#[derive(Deserialize)]
pub struct Refund {
    pub id: String,
    amount: i64,
    created: i64,
    currency: Currency,
    status: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

impl Refund {
    pub fn into_domain(self) -> PgRefund {
        PgRefund {
            id: self.id,
            key: self.metadata.and_then(|mut marks| marks.remove(KEY_MARK)),
            amount: Money::new(self.amount, self.currency),
            at: Some(seconds(self.created)),
            // Without a status it may still fail.
            state: self.status.as_deref().map_or(PgRefundState::Pending, |text| StripeRefundStatus::parse(text).state()),
        }
    }
}

/// How long an authorisation that names no end may be captured, in milliseconds: seven days, as Stripe documents for cards.
const AUTHORISED_MS: i64 = 7 * 24 * 3_600 * 1_000;

impl Intent {
    /// Until when money may arrive: a voucher's or a code's end, which stands in the details of what the payer has to do next, or that of an
    /// authorisation, which somebody else captures.
    fn expires_at(&self, status: &StripeIntentStatus) -> Option<Timestamp> {
        if *status != StripeIntentStatus::RequiresCapture {
            let actions = self.next_action.as_ref()?.values();
            let end = |action: &serde_json::Value| action.get("expires_at").or_else(|| action.get("expires_after"))?.as_i64();
            return actions.filter_map(end).max().map(seconds);
        }
        let Some(Expandable::Whole(charge)) = &self.latest_charge else { return None };
        let named = charge.payment_method_details.as_ref().and_then(|details| details.card.as_ref()?.capture_before);
        Some(named.map_or_else(|| seconds(charge.created).saturating_add_ms(AUTHORISED_MS), seconds))
    }

    /// The charge whose refunds did not come with it, or not all of them: they have to be listed.
    pub fn charge_with_unseen_refunds(&self) -> Option<&str> {
        match self.latest_charge.as_ref()? {
            Expandable::Whole(charge) if charge.refunds.as_ref().is_none_or(|refunds| refunds.has_more) => {
                let has_none = charge.refunds.is_none() && charge.amount_refunded == 0 && !charge.captured;
                (!has_none).then_some(charge.id.as_str())
            }
            Expandable::Whole(_) | Expandable::Id(_) => None,
        }
    }

    /// `listed` are the refunds where they had to be listed.
    pub fn into_domain(self, asked: &PgReference, listed: Option<Vec<Refund>>) -> Result<PgPayment, ProviderError> {
        if self.id != asked.as_str() {
            return Err(malformed("the answer is about another payment"));
        }
        let intent = StripeIntentStatus::parse(&self.status);
        let mut answer = PgPayment {
            state: intent.state(),
            status: crate::tables::clean(&self.status, 64),
            transaction_id: None,
            paid_at: None,
            captured: Money::zero(self.currency),
            refunded: Money::zero(self.currency),
            refunds: Vec::new(),
            refund_needs_payer: false,
            expires_at: self.expires_at(&intent),
            contradictory: false,
            callback_secret: None,
        };
        let charge = match self.latest_charge {
            None if answer.state == PgState::Paid => return Err(malformed("the intent has succeeded without a charge")),
            Some(Expandable::Id(id)) => return Err(malformed(&format!("{id} was asked for and did not come"))),
            None => return Ok(answer),
            Some(Expandable::Whole(charge)) => *charge,
        };
        answer.transaction_id = Some(charge.id);
        let status = StripeChargeStatus::parse(&charge.status);
        if status == StripeChargeStatus::Succeeded && charge.captured {
            answer.captured = Money::new(charge.amount_captured, charge.currency);
            answer.paid_at = Some(seconds(charge.created));
        }
        // An authorisation that ends without being captured may be told as a refund: of what was never taken, nothing is given back.
        let is_taken = answer.captured.amount > 0;
        let refunds = listed.or_else(|| charge.refunds.map(|list| list.data)).filter(|_| is_taken).unwrap_or_default();
        answer.refunds = refunds.into_iter().map(Refund::into_domain).collect();
        answer.refunded = Money::zero(answer.captured.currency);
        for refund in answer.refunds.iter().filter(|refund| refund.state == PgRefundState::Done) {
            answer.refunded = answer.refunded.plus(refund.amount).map_err(|_| malformed("refunds do not add up"))?;
        }
        if answer.state == PgState::Paid {
            answer.state = match status.state() {
                PgState::Paid if charge.disputed => PgState::Manual,
                PgState::Paid => {
                    let left = charge.amount_captured.saturating_sub(charge.amount_refunded);
                    paid_state(charge.amount_captured, left)
                }
                other => other,
            };
            if charge.disputed {
                answer.status.push_str(", disputed");
            }
        }
        Ok(answer)
    }
}

#[derive(Deserialize)]
pub struct BalanceTransaction {
    pub id: String,
    r#type: String,
    created: i64,
    source: Option<Expandable<Source>>,
}

/// What a balance transaction came from; its own amount may be in the currency of the account.
#[derive(Deserialize)]
struct Source {
    id: String,
    #[serde(default)]
    amount: i64,
    /// Of a charge, whose amount is what was authorised.
    amount_captured: Option<i64>,
    currency: Option<Currency>,
    payment_intent: Option<String>,
}

impl BalanceTransaction {
    /// None if no payer's money moved.
    pub fn into_domain(self) -> Result<Option<PgTransaction>, ProviderError> {
        let kind = BalanceKind::parse(&self.r#type);
        let kind = match kind.moved() {
            Moved::Money(kind) => kind,
            Moved::Nothing => return Ok(None),
            Moved::Unknown => return Err(malformed("a balance transaction's type is in no table")),
        };
        let source = match self.source {
            Some(Expandable::Whole(source)) => *source,
            Some(Expandable::Id(id)) => return Err(malformed(&format!("{id} was asked for and did not come"))),
            None => return Err(malformed("a balance transaction has no source")),
        };
        let currency = source.currency.ok_or_else(|| malformed("the source of a balance transaction has no currency"))?;
        // A charge without an intent is none of ours: the audit shows it under its own id.
        let reference = source.payment_intent.unwrap_or(source.id);
        Ok(Some(PgTransaction {
            id: self.id,
            reference: PgReference::new(&reference).map_err(|_| malformed("the id of a payment"))?,
            kind,
            amount: Money::new(source.amount_captured.unwrap_or(source.amount).saturating_abs(), currency),
            at: seconds(self.created),
        }))
    }
}

#[derive(Deserialize)]
pub struct Failure {
    pub error: Fault,
}

#[derive(Deserialize)]
pub struct Fault {
    #[serde(default)]
    pub r#type: String,
    #[serde(default)]
    pub code: String,
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize)]
pub struct Event {
    pub id: String,
    pub r#type: String,
    pub data: EventData,
}

#[derive(Deserialize)]
pub struct EventData {
    pub object: EventObject,
}

#[derive(Deserialize)]
pub struct EventObject {
    #[serde(default)]
    pub object: String,
    pub id: Option<String>,
    pub payment_intent: Option<String>,
}

/// Stripe's times are whole seconds.
const fn seconds(unix: i64) -> Timestamp {
    Timestamp::from_unix_ms(unix.saturating_mul(1_000))
}

fn malformed(what: &str) -> ProviderError {
    ProviderError::Malformed(what.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn read(status: &str, charge: Value, next_action: Value) -> PgPayment {
        let intent =
            json!({"id": "pi_1", "status": status, "currency": "usd", "latest_charge": charge, "next_action": next_action});
        let intent: Intent = serde_json::from_value(intent).unwrap();
        intent.into_domain(&PgReference::new("pi_1").unwrap(), None).unwrap()
    }

    /// Stripe calls it a refund when an authorisation ends without being captured.
    #[test]
    fn what_was_never_taken_is_not_given_back() {
        let released = json!({"id": "re_1", "amount": 1_000, "created": 2_000, "currency": "usd", "status": "succeeded", "metadata": {},
            "reason": "expired_uncaptured_charge"});
        let charge = json!({"id": "ch_1", "amount_captured": 0, "amount_refunded": 1_000, "captured": false, "created": 1_000,
            "currency": "usd", "disputed": false, "status": "succeeded", "refunds": {"data": [released], "has_more": false}});
        let payment = read("canceled", charge, Value::Null);
        assert_eq!(payment.state, PgState::Failed);
        assert_eq!(domain::payment::amounts(&payment), Some(Money::zero("USD".parse().unwrap())), "{payment:?}");
        assert!(payment.refunds.is_empty(), "{payment:?}");
    }

    #[test]
    fn a_lists_line_of_a_charge_has_what_was_captured_of_it() {
        let line = |kind: &str, source: Value| {
            let line = json!({"id": "txn_1", "type": kind, "created": 1_000, "source": source});
            let line: BalanceTransaction = serde_json::from_value(line).unwrap();
            line.into_domain().unwrap().unwrap().amount.amount
        };
        let charge = json!({"id": "ch_1", "amount": 1_000, "amount_captured": 700, "currency": "usd", "payment_intent": "pi_1"});
        assert_eq!(line("charge", charge), 700);
        let refund = json!({"id": "re_1", "amount": 700, "currency": "usd", "payment_intent": "pi_1"});
        assert_eq!(line("refund", refund), 700);
    }

    #[test]
    fn vouchers_and_authorisations_have_an_end_and_cards_have_none() {
        let charge = |details: Value| {
            json!({"id": "ch_1", "amount_captured": 0, "amount_refunded": 0, "captured": false, "created": 1_000, "currency": "usd",
                "disputed": false, "status": "succeeded", "refunds": null, "payment_method_details": details})
        };
        let redirect = json!({"type": "redirect_to_url", "redirect_to_url": {"url": "u"}});
        let voucher = |end: &str| json!({"type": "x", "x_display_details": {end: 9_000}});
        let before = json!({"card": {"capture_before": 5_000}});
        for (status, charge, next_action, end) in [
            ("requires_action", Value::Null, redirect, None),
            ("requires_action", Value::Null, voucher("expires_at"), Some(9_000)),
            ("requires_action", Value::Null, voucher("expires_after"), Some(9_000)),
            ("requires_payment_method", Value::Null, Value::Null, None),
            ("requires_capture", charge(before), Value::Null, Some(5_000)),
            ("requires_capture", charge(json!({"card": {}})), Value::Null, Some(1_000 + 7 * 86_400)),
            ("requires_capture", charge(Value::Null), Value::Null, Some(1_000 + 7 * 86_400)),
        ] {
            let payment = read(status, charge, next_action);
            assert_eq!((payment.state, payment.expires_at), (PgState::Open, end.map(seconds)), "{status}");
        }
    }
}
