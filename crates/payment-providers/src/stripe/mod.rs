//! Stripe: payment intents with their charge, because an intent stays `succeeded` after its refunds.

pub mod table;
mod wire;

use async_trait::async_trait;
use domain::{
    clock::Timestamp,
    payment::{PgAnswer, PgReference, PgRefund, ProviderName},
    secret::Secret,
};
use reqwest::{RequestBuilder, Url, header};
use serde::de::DeserializeOwned;

use self::{
    table::{StripeCode, StripeErrorType},
    wire::{BalanceTransaction, Event, Failure, Intent, KEY_MARK, List, Refund},
};
use crate::{
    callback::Signatures,
    http::{Answer, Http},
    port::{Advice, Callback, CallbackError, CallbackHint, PaymentProvider, ProviderError, RefundOrder, TransactionPage},
    settings::ProviderSettings,
    tables::{Failed, Meaning},
};

/// The version of the API that the tables were held against.
pub const API_VERSION: &str = "2026-08-26.dahlia";

/// What comes with an intent, so that one call tells all.
const EXPAND: &str = "latest_charge.refunds";

/// The header that signs a callback.
const SIGNATURE_HEADER: &str = "stripe-signature";

/// Pages of refunds of one charge, at most, and refunds on one page.
const REFUND_PAGES_MAX: usize = 10;
const REFUND_PAGE: &str = "100";

/// The most that Stripe gives on one page.
const PAGE_MAX: u32 = 100;

/// An account at Stripe.
pub struct Stripe {
    name: ProviderName,
    http: Http,
    key: Secret,
    signatures: Signatures,
    page_size: u32,
}

impl Stripe {
    pub fn new(name: ProviderName, http: Http, settings: &ProviderSettings) -> Self {
        Self {
            name,
            http,
            key: settings.api_key.clone(),
            signatures: Signatures::new(settings),
            page_size: settings.page_size.min(PAGE_MAX),
        }
    }

    async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failed> {
        let request = request.bearer_auth(self.key.expose()).header("Stripe-Version", API_VERSION);
        let answer = self.http.send(request).await?;
        if answer.is_success() { Ok(answer.read()?) } else { Err(failed(&answer)) }
    }

    async fn post<T: DeserializeOwned>(&self, url: Url, key: Option<&str>, pairs: &[(&str, &str)]) -> Result<T, Failed> {
        let request = key.into_iter().fold(self.http.post(url), |request, key| request.header("Idempotency-Key", key));
        self.call(request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form(pairs))).await
    }

    async fn known(&self, intent: Result<Intent, Failed>, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        let intent = match intent {
            Ok(intent) => intent,
            Err(Failed::NotFound(_)) => return Ok(PgAnswer::NotFound),
            Err(Failed::Other(error)) => return Err(error),
        };
        let listed = match intent.charge_with_unseen_refunds() {
            Some(charge) => Some(self.refunds_of(charge).await?),
            None => None,
        };
        Ok(PgAnswer::Found(intent.into_domain(reference, listed)?))
    }

    async fn refunds_of(&self, charge: &str) -> Result<Vec<Refund>, ProviderError> {
        let mut all: Vec<Refund> = Vec::new();
        for _ in 0..REFUND_PAGES_MAX {
            let mut url = self.http.url(&["v1", "refunds"]);
            url.query_pairs_mut().append_pair("charge", charge).append_pair("limit", REFUND_PAGE);
            if let Some(last) = all.last() {
                url.query_pairs_mut().append_pair("starting_after", &last.id);
            }
            let page: List<Refund> = self.call(self.http.get(url)).await?;
            all.extend(page.data);
            if !page.has_more {
                return Ok(all);
            }
        }
        Err(ProviderError::Malformed("a charge has more refunds than are ever made".to_owned()))
    }

    fn check(&self, reference: &PgReference) -> Result<(), ProviderError> {
        if self.accepts(reference) {
            return Ok(());
        }
        let message = "an id of Stripe's has letters, digits and _ only".to_owned();
        Err(ProviderError::Refused { code: "invalid_reference".to_owned(), message, advice: Advice::Manual })
    }
}

