//! A gateway whose answers a test writes down.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use domain::{
    clock::Timestamp,
    payment::{Money, PgAnswer, PgPayment, PgReference, PgRefund, PgState, PgTransaction, ProviderName},
    secret::Secret,
};
use payment_providers::port::{
    Callback, CallbackError, CallbackHint, PaymentProvider, ProviderError, RefundOrder, TransactionPage,
};
use serde_json::Value;

/// A gateway whose answers a test writes down. Its callbacks are JSON: `{"reference", "event", "signed", "secret"}`.
pub struct Scripted {
    name: ProviderName,
    pub answers: Mutex<BTreeMap<String, Result<PgAnswer, ProviderError>>>,
    pub transactions: Mutex<Vec<PgTransaction>>,
    pub list_fails: Mutex<Option<ProviderError>>,
    pub asked: Mutex<Vec<String>>,
    /// What is said to every refund; nothing at all without it.
    pub to_refunds: Mutex<Option<Result<PgRefund, ProviderError>>>,
    /// The keys under which refunds were asked for, in order.
    pub refunds: Mutex<Vec<String>>,
}

impl Scripted {
    pub fn named(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.parse().unwrap(),
            answers: Mutex::default(),
            transactions: Mutex::default(),
            list_fails: Mutex::default(),
            asked: Mutex::default(),
            to_refunds: Mutex::default(),
            refunds: Mutex::default(),
        })
    }

    pub fn says(&self, reference: &str, answer: Result<PgAnswer, ProviderError>) {
        self.answers.lock().unwrap().insert(reference.to_owned(), answer);
    }
}

/// A payment of which all is held.
pub fn paid(amount: Money) -> PgPayment {
    PgPayment {
        state: PgState::Paid,
        status: "paid".to_owned(),
        transaction_id: Some("tx".to_owned()),
        captured: amount,
        refunded: Money::zero(amount.currency),
        refunds: Vec::new(),
        refund_needs_payer: false,
        expires_at: None,
        paid_at: None,
        contradictory: false,
        callback_secret: None,
    }
}

#[async_trait]
impl PaymentProvider for Scripted {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn accepts(&self, _: &PgReference) -> bool {
        true
    }

    async fn query(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        self.asked.lock().unwrap().push(reference.to_string());
        self.answers.lock().unwrap().get(reference.as_str()).cloned().unwrap_or(Ok(PgAnswer::NotFound))
    }

    async fn refund(&self, order: &RefundOrder) -> Result<PgRefund, ProviderError> {
        self.refunds.lock().unwrap().push(order.key.clone());
        let said = self.to_refunds.lock().unwrap().clone();
        said.unwrap_or_else(|| Err(ProviderError::Unavailable("this gateway only answers questions".to_owned())))
    }

    async fn close(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        self.query(reference).await
    }

    async fn transactions(&self, from: Timestamp, to: Timestamp, cursor: Option<&str>) -> Result<TransactionPage, ProviderError> {
        const PAGE: usize = 2;
        if let Some(error) = self.list_fails.lock().unwrap().clone() {
            return Err(error);
        }
        let all: Vec<_> =
            self.transactions.lock().unwrap().iter().filter(|line| line.at >= from && line.at < to).cloned().collect();
        let start: usize = cursor.map_or(0, |cursor| cursor.parse().unwrap());
        let page: Vec<_> = all.iter().skip(start).take(PAGE).cloned().collect();
        let next = (start + PAGE < all.len()).then(|| (start + PAGE).to_string());
        Ok(TransactionPage { transactions: page, next })
    }

    fn read_callback(&self, callback: &Callback<'_>) -> Result<CallbackHint, CallbackError> {
        let json: Value = serde_json::from_slice(callback.body).map_err(|error| CallbackError::Malformed(error.to_string()))?;
        let text = |field: &str| json[field].as_str().map(str::to_owned);
        let Some(reference) = text("reference") else { return Err(CallbackError::Irrelevant) };
        let signature = callback.headers.iter().find(|(name, _)| name == "x-signature").map(|(_, value)| value.as_str());
        if signature.is_some_and(|signature| signature != "good") {
            return Err(CallbackError::Signature("wrong"));
        }
        Ok(CallbackHint {
            reference: reference.parse().map_err(|error| CallbackError::Malformed(format!("{error}")))?,
            event_id: text("event").unwrap_or_else(|| String::from_utf8_lossy(callback.body).into_owned()),
            authenticated: signature.is_some(),
            secret: text("secret").map(Secret::new),
        })
    }
}
