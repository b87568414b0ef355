//! Every adapter against the simulator by one suite; the tables against what the gateways document; Stripe's adapter against stripe-mock.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod bounds;
mod callbacks;
mod contract;
mod settings;
mod stripe_mock;
mod suite;
mod support;
mod tables;
