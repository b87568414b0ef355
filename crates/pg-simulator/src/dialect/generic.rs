//! The generic HTTP contract, as `crates/payment-providers/openapi/generic.json` describes it.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::DateTime;
use domain::{clock::Timestamp, payment::PgRefundState};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, found, idempotency_key, is_authorized, rfc3339, unauthorized};
use crate::{
    ledger::{By, EntryKind},
    payment::{Payment, RefundOrder, RefundView, Refusal},
    respond::{Reply, Voice, answer, once},
    script::{Answer, Call, Method},
    state::Dialect,
};

/// Lines of a page of transactions, at most.
const PAGE_MAX: usize = 500;

const VOICE: Voice = Voice { dialect: Dialect::Generic, wording };

pub fn configure(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/generic/v1")
            .route("/payments/{reference}", web::get().to(query))
            .route("/payments/{reference}/refunds", web::post().to(refund))
            .route("/payments/{reference}/close", web::post().to(close))
            .route("/transactions", web::get().to(transactions)),
    );
}

fn error(code: &str, message: &str) -> Value {
    json!({"code": code, "message": message})
}

fn wording(status: u16) -> Value {
    match status {
        429 => error("rate_limited", "too many calls"),
        401 => error("unauthorized", "the key is not known"),
        _ => error("internal", "try again"),
    }
}

fn missing() -> Reply {
    Reply::new(404, error("payment_not_found", "there is no such payment"))
}

fn refusal(refusal: Refusal) -> Reply {
    let (status, code, message) = match refusal {
        Refusal::NotFound => return missing(),
        Refusal::NothingHeld => (409, "not_paid", "nothing was paid"),
        Refusal::AlreadyRefunded => (409, "already_refunded", "everything was given back"),
        Refusal::MoreThanHeld => (409, "amount_exceeds_held", "so much is not held"),
        Refusal::NeedsPayer => (422, "payer_account_required", "the payer's bank account is needed"),
        Refusal::Paid => (409, "already_paid", "the payment was paid"),
        Refusal::TooMany => (409, "too_many_refunds", "too many refunds"),
        Refusal::Scripted(code) => return Reply::new(409, error(&code, "refused by the script")),
    };
    Reply::new(status, error(code, message))
}

fn status(payment: &Payment) -> String {
    let text = match payment.answer() {
        Answer::NotFound | Answer::Open => "open",
        Answer::Deposit => "waiting_for_deposit",
        Answer::Paid if payment.is_given_back() => "refunded",
        Answer::Paid if payment.refundable() < payment.captured => "partially_refunded",
        Answer::Paid => "paid",
        Answer::Failed => "failed",
        Answer::Closed => "closed",
        Answer::Expired => "expired",
        Answer::Strange(text) => text,
    };
    text.to_owned()
}

fn refund_body(refund: &RefundView, currency: &str) -> Value {
    let state = match refund.state {
        PgRefundState::Pending => "pending",
        PgRefundState::Done => "done",
        PgRefundState::Failed => "failed",
    };
    json!({
        "id": refund.id, "key": refund.key, "amount": refund.amount, "currency": currency, "status": state,
        "created_at": rfc3339(refund.at),
    })
}

fn body(payment: &Payment) -> Value {
    let currency = payment.captured_in.as_str();
    json!({
        "reference": payment.reference,
        "status": status(payment),
        "amount": payment.amount,
        "currency": currency,
        "captured": payment.captured,
        "refunded": payment.refunded(),
        "transaction_id": payment.paid_at.map(|_| format!("tx_{}", payment.reference)),
        "paid_at": payment.paid_at.map(rfc3339),
        "refund_needs_payer": payment.script.method == Method::VirtualAccount,
        "expires_at": payment.deposit_until().map(rfc3339),
        "refunds": payment.refunds().map(|refund| refund_body(refund, currency)).collect::<Vec<_>>(),
    })
}

async fn query(request: HttpRequest, shared: web::Data<Shared>, path: web::Path<String>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    let reference = path.into_inner();
    answer(&shared.control, &request, Call::Query, &reference, VOICE, |account| {
        found(account.look(&reference, Call::Query, body), missing)
    })
    .await
}

#[derive(Deserialize)]
struct RefundRequest {
    amount: i64,
    currency: String,
    reason: String,
}

async fn refund(
    request: HttpRequest,
    shared: web::Data<Shared>,
    path: web::Path<String>,
    form: web::Json<RefundRequest>,
) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    let reference = path.into_inner();
    let key = idempotency_key(&request).map(str::to_owned);
    answer(&shared.control, &request, Call::Refund, &reference, VOICE, |account| {
        if key.is_none() || form.reason.is_empty() {
            return Reply::new(400, error("invalid_request", "Idempotency-Key and a reason are needed"));
        }
        let question = format!("generic {reference} {} {}", form.amount, form.currency);
        let conflict = || Reply::new(409, error("idempotency_conflict", "the key came with another request"));
        once(account.control, key.as_deref(), &question, conflict, || {
            match account.look(&reference, Call::Refund, |payment| payment.captured_in.to_string()) {
                None => return missing(),
                Some(currency) if currency != form.currency => {
                    return Reply::new(409, error("currency_differs", "it was paid in another currency"));
                }
                Some(_) => {}
            }
            let (amount, key) = (Some(form.amount), key.as_deref());
            let order = RefundOrder { amount, key, note: Some(&form.reason), by: By::Api, has_payer_account: false };
            match account.refund(&reference, order) {
                Ok(view) => Reply::new(201, refund_body(&view, &form.currency)),
                Err(why) => refusal(why),
            }
        })
    })
    .await
}

async fn close(request: HttpRequest, shared: web::Data<Shared>, path: web::Path<String>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    let reference = path.into_inner();
    answer(&shared.control, &request, Call::Close, &reference, VOICE, |account| match account.close(&reference) {
        Ok(()) => found(account.look(&reference, Call::Close, body), missing),
        Err(why) => refusal(why),
    })
    .await
}

#[derive(Deserialize)]
struct Window {
    from: String,
    to: String,
    cursor: Option<u64>,
    limit: Option<usize>,
}

async fn transactions(request: HttpRequest, shared: web::Data<Shared>, window: web::Query<Window>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    answer(&shared.control, &request, Call::Transactions, "", VOICE, |account| {
        let moment =
            |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|at| Timestamp::from_unix_ms(at.timestamp_millis()));
        let (Some(from), Some(to)) = (moment(&window.from), moment(&window.to)) else {
            return Reply::new(400, error("invalid_request", "from and to are RFC 3339"));
        };
        let limit = window.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let (entries, more) = account.list(from, to, window.cursor.unwrap_or(0), limit, |_| true);
        let next = entries.last().filter(|_| more).map(|entry| entry.sequence.to_string());
        let lines: Vec<Value> = entries
            .iter()
            .map(|entry| {
                let kind = match entry.kind {
                    EntryKind::Capture => "payment",
                    EntryKind::Refund => "refund",
                    EntryKind::RefundReversed => "refund_reversed",
                };
                json!({
                    "id": entry.sequence.to_string(), "reference": entry.reference, "type": kind, "amount": entry.amount,
                    "currency": entry.currency, "at": rfc3339(entry.at),
                })
            })
            .collect();
        Reply::new(200, json!({"transactions": lines, "next": next}))
    })
    .await
}
