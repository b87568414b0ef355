//! A gateway dies between gate and append.

use super::Fault;
use crate::action::{Action, Who, at};

/// A gateway is killed with a reservation that it has not appended, then the other one; each is started again.
pub const FAULT: Fault = Fault {
    number: 6,
    name: "gateway-killed-before-append",
    about: "a gateway is killed between the gate and the append",
    needs_failpoints: true,
    bend: super::as_it_is,
    steps: |shape, seed| {
        let mut steps = Vec::new();
        let half = shape.load_ms / 2;
        for (gateway, begins) in [(0, 0), (1, half)] {
            let who = Who::Gateway(gateway);
            let step = if seed.chance(60) { "gateway.append.before" } else { "gateway.gate.replied" };
            let plan = if seed.chance(50) { "1*kill" } else { "20+1*kill" };
            let dies = begins.saturating_add(seed.within(300, half.saturating_sub(1_200)));
            steps.push(at(dies, Action::Failpoint { who, step, plan }));
            let back = dies.saturating_add(seed.within(300, 1_200));
            // If it never came to the step, it dies somewhere else, and keeps no plan for later.
            steps.push(at(back, Action::Kill(who)));
            steps.push(at(back, Action::Start(who)));
        }
        steps
    },
};
