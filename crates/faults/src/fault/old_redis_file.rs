//! Redis is killed and comes back with its file as old as it is, or older.

use super::Fault;
use crate::action::{Action, Who, at};

/// kill -9 and a new start: on its own file, which lost up to a second, or on a copy from the beginning of the load.
pub const FAULT: Fault = Fault {
    number: 9,
    name: "old-redis-file",
    about: "Redis is killed and started again with its file as old as it is, or with one from earlier",
    needs_failpoints: false,
    bend: super::as_it_is,
    steps: |shape, seed| {
        let kept = seed.within(200, shape.load_ms / 2);
        let dies = seed.within(shape.load_ms / 2, shape.load_ms);
        if seed.chance(50) {
            return vec![at(kept, Action::KeepRedisFiles), at(dies, Action::BringBackOldRedisFiles)];
        }
        let starts = dies.saturating_add(seed.within(0, 1_500));
        vec![at(dies, Action::Kill(Who::Redis)), at(starts, Action::Start(Who::Redis))]
    },
};
