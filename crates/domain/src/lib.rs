//! The rules of Trueup, without any IO.
//!
//! Nothing here knows tokio, diesel, Redis or Kafka: every function is pure or goes through a seam such as
//! [`clock::Clock`], so that each rule can be tested with time standing still.

pub mod clock;
pub mod coupon;
pub mod failure;
pub mod ids;
pub mod payment;
pub mod secret;
