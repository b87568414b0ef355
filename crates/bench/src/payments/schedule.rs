//! The ceiling for runs: a greedy schedule of the same latencies. Each call begins as soon as a slot is free, and nothing else takes time.

use std::{cmp::Reverse, collections::BinaryHeap};

/// How long calls of these latencies take in their order on so many slots, in milliseconds.
#[must_use]
pub fn greedy_ms(latencies_ms: impl IntoIterator<Item = u64>, slots: usize) -> u64 {
    let mut free_at: BinaryHeap<Reverse<u64>> = (0..slots).map(|_| Reverse(0)).collect();
    let mut end = 0;
    for latency in latencies_ms {
        let Some(Reverse(at)) = free_at.pop() else { return u64::MAX };
        let done = at.saturating_add(latency);
        end = end.max(done);
        free_at.push(Reverse(done));
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_used_as_soon_as_they_are_free() {
        assert_eq!(greedy_ms([500; 20], 10), 1_000);
        assert_eq!(greedy_ms([500; 100], 10), 5_000);
        assert_eq!(greedy_ms([3, 1, 1, 1], 2), 3);
        assert_eq!(greedy_ms([], 10), 0);
    }
}
