//! `/failpoints` and `/clock-offset-ms` on a service's own port; only in builds with failpoints.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::{
    plan::Plan,
    registry::{Failpoints, PlanError, installed},
};

/// Adds the addresses.
pub fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/failpoints", web::get().to(list))
        .service(
            web::resource("/failpoints/{name}")
                .route(web::get().to(show))
                .route(web::put().to(put))
                .route(web::delete().to(delete)),
        )
        .route("/clock-offset-ms", web::put().to(put_offset));
}

async fn list() -> HttpResponse {
    HttpResponse::Ok().json(installed().map(Failpoints::reports).unwrap_or_default())
}

async fn show(name: web::Path<String>) -> HttpResponse {
    match installed().and_then(|points| points.report(&name)) {
        Some(report) => HttpResponse::Ok().json(report),
        None => refused(&PlanError::Unknown(name.into_inner())),
    }
}

async fn put(name: web::Path<String>, body: String) -> HttpResponse {
    match body.parse() {
        Ok(plan) => planned(&name, plan),
        Err(error) => HttpResponse::BadRequest().json(json!({"error": error.to_string()})),
    }
}

async fn delete(name: web::Path<String>) -> HttpResponse {
    planned(&name, Plan::OFF)
}

async fn put_offset(body: String) -> HttpResponse {
    match body.trim().parse() {
        Ok(offset_ms) => {
            domain::clock::set_offset_ms(offset_ms);
            HttpResponse::Ok().json(json!({"clockOffsetMs": offset_ms}))
        }
        Err(_) => HttpResponse::BadRequest().json(json!({"error": "the body is no number of milliseconds"})),
    }
}

fn planned(name: &str, plan: Plan) -> HttpResponse {
    let planned = installed().ok_or_else(|| PlanError::Unknown(name.to_owned())).and_then(|points| points.plan(name, plan));
    match planned {
        Ok(report) => HttpResponse::Ok().json(report),
        Err(error) => refused(&error),
    }
}

fn refused(error: &PlanError) -> HttpResponse {
    let mut response = match error {
        PlanError::Unknown(_) => HttpResponse::NotFound(),
        PlanError::CannotFail(_) => HttpResponse::BadRequest(),
    };
    response.json(json!({"error": error.to_string()}))
}
