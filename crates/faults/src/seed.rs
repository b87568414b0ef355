//! Randomness that is a function of one number, so that the same seed gives the same round.

use trueup_cli::drill::mix;

/// A stream of numbers.
#[derive(Debug, Clone)]
pub struct Seed(u64);

impl Seed {
    /// The stream of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A stream of its own for `label`; what is drawn from one does not move the other.
    #[must_use]
    pub fn fork(&self, label: &str) -> Self {
        Self(label.bytes().fold(mix(self.0), |seed, byte| mix(seed ^ u64::from(byte))))
    }

    /// The next number.
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// One of `low..high`; `low` when the range is empty.
    pub const fn within(&mut self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low);
        if width == 0 { low } else { low.wrapping_add(self.draw() % width) }
    }

    /// True in `percent` of 100 draws.
    pub const fn chance(&mut self, percent: u64) -> bool {
        self.draw() % 100 < percent
    }

    /// An index below `length`; 0 when there is none.
    pub fn index(&mut self, length: usize) -> usize {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.within(0, length)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_its_stream_and_forks_are_apart() {
        let draws = |mut seed: Seed| (0..100).map(|_| seed.draw()).collect::<Vec<_>>();
        assert_eq!(draws(Seed::new(7)), draws(Seed::new(7)));
        assert_ne!(draws(Seed::new(7)), draws(Seed::new(8)));
        assert_ne!(draws(Seed::new(7).fork("a")), draws(Seed::new(7).fork("b")));
        let mut seed = Seed::new(1);
        assert!((0..1_000).all(|_| (3..9).contains(&seed.within(3, 9))));
        let often = (0..10_000).filter(|_| seed.chance(30)).count();
        assert!((2_700..3_300).contains(&often), "{often}");
        assert_eq!((seed.within(5, 5), seed.index(0)), (5, 0));
    }
}
