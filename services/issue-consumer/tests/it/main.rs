//! The issue-consumer on real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, clippy::panic, missing_docs)]

mod failpoints;
mod faults;
mod final_failures;
mod fold;
mod followers;
mod foreign;
mod gates;
mod harness;
mod invariants;
mod poison;
mod rebalance;
mod settings;
