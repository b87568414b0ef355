//! Takes coupon requests over HTTP, reserves and appends them, and tells their outcome.
//!
//! The hot path is `intake`: read, ask the gate (reserved coupons), append, answer. What waits at the same time travels
//! together: `batcher` gathers gate calls and look-ups, `mailbox` gathers wake-ups.

pub mod admin;
mod append;
mod batcher;
pub mod config;
pub mod coupons;
pub mod error;
#[cfg(feature = "failpoints")]
pub mod failpoints;
mod find;
pub mod identity;
mod in_flight;
mod intake;
mod json;
pub mod limits;
mod log_health;
mod mailbox;
mod metrics;
pub mod openapi;
mod path;
mod recent;
mod routes;
mod serve;
pub mod state;
mod status;
mod store;
mod ticket;
mod trace;
mod worker;

pub use append::NotAppended;
pub use in_flight::{InFlight, InFlightGuard};
pub use metrics::GatewayMetrics;
pub use serve::run;
pub use status::coupon_json;
