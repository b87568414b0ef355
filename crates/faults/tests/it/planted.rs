//! Each kind of corruption is planted into clean evidence, and exactly that kind is found.

use std::collections::HashMap;

use domain::{
    coupon::{Admission, Body, Record},
    ids::RequestId,
};
use faults::evidence::{Answer, CouponEvidence, Evidence, LedgerRow, Limit, Sample, What};

use crate::clean::{MEMBERS, SEATS, coupon, evidence, kinds, member, request};

const BOTH: [Admission; 2] = [Admission::Reserved, Admission::Queued];

/// What is found after `plant` spoilt one coupon.
fn found(admission: Admission, plant: impl Fn(&mut CouponEvidence)) -> HashMap<&'static str, usize> {
    let mut spoilt = coupon(admission);
    plant(&mut spoilt);
    kinds(&Evidence { coupons: vec![spoilt], ..Evidence::default() })
}

/// Exactly one kind is found, so often, whichever way the coupon is admitted.
fn exactly(kind: &'static str, times: usize, plant: impl Fn(&mut CouponEvidence)) {
    for admission in BOTH {
        assert_eq!(found(admission, &plant), HashMap::from([(kind, times)]), "{} {kind}", admission.as_str());
    }
}

fn row(coupon: &mut CouponEvidence, id: RequestId) -> &mut LedgerRow {
    coupon.rows.iter_mut().find(|row| row.request == id).unwrap()
}

fn told_again(coupon: &mut CouponEvidence, id: RequestId, outcome: &str) {
    for answer in coupon.answers.iter_mut().filter(|answer| answer.by_ticket) {
        if let What::Told { request, outcome: told } = &mut answer.what
            && *request == id
        {
            *told = Some(outcome.to_owned());
        }
    }
}

fn id_of(record: &Record) -> Option<RequestId> {
    match &record.body {
        Body::Request(request) => Some(request.id),
        _ => None,
    }
}

#[test]
fn nothing_is_found_in_clean_evidence() {
    assert_eq!(kinds(&evidence()), HashMap::new());
}

#[test]
fn a_seat_beyond_the_total() {
    exactly("over_issue", 1, |coupon| {
        let late = request(coupon.admission, SEATS as usize, 0);
        *row(coupon, late) = LedgerRow { outcome: "issued".to_owned(), sequence: Some(SEATS + 1), ..row(coupon, late).clone() };
        told_again(coupon, late, "issued");
        coupon.coupon.as_mut().unwrap().issued_quantity += 1;
        if let Some(gate) = &mut coupon.gate {
            gate.members.push(member(SEATS as usize).to_string());
        }
    });
}

#[test]
fn a_seat_beyond_the_total_that_was_gone_again_in_the_end() {
    exactly("over_issue", 1, |coupon| coupon.oversold.push(Sample { at_ms: 700, issued: SEATS + 1, total: SEATS }));
}

#[test]
fn a_member_with_two_issues() {
    exactly("double_issue", 1, |coupon| {
        let second = request(coupon.admission, 0, 1);
        *row(coupon, second) =
            LedgerRow { outcome: "issued".to_owned(), sequence: Some(SEATS + 1), ..row(coupon, second).clone() };
        told_again(coupon, second, "issued");
        coupon.coupon.as_mut().unwrap().issued_quantity += 1;
    });
}

#[test]
fn an_accepted_request_without_an_outcome() {
    // Neither in the log nor in the ledger: 202 was said before the append was acknowledged.
    exactly("lost_accept", 1, |coupon| {
        let late = request(coupon.admission, SEATS as usize + 1, 0);
        coupon.rows.retain(|row| row.request != late);
        coupon.log.retain(|record| id_of(record) != Some(late));
    });
    // In the log, and the consumer skipped it.
    exactly("lost_accept", 1, |coupon| {
        let duplicate = request(coupon.admission, 0, 1);
        coupon.rows.retain(|row| row.request != duplicate);
    });
}

#[test]
fn an_outcome_that_changed() {
    // Between two answers.
    exactly("changed_outcome", 1, |coupon| {
        let late = request(coupon.admission, SEATS as usize, 0);
        let before = Answer {
            member: member(SEATS as usize),
            gateway: 1,
            key: Some(0),
            by_ticket: true,
            began_ms: 1,
            ended_ms: 2,
            what: What::Told { request: late, outcome: Some("issued".to_owned()) },
        };
        coupon.answers.push(before);
    });
    // In the ledger, after it was told.
    exactly("changed_outcome", 1, |coupon| {
        let duplicate = request(coupon.admission, 0, 1);
        row(coupon, duplicate).outcome = "sold_out".to_owned();
    });
}

#[test]
fn a_request_that_became_another_members() {
    exactly("changed_member", 1, |coupon| {
        let late = request(coupon.admission, SEATS as usize, 0);
        row(coupon, late).member = Some("somebody-else".to_owned());
    });
}

#[test]
fn a_refusal_of_a_request_that_had_been_accepted() {
    exactly("refused_though_known", 1, |coupon| {
        coupon.answers.push(Answer {
            member: member(0),
            gateway: 1,
            key: Some(0),
            by_ticket: false,
            began_ms: 900,
            ended_ms: 905,
            what: What::Refused { code: "sold_out".to_owned() },
        });
    });
}

