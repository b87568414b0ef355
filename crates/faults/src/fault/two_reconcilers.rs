//! Two reconcilers at once, one of them frozen past its lease.

use super::Fault;
use crate::{
    action::{Action, Who, at},
    environment::LEASE_MS,
};

/// A reconciler stands still in the middle of its work for longer than its lease; the other takes over; then both go on.
pub const FAULT: Fault = Fault {
    number: 19,
    name: "two-reconcilers",
    about: "of two reconcilers one is frozen past its lease in mid-work, and wakes when the other has taken over",
    needs_failpoints: true,
    bend: |shape| shape.load_ms = shape.load_ms.max(LEASE_MS + 5_000),
    steps: |_, seed| {
        let steps_of_a_load =
            ["reconciler.gate.shut", "reconciler.gate.end_read", "reconciler.gate.page_loaded", "reconciler.gate.before_open"];
        let step = steps_of_a_load.get(seed.index(4)).copied().unwrap_or("reconciler.gate.shut");
        let who = Who::Reconciler(seed.index(2));
        let begins = seed.within(800, 1_500);
        let wakes = begins.saturating_add(LEASE_MS).saturating_add(seed.within(600, 2_500));
        let mut steps = Vec::new();
        // Whoever of the two takes the cold gate stands long enough inside its load to be frozen there.
        for reconciler in [0, 1] {
            steps.push(at(0, Action::Failpoint { who: Who::Reconciler(reconciler), step, plan: "2*sleep(300)" }));
        }
        steps.push(at(begins, Action::FlushRedis));
        let freezes = begins.saturating_add(seed.within(100, 600));
        steps.push(at(freezes, Action::Freeze(who)));
        steps.push(at(wakes, Action::Wake(who)));
        steps
    },
};
