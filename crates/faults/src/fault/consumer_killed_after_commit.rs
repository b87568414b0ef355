//! A consumer dies between the database's commit and Kafka's.

use super::Fault;
use crate::action::{Action, Who, at};

/// A consumer is killed right behind COMMIT, or right before it tells Kafka its offsets; in some rounds both are. Another joins at the same time.
pub const FAULT: Fault = Fault {
    number: 5,
    name: "consumer-killed-after-commit",
    about: "a consumer is killed between the database's commit and the offset commit, with a rebalance",
    needs_failpoints: true,
    bend: |shape| shape.load_ms = shape.load_ms.max(8_000),
    steps: |shape, seed| {
        let mut steps = Vec::new();
        let first = seed.index(2);
        let both = seed.chance(50);
        let step = if seed.chance(60) { "consumer.commit.done" } else { "consumer.offsets.before" };
        for (who, part) in [(Who::Consumer(first), 0), (Who::Consumer(1 - first), 1)] {
            if part == 1 && !both {
                continue;
            }
            let plan = if seed.chance(50) { "1*kill" } else { "3+1*kill" };
            let half = shape.load_ms / 2;
            let dies = half.saturating_mul(part).saturating_add(seed.within(300, half / 2));
            steps.push(at(dies, Action::Failpoint { who, step, plan }));
            steps.push(at(dies.saturating_add(seed.within(0, 500)), Action::Start(Who::Consumer(2))));
            let back = dies.saturating_add(seed.within(500, 2_000));
            // If it never came to the step, it dies somewhere else, and keeps no plan for later.
            steps.push(at(back, Action::Kill(who)));
            steps.push(at(back, Action::Start(who)));
        }
        steps
    },
};
