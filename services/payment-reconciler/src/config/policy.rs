//! Policies as they are given: each part by itself, on top of what holds otherwise; and the bounds of their times.

use std::collections::BTreeMap;

use domain::payment::{PaymentMethod, Policy, Schedule};
use serde::Deserialize;
use service_kit::settings::Fault;

/// The shortest first delay of a schedule, in milliseconds. Without one, a payment would be asked about again and again without a pause.
const FIRST_MS_MIN: i64 = 10;
/// The shortest time that a gateway may be given for anything else, in milliseconds.
const TIME_MS_MIN: i64 = 1;
/// The longest delay and the longest time, in milliseconds: ten years. Times far beyond it are none that PostgreSQL can reckon with.
const TIME_MS_MAX: i64 = 10 * 366 * 24 * 3_600_000;

/// A schedule of which parts are given.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GivenSchedule {
    first_ms: Option<i64>,
    longest_ms: Option<i64>,
}

impl GivenSchedule {
    fn over(self, base: Schedule) -> Schedule {
        Schedule::new(self.first_ms.unwrap_or(base.first_ms), self.longest_ms.unwrap_or(base.longest_ms))
    }
}

/// A policy of which parts are given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct GivenPolicy {
    payment_window_ms: Option<i64>,
    payment_windows_ms: BTreeMap<PaymentMethod, i64>,
    sweep_ms: Option<i64>,
    handover_ms: Option<i64>,
    unknown_ms: Option<i64>,
    watch_ms: Option<i64>,
    refund_overdue_ms: Option<i64>,
    refund_grace_ms: Option<i64>,
    open: BTreeMap<PaymentMethod, GivenSchedule>,
    open_otherwise: GivenSchedule,
    unanswered: GivenSchedule,
    sweep: GivenSchedule,
    refund: GivenSchedule,
    watch: GivenSchedule,
}

impl GivenPolicy {
    /// What is given, and `base` where nothing is. A method that `base` does not list begins with the schedule of those.
    pub fn over(&self, base: &Policy) -> Policy {
        let open_otherwise = self.open_otherwise.over(base.open_otherwise);
        let mut open = base.open.clone();
        for (method, given) in &self.open {
            let listed = open.get(method).copied().unwrap_or(open_otherwise);
            open.insert(*method, given.over(listed));
        }
        let mut payment_windows_ms = base.payment_windows_ms.clone();
        payment_windows_ms.extend(&self.payment_windows_ms);
        Policy {
            payment_windows_ms,
            payment_window_ms: self.payment_window_ms.unwrap_or(base.payment_window_ms),
            sweep_ms: self.sweep_ms.unwrap_or(base.sweep_ms),
            handover_ms: self.handover_ms.unwrap_or(base.handover_ms),
            unknown_ms: self.unknown_ms.unwrap_or(base.unknown_ms),
            watch_ms: self.watch_ms.unwrap_or(base.watch_ms),
            refund_overdue_ms: self.refund_overdue_ms.unwrap_or(base.refund_overdue_ms),
            refund_grace_ms: self.refund_grace_ms.unwrap_or(base.refund_grace_ms),
            open,
            open_otherwise,
            unanswered: self.unanswered.over(base.unanswered),
            sweep: self.sweep.over(base.sweep),
            refund: self.refund.over(base.refund),
            watch: self.watch.over(base.watch),
        }
    }
}

