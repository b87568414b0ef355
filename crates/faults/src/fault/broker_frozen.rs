//! The broker has the message and stands still.

use super::Fault;
use crate::{
    action::{Action, Link, Trouble, Who, at},
    environment::DELIVERY_MS,
};

/// Records reach the broker, their acknowledgements do not come back, and then it stands still until every client has timed out. Few seats,
/// so that others want those that nobody is sure of. Then it wakes.
pub const FAULT: Fault = Fault {
    number: 1,
    name: "broker-frozen",
    about: "the broker is frozen after it got the message, clients time out, others want the seat, the broker wakes",
    needs_failpoints: false,
    bend: |shape| {
        shape.load_ms = shape.load_ms.max(DELIVERY_MS + 5_000);
        shape.seats_percent = shape.seats_percent.min(30);
    },
    steps: |_, seed| {
        let begins = seed.within(500, 2_000);
        let freezes = begins.saturating_add(seed.within(30, 400));
        let wakes = freezes.saturating_add(DELIVERY_MS).saturating_add(seed.within(300, 1_800));
        let link = Link::GatewayKafka;
        vec![
            at(begins, Action::Trouble { link, trouble: Trouble::Mute }),
            at(freezes, Action::Freeze(Who::Kafka)),
            at(wakes, Action::Wake(Who::Kafka)),
            at(wakes, Action::Trouble { link, trouble: Trouble::None }),
        ]
    },
};
