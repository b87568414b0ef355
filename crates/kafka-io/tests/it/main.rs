//! Kafka adapters against a real broker.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]

mod consumer;
mod foreign;
mod log;
mod member;
mod operate;
mod publish;
mod secured;
mod support;
