//! The payment line against real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod admin;
mod audit;
mod callbacks;
mod database;
mod guards;
mod http;
mod intake;
mod orders;
mod outbox;
mod scripted;
mod settling;
