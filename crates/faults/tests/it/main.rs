//! The judge is held against clean evidence and against each kind of corruption; a round is run against real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod clean;
mod planted;
mod real;
mod schedule;
