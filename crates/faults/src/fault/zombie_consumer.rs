//! A consumer stands still past its session and wakes as a zombie.

use super::Fault;
use crate::{
    action::{Action, Who, at},
    environment::SESSION_MS,
};

/// A consumer is stopped for longer than the group waits; its partitions go to another; then it goes on where it was.
pub const FAULT: Fault = Fault {
    number: 7,
    name: "zombie-consumer",
    about: "a consumer is stopped past its session, its partitions are reassigned, and it wakes as a zombie",
    needs_failpoints: false,
    bend: |shape| shape.load_ms = shape.load_ms.max(SESSION_MS + 5_000),
    steps: |_, seed| {
        let who = Who::Consumer(seed.index(2));
        let stops = seed.within(500, 2_000);
        let wakes = stops.saturating_add(SESSION_MS).saturating_add(seed.within(500, 2_500));
        vec![at(stops, Action::Freeze(who)), at(wakes, Action::Wake(who))]
    },
};
