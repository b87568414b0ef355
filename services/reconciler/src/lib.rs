//! The safety net between Redis and PostgreSQL: publishes forgotten reservations again, loads cold gates, and holds counts against
//! each other. It writes no outcome; that is the issue-consumer's alone.

pub mod admin;
pub mod compare;
pub mod config;
pub mod error;
#[cfg(feature = "failpoints")]
pub mod failpoints;
pub mod gates;
pub mod given_up;
pub mod kafka;
pub mod lease;
pub mod load;
pub mod loads;
pub mod log;
pub mod pending;
pub mod reconciler;
pub mod repairs;
pub mod run;
pub mod schedule;
pub mod service;
pub mod store;
pub mod walk;

pub use config::{PREFIX, Settings};
pub use reconciler::Reconciler;
pub use service::run;
