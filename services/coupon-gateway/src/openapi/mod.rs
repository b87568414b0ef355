//! The description of the interface, and a page to read it.

mod document;
mod operations;
mod schemas;

use std::sync::OnceLock;

use actix_web::{
    HttpRequest, HttpResponse, Resource, ResponseError,
    http::header::{self, HeaderValue},
    web::{self, Bytes},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

pub use document::{ERRORS, document};

use crate::error::ApiError;

/// Needs nothing from anywhere else: no script, font or style of another host.
const PAGE: &str = include_str!("page.html");
/// The page runs its own script and asks its own host, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'";

/// Adds `/openapi.json` and the page.
pub fn configure(app: &mut web::ServiceConfig) {
    let only_read = |resource: Resource| {
        resource.default_service(web::to(|| async { ApiError::MethodNotAllowed("GET, HEAD").error_response() }))
    };
    app.service(only_read(web::resource("/openapi.json").route(web::get().to(json)).route(web::head().to(json))));
    app.service(only_read(web::resource("/docs").route(web::get().to(page)).route(web::head().to(page))));
}

/// The document as it is sent. It is rendered once: it only changes with the program.
struct Rendered {
    body: Bytes,
    etag: String,
}

fn rendered() -> &'static Rendered {
    static RENDERED: OnceLock<Rendered> = OnceLock::new();
    RENDERED.get_or_init(|| {
        let body = Bytes::from(document().to_string());
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha256::digest(&body)));
        Rendered { body, etag }
    })
}

async fn json(request: HttpRequest) -> HttpResponse {
    let Rendered { body, etag } = rendered();
    let known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    response
        .insert_header((header::ETAG, etag.as_str()))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")));
    if known {
        return response.finish();
    }
    response.insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json"))).body(body.clone())
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")))
        .insert_header((header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .body(PAGE)
}
