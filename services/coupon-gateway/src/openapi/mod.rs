//! The description of the interface, and a page to read it.

mod document;
mod operations;
mod schemas;

use std::sync::OnceLock;

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderValue},
    web::{self, Bytes},
};

pub use document::{ERRORS, document};

/// Needs nothing from anywhere else: no script, font or style of another host.
const PAGE: &str = include_str!("page.html");
/// The page runs its own script and asks its own host, and nothing else.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'";

/// Adds `/openapi.json` and the page.
pub fn configure(app: &mut web::ServiceConfig) {
    app.route("/openapi.json", web::get().to(json)).route("/docs", web::get().to(page));
}

async fn json() -> HttpResponse {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| Bytes::from(document().to_string()));
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .body(text.clone())
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")))
        .insert_header((header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY)))
        .insert_header((header::CACHE_CONTROL, HeaderValue::from_static("no-cache")))
        .body(PAGE)
}
