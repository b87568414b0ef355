//! Callbacks of payment gateways: hints that are stored, coalesced, and make a payment due. They never decide.
//!
//! A signature is checked where the gateway signs. What is not signed is a hint of anybody: it is rate-limited, a payment keeps
//! a bounded number of them, and none makes a payment due more often than the settings allow, so that nobody can use this address to
//! hammer a gateway. Repeats and any order are harmless, because the gateway is asked what is true.

mod desk;
mod handler;
mod hint;
mod note;
mod settings;
mod sweep;

pub use desk::{Desk, DeskError, Taken};
pub use handler::configure;
pub use hint::hint;
pub use settings::CallbackSettings;
pub use sweep::{Sweeper, Swept};