/// Stripe documents these statuses apart from codes: a wrong key has no code at all.
fn failed(answer: &Answer) -> Failed {
    let Ok(Failure { error }) = answer.read::<Failure>() else { return Failed::Other(answer.without_code()) };
    let by_status = match answer.status {
        401 | 403 => Some(Meaning::Account),
        429 => Some(Meaning::Throttled),
        409 | 500..=599 => Some(Meaning::Unavailable),
        _ => None,
    };
    let by_code = || StripeCode::parse(&error.code).meaning();
    let meaning = by_status.or_else(by_code).unwrap_or_else(|| StripeErrorType::parse(&error.r#type).meaning());
    let code = if error.code.is_empty() { &error.r#type } else { &error.code };
    let told = meaning.error(code, &error.message, answer.retry_after);
    Failed::of(meaning, told)
}

/// Pairs as a form; the address type knows how to escape them.
fn form(pairs: &[(&str, &str)]) -> String {
    let Ok(mut url) = Url::parse("form:") else { return String::new() };
    url.query_pairs_mut().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

#[async_trait]
impl PaymentProvider for Stripe {
    fn name(&self) -> &ProviderName {
        &self.name
    }

    fn accepts(&self, reference: &PgReference) -> bool {
        reference.as_str().chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    }

    async fn query(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        self.check(reference)?;
        let mut url = self.http.url(&["v1", "payment_intents", reference.as_str()]);
        url.query_pairs_mut().append_pair("expand[]", EXPAND);
        let intent = self.call(self.http.get(url)).await;
        self.known(intent, reference).await
    }

    async fn refund(&self, order: &RefundOrder) -> Result<PgRefund, ProviderError> {
        self.check(&order.reference)?;
        let amount = order.amount.amount.to_string();
        let mark = format!("metadata[{KEY_MARK}]");
        let reason: String = order.reason.chars().take(500).collect();
        let pairs = [
            ("payment_intent", order.reference.as_str()),
            ("amount", &amount),
            (&mark, &order.key),
            ("metadata[trueup_reason]", &reason),
        ];
        let refund: Refund = self.post(self.http.url(&["v1", "refunds"]), Some(&order.key), &pairs).await?;
        Ok(refund.into_domain())
    }

    async fn close(&self, reference: &PgReference) -> Result<PgAnswer, ProviderError> {
        self.check(reference)?;
        let url = self.http.url(&["v1", "payment_intents", reference.as_str(), "cancel"]);
        let pairs = [("cancellation_reason", "abandoned"), ("expand[]", EXPAND)];
        // Without a key: under one, that an intent cannot be cancelled while it is processing would be said again for a day. What is ended twice
        // is ended.
        let intent = self.post(url, None, &pairs).await;
        match self.known(intent, reference).await {
            // It succeeded or was cancelled meanwhile: what became of it is the answer.
            Err(ProviderError::Refused { .. }) => self.query(reference).await,
            other => other,
        }
    }

    async fn transactions(&self, from: Timestamp, to: Timestamp, cursor: Option<&str>) -> Result<TransactionPage, ProviderError> {
        // Stripe's times are whole seconds: the window is widened to them at both ends.
        let (first, last) = (from.unix_ms().div_euclid(1_000), to.unix_ms().saturating_add(999).div_euclid(1_000));
        let mut url = self.http.url(&["v1", "balance_transactions"]);
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("created[gte]", &first.to_string()).append_pair("created[lt]", &last.to_string());
            query.append_pair("limit", &self.page_size.to_string()).append_pair("expand[]", "data.source");
            if let Some(cursor) = cursor {
                query.append_pair("starting_after", cursor);
            }
        }
        let page: List<BalanceTransaction> = self.call(self.http.get(url)).await?;
        let next = page.data.last().filter(|_| page.has_more).map(|line| line.id.clone());
        let lines = page.data.into_iter().map(BalanceTransaction::into_domain).filter_map(Result::transpose);
        let transactions = lines.collect::<Result<Vec<_>, _>>()?;
        Ok(TransactionPage { transactions, next })
    }

    fn read_callback(&self, callback: &Callback<'_>) -> Result<CallbackHint, CallbackError> {
        self.signatures.check(callback, SIGNATURE_HEADER)?;
        let event: Event =
            serde_json::from_slice(callback.body).map_err(|_| CallbackError::Malformed("it is no event of Stripe".to_owned()))?;
        let is_ours = ["payment_intent.", "charge.", "refund."].iter().any(|prefix| event.r#type.starts_with(prefix));
        let object = event.data.object;
        let intent = if object.object == "payment_intent" { object.id } else { object.payment_intent };
        let intent = intent.filter(|_| is_ours).ok_or(CallbackError::Irrelevant)?;
        let reference = PgReference::new(&intent).map_err(|error| CallbackError::Malformed(format!("the intent {error}")))?;
        Ok(CallbackHint { reference, event_id: event.id, authenticated: true, secret: None })
    }
}
