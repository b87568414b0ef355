//! The ceiling for the gateway: a bare actix server that parses the same JSON body and answers JSON of the same kind.
//!
//! It does nothing else: no identity, no limits, no store, no log. What the gateway needs above this is the price of its promises.

use actix_web::{App, HttpResponse, HttpServer, web};
use serde::{Deserialize, Serialize};

/// The body that the gateway takes, too.
#[derive(Deserialize)]
struct Ask {
    #[serde(rename = "memberId")]
    member_id: String,
}

/// An answer as short as a JSON answer can be.
#[derive(Serialize)]
struct Echo<'a> {
    #[serde(rename = "memberId")]
    member_id: &'a str,
    coupon: &'a str,
}

async fn echo(path: web::Path<String>, body: web::Json<Ask>) -> HttpResponse {
    HttpResponse::Accepted().json(Echo { member_id: &body.member_id, coupon: &path })
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let listen = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:18090".to_owned());
    HttpServer::new(|| App::new().route("/v1/coupons/{code}/requests", web::post().to(echo))).bind(listen)?.run().await
}
