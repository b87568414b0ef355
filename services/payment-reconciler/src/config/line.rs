//! Settings of the line: the run, the asking, the breaker, the refunds, and the policies that verdicts go by.

use std::{collections::BTreeMap, time::Duration};

use domain::payment::{Policy, ProviderName};
use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

use super::policy::{self, GivenPolicy};
use crate::line::ask::TRY_DELAY_MAX;

/// The run, the asking, the refunds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Given")]
pub struct LineSettings {
    /// When runs are made, and what they claim.
    pub run: RunSettings,
    /// How gateways are asked.
    pub asking: AskSettings,
    /// When a gateway is left alone.
    pub breaker: BreakerSettings,
    /// When refunds are held.
    pub refunds: RefundSettings,
    /// What verdicts go by.
    pub policy: Policy,
    /// The same for single gateways, by their names: what is given for one of them goes before `policy`, part by part.
    pub policies: BTreeMap<ProviderName, Policy>,
}

/// The same as it is read: of a policy, only what is given.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Given {
    run: RunSettings,
    asking: AskSettings,
    breaker: BreakerSettings,
    refunds: RefundSettings,
    policy: GivenPolicy,
    policies: BTreeMap<ProviderName, GivenPolicy>,
}

impl From<Given> for LineSettings {
    fn from(given: Given) -> Self {
        let Given { run, asking, breaker, refunds, policy, policies } = given;
        let policy = policy.over(&Policy::default());
        let policies = policies.into_iter().map(|(name, own)| (name, own.over(&policy))).collect();
        Self { run, asking, breaker, refunds, policy, policies }
    }
}

/// When runs are made, and what they claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// From the end of a run to the next one.
    pub interval_ms: u64,
    /// Between two looks at what is due or hinted at, between runs.
    pub due_interval_ms: u64,
    /// The age at which a PENDING order is stale.
    pub stale_after_ms: i64,
    /// How long a claim lasts without being renewed. Above all tries of an ask, and above a refund's call.
    pub lease_ms: i64,
    /// How long reports of runs are kept.
    pub reports_kept_hours: i64,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            interval_ms: 60_000,
            due_interval_ms: 1_000,
            stale_after_ms: 600_000,
            lease_ms: 120_000,
            reports_kept_hours: 2_160,
        }
    }
}

/// How gateways are asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskSettings {
    /// Asks of one gateway at the same time, in this replica, at most.
    pub concurrency_max: u16,
    /// Whether fewer are made while the gateway is slow or fails.
    pub adaptive: bool,
    /// An answer that takes longer counts as slow.
    pub slow_ms: u64,
    /// Calls of one gateway in any second, in this replica, at most; operators' asks count. A tenth of them may be made at once.
    pub rate_per_second: u32,
    /// Tries of an ask.
    pub tries: usize,
    /// The delay before the second try; it doubles, with jitter.
    pub try_delay_ms: u64,
    /// How long a try may take.
    pub try_timeout_ms: u64,
}

impl Default for AskSettings {
    fn default() -> Self {
        Self {
            concurrency_max: 10,
            adaptive: true,
            slow_ms: 3_000,
            rate_per_second: 100,
            tries: 3,
            try_delay_ms: 1_000,
            try_timeout_ms: 10_000,
        }
    }
}

impl AskSettings {
    /// How long all tries of an ask take at the most, with the delays between them, in milliseconds.
    fn all_tries_ms(&self) -> u64 {
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let longest = u64::try_from(TRY_DELAY_MAX.as_millis()).unwrap_or(u64::MAX);
        let delays = self.tries.saturating_sub(1);
        // From the last of these on each is the longest one; its jitter may double a delay.
        let growing = delays.min(usize::try_from(u64::BITS).unwrap_or(usize::MAX));
        let first = std::iter::successors(Some(self.try_delay_ms), |delay| Some(delay.saturating_mul(2)));
        let grown = first.take(growing).fold(0_u64, |sum, delay| sum.saturating_add(delay.min(longest)));
        let rest = wide(delays.saturating_sub(growing)).saturating_mul(longest);
        let calls = wide(self.tries).saturating_mul(self.try_timeout_ms);
        grown.saturating_add(rest).saturating_mul(2).saturating_add(calls)
    }
}

