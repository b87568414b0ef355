//! What happens to a request for a coupon: refused here, reserved, appended.

use std::time::Duration;

use actix_web::HttpResponse;
use contracts::{Envelope, encode_request};
use domain::{
    clock::Timestamp,
    coupon::{Admission, LedgerRow, Outcome, Place, Request},
    ids::RequestId,
};
use redis_io::{Reservation, Reserve};

use super::{
    NoGate,
    answer::{self, Accepted},
    handler::Asked,
};
use crate::{
    append::NotAppended,
    coupons::{CouponView, Outside, SoldOut},
    error::ApiError,
    find::Found,
    state::SOURCE,
    worker::Worker,
};

/// How long a refusal waits until the log is decided to the end that it has now. Usually that takes a tenth of it.
const UNDERWAY_MAX: Duration = Duration::from_secs(1);
/// How often it looks.
const UNDERWAY_LOOK_EVERY: Duration = Duration::from_millis(50);

/// How a request goes into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    request: RequestId,
    /// Signed as admitted by the gate.
    admitted: bool,
    /// This very call made the reservation, then: it may take it back.
    reserved_at: Option<Timestamp>,
    /// The moment of the event.
    at: Timestamp,
}

/// Takes a request through to its answer.
///
/// # Errors
/// What the member is told instead of 202.
pub async fn admit(worker: &Worker, view: &CouponView, asked: &Asked<'_>) -> Result<HttpResponse, ApiError> {
    let app = &worker.app;
    let now = asked.at;
    let fresh = app.coupons.is_fresh(now);
    let outside = if fresh { view.outside(now, app.settings.coupons.clock_skew_ms) } else { None };
    let queued = view.coupon.admission == Admission::Queued;
    if let Some(outside) = outside
        // The window and pause of a reserved coupon are judged by the gate, whose clock counts; the end is final.
        && (queued || outside == Outside::Ended)
    {
        return existing_or(worker, view, asked, false, view.outside_error(outside)).await;
    }
    if let Some(sold_out) = view.sold_out.as_ref().filter(|_| fresh)
        && let Some(response) = from_memory(worker, view, sold_out, asked).await?
    {
        return Ok(response);
    }
    if !app.log_is_up(now) {
        return Err(ApiError::LogUnavailable);
    }
    if queued {
        return append(worker, view, asked, Entry { request: asked.request, admitted: false, reserved_at: None, at: now }).await;
    }
    through_gate(worker, view, asked, outside).await
}

/// Answers "sold out" from memory, unless the request may exist or its member may hold an issue. None: go on.
async fn from_memory(
    worker: &Worker,
    view: &CouponView,
    sold_out: &SoldOut,
    asked: &Asked<'_>,
) -> Result<Option<HttpResponse>, ApiError> {
    let app = &worker.app;
    let holder = sold_out.holders.contains(app.fingerprinter.of(&asked.member));
    if !holder && !asked.keyed {
        app.metrics.sold_out_here.increment(1);
        app.metrics.refused_sold_out();
        return Ok(Some(answer::sold_out(&sold_out.body)));
    }
    if let Some(response) = existing(worker, view, asked, false).await? {
        return Ok(Some(response));
    }
    // A queued coupon's holder is told by the log that he has it; else the ledger holds every request that exists.
    let queued = view.coupon.admission == Admission::Queued;
    if sold_out.all_decided && !(queued && holder) {
        // The memory may be a second old: a request that another gateway took after a restock is in the log, and not decided yet.
        if asked.keyed
            && let Some(response) = underway(worker, view, asked).await?
        {
            return Ok(Some(response));
        }
        return Err(ApiError::SoldOut(view.coupon.code.clone()));
    }
    Ok(None)
}

