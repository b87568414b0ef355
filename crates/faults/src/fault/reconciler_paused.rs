//! A reconciler stands between its two reads.

use super::Fault;
use crate::{
    action::{Action, Who, at},
    environment::PENDING_GRACE_MS,
};

/// Where a reconciler has seen one side and not the other.
const BETWEEN: [&str; 5] = [
    "reconciler.run.counted",
    "reconciler.run.gate_read",
    "reconciler.pending.handed_out",
    "reconciler.gate.end_read",
    "reconciler.gate.before_open",
];

/// Both reconcilers stand for a while after their first read, while the consumers stand still for longer than the grace time, so that messages
/// are in flight and look like lost reservations. Where the reads are those of a gate's load, Redis is emptied before.
pub const FAULT: Fault = Fault {
    number: 3,
    name: "reconciler-paused",
    about: "a reconciler is paused between its two reads with messages in flight",
    needs_failpoints: true,
    bend: |shape| shape.load_ms = shape.load_ms.max(8_000),
    steps: |_, seed| {
        let mut steps = Vec::new();
        let between = seed.index(BETWEEN.len());
        let step = BETWEEN.get(between).copied().unwrap_or("reconciler.run.counted");
        for reconciler in [0, 1] {
            let who = Who::Reconciler(reconciler);
            let plan = if seed.chance(50) { "3*sleep(1500)" } else { "1*sleep(3500)" };
            steps.push(at(seed.within(100, 1_000), Action::Failpoint { who, step, plan }));
        }
        let stands = seed.within(800, 1_500);
        for consumer in [0, 1] {
            steps.push(at(stands, Action::Freeze(Who::Consumer(consumer))));
            // Still inside their session.
            let wakes = stands.saturating_add(PENDING_GRACE_MS).saturating_add(seed.within(500, 2_000));
            steps.push(at(wakes, Action::Wake(Who::Consumer(consumer))));
        }
        if between >= 3 {
            steps.push(at(stands.saturating_add(seed.within(100, 2_000)), Action::FlushRedis));
        }
        steps
    },
};
