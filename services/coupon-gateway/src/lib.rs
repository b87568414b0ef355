//! Takes coupon requests over HTTP, reserves and appends them, and tells their outcome.

pub mod admin;
pub mod config;
pub mod error;
pub mod identity;
pub mod limits;
pub mod openapi;
pub mod state;
