//! The gateway as a process, against real servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::large_futures,
    missing_docs
)]

mod admin;
mod admin_decider;
mod failpoints;
mod faults;
mod gateway;
mod http_errors;
mod http_refusals;
mod identity;
mod intake;
mod limits;
mod line;
mod openapi;
mod openapi_calls;
mod openapi_contract;
mod tracing;
