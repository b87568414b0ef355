//! Waiting for a server, as every service does.

pub use service_kit::retry::Retry;
