//! Statuses by ticket and by member, a member's coupons, and coupons themselves.

use std::rc::Rc;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
};
use domain::{
    coupon::{Admission, LedgerRow, Outcome, Place},
    ids::{CouponCode, MemberId, RequestId},
};

use super::fields::outcome_fields;
use crate::{
    coupons::CouponView,
    error::{ApiError, FieldFault},
    find::Found,
    intake::TICKET_PATH,
    json::Object,
    path,
    store::{self, PageKey},
    ticket::Ticket,
    worker::Worker,
};

/// The ticket in the path, if it is ours and the caller's.
///
/// # Errors
/// 404 for a text that is no ticket of ours, 403 for another member's, and what identity says.
pub fn ticket_of(worker: &Worker, request: &HttpRequest) -> Result<Ticket, ApiError> {
    let app = &worker.app;
    app.limits.address(request)?;
    let caller = app.identity.member(request)?;
    let ticket = app.tickets.read(&path::piece(request, "ticket")?).ok_or(ApiError::UnknownTicket)?;
    same_member(caller.as_ref(), &ticket.member)?;
    Ok(ticket)
}

fn same_member(caller: Option<&MemberId>, owner: &MemberId) -> Result<(), ApiError> {
    if caller.is_none_or(|caller| caller == owner) { Ok(()) } else { Err(ApiError::NotYours) }
}

fn json(body: String) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(body)
}

fn request_object(request: RequestId, coupon: &CouponCode, member: &MemberId) -> Object {
    Object::new(320)
        .plain("requestId", &request.to_string())
        .text("couponCode", coupon.as_str())
        .text("memberId", member.as_str())
}

/// What a ticket's request has become.
///
/// # Errors
/// 503 when the database does not answer.
pub async fn ticket_status(worker: &Worker, ticket: &Ticket) -> Result<(String, bool), ApiError> {
    let found = worker.find.request(&ticket.coupon, ticket.request, ticket.place.partition).await?;
    let body = request_object(ticket.request, &ticket.coupon, &ticket.member);
    Ok(match found {
        Found::Decided(row) => (outcome_fields(body, Some(&row), 0).close(), true),
        Found::Undecided(position) => {
            let ahead = ticket.place.offset.saturating_sub(position.next_offset).max(0);
            (outcome_fields(body, None, ahead).close(), false)
        }
    })
}

/// `GET /v1/tickets/{ticket}`.
///
/// # Errors
/// See [`ApiError`].
pub async fn by_ticket(worker: Rc<Worker>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let ticket = ticket_of(&worker, &request)?;
    Ok(json(ticket_status(&worker, &ticket).await?.0))
}

/// `GET /v1/coupons/{code}/members/{memberId}`: the member's issue of the coupon, else his newest request.
///
/// # Errors
/// See [`ApiError`]; 404 `unknown_request` for a member of whom no request is known.
pub async fn by_member(worker: Rc<Worker>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let app = &worker.app;
    app.limits.address(&request)?;
    let caller = app.identity.member(&request)?;
    let member: MemberId = path::id(&request, "memberId")?;
    same_member(caller.as_ref(), &member)?;
    let view = worker.find.coupon(&path::piece(&request, "code")?).await?;
    let code = &view.coupon.code;
    let row = worker.find.member(code, &member).await?;
    let pending = match &row {
        Some(row) if matches!(row.outcome, Outcome::Issued { .. }) => None,
        row => pending_after(&worker, &view, &member, row.as_ref()).await,
    };
    let Some((id, place)) = pending.or(row.as_ref().map(|row| (row.request, Some(row.place)))) else {
        return Err(ApiError::UnknownRequest);
    };
    let row = row.filter(|row| row.request == id);
    let mut body = request_object(id, code, &member);
    if let Some(place) = place {
        let ticket = app.tickets.sign(id, code, &member, place);
        body = body.plain("ticket", &ticket).joined("statusUrl", TICKET_PATH, &ticket);
    }
    // Without a place nothing is known to be ahead: the reservation is still on its way into the log.
    let ahead = place.map_or(0, |place| view.ahead(place.offset));
    Ok(json(outcome_fields(body, row.as_ref(), ahead).close()))
}

