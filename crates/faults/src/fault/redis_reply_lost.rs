//! The script ran and its answer was lost.

use super::Fault;
use crate::action::{Action, Link, Trouble, Who, at};

/// Answers of Redis to the gateways vanish for a while, some times, on the wire or in the gateway; clients ask again.
pub const FAULT: Fault = Fault {
    number: 4,
    name: "redis-reply-lost",
    about: "Redis' reply is lost after the script ran, and the client repeats",
    needs_failpoints: true,
    bend: super::as_it_is,
    steps: |shape, seed| {
        let link = Link::GatewayRedis;
        let mut steps = Vec::new();
        for gateway in [0, 1] {
            let who = Who::Gateway(gateway);
            steps.push(at(seed.within(0, 1_000), Action::Failpoint { who, step: "gateway.gate.replied", plan: "10%fail" }));
        }
        let times = 1 + seed.within(0, 3);
        let part = shape.load_ms / times.saturating_add(1);
        for index in 1..=times {
            let begins = part.saturating_mul(index).saturating_add(seed.within(0, part / 3));
            let trouble = if seed.chance(70) { Trouble::RepliesLost } else { Trouble::Mute };
            steps.push(at(begins, Action::Trouble { link, trouble }));
            steps.push(at(begins.saturating_add(seed.within(100, 900)), Action::Trouble { link, trouble: Trouble::None }));
        }
        steps
    },
};
