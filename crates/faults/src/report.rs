//! What is told about a round and about a whole run.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{check::Violation, evidence::Evidence, inject::Done, plan::Plan};

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong.
    Clean,
    /// An invariant is broken.
    Violated,
    /// The drill itself failed.
    CannotTell,
}

/// One coupon in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CouponCount {
    /// Its code.
    pub code: String,
    /// Seats in the end.
    pub total: i64,
    /// Issues.
    pub issued: usize,
    /// Rows of the ledger.
    pub requests: usize,
    /// Records of its partition during the round.
    pub records: usize,
}

/// One round.
#[derive(Debug, Clone, Serialize)]
pub struct RoundReport {
    /// Its seed.
    pub seed: u64,
    /// Its faults' numbers.
    pub faults: Vec<u8>,
    /// What it came to.
    pub verdict: Verdict,
    /// Why the drill failed, if it did.
    pub trouble: Option<String>,
    /// HTTP requests that were sent.
    pub requests: u64,
    /// Answers to asks, by kind.
    pub answers: BTreeMap<String, u64>,
    /// What was done.
    pub steps: Vec<Done>,
    /// How often failpoints took effect in processes that lived until the end.
    pub effects: Vec<String>,
    /// The coupons.
    pub coupons: Vec<CouponCount>,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Where evidence and logs are, if they were kept.
    pub kept: Option<String>,
}

impl RoundReport {
    /// The report of a round that begins.
    #[must_use]
    pub fn begin(plan: &Plan) -> Self {
        Self {
            seed: plan.seed,
            faults: plan.faults.clone(),
            verdict: Verdict::CannotTell,
            trouble: None,
            requests: 0,
            answers: BTreeMap::new(),
            steps: Vec::new(),
            effects: Vec::new(),
            coupons: Vec::new(),
            violations: Vec::new(),
            duration_ms: 0,
            kept: None,
        }
    }

    /// Takes the numbers out of the evidence.
    pub fn count(&mut self, evidence: &Evidence) {
        self.coupons = evidence
            .coupons
            .iter()
            .map(|coupon| CouponCount {
                code: coupon.code.to_string(),
                total: coupon.coupon.as_ref().map_or(0, |row| row.total),
                issued: coupon.rows.iter().filter(|row| row.outcome == "issued").count(),
                requests: coupon.rows.len(),
                records: coupon.log.len(),
            })
            .collect();
    }

    /// Steps that did not do what they should.
    pub fn failed_steps(&self) -> impl Iterator<Item = &Done> {
        self.steps.iter().filter(|step| !step.ok)
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let faults = self.faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("+");
        let answers = self.answers.iter().map(|(code, count)| format!("{code} {count}")).collect::<Vec<_>>().join(", ");
        let verdict = match self.verdict {
            Verdict::Clean => "clean",
            Verdict::Violated => "VIOLATED",
            Verdict::CannotTell => "CANNOT TELL",
        };
        let seconds = self.duration_ms / 1_000;
        let failed = self.failed_steps().count();
        let failed = if failed > 0 { format!("; {failed} steps failed") } else { String::new() };
        format!("fault {faults} seed {}: {verdict}, {} requests in {seconds} s ({answers}){failed}", self.seed, self.requests)
    }
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct RunReport {
    /// The commit that was drilled.
    pub commit: String,
    /// Services were built with optimisation, or without.
    pub binaries: String,
    /// Every round.
    pub rounds: Vec<RoundReport>,
}

impl RunReport {
    /// The worst verdict: a violation is worse than a failed drill.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let any = |verdict: Verdict| self.rounds.iter().any(|round| round.verdict == verdict);
        if any(Verdict::Violated) {
            Verdict::Violated
        } else if any(Verdict::CannotTell) || self.rounds.is_empty() {
            Verdict::CannotTell
        } else {
            Verdict::Clean
        }
    }

    /// Requests of all rounds.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.rounds.iter().map(|round| round.requests).sum()
    }
}
