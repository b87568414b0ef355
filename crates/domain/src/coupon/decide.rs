//! The fold: what the log decides. Pure and total; the only place where an outcome is born.
//!
//! A caller loads what the records of a batch can touch into a [`FoldState`], calls [`decide`], and writes the [`Decisions`] in the same
//! transaction. However a log is cut into batches, the outcomes are the same.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{
    Body, Cancel, Change, CommandKind, CommandOutcome, CommandRow, Coupon, Define, LedgerRow, Outcome, Place, Record, Refusal,
    Request, Told,
};
use crate::{
    clock::Timestamp,
    ids::{CommandId, CouponCode, MemberId, RequestId},
};

/// What the fold knows before a batch, and after it. It has to be complete only for the coupons, ids and members that the
/// batch names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoldState {
    /// The coupons, and what is decided of them.
    pub coupons: HashMap<CouponCode, CouponFold>,
    /// Commands that have their outcome.
    pub commands: HashSet<CommandId>,
}

/// What the fold knows about one code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CouponFold {
    /// The coupon; none as long as nobody defined it.
    pub coupon: Option<Coupon>,
    /// Request ids that have their outcome.
    pub decided: HashSet<RequestId>,
    /// Members who hold an issue, and the request that was issued.
    pub holders: HashMap<MemberId, RequestId>,
}

/// Where the records stand.
pub struct Here<'a> {
    /// The partition that is folded.
    pub partition: i32,
    /// The partition that a code hashes to now; records of unknown coupons are sent there.
    pub home_of: &'a (dyn Fn(&CouponCode) -> i32 + Sync),
}

/// A new row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    /// The row.
    pub row: LedgerRow,
    /// Where the id was last seen in this batch; followers tell the outcome there. At least `row.place.offset`.
    pub told_offset: i64,
}

/// A coupon that this batch defined. Its rules stand in the [`FoldState`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defined {
    /// Its code.
    pub code: CouponCode,
    /// Who defined it.
    pub actor: String,
    /// When.
    pub at: Timestamp,
}

/// A record that belongs to another partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// Where it stands.
    pub from: Place,
    /// The partition that it has to be copied to.
    pub to: i32,
}

/// What a batch decided; all of it has to be written together, or none of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    /// New rows of the ledger, in the order of the log.
    pub rows: Vec<NewRow>,
    /// Rows that stood in the ledger before this batch and were seen again, each once with its last offset.
    pub told: Vec<Told>,
    /// Commands, in the order of the log.
    pub commands: Vec<CommandRow>,
    /// Coupons to insert.
    pub defined: Vec<Defined>,
    /// Coupons to update, sorted; none of them is in `defined`.
    pub changed: BTreeSet<CouponCode>,
    /// Records that belong elsewhere; no outcome here.
    pub forwards: Vec<Forward>,
    /// Records that name a coupon that does not exist and whose home this partition is; they go to the dead letters.
    pub unknown_coupons: Vec<Place>,
}

/// Folds `records`, in the order of their offsets, into `state`.
///
/// The order of the rules decides which reason a refusal names: decided before, duplicate, ended, then (unless admitted) the window
/// and pause, then stock.
pub fn decide(state: &mut FoldState, here: &Here<'_>, records: &[Record]) -> Decisions {
    let mut batch = Batch { out: Decisions::default(), told: BTreeMap::new() };
    batch.out.rows.reserve(records.len());
    for record in records {
        batch.record(state, here, record);
    }
    batch.finish()
}

struct Batch {
    out: Decisions,
    told: BTreeMap<(CouponCode, RequestId), i64>,
}

impl Batch {
    fn record(&mut self, state: &mut FoldState, here: &Here<'_>, record: &Record) {
        let code = record.body.coupon();
        if !state.coupons.contains_key(code) {
            state.coupons.insert(code.clone(), CouponFold::default());
        }
        let FoldState { coupons, commands } = state;
        let Some(fold) = coupons.get_mut(code) else { return };
        let place = record.place;
        let home = match (&fold.coupon, &record.body) {
            (Some(coupon), _) => coupon.partition,
            (None, Body::Define(_)) => here.partition,
            (None, _) => (here.home_of)(code),
        };
        if home != here.partition {
            self.out.forwards.push(Forward { from: place, to: home });
            return;
        }
        match &record.body {
            Body::Request(request) => self.request(fold, record, request),
            Body::Unusable(unusable) => {
                let member = unusable.member.clone();
                self.settle_id(fold, record, unusable.id, member, false, Outcome::refused(Refusal::Unprocessable));
            }
            Body::Define(define) => self.define(fold, commands, here.partition, record, define),
            Body::Change(change) => self.change(fold, commands, record, change),
            Body::Cancel(cancel) => self.cancel(fold, commands, record, cancel),
        }
    }

    fn request(&mut self, fold: &mut CouponFold, record: &Record, request: &Request) {
        if fold.decided.contains(&request.id) {
            self.tell(request.coupon.clone(), request.id, record.place.offset);
            return;
        }
        let outcome = match &mut fold.coupon {
            None => {
                self.out.unknown_coupons.push(record.place);
                Outcome::refused(Refusal::Unprocessable)
            }
            Some(coupon) => {
                let outcome = judge(coupon, fold.holders.get(&request.member).copied(), request.admitted, record.at);
                if let Outcome::Issued { sequence } = outcome {
                    coupon.issued = sequence;
                    fold.holders.insert(request.member.clone(), request.id);
                    self.changed(&request.coupon);
                }
                outcome
            }
        };
        self.settle_id(fold, record, request.id, Some(request.member.clone()), request.admitted, outcome);
    }

