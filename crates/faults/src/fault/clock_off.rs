//! One gateway's clock is an hour off.

use super::Fault;
use crate::action::{Action, Who, at};

/// One gateway lives an hour ahead or behind, of coupons that open in a moment and close within the hour.
pub const FAULT: Fault = Fault {
    number: 17,
    name: "clock-off",
    about: "one gateway's clock is an hour off",
    needs_failpoints: true,
    bend: |shape| shape.closes = true,
    steps: |shape, seed| {
        let who = Who::Gateway(seed.index(2));
        let offset_ms = if seed.chance(50) { 3_600_000 } else { -3_600_000 };
        let begins = seed.within(0, shape.load_ms / 4);
        let mut steps = vec![at(begins, Action::SetClock { who, offset_ms })];
        if seed.chance(50) {
            // It jumps back in mid-load, as when time is set by hand.
            steps.push(at(seed.within(shape.load_ms / 2, shape.load_ms), Action::SetClock { who, offset_ms: 0 }));
        }
        steps
    },
};
