//! The faults, each in a file of its own: what it is, how it bends the round, and what it does when.
//!
//! A fault is data. Its steps follow from the round's shape and from its own stream of the seed, so that two of them merge into one schedule.

mod answers_lost_behind;
mod broker_away;
mod broker_frozen;
mod broker_killed;
mod clock_off;
mod consumer_killed_after_commit;
mod consumers_come_and_go;
mod database_killed;
mod gateway_killed_before_append;
mod links_cut;
mod old_redis_file;
mod partitions_added;
mod poison;
mod reconciler_paused;
mod redis_emptied;
mod redis_reply_lost;
mod republished_late;
mod same_member_and_doubled_log;
mod slow_links;
mod terminated_in_flight;
mod total_changed;
mod two_reconcilers;
mod zombie_consumer;

use crate::{action::Step, plan::Shape, seed::Seed};

/// One fault.
#[derive(Debug)]
pub struct Fault {
    /// Its number.
    pub number: u8,
    /// Its name.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub about: &'static str,
    /// Services have to be built with failpoints.
    pub needs_failpoints: bool,
    /// Bends the round.
    pub bend: fn(&mut Shape),
    /// What is done, and when.
    pub steps: fn(&Shape, &mut Seed) -> Vec<Step>,
}

/// All faults, by number.
pub const ALL: &[&Fault] = &[
    &broker_frozen::FAULT,
    &redis_emptied::FAULT,
    &reconciler_paused::FAULT,
    &redis_reply_lost::FAULT,
    &consumer_killed_after_commit::FAULT,
    &gateway_killed_before_append::FAULT,
    &zombie_consumer::FAULT,
    &poison::FAULT,
    &old_redis_file::FAULT,
    &database_killed::FAULT,
    &broker_killed::FAULT,
    &broker_away::FAULT,
    &terminated_in_flight::FAULT,
    &consumers_come_and_go::FAULT,
    &partitions_added::FAULT,
    &same_member_and_doubled_log::FAULT,
    &clock_off::FAULT,
    &slow_links::FAULT,
    &two_reconcilers::FAULT,
    &total_changed::FAULT,
    &links_cut::FAULT,
    &answers_lost_behind::FAULT,
    &republished_late::FAULT,
];

/// The fault with this number or name.
#[must_use]
pub fn find(wanted: &str) -> Option<&'static Fault> {
    ALL.iter().copied().find(|fault| fault.name == wanted || fault.number.to_string() == wanted)
}

/// Leaves the round as it is.
pub(crate) fn as_it_is(_: &mut Shape) {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_names_are_used_once_and_found() {
        let numbers: BTreeSet<u8> = ALL.iter().map(|fault| fault.number).collect();
        let names: BTreeSet<&str> = ALL.iter().map(|fault| fault.name).collect();
        assert_eq!((numbers.len(), names.len()), (ALL.len(), ALL.len()));
        for fault in ALL {
            assert_eq!(find(fault.name).map(|found| found.number), Some(fault.number));
            assert_eq!(find(&fault.number.to_string()).map(|found| found.name), Some(fault.name));
        }
        assert!(find("no-such-fault").is_none());
    }

    #[test]
    fn the_seed_decides_the_steps_and_every_fault_has_some() {
        for fault in ALL {
            let steps = |seed: u64| {
                let mut shape = Shape::default();
                (fault.bend)(&mut shape);
                (fault.steps)(&shape, &mut Seed::new(seed).fork(fault.name))
            };
            assert!(!steps(1).is_empty(), "{}", fault.name);
            assert_eq!(steps(1), steps(1), "{}", fault.name);
            assert!((2..20).any(|seed| steps(seed) != steps(1)), "{} does the same by every seed", fault.name);
        }
    }
}
