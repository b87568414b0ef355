//! Toss Payments' core API, as far as the payment line uses it.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{FixedOffset, NaiveDateTime, SecondsFormat, TimeZone};
use domain::{
    clock::Timestamp,
    payment::{Currency, PgRefundState},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Shared, found, idempotency_key, is_authorized, unauthorized};
use crate::{
    account::Account,
    ledger::{By, Entry, EntryKind},
    payment::{Payment, RefundOrder, Refusal},
    respond::{Reply, Voice, answer, once},
    script::{Answer, Call, Method},
    state::Dialect,
};

/// Toss speaks Korean time: nine hours ahead of UTC, in seconds.
const KST_SECONDS: i32 = 9 * 3_600;

/// Lines of a page of transactions, at most.
const PAGE_MAX: usize = 10_000;

/// What a payment key is made of, besides the order id.
const KEY_PREFIX: &str = "tpk_";

const VOICE: Voice = Voice { dialect: Dialect::Toss, wording };

pub fn configure(config: &mut web::ServiceConfig) {
    config.service(
        web::scope("/toss/v1")
            .route("/payments/orders/{order}", web::get().to(query_by_order))
            .route("/payments/{key}", web::get().to(query_by_key))
            .route("/payments/{key}/cancel", web::post().to(cancel))
            .route("/transactions", web::get().to(transactions)),
    );
}

fn error(code: &str) -> Value {
    json!({"code": code, "message": format!("the simulator says {code}")})
}

fn wording(status: u16) -> Value {
    error(match status {
        401 => "UNAUTHORIZED_KEY",
        429 => "FORBIDDEN_CONSECUTIVE_REQUEST",
        400 => "PROVIDER_ERROR",
        _ => "FAILED_INTERNAL_SYSTEM_PROCESSING",
    })
}

fn missing() -> Reply {
    Reply::new(404, error("NOT_FOUND_PAYMENT"))
}