/// The request as the ledger has it: by its key, or of a reserved coupon the issue that its member holds.
///
/// `gate_knows`: the gate just said that the member holds nothing, so only a key can name a request that exists.
async fn existing(
    worker: &Worker,
    view: &CouponView,
    asked: &Asked<'_>,
    gate_knows: bool,
) -> Result<Option<HttpResponse>, ApiError> {
    let coupon = &view.coupon;
    if asked.keyed
        && let Found::Decided(row) = worker.find.request(&coupon.code, asked.request, coupon.partition).await?
        // Another member's request has another id; this only guards against a foreign one that was chosen on purpose.
        && row.member.as_ref() == Some(&asked.member)
    {
        return Ok(Some(decided(worker, view, asked, &row)));
    }
    if coupon.admission == Admission::Reserved
        && !gate_knows
        && let Some(row) = worker.find.member(&coupon.code, &asked.member).await?
        && matches!(row.outcome, Outcome::Issued { .. })
    {
        return Ok(Some(decided(worker, view, asked, &row)));
    }
    Ok(None)
}

/// A refusal is never the answer to a request that exists.
async fn existing_or(
    worker: &Worker,
    view: &CouponView,
    asked: &Asked<'_>,
    gate_knows: bool,
    refusal: ApiError,
) -> Result<HttpResponse, ApiError> {
    match existing(worker, view, asked, gate_knows).await? {
        Some(response) => Ok(response),
        None if asked.keyed => match underway(worker, view, asked).await? {
            Some(response) => Ok(response),
            None => Err(refusal),
        },
        None => Err(refusal),
    }
}

/// A request that is in the log and not decided yet: it may have been taken a moment ago, by another gateway or before the coupon closed. Waits
/// until all that the log holds by now is decided, and gives the request if it was among that.
async fn underway(worker: &Worker, view: &CouponView, asked: &Asked<'_>) -> Result<Option<HttpResponse>, ApiError> {
    let (code, partition) = (&view.coupon.code, view.coupon.partition);
    if !worker.app.log_is_up(worker.app.clock.now()) {
        return Err(ApiError::LogUnavailable);
    }
    let looking = async {
        let end = worker.find.end_of_log(partition).await.ok_or(ApiError::LogUnavailable)?;
        loop {
            match worker.find.request(code, asked.request, partition).await? {
                Found::Decided(row) if row.member.as_ref() == Some(&asked.member) => {
                    return Ok(Some(decided(worker, view, asked, &row)));
                }
                Found::Decided(_) => return Ok(None),
                Found::Undecided(position) if position.next_offset >= end => return Ok(None),
                Found::Undecided(_) => tokio::time::sleep(UNDERWAY_LOOK_EVERY).await,
            }
        }
    };
    // Nobody knows: neither a refusal nor an acceptance would be true. Asking again is safe.
    let unknown = || Err(ApiError::AppendUnknown { request_id: asked.request });
    tokio::time::timeout(UNDERWAY_MAX, looking).await.unwrap_or_else(|_| unknown())
}

fn decided(worker: &Worker, view: &CouponView, asked: &Asked<'_>, row: &LedgerRow) -> HttpResponse {
    let what = Accepted {
        request: row.request,
        coupon: &view.coupon.code,
        member: &asked.member,
        place: row.place,
        ahead: 0,
        row: Some(row),
    };
    answer::accepted(&what, &worker.app.tickets, asked.trace())
}

