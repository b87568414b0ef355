//! A fault drill: it breaks the running coupon line by seed, heals it, lets it come to rest, and judges what is left by the invariants.

pub mod action;
mod book;
pub mod check;
pub mod cli;
mod client;
mod collect;
mod environment;
pub mod evidence;
pub mod fault;
mod feed;
mod inject;
mod links;
mod load;
pub mod places;
pub mod plan;
mod quiet;
pub mod report;
mod round;
mod run;
pub mod seed;
pub mod selection;
mod steer;
mod world;

pub use collect::again as collect_again;
pub use round::{Outcome, run as run_round};
pub use run::{Exit, run};
pub use world::World;
