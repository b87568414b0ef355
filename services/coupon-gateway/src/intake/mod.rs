//! `POST /v1/coupons/{code}/requests`.

mod admit;
mod answer;
pub mod body;
mod gate;
mod handler;

pub use answer::TICKET_PATH;
pub use gate::{GateAsker, NoGate};
pub use handler::post;