/// What is wrong with a policy that stands in this section.
pub(super) fn faults(section: &str, policy: &Policy) -> Vec<Fault> {
    let times = [
        ("payment_window_ms", policy.payment_window_ms),
        ("sweep_ms", policy.sweep_ms),
        ("handover_ms", policy.handover_ms),
        ("unknown_ms", policy.unknown_ms),
        ("watch_ms", policy.watch_ms),
        ("refund_overdue_ms", policy.refund_overdue_ms),
        ("refund_grace_ms", policy.refund_grace_ms),
    ];
    let mut values: Vec<(String, i64, i64)> =
        times.into_iter().map(|(name, value)| (name.to_owned(), value, TIME_MS_MIN)).collect();
    let windows = policy.payment_windows_ms.iter();
    values.extend(windows.map(|(method, value)| (format!("payment_windows_ms.{method}"), *value, TIME_MS_MIN)));
    let others = [
        ("open_otherwise", policy.open_otherwise),
        ("unanswered", policy.unanswered),
        ("sweep", policy.sweep),
        ("refund", policy.refund),
        ("watch", policy.watch),
    ];
    let others = others.into_iter().map(|(name, schedule)| (name.to_owned(), schedule));
    let of_methods = policy.open.iter().map(|(method, schedule)| (format!("open.{method}"), *schedule));
    for (name, Schedule { first_ms, longest_ms }) in others.chain(of_methods) {
        values.push((format!("{name}.first_ms"), first_ms, FIRST_MS_MIN));
        values.push((format!("{name}.longest_ms"), longest_ms, first_ms.max(FIRST_MS_MIN)));
    }
    let outside = values.into_iter().filter(|(_, value, least)| !(*least..=TIME_MS_MAX).contains(value));
    outside
        .map(|(name, value, least)| {
            let least = least.min(TIME_MS_MAX);
            Fault::new(format!("{section}.{name}"), format!("is {value}"), format!("give {least} to {TIME_MS_MAX}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use service_kit::settings::{SettingsError, read};

    use super::*;
    use crate::config::{PREFIX, Settings};

    fn given(pairs: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let pairs = pairs.iter().map(|(name, value)| (format!("{PREFIX}__LINE__{name}"), (*value).to_owned()));
        read(PREFIX, None, pairs.collect())
    }

    #[test]
    fn what_is_not_given_for_a_gateway_is_as_for_all_of_them() {
        let settings = given(&[
            ("POLICY__HANDOVER_MS", "7200000"),
            ("POLICY__REFUND__FIRST_MS", "2000"),
            ("POLICY__OPEN__CARD__FIRST_MS", "5000"),
            ("POLICIES__TOSS__SWEEP_MS", "1000"),
            ("POLICIES__TOSS__REFUND__LONGEST_MS", "9000"),
            ("POLICIES__TOSS__OPEN__CARD__LONGEST_MS", "60000"),
            ("POLICIES__TOSS__OPEN__MOBILE__FIRST_MS", "20"),
        ]);
        let line = settings.unwrap().line;
        let code = Policy::default();
        assert_eq!((line.policy.handover_ms, line.policy.sweep_ms), (7_200_000, code.sweep_ms));
        assert_eq!(line.policy.refund, Schedule::new(2_000, code.refund.longest_ms));
        assert_eq!(line.policy.open(PaymentMethod::Card), Schedule::new(5_000, code.open_otherwise.longest_ms));
        assert_eq!(line.policy.open(PaymentMethod::Transfer), code.open(PaymentMethod::Transfer));
        let toss = &line.policies[&"toss".parse().unwrap()];
        assert_eq!((toss.handover_ms, toss.sweep_ms), (7_200_000, 1_000));
        assert_eq!(toss.refund, Schedule::new(2_000, 9_000));
        assert_eq!(toss.open(PaymentMethod::Card), Schedule::new(5_000, 60_000));
        assert_eq!(toss.open(PaymentMethod::Mobile), Schedule::new(20, code.open_otherwise.longest_ms));
        assert_eq!(toss.watch, code.watch);
        assert!(given(&[("POLICIES__TOSS__HANDOVER", "1")]).is_err(), "an unknown name is told");
    }

    #[test]
    fn every_time_of_a_policy_is_bounded_by_name() {
        assert!(faults("line.policy", &Policy::default()).is_empty());
        let times = [
            "payment_windows_ms.card",
            "payment_window_ms",
            "sweep_ms",
            "handover_ms",
            "unknown_ms",
            "watch_ms",
            "refund_overdue_ms",
            "refund_grace_ms",
        ];
        let schedules = ["open.card", "open.virtual_account", "open_otherwise", "unanswered", "sweep", "refund", "watch"];
        let delays = schedules.iter().flat_map(|name| [format!("{name}.first_ms"), format!("{name}.longest_ms")]);
        for name in times.into_iter().map(str::to_owned).chain(delays) {
            for section in ["policy", "policies.toss"] {
                for value in ["-1", "0", "9223372036854775807"] {
                    let field = format!("{section}.{name}");
                    let variable = field.to_uppercase().replace('.', "__");
                    let error = given(&[(&variable, value)]).unwrap_err().to_string();
                    assert!(error.contains(&format!("line.{field} is {value}")), "{field}={value}: {error}");
                }
            }
        }
        let error = given(&[("POLICY__WATCH__FIRST_MS", "500"), ("POLICY__WATCH__LONGEST_MS", "499")]).unwrap_err().to_string();
        assert!(error.contains("line.policy.watch.longest_ms is 499; give 500 to"), "{error}");
    }
}