/// When a gateway is left alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Asks in a row without an answer that open the breaker.
    pub failures: i32,
    /// How long it stays open before one ask tries again.
    pub open_ms: i64,
    /// How long a gateway pauses that says "too many calls" without saying how long.
    pub pause_ms: i64,
    /// The longest pause, whatever it says.
    pub pause_ms_max: i64,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, open_ms: 30_000, pause_ms: 5_000, pause_ms_max: 900_000 }
    }
}

/// When refunds are held.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefundSettings {
    /// Refunds that nobody asked for within the window; the rest is held for an operator.
    pub automatic_max: i64,
    /// The window.
    pub automatic_window_ms: i64,
}

impl Default for RefundSettings {
    fn default() -> Self {
        Self { automatic_max: 20, automatic_window_ms: 600_000 }
    }
}

impl LineSettings {
    /// How long runs may make no progress before they count as standing still: the pause between two, and what one payment may take twice over.
    #[must_use]
    pub fn silent_max(&self) -> Duration {
        let lease = Duration::from_millis(u64::try_from(self.run.lease_ms).unwrap_or(0));
        Duration::from_millis(self.run.interval_ms).saturating_add(lease.saturating_mul(2))
    }

    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let (run, asking, breaker, refunds) = (&self.run, &self.asking, &self.breaker, &self.refunds);
        let wide = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let least: [(&str, i64, i64); 15] = [
            ("line.run.interval_ms", wide(run.interval_ms), 10),
            ("line.run.due_interval_ms", wide(run.due_interval_ms), 10),
            ("line.run.reports_kept_hours", run.reports_kept_hours, 1),
            ("line.run.stale_after_ms", run.stale_after_ms, 0),
            ("line.asking.concurrency_max", i64::from(asking.concurrency_max), 1),
            ("line.asking.rate_per_second", i64::from(asking.rate_per_second), 1),
            ("line.asking.slow_ms", wide(asking.slow_ms), 1),
            ("line.asking.tries", i64::try_from(asking.tries).unwrap_or(i64::MAX), 1),
            ("line.asking.try_timeout_ms", wide(asking.try_timeout_ms), 10),
            ("line.breaker.failures", i64::from(breaker.failures), 1),
            ("line.breaker.open_ms", breaker.open_ms, 1),
            ("line.breaker.pause_ms", breaker.pause_ms, 1),
            ("line.breaker.pause_ms_max", breaker.pause_ms_max, breaker.pause_ms),
            ("line.refunds.automatic_max", refunds.automatic_max, 0),
            ("line.refunds.automatic_window_ms", refunds.automatic_window_ms, 1),
        ];
        let low = least.into_iter().filter(|(_, value, lowest)| value < lowest);
        let mut faults: Vec<_> = low
            .map(|(field, value, lowest)| Fault::new(field, format!("is {value}"), format!("give at least {lowest}")))
            .collect();
        faults.extend(policy::faults("line.policy", &self.policy));
        for (name, own) in &self.policies {
            faults.extend(policy::faults(&format!("line.policies.{name}"), own));
        }
        // A claim that is over before its last try is given up without a word: nothing is noted of the payment, and nothing of its gateway.
        let longest = wide(asking.all_tries_ms());
        if run.lease_ms < longest {
            let fix = format!("give at least {longest}: all tries of an ask with their delays");
            faults.push(Fault::new("line.run.lease_ms", format!("is {}", run.lease_ms), fix));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_lasts_for_all_tries_with_their_delays() {
        let takes = |tries, try_delay_ms| AskSettings { tries, try_delay_ms, ..AskSettings::default() }.all_tries_ms();
        assert_eq!(takes(1, 1_000), 10_000);
        assert_eq!(takes(3, 1_000), 30_000 + 2 * 3_000, "one second, then two");
        assert_eq!(takes(6, 1_000), 60_000 + 2 * 31_000);
        assert_eq!(takes(10, 1_000), 100_000 + 2 * (63_000 + 3 * 60_000), "a minute is the longest");
        assert_eq!(takes(102, 60_000), 1_020_000 + 2 * 101 * 60_000);
        assert_eq!(takes(usize::MAX, u64::MAX), u64::MAX);
        let faults = |tries| {
            let asking = AskSettings { tries, ..AskSettings::default() };
            LineSettings { asking, ..LineSettings::default() }.faults().len()
        };
        assert_eq!((faults(5), faults(6)), (0, 1), "of a claim of two minutes");
    }
}
