//! The operators' addresses.

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::StatusCode,
    web::{self, Data, Payload, Query},
};
use chrono::{DateTime, Utc};
use domain::{
    ids::ID_CHARS_MAX,
    payment::{OrderId, RefundId},
};
use serde_json::{Value, json};

use super::{
    body,
    listing::{self, Refunds},
    orders::{self, Resolve},
    refunds::{self, Change},
    retry,
};
use crate::{
    audit::{Span, VERDICTS, Wish, totals},
    http::{self, ApiError, App},
};

/// How long a page is unless told otherwise.
const PAGE_DEFAULT: u32 = 50;

/// The longest time that may be left out of an audit as not settled yet: a day.
const SETTLING_MINUTES_MAX: u32 = 1_440;

/// Adds the operators' addresses.
pub fn configure(app: &mut web::ServiceConfig) {
    let get = |path: &str| web::resource(path.to_owned()).default_service(web::to(|| not_allowed("GET")));
    let post = |path: &str| web::resource(path.to_owned()).default_service(web::to(|| not_allowed("POST")));
    app.service(
        web::scope("/v1/admin")
            .service(get("/orders").route(web::get().to(stale)))
            .service(get("/orders/{orderId}").route(web::get().to(show)))
            .service(post("/orders/{orderId}/retry").route(web::post().to(retry)))
            .service(post("/orders/{orderId}/resolve").route(web::post().to(resolve)))
            .service(get("/refunds").route(web::get().to(list_refunds)))
            .service(post("/refunds/{refundId}/hold").route(web::post().to(hold)))
            .service(post("/refunds/{refundId}/release").route(web::post().to(release)))
            .service(get("/runs").route(web::get().to(runs)))
            .service(get("/callbacks").route(web::get().to(callbacks)))
            .service(get("/totals").route(web::get().to(day_totals)))
            .service(
                web::resource("/audits")
                    .route(web::get().to(audits))
                    .route(web::post().to(audit))
                    .default_service(web::to(|| not_allowed("GET, POST"))),
            )
            .default_service(web::to(|| async { ApiError::NotFound.error_response() })),
    );
}

async fn not_allowed(allowed: &'static str) -> HttpResponse {
    ApiError::MethodNotAllowed(allowed).error_response()
}

/// `limit`, `after`, and whatever else a list takes.
struct Page {
    pairs: Vec<(String, String)>,
    limit: i64,
}

impl Page {
    fn of(app: &App, request: &HttpRequest, known: &[&str]) -> Result<Self, ApiError> {
        let page_max = app.admin.settings.page_max;
        let pairs = Query::<Vec<(String, String)>>::from_query(request.query_string());
        let pairs = pairs.map_err(|_| ApiError::field("query", "is not percent-encoded UTF-8"))?.into_inner();
        let mut limit = PAGE_DEFAULT.min(page_max);
        for (name, value) in &pairs {
            match name.as_str() {
                "limit" => {
                    let given = value.parse::<u32>().ok().filter(|given| (1..=page_max).contains(given));
                    limit = given.ok_or_else(|| ApiError::field("limit", format!("must be a number from 1 to {page_max}")))?;
                }
                name if known.contains(&name) => {}
                _ => return Err(ApiError::field("query", "holds a parameter that is not known here")),
            }
        }
        Ok(Self { pairs, limit: i64::from(limit) })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn moment(&self, name: &'static str) -> Result<DateTime<Utc>, ApiError> {
        let text =
            self.text(name).ok_or_else(|| ApiError::field(name, "is missing; give a time such as 2026-05-01T00:00:00Z"))?;
        let parsed = DateTime::parse_from_rfc3339(text);
        parsed.map(|at| at.to_utc()).map_err(|_| ApiError::field(name, "is not a time such as 2026-05-01T00:00:00Z"))
    }
}

/// A page that says where the next one begins.
fn listed(name: &str, mut items: Vec<Value>, limit: i64, id: &str) -> Result<HttpResponse, ApiError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).and_then(|item| item.get(id)).cloned().unwrap_or(Value::Null);
    http::json(StatusCode::OK, &json!({ name: items, "next": next }))
}

async fn stale(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    app.admin.operators.actor(&request)?;
    let page = Page::of(&app, &request, &["after"])?;
    let after = page.text("after").unwrap_or_default();
    let orders = listing::stale(&app.admin.db, app.admin.settings.stale_s, after, page.limit.saturating_add(1)).await?;
    listed("orders", orders, page.limit, "orderId")
}

async fn show(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    app.admin.operators.actor(&request)?;
    // Also an order whose id is none, which somebody wrote past the rules: it is listed, so it is shown.
    let id = http::piece(&request, "orderId")?;
    if id.is_empty() || id.contains('\0') || id.chars().count() > ID_CHARS_MAX {
        return Err(ApiError::field("orderId", format!("give 1 to {ID_CHARS_MAX} characters")));
    }
    let order = listing::order(&app.admin.db, &id).await?;
    http::json(StatusCode::OK, &order.ok_or_else(|| ApiError::UnknownOrder(id.into_owned()))?)
}

