//! C1, C2 and C5: seats are not given twice, and none is lost.

use std::collections::BTreeMap;

use super::{Case, Kind};
use crate::evidence::LedgerRow;

/// Judges the seats.
pub fn hold(case: &mut Case<'_>) {
    let mut by_member: BTreeMap<String, Vec<&LedgerRow>> = BTreeMap::new();
    for row in case.coupon.rows.iter().filter(|row| row.outcome == "issued") {
        by_member.entry(row.member.clone().unwrap_or_default()).or_default().push(row);
    }
    let issue_rows: usize = by_member.values().map(Vec::len).sum();
    for (member, rows) in by_member.iter().filter(|(_, rows)| rows.len() > 1) {
        case.explained.extend(rows.iter().map(|row| row.request));
        let found = rows.iter().map(|row| row.request.to_string()).collect::<Vec<_>>().join(", ");
        case.add(Kind::DoubleIssue, format!("member {member}"), "at most one issue", found);
    }
    for sample in &case.coupon.oversold {
        let found = format!("{} issues at {} ms", sample.issued, sample.at_ms);
        case.add(Kind::OverIssue, "issues while things broke", format!("at most {}", sample.total), found);
    }
    let Some(coupon) = case.coupon.coupon.clone() else {
        case.add(Kind::WrongRules, "coupon", "its row", "none");
        return;
    };
    let holders = i64::try_from(by_member.len()).unwrap_or(i64::MAX);
    if holders > coupon.total {
        let beyond = case.coupon.rows.iter().filter(|row| row.sequence.is_some_and(|sequence| sequence > coupon.total));
        case.explained.extend(beyond.map(|row| row.request));
        case.add(Kind::OverIssue, "issues", format!("at most {}", coupon.total), format!("{holders} holders"));
    }
    if coupon.issued_quantity != i64::try_from(issue_rows).unwrap_or(i64::MAX) {
        let found = coupon.issued_quantity.to_string();
        case.add(Kind::WrongCount, "coupon.issued_quantity", format!("{issue_rows} issue rows"), found);
    }
    leaked(case, holders, coupon.total);
}

/// Everybody kept asking, so as many have a seat as there are seats or members. What the log gave and the ledger lost is no leak: that is found by
/// its request.
fn leaked(case: &mut Case<'_>, holders: i64, total: i64) {
    let by_log = case.fold.coupon.as_ref().map_or(0, |coupon| coupon.issued);
    let members = i64::try_from(case.coupon.members.len()).unwrap_or(i64::MAX);
    let due = total.min(members);
    let given = holders.max(by_log);
    if given < due {
        let expected = format!("{due} issues: {total} seats, {members} members who keep asking");
        case.add(Kind::LeakedSeat, "seats", expected, format!("{given} issues"));
    }
}
