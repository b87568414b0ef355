//! The operators' interface: look at a coupon at once, and read what earlier runs found.

use std::sync::Arc;

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer,
    http::{StatusCode, header},
    web,
};
use chrono::{DateTime, Utc};
use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::RunQueryDsl;
use domain::ids::CouponCode;
use serde::{Deserialize, Serialize};
use service_kit::{
    operators::{NoOperator, Operators},
    ops_http::{self, Ops},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::TaskError,
    run::{Depth, RunTask},
    store::Store,
    walk::Walk,
};

/// Connections of the server; operators and probes need few.
const CONNECTIONS_MAX: usize = 64;
/// The longest page of reports.
const REPORTS_MAX: i64 = 200;
/// The page of reports unless another is asked for.
const REPORTS_DEFAULT: i64 = 20;

/// What the interface works with.
pub struct Admin {
    /// Who may call.
    pub operators: Operators,
    /// Looks at coupons.
    pub run: RunTask,
    /// Ends long looks with the process.
    pub stop: CancellationToken,
}

/// Serves probes, metrics and the operators' interface until `stop`.
///
/// # Errors
/// The address is taken or not ours.
pub fn serve(
    listen: &str,
    ops: Ops,
    admin: Arc<Admin>,
    stop: CancellationToken,
) -> std::io::Result<impl Future<Output = std::io::Result<()>> + use<>> {
    let server = HttpServer::new(move || {
        App::new().app_data(web::Data::from(Arc::clone(&admin))).configure(ops_http::configure(ops.clone())).configure(routes)
    })
    .workers(1)
    .max_connections(CONNECTIONS_MAX)
    .disable_signals()
    .shutdown_timeout(1)
    .bind(listen)
    .map_err(|error| ops_http::cannot_listen(listen, &error))?
    .run();
    Ok(ops_http::until(stop, server))
}

fn routes(app: &mut web::ServiceConfig) {
    app.service(web::resource("/v1/coupons/{code}/reconcile").route(web::post().to(reconcile)).default_service(web::to(
        || async { problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "POST is taken here") },
    )));
    app.service(web::resource("/v1/reconciliation/reports").route(web::get().to(reports)).default_service(web::to(|| async {
        problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "GET is taken here")
    })));
    app.default_service(web::to(|| async { problem(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address") }));
}

/// How deep to look; both are false unless given.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct Asked {
    full: bool,
    dry_run: bool,
}

async fn reconcile(admin: web::Data<Admin>, request: HttpRequest, asked: web::Bytes) -> HttpResponse {
    let operator = match admin.operators.caller(&request) {
        Ok(operator) => operator,
        Err(error) => return refused(error),
    };
    let code = request.match_info().query("code");
    let code = match CouponCode::new(code) {
        Ok(code) => code,
        Err(error) => return problem(StatusCode::BAD_REQUEST, "invalid_fields", &format!("code {error}")),
    };
    let asked: Asked = if asked.is_empty() {
        Asked::default()
    } else {
        match serde_json::from_slice(&asked) {
            Ok(asked) => asked,
            Err(error) => {
                let detail = format!("the body is not usable: {error}; give {{\"full\": true, \"dryRun\": false}}, or nothing");
                return problem(StatusCode::BAD_REQUEST, "malformed_body", &detail);
            }
        }
    };
    let depth = Depth { full: asked.full, dry_run: asked.dry_run };
    tracing::info!(couponCode = %code, operator, full = depth.full, dryRun = depth.dry_run, "[RECONCILIATION] asked for by an operator");
    let walk = Walk { stop: admin.stop.clone(), page: 1, beat: Arc::new(|| {}) };
    match admin.run.run_coupon(&code, depth, &walk).await {
        Ok(Some(report)) => HttpResponse::Ok().json(report),
        Ok(None) => problem(StatusCode::CONFLICT, "busy", "another replica is looking at this coupon; ask again in a moment"),
        Err(error @ TaskError::UnknownCoupon(_)) => problem(StatusCode::NOT_FOUND, "unknown_coupon", &error.to_string()),
        Err(error) => {
            tracing::error!(couponCode = %code, %error, "[RECONCILIATION] run failed");
            problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "a server did not answer; the log says which")
        }
    }
}

#[derive(Deserialize)]
struct Page {
    coupon: Option<String>,
    limit: Option<i64>,
    /// Reports older than this one.
    before: Option<i64>,
}

/// One kept report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Reports of later runs have larger numbers.
    pub id: i64,
    /// When the run began.
    pub started_at: DateTime<Utc>,
    /// When it ended.
    pub finished_at: DateTime<Utc>,
    /// What it found.
    pub report: serde_json::Value,
}

async fn reports(admin: web::Data<Admin>, request: HttpRequest, page: web::Query<Page>) -> HttpResponse {
    if let Err(error) = admin.operators.caller(&request) {
        return refused(error);
    }
    let limit = page.limit.unwrap_or(REPORTS_DEFAULT);
    if !(1..=REPORTS_MAX).contains(&limit) {
        return problem(StatusCode::BAD_REQUEST, "invalid_fields", &format!("limit is {limit}; give 1 to {REPORTS_MAX}"));
    }
    match admin.run.store.reports(page.coupon.as_deref(), page.before, limit).await {
        Ok(reports) => {
            let next = if i64::try_from(reports.len()).is_ok_and(|count| count == limit) {
                reports.last().map(|last| last.id)
            } else {
                None
            };
            HttpResponse::Ok().json(serde_json::json!({"reports": reports, "nextBefore": next}))
        }
        Err(error) => {
            tracing::error!(%error, "reports cannot be read");
            problem(StatusCode::SERVICE_UNAVAILABLE, "database_unavailable", "the database did not answer in time")
        }
    }
}

fn refused(error: NoOperator) -> HttpResponse {
    match error {
        NoOperator::Closed => problem(StatusCode::FORBIDDEN, "admin_disabled", &error.to_string()),
        _ => problem(StatusCode::UNAUTHORIZED, "unauthorized", &error.to_string()),
    }
}

fn problem(status: StatusCode, code: &str, detail: &str) -> HttpResponse {
    let mut response = service_kit::problem::problem(status, code, detail);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

impl Store {
    /// Reports of one coupon or of all, the newest first.
    ///
    /// # Errors
    /// PostgreSQL.
    pub async fn reports(&self, coupon: Option<&str>, before: Option<i64>, limit: i64) -> Result<Vec<Kept>, TaskError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = sql_types::BigInt)]
            id: i64,
            #[diesel(sql_type = sql_types::Timestamptz)]
            started_at: DateTime<Utc>,
            #[diesel(sql_type = sql_types::Timestamptz)]
            finished_at: DateTime<Utc>,
            #[diesel(sql_type = sql_types::Jsonb)]
            report: serde_json::Value,
        }
        let mut connection = self.connection().await?;
        let rows: Vec<Row> = sql_query(
            "SELECT id, started_at, finished_at, report FROM reconciliation_report \
             WHERE ($1 IS NULL OR coupon_code = $1) AND ($2 IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        )
        .bind::<sql_types::Nullable<sql_types::Text>, _>(coupon)
        .bind::<sql_types::Nullable<sql_types::BigInt>, _>(before)
        .bind::<sql_types::BigInt, _>(limit)
        .load(&mut connection)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Kept { id: row.id, started_at: row.started_at, finished_at: row.finished_at, report: row.report })
            .collect())
    }
}
