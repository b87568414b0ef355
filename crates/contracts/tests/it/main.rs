//! The contracts, held from outside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod buf;
mod decoding;
mod golden;
mod orders;
mod properties;
mod relays;
mod rules;
mod samples;
