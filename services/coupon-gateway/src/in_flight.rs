//! How much is in progress, with a bound.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A counter with a bound. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct InFlight {
    count: Arc<AtomicUsize>,
    max: usize,
}

/// One piece of work in progress; it counts until it is dropped.
#[derive(Debug)]
pub struct InFlightGuard(Arc<AtomicUsize>);

impl InFlight {
    /// At most `max` at a time.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { count: Arc::default(), max }
    }

    /// Starts one more; none when the bound is reached.
    #[must_use]
    pub fn enter(&self) -> Option<InFlightGuard> {
        if self.count.fetch_add(1, Ordering::AcqRel) < self.max {
            return Some(InFlightGuard(Arc::clone(&self.count)));
        }
        self.count.fetch_sub(1, Ordering::AcqRel);
        None
    }

    /// How many are in progress.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_places_come_free() {
        let in_flight = InFlight::new(2);
        let (first, second) = (in_flight.enter(), in_flight.enter());
        assert!(first.is_some() && second.is_some() && in_flight.enter().is_none());
        assert_eq!(in_flight.count(), 2);
        drop(first);
        assert!(in_flight.enter().is_some());
        drop(second);
        assert_eq!(in_flight.count(), 0);
    }
}
