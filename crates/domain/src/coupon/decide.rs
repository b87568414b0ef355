//! How the log decides: a fold over the records of one partition, in order, without any IO.
//!
//! The same records in the same order give the same outcomes, however they are cut into batches and however often a record is
//! repeated. `trueup audit` proves it with a second fold of its own.

use std::collections::{HashMap, HashSet};

use super::{Body, Cancel, Change, CommandKind, CommandOutcome, CommandRow, Coupon, Define, LedgerRow, Outcome, Record, Refusal, Request, Told};
use crate::ids::{CommandId, CouponCode, MemberId, RequestId};

/// What the fold has to know before a batch: only about the coupons, members and ids that the batch names.
///
/// [`decide`] brings it up to the batch's end, so that the next batch can start from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoldState {
    /// The coupons that the batch names, where they are defined.
    pub coupons: HashMap<CouponCode, Coupon>,
    /// What was decided before.
    pub known: Known,
}

/// Ids that have their outcome, and members who hold an issue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Requests that have their final outcome.
    pub decided: HashSet<(CouponCode, RequestId)>,
    /// Members who hold an issue, and the request that was issued.
    pub holders: HashMap<(CouponCode, MemberId), RequestId>,
    /// Commands that have their outcome.
    pub commands: HashSet<CommandId>,
}

/// What a batch decided, in log order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// New rows of the ledger.
    pub rows: Vec<LedgerRow>,
    /// Decided requests that were seen again; the last offset counts.
    pub told: Vec<Told>,
    /// New rows of `coupon_command`.
    pub commands: Vec<CommandRow>,
    /// Coupons whose rules or counts changed, new ones included.
    pub changed: HashSet<CouponCode>,
}

/// Decides `records`, which are all of one partition and in the order of their offsets.
///
/// Total: there is no input that it fails on. A request for a coupon that `state` does not hold, or a change of one, decides nothing; the
/// caller forwards such a record or gives it up before it comes here.
pub fn decide(state: &mut FoldState, records: &[Record]) -> Decisions {
    let mut decisions = Decisions::default();
    for record in records {
        match &record.body {
            Body::Request(request) => decide_request(state, record, request, &mut decisions),
            Body::Define(define) => decide_define(state, record, define, &mut decisions),
            Body::Change(change) => decide_change(state, record, change, &mut decisions),
            Body::Cancel(cancel) => decide_cancel(state, record, cancel, &mut decisions),
            Body::Unusable(unusable) => {
                let key = (unusable.coupon.clone(), unusable.id);
                if state.known.decided.contains(&key) {
                    decisions.told.push(told(record, unusable.coupon.clone(), unusable.id));
                } else {
                    state.known.decided.insert(key);
                    let outcome = Outcome::refused(Refusal::Unprocessable);
                    decisions.rows.push(row(record, &unusable.coupon, unusable.id, unusable.member.clone(), false, outcome));
                }
            }
        }
    }
    decisions
}

fn told(record: &Record, coupon: CouponCode, request: RequestId) -> Told {
    Told { coupon, request, offset: record.place.offset }
}

fn row(record: &Record, coupon: &CouponCode, request: RequestId, member: Option<MemberId>, admitted: bool, outcome: Outcome) -> LedgerRow {
    LedgerRow { coupon: coupon.clone(), request, member, place: record.place, at: record.at, admitted, outcome }
}

fn decide_request(state: &mut FoldState, record: &Record, request: &Request, decisions: &mut Decisions) {
    let Some(coupon) = state.coupons.get_mut(&request.coupon) else { return };
    let key = (request.coupon.clone(), request.id);
    if state.known.decided.contains(&key) {
        decisions.told.push(told(record, request.coupon.clone(), request.id));
        return;
    }
    state.known.decided.insert(key);
    let seat = (request.coupon.clone(), request.member.clone());
    let held = state.known.holders.get(&seat).copied();
    let outcome = judge(coupon, record, request.admitted, held);
    if let Outcome::Issued { sequence } = outcome {
        coupon.issued = sequence;
        state.known.holders.insert(seat, request.id);
        decisions.changed.insert(request.coupon.clone());
    }
    decisions.rows.push(row(record, &request.coupon, request.id, Some(request.member.clone()), request.admitted, outcome));
}

