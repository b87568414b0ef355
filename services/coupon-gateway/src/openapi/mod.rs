//! The description of the interface, and a page to read it.

use actix_web::web;

/// Adds `/openapi.json` and the page.
pub fn configure(_app: &mut web::ServiceConfig) {}
