//! Gateways are told to end with thousands in flight.

use super::Fault;
use crate::action::{Action, Who, at};

/// A burst, and SIGTERM to both gateways one after the other in the middle of it; each ends by itself and is started again.
pub const FAULT: Fault = Fault {
    number: 13,
    name: "terminated-in-flight",
    about: "SIGTERM to the gateways with thousands of requests in flight",
    needs_failpoints: false,
    bend: |shape| {
        shape.members = shape.members.max(1_500);
        shape.concurrency = shape.concurrency.max(3_000);
        shape.burst_at_ms = Some(1_000);
    },
    steps: |_, seed| {
        let first = seed.index(2);
        let second = 1 - first;
        let begins = seed.within(1_050, 1_600);
        let mut steps = Vec::new();
        for (gateway, moment) in [(first, begins), (second, begins.saturating_add(seed.within(400, 2_000)))] {
            steps.push(at(moment, Action::Terminate(Who::Gateway(gateway))));
            steps.push(at(moment.saturating_add(1), Action::Start(Who::Gateway(gateway))));
        }
        steps.sort_by_key(|step| step.at_ms);
        steps
    },
};
