//! Builders of records, and a store that keeps decisions as a database would.

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::{
    clock::Timestamp,
    coupon::{
        Admission, Body, Cancel, Change, CommandOutcome, Coupon, CouponFold, Decisions, Define, FoldState, Here, LedgerRow,
        Outcome, Place, Record, Request, Unusable, decide,
    },
    ids::{CommandId, CouponCode, MemberId, RequestId},
};
use uuid::Uuid;

pub const PARTITION: i32 = 3;
pub const ELSEWHERE: i32 = 5;

pub fn code(name: &str) -> CouponCode {
    CouponCode::new(name).unwrap()
}

pub fn member(n: u32) -> MemberId {
    MemberId::new(format!("member-{n}")).unwrap()
}

pub fn request_id(n: u32) -> RequestId {
    RequestId::from_uuid(Uuid::from_u128(u128::from(n)))
}

pub fn command_id(n: u32) -> CommandId {
    CommandId::from_uuid(Uuid::from_u128(u128::from(n)))
}

/// Codes that start with `far` hash to another partition.
pub fn home_of(code: &CouponCode) -> i32 {
    if code.as_str().starts_with("far") { ELSEWHERE } else { PARTITION }
}

pub fn request(coupon: &str, who: u32, id: u32) -> Body {
    Body::Request(Request { id: request_id(id), coupon: code(coupon), member: member(who), admitted: false })
}

pub fn admitted(coupon: &str, who: u32, id: u32) -> Body {
    Body::Request(Request { id: request_id(id), coupon: code(coupon), member: member(who), admitted: true })
}

pub fn unusable(coupon: &str, id: u32) -> Body {
    Body::Unusable(Unusable { id: request_id(id), coupon: code(coupon), member: None })
}

pub fn define(coupon: &str, id: u32, total: i64) -> Body {
    define_window(coupon, id, total, None, None)
}

pub fn define_window(coupon: &str, id: u32, total: i64, opens: Option<i64>, closes: Option<i64>) -> Body {
    Body::Define(Define {
        id: command_id(id),
        coupon: code(coupon),
        actor: "ann".into(),
        name: "Spring".into(),
        admission: Admission::Queued,
        total,
        opens_at: opens.map(Timestamp::from_unix_ms),
        closes_at: closes.map(Timestamp::from_unix_ms),
    })
}

/// A change that changes nothing yet.
pub fn no_change(coupon: &str, id: u32) -> Change {
    Change::new(command_id(id), code(coupon), "bob")
}

pub fn total(coupon: &str, id: u32, total: i64) -> Body {
    Body::Change(Change { total: Some(total), ..no_change(coupon, id) })
}

pub fn pause(coupon: &str, id: u32, paused: bool) -> Body {
    Body::Change(Change { paused: Some(paused), ..no_change(coupon, id) })
}

pub fn end(coupon: &str, id: u32) -> Body {
    Body::Change(Change { end: true, ..no_change(coupon, id) })
}

pub fn cancel(coupon: &str, id: u32, who: u32, request: u32) -> Body {
    Body::Cancel(Cancel {
        id: command_id(id),
        coupon: code(coupon),
        actor: "bob".into(),
        member: member(who),
        request: request_id(request),
    })
}

/// Numbers the bodies from offset 0, one millisecond apart.
pub fn records(bodies: impl IntoIterator<Item = Body>) -> Vec<Record> {
    let place = |offset| Place { partition: PARTITION, offset };
    bodies.into_iter().zip(0..).map(|(body, n)| Record { place: place(n), at: Timestamp::from_unix_ms(n), body }).collect()
}

/// Keeps what `decide` says, with the checks of the schema, and loads only what a batch names, as a consumer does.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Store {
    pub coupons: BTreeMap<CouponCode, Coupon>,
    pub rows: BTreeMap<(CouponCode, RequestId), (LedgerRow, i64)>,
    pub commands: BTreeMap<CommandId, CommandOutcome>,
    pub forwards: Vec<(i64, i32)>,
    pub unknown: Vec<i64>,
}

impl Store {
    /// Folds a batch, as one transaction would.
    pub fn apply(&mut self, batch: &[Record]) -> Decisions {
        let mut state = self.load(batch);
        let decisions = decide(&mut state, &Here { partition: PARTITION, home_of: &home_of }, batch);
        self.save(&state, &decisions);
        decisions
    }

    fn load(&self, batch: &[Record]) -> FoldState {
        let mut coupons: HashMap<CouponCode, CouponFold> = HashMap::new();
        let mut commands = HashSet::new();
        for record in batch {
            let code = record.body.coupon();
            let fold = coupons.entry(code.clone()).or_default();
            fold.coupon = self.coupons.get(code).cloned();
            let mut named = Vec::new();
            match &record.body {
                Body::Request(body) => {
                    named.push(body.id);
                    let held = self.rows.values().find(|(row, _)| {
                        row.coupon == *code && row.member.as_ref() == Some(&body.member) && row.outcome.sequence().is_some()
                    });
                    if let Some((row, _)) = held {
                        fold.holders.insert(body.member.clone(), row.request);
                    }
                }
                Body::Unusable(body) => named.push(body.id),
                Body::Cancel(body) => {
                    named.push(body.request);
                    commands.extend(self.commands.contains_key(&body.id).then_some(body.id));
                }
                Body::Change(body) => commands.extend(self.commands.contains_key(&body.id).then_some(body.id)),
                Body::Define(body) => commands.extend(self.commands.contains_key(&body.id).then_some(body.id)),
            }
            fold.decided.extend(named.into_iter().filter(|id| self.rows.contains_key(&(code.clone(), *id))));
        }
        FoldState { coupons, commands }
    }

    fn save(&mut self, state: &FoldState, decisions: &Decisions) {
        for new in &decisions.rows {
            let key = (new.row.coupon.clone(), new.row.request);
            let before = self.rows.insert(key, (new.row.clone(), new.told_offset));
            assert!(before.is_none(), "C3: a decided request was decided again: {new:?}");
        }
        for told in &decisions.told {
            self.rows.get_mut(&(told.coupon.clone(), told.request)).expect("only decided requests are told").1 = told.offset;
        }
        for command in &decisions.commands {
            assert!(self.commands.insert(command.id, command.outcome).is_none(), "a command was decided again: {command:?}");
        }
        for code in decisions.changed.iter().chain(decisions.defined.iter().map(|defined| &defined.code)) {
            self.coupons.insert(code.clone(), state.coupons[code].coupon.clone().unwrap());
        }
        self.forwards.extend(decisions.forwards.iter().map(|forward| (forward.from.offset, forward.to)));
        self.unknown.extend(decisions.unknown_coupons.iter().map(|place| place.offset));
    }

    pub fn outcomes(&self) -> BTreeMap<(CouponCode, RequestId), Outcome> {
        self.rows.iter().map(|(key, (row, _))| (key.clone(), row.outcome)).collect()
    }

    pub fn outcome(&self, coupon: &str, request: u32) -> Option<Outcome> {
        self.rows.get(&(code(coupon), request_id(request))).map(|(row, _)| row.outcome)
    }

    pub fn told(&self, coupon: &str, request: u32) -> i64 {
        self.rows[&(code(coupon), request_id(request))].1
    }

    pub fn command(&self, id: u32) -> Option<CommandOutcome> {
        self.commands.get(&command_id(id)).copied()
    }
}

/// Folds bodies in one batch.
pub fn fold(bodies: impl IntoIterator<Item = Body>) -> Store {
    let mut store = Store::default();
    store.apply(&records(bodies));
    store
}
