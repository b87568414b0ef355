//! The operator's command held against the real line: consumer, gateways, Kafka, PostgreSQL and Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod audit;
mod command;
mod coupons;
mod drill;
mod gate;
mod payments;
mod payments_audit;
mod payments_judge;
mod planted;
mod pure;
mod support;