async fn retry(app: Data<App>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    let actor = app.admin.operators.actor(&request)?;
    let id: OrderId = http::id(&request, "orderId")?;
    let wish = body::wish(&request, payload, &[]).await?;
    http::json(StatusCode::OK, &retry::retry(&app.admin, &actor, id.as_str(), &wish).await?)
}

async fn resolve(app: Data<App>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    let actor = app.admin.operators.actor(&request)?;
    let id: OrderId = http::id(&request, "orderId")?;
    let wish = body::wish(&request, payload, &["action", "restock"]).await?;
    let how = wish.action.as_deref().and_then(Resolve::named);
    let how = how.ok_or_else(|| {
        ApiError::field("action", "give settle (ask, and do what the answer says) or cancel (give the money back)")
    })?;
    http::json(StatusCode::OK, &orders::resolve(&app.admin, &actor, id.as_str(), &wish, how).await?)
}

async fn list_refunds(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    app.admin.operators.actor(&request)?;
    let page = Page::of(&app, &request, &["after", "state"])?;
    let which = Refunds::named(page.text("state").unwrap_or("open"));
    let which = which.ok_or_else(|| ApiError::field("state", "give open, held, manual or all"))?;
    let after = page.text("after").unwrap_or_default();
    let refunds = listing::refunds(&app.admin.db, which, after, page.limit.saturating_add(1)).await?;
    listed("refunds", refunds, page.limit, "refundId")
}

async fn hold(app: Data<App>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    change(app, request, payload, Change::Hold).await
}

async fn release(app: Data<App>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    change(app, request, payload, Change::Release).await
}

async fn change(app: Data<App>, request: HttpRequest, payload: Payload, change: Change) -> Result<HttpResponse, ApiError> {
    let actor = app.admin.operators.actor(&request)?;
    let id: RefundId = http::id(&request, "refundId")?;
    let wish = body::wish(&request, payload, &[]).await?;
    http::json(StatusCode::OK, &refunds::change(&app.admin, &actor, id.as_str(), &wish, change).await?)
}

async fn runs(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    app.admin.operators.actor(&request)?;
    let page = Page::of(&app, &request, &[])?;
    http::json(StatusCode::OK, &json!({ "runs": listing::runs(&app.admin.db, page.limit).await? }))
}

async fn callbacks(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    app.admin.operators.actor(&request)?;
    let page = Page::of(&app, &request, &[])?;
    http::json(StatusCode::OK, &json!({ "callbacks": listing::unknown_callbacks(&app.admin.db, page.limit).await? }))
}

async fn audits(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    app.admin.operators.actor(&request)?;
    let page = Page::of(&app, &request, &["provider", "verdict"])?;
    let verdict = page.text("verdict");
    if verdict.is_some_and(|verdict| !VERDICTS.contains(&verdict)) {
        return Err(ApiError::field("verdict", format!("give {}", VERDICTS.join(", "))));
    }
    let audits = listing::audits(&app.admin.db, page.text("provider"), verdict, page.limit).await?;
    http::json(StatusCode::OK, &json!({ "audits": audits }))
}

/// `POST /v1/admin/audits?provider=&from=&to=&settlingMinutes=`: audits now and answers when it is done.
async fn audit(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let actor = app.admin.operators.actor(&request)?;
    let page = Page::of(&app, &request, &["provider", "from", "to", "settlingMinutes"])?;
    let settling = page.text("settlingMinutes").map(|text| {
        let given = text.parse::<u32>().ok().filter(|given| *given <= SETTLING_MINUTES_MAX);
        given.ok_or_else(|| ApiError::field("settlingMinutes", format!("must be a number from 0 to {SETTLING_MINUTES_MAX}")))
    });
    let settling_minutes = settling.transpose()?;
    let span = Span::new(page.moment("from")?, page.moment("to")?).map_err(|problem| ApiError::field("to", problem))?;
    let mut reports = Vec::new();
    let wish = Wish { span, settling_minutes, actor: &actor, once: false };
    let wanted = page.text("provider");
    for name in app.admin.providers.keys().filter(|name| wanted.is_none_or(|wanted| name.as_str() == wanted)) {
        reports.push(app.admin.auditor.audit(name, wish).await?.ok_or(ApiError::Busy)?);
    }
    if reports.is_empty() {
        return Err(ApiError::UnknownProvider);
    }
    http::json(StatusCode::OK, &json!({ "audits": reports }))
}

async fn day_totals(app: Data<App>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    app.admin.operators.actor(&request)?;
    let page = Page::of(&app, &request, &["from", "to"])?;
    let span = Span::new(page.moment("from")?, page.moment("to")?).map_err(|problem| ApiError::field("to", problem))?;
    http::json(StatusCode::OK, &json!({ "totals": totals(&app.admin.db, span).await? }))
}
