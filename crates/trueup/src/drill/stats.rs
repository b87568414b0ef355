//! What a drill counts and measures.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest time that is told apart, in microseconds; longer ones count as this.
const MICROS_MAX: u64 = 3_600_000_000;

/// Times in microseconds at three digits, in some 200 kB whatever their number.
#[derive(Debug, Clone)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        // The bounds are constants that the histogram takes; one without bounds stands in if it ever did not.
        Self(
            Histogram::new_with_bounds(1, MICROS_MAX, 3).unwrap_or_else(|_| Histogram::new(3).unwrap_or_else(|_| unreachable!())),
        )
    }
}

/// Percentiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half of them took at most this.
    pub p50_ms: f64,
    /// 90 %.
    pub p90_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// 99.9 %.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Latency {
    /// Notes one time.
    pub fn note(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_micros()).unwrap_or(MICROS_MAX).clamp(1, MICROS_MAX));
    }

    /// The percentiles.
    #[must_use]
    pub fn percentiles(&self) -> Percentiles {
        let at = |quantile: f64| millis(self.0.value_at_quantile(quantile));
        Percentiles {
            count: self.0.len(),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: millis(self.0.max()),
        }
    }
}

#[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "an hour of microseconds fits a float exactly")]
fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

/// Counts by name.
pub type Counts = BTreeMap<String, u64>;

/// Adds one to a count.
pub fn count(counts: &mut Counts, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count = count.saturating_add(1),
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

/// What is counted for each coupon.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CouponCounts {
    /// Final answers of the gateway: `accepted`, or the code of the refusal.
    pub answers: Counts,
    /// Outcomes as tickets told them: `issued` or the reason; `pending` at the end.
    pub outcomes: Counts,
}

/// What a drill counts and measures while it sends.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Per coupon, in the plan's order.
    pub coupons: Vec<CouponCounts>,
    /// Answers after which the client asked again: 429 and 503 by their code, and lost connections.
    pub retried: Counts,
    /// From the first send (open loop: the scheduled one) to the 202.
    pub accept: Latency,
    /// The same to any other final answer.
    pub refuse: Latency,
    /// From the 202 to the first ticket answer with an outcome.
    pub visible: Latency,
    /// Broken promises that were seen by the clients themselves.
    pub violations: Counts,
    /// The first few of them in words.
    pub violation_details: Vec<String>,
    /// How often the schedule could not be kept, because too many were in flight.
    pub late: u64,
}

/// Broken promises that are told in words; the rest are only counted.
const VIOLATION_DETAILS_MAX: usize = 20;

impl Stats {
    /// Nothing counted, for this many coupons.
    #[must_use]
    pub fn new(coupons: usize) -> Self {
        Self { coupons: vec![CouponCounts::default(); coupons], ..Self::default() }
    }

    /// Notes a final answer.
    pub fn answer(&mut self, coupon: usize, name: &str, took: Duration) {
        if let Some(counts) = self.coupons.get_mut(coupon) {
            count(&mut counts.answers, name);
        }
        if name == "accepted" { self.accept.note(took) } else { self.refuse.note(took) }
    }

    /// Notes an outcome.
    pub fn outcome(&mut self, coupon: usize, name: &str) {
        if let Some(counts) = self.coupons.get_mut(coupon) {
            count(&mut counts.outcomes, name);
        }
    }

    /// Notes a broken promise.
    pub fn violation(&mut self, kind: &str, detail: impl FnOnce() -> String) {
        count(&mut self.violations, kind);
        if self.violation_details.len() < VIOLATION_DETAILS_MAX {
            self.violation_details.push(format!("{kind}: {}", detail()));
        }
    }

    /// Accepted answers of all coupons.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.coupons.iter().filter_map(|counts| counts.answers.get("accepted")).sum()
    }

    /// Final answers of all coupons.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.coupons.iter().flat_map(|counts| counts.answers.values()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut latency = Latency::default();
        for ms in 1..=1_000 {
            latency.note(Duration::from_millis(ms));
        }
        let got = latency.percentiles();
        let near = |value: f64, wanted: f64| (value - wanted).abs() / wanted < 0.002;
        assert!(near(got.p50_ms, 500.0) && near(got.p90_ms, 900.0) && near(got.p99_ms, 990.0), "{got:?}");
        assert!(near(got.p999_ms, 999.0) && near(got.max_ms, 1_000.0), "{got:?}");
        assert_eq!(got.count, 1_000);
        // Longer than an hour counts as an hour, and nothing is lost.
        latency.note(Duration::from_secs(100_000));
        assert_eq!(latency.percentiles().count, 1_001);
        assert!(near(latency.percentiles().max_ms, 3_600_000.0));
    }

    #[test]
    fn accepted_and_refused_are_measured_apart() {
        let mut stats = Stats::new(2);
        stats.answer(0, "accepted", Duration::from_millis(1));
        stats.answer(1, "accepted", Duration::from_millis(1));
        stats.answer(1, "sold_out", Duration::from_millis(9));
        assert_eq!((stats.accepted(), stats.answered()), (2, 3));
        assert_eq!((stats.accept.percentiles().count, stats.refuse.percentiles().count), (2, 1));
        for _ in 0..100 {
            stats.violation("key_gave_two_ids", || "words".to_owned());
        }
        assert_eq!(
            (stats.violations.get("key_gave_two_ids"), stats.violation_details.len()),
            (Some(&100), VIOLATION_DETAILS_MAX)
        );
    }
}
