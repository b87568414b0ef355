//! The schema refuses what must never be, on a real PostgreSQL; errors have the right kind.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod errors;
mod schema;
mod server;
mod tls;
