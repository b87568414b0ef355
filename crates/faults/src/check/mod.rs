//! The judge: a pure function from what was collected to what is wrong with it.
//!
//! It knows only what clients were told, the log, the database and Redis. What one finding explains is not reported by another: a seat that was
//! issued beyond the total is an over-issue, and not an outcome that the log does not give as well.

mod clients;
mod gate;
mod order;
mod seats;
mod violation;

use std::collections::{HashMap, HashSet};

use domain::ids::RequestId;
use trueup_cli::audit::fold::Fold;

pub use violation::{Kind, Violation};

use crate::evidence::{CouponEvidence, Evidence, LedgerRow};

/// One coupon with what is derived from it once, and what was found.
struct Case<'a> {
    coupon: &'a CouponEvidence,
    rows: HashMap<RequestId, &'a LedgerRow>,
    fold: Fold,
    explained: HashSet<RequestId>,
    found: Vec<Violation>,
}

impl<'a> Case<'a> {
    fn new(coupon: &'a CouponEvidence) -> Self {
        let mut fold = Fold::new(coupon.code.clone(), coupon.is_home);
        for record in coupon.log.iter().filter(|record| record.place.offset < coupon.position) {
            fold.record(record);
        }
        let rows = coupon.rows.iter().map(|row| (row.request, row)).collect();
        Self { coupon, rows, fold, explained: HashSet::new(), found: Vec::new() }
    }

    fn add(&mut self, kind: Kind, subject: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) {
        self.found.push(Violation {
            kind,
            invariant: kind.invariant(),
            coupon: self.coupon.code.to_string(),
            subject: subject.into(),
            expected: expected.into(),
            found: found.into(),
        });
    }
}

/// What is wrong.
#[must_use]
pub fn judge(evidence: &Evidence) -> Vec<Violation> {
    let mut all = Vec::new();
    for coupon in &evidence.coupons {
        let mut case = Case::new(coupon);
        seats::hold(&mut case);
        clients::hold(&mut case);
        order::hold(&mut case);
        gate::hold(&mut case);
        all.append(&mut case.found);
    }
    let line = |kind: Kind, subject: &str, expected: String, found: String| Violation {
        kind,
        invariant: kind.invariant(),
        coupon: String::new(),
        subject: subject.to_owned(),
        expected,
        found,
    };
    if let Some(why) = &evidence.unrest {
        all.push(line(Kind::NotQuiet, "the line", "quiet once all is up again".to_owned(), why.clone()));
    }
    for limit in evidence.limits.iter().filter(|limit| limit.found > limit.at_most) {
        all.push(line(Kind::OverLimit, &limit.what, format!("at most {}", limit.at_most), limit.found.to_string()));
    }
    all
}