#[test]
fn a_seat_that_leaked() {
    // The gate holds a seat for nobody: the last winner never came, and the rest was told that all is sold out.
    exactly("leaked_seat", 1, |coupon| {
        let last = request(coupon.admission, SEATS as usize - 1, 0);
        let gone: Vec<RequestId> =
            std::iter::once(last).chain((SEATS as usize..MEMBERS).map(|index| request(coupon.admission, index, 0))).collect();
        coupon.rows.retain(|row| !gone.contains(&row.request));
        coupon.log.retain(|record| id_of(record).is_none_or(|id| !gone.contains(&id)));
        coupon.answers.retain(|answer| !matches!(answer.what, What::Told { request, .. } if gone.contains(&request)));
        coupon.coupon.as_mut().unwrap().issued_quantity -= 1;
        if let Some(gate) = &mut coupon.gate {
            gate.members.pop();
            gate.stock = Some(1);
        }
    });
}

#[test]
fn winners_in_another_order_than_the_log_has() {
    // Two winners changed their numbers.
    exactly("wrong_order", 2, |coupon| {
        let (one, other) = (request(coupon.admission, 3, 0), request(coupon.admission, 4, 0));
        let sequence = row(coupon, one).sequence;
        row(coupon, one).sequence = row(coupon, other).sequence;
        row(coupon, other).sequence = sequence;
    });
    // Somebody who came too late got the seat of the last winner, and everybody was told so.
    exactly("wrong_order", 2, |coupon| {
        let (last, late) = (request(coupon.admission, SEATS as usize - 1, 0), request(coupon.admission, SEATS as usize, 0));
        for (id, outcome, sequence) in [(last, "sold_out", None), (late, "issued", Some(SEATS))] {
            let row = row(coupon, id);
            (row.outcome, row.sequence) = (outcome.to_owned(), sequence);
            told_again(coupon, id, outcome);
        }
        if let Some(gate) = &mut coupon.gate {
            gate.members.pop();
            gate.members.push(member(SEATS as usize).to_string());
        }
    });
}

#[test]
fn a_row_that_the_log_does_not_give() {
    exactly("unlogged", 1, |coupon| {
        let id = request(coupon.admission, MEMBERS, 0);
        let member = Some(member(MEMBERS).to_string());
        coupon.rows.push(LedgerRow { request: id, member, offset: 101, outcome: "sold_out".to_owned(), sequence: None });
    });
    exactly("not_by_the_log", 1, |coupon| {
        let duplicate = request(coupon.admission, 0, 1);
        row(coupon, duplicate).outcome = "paused".to_owned();
        told_again(coupon, duplicate, "paused");
    });
    exactly("undecided", 1, |coupon| {
        let late = request(coupon.admission, SEATS as usize, 0);
        coupon.rows.retain(|row| row.request != late);
        coupon.answers.retain(|answer| !matches!(answer.what, What::Told { request, .. } if request == late));
    });
}

#[test]
fn a_count_or_a_total_that_is_not_the_logs() {
    exactly("wrong_count", 1, |coupon| coupon.coupon.as_mut().unwrap().issued_quantity -= 1);
    let rules = found(Admission::Queued, |coupon| coupon.coupon.as_mut().unwrap().total += 1);
    assert_eq!(rules["wrong_rules"], 1, "{rules:?}");
}

#[test]
fn redis_and_the_database_differ() {
    let gate =
        |plant: fn(&mut faults::evidence::GateState)| found(Admission::Reserved, |coupon| plant(coupon.gate.as_mut().unwrap()));
    assert_eq!(gate(|gate| gate.members.push("stranger".to_owned())), HashMap::from([("redis_extra", 1)]));
    assert_eq!(gate(|gate| drop(gate.members.pop())), HashMap::from([("redis_missing", 1)]));
    assert_eq!(gate(|gate| gate.pending = 2), HashMap::from([("redis_pending", 1)]));
    assert_eq!(gate(|gate| gate.stock = Some(3)), HashMap::from([("redis_stock", 1)]));
    assert_eq!(gate(|gate| gate.total = Some(SEATS + 1)), HashMap::from([("redis_stock", 1)]));
    assert_eq!(gate(|gate| gate.cursor = Some(7)), HashMap::from([("redis_cursor", 1)]));
    assert_eq!(gate(|gate| gate.is_open = false), HashMap::from([("gate_shut", 1)]));
}

#[test]
fn somebody_who_never_learns_where_he_stands_and_a_line_without_rest() {
    exactly("no_final_answer", 1, |coupon| coupon.unanswered.push(member(2)));
    let mut restless = evidence();
    restless.unrest = Some("partition 2 is decided up to 7, the log ends at 9".to_owned());
    assert_eq!(kinds(&restless), HashMap::from([("not_quiet", 1)]));
}

#[test]
fn a_bound_that_is_exceeded_and_one_that_is_kept() {
    let mut slow = evidence();
    slow.limits.push(Limit { what: "median refusal in ms".to_owned(), found: 251, at_most: 250 });
    slow.limits.push(Limit { what: "a gateway's peak in KiB".to_owned(), found: 250, at_most: 250 });
    assert_eq!(kinds(&slow), HashMap::from([("over_limit", 1)]));
}
