//! Define, change, pause, resume, end, cancel.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::StatusCode,
    web::{self, Bytes, Data},
};
use contracts::{encode_cancel, encode_change, encode_define};
use domain::{
    coupon::{Cancel, Change, Define},
    ids::{CouponCode, RequestId},
};

use super::{
    body::{self, Changes},
    command::{decide, id_of, partition_for},
    listing,
};
use crate::{error::ApiError, path, state::AppState};

/// The longest body of an operator's call, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// Adds the operators' addresses.
pub fn configure(app: &mut web::ServiceConfig) {
    app.service(
        web::scope("/v1/admin")
            .service(
                web::resource("/coupons")
                    .route(web::get().to(listing::coupons))
                    .route(web::post().to(define))
                    .default_service(web::to(|| not_allowed("GET, POST"))),
            )
            .service(
                web::resource("/coupons/{code}")
                    .route(web::get().to(listing::coupon))
                    .route(web::patch().to(change))
                    .default_service(web::to(|| not_allowed("GET, PATCH"))),
            )
            .service(
                web::resource("/coupons/{code}/commands")
                    .route(web::get().to(listing::history))
                    .default_service(web::to(|| not_allowed("GET"))),
            )
            .service(post("/coupons/{code}/pause", Switch::Pause))
            .service(post("/coupons/{code}/resume", Switch::Resume))
            .service(post("/coupons/{code}/end", Switch::End))
            .service(
                web::resource("/coupons/{code}/requests/{requestId}/cancel")
                    .route(web::post().to(cancel))
                    .default_service(web::to(|| not_allowed("POST"))),
            )
            .service(
                web::resource("/commands/{commandId}")
                    .route(web::get().to(listing::command))
                    .default_service(web::to(|| not_allowed("GET"))),
            )
            .default_service(web::to(|| async { ApiError::NotFound.error_response() })),
    );
}

async fn not_allowed(allowed: &'static str) -> HttpResponse {
    ApiError::MethodNotAllowed(allowed).error_response()
}

/// The changes that have an address of their own.
#[derive(Clone, Copy)]
enum Switch {
    Pause,
    Resume,
    End,
}

fn post(path: &'static str, switch: Switch) -> actix_web::Resource {
    web::resource(path)
        .route(web::post().to(move |app: Data<AppState>, request: HttpRequest| async move {
            let changes = match switch {
                Switch::Pause => Changes { paused: Some(true), ..Changes::default() },
                Switch::Resume => Changes { paused: Some(false), ..Changes::default() },
                Switch::End => Changes { end: true, ..Changes::default() },
            };
            apply(&app, &request, changes).await
        }))
        .default_service(web::to(|| not_allowed("POST")))
}

/// Who calls. Every try counts for its address, so that tokens cannot be guessed fast where that limit is on.
///
/// # Errors
/// 401, 403 or 429.
pub(super) fn operator<'a>(app: &'a AppState, request: &HttpRequest) -> Result<&'a str, ApiError> {
    app.limits.address(request)?;
    app.admin.operator(request)
}

async fn define(app: Data<AppState>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let operator = operator(&app, &request)?.to_owned();
    let new = body::new_coupon(&read(&request, payload).await?)?;
    let id = id_of(&request, &app, &operator)?;
    let (partition, _) = partition_for(&app, &new.code).await?;
    let define = Define {
        id,
        coupon: new.code,
        actor: operator,
        name: new.name,
        admission: new.admission,
        total: new.total,
        opens_at: new.opens_at,
        closes_at: new.closes_at,
    };
    let code = define.coupon.clone();
    decide(&app, &request, &code, partition, id, StatusCode::CREATED, |envelope| encode_define(&define, &app.log_key, envelope))
        .await
}

async fn change(app: Data<AppState>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    app.admin.operator(&request)?;
    let changes = body::changes(&read(&request, payload).await?)?;
    apply(&app, &request, changes).await
}

async fn apply(app: &Data<AppState>, request: &HttpRequest, changes: Changes) -> Result<HttpResponse, ApiError> {
    let operator = operator(app, request)?.to_owned();
    let (code, partition) = existing(app, request).await?;
    let id = id_of(request, app, &operator)?;
    let change = Change {
        id,
        coupon: code.clone(),
        actor: operator,
        name: changes.name,
        total: changes.total,
        opens_at: changes.opens_at,
        closes_at: changes.closes_at,
        paused: changes.paused,
        end: changes.end,
    };
    decide(app, request, &code, partition, id, StatusCode::OK, |envelope| encode_change(&change, &app.log_key, envelope)).await
}

async fn cancel(app: Data<AppState>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let operator = operator(&app, &request)?.to_owned();
    let requested: RequestId = path::id(&request, "requestId")?;
    let member = body::member(&read(&request, payload).await?)?;
    let (code, partition) = existing(&app, &request).await?;
    let id = id_of(&request, &app, &operator)?;
    let cancel = Cancel { id, coupon: code.clone(), actor: operator, member, request: requested };
    decide(&app, &request, &code, partition, id, StatusCode::OK, |envelope| encode_cancel(&cancel, &app.log_key, envelope)).await
}

/// The coupon in the path and its partition.
async fn existing(app: &AppState, request: &HttpRequest) -> Result<(CouponCode, i32), ApiError> {
    let code: CouponCode = path::id(request, "code")?;
    match partition_for(app, &code).await? {
        (partition, true) => Ok((code, partition)),
        (_, false) => Err(ApiError::UnknownCoupon(code)),
    }
}

/// Reads a JSON body, at most [`BODY_BYTES_MAX`].
async fn read(request: &HttpRequest, payload: web::Payload) -> Result<Bytes, ApiError> {
    use actix_web::HttpMessage;
    if request.content_type() != "application/json" {
        return Err(ApiError::UnsupportedMediaType);
    }
    let too_large = ApiError::BodyTooLarge { limit_bytes: BODY_BYTES_MAX };
    match payload.to_bytes_limited(BODY_BYTES_MAX).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(ApiError::MalformedBody("it broke off".to_owned())),
        Err(_) => Err(too_large),
    }
}