fn kst(at: Timestamp) -> String {
    FixedOffset::east_opt(KST_SECONDS)
        .map(|zone| at.to_datetime().with_timezone(&zone).to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_default()
}

/// An amount as Toss writes it: won and yen as they are, other currencies in major units with decimals.
fn number(amount: i64, currency: Currency) -> Value {
    if has_no_minor_unit(currency) {
        return Value::from(amount);
    }
    let text = format!("{}.{:02}", amount.div_euclid(100), amount.rem_euclid(100));
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// The minor units that a number of Toss' means; None if it is no amount.
fn minor_units(number: &Value, currency: Currency) -> Option<i64> {
    if has_no_minor_unit(currency) {
        return number.as_i64();
    }
    let text = number.to_string();
    let (whole, cents) = text.split_once('.').unwrap_or((&text, ""));
    let cents = format!("{cents:0<2}");
    whole.parse::<i64>().ok()?.checked_mul(100)?.checked_add(cents.parse().ok().filter(|_| cents.len() == 2)?)
}

fn has_no_minor_unit(currency: Currency) -> bool {
    matches!(currency.as_str(), "KRW" | "JPY")
}

/// The order id behind a payment key.
fn order_of(key: &str) -> &str {
    key.strip_prefix(KEY_PREFIX).unwrap_or("")
}

/// The secret that Toss gives with each virtual account, and that comes with its deposit callbacks.
pub fn secret(payment: &Payment) -> String {
    format!("ps_{:016x}", crate::faults::spread(&payment.reference, 7))
}

pub fn status(payment: &Payment) -> &str {
    match payment.answer() {
        Answer::NotFound | Answer::Open => "READY",
        Answer::Deposit => "WAITING_FOR_DEPOSIT",
        Answer::Paid if payment.is_given_back() => "CANCELED",
        Answer::Paid if payment.refundable() < payment.captured => "PARTIAL_CANCELED",
        Answer::Paid => "DONE",
        Answer::Failed => "ABORTED",
        Answer::Closed => "CANCELED",
        Answer::Expired => "EXPIRED",
        Answer::Strange(text) => text,
    }
}

pub fn body(payment: &Payment) -> Value {
    let is_paid = payment.paid_at.is_some();
    let total = if is_paid { payment.captured } else { payment.amount };
    // An unpaid payment that was closed has nothing left to cancel, as at Toss.
    let balance = match payment.answer() {
        Answer::Closed => 0,
        _ if is_paid => payment.refundable(),
        _ => total,
    };
    let cancels: Vec<Value> = payment
        .refunds()
        .map(|refund| {
            let state = match refund.state {
                PgRefundState::Pending => "IN_PROGRESS",
                PgRefundState::Done => "DONE",
                PgRefundState::Failed => "ABORTED",
            };
            json!({
                "transactionKey": refund.id, "cancelReason": refund.note, "cancelAmount": number(refund.amount, payment.captured_in), "cancelStatus": state,
                "canceledAt": kst(refund.at), "cancelRequestId": null,
            })
        })
        .collect();
    let virtual_account = (payment.script.method == Method::VirtualAccount).then(|| {
        json!({
            "accountNumber": "00000000000000", "bankCode": "20", "accountType": "일반", "customerName": "-",
            "dueDate": payment.deposit_until().map(kst), "expired": *payment.answer() == Answer::Expired,
            "refundStatus": "NONE", "settlementStatus": "INCOMPLETED",
        })
    });
    json!({
        "mId": "simulator", "version": "2022-11-16", "type": "NORMAL", "country": "KR",
        "paymentKey": format!("{KEY_PREFIX}{}", payment.reference),
        "lastTransactionKey": payment.paid_at.map(|_| format!("tx_{}", payment.reference)),
        "orderId": payment.reference, "orderName": "-",
        "method": if virtual_account.is_some() { "가상계좌" } else { "카드" },
        "currency": payment.captured_in, "totalAmount": number(total, payment.captured_in), "balanceAmount": number(balance, payment.captured_in),
        "status": status(payment),
        "requestedAt": kst(payment.placed_at), "approvedAt": payment.paid_at.map(kst),
        "cancels": if cancels.is_empty() { Value::Null } else { Value::from(cancels) },
        "secret": virtual_account.is_some().then(|| secret(payment)),
        "virtualAccount": virtual_account,
        "failure": (*payment.answer() == Answer::Failed).then(|| json!({"code": "REJECT_CARD_COMPANY", "message": "declined"})),
    })
}

async fn query_by_order(request: HttpRequest, shared: web::Data<Shared>, order: web::Path<String>) -> HttpResponse {
    query(&request, &shared, &order).await
}

async fn query_by_key(request: HttpRequest, shared: web::Data<Shared>, key: web::Path<String>) -> HttpResponse {
    query(&request, &shared, order_of(&key)).await
}

async fn query(request: &HttpRequest, shared: &Shared, order: &str) -> HttpResponse {
    if !is_authorized(request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    answer(&shared.control, request, Call::Query, order, VOICE, |account| found(account.look(order, Call::Query, body), missing))
        .await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CancelRequest {
    cancel_reason: String,
    cancel_amount: Option<Value>,
    refundable_amount: Option<Value>,
    refund_receive_account: Option<Value>,
}

async fn cancel(
    request: HttpRequest,
    shared: web::Data<Shared>,
    key: web::Path<String>,
    form: web::Json<CancelRequest>,
) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    let order = order_of(&key).to_owned();
    let idempotency = idempotency_key(&request).map(str::to_owned);
    // Cancelling what nobody has paid closes it; Toss has one call for both.
    let is_paid = Account { control: &shared.control, dialect: VOICE.dialect }
        .look(&order, Call::Close, |payment| payment.paid_at.is_some())
        .unwrap_or(true);
    let call = if is_paid { Call::Refund } else { Call::Close };
    answer(&shared.control, &request, call, &order, VOICE, |account| {
        if idempotency.as_ref().is_some_and(|key| key.len() > 300) {
            return Reply::new(400, error("INVALID_IDEMPOTENCY_KEY"));
        }
        // At Toss another body under the same key gets the first answer.
        let question = format!("toss {order}");
        once(
            account.control,
            idempotency.as_deref(),
            &question,
            || Reply::new(400, error("INVALID_REQUEST")),
            || cancelled(account, &order, &form, idempotency.as_deref()),
        )
    })
    .await
}

fn cancelled(account: Account<'_>, order: &str, form: &CancelRequest, key: Option<&str>) -> Reply {
    if form.cancel_reason.is_empty() || form.cancel_reason.chars().count() > 200 {
        return Reply::new(400, error("INVALID_REQUEST"));
    }
    let show = |payment: &Payment| (payment.answer().clone(), payment.refundable(), payment.captured_in);
    let Some((answer, refundable, currency)) = account.look(order, Call::Close, show) else { return missing() };
    let amount = match form.cancel_amount.as_ref().map(|number| minor_units(number, currency)) {
        Some(None) => return Reply::new(400, error("INVALID_REQUEST")),
        amount => amount.flatten(),
    };
    let done = match answer {
        Answer::Deposit => account.close(order),
        Answer::Paid => {
            if form.refundable_amount.as_ref().is_some_and(|expected| minor_units(expected, currency) != Some(refundable)) {
                return Reply::new(400, error("NOT_MATCHES_REFUNDABLE_AMOUNT"));
            }
            let (note, has_payer_account) = (Some(form.cancel_reason.as_str()), form.refund_receive_account.is_some());
            account.refund(order, RefundOrder { amount, key, note, by: By::Api, has_payer_account }).map(|_view| ())
        }
        Answer::Closed => Err(Refusal::AlreadyRefunded),
        _ => return Reply::new(403, error("NOT_CANCELABLE_PAYMENT")),
    };
    match done {
        Ok(()) => found(account.look(order, Call::Refund, body), missing),
        Err(Refusal::NotFound) => missing(),
        Err(Refusal::AlreadyRefunded) => Reply::new(400, error("ALREADY_CANCELED_PAYMENT")),
        Err(Refusal::MoreThanHeld) => Reply::new(403, error("NOT_CANCELABLE_AMOUNT")),
        Err(Refusal::NeedsPayer) => Reply::new(400, error("INVALID_REFUND_ACCOUNT_INFO")),
        Err(Refusal::TooMany) => Reply::new(403, error("EXCEED_CANCEL_LIMIT")),
        Err(Refusal::NothingHeld | Refusal::Paid) => Reply::new(403, error("NOT_CANCELABLE_PAYMENT")),
        Err(Refusal::Scripted(code)) => Reply::new(403, error(&code)),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Window {
    start_date: String,
    end_date: String,
    starting_after: Option<String>,
    limit: Option<usize>,
}

/// Toss' dates have no zone: they are Korean.
fn moment(text: &str) -> Option<Timestamp> {
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    let at = FixedOffset::east_opt(KST_SECONDS)?.from_local_datetime(&naive).single()?;
    Some(Timestamp::from_unix_ms(at.timestamp_millis()))
}

async fn transactions(request: HttpRequest, shared: web::Data<Shared>, window: web::Query<Window>) -> HttpResponse {
    if !is_authorized(&request, &shared.api_key) {
        return unauthorized(wording(401));
    }
    answer(&shared.control, &request, Call::Transactions, "", VOICE, |account| {
        let (Some(from), Some(to)) = (moment(&window.start_date), moment(&window.end_date)) else {
            return Reply::new(400, error("INVALID_REQUEST"));
        };
        let after = match window.starting_after.as_deref().map(|key| key.trim_start_matches("txn_").parse()) {
            None => 0,
            Some(Ok(after)) => after,
            Some(Err(_)) => return Reply::new(400, error("INVALID_TRANSACTION_KEY")),
        };
        let limit = window.limit.unwrap_or(100).clamp(1, PAGE_MAX);
        // Cancels that came back are in no list of Toss'.
        let keep = |entry: &Entry| entry.kind != EntryKind::RefundReversed;
        let (entries, _more) = account.list(from, to, after, limit, keep);
        Reply::new(200, entries.iter().map(line).collect())
    })
    .await
}

fn line(entry: &Entry) -> Value {
    let status = match entry.kind {
        EntryKind::Capture => "DONE",
        EntryKind::Refund | EntryKind::RefundReversed => "CANCELED",
    };
    json!({
        "mId": "simulator", "transactionKey": format!("txn_{}", entry.sequence),
        "paymentKey": format!("{KEY_PREFIX}{}", entry.reference), "orderId": entry.reference, "method": "카드",
        "currency": entry.currency, "amount": number(entry.amount, entry.currency), "status": status, "transactionAt": kst(entry.at),
    })
}