async fn through_gate(
    worker: &Worker,
    view: &CouponView,
    asked: &Asked<'_>,
    outside: Option<Outside>,
) -> Result<HttpResponse, ApiError> {
    let coupon = &view.coupon;
    let reserved = worker.gate.reserve(&coupon.code, &asked.member, asked.request).await;
    let now = worker.app.clock.now();
    let unsigned = Entry { request: asked.request, admitted: false, reserved_at: None, at: now };
    match reserved {
        Ok(Reserve::Reserved { at }) => {
            append(worker, view, asked, Entry { reserved_at: Some(at), admitted: true, ..unsigned }).await
        }
        Ok(Reserve::Pending(pending)) => again(worker, view, asked, pending).await,
        Ok(Reserve::Issued) => match existing(worker, view, asked, false).await? {
            Some(response) => Ok(response),
            // Redis names a holder whom the ledger does not know. Only the log can tell.
            None => append(worker, view, asked, unsigned).await,
        },
        Ok(refusal) => {
            let code = coupon.code.clone();
            let refusal = match refusal {
                Reserve::NotOpen { opens_at } => ApiError::NotOpen { coupon: code, opens_at },
                Reserve::Closed => ApiError::Closed { coupon: code, closes_at: coupon.closes_at },
                Reserve::Paused => ApiError::Paused(code),
                Reserve::Ended => ApiError::Ended(code),
                _ => ApiError::SoldOut(code),
            };
            // The gate knows no keys: this request may have come before, past a gate that was cold, and still wait for its decision. Appending it
            // would tell, but there it could overtake a reservation that was promised a seat.
            existing_or(worker, view, asked, true, refusal).await
        }
        Err(NoGate::Full) => Err(ApiError::Overloaded("requests wait for the gate already")),
        Err(NoGate::Down) if !view.queued_when_cold => Err(ApiError::GateUnavailable),
        Err(NoGate::Down) => {
            if let Some(outside) = outside {
                return existing_or(worker, view, asked, false, view.outside_error(outside)).await;
            }
            worker.app.metrics.fallbacks.increment(1);
            append(worker, view, asked, unsigned).await
        }
    }
}

/// The member has a reservation: his request may or may not be in the log. If this process saw it acknowledged, it is
/// there; else it is published again, which the log takes for the same.
async fn again(worker: &Worker, view: &CouponView, asked: &Asked<'_>, existing: RequestId) -> Result<HttpResponse, ApiError> {
    if let Some((request, place)) = worker.app.recent.get(&view.coupon.code, &asked.member)
        && request == existing
    {
        return Ok(appended(worker, view, asked, request, place));
    }
    append(worker, view, asked, Entry { request: existing, admitted: true, reserved_at: None, at: worker.app.clock.now() }).await
}

async fn append(worker: &Worker, view: &CouponView, asked: &Asked<'_>, entry: Entry) -> Result<HttpResponse, ApiError> {
    let app = &worker.app;
    let coupon = &view.coupon;
    let request =
        Request { id: entry.request, coupon: coupon.code.clone(), member: asked.member.clone(), admitted: entry.admitted };
    let envelope = Envelope { source: SOURCE, time: entry.at, trace_parent: Some(asked.trace()) };
    let record = encode_request(&request, None, &app.log_key, &envelope);
    match app.append(coupon.partition, &record, entry.at, Some(&worker.mailbox)).await {
        Ok(place) => {
            app.recent.put(&coupon.code, &asked.member, entry.request, place);
            Ok(appended(worker, view, asked, entry.request, place))
        }
        Err(NotAppended::Refused) => {
            if let Some(reserved_at) = entry.reserved_at {
                release(worker, asked, coupon.code.clone(), reserved_at).await;
            }
            Err(ApiError::LogUnavailable)
        }
        Err(NotAppended::Unknown) => Err(ApiError::AppendUnknown { request_id: entry.request }),
    }
}

fn appended(worker: &Worker, view: &CouponView, asked: &Asked<'_>, request: RequestId, place: Place) -> HttpResponse {
    let ahead = view.ahead(place.offset);
    let what = Accepted { request, coupon: &view.coupon.code, member: &asked.member, place, ahead, row: None };
    answer::accepted(&what, &worker.app.tickets, asked.trace())
}

/// Takes the reservation back at once. If that fails, the reconciler publishes it, and the member gets his seat.
async fn release(worker: &Worker, asked: &Asked<'_>, coupon: domain::ids::CouponCode, reserved_at: Timestamp) {
    let app = &worker.app;
    let reservation = Reservation { member: asked.member.clone(), request: asked.request, reserved_at };
    match worker.gate.release(&coupon, &reservation).await {
        Ok(released) => {
            app.metrics.released.increment(1);
            tracing::info!(couponCode = %coupon, memberId = %asked.member, released, "rollback done");
        }
        Err(error) => {
            app.metrics.release_failures.increment(1);
            tracing::error!(couponCode = %coupon, memberId = %asked.member, %error, "rollback failed");
        }
    }
}
