//! The same member a thousand times, and the log twice.

use super::Fault;
use crate::action::{Action, at};

/// The first member of each coupon asks a thousand times through both gateways, and all that was written is appended once more.
pub const FAULT: Fault = Fault {
    number: 16,
    name: "same-member-and-doubled-log",
    about: "the same member asks a thousand times through both gateways, and the log is doubled",
    needs_failpoints: false,
    bend: |shape| shape.hammer = 1_000,
    steps: |shape, seed| {
        [0, 1].map(|coupon| at(seed.within(shape.load_ms / 2, shape.load_ms), Action::DoubleLog { coupon })).to_vec()
    },
};
