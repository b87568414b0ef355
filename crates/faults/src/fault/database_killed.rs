//! The database is killed in mid-batch.

use super::Fault;
use crate::action::{Action, Who, at};

/// kill -9 of the whole server, once or twice, while batches are in their transactions.
pub const FAULT: Fault = Fault {
    number: 10,
    name: "database-killed",
    about: "PostgreSQL is killed while batches are in their transactions",
    needs_failpoints: true,
    bend: super::as_it_is,
    steps: |shape, seed| {
        let mut steps = Vec::new();
        for consumer in [0, 1] {
            // Every fifth transaction stands for a moment before its COMMIT, so that one is open when the server dies.
            let who = Who::Consumer(consumer);
            steps.push(at(0, Action::Failpoint { who, step: "consumer.commit.before", plan: "20%sleep(100)" }));
        }
        let times = 1 + seed.within(0, 2);
        for index in 0..times {
            let part = shape.load_ms / times;
            let dies = part.saturating_mul(index).saturating_add(seed.within(part / 5, part));
            steps.push(at(dies, Action::Kill(Who::Postgres)));
            steps.push(at(dies.saturating_add(seed.within(0, 800)), Action::Start(Who::Postgres)));
        }
        steps
    },
};
