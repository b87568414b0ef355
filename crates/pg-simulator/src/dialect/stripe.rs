//! Stripe's API, as far as the payment line uses it: payment intents with their charge, refunds, balance transactions.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::{clock::Timestamp, payment::PgRefundState};
use serde_json::{Map, Value, json};

use super::{Shared, found, idempotency_key, is_authorized, unauthorized};
use crate::{
    account::Account,
    ledger::{By, Entry, EntryKind},
    payment::{Payment, RefundOrder, RefundView, Refusal},
    respond::{Reply, Voice, answer, once},
    script::{Answer, Call},
    state::Dialect,
};

/// Objects of a page, at most.
const PAGE_MAX: usize = 100;

/// Refunds that come with an expanded charge.
const REFUNDS_WITH_CHARGE: usize = 10;

type Pairs = Vec<(String, String)>;

const VOICE: Voice = Voice { dialect: Dialect::Stripe, wording };

pub fn configure(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/stripe/v1")
            .route("/payment_intents/{id}", web::get().to(query))
            .route("/payment_intents/{id}/cancel", web::post().to(cancel))
            .route("/charges", web::get().to(charges))
            .route("/refunds", web::get().to(refunds))
            .route("/refunds", web::post().to(refund))
            .route("/balance_transactions", web::get().to(balance_transactions)),
    );
}

fn error(kind: &str, code: &str, message: &str) -> Value {
    json!({"error": {"type": kind, "code": code, "message": message}})
}

fn wording(status: u16) -> Value {
    match status {
        401 => error("invalid_request_error", "api_key_expired", "the key is not known"),
        409 => error("invalid_request_error", "lock_timeout", "the object is locked"),
        429 => error("invalid_request_error", "rate_limit", "too many requests"),
        _ => json!({"error": {"type": "api_error", "message": "try again"}}),
    }
}

fn missing() -> Reply {
    Reply::new(404, error("invalid_request_error", "resource_missing", "no such payment_intent"))
}

fn value_of<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn seconds(at: Timestamp) -> i64 {
    at.unix_ms().div_euclid(1_000)
}

fn charge_id(reference: &str) -> String {
    format!("ch_{reference}")
}

pub fn status(payment: &Payment) -> &str {
    match payment.answer() {
        Answer::NotFound | Answer::Open | Answer::Failed => "requires_payment_method",
        Answer::Deposit => "requires_action",
        // An intent stays so after its refunds: only its charge tells of them.
        Answer::Paid => "succeeded",
        Answer::Closed | Answer::Expired => "canceled",
        Answer::Strange(text) => text,
    }
}

fn list(data: Vec<Value>, has_more: bool, url: &str) -> Value {
    json!({"object": "list", "data": data, "has_more": has_more, "url": url})
}

fn refund_body(payment: &Payment, refund: &RefundView) -> Value {
    let state = match refund.state {
        PgRefundState::Pending => "pending",
        PgRefundState::Done => "succeeded",
        PgRefundState::Failed => "failed",
    };
    let mut metadata = Map::new();
    if let Some(note) = &refund.note {
        metadata.insert("trueup_key".to_owned(), Value::from(note.as_str()));
    }
    json!({
        "id": refund.id, "object": "refund", "amount": refund.amount, "currency": payment.captured_in.as_str().to_lowercase(),
        "charge": charge_id(&payment.reference), "payment_intent": payment.reference, "status": state, "metadata": metadata,
        "created": seconds(refund.at), "failure_reason": (state == "failed").then_some("expired_or_canceled_card"),
    })
}

fn refunds_of(payment: &Payment, limit: usize, after: Option<&str>) -> (Vec<Value>, bool) {
    let mut all: Vec<&RefundView> = payment.refunds().collect();
    // The newest first, as in every list of Stripe's.
    all.reverse();
    let start = after.and_then(|id| all.iter().position(|refund| refund.id == id)).map_or(0, |place| place.saturating_add(1));
    let rest: Vec<&RefundView> = all.into_iter().skip(start).collect();
    (rest.iter().take(limit).map(|refund| refund_body(payment, refund)).collect(), rest.len() > limit)
}

/// The charge as an event shows it.
pub fn charge(payment: &Payment) -> Option<Value> {
    charge_body(payment, true)
}

