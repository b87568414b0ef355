//! The topic grows in mid-load.

use super::Fault;
use crate::action::{Action, at};

/// Partitions are added, and another producer's records land where its client now hashes the code to: elsewhere than the coupon lives.
pub const FAULT: Fault = Fault {
    number: 15,
    name: "partitions-added",
    about: "partitions are added in mid-load, and foreign records land on other partitions than their coupon's",
    needs_failpoints: false,
    bend: super::as_it_is,
    steps: |shape, seed| {
        let grows = seed.within(shape.load_ms / 4, shape.load_ms / 2);
        let more = i32::try_from(seed.within(1, 4)).unwrap_or(1);
        let mut steps = vec![at(grows, Action::AddPartitions(more))];
        for coupon in [0, 1] {
            steps.push(at(seed.within(300, grows), Action::Foreign { coupon, records: seed.within(10, 60) }));
            let after = seed.within(grows.saturating_add(200), shape.load_ms);
            steps.push(at(after, Action::Foreign { coupon, records: seed.within(10, 60) }));
        }
        steps
    },
};
