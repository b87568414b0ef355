//! Outcomes to Kafka: the outbox table, told at least once, an order's events in its order.
//!
//! Sequence numbers are no commit order: a row with a low id may appear after one with a higher id was published. There is no cursor
//! that could pass it, because each row is marked by itself once the broker has it. One replica at a time tells; a second one that
//! begins too early repeats events, and readers drop those by their id.

mod relay;
mod settings;
mod store;

pub use relay::{Cleaned, Relay, Told};
pub use settings::OutboxSettings;
