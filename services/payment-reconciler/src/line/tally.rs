//! What was looked after beside the runs since the last report, so that the reports add up to all that was done.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use super::outcome::Outcome;

/// How often each outcome came out.
pub(super) type Outcomes = HashMap<Outcome, i64>;

/// Counts until the next report takes it.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Outcomes>);

impl Tally {
    /// Counts so many more.
    pub fn add(&self, outcome: Outcome, more: i64) {
        if more == 0 {
            return;
        }
        let mut outcomes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = outcomes.entry(outcome).or_default();
        *count = count.saturating_add(more);
    }

    /// What was counted; the count begins anew.
    pub fn take(&self) -> Outcomes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// It could not be reported: the next report has it.
    pub fn put_back(&self, outcomes: &Outcomes) {
        outcomes.iter().for_each(|(outcome, count)| self.add(*outcome, *count));
    }
}
