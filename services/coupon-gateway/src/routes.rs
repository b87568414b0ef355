//! Which address is answered by what.

use std::{rc::Rc, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse, ResponseError, guard,
    http::{
        Method,
        header::{self, HeaderValue},
    },
    middleware::DefaultHeaders,
    web,
};

use crate::{admin, error::ApiError, intake, openapi, status, worker::Worker};

/// What an answer says of being kept, unless it says something else itself: the next one may differ. It is told in this one place, so
/// that no way of answering can forget it.
#[must_use]
pub fn not_to_be_kept() -> DefaultHeaders {
    DefaultHeaders::new().add((header::CACHE_CONTROL, HeaderValue::from_static("no-store")))
}

/// Adds every address. Handlers of members' requests hold their worker; operators' handlers reach the state by
/// `web::Data<AppState>`.
pub fn configure(app: &mut web::ServiceConfig, worker: &Rc<Worker>) {
    app.app_data(web::Data::from(Arc::clone(&worker.app)));
    // The busiest address first: addresses are tried in their order.
    let hot = Rc::clone(worker);
    app.service(
        web::resource("/v1/coupons/{code}/requests")
            .route(
                web::post()
                    .to(move |request: HttpRequest, payload: web::Payload| intake::post(Rc::clone(&hot), request, payload)),
            )
            .default_service(web::to(|| not_allowed("POST"))),
    );
    get(app, worker, "/v1/tickets/{ticket}", status::by_ticket);
    get(app, worker, "/v1/tickets/{ticket}/events", status::ticket_events);
    get(app, worker, "/v1/coupons/{code}/members/{memberId}", status::by_member);
    get(app, worker, "/v1/members/{memberId}/coupons", status::coupons_of_member);
    get(app, worker, "/v1/coupons/{code}", status::coupon);
    admin::configure(app);
    openapi::configure(app);
    app.default_service(web::to(|| async { ApiError::NotFound.error_response() }));
}

fn get<F, R>(app: &mut web::ServiceConfig, worker: &Rc<Worker>, path: &str, handler: F)
where
    F: Fn(Rc<Worker>, HttpRequest) -> R + Copy + 'static,
    R: Future<Output = Result<HttpResponse, ApiError>> + 'static,
{
    let worker = Rc::clone(worker);
    app.service(
        web::resource(path)
            .route(
                web::route()
                    .guard(guard::fn_guard(|context| matches!(context.head().method, Method::GET | Method::HEAD)))
                    .to(move |request: HttpRequest| handler(Rc::clone(&worker), request)),
            )
            .default_service(web::to(|| not_allowed("GET, HEAD"))),
    );
}

async fn not_allowed(allowed: &'static str) -> HttpResponse {
    ApiError::MethodNotAllowed(allowed).error_response()
}