    /// Gives an id its outcome, or tells the one that it has.
    fn settle_id(
        &mut self,
        fold: &mut CouponFold,
        record: &Record,
        request: RequestId,
        member: Option<MemberId>,
        admitted: bool,
        outcome: Outcome,
    ) {
        let coupon = record.body.coupon().clone();
        if !fold.decided.insert(request) {
            self.tell(coupon, request, record.place.offset);
            return;
        }
        let row = LedgerRow { coupon, request, member, place: record.place, at: record.at, admitted, outcome };
        self.out.rows.push(NewRow { row, told_offset: record.place.offset });
    }

    fn define(
        &mut self,
        fold: &mut CouponFold,
        commands: &mut HashSet<CommandId>,
        partition: i32,
        record: &Record,
        define: &Define,
    ) {
        if !commands.insert(define.id) {
            return;
        }
        let outcome = if fold.coupon.is_some() {
            CommandOutcome::AlreadyDefined
        } else if define.total < 0 {
            CommandOutcome::TotalBelowIssued
        } else if window_is_empty(define.opens_at, define.closes_at) {
            CommandOutcome::WindowEmpty
        } else {
            fold.coupon = Some(Coupon {
                code: define.coupon.clone(),
                name: define.name.clone(),
                admission: define.admission,
                partition,
                total: define.total,
                issued: 0,
                opens_at: define.opens_at,
                closes_at: define.closes_at,
                paused: false,
                ended: false,
                rules_offset: record.place.offset,
            });
            self.out.defined.push(Defined { code: define.coupon.clone(), actor: define.actor.clone(), at: record.at });
            CommandOutcome::Accepted
        };
        self.command(record, define.id, CommandKind::Define, &define.actor, outcome, payload(define));
    }

    fn change(&mut self, fold: &mut CouponFold, commands: &mut HashSet<CommandId>, record: &Record, change: &Change) {
        if commands.contains(&change.id) {
            return;
        }
        let Some(coupon) = &mut fold.coupon else {
            self.out.unknown_coupons.push(record.place);
            return;
        };
        commands.insert(change.id);
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
            if let Some(name) = &change.name {
                coupon.name.clone_from(name);
            }
            coupon.total = total;
            coupon.opens_at = opens_at;
            coupon.closes_at = closes_at;
            coupon.paused = change.paused.unwrap_or(coupon.paused);
            coupon.ended = change.end;
            coupon.rules_offset = record.place.offset;
            self.changed(&change.coupon);
            CommandOutcome::Accepted
        };
        self.command(record, change.id, CommandKind::Change, &change.actor, outcome, payload(change));
    }

    fn cancel(&mut self, fold: &mut CouponFold, commands: &mut HashSet<CommandId>, record: &Record, cancel: &Cancel) {
        if commands.contains(&cancel.id) {
            return;
        }
        if fold.coupon.is_none() {
            self.out.unknown_coupons.push(record.place);
            return;
        }
        commands.insert(cancel.id);
        let outcome = if fold.decided.contains(&cancel.request) {
            CommandOutcome::AlreadyDecided
        } else {
            let refused = Outcome::refused(Refusal::Cancelled);
            self.settle_id(fold, record, cancel.request, Some(cancel.member.clone()), false, refused);
            CommandOutcome::Accepted
        };
        self.command(record, cancel.id, CommandKind::Cancel, &cancel.actor, outcome, payload(cancel));
    }

    fn command(
        &mut self,
        record: &Record,
        id: CommandId,
        kind: CommandKind,
        actor: &str,
        outcome: CommandOutcome,
        payload: String,
    ) {
        let coupon = record.body.coupon().clone();
        let actor = actor.to_owned();
        self.out.commands.push(CommandRow { id, coupon, kind, actor, place: record.place, at: record.at, outcome, payload });
    }

    fn tell(&mut self, coupon: CouponCode, request: RequestId, offset: i64) {
        self.told.insert((coupon, request), offset);
    }

    fn changed(&mut self, code: &CouponCode) {
        if !self.out.changed.contains(code) {
            self.out.changed.insert(code.clone());
        }
    }

    /// Moves the told offsets of rows that this very batch made into those rows; what is left stood in the ledger before.
    fn finish(mut self) -> Decisions {
        if !self.told.is_empty() {
            for new in &mut self.out.rows {
                if let Some(offset) = self.told.remove(&(new.row.coupon.clone(), new.row.request)) {
                    new.told_offset = offset;
                }
            }
            self.out.told = self.told.into_iter().map(|((coupon, request), offset)| Told { coupon, request, offset }).collect();
            // By offset, as followers tell them.
            self.out.told.sort_by_key(|told| told.offset);
        }
        for defined in &self.out.defined {
            self.out.changed.remove(&defined.code);
        }
        self.out
    }
}

/// The outcome of an undecided request at its place.
fn judge(coupon: &Coupon, holder: Option<RequestId>, admitted: bool, at: Timestamp) -> Outcome {
    if holder.is_some() {
        return Outcome::Refused { reason: Refusal::Duplicate, issued_request: holder };
    }
    if coupon.ended {
        return Outcome::refused(Refusal::Ended);
    }
    if !admitted {
        if coupon.opens_at.is_some_and(|opens| at < opens) {
            return Outcome::refused(Refusal::NotOpen);
        }
        if coupon.closes_at.is_some_and(|closes| at >= closes) {
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

fn window_is_empty(opens_at: Option<Timestamp>, closes_at: Option<Timestamp>) -> bool {
    matches!((opens_at, closes_at), (Some(opens), Some(closes)) if closes <= opens)
}

/// The command for people. A command holds nothing but texts, numbers and options, so that writing it cannot fail.
fn payload<T: serde::Serialize>(command: &T) -> String {
    serde_json::to_string(command).unwrap_or_else(|_| "{}".to_owned())
}
