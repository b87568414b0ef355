//! Slow and jittery links everywhere.

use super::Fault;
use crate::action::{Action, Link, Trouble, at};

/// Every link between a service and a server is slow and jittery during the whole load, one of them very.
pub const FAULT: Fault = Fault {
    number: 18,
    name: "slow-links",
    about: "slow and jittery links between all services and servers",
    needs_failpoints: false,
    bend: |shape| shape.load_ms = shape.load_ms.max(8_000),
    steps: |_, seed| {
        let worst = seed.index(Link::ALL.len());
        let links = Link::ALL.into_iter().enumerate();
        links
            .map(|(index, link)| {
                let latency_ms = if index == worst { seed.within(150, 400) } else { seed.within(5, 60) };
                let trouble = Trouble::Slow { latency_ms, jitter_ms: seed.within(1, latency_ms) };
                at(seed.within(0, 1_000), Action::Trouble { link, trouble })
            })
            .collect()
    },
};
