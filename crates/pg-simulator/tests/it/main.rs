//! The simulator over HTTP, as the adapters and people see it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod accounts;
mod admin;
mod faults;
mod money;
mod support;
