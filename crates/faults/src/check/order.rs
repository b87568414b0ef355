//! C6: the log, folded by the plainest code there is, gives exactly the ledger.

use std::collections::{BTreeSet, HashSet};

use domain::{
    coupon::{Admission, Body},
    ids::RequestId,
};

use super::{Case, Kind};

/// Judges the ledger by the log.
pub fn hold(case: &mut Case<'_>) {
    rows(case);
    rules(case);
    first_come(case);
}

fn rows(case: &mut Case<'_>) {
    let mut found = Vec::new();
    for (request, expected) in &case.fold.requests {
        if case.explained.contains(request) {
            continue;
        }
        let by_log = (expected.outcome.as_str(), expected.outcome.sequence(), expected.offset);
        let Some(row) = case.rows.get(request) else {
            found.push((Kind::Undecided, *request, format!("{by_log:?}"), "no row".to_owned()));
            continue;
        };
        let by_row = (row.outcome.as_str(), row.sequence, row.offset);
        if by_log != by_row {
            let about_seats = |outcome: &str| outcome == "issued" || outcome == "sold_out";
            let order = about_seats(by_log.0) && about_seats(by_row.0);
            let kind = if order { Kind::WrongOrder } else { Kind::NotByTheLog };
            found.push((kind, *request, format!("{by_log:?}"), format!("{by_row:?}")));
        } else if expected.member.as_ref().map(domain::ids::MemberId::as_str) != row.member.as_deref() {
            found.push((Kind::ChangedMember, *request, format!("{:?}", expected.member), format!("{:?}", row.member)));
        }
    }
    for row in &case.coupon.rows {
        if !case.fold.requests.contains_key(&row.request) && !case.explained.contains(&row.request) {
            found.push((Kind::Unlogged, row.request, "no row".to_owned(), row.outcome.clone()));
        }
    }
    for (kind, request, expected, found) in found {
        case.add(kind, format!("request {request}"), expected, found);
    }
}

fn rules(case: &mut Case<'_>) {
    let by_log = case.fold.coupon.as_ref().map(|coupon| coupon.total);
    let by_row = case.coupon.coupon.as_ref().map(|coupon| coupon.total);
    if by_log != by_row {
        case.add(Kind::WrongRules, "coupon.total_quantity", format!("{by_log:?}"), format!("{by_row:?}"));
    }
}

/// The rule in its plainest words, without any fold, where neither total nor window played a part: of a queued coupon, the first `total` distinct
/// members in the log hold the issues.
fn first_come(case: &mut Case<'_>) {
    let (Admission::Queued, true, Some(coupon)) = (case.coupon.admission, case.coupon.is_plain, &case.coupon.coupon) else {
        return;
    };
    let total = usize::try_from(coupon.total).unwrap_or(0);
    let mut seen = HashSet::new();
    let mut winners: BTreeSet<RequestId> = BTreeSet::new();
    let mut ids = HashSet::new();
    for record in case.coupon.log.iter().filter(|record| *record.body.coupon() == case.coupon.code) {
        let Body::Request(request) = &record.body else {
            // A record that cannot be used takes its id out of the line.
            if let Body::Unusable(unusable) = &record.body {
                ids.insert(unusable.id);
            }
            continue;
        };
        if ids.insert(request.id) && seen.len() < total && seen.insert(request.member.clone()) {
            winners.insert(request.id);
        }
    }
    let holders: BTreeSet<RequestId> =
        case.coupon.rows.iter().filter(|row| row.outcome == "issued").map(|row| row.request).collect();
    let mut found = Vec::new();
    for request in winners.symmetric_difference(&holders).filter(|request| !case.explained.contains(request)) {
        let already = case.found.iter().any(|violation| violation.subject == format!("request {request}"));
        if !already {
            found.push((*request, winners.contains(request)));
        }
    }
    for (request, wins) in found {
        let (expected, found) = if wins { ("a seat", "none") } else { ("no seat", "one") };
        case.add(Kind::WrongOrder, format!("request {request}"), format!("{expected}, by the order of the log"), found);
    }
}
