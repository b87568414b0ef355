//! Toss Payments' messages, and what they mean for us.

use chrono::{DateTime, FixedOffset};
use domain::{
    clock::Timestamp,
    payment::{Currency, Money, PgPayment, PgReference, PgRefund, PgRefundState, PgTransaction},
    secret::Secret,
};
use serde::{Deserialize, Serialize};
use serde_json::Number;

use super::table::{TossCancelStatus, TossStatus};
use crate::{port::ProviderError, tables::Moved};

/// Toss speaks Korean time: nine hours ahead of UTC, in seconds.
const KST_SECONDS: i32 = 9 * 3_600;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    payment_key: String,
    order_id: String,
    status: String,
    currency: Currency,
    total_amount: Number,
    balance_amount: Number,
    approved_at: Option<String>,
    cancels: Option<Vec<Cancel>>,
    secret: Option<Secret>,
    virtual_account: Option<VirtualAccount>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VirtualAccount {
    due_date: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancel {
    transaction_key: Option<String>,
    cancel_reason: Option<String>,
    cancel_amount: Number,
    cancel_status: Option<String>,
    canceled_at: Option<String>,
}

impl Cancel {
    fn into_domain(self, currency: Currency) -> Result<PgRefund, ProviderError> {
        Ok(PgRefund {
            id: self.transaction_key.unwrap_or_default(),
            key: self.cancel_reason.as_deref().and_then(key_in).map(str::to_owned),
            amount: money(&self.cancel_amount, currency)?,
            at: self.canceled_at.as_deref().map(moment).transpose()?,
            // Without a status it is an answer from before there were refunds that take their time.
            state: self.cancel_status.as_deref().map_or(PgRefundState::Done, |text| TossCancelStatus::parse(text).state()),
        })
    }
}

impl Payment {
    pub fn is_waiting_for_deposit(&self) -> bool {
        TossStatus::parse(&self.status) == TossStatus::WaitingForDeposit
    }

    pub fn payment_key(&self) -> &str {
        &self.payment_key
    }

    pub fn into_domain(self, asked: &PgReference) -> Result<PgPayment, ProviderError> {
        if self.order_id != asked.as_str() {
            return Err(malformed("the answer is about another payment"));
        }
        let status = TossStatus::parse(&self.status);
        let currency = self.currency;
        let (total, balance) = (money(&self.total_amount, currency)?, money(&self.balance_amount, currency)?);
        // A virtual account that was cancelled before its deposit was never approved: nothing was taken.
        let taken = (status.is_approved() && self.approved_at.is_some()).then_some(total);
        let captured = taken.unwrap_or(Money::zero(currency));
        // A cancel of what was never taken gives nothing back.
        let refunds = self.cancels.filter(|_| captured.amount > 0).unwrap_or_default();
        let refunds: Vec<PgRefund> = refunds.into_iter().map(|cancel| cancel.into_domain(currency)).collect::<Result<_, _>>()?;
        let sum = |state| {
            let same = refunds.iter().filter(|refund| refund.state == state);
            same.fold(0_i64, |sum, refund| sum.saturating_add(refund.amount.amount))
        };
        let (done, moving) = (sum(PgRefundState::Done), sum(PgRefundState::Pending));
        if captured.amount > 0 && (balance.amount > total.amount || balance.amount < 0) {
            return Err(malformed("balanceAmount is not between 0 and totalAmount"));
        }
        // The balance and the list of cancels have to say the same, as far as nothing is on its way: one of them lags otherwise.
        let gone = if captured.amount > 0 { total.amount.saturating_sub(balance.amount) } else { 0 };
        let contradictory = !(done..=done.saturating_add(moving)).contains(&gone);
        Ok(PgPayment {
            state: status.state(taken.map(|taken| taken.amount), balance.amount),
            status: crate::tables::clean(&self.status, 64),
            transaction_id: Some(self.payment_key),
            paid_at: self.approved_at.as_deref().map(moment).transpose()?,
            captured,
            refunded: Money::new(done, currency),
            refunds,
            refund_needs_payer: self.virtual_account.is_some(),
            expires_at: self.virtual_account.and_then(|account| account.due_date).as_deref().map(moment).transpose()?,
            contradictory,
            callback_secret: self.secret.filter(|secret| !secret.is_empty()),
        })
    }

    /// The refund that carries `key`, or else the newest.
    pub fn refund(self, key: &str) -> Result<PgRefund, ProviderError> {
        let currency = self.currency;
        let refunds = self.cancels.unwrap_or_default();
        let mut refunds: Vec<PgRefund> =
            refunds.into_iter().map(|cancel| cancel.into_domain(currency)).collect::<Result<_, _>>()?;
        let place = refunds.iter().position(|refund| refund.key.as_deref() == Some(key));
        match place {
            Some(place) => Ok(refunds.swap_remove(place)),
            None => refunds.pop().ok_or_else(|| malformed("the answer to a cancel holds no cancel")),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelRequest<'a> {
    pub cancel_reason: &'a str,
    /// What has to be left before: Toss refuses if it is not. Without a cancelAmount all of it goes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refundable_amount: Option<Number>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    pub transaction_key: String,
    order_id: String,
    status: String,
    currency: Currency,
    amount: Number,
    transaction_at: String,
}

impl Line {
    /// None if no money moved.
    pub fn into_domain(self) -> Result<Option<PgTransaction>, ProviderError> {
        let status = TossStatus::parse(&self.status);
        let kind = match status.moved() {
            Moved::Money(kind) => kind,
            Moved::Nothing => return Ok(None),
            Moved::Unknown => return Err(malformed("a transaction's status is in no table")),
        };
        let amount = money(&self.amount, self.currency)?;
        Ok(Some(PgTransaction {
            id: self.transaction_key,
            reference: PgReference::new(&self.order_id).map_err(|_| malformed("a transaction's orderId"))?,
            kind,
            amount: Money::new(amount.amount.saturating_abs(), amount.currency),
            at: moment(&self.transaction_at)?,
        }))
    }
}

#[derive(Deserialize)]
pub struct Failure {
    pub code: String,
    #[serde(default)]
    pub message: String,
}

/// Both kinds of callbacks: `PAYMENT_STATUS_CHANGED` with a payment inside, and the deposit's with its fields at the top.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub event_type: Option<String>,
    pub order_id: Option<String>,
    pub secret: Option<Secret>,
    pub data: Option<EventData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventData {
    pub order_id: Option<String>,
    pub secret: Option<Secret>,
}

fn malformed(what: &str) -> ProviderError {
    ProviderError::Malformed(what.to_owned())
}

/// A reason of at most 200 characters with our key in it, which Toss shows with the cancel.
pub fn reason_with_key(reason: &str, key: &str) -> String {
    let room = 200usize.saturating_sub(key.chars().count().saturating_add(3));
    format!("{} [{key}]", crate::tables::clean(reason, room))
}

fn key_in(reason: &str) -> Option<&str> {
    reason.strip_suffix(']')?.rsplit_once('[').map(|(_, key)| key)
}

fn moment(text: &str) -> Result<Timestamp, ProviderError> {
    DateTime::parse_from_rfc3339(text)
        .map(|at| Timestamp::from_unix_ms(at.timestamp_millis()))
        .map_err(|_| malformed("a time is not ISO 8601 with an offset"))
}

/// A moment as the transaction list takes it: Korean time without an offset.
pub fn korean(at: Timestamp) -> String {
    FixedOffset::east_opt(KST_SECONDS)
        .map(|zone| at.to_datetime().with_timezone(&zone).format("%Y-%m-%dT%H:%M:%S%.3f").to_string())
        .unwrap_or_default()
}

/// Won and yen have no minor unit; Toss writes other currencies in major units, with two decimals at most.
fn decimals(currency: Currency) -> usize {
    if matches!(currency.as_str(), "KRW" | "JPY") { 0 } else { 2 }
}

/// Minor units of a number of Toss', without a float in between.
fn money(number: &Number, currency: Currency) -> Result<Money, ProviderError> {
    let text = number.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let width = decimals(currency);
    let digits = || {
        if fraction.len() > width || whole.starts_with('-') && whole.len() == 1 {
            return None;
        }
        format!("{whole}{fraction:0<width$}").parse::<i64>().ok()
    };
    digits().map(|amount| Money::new(amount, currency)).ok_or_else(|| malformed("an amount is no amount of its currency"))
}

/// The number that Toss takes for an amount.
pub fn number(money: Money) -> Option<Number> {
    if decimals(money.currency) == 0 {
        return Some(Number::from(money.amount));
    }
    let text = format!("{}.{:02}", money.amount.checked_div(100)?, money.amount.checked_rem(100)?.abs());
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn amounts_are_read_and_written_without_loss() {
        let (krw, usd) = (Currency::KRW, "USD".parse::<Currency>().unwrap());
        let read = |text: &str, currency| money(&serde_json::from_str(text).unwrap(), currency).ok().map(|money| money.amount);
        for (text, currency, expected) in [
            ("15000", krw, Some(15_000)),
            ("15000.0", krw, Some(15_000)),
            ("0.5", krw, None),
            ("10.5", usd, Some(1_050)),
            ("10", usd, Some(1_000)),
            ("0.01", usd, Some(1)),
            ("-10.5", usd, Some(-1_050)),
            ("10.555", usd, None),
            ("1e30", usd, None),
        ] {
            assert_eq!(read(text, currency), expected, "{text} {currency}");
        }
        for amount in [0, 1, 99, 100, 1_050, 12_345_678] {
            let written = number(Money::new(amount, usd)).unwrap().to_string();
            assert_eq!(read(&written, usd), Some(amount), "{written}");
        }
    }

    #[test]
    fn a_key_survives_in_the_reason() {
        let reason = reason_with_key(&"재고 없음 ".repeat(100), "r-1.2");
        assert!(reason.chars().count() <= 200);
        assert_eq!(key_in(&reason), Some("r-1.2"));
        assert_eq!(key_in("고객 변심"), None);
    }

    fn payment(status: &str, balance: i64, cancels: &[(i64, Option<&str>)]) -> PgPayment {
        let cancel = |(amount, status): &(i64, Option<&str>)| serde_json::json!({"transactionKey": "k", "cancelAmount": amount, "cancelStatus": status});
        let payment: Payment = serde_json::from_value(serde_json::json!({
            "paymentKey": "key", "orderId": "order_1", "status": status, "currency": "KRW", "totalAmount": 15_000, "balanceAmount": balance,
            "approvedAt": "2024-01-01T00:00:00+09:00", "cancels": cancels.iter().map(cancel).collect::<Vec<_>>(),
        }))
        .unwrap();
        payment.into_domain(&PgReference::new("order_1").unwrap()).unwrap()
    }

    #[test]
    fn the_balance_and_the_cancels_have_to_say_the_same() {
        use domain::payment::amounts;
        let (done, moving, aborted) = (Some("DONE"), Some("IN_PROGRESS"), Some("ABORTED"));
        for (status, balance, cancels, held) in [
            ("DONE", 15_000, vec![], Some(15_000)),
            ("CANCELED", 0, vec![(15_000, done)], Some(0)),
            ("CANCELED", 0, vec![(15_000, None)], Some(0)),
            ("DONE", 15_000, vec![(15_000, aborted)], Some(15_000)),
            ("PARTIAL_CANCELED", 10_000, vec![(5_000, done)], Some(10_000)),
            // On its way it may stand in the balance already, or not.
            ("CANCELED", 0, vec![(15_000, moving)], Some(15_000)),
            ("DONE", 15_000, vec![(15_000, moving)], Some(15_000)),
            ("CANCELED", 0, vec![(5_000, done), (10_000, moving)], Some(10_000)),
            // One of the two lags.
            ("DONE", 15_000, vec![(15_000, done)], None),
            ("CANCELED", 0, vec![], None),
            ("PARTIAL_CANCELED", 10_000, vec![], None),
            ("CANCELED", 0, vec![(5_000, done)], None),
            ("CANCELED", 0, vec![(5_000, done), (5_000, moving)], None),
            // What was never taken cannot be given back.
            ("EXPIRED", 0, vec![(15_000, done)], Some(0)),
        ] {
            let payment = payment(status, balance, &cancels);
            assert_eq!(amounts(&payment).map(|held| held.amount), held, "{status} {balance} {cancels:?}");
        }
    }

    #[test]
    fn korean_time_has_no_offset() {
        assert_eq!(korean(Timestamp::from_unix_ms(0)), "1970-01-01T09:00:00.000");
    }
}
