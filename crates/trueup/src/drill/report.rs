//! A drill's report, as a table and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    plan::Plan,
    stats::{Counts, CouponCounts, Percentiles, Stats},
    verify::Verification,
};
use crate::{exit::Exit, output::Table};

/// What a drill found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `clean`, `difference` or `cannot_tell`; `not_verified` with `--no-settle`.
    pub verdict: &'static str,
    /// The seed, to send the same members again.
    pub seed: u64,
    /// Members, each for every coupon.
    pub members: u64,
    /// `open` or `closed`.
    pub loop_kind: &'static str,
    /// Scheduled requests per second of an open loop.
    pub rate: Option<u32>,
    /// Members at a time of a closed loop.
    pub concurrency: Option<usize>,
    /// The share of members who asked again.
    pub repeat_share: f64,
    /// How long sending took, in seconds.
    pub sending_seconds: f64,
    /// The share of final answers that were 202.
    pub accepted_share: f64,
    /// 202s per second of sending.
    pub accept_rate: f64,
    /// Final answers per second of sending.
    pub answer_rate: f64,
    /// Per coupon.
    pub coupons: BTreeMap<String, CouponCounts>,
    /// Answers after which members asked again.
    pub retried: Counts,
    /// From the first (or scheduled) send to the 202.
    pub accept: Percentiles,
    /// To any other final answer.
    pub refuse: Percentiles,
    /// From the 202 to the first ticket answer with the outcome.
    pub visible: Percentiles,
    /// How often the schedule had to wait.
    pub late: u64,
    /// Tickets whose outcome was not seen in time.
    pub outcomes_not_seen: usize,
    /// Broken promises that members saw themselves.
    pub violations: Counts,
    /// Some of them in words.
    pub violation_details: Vec<String>,
    /// Against log and ledger.
    pub verification: Option<Verification>,
    /// Why it could not be told.
    pub cannot_tell: Option<String>,
}

impl Report {
    /// Puts the report together.
    #[must_use]
    pub fn new(plan: &Plan, stats: Stats, sending_seconds: f64, verification: Option<Verification>) -> Self {
        let per_second = |count: u64| {
            #[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts of a drill are small")]
            let count = count as f64;
            if sending_seconds > 0.0 { count / sending_seconds } else { 0.0 }
        };
        Self {
            verdict: "not_verified",
            seed: plan.seed,
            members: plan.members,
            loop_kind: if plan.rate.is_some() { "open" } else { "closed" },
            rate: plan.rate,
            concurrency: plan.rate.is_none().then_some(plan.concurrency),
            repeat_share: plan.repeat_share,
            sending_seconds,
            accepted_share: if stats.answered() == 0 { 0.0 } else { per_second(stats.accepted()) / per_second(stats.answered()) },
            accept_rate: per_second(stats.accepted()),
            answer_rate: per_second(stats.answered()),
            accept: stats.accept.percentiles(),
            refuse: stats.refuse.percentiles(),
            visible: stats.visible.percentiles(),
            coupons: plan.codes.iter().map(ToString::to_string).zip(stats.coupons).collect(),
            retried: stats.retried,
            late: stats.late,
            outcomes_not_seen: 0,
            violations: stats.violations,
            violation_details: stats.violation_details,
            verification,
            cannot_tell: None,
        }
    }

    /// The verdict, from what was found.
    #[must_use]
    pub fn judge(&self) -> Exit {
        let broken = !self.violations.is_empty();
        match &self.verification {
            _ if broken => Exit::Difference,
            Some(found) if !found.settled => Exit::CannotTell,
            Some(found) if !found.is_clean() => Exit::Difference,
            _ if self.cannot_tell.is_some() => Exit::CannotTell,
            _ => Exit::Done,
        }
    }

    /// The report for people.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        let mut answers = Table::new(["coupon", "answer", "count"]);
        for (code, counts) in &self.coupons {
            for (answer, count) in &counts.answers {
                answers.row([code.clone(), answer.clone(), count.to_string()]);
            }
        }
        text.push_str(&answers.render());
        if let Some(found) = &self.verification {
            let mut outcomes = Table::new(["coupon", "outcome in the ledger", "count"]);
            for (code, counts) in &found.outcomes {
                for (outcome, count) in counts {
                    outcomes.row([code.clone(), outcome.clone(), count.to_string()]);
                }
            }
            text.push('\n');
            text.push_str(&outcomes.render());
        }
        let mut times = Table::new(["time in ms", "count", "p50", "p90", "p99", "p99.9", "max"]);
        for (name, p) in [("send → 202", self.accept), ("send → refusal", self.refuse), ("202 → visible by ticket", self.visible)]
        {
            let ms = |value: f64| format!("{value:.1}");
            let row =
                [name.to_owned(), p.count.to_string(), ms(p.p50_ms), ms(p.p90_ms), ms(p.p99_ms), ms(p.p999_ms), ms(p.max_ms)];
            times.row(row);
        }
        text.push('\n');
        text.push_str(&times.render());
        text.push_str(&format!(
            "\n  {:.1} s of sending: {:.0} accepted/s, {:.0} answers/s, {:.1} % accepted ({} loop, seed {})\n",
            self.sending_seconds,
            self.accept_rate,
            self.answer_rate,
            self.accepted_share * 100.0,
            self.loop_kind,
            self.seed
        ));
        self.render_rest(&mut text);
        text
    }

    fn render_rest(&self, text: &mut String) {
        if !self.retried.is_empty() {
            let list: Vec<_> = self.retried.iter().map(|(code, count)| format!("{code} {count}")).collect();
            text.push_str(&format!("  asked again after: {}\n", list.join(", ")));
        }
        if self.late > 0 {
            text.push_str(&format!("  the schedule had to wait {} times: too many were in flight\n", self.late));
        }
        for detail in &self.violation_details {
            text.push_str(&format!("  BROKEN  {detail}\n"));
        }
        if let Some(found) = &self.verification {
            for (code, (issued, total)) in &found.seats {
                text.push_str(&format!("  {code}: {issued} of {total} seats issued\n"));
            }
            text.push_str(&format!(
                "  {} requests were promised: {} lost in the log, {} lost in the ledger, {} changed\n",
                found.promised, found.lost_in_log, found.lost_in_ledger, found.changed
            ));
            if found.contradicted + found.refused_alike > 0 {
                text.push_str(&format!(
                    "  {} were accepted, then refused under the same key: {} as the ledger has it, {} wrongly\n",
                    found.contradicted + found.refused_alike,
                    found.refused_alike,
                    found.contradicted
                ));
            }
            for example in &found.examples {
                text.push_str(&format!("    {example}\n"));
            }
            if !found.settled {
                text.push_str(
                    "  not everything was decided in time; is an issue-consumer running? --settle-ms gives it longer\n",
                );
            }
        }
        if let Some(why) = &self.cannot_tell {
            text.push_str(&format!("  cannot tell: {why}\n"));
        }
        text.push_str(&format!("  verdict: {}\n", self.verdict));
    }
}
