//! The reconciler's tasks against real PostgreSQL, Redis and Kafka. The consumer's part is played by rows that the tests write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod admin;
mod alerts;
mod compare;
mod counts;
mod failpoints;
mod faults;
mod gates;
mod line;
mod loads;
mod losses;
mod patience;
mod pending;
mod process;
mod refused;
mod replicas;
mod stage;
