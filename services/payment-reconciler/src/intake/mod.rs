//! Orders from Kafka: `order_placed`, written once, insert only.
//!
//! A batch of a partition is one transaction: the position is moved first, by compare-and-set, then the orders are inserted. A repeat
//! finds its order there and does nothing; the same order with other content goes to the dead letter topic, acknowledged before
//! the position moves. A record that cannot be used never stops the ones behind it; a server that is away stops nothing but
//! this intake, which waits for it.

mod batch;
mod coordinator;
mod positions;
mod settings;
mod store;
mod worker;

pub use batch::{Existing, Known, Letter, Resolution, resolve};
pub use coordinator::{Intake, Progress};
pub use settings::IntakeSettings;
pub use store::{IntakeStore, Range, WriteError};
