//! The rules from outside: the coupons' fold and the payments' judge, each by a table of cases and by properties.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod cases;
mod log;
mod payment;
mod payment_properties;
mod payment_refunding;
mod payment_verdict;
mod properties;
