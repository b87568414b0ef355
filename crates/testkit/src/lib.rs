//! What tests of several crates share: real servers, a world of its own for each test, waiting without sleeping, and a
//! clock that stands still.
//!
//! Servers are started once per test binary, when the first test needs them, and die with it. A test gets topics and a
//! database of its own and coupon codes that nobody else has, so that tests run side by side. A test that stops
//! or kills a server takes a private one.
//!
//! A helper here panics where a test would: with a message that says what was waited for.
#![allow(clippy::panic, clippy::expect_used, reason = "a helper of tests fails as a test does")]

mod clock;
pub mod collector;
pub mod database;
pub mod failpoints;
mod folder;
mod log;
pub mod openapi;
mod running;
mod servers;
mod service;
mod wait;
mod world;
mod writer;

pub use clock::FakeClock;
pub use collector::Collector;
pub use folder::TestFolder;
pub use log::{ENVELOPE, LOG_SECRET, delete_records, log_key, read_all};
pub use running::{OnThread, Running};
pub use servers::{PrivateKafka, PrivatePostgres, PrivateRedis, PrivateToxiproxy, kafka_brokers, postgres, redis_url};
pub use service::{metrics, settings, start, until_listening};
pub use wait::{eventually, eventually_some, show_logs};
pub use world::{World, add, create_payment_topics, create_topics, kafka_settings, unique};
pub use writer::{Writer, asks, change, encoded, encoded_cancel, encoded_change, member, request};
