//! A reconciler stands between its two reads.

use super::Fault;
use crate::action::{Action, Who, at};

/// Where a reconciler has seen one side and not the other.
const BETWEEN: [&str; 5] = [
    "reconciler.run.counted",
    "reconciler.run.gate_read",
    "reconciler.pending.handed_out",
    "reconciler.gate.end_read",
    "reconciler.gate.before_open",
];

/// Both reconcilers stand for a while after their first read, while transactions are slow, so that messages are in flight meanwhile. In some
/// rounds Redis is emptied before, so that the reads are those of a gate's load.
pub const FAULT: Fault = Fault {
    number: 3,
    name: "reconciler-paused",
    about: "a reconciler is paused between its two reads with messages in flight",
    needs_failpoints: true,
    bend: |shape| shape.load_ms = shape.load_ms.max(7_000),
    steps: |shape, seed| {
        let mut steps = Vec::new();
        for consumer in [0, 1] {
            let who = Who::Consumer(consumer);
            steps.push(at(0, Action::Failpoint { who, step: "consumer.transaction.before", plan: "30%sleep(200)" }));
        }
        let between = seed.index(BETWEEN.len());
        let step = BETWEEN.get(between).copied().unwrap_or("reconciler.run.counted");
        for reconciler in [0, 1] {
            let who = Who::Reconciler(reconciler);
            let plan = if seed.chance(50) { "3*sleep(1500)" } else { "1*sleep(3500)" };
            steps.push(at(seed.within(100, 1_000), Action::Failpoint { who, step, plan }));
        }
        if between >= 2 {
            steps.push(at(seed.within(1_200, shape.load_ms / 2), Action::FlushRedis));
        }
        steps
    },
};
