//! Links are cut, fall silent and lose answers, one after the other.

use super::Fault;
use crate::action::{Action, Link, Trouble, at};

/// What happens to a link for a moment.
const TROUBLES: [Trouble; 3] = [Trouble::Cut, Trouble::Mute, Trouble::RepliesLost];

/// Every link has a trouble of its own at a moment of its own, some of them at the same time.
pub const FAULT: Fault = Fault {
    number: 21,
    name: "links-cut",
    about: "every link is cut, falls silent or loses its answers at some moment",
    needs_failpoints: false,
    bend: |shape| shape.load_ms = shape.load_ms.max(9_000),
    steps: |shape, seed| {
        let mut steps = Vec::new();
        for link in Link::ALL {
            let begins = seed.within(300, shape.load_ms.saturating_sub(2_000));
            let ends = begins.saturating_add(seed.within(100, 3_500));
            let trouble = TROUBLES.get(seed.index(TROUBLES.len())).copied().unwrap_or(Trouble::Cut);
            steps.push(at(begins, Action::Trouble { link, trouble }));
            steps.push(at(ends, Action::Trouble { link, trouble: Trouble::None }));
        }
        steps
    },
};
