//! The log, and what the domain's own fold makes of a part of it.
//!
//! In [`crate::line`] the database is a function of the decided part of the log, so that a state needs no more than the log and a position.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use domain::{
    clock::Timestamp,
    coupon::{
        Admission, Body, Cancel, Change, Coupon, CouponFold, FoldState, Here, Outcome, Place, Record, Refusal, Request, decide,
    },
    ids::{CommandId, CouponCode, MemberId, RequestId},
};
use uuid::Uuid;

/// A member, counted from 0.
pub type Member = u8;
/// A request id, counted from 0; whose it is says the configuration.
pub type Id = u8;
/// A set of members or ids, one bit each.
pub type Mask = u8;

/// The bit of a member or an id.
#[must_use]
pub const fn bit(of: u8) -> Mask {
    1 << of
}

/// The life of a gate that an unsigned request was not admitted in.
pub const NO_LIFE: u8 = u8::MAX;

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rec {
    /// A member asks.
    Ask {
        /// The request.
        id: Id,
        /// Signed as admitted by the gate.
        signed: bool,
        /// Which opening of the gate admitted this copy. Only the properties read it; no part of the line does.
        life: u8,
    },
    /// An operator sets the total.
    Total(u8),
    /// An operator ends the coupon.
    End,
    /// An operator cancels a request.
    Cancel(Id),
}

/// An outcome, as far as the gate and the properties tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The member has the coupon.
    Issued,
    /// The member had it before.
    Duplicate,
    /// No seat was left.
    SoldOut,
    /// Any other refusal.
    Refused,
}

/// A row of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row {
    /// The request.
    pub id: Id,
    /// Who asked.
    pub member: Member,
    /// The offset that decided it.
    pub place: u8,
    /// The offset where it was last seen.
    pub told: u8,
    /// Its outcome.
    pub verdict: Verdict,
}

/// The database, as of a decided position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// Decided requests, in the order of the log.
    pub rows: Vec<Row>,
    /// Who holds an issue.
    pub holders: Mask,
    /// Seats in all.
    pub total: u8,
    /// Seats given.
    pub issued: u8,
    /// The coupon is ended.
    pub ended: bool,
    /// The offset behind the last command that changed the rules.
    pub rules: u8,
    /// Where an accepted command first lowered the total or ended the coupon.
    pub lowered: Option<u8>,
}

impl Ledger {
    /// The row of a request, once it is decided.
    #[must_use]
    pub fn row(&self, id: Id) -> Option<&Row> {
        self.rows.iter().find(|row| row.id == id)
    }
}

/// What a coupon starts as.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Start {
    /// Seats in all.
    pub total: u8,
    /// Whose each id is.
    pub owners: Vec<Member>,
}

/// The coupon's code; there is only one.
fn code() -> CouponCode {
    CouponCode::new("coupon").expect("a valid code")
}

/// The domain's id of a member.
#[must_use]
pub fn member_id(member: Member) -> MemberId {
    MemberId::new(format!("m{member}")).expect("a valid member")
}

/// The domain's id of a request.
#[must_use]
pub const fn request_id(id: Id) -> RequestId {
    RequestId::from_uuid(Uuid::from_u128(0x1000 + id as u128))
}

fn id_of(request: RequestId) -> Id {
    (request.uuid().as_u128() - 0x1000) as Id
}

const fn command_id(offset: usize) -> CommandId {
    CommandId::from_uuid(Uuid::from_u128(0x2000 + offset as u128))
}

/// The coupon's definition stands at offset 0 of the real log, so that the model's records begin at 1 there.
fn record(start: &Start, offset: usize, rec: Rec) -> Record {
    let real = offset as i64 + 1;
    let change = |total, end| Body::Change(Change { total, end, ..Change::new(command_id(offset), code(), "operator") });
    let owner = |id: Id| member_id(start.owners[usize::from(id)]);
    let body = match rec {
        Rec::Ask { id, signed, .. } => {
            Body::Request(Request { id: request_id(id), coupon: code(), member: owner(id), admitted: signed })
        }
        Rec::Total(total) => change(Some(i64::from(total)), false),
        Rec::End => change(None, true),
        Rec::Cancel(id) => Body::Cancel(Cancel {
            id: command_id(offset),
            coupon: code(),
            actor: "operator".to_owned(),
            member: owner(id),
            request: request_id(id),
        }),
    };
    Record { place: Place { partition: 0, offset: real }, at: Timestamp::from_unix_ms(real), body }
}

