//! The operators' interface: who may, what they may ask for, and what became of it.
//!
//! What decides outcomes goes through the coupon's log as a signed command; the call waits a bounded time for its decision.

mod body;
mod command;
mod handlers;
mod listing;
mod settings;
mod store;
mod token;

pub use settings::AdminSettings;
pub use token::Admin;

pub use handlers::configure;
