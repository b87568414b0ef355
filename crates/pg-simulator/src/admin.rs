//! The admin API: place payments, move them, set faults, read the ledger. Open to whoever reaches the port: it is for trying things.

use std::time::Duration;

use actix_web::{HttpResponse, http::StatusCode, web};
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::problem::{of_extractors, problem};

use crate::{
    control::{Control, ControlError},
    dialect::Shared,
    faults::{Congestion, Latency, Outage},
    payment::NewPayment,
    script::{Answer, Script},
};

/// Payments placed by one call, at most; also the bound of a body, with 4 KiB for each.
const BATCH_MAX: usize = 1_000;

/// Lines of a page of the ledger, at most.
const PAGE_MAX: usize = 1_000;

/// What `calls_per_second_max` is about.
const SECOND: Duration = Duration::from_secs(1);

pub fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/", web::get().to(overview))
        .route("/health/live", web::get().to(health))
        .route("/health/ready", web::get().to(health))
        .service(
            web::scope("/admin")
                .configure(of_extractors(BATCH_MAX * 4_096))
                .route("/payments", web::post().to(place))
                .route("/payments/{reference}", web::get().to(payment))
                .route("/payments/{reference}/state", web::put().to(tell))
                .route("/payments/{reference}/script", web::put().to(script))
                .route("/payments/{reference}/dashboard-refund", web::post().to(dashboard_refund))
                .route("/pay", web::post().to(pay))
                .route("/ledger", web::get().to(ledger))
                .route("/settings", web::put().to(settings))
                .route("/forget-keys", web::post().to(forget_keys))
                .route("/stats", web::get().to(stats))
                .route("/reset-load", web::post().to(reset_load))
                .default_service(web::to(|| async {
                    problem(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address")
                })),
        );
}

fn refused(error: &ControlError) -> HttpResponse {
    let (status, code) = match error {
        ControlError::Unknown(_) => (StatusCode::NOT_FOUND, "unknown_payment"),
        ControlError::Taken(_) => (StatusCode::CONFLICT, "reference_taken"),
        ControlError::Refused(_) => (StatusCode::CONFLICT, "refused"),
        ControlError::Full(_) => (StatusCode::INSUFFICIENT_STORAGE, "full"),
    };
    problem(status, code, &error.to_string())
}

fn done(result: Result<(), ControlError>) -> HttpResponse {
    result.map_or_else(|error| refused(&error), |()| HttpResponse::NoContent().finish())
}

async fn overview() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(include_str!("overview.txt"))
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({"status": "ready", "problems": []}))
}

/// One payment, or a list of them.
async fn place(shared: web::Data<Shared>, body: web::Json<Value>) -> HttpResponse {
    let all = match body.into_inner() {
        many @ Value::Array(_) => serde_json::from_value::<Vec<NewPayment>>(many),
        one => serde_json::from_value(one).map(|one| vec![one]),
    };
    let all = match all {
        Ok(all) if all.len() <= BATCH_MAX => all,
        Ok(_) => {
            let detail = format!("place at most {BATCH_MAX} payments at once");
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", &detail);
        }
        Err(error) => {
            return problem(StatusCode::BAD_REQUEST, "malformed_body", &format!("the body is not usable: {error}"));
        }
    };
    done(all.into_iter().try_for_each(|new| shared.control.place(new)))
}

async fn payment(shared: web::Data<Shared>, reference: web::Path<String>) -> HttpResponse {
    match shared.control.payment(&reference) {
        Some(view) => HttpResponse::Ok().json(view),
        None => refused(&ControlError::Unknown(reference.into_inner())),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Telling {
    answer: Answer,
}

async fn tell(shared: web::Data<Shared>, reference: web::Path<String>, body: web::Json<Telling>) -> HttpResponse {
    done(shared.control.tell(&reference, body.into_inner().answer))
}

async fn script(shared: web::Data<Shared>, reference: web::Path<String>, body: web::Json<Script>) -> HttpResponse {
    done(shared.control.set_script(&reference, body.into_inner()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DashboardRefund {
    amount: Option<i64>,
}

async fn dashboard_refund(
    shared: web::Data<Shared>,
    reference: web::Path<String>,
    body: web::Json<DashboardRefund>,
) -> HttpResponse {
    match shared.control.refund_at_dashboard(&reference, body.amount) {
        Ok(view) => HttpResponse::Ok().json(view),
        Err(error) => refused(&error),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Paying {
    references: Vec<String>,
}

async fn pay(shared: web::Data<Shared>, body: web::Json<Paying>) -> HttpResponse {
    done(body.references.iter().try_for_each(|reference| shared.control.pay(reference)))
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn ledger(shared: web::Data<Shared>, page: web::Query<Page>) -> HttpResponse {
    let limit = page.limit.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
    let (entries, more) = shared.control.ledger_page(page.after, limit);
    HttpResponse::Ok().json(json!({"entries": entries, "more": more}))
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Setting {
    latency: Option<Latency>,
    congestion: Option<Congestion>,
    outage: Option<Outage>,
    throttle_per_second: Option<u32>,
}

async fn settings(shared: web::Data<Shared>, body: web::Json<Setting>) -> HttpResponse {
    let control: &Control = &shared.control;
    if let Some(latency) = body.latency {
        control.set_latency(latency);
    }
    if let Some(congestion) = body.congestion {
        control.set_congestion(congestion);
    }
    if let Some(outage) = body.outage {
        control.set_outage(outage);
    }
    if let Some(per_second) = body.throttle_per_second {
        control.set_throttle(Some(per_second).filter(|&limit| limit > 0));
    }
    HttpResponse::NoContent().finish()
}

async fn forget_keys(shared: web::Data<Shared>) -> HttpResponse {
    shared.control.forget_keys();
    HttpResponse::NoContent().finish()
}

async fn stats(shared: web::Data<Shared>) -> HttpResponse {
    let control = &shared.control;
    HttpResponse::Ok().json(json!({
        "payments": control.payment_count(), "entries": control.entry_count(), "in_flight_max": control.in_flight_max(),
        "calls": control.calls_total(), "calls_per_second_max": control.busiest(SECOND), "unknown_calls": control.unknown_calls(),
    }))
}

async fn reset_load(shared: web::Data<Shared>) -> HttpResponse {
    shared.control.reset_load();
    HttpResponse::NoContent().finish()
}
