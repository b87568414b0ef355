//! Evidence of a line that did everything right, made by hand so that a test can break one thing in it.

use std::collections::HashMap;

use domain::{
    clock::Timestamp,
    coupon::{Admission, Body, Define, Place, Record, Request},
    ids::{CommandId, CouponCode, MemberId, RequestId},
};
use faults::evidence::{Answer, CouponEvidence, CouponRow, Evidence, GateState, LedgerRow, What};

/// Seats of the coupon.
pub const SEATS: i64 = 10;
/// Members: more than seats.
pub const MEMBERS: usize = 16;
/// Members whose request came into the log after the last seat was given; the rest was refused by the gate.
pub const LATE: usize = 3;

pub fn member(index: usize) -> MemberId {
    MemberId::new(format!("member-{index}")).unwrap()
}

fn code(admission: Admission) -> CouponCode {
    CouponCode::new(format!("coupon-{}", admission.as_str())).unwrap()
}

/// The request of a member, by his key of that number.
pub fn request(admission: Admission, index: usize, key: u8) -> RequestId {
    RequestId::from_idempotency_key(&code(admission), &member(index), &format!("key-{key}"))
}

/// Ten issues, then a duplicate of the first member, then late ones who were sold out; each was told.
pub fn coupon(admission: Admission) -> CouponEvidence {
    let code = code(admission);
    let define = Define {
        id: CommandId::from_idempotency_key("operator", "define"),
        coupon: code.clone(),
        actor: "operator".to_owned(),
        name: "a coupon".to_owned(),
        admission,
        total: SEATS,
        opens_at: None,
        closes_at: None,
    };
    let mut asked: Vec<(usize, u8, &str)> = (0..SEATS as usize).map(|index| (index, 0, "issued")).collect();
    asked.push((0, 1, "duplicate"));
    asked.extend((0..LATE).map(|index| (SEATS as usize + index, 0, "sold_out")));
    let at = |offset: i64| Timestamp::from_unix_ms(1_714_554_000_000 + offset);
    let place = |offset: i64| Place { partition: 2, offset };
    let mut log = vec![Record { place: place(100), at: at(100), body: Body::Define(define) }];
    let (mut rows, mut answers) = (Vec::new(), Vec::new());
    for (number, (index, key, outcome)) in asked.into_iter().enumerate() {
        let offset = 101 + number as i64;
        let id = request(admission, index, key);
        let body = Request { id, coupon: code.clone(), member: member(index), admitted: admission == Admission::Reserved };
        log.push(Record { place: place(offset), at: at(offset), body: Body::Request(body) });
        let sequence = (outcome == "issued").then_some(number as i64 + 1);
        rows.push(LedgerRow {
            request: id,
            member: Some(member(index).to_string()),
            offset,
            outcome: outcome.to_owned(),
            sequence,
        });
        let began_ms = number as u64 * 10;
        let told = |outcome: Option<&str>, by_ticket| Answer {
            member: member(index),
            gateway: number % 2,
            key: Some(key),
            by_ticket,
            began_ms,
            ended_ms: began_ms + 5,
            what: What::Told { request: id, outcome: outcome.map(str::to_owned) },
        };
        answers.push(told(None, false));
        answers.push(told(Some(outcome), true));
    }
    answers.extend((SEATS as usize + LATE..MEMBERS).map(|index| Answer {
        member: member(index),
        gateway: 0,
        key: None,
        by_ticket: false,
        began_ms: 500,
        ended_ms: 501,
        what: What::Refused { code: "sold_out".to_owned() },
    }));
    let position = 101 + rows.len() as i64;
    let holders = (0..SEATS as usize).map(|index| member(index).to_string()).collect();
    let gate =
        GateState { is_open: true, members: holders, pending: 0, total: Some(SEATS), stock: Some(0), cursor: Some(position) };
    CouponEvidence {
        code,
        admission,
        is_plain: true,
        is_home: true,
        members: (0..MEMBERS).map(member).collect(),
        answers,
        unanswered: Vec::new(),
        log,
        log_end: position,
        position,
        published: position,
        coupon: Some(CouponRow { total: SEATS, issued_quantity: SEATS }),
        rows,
        gate: (admission == Admission::Reserved).then_some(gate),
        oversold: Vec::new(),
    }
}

/// One coupon of each kind.
pub fn evidence() -> Evidence {
    Evidence { coupons: vec![coupon(Admission::Reserved), coupon(Admission::Queued)], ..Evidence::default() }
}

/// The kinds that the judge finds, with how often.
pub fn kinds(evidence: &Evidence) -> HashMap<&'static str, usize> {
    let mut kinds = HashMap::new();
    for violation in faults::check::judge(evidence) {
        *kinds.entry(violation.kind.as_str()).or_default() += 1;
    }
    kinds
}
