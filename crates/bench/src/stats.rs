//! Medians and spreads of a few rounds.

use std::fmt;

/// Rounds of one figure.
#[derive(Debug, Clone, Default)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// Adds a round.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle round.
    #[must_use]
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The smallest and the largest round.
    #[must_use]
    pub fn spread(&self) -> (f64, f64) {
        (self.0.iter().copied().fold(f64::INFINITY, f64::min), self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    /// Round by round, this figure over another: both were measured one after the other, so noise of the machine falls out.
    #[must_use]
    pub fn ratio_to(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(mine, theirs)| mine / theirs).collect())
    }
}

impl fmt::Display for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.spread();
        let digits = if self.median() >= 100.0 { 0 } else { 2 };
        write!(f, "{:.digits$} ({low:.digits$}–{high:.digits$})", self.median())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_ratios_go_round_by_round() {
        let mut mine = Rounds::default();
        let mut theirs = Rounds::default();
        for (a, b) in [(10.0, 5.0), (30.0, 10.0), (20.0, 20.0)] {
            mine.push(a);
            theirs.push(b);
        }
        assert!((mine.median() - 20.0).abs() < 1e-9);
        assert!((mine.ratio_to(&theirs).median() - 2.0).abs() < 1e-9);
        assert_eq!(mine.ratio_to(&theirs).to_string(), "2.00 (1.00–3.00)");
    }
}
