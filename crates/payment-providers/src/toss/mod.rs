//! Toss Payments' core API. Decided by code, never by the class of the HTTP status.

pub mod table;
mod wire;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use domain::{
    clock::Timestamp,
    payment::{PgAnswer, PgReference, PgRefund, ProviderName},
    secret::Secret,
};
use reqwest::{RequestBuilder, header};

use self::{
    table::{TossCancelCode, TossQueryCode},
    wire::{CancelRequest, Event, Failure, Line, Payment, korean, number, reason_with_key},
};
use crate::{
    callback::digest,
    http::{Answer, Http},
    port::{Advice, Callback, CallbackError, CallbackHint, PaymentProvider, ProviderError, RefundOrder, TransactionPage},
    settings::ProviderSettings,
    tables::Meaning,
};

/// Toss' bounds of an order id, in characters.
const ORDER_ID_CHARS: std::ops::RangeInclusive<usize> = 6..=64;

/// An account at Toss Payments.
pub struct Toss {
    name: ProviderName,
    http: Http,
    authorization: Secret,
    page_size: u32,
}

impl Toss {
    pub fn new(name: ProviderName, http: Http, settings: &ProviderSettings) -> Self {
        // The key is the user name, the password is empty.
        let basic = STANDARD.encode(format!("{}:", settings.api_key.expose()));
        Self { name, http, authorization: Secret::new(format!("Basic {basic}")), page_size: settings.page_size }
    }

    async fn call(&self, request: RequestBuilder) -> Result<Answer, ProviderError> {
        self.http.send(request.header(header::AUTHORIZATION, self.authorization.expose())).await
    }

    async fn find(&self, reference: &PgReference) -> Result<Option<Payment>, ProviderError> {
        if !self.accepts(reference) {
            let message = "an order id of Toss' has 6 to 64 letters, digits, -, _ or =".to_owned();
            return Err(ProviderError::Refused { code: "INVALID_ORDER_ID".to_owned(), message, advice: Advice::Manual });
        }
        let answer = self.call(self.http.get(self.http.url(&["v1", "payments", "orders", reference.as_str()]))).await?;
        if answer.is_success() {
            return answer.read().map(Some);
        }
        let Ok(failure) = answer.read::<Failure>() else { return Err(answer.without_code()) };
        match TossQueryCode::parse(&failure.code).meaning() {
            Meaning::NotFound => Ok(None),
            // The table of queries is shorter than what the whole API may say of a server in trouble.
            Meaning::Unknown => Err(cancel_error(&failure, &answer)),
            meaning => Err(meaning.error(&failure.code, &failure.message, answer.retry_after)),
        }
    }

    async fn cancel(&self, payment_key: &str, key: Option<&str>, body: &CancelRequest<'_>) -> Result<Payment, ProviderError> {
        let request = self.http.post(self.http.url(&["v1", "payments", payment_key, "cancel"]));
        let request = key.into_iter().fold(request, |request, key| request.header("Idempotency-Key", key));
        let answer = self.call(request.json(body)).await?;
        if answer.is_success() {
            return answer.read();
        }
        let Ok(failure) = answer.read::<Failure>() else { return Err(answer.without_code()) };
        Err(cancel_error(&failure, &answer))
    }
}

fn cancel_error(failure: &Failure, answer: &Answer) -> ProviderError {
    TossCancelCode::parse(&failure.code).meaning().error(&failure.code, &failure.message, answer.retry_after)
}

fn known(payment: Option<Payment>, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
    payment.map_or(Ok(PgAnswer::NotFound), |payment| payment.into_domain(reference).map(PgAnswer::Found))
}

#[async_trait]
impl PaymentProvider for Toss {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn accepts(&self, reference: &PgReference) -> bool {
        let text = reference.as_str();
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=');
        ORDER_ID_CHARS.contains(&text.chars().count()) && text.chars().all(is_allowed)
    }

    async fn query(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        known(self.find(reference).await?, reference)
    }

