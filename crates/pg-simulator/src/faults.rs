//! What happens to a call on its way, apart from its meaning.

use serde::{Deserialize, Serialize};

/// How long calls take whose payment does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    /// At least, in milliseconds.
    pub min_ms: u64,
    /// At most, in milliseconds.
    pub max_ms: u64,
}

impl Latency {
    /// The same for all.
    #[must_use]
    pub const fn fixed(ms: u64) -> Self {
        Self { min_ms: ms, max_ms: ms }
    }

    /// How long a call about `reference` takes: the same each time, spread evenly over references, so that a schedule of it can be computed.
    #[must_use]
    pub fn of(&self, reference: &str) -> u64 {
        let width = self.max_ms.saturating_sub(self.min_ms).saturating_add(1);
        self.min_ms.saturating_add(spread(reference, 0) % width)
    }
}

/// A gateway that slows down with the number of calls that are under way at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Congestion {
    /// So many at once slow nobody down.
    pub free: u32,
    /// What each one beyond them adds to a call that comes, in milliseconds.
    pub ms_per_call: u64,
}

impl Congestion {
    /// How much longer a call takes that makes it so many at once, itself included.
    #[must_use]
    pub fn of(&self, at_once: u32) -> u64 {
        u64::from(at_once.saturating_sub(self.free)).saturating_mul(self.ms_per_call)
    }
}

/// Whether the gateway is there at all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outage {
    /// It is.
    #[default]
    None,
    /// Every call gets 503.
    Unavailable,
    /// Every connection ends without an answer.
    Dropping,
    /// Every answer comes too late: after a minute.
    Hanging,
}

/// FNV-1a with a finishing mix: even enough for latencies and shares, and the same in every run.
pub fn spread(text: &str, salt: u64) -> u64 {
    let mut hash =
        text.bytes().fold(0xcbf2_9ce4_8422_2325 ^ salt, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_spread_evenly_and_stay_the_same() {
        let latency = Latency { min_ms: 5, max_ms: 500 };
        let all: Vec<u64> = (0..10_000).map(|n| latency.of(&format!("order-{n}"))).collect();
        assert!(all.iter().all(|ms| (5..=500).contains(ms)));
        let mean = all.iter().sum::<u64>() / 10_000;
        assert!((245..=260).contains(&mean), "{mean}");
        assert_eq!(latency.of("order-1"), latency.of("order-1"));
        assert_eq!(Latency::fixed(7).of("any"), 7);
    }
}