/// A request of the member that is newer than `row`, the newest that is decided.
async fn pending_after(
    worker: &Worker,
    view: &CouponView,
    member: &MemberId,
    row: Option<&LedgerRow>,
) -> Option<(RequestId, Option<Place>)> {
    let code = &view.coupon.code;
    if let Some((request, place)) = worker.app.recent.get(code, member)
        && row.is_none_or(|row| row.request != request && place.offset > row.place.offset)
    {
        return Some((request, Some(place)));
    }
    if view.coupon.admission == Admission::Queued {
        return None;
    }
    // Without the gate, the ledger is all there is to tell.
    let pending = worker.gate.pending(code, member).await.unwrap_or(None);
    pending.filter(|pending| row.is_none_or(|row| row.request != *pending)).map(|pending| (pending, None))
}

/// `GET /v1/members/{memberId}/coupons`: all that the member ever asked for and that is decided, page by page.
///
/// # Errors
/// See [`ApiError`].
pub async fn coupons_of_member(worker: Rc<Worker>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let app = &worker.app;
    app.limits.address(&request)?;
    let caller = app.identity.member(&request)?;
    let member: MemberId = path::id(&request, "memberId")?;
    same_member(caller.as_ref(), &member)?;
    let (limit, after) = page_of(&request, app.settings.lookup.page_max)?;
    let mut rows = store::member_page(app, &member, after.as_ref(), limit.saturating_add(1)).await.map_err(ApiError::from)?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let mut body = String::with_capacity(rows.len().saturating_mul(240).saturating_add(64));
    body.push_str("{\"items\":[");
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        body.push_str(&outcome_fields(request_object(row.request, &row.coupon, &member), Some(row), 0).close());
    }
    body.push(']');
    if let (true, Some(last)) = (more, rows.last()) {
        body.push_str(",\"next\":\"");
        body.push_str(&PageKey::of(last).to_text());
        body.push('"');
    }
    body.push('}');
    Ok(json(body))
}

/// `limit` and `after` of a page.
fn page_of(request: &HttpRequest, page_max: usize) -> Result<(usize, Option<PageKey>), ApiError> {
    let mut faults = Vec::new();
    let (mut limit, mut after) = (page_max.min(50), None);
    for pair in request.query_string().split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("limit", text) => match text.parse::<usize>() {
                Ok(number) if (1..=page_max).contains(&number) => limit = number,
                _ => faults.push(FieldFault::new("limit", format!("must be a number from 1 to {page_max}"))),
            },
            ("after", text) => match PageKey::from_text(text) {
                Some(key) => after = Some(key),
                None => faults.push(FieldFault::new("after", "must be the `next` of the page before")),
            },
            _ => {}
        }
    }
    if faults.is_empty() { Ok((limit, after)) } else { Err(ApiError::InvalidFields(faults)) }
}

/// `GET /v1/coupons/{code}`, as last read from the database, at most about half a second ago.
///
/// # Errors
/// See [`ApiError`].
pub async fn coupon(worker: Rc<Worker>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    worker.app.limits.address(&request)?;
    let view = worker.find.coupon(&path::piece(&request, "code")?).await?;
    let body = coupon_json(&view.coupon);
    let etag = format!("\"{}-{}\"", view.coupon.rules_offset, view.coupon.issued);
    let same = request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = if same { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response.insert_header((header::ETAG, etag)).insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")));
    if same {
        return Ok(response.finish());
    }
    Ok(response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(body))
}

/// A coupon as the interface shows it, to members and operators alike.
#[must_use]
pub fn coupon_json(coupon: &domain::coupon::Coupon) -> String {
    let mut body = Object::new(256)
        .text("code", coupon.code.as_str())
        .text("name", &coupon.name)
        .plain("admission", coupon.admission.as_str())
        .plain("status", coupon.status().as_str())
        .number("totalQuantity", coupon.total)
        .number("issuedQuantity", coupon.issued)
        .number("left", coupon.left());
    if let Some(at) = coupon.opens_at {
        body = body.plain("opensAt", &at.to_string());
    }
    if let Some(at) = coupon.closes_at {
        body = body.plain("closesAt", &at.to_string());
    }
    body.close()
}
