//! The broker is away at the peak.

use super::Fault;
use crate::action::{Action, Who, at};

/// How long it is away in earnest, in milliseconds.
const AWAY_MS: u64 = 60_000;
/// How long it is away in a short round.
const SHORT_MS: u64 = 6_000;

/// The broker stands still or is dead for a minute. Refusals are fast, memory is bounded, and nothing is undone that may have been written.
pub const FAULT: Fault = Fault {
    number: 12,
    name: "broker-away",
    about: "the broker is away for 60 s at the peak (6 s in short rounds): refusals are fast, memory is bounded",
    needs_failpoints: false,
    bend: |shape| {
        let away = if shape.in_earnest { AWAY_MS } else { SHORT_MS };
        shape.load_ms = shape.load_ms.max(away.saturating_add(4_000));
        shape.members = shape.members.max(if shape.in_earnest { 6_000 } else { 900 });
        shape.limits_refusals = true;
    },
    steps: |shape, seed| {
        let away = if shape.in_earnest { AWAY_MS } else { SHORT_MS };
        let begins = seed.within(800, 2_000);
        let ends = begins.saturating_add(away);
        if seed.chance(50) {
            return vec![at(begins, Action::Freeze(Who::Kafka)), at(ends, Action::Wake(Who::Kafka))];
        }
        vec![at(begins, Action::Kill(Who::Kafka)), at(ends, Action::Start(Who::Kafka))]
    },
};
