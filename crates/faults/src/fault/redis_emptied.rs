//! Redis is emptied between the gate and the append.

use super::Fault;
use crate::action::{Action, Who, at};

/// FLUSHALL some times while many are between their reservation and their append, and the script cache is emptied as well.
pub const FAULT: Fault = Fault {
    number: 2,
    name: "redis-emptied",
    about: "Redis is emptied while requests stand between the gate and the append",
    needs_failpoints: true,
    bend: super::as_it_is,
    steps: |shape, seed| {
        let times = 1 + seed.within(0, 3);
        let mut steps = Vec::new();
        for gateway in [0, 1] {
            // Every tenth batch of reservations waits before its append, so that there always is somebody in between.
            let who = Who::Gateway(gateway);
            steps.push(at(0, Action::Failpoint { who, step: "gateway.gate.replied", plan: "10%sleep(60)" }));
        }
        for _ in 0..times {
            let moment = seed.within(shape.load_ms / 6, shape.load_ms);
            steps.push(at(moment, Action::FlushRedis));
            if seed.chance(50) {
                steps.push(at(moment.saturating_add(seed.within(0, 400)), Action::FlushScripts));
            }
        }
        steps
    },
};
