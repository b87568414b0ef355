//! From an operator's call to the log and back: append the signed command, wait a bounded time for its decision, answer.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web::Data};
use contracts::{Encoded, Envelope, partition_of};
use domain::{
    coupon::{CommandOutcome, Place},
    ids::{CommandId, CouponCode, RequestId},
};
use tokio::time::{Instant, sleep};

use super::store;
use crate::{
    append::NotAppended,
    error::ApiError,
    state::{AppState, SOURCE},
    status::coupon_json,
    trace,
};

/// Where a command can be asked for.
pub const COMMAND_PATH: &str = "/v1/admin/commands/";

/// The command's id: of the `Idempotency-Key` if there is one, else new.
///
/// # Errors
/// A key that is none.
pub fn id_of(request: &HttpRequest, app: &AppState, operator: &str) -> Result<CommandId, ApiError> {
    let mut faults = Vec::new();
    let key = crate::intake::body::read_key(request.headers().get("idempotency-key"), &mut faults);
    if !faults.is_empty() {
        return Err(ApiError::InvalidFields(faults));
    }
    // The same key at another address is another command.
    let scoped = |key: &str| format!("{} {} {key}", request.method(), request.path());
    Ok(key.map_or_else(|| CommandId::fresh(app.clock.as_ref()), |key| CommandId::from_idempotency_key(operator, &scoped(key))))
}

/// The partition of a coupon: where it was defined, else where a new one belongs.
///
/// # Errors
/// 503 when PostgreSQL or Kafka do not answer.
pub async fn partition_for(app: &AppState, code: &CouponCode) -> Result<(i32, bool), ApiError> {
    if let Some(view) = store::coupon(app, code).await? {
        return Ok((view.coupon.partition, true));
    }
    let count = app.producer.partition_count(&app.settings.kafka.topics.created).await.map_err(|error| {
        tracing::warn!(%error, "the log's partitions could not be counted");
        ApiError::LogUnavailable
    })?;
    Ok((partition_of(code.as_str().as_bytes(), count), false))
}

/// Appends a command and answers with its decision: `accepted` is the status of success.
///
/// # Errors
/// 503 when it could not be appended, 409 when the log refused it.
pub async fn decide(
    app: &Data<AppState>,
    request: &HttpRequest,
    code: &CouponCode,
    partition: i32,
    id: CommandId,
    accepted: StatusCode,
    encode: impl FnOnce(&Envelope<'_>) -> Encoded,
) -> Result<HttpResponse, ApiError> {
    let _place = app.admin.wait_place()?;
    let now = app.clock.now();
    let envelope = Envelope { source: SOURCE, time: now, trace_parent: Some(trace::of(request, now)) };
    let record = encode(&envelope);
    let place = match app.append(partition, &record, now, None).await {
        Ok(place) => place,
        Err(NotAppended::Refused) => return Err(ApiError::LogUnavailable),
        // 202 would promise that it is in the log. Asked again with the same Idempotency-Key it is the same command.
        Err(NotAppended::Unknown) => return Err(ApiError::AppendUnknown { request_id: RequestId::from_uuid(id.uuid()) }),
    };
    tracing::info!(command = %id, couponCode = %code, %place, "an operator's command is in the log");
    let deadline = Instant::now() + Duration::from_millis(app.settings.admin.wait_ms);
    loop {
        if let Some(outcome) = store::command_outcome(app, id).await? {
            return answer(app, code, id, outcome, accepted).await;
        }
        if Instant::now() >= deadline {
            return Ok(pending(id, place));
        }
        sleep(Duration::from_millis(app.settings.admin.poll_ms)).await;
    }
}

async fn answer(
    app: &AppState,
    code: &CouponCode,
    id: CommandId,
    outcome: CommandOutcome,
    accepted: StatusCode,
) -> Result<HttpResponse, ApiError> {
    if outcome != CommandOutcome::Accepted {
        return Err(ApiError::CommandRefused(outcome));
    }
    // Whoever was told learns of it here at once; the other gateways read it at their next refresh.
    app.coupons.forget(code.as_str());
    let view = store::coupon(app, code).await?.ok_or_else(|| ApiError::UnknownCoupon(code.clone()))?;
    let body = format!(r#"{{"commandId":"{id}","status":"accepted","coupon":{}}}"#, coupon_json(&view.coupon));
    Ok(json(accepted, body))
}

/// 202: it is in the log and not decided yet. Its address carries its place, so that asking later can tell "not decided
/// yet" from "unknown".
fn pending(id: CommandId, place: Place) -> HttpResponse {
    let Place { partition, offset } = place;
    let url = format!("{COMMAND_PATH}{id}?partition={partition}&offset={offset}");
    let body = format!(r#"{{"commandId":"{id}","status":"pending","statusUrl":"{url}"}}"#);
    let mut response = json(StatusCode::ACCEPTED, body);
    if let Ok(location) = header::HeaderValue::try_from(url) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

/// An answer of the operators' interface.
pub fn json(status: StatusCode, body: String) -> HttpResponse {
    HttpResponse::build(status).insert_header((header::CONTENT_TYPE, "application/json")).body(body)
}
