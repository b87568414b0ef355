//! Records that cannot be used, and a consumer that dies when they are put away.

use super::Fault;
use crate::action::{Action, Who, at};

/// Poison in the middle of the load: no JSON, unknown types, broken messages, a forged command. The consumer is killed when a dead letter is
/// acknowledged and its batch is not committed, so that the letter is written again.
pub const FAULT: Fault = Fault {
    number: 8,
    name: "poison",
    about: "poison in mid-batch, and the consumer is killed after the dead letter was acknowledged",
    needs_failpoints: true,
    bend: |shape| shape.load_ms = shape.load_ms.max(7_000),
    steps: |shape, seed| {
        let mut steps = Vec::new();
        let dies = seed.within(500, shape.load_ms / 3);
        for consumer in [0, 1] {
            let who = Who::Consumer(consumer);
            let plan = if seed.chance(50) { "1*kill" } else { "2+1*kill" };
            steps.push(at(dies, Action::Failpoint { who, step: "consumer.dead_letter.acknowledged", plan }));
            steps.push(at(dies.saturating_add(seed.within(800, 2_500)), Action::Start(who)));
        }
        for coupon in [0, 1] {
            steps.push(at(dies.saturating_add(seed.within(10, 300)), Action::Poison { coupon, records: seed.within(3, 12) }));
            for _ in 0..seed.within(2, 5) {
                let moment = seed.within(dies.saturating_add(10), shape.load_ms);
                steps.push(at(moment, Action::Poison { coupon, records: seed.within(1, 12) }));
            }
        }
        steps
    },
};
