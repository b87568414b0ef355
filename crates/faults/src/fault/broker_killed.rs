//! The broker is killed under load.

use super::Fault;
use crate::action::{Action, Who, at};

/// kill -9 with records in flight, and a new start on its log.
pub const FAULT: Fault = Fault {
    number: 11,
    name: "broker-killed",
    about: "the broker is killed under load and started again",
    needs_failpoints: false,
    bend: super::as_it_is,
    steps: |shape, seed| {
        let dies = seed.within(shape.load_ms / 4, shape.load_ms.saturating_mul(3) / 4);
        let starts = dies.saturating_add(seed.within(0, 1_500));
        vec![at(dies, Action::Kill(Who::Kafka)), at(starts, Action::Start(Who::Kafka))]
    },
};
