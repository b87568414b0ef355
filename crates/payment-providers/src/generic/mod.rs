//! The generic HTTP contract, as `openapi/generic.json` describes it: for gateways that speak it, and for bridges to others.

pub mod table;
mod wire;

use async_trait::async_trait;
use domain::{
    clock::Timestamp,
    payment::{PgAnswer, PgReference, PgRefund, ProviderName},
    secret::Secret,
};
use reqwest::RequestBuilder;
use serde::de::DeserializeOwned;

use self::{
    table::GenericCode,
    wire::{Event, Failure, Page, Payment, Refund, RefundRequest},
};
use crate::{
    callback::Signatures,
    http::{Answer, Http},
    port::{Callback, CallbackError, CallbackHint, PaymentProvider, ProviderError, RefundOrder, TransactionPage},
    settings::ProviderSettings,
    tables::Failed,
};

/// The header that signs a callback.
const SIGNATURE_HEADER: &str = "payment-signature";

/// An account at a gateway that speaks the generic contract.
pub struct Generic {
    name: ProviderName,
    http: Http,
    key: Secret,
    signatures: Signatures,
    page_size: u32,
}

impl Generic {
    pub fn new(name: ProviderName, http: Http, settings: &ProviderSettings) -> Self {
        Self { name, http, key: settings.api_key.clone(), signatures: Signatures::new(settings), page_size: settings.page_size }
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failed> {
        let answer = self.http.send(request.bearer_auth(self.key.expose())).await?;
        if answer.is_success() { Ok(answer.read()?) } else { Err(failed(&answer)) }
    }

    fn url(&self, reference: &PgReference, action: Option<&str>) -> reqwest::Url {
        let mut url = self.http.url(&["v1", "payments", reference.as_str()]);
        if let (Some(action), Ok(mut path)) = (action, url.path_segments_mut()) {
            path.push(action);
        }
        url
    }

    fn check(&self, reference: &PgReference) -> Result<(), ProviderError> {
        if self.accepts(reference) {
            return Ok(());
        }
        Err(GenericCode::InvalidRequest.meaning().error("invalid_request", "the reference cannot stand in an address", None))
    }
}

fn failed(answer: &Answer) -> Failed {
    let Ok(failure) = answer.read::<Failure>() else { return Failed::Other(answer.without_code()) };
    let meaning = GenericCode::parse(&failure.code).meaning();
    let error = meaning.error(&failure.code, &failure.message, answer.retry_after);
    Failed::of(meaning, error)
}

fn known(result: Result<Payment, Failed>, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
    match result {
        Ok(payment) => Ok(PgAnswer::Found(payment.into_domain(reference)?)),
        Err(Failed::NotFound(_)) => Ok(PgAnswer::NotFound),
        Err(Failed::Other(error)) => Err(error),
    }
}

#[async_trait]
impl PaymentProvider for Generic {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn accepts(&self, reference: &PgReference) -> bool {
        // An address drops these two, escaped or not.
        !matches!(reference.as_str(), "." | "..")
    }

    async fn query(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        self.check(reference)?;
        known(self.call(self.http.get(self.url(reference, None))).await, reference)
    }

    async fn refund(&self, order: &RefundOrder) -> Result<PgRefund, ProviderError> {
        self.check(&order.reference)?;
        let body = RefundRequest { amount: order.amount.amount, currency: order.amount.currency, reason: &order.reason };
        let request =
            self.http.post(self.url(&order.reference, Some("refunds"))).header("Idempotency-Key", &order.key).json(&body);
        let refund: Refund = self.call(request).await?;
        refund.into_domain()
    }

    async fn close(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        self.check(reference)?;
        match known(self.call(self.http.post(self.url(reference, Some("close")))).await, reference) {
            // It was paid meanwhile, or was never open: what became of it is the answer.
            Err(ProviderError::Refused { .. }) => self.query(reference).await,
            other => other,
        }
    }

    async fn transactions(&self, from: Timestamp, to: Timestamp, cursor: Option<&str>) -> Result<TransactionPage, ProviderError> {
        let mut url = self.http.url(&["v1", "transactions"]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("from", &from.to_string()).append_pair("to", &to.to_string());
            query.append_pair("limit", &self.page_size.to_string());
            if let Some(cursor) = cursor {
                query.append_pair("cursor", cursor);
            }
        }
        let page: Page = self.call(self.http.get(url)).await?;
        let transactions = page.transactions.into_iter().map(wire::Line::into_domain).collect::<Result<_, _>>()?;
        Ok(TransactionPage { transactions, next: page.next })
    }

    fn read_callback(&self, callback: &Callback<'_>) -> Result<CallbackHint, CallbackError> {
        self.signatures.check(callback, SIGNATURE_HEADER)?;
        let event: Event = serde_json::from_slice(callback.body)
            .map_err(|_| CallbackError::Malformed("it is no event of the generic contract".to_owned()))?;
        if !event.r#type.starts_with("payment.") {
            return Err(CallbackError::Irrelevant);
        }
        let reference =
            PgReference::new(&event.reference).map_err(|error| CallbackError::Malformed(format!("the reference {error}")))?;
        Ok(CallbackHint { reference, event_id: event.event_id, authenticated: true, secret: None })
    }
}
