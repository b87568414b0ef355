//! What a coupon request is answered with.

use actix_web::{
    HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
    web::Bytes,
};
use contracts::TraceParent;
use domain::{
    coupon::{LedgerRow, Place},
    ids::{CouponCode, MemberId, RequestId},
};
use uuid::{Uuid, fmt::Hyphenated};

use crate::{error::PROBLEM_JSON, json::Object, status::outcome_fields, ticket::TicketKeys, trace};

/// Where a ticket's status is found.
pub const TICKET_PATH: &str = "/v1/tickets/";

/// A request that is in the log or in the ledger.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// The request.
    pub request: RequestId,
    /// The coupon.
    pub coupon: &'a CouponCode,
    /// Who asked.
    pub member: &'a MemberId,
    /// Where it stands.
    pub place: Place,
    /// Records ahead of it, at most.
    pub ahead: i64,
    /// Its outcome, if it is decided.
    pub row: Option<&'a LedgerRow>,
}

fn json(status: StatusCode, media_type: &'static str) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(media_type)));
    response
}

/// 202.
#[must_use]
pub fn accepted(what: &Accepted<'_>, tickets: &TicketKeys, trace: TraceParent) -> HttpResponse {
    let ticket = tickets.sign(what.request, what.coupon, what.member, what.place);
    let mut id = Uuid::encode_buffer();
    let id: &str = Hyphenated::from_uuid(what.request.uuid()).encode_lower(&mut id);
    let body = Object::new(140 + id.len() + 2 * ticket.len() + what.coupon.as_str().len() + what.member.as_str().len())
        .plain("requestId", id)
        .text("couponCode", what.coupon.as_str())
        .text("memberId", what.member.as_str())
        .plain("ticket", &ticket)
        .joined("statusUrl", TICKET_PATH, &ticket);
    let body = outcome_fields(body, what.row, what.ahead);
    json(StatusCode::ACCEPTED, "application/json").insert_header((trace::TRACEPARENT, trace::header(trace))).body(body.close())
}

/// 410 with a body that was rendered when the coupon sold out.
#[must_use]
pub fn sold_out(body: &Bytes) -> HttpResponse {
    json(StatusCode::GONE, PROBLEM_JSON).body(body.clone())
}
