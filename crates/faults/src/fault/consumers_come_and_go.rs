//! Consumers come and go.

use super::Fault;
use crate::action::{Action, Who, at};

/// One consumer, then three, then one again, by SIGTERM or by kill; in some rounds the group's offsets are deleted in between.
pub const FAULT: Fault = Fault {
    number: 14,
    name: "consumers-come-and-go",
    about: "consumers go from 1 to 3 and back to 1 every 5 s (every 2 s in short rounds), and the group's offsets are deleted",
    needs_failpoints: false,
    bend: |shape| {
        shape.consumers = 1;
        shape.load_ms = shape.load_ms.max(if shape.in_earnest { 21_000 } else { 9_000 });
    },
    steps: |shape, seed| {
        let period = if shape.in_earnest { 5_000 } else { 2_000 };
        let mut steps = Vec::new();
        let mut moment = seed.within(200, 1_000);
        while moment.saturating_add(period) < shape.load_ms {
            steps.push(at(moment, Action::Start(Who::Consumer(1))));
            steps.push(at(moment, Action::Start(Who::Consumer(2))));
            let back = moment.saturating_add(period);
            // Who is killed stays in the group until his session ends, and a group with members is not deleted.
            let deletes = seed.chance(50);
            for consumer in [1, 2] {
                let who = Who::Consumer(consumer);
                let orderly = deletes || seed.chance(60);
                steps.push(at(back, if orderly { Action::Terminate(who) } else { Action::Kill(who) }));
            }
            if deletes {
                steps.push(at(back, Action::Terminate(Who::Consumer(0))));
                steps.push(at(back, Action::DeleteGroup));
                steps.push(at(back, Action::Start(Who::Consumer(0))));
            }
            moment = back.saturating_add(period);
        }
        steps
    },
};
