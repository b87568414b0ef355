//! What consumers ask is done, and they are not told.

use super::Fault;
use crate::action::{Action, Link, Trouble, Who, at};

/// Where an answer is lost, and how often.
const LOST: [(&str, &str); 4] = [
    ("consumer.commit.done", "10%fail"),
    ("consumer.commit.done", "40%fail"),
    ("consumer.settle.replied", "25%fail"),
    ("consumer.publish.acknowledged", "25%fail"),
];

/// Answers to COMMIT, to settle calls and to announcements are lost; for a moment the link to PostgreSQL or to Redis swallows all of them.
pub const FAULT: Fault = Fault {
    number: 22,
    name: "answers-lost-behind",
    about: "answers to COMMIT, to the settler and to the publisher are lost",
    needs_failpoints: true,
    bend: super::as_it_is,
    steps: |shape, seed| {
        let mut steps = Vec::new();
        for consumer in [0, 1] {
            for _ in 0..2 {
                let (step, plan) = LOST.get(seed.index(LOST.len())).copied().unwrap_or(("consumer.commit.done", "10%fail"));
                steps.push(at(seed.within(0, 1_000), Action::Failpoint { who: Who::Consumer(consumer), step, plan }));
            }
        }
        let link = if seed.chance(50) { Link::BehindPostgres } else { Link::BehindRedis };
        let begins = seed.within(500, shape.load_ms.saturating_sub(1_000));
        steps.push(at(begins, Action::Trouble { link, trouble: Trouble::RepliesLost }));
        steps.push(at(begins.saturating_add(seed.within(100, 1_500)), Action::Trouble { link, trouble: Trouble::None }));
        steps
    },
};
