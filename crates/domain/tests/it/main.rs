//! The fold from outside: a table of cases, and properties over whole logs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod cases;
mod log;
mod properties;
