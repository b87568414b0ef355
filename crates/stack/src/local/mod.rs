//! The local run: which parts it has, how they start, and how they end.

pub mod docker;
pub mod down;
pub mod environment;
pub mod interrupt;
pub mod lock;
pub mod ports;
pub mod progress;
pub mod record;
pub mod run;
pub mod status;
pub mod up;
