//! Settles stale orders against the payment gateways: asks what became of each payment, completes or fails its order, and gives back
//! what must not be kept.

pub mod admin;
pub mod audit;
pub mod callbacks;
pub mod config;
pub mod edges;
pub mod error;
#[cfg(feature = "failpoints")]
pub mod failpoints;
pub mod http;
pub mod intake;
pub mod line;
pub mod observe;
pub mod openapi;
pub mod outbox;
pub mod pg;
pub mod service;
pub mod task_lease;
pub mod waiting;

pub use config::{PREFIX, Settings};
pub use line::Line;
pub use service::run;
