//! The audit's own fold of a coupon's log.
//!
//! It is written apart from the fold of the issue-consumer on purpose: the plainest code that follows the rules as they are written
//! down, one record at a time, with no batches and nothing clever, so that one mistake cannot hide in both. It must never call
//! `domain::coupon::decide`.

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::{
    clock::Timestamp,
    coupon::{Admission, Body, Cancel, Change, CommandKind, CommandOutcome, Define, Outcome, Record, Refusal, Request},
    ids::{CommandId, CouponCode, MemberId, RequestId},
};

/// What the ledger has to hold for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedRow {
    /// Who asked.
    pub member: Option<MemberId>,
    /// Where it was decided.
    pub offset: i64,
    /// The last place at which it was seen.
    pub told: i64,
    /// When the record that decided it was appended.
    pub at: Timestamp,
    /// Signed as admitted.
    pub admitted: bool,
    /// The outcome.
    pub outcome: Outcome,
}

/// What `coupon_command` has to hold for one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedCommand {
    /// Its kind.
    pub kind: CommandKind,
    /// Who gave it.
    pub actor: String,
    /// Where it was decided.
    pub offset: i64,
    /// What became of it.
    pub outcome: CommandOutcome,
}

/// The coupon as the log leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedCoupon {
    /// A name for people.
    pub name: String,
    /// Who judges first.
    pub admission: Admission,
    /// Seats in all.
    pub total: i64,
    /// Seats given.
    pub issued: i64,
    /// Opening time.
    pub opens_at: Option<Timestamp>,
    /// Closing time.
    pub closes_at: Option<Timestamp>,
    /// Paused.
    pub paused: bool,
    /// Ended.
    pub ended: bool,
    /// The last command that changed the rules.
    pub rules_offset: i64,
    /// Who defined it.
    pub defined_by: String,
}

/// The fold of one coupon over one partition.
#[derive(Debug)]
pub struct Fold {
    code: CouponCode,
    /// True where a record of a coupon that nobody defined is refused; elsewhere it is forwarded.
    is_home: bool,
    /// The coupon, once it is defined.
    pub coupon: Option<ExpectedCoupon>,
    /// Every request that has its outcome.
    pub requests: HashMap<RequestId, ExpectedRow>,
    /// Every command that has its outcome.
    pub commands: HashMap<CommandId, ExpectedCommand>,
    /// Who holds an issue, by which request.
    holders: HashMap<MemberId, RequestId>,
    /// Ids of all coupons' commands in this partition: a command id is used once.
    command_ids: HashSet<CommandId>,
    /// Records that had to become dead letters for naming a coupon that nobody had defined, with the request they carry.
    pub unknown: BTreeMap<i64, Option<RequestId>>,
    /// Records that had to be forwarded, because the coupon was not defined here yet.
    pub forwarded: Vec<i64>,
    /// Records of this coupon that were folded.
    pub records: u64,
}

impl Fold {
    /// An empty fold. `is_home`: the coupon's code hashes to the partition that is folded.
    #[must_use]
    pub fn new(code: CouponCode, is_home: bool) -> Self {
        Self {
            code,
            is_home,
            coupon: None,
            requests: HashMap::new(),
            commands: HashMap::new(),
            holders: HashMap::new(),
            command_ids: HashSet::new(),
            unknown: BTreeMap::new(),
            forwarded: Vec::new(),
            records: 0,
        }
    }

    /// The issues that the log gave, by number.
    #[must_use]
    pub fn winners(&self) -> BTreeMap<i64, RequestId> {
        self.requests.iter().filter_map(|(id, row)| row.outcome.sequence().map(|sequence| (sequence, *id))).collect()
    }

    /// Takes the next record of the partition; those of other coupons only leave their command ids behind.
    pub fn record(&mut self, record: &Record) {
        let offset = record.place.offset;
        if *record.body.coupon() != self.code {
            if let Some(id) = command_id(&record.body) {
                self.command_ids.insert(id);
            }
            return;
        }
        self.records = self.records.saturating_add(1);
        let is_define = matches!(record.body, Body::Define(_));
        if self.coupon.is_none() && !is_define && !self.is_home {
            self.forwarded.push(offset);
            return;
        }
        match &record.body {
            Body::Request(request) => self.request(record, request),
            Body::Define(define) => self.define(record, define),
            Body::Change(change) => self.change(record, change),
            Body::Cancel(cancel) => self.cancel(record, cancel),
            Body::Unusable(unusable) => {
                if let Some(known) = self.requests.get_mut(&unusable.id) {
                    known.told = offset;
                } else {
                    let outcome = Outcome::refused(Refusal::Unprocessable);
                    self.settle(record, unusable.id, unusable.member.clone(), false, outcome);
                }
            }
        }
    }

