//! From an operator's call to the log and back: append the signed command, wait a bounded time for its decision, answer.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web::Data};
use contracts::{Encoded, Envelope, partition_of};
use domain::{
    coupon::CommandOutcome,
    ids::{CommandId, CouponCode},
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
    Ok(key.map_or_else(|| CommandId::fresh(app.clock.as_ref()), |key| CommandId::from_idempotency_key(operator, key)))
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
    let envelope = Envelope { source: SOURCE, time: app.clock.now(), trace_parent: Some(trace::of(request, app.clock.as_ref())) };
    let record = encode(&envelope);
    match app.append(partition, &record).await {
        Ok(place) => tracing::info!(command = %id, couponCode = %code, %place, "an operator's command is in the log"),
        Err(NotAppended::Refused) => return Err(ApiError::LogUnavailable),
        // Asked again with the same Idempotency-Key it is the same command; the answer says where to look for it.
        Err(NotAppended::Unknown) => return Ok(pending(id)),
    }
    let deadline = Instant::now() + Duration::from_millis(app.settings.admin.wait_ms);
    loop {
        if let Some(outcome) = store::command_outcome(app, id).await? {
            return answer(app, code, id, outcome, accepted).await;
        }
        if Instant::now() >= deadline {
            return Ok(pending(id));
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
    let view = store::coupon(app, code).await?.ok_or_else(|| ApiError::UnknownCoupon(code.clone()))?;
    let body = format!(r#"{{"commandId":"{id}","status":"accepted","coupon":{}}}"#, coupon_json(&view.coupon));
    Ok(json(accepted, body))
}

/// 202: it is in the log, or may be, and not decided yet.
fn pending(id: CommandId) -> HttpResponse {
    json(StatusCode::ACCEPTED, format!(r#"{{"commandId":"{id}","status":"pending","statusUrl":"{COMMAND_PATH}{id}"}}"#))
}

/// An answer of the operators' interface.
pub fn json(status: StatusCode, body: String) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((header::CONTENT_TYPE, "application/json"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(body)
}
