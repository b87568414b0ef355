//! The payment line against real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod callbacks;
mod database;
mod guards;
mod intake;
mod orders;
mod outbox;
mod scripted;
