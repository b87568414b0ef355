//! Lists: coupons, a coupon's history, and single commands.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Query},
};
use domain::ids::{CommandId, CouponCode};
use serde::Deserialize;

use super::{command::json, handlers::operator, store};
use crate::{
    error::{ApiError, FieldFault},
    path,
    state::AppState,
    status::coupon_json,
};

/// How long a page is unless told otherwise.
const PAGE_DEFAULT: usize = 50;

/// `GET /v1/admin/coupons`.
pub async fn coupons(app: Data<AppState>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    operator(&app, &request)?;
    let (limit, after) = page(&request, &app)?;
    let mut views = store::coupons(&app, after.as_deref().unwrap_or(""), limit.saturating_add(1)).await?;
    let more = cut(&mut views, limit);
    let items: Vec<String> = views.iter().map(|view| coupon_json(&view.coupon)).collect();
    let next = views.last().filter(|_| more).map(|view| view.coupon.code.as_str().to_owned());
    Ok(listed("coupons", &items.join(","), next))
}

/// `GET /v1/admin/coupons/{code}`: as it is now, past the process's memory.
pub async fn coupon(app: Data<AppState>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    operator(&app, &request)?;
    let code: CouponCode = path::id(&request, "code")?;
    let view = store::coupon(&app, &code).await?.ok_or(ApiError::UnknownCoupon(code))?;
    Ok(json(StatusCode::OK, coupon_json(&view.coupon)))
}

/// `GET /v1/admin/coupons/{code}/commands`.
pub async fn history(app: Data<AppState>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    operator(&app, &request)?;
    let code: CouponCode = path::id(&request, "code")?;
    let (limit, after) = page(&request, &app)?;
    let after = match after {
        Some(text) => text.parse().map_err(|_| ApiError::field("after", "must be the `next` of the page before"))?,
        None => -1,
    };
    let mut commands = store::commands(&app, &code, after, limit.saturating_add(1)).await?;
    if commands.is_empty() && after < 0 && store::coupon(&app, &code).await?.is_none() {
        return Err(ApiError::UnknownCoupon(code));
    }
    let more = cut(&mut commands, limit);
    let next = commands.last().filter(|_| more).map(|command| command.offset.to_string());
    let items = commands.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>().map_err(|_| ApiError::Internal)?;
    Ok(listed("commands", &items.join(","), next))
}

/// `GET /v1/admin/commands/{commandId}`: what became of it. With the place that a 202 named, a command that is not decided
/// yet is told from one that never was.
pub async fn command(app: Data<AppState>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    operator(&app, &request)?;
    let id: CommandId = path::id(&request, "commandId")?;
    let query = Query::<PlaceQuery>::from_query(request.query_string());
    let place = query.map_err(|_| ApiError::field("offset", "give partition and offset as the 202 named them"))?;
    let decided = match (place.partition, place.offset) {
        (Some(partition), _) => store::next_offset(&app, partition).await?,
        _ => i64::MAX,
    };
    // The position was read first, so a command before it that is not found now never was.
    if let Some(command) = store::command(&app, id).await? {
        return Ok(json(StatusCode::OK, serde_json::to_string(&command).map_err(|_| ApiError::Internal)?));
    }
    if place.offset.is_some_and(|offset| offset >= decided) {
        return Ok(json(StatusCode::OK, format!(r#"{{"commandId":"{id}","status":"pending"}}"#)));
    }
    Err(ApiError::UnknownCommand)
}

#[derive(Deserialize)]
struct PlaceQuery {
    partition: Option<i32>,
    offset: Option<i64>,
}

/// Takes away what is only there to show that there is more.
fn cut<T>(items: &mut Vec<T>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    more
}

fn listed(name: &str, items: &str, next: Option<String>) -> HttpResponse {
    let next = next.map(|next| format!(r#","next":{}"#, serde_json::Value::from(next))).unwrap_or_default();
    json(StatusCode::OK, format!(r#"{{"{name}":[{items}]{next}}}"#))
}

/// `limit` and `after` of a page.
fn page(request: &HttpRequest, app: &AppState) -> Result<(i64, Option<String>), ApiError> {
    let page_max = app.settings.admin.page_max;
    let query = Query::<Vec<(String, String)>>::from_query(request.query_string());
    let pairs = query.map_err(|_| ApiError::field("query", "is not percent-encoded UTF-8"))?.into_inner();
    let (mut limit, mut after, mut faults) = (PAGE_DEFAULT.min(page_max), None, Vec::new());
    for (name, value) in pairs {
        match name.as_str() {
            "limit" => match value.parse::<usize>() {
                Ok(number) if (1..=page_max).contains(&number) => limit = number,
                _ => faults.push(FieldFault::new("limit", format!("must be a number from 1 to {page_max}"))),
            },
            "after" => after = Some(value),
            _ => {}
        }
    }
    if faults.is_empty() { Ok((i64::try_from(limit).unwrap_or(i64::MAX), after)) } else { Err(ApiError::InvalidFields(faults)) }
}
