//! A reconciler publishes again what was decided long ago.

use super::Fault;
use crate::{
    action::{Action, Who, at},
    environment::DELIVERY_MS,
};

/// Consumers stand still, so that reservations grow old unread; a reconciler is handed them and paused; the consumers decide everything; then the
/// reconciler publishes what it was handed, once more.
pub const FAULT: Fault = Fault {
    number: 23,
    name: "republished-late",
    about: "a reconciler is handed old reservations whose messages are unread, and publishes them when all is decided",
    needs_failpoints: true,
    bend: |shape| shape.load_ms = shape.load_ms.max(DELIVERY_MS + 6_500),
    steps: |_, seed| {
        let step = "reconciler.pending.handed_out";
        let begins = seed.within(300, 1_500);
        // Long enough for reservations to pass the grace time, short enough for the consumers to stay in their group.
        let wakes = begins.saturating_add(DELIVERY_MS).saturating_add(seed.within(1_300, 2_500));
        let ends = wakes.saturating_add(seed.within(300, 2_000));
        let mut steps = Vec::new();
        for reconciler in [0, 1] {
            let who = Who::Reconciler(reconciler);
            steps.push(at(begins, Action::Failpoint { who, step, plan: "1*pause" }));
            steps.push(at(ends, Action::Failpoint { who, step, plan: "off" }));
        }
        for consumer in [0, 1] {
            steps.push(at(begins, Action::Freeze(Who::Consumer(consumer))));
            steps.push(at(wakes, Action::Wake(Who::Consumer(consumer))));
        }
        steps
    },
};
