//! The gate against real Redis servers, each private to its test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod explored;
mod faults;
mod load;
mod model;
mod reserve;
mod server;
mod settle;
mod speed;
mod tls;
