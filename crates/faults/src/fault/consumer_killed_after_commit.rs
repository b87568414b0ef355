//! A consumer dies between the database's commit and Kafka's.

use super::Fault;
use crate::action::{Action, Who, at};

/// A consumer is killed right behind COMMIT, or right before it tells Kafka its offsets, and another joins at the same time.
pub const FAULT: Fault = Fault {
    number: 5,
    name: "consumer-killed-after-commit",
    about: "a consumer is killed between the database's commit and the offset commit, with a rebalance",
    needs_failpoints: true,
    bend: |shape| shape.load_ms = shape.load_ms.max(8_000),
    steps: |shape, seed| {
        let mut steps = Vec::new();
        let times = 1 + seed.within(0, 2);
        for index in 0..times {
            let part = shape.load_ms / times;
            let who = Who::Consumer(seed.index(2));
            let step = if seed.chance(60) { "consumer.commit.done" } else { "consumer.offsets.before" };
            let plan = if seed.chance(50) { "1*kill" } else { "3+1*kill" };
            let dies = part.saturating_mul(index).saturating_add(seed.within(300, part / 2));
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