fn charge_body(payment: &Payment, with_refunds: bool) -> Option<Value> {
    let paid_at = payment.paid_at?;
    let returned = payment.captured.saturating_sub(payment.refundable());
    let refunds = with_refunds.then(|| {
        let (data, has_more) = refunds_of(payment, REFUNDS_WITH_CHARGE, None);
        list(data, has_more, "/v1/refunds")
    });
    Some(json!({
        "id": charge_id(&payment.reference), "object": "charge", "amount": payment.captured, "amount_captured": payment.captured,
        "amount_refunded": returned, "captured": true, "paid": true, "refunded": payment.is_given_back(), "disputed": false,
        "currency": payment.captured_in.as_str().to_lowercase(), "status": "succeeded", "payment_intent": payment.reference,
        "created": seconds(paid_at), "refunds": refunds,
    }))
}

pub fn body(payment: &Payment, expand: &[String]) -> Value {
    let with_refunds = expand.iter().any(|path| path == "latest_charge.refunds");
    let charge = if with_refunds || expand.iter().any(|path| path == "latest_charge") {
        charge_body(payment, with_refunds)
    } else {
        payment.paid_at.map(|_| Value::from(charge_id(&payment.reference)))
    };
    let is_failed = *payment.answer() == Answer::Failed;
    json!({
        "id": payment.reference, "object": "payment_intent", "amount": payment.amount,
        "amount_received": payment.captured, "currency": payment.captured_in.as_str().to_lowercase(),
        "status": status(payment), "created": seconds(payment.placed_at), "latest_charge": charge,
        "last_payment_error": is_failed.then(|| json!({"type": "card_error", "code": "card_declined"})),
        "cancellation_reason": (*payment.answer() == Answer::Closed).then_some("abandoned"),
    })
}

fn expand_of(pairs: &Pairs) -> Vec<String> {
    pairs.iter().filter(|(key, _)| key == "expand[]" || key.starts_with("expand[")).map(|(_, value)| value.clone()).collect()
}

async fn query(request: HttpRequest, shared: web::Data<Shared>, id: web::Path<String>, pairs: web::Query<Pairs>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    let expand = expand_of(&pairs);
    answer(&shared.control, &request, Call::Query, &id, VOICE, |account| {
        found(account.look(&id, Call::Query, |payment| body(payment, &expand)), missing)
    })
    .await
}

async fn cancel(request: HttpRequest, shared: web::Data<Shared>, id: web::Path<String>, form: web::Form<Pairs>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    let expand = expand_of(&form);
    let key = idempotency_key(&request).map(str::to_owned);
    answer(&shared.control, &request, Call::Close, &id, VOICE, |account| {
        let question = format!("stripe cancel {id}");
        once(account.control, key.as_deref(), &question, key_conflict, || cancelled(account, &id, &expand))
    })
    .await
}

fn cancelled(account: Account<'_>, id: &str, expand: &[String]) -> Reply {
    let is_ended = account.look(id, Call::Close, |payment| matches!(payment.answer(), Answer::Closed | Answer::Expired));
    let refused = |code: &str| Reply::new(400, error("invalid_request_error", code, "cannot be cancelled"));
    if is_ended == Some(true) {
        return refused("payment_intent_unexpected_state");
    }
    match account.close(id) {
        Ok(()) => found(account.look(id, Call::Close, |payment| body(payment, expand)), missing),
        Err(Refusal::NotFound) => missing(),
        Err(Refusal::Scripted(code)) => refused(&code),
        Err(_) => refused("payment_intent_unexpected_state"),
    }
}

fn key_conflict() -> Reply {
    Reply::new(400, error("idempotency_error", "idempotency_key_in_use", "the key came with other parameters"))
}

async fn charges(request: HttpRequest, shared: web::Data<Shared>, pairs: web::Query<Pairs>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    let id = value_of(&pairs, "payment_intent").unwrap_or("").to_owned();
    answer(&shared.control, &request, Call::Query, &id, VOICE, |account| {
        let charge = account.look(&id, Call::Close, |payment| charge_body(payment, true));
        found(charge.map(|charge| list(charge.into_iter().collect(), false, "/v1/charges")), missing)
    })
    .await
}

async fn refunds(request: HttpRequest, shared: web::Data<Shared>, pairs: web::Query<Pairs>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    let id = intent_of(&pairs);
    let limit = value_of(&pairs, "limit").and_then(|text| text.parse().ok()).unwrap_or(10).clamp(1, PAGE_MAX);
    answer(&shared.control, &request, Call::Query, &id, VOICE, |account| {
        let page = account.look(&id, Call::Close, |payment| refunds_of(payment, limit, value_of(&pairs, "starting_after")));
        found(page.map(|(data, more)| list(data, more, "/v1/refunds")), missing)
    })
    .await
}

