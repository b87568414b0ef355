//! Two reconcilers at once, one of them frozen past its lease.

use super::Fault;
use crate::{
    action::{Action, Who, at},
    environment::LEASE_MS,
};

/// Where a load of a cold gate can stand.
const INSIDE_A_LOAD: [&str; 4] =
    ["reconciler.gate.shut", "reconciler.gate.end_read", "reconciler.gate.page_loaded", "reconciler.gate.before_open"];

/// Redis is emptied, and whoever takes the cold gate stands still inside its load for longer than its lease; the other takes over, and in some
/// rounds stands still as well; then both go on. The other way is SIGSTOP to one of them in the middle of it all.
pub const FAULT: Fault = Fault {
    number: 19,
    name: "two-reconcilers",
    about: "of two reconcilers one is frozen past its lease in mid-work, and wakes when the other has taken over",
    needs_failpoints: true,
    bend: |shape| shape.load_ms = shape.load_ms.max(LEASE_MS + 5_000),
    steps: |_, seed| {
        let step = INSIDE_A_LOAD.get(seed.index(INSIDE_A_LOAD.len())).copied().unwrap_or("reconciler.gate.shut");
        let begins = seed.within(800, 1_500);
        let past_the_lease = begins.saturating_add(LEASE_MS).saturating_add(seed.within(600, 2_500));
        let stopped = seed.chance(40);
        let mut steps = Vec::new();
        for reconciler in [0, 1] {
            let who = Who::Reconciler(reconciler);
            let plan = if stopped { "2*sleep(300)" } else { "1*pause" };
            steps.push(at(0, Action::Failpoint { who, step, plan }));
            if !stopped {
                // The one that took it wakes when its lease is long over; the other some time later.
                let wakes = past_the_lease.saturating_add(seed.within(0, 1_500));
                steps.push(at(wakes, Action::Failpoint { who, step, plan: "off" }));
            }
        }
        steps.push(at(begins, Action::FlushRedis));
        if stopped {
            let who = Who::Reconciler(seed.index(2));
            steps.push(at(begins.saturating_add(seed.within(100, 600)), Action::Freeze(who)));
            steps.push(at(past_the_lease, Action::Wake(who)));
        }
        steps
    },
};
