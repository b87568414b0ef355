//! An operator lowers and raises the total in mid-load.

use super::Fault;
use crate::action::{Action, at};

/// Some changes up and down, for both coupons; the last one is up.
pub const FAULT: Fault = Fault {
    number: 20,
    name: "total-changed",
    about: "an operator lowers and raises the total in mid-load",
    needs_failpoints: false,
    bend: super::as_it_is,
    steps: |shape, seed| {
        let mut steps = Vec::new();
        for coupon in [0, 1] {
            for _ in 0..seed.within(1, 4) {
                let percent = i64::try_from(seed.within(10, 140)).unwrap_or(100);
                steps.push(at(seed.within(200, shape.load_ms), Action::SetTotal { coupon, percent }));
            }
            let percent = i64::try_from(seed.within(100, 150)).unwrap_or(100);
            steps.push(at(shape.load_ms, Action::SetTotal { coupon, percent }));
        }
        steps
    },
};