/// A fold's state of the one coupon.
#[must_use]
pub fn fold_state(total: u8, issued: u8, decided: HashSet<RequestId>, holders: HashMap<MemberId, RequestId>) -> FoldState {
    let coupon = Coupon {
        code: code(),
        name: "A coupon".to_owned(),
        admission: Admission::Reserved,
        partition: 0,
        total: i64::from(total),
        issued: i64::from(issued),
        opens_at: None,
        closes_at: None,
        paused: false,
        ended: false,
        rules_offset: 0,
    };
    let fold = CouponFold { coupon: Some(coupon), decided, holders };
    FoldState { coupons: HashMap::from([(code(), fold)]), commands: HashSet::new() }
}

/// Folds records that begin at `from` into `state`, by the domain's own fold. The rows are the new ones only; told again are ids and offsets.
#[must_use]
pub fn fold_into(state: &mut FoldState, start: &Start, from: usize, recs: &[Rec]) -> (Vec<Row>, Vec<(Id, u8)>, u8) {
    let records: Vec<Record> = recs.iter().enumerate().map(|(at, rec)| record(start, from + at, *rec)).collect();
    let decisions = decide(state, &Here { partition: 0, home_of: &|_| 0 }, &records);
    let offset = |real: i64| (real - 1) as u8;
    let rows = decisions.rows.iter().map(|new| Row {
        id: id_of(new.row.request),
        member: start.owners[usize::from(id_of(new.row.request))],
        place: offset(new.row.place.offset),
        told: offset(new.told_offset),
        verdict: verdict(new.row.outcome),
    });
    let told = decisions.told.iter().map(|told| (id_of(told.request), offset(told.offset))).collect();
    (rows.collect(), told, coupon(state).issued as u8)
}

fn coupon(state: &FoldState) -> &Coupon {
    state.coupons.get(&code()).and_then(|fold| fold.coupon.as_ref()).expect("the one coupon")
}

const fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Issued { .. } => Verdict::Issued,
        Outcome::Refused { reason: Refusal::Duplicate, .. } => Verdict::Duplicate,
        Outcome::Refused { reason: Refusal::SoldOut, .. } => Verdict::SoldOut,
        Outcome::Refused { .. } => Verdict::Refused,
    }
}

/// Folds a log from its beginning, as one batch.
#[must_use]
pub fn fold(start: &Start, recs: &[Rec]) -> Ledger {
    let mut state = fold_state(start.total, 0, HashSet::new(), HashMap::new());
    let (rows, _, _) = fold_into(&mut state, start, 0, recs);
    let holders = rows.iter().filter(|row| row.verdict == Verdict::Issued).fold(0, |mask, row| mask | bit(row.member));
    let coupon = coupon(&state);
    Ledger {
        holders,
        total: coupon.total as u8,
        issued: coupon.issued as u8,
        ended: coupon.ended,
        rules: coupon.rules_offset as u8,
        lowered: lowered(start, recs),
        rows,
    }
}

/// Where rules first became tighter. A command may be refused, so that each is looked for in what the fold says behind it.
fn lowered(start: &Start, recs: &[Rec]) -> Option<u8> {
    let tightens = |rec: &Rec| matches!(rec, Rec::Total(_) | Rec::End);
    let (at, _) = recs.iter().enumerate().rev().find(|(_, rec)| tightens(rec))?;
    let (before, after) = (ledger(start, &recs[..at]), rules_behind(start, &recs[..=at]));
    before.lowered.or_else(|| (after.0 < before.total || (after.1 && !before.ended)).then_some(at as u8))
}

fn rules_behind(start: &Start, recs: &[Rec]) -> (u8, bool) {
    let mut state = fold_state(start.total, 0, HashSet::new(), HashMap::new());
    let _ = fold_into(&mut state, start, 0, recs);
    let coupon = coupon(&state);
    (coupon.total as u8, coupon.ended)
}

type Memo = HashMap<Start, HashMap<Vec<Rec>, Rc<Ledger>>>;

thread_local! {
    static MEMO: RefCell<Memo> = RefCell::default();
}

/// [`fold`], remembered: many states share a log.
#[must_use]
pub fn ledger(start: &Start, recs: &[Rec]) -> Rc<Ledger> {
    let known = MEMO.with_borrow(|memo| memo.get(start).and_then(|logs| logs.get(recs)).map(Rc::clone));
    known.unwrap_or_else(|| {
        let made = Rc::new(fold(start, recs));
        MEMO.with_borrow_mut(|memo| {
            memo.entry(start.clone()).or_default().insert(recs.to_vec(), Rc::clone(&made));
        });
        made
    })
}
