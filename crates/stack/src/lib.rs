//! Private PostgreSQL, Redis, Kafka and Toxiproxy on loopback: real servers for local runs and for tests.
//!
//! Everything here is synchronous and waits with a deadline. A server that a test owns dies with the test, even when the test is
//! killed; one of `make up` goes on until `make down`.

pub mod failpoints;
pub mod http;
pub mod kafka;
pub mod paths;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod service;
pub mod toxiproxy;

pub use failpoints::Failpoints;
pub use kafka::Kafka;
pub use postgres::Postgres;
pub use process::{Lifetime, Process};
pub use redis::Redis;
pub use service::ServiceProcess;
pub use toxiproxy::Toxiproxy;