/// The intent that a form or a query speaks of, by itself or by its charge.
fn intent_of(pairs: &Pairs) -> String {
    let by_charge = || value_of(pairs, "charge").and_then(|charge| charge.strip_prefix("ch_"));
    value_of(pairs, "payment_intent").or_else(by_charge).unwrap_or("").to_owned()
}

async fn refund(request: HttpRequest, shared: web::Data<Shared>, form: web::Form<Pairs>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    let id = intent_of(&form);
    let key = idempotency_key(&request).map(str::to_owned);
    answer(&shared.control, &request, Call::Refund, &id, VOICE, |account| {
        let mut sorted: Pairs = form.to_vec();
        sorted.sort();
        let question = format!("stripe {sorted:?}");
        once(account.control, key.as_deref(), &question, key_conflict, || refunded(account, &id, &form, key.as_deref()))
    })
    .await
}

fn refunded(account: Account<'_>, id: &str, form: &Pairs, key: Option<&str>) -> Reply {
    let amount = match value_of(form, "amount").map(str::parse) {
        None => None,
        Some(Ok(amount)) => Some(amount),
        Some(Err(_)) => return Reply::new(400, error("invalid_request_error", "parameter_invalid_integer", "amount")),
    };
    // The mark that the merchant's software asks for stands in its metadata; the header's key is not shown by Stripe.
    let note = value_of(form, "metadata[trueup_key]");
    let order = RefundOrder { amount, key, note, by: By::Api, has_payer_account: true };
    let (code, message) = match account.refund(id, order) {
        Ok(view) => {
            let shown = account.look(id, Call::Refund, |payment| refund_body(payment, &view));
            return found(shown, missing);
        }
        Err(Refusal::NotFound) => return missing(),
        Err(Refusal::AlreadyRefunded) => ("charge_already_refunded".to_owned(), "already refunded"),
        Err(Refusal::NothingHeld) => ("payment_intent_unexpected_state".to_owned(), "there is no successful charge"),
        Err(Refusal::MoreThanHeld) => ("amount_too_large".to_owned(), "more than is left"),
        Err(Refusal::Scripted(code)) => (code, "refused by the script"),
        Err(other) => ("refund_refused".to_owned(), if other == Refusal::TooMany { "too many" } else { "refused" }),
    };
    Reply::new(400, error("invalid_request_error", &code, message))
}

async fn balance_transactions(request: HttpRequest, shared: web::Data<Shared>, pairs: web::Query<Pairs>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    answer(&shared.control, &request, Call::Transactions, "", VOICE, |account| {
        let moment = |name: &str, otherwise: i64| {
            let seconds = value_of(&pairs, name).and_then(|text| text.parse::<i64>().ok());
            Timestamp::from_unix_ms(seconds.map_or(otherwise, |seconds| seconds.saturating_mul(1_000)))
        };
        let after = value_of(&pairs, "starting_after").and_then(|id| id.strip_prefix("txn_")).and_then(|id| id.parse().ok());
        let limit = value_of(&pairs, "limit").and_then(|text| text.parse().ok()).unwrap_or(10).clamp(1, PAGE_MAX);
        let (from, to) = (moment("created[gte]", i64::MIN), moment("created[lt]", i64::MAX));
        let (entries, more) = account.list(from, to, after.unwrap_or(0), limit, |_| true);
        Reply::new(200, list(entries.iter().map(line).collect(), more, "/v1/balance_transactions"))
    })
    .await
}

fn line(entry: &Entry) -> Value {
    let currency = entry.currency.as_str().to_lowercase();
    let (kind, sign, object) = match entry.kind {
        EntryKind::Capture => ("charge", 1, "charge"),
        EntryKind::Refund => ("refund", -1, "refund"),
        EntryKind::RefundReversed => ("refund_failure", 1, "refund"),
    };
    let id = entry.refund_id.clone().unwrap_or_else(|| charge_id(&entry.reference));
    json!({
        "id": format!("txn_{}", entry.sequence), "object": "balance_transaction", "type": kind,
        "amount": entry.amount.saturating_mul(sign), "currency": currency, "created": seconds(entry.at),
        "source": {
            "id": id, "object": object, "amount": entry.amount, "currency": currency, "payment_intent": entry.reference,
        },
    })
}