    async fn refund(&self, order: &RefundOrder) -> Result<PgRefund, ProviderError> {
        let payment_key = match &order.transaction_id {
            Some(key) => key.clone(),
            None => {
                let found = self.find(&order.reference).await?;
                let missing = || Meaning::NotFound.error("NOT_FOUND_PAYMENT", "there is no such payment", None);
                found.ok_or_else(missing)?.payment_key().to_owned()
            }
        };
        let reason = reason_with_key(&order.reason, &order.key);
        // Without an amount Toss cancels all that is left, and only if that is what we think it is.
        let body = CancelRequest { cancel_reason: &reason, refundable_amount: number(order.amount) };
        self.cancel(&payment_key, Some(&order.key), &body).await?.refund(&order.key)
    }

    async fn close(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        let Some(payment) = self.find(reference).await? else { return Ok(PgAnswer::NotFound) };
        // Only a virtual account can be ended before it is paid. If its deposit comes first, the cancel is refused for want of an account.
        if !payment.is_waiting_for_deposit() {
            return known(Some(payment), reference);
        }
        let body = CancelRequest { cancel_reason: "closed before the deposit", refundable_amount: None };
        // Without a key: under one, a refusal that passes would be said again for as long as the key is known. What is ended twice is ended.
        match self.cancel(payment.payment_key(), None, &body).await {
            Ok(payment) => known(Some(payment), reference),
            Err(ProviderError::Refused { .. }) => self.query(reference).await,
            Err(error) => Err(error),
        }
    }

    async fn transactions(&self, from: Timestamp, to: Timestamp, cursor: Option<&str>) -> Result<TransactionPage, ProviderError> {
        let mut url = self.http.url(&["v1", "transactions"]);
        {
            let mut query = url.query_pairs_mut();
            // Toss' end belongs to the window, ours does not.
            query.append_pair("startDate", &korean(from)).append_pair("endDate", &korean(to.saturating_add_ms(-1)));
            query.append_pair("limit", &self.page_size.to_string());
            if let Some(cursor) = cursor {
                query.append_pair("startingAfter", cursor);
            }
        }
        let answer = self.call(self.http.get(url)).await?;
        if !answer.is_success() {
            let Ok(failure) = answer.read::<Failure>() else { return Err(answer.without_code()) };
            return Err(cancel_error(&failure, &answer));
        }
        let lines: Vec<Line> = answer.read()?;
        let is_full = lines.len() >= usize::try_from(self.page_size).unwrap_or(usize::MAX);
        let next = lines.last().filter(|_| is_full).map(|line| line.transaction_key.clone());
        let transactions = lines.into_iter().map(Line::into_domain).filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(TransactionPage { transactions, next })
    }

    fn read_callback(&self, callback: &Callback<'_>) -> Result<CallbackHint, CallbackError> {
        let event: Event = serde_json::from_slice(callback.body)
            .map_err(|_| CallbackError::Malformed("it is no event of Toss Payments".to_owned()))?;
        let (order_id, secret) = match (event.event_type.as_deref(), event.data) {
            (Some("PAYMENT_STATUS_CHANGED" | "CANCEL_STATUS_CHANGED" | "DEPOSIT_CALLBACK"), Some(data)) => {
                (data.order_id, data.secret)
            }
            (Some(_), _) => return Err(CallbackError::Irrelevant),
            // A deposit's callback has no type.
            (None, _) => (event.order_id, event.secret),
        };
        let order_id = order_id.ok_or(CallbackError::Irrelevant)?;
        let reference = PgReference::new(&order_id).map_err(|error| CallbackError::Malformed(format!("the orderId {error}")))?;
        let secret = secret.filter(|secret| !secret.is_empty());
        // Nothing is signed: whoever knows the address can send this. A secret is to be compared with the payment's.
        Ok(CallbackHint { reference, event_id: digest(callback.body), authenticated: false, secret })
    }
}
