//! What callers do to the gateway: how many calls are under way at once, and when they came.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Calls whose time is remembered; of more, the oldest are forgotten.
const REMEMBERED_MAX: usize = 100_000;

/// The load since it was last begun to be counted.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: u32,
    in_flight_max: u32,
    calls: u64,
    came: VecDeque<Instant>,
}

impl Load {
    /// A call came; how many are under way with it.
    pub fn begin(&mut self, now: Instant) -> u32 {
        self.in_flight = self.in_flight.saturating_add(1);
        self.in_flight_max = self.in_flight_max.max(self.in_flight);
        self.calls = self.calls.saturating_add(1);
        self.came.push_back(now);
        if self.came.len() > REMEMBERED_MAX {
            self.came.pop_front();
        }
        self.in_flight
    }

    /// A call was answered, or its caller is gone.
    pub fn end(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Begins to count again; what is under way stays so.
    pub fn reset(&mut self) {
        *self = Self { in_flight: self.in_flight, in_flight_max: self.in_flight, ..Self::default() };
    }

    /// Calls that came.
    pub const fn calls(&self) -> u64 {
        self.calls
    }

    /// The most that were under way at once.
    pub const fn in_flight_max(&self) -> u32 {
        self.in_flight_max
    }

    /// The most calls that came within any time of this length.
    pub fn busiest(&self, window: Duration) -> usize {
        let mut inside = VecDeque::new();
        let mut most = 0;
        for &at in &self.came {
            inside.push_back(at);
            while inside.front().is_some_and(|&first| at.duration_since(first) >= window) {
                inside.pop_front();
            }
            most = most.max(inside.len());
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_may_begin_at_any_moment() {
        let mut load = Load::default();
        let begun = Instant::now();
        for ms in [0, 900, 950, 999, 1_000, 1_899, 1_900, 5_000] {
            load.begin(begun + Duration::from_millis(ms));
        }
        // From 900 to 1899, both included.
        assert_eq!(load.busiest(Duration::from_secs(1)), 5);
        assert_eq!((load.in_flight_max(), load.calls()), (8, 8));
        (0..6).for_each(|_| load.end());
        load.reset();
        assert_eq!((load.in_flight_max(), load.calls(), load.busiest(Duration::from_secs(1))), (2, 0, 0));
    }
}