/// The rules, in the order in which they are asked.
fn judge(coupon: &Coupon, record: &Record, admitted: bool, held: Option<RequestId>) -> Outcome {
    if held.is_some() {
        return Outcome::Refused { reason: Refusal::Duplicate, issued_request: held };
    }
    if coupon.ended {
        return Outcome::refused(Refusal::Ended);
    }
    // The gate judged an admitted request by its own clock when it gave the seat; only a seat that is gone can take it back.
    if !admitted {
        if coupon.opens_at.is_some_and(|opens_at| record.at < opens_at) {
            return Outcome::refused(Refusal::NotOpen);
        }
        if coupon.closes_at.is_some_and(|closes_at| record.at >= closes_at) {
            return Outcome::refused(Refusal::Closed);
        }
        if coupon.paused {
            return Outcome::refused(Refusal::Paused);
        }
    }
    if coupon.issued < coupon.total {
        Outcome::Issued { sequence: coupon.issued.saturating_add(1) }
    } else {
        Outcome::refused(Refusal::SoldOut)
    }
}

/// Notes a command; `false` if its id is decided already.
fn first_time(state: &mut FoldState, id: CommandId) -> bool {
    state.known.commands.insert(id)
}

fn decide_define(state: &mut FoldState, record: &Record, define: &Define, decisions: &mut Decisions) {
    if !first_time(state, define.id) {
        return;
    }
    let outcome = if state.coupons.contains_key(&define.coupon) {
        CommandOutcome::AlreadyDefined
    } else if window_is_empty(define.opens_at, define.closes_at) {
        CommandOutcome::WindowEmpty
    } else {
        let coupon = Coupon {
            code: define.coupon.clone(),
            name: define.name.clone(),
            admission: define.admission,
            partition: record.place.partition,
            total: define.total.max(0),
            issued: 0,
            opens_at: define.opens_at,
            closes_at: define.closes_at,
            paused: false,
            ended: false,
            rules_offset: record.place.offset,
        };
        state.coupons.insert(define.coupon.clone(), coupon);
        decisions.changed.insert(define.coupon.clone());
        CommandOutcome::Accepted
    };
    decisions.commands.push(command_row(record, define.id, &define.coupon, CommandKind::Define, &define.actor, outcome, define));
}

fn decide_change(state: &mut FoldState, record: &Record, change: &Change, decisions: &mut Decisions) {
    if !state.coupons.contains_key(&change.coupon) || !first_time(state, change.id) {
        return;
    }
    let Some(coupon) = state.coupons.get_mut(&change.coupon) else { return };
    let total = change.total.unwrap_or(coupon.total);
    let opens_at = change.opens_at.unwrap_or(coupon.opens_at);
    let closes_at = change.closes_at.unwrap_or(coupon.closes_at);
    let outcome = if coupon.ended {
        CommandOutcome::Ended
    } else if total < coupon.issued {
        CommandOutcome::TotalBelowIssued
    } else if window_is_empty(opens_at, closes_at) {
        CommandOutcome::WindowEmpty
    } else {
        coupon.total = total;
        coupon.opens_at = opens_at;
        coupon.closes_at = closes_at;
        if let Some(name) = &change.name {
            coupon.name.clone_from(name);
        }
        coupon.paused = change.paused.unwrap_or(coupon.paused);
        coupon.ended = change.end;
        coupon.rules_offset = record.place.offset;
        decisions.changed.insert(change.coupon.clone());
        CommandOutcome::Accepted
    };
    decisions.commands.push(command_row(record, change.id, &change.coupon, CommandKind::Change, &change.actor, outcome, change));
}

fn decide_cancel(state: &mut FoldState, record: &Record, cancel: &Cancel, decisions: &mut Decisions) {
    if !state.coupons.contains_key(&cancel.coupon) || !first_time(state, cancel.id) {
        return;
    }
    let outcome = if state.known.decided.insert((cancel.coupon.clone(), cancel.request)) {
        let refusal = Outcome::refused(Refusal::Cancelled);
        decisions.rows.push(row(record, &cancel.coupon, cancel.request, Some(cancel.member.clone()), false, refusal));
        CommandOutcome::Accepted
    } else {
        CommandOutcome::AlreadyDecided
    };
    decisions.commands.push(command_row(record, cancel.id, &cancel.coupon, CommandKind::Cancel, &cancel.actor, outcome, cancel));
}

fn window_is_empty<T: PartialOrd>(opens_at: Option<T>, closes_at: Option<T>) -> bool {
    matches!((opens_at, closes_at), (Some(opens), Some(closes)) if closes <= opens)
}

fn command_row(
    record: &Record,
    id: CommandId,
    coupon: &CouponCode,
    kind: CommandKind,
    actor: &str,
    outcome: CommandOutcome,
    payload: &impl serde::Serialize,
) -> CommandRow {
    CommandRow {
        id,
        coupon: coupon.clone(),
        kind,
        actor: actor.to_owned(),
        place: record.place,
        at: record.at,
        outcome,
        // These types hold texts and numbers only: there is nothing in them that JSON cannot hold.
        payload: serde_json::to_string(payload).unwrap_or_default(),
    }
}