    fn request(&mut self, record: &Record, request: &Request) {
        if let Some(known) = self.requests.get_mut(&request.id) {
            known.told = record.place.offset;
            return;
        }
        let outcome = match &mut self.coupon {
            None => {
                self.unknown.insert(record.place.offset, Some(request.id));
                Outcome::refused(Refusal::Unprocessable)
            }
            Some(coupon) => {
                if let Some(issued) = self.holders.get(&request.member) {
                    Outcome::Refused { reason: Refusal::Duplicate, issued_request: Some(*issued) }
                } else if coupon.ended {
                    Outcome::refused(Refusal::Ended)
                } else if !request.admitted && coupon.opens_at.is_some_and(|opens| record.at < opens) {
                    Outcome::refused(Refusal::NotOpen)
                } else if !request.admitted && coupon.closes_at.is_some_and(|closes| record.at >= closes) {
                    Outcome::refused(Refusal::Closed)
                } else if !request.admitted && coupon.paused {
                    Outcome::refused(Refusal::Paused)
                } else if coupon.issued < coupon.total {
                    coupon.issued += 1;
                    self.holders.insert(request.member.clone(), request.id);
                    Outcome::Issued { sequence: coupon.issued }
                } else {
                    Outcome::refused(Refusal::SoldOut)
                }
            }
        };
        self.settle(record, request.id, Some(request.member.clone()), request.admitted, outcome);
    }

    fn settle(&mut self, record: &Record, id: RequestId, member: Option<MemberId>, admitted: bool, outcome: Outcome) {
        let offset = record.place.offset;
        self.requests.insert(id, ExpectedRow { member, offset, told: offset, at: record.at, admitted, outcome });
    }

    fn define(&mut self, record: &Record, define: &Define) {
        if !self.command_ids.insert(define.id) {
            return;
        }
        let outcome = if self.coupon.is_some() {
            CommandOutcome::AlreadyDefined
        } else if define.total < 0 {
            CommandOutcome::TotalBelowIssued
        } else if closes_first(define.opens_at, define.closes_at) {
            CommandOutcome::WindowEmpty
        } else {
            self.coupon = Some(ExpectedCoupon {
                name: define.name.clone(),
                admission: define.admission,
                total: define.total,
                issued: 0,
                opens_at: define.opens_at,
                closes_at: define.closes_at,
                paused: false,
                ended: false,
                rules_offset: record.place.offset,
                defined_by: define.actor.clone(),
            });
            CommandOutcome::Accepted
        };
        self.command(define.id, CommandKind::Define, &define.actor, record, outcome);
    }

    fn change(&mut self, record: &Record, change: &Change) {
        if self.command_ids.contains(&change.id) {
            return;
        }
        let Some(coupon) = &mut self.coupon else {
            self.unknown.insert(record.place.offset, None);
            return;
        };
        self.command_ids.insert(change.id);
        let total = change.total.unwrap_or(coupon.total);
        let opens_at = change.opens_at.unwrap_or(coupon.opens_at);
        let closes_at = change.closes_at.unwrap_or(coupon.closes_at);
        let outcome = if coupon.ended {
            CommandOutcome::Ended
        } else if total < coupon.issued {
            CommandOutcome::TotalBelowIssued
        } else if closes_first(opens_at, closes_at) {
            CommandOutcome::WindowEmpty
        } else {
            coupon.total = total;
            coupon.opens_at = opens_at;
            coupon.closes_at = closes_at;
            if let Some(name) = &change.name {
                coupon.name.clone_from(name);
            }
            if let Some(paused) = change.paused {
                coupon.paused = paused;
            }
            if change.end {
                coupon.ended = true;
            }
            coupon.rules_offset = record.place.offset;
            CommandOutcome::Accepted
        };
        self.command(change.id, CommandKind::Change, &change.actor, record, outcome);
    }

    fn cancel(&mut self, record: &Record, cancel: &Cancel) {
        if self.command_ids.contains(&cancel.id) {
            return;
        }
        if self.coupon.is_none() {
            self.unknown.insert(record.place.offset, None);
            return;
        }
        self.command_ids.insert(cancel.id);
        let outcome = if self.requests.contains_key(&cancel.request) {
            CommandOutcome::AlreadyDecided
        } else {
            self.settle(record, cancel.request, Some(cancel.member.clone()), false, Outcome::refused(Refusal::Cancelled));
            CommandOutcome::Accepted
        };
        self.command(cancel.id, CommandKind::Cancel, &cancel.actor, record, outcome);
    }

    fn command(&mut self, id: CommandId, kind: CommandKind, actor: &str, record: &Record, outcome: CommandOutcome) {
        let row = ExpectedCommand { kind, actor: actor.to_owned(), offset: record.place.offset, outcome };
        self.commands.insert(id, row);
    }
}

fn closes_first(opens_at: Option<Timestamp>, closes_at: Option<Timestamp>) -> bool {
    matches!((opens_at, closes_at), (Some(opens), Some(closes)) if closes <= opens)
}

const fn command_id(body: &Body) -> Option<CommandId> {
    match body {
        Body::Define(define) => Some(define.id),
        Body::Change(change) => Some(change.id),
        Body::Cancel(cancel) => Some(cancel.id),
        Body::Request(_) | Body::Unusable(_) => None,
    }
}
