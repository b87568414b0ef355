//! An audit's report, for people and programs.

use serde::Serialize;

use super::{
    compare::Tally,
    difference::{DETAILS_PER_KIND_MAX, Differences},
};
use crate::exit::Exit;

/// What an audit found about one coupon.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The coupon.
    pub coupon: String,
    /// `clean`, `difference` or `cannot_tell`.
    pub verdict: &'static str,
    /// Why it cannot be told.
    pub cannot_tell: Option<String>,
    /// The partition of its log.
    pub partition: i32,
    /// The decided position of that partition in the snapshot; records before it are folded.
    pub position: i64,
    /// The first offset that the log still has.
    pub log_start: i64,
    /// Where the log ended when it was read.
    pub log_end: i64,
    /// Records of this coupon that were folded.
    pub records: u64,
    /// Records on other partitions whose copies were looked for.
    pub foreign_records: usize,
    /// Issues by the log.
    pub issued: i64,
    /// Seats by the log.
    pub total: i64,
    /// Rows of the ledger.
    pub ledger: Tally,
    /// What differs.
    pub differences: Differences,
    /// What is worth knowing and is no difference.
    pub notes: Vec<String>,
    /// The gate: `not_looked_at`, `no_gate`, `same`, `differs`, or why it cannot be told.
    pub gate: String,
}

impl Report {
    /// How it ends.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if !self.differences.is_empty() {
            Exit::Difference
        } else if self.cannot_tell.is_some() {
            Exit::CannotTell
        } else {
            Exit::Done
        }
    }

    /// The report for people.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = format!("{}: {}\n", self.coupon, self.verdict.replace('_', " ").to_uppercase());
        text.push_str(&format!(
            "  log        partition {}, offsets {} to {} folded (it ends at {}), {} records of this coupon, {} on other partitions\n",
            self.partition, self.log_start, self.position, self.log_end, self.records, self.foreign_records
        ));
        let outcomes: Vec<_> = self.ledger.outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect();
        text.push_str(&format!("  ledger     {} rows: {}\n", self.ledger.rows, outcomes.join(", ")));
        text.push_str(&format!("  issued     {} of {} seats, by the log\n", self.issued, self.total));
        text.push_str(&format!("  gate       {}\n", self.gate.replace('_', " ")));
        for note in &self.notes {
            text.push_str(&format!("  note       {note}\n"));
        }
        if let Some(why) = &self.cannot_tell {
            text.push_str(&format!("  cannot tell: {why}\n"));
        }
        for (kind, count) in &self.differences.counts {
            text.push_str(&format!("  {kind}: {count}\n"));
            for difference in self.differences.details.iter().filter(|difference| difference.kind == *kind).take(10) {
                text.push_str(&format!(
                    "    {}\n      the log says: {}\n      found:        {}\n",
                    difference.subject, difference.expected, difference.found
                ));
            }
            if *count > 10 {
                text.push_str(&format!("    … --json has the first {DETAILS_PER_KIND_MAX}\n"));
            }
        }
        text
    }
}
