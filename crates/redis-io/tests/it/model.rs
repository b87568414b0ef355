//! The gate against a model of it: whatever the calls and their order, both say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use domain::clock::Timestamp;
use proptest::{prelude::*, test_runner::TestRunner};
use redis_io::{Gate, GateRules, Reservation, Reserve, Settle, SettleItem, SettleKind, keys};

use crate::server::{Server, code, member, request, rules, token};

/// The gate in the simplest words: no run id, no keys, no time.
#[derive(Default)]
struct Model {
    total: i64,
    rules_offset: i64,
    cursor: i64,
    members: BTreeSet<u32>,
    /// Member → (request, handed out since, when).
    pending: BTreeMap<u32, (u32, bool, Timestamp)>,
}

impl Model {
    fn reserve(&mut self, who: u32, id: u32, now: Timestamp) -> Reserve {
        if let Some((held, handed, _)) = self.pending.get_mut(&who) {
            *handed = true;
            return Reserve::Pending(request(*held));
        }
        if self.members.contains(&who) {
            return Reserve::Issued;
        }
        if self.stock() == 0 {
            return Reserve::SoldOut;
        }
        self.members.insert(who);
        self.pending.insert(who, (id, false, now));
        Reserve::Reserved { at: now }
    }

    fn release(&mut self, reservation: &Reservation) -> bool {
        let who = (0..8).find(|who| member(*who) == reservation.member).unwrap();
        let released = self.pending.get(&who).is_some_and(|(id, handed, at)| {
            (request(*id), *handed, *at) == (reservation.request, false, reservation.reserved_at)
        });
        if released {
            self.pending.remove(&who);
            self.members.remove(&who);
        }
        released
    }

    fn settle(&mut self, from: i64, to: i64, items: &[(SettleKind, u32, u32)], rules: &GateRules) -> Settle {
        if from != self.cursor {
            return Settle::CursorAt(self.cursor);
        }
        self.cursor = to;
        if rules.rules_offset >= self.rules_offset {
            (self.rules_offset, self.total) = (rules.rules_offset, rules.total);
        }
        for &(_, who, _) in items.iter().filter(|(kind, ..)| *kind != SettleKind::Refused) {
            self.members.insert(who);
            self.pending.remove(&who);
        }
        for &(_, who, id) in items.iter().filter(|(kind, ..)| *kind == SettleKind::Refused) {
            if self.pending.get(&who).is_some_and(|&(held, ..)| held == id) {
                self.pending.remove(&who);
                self.members.remove(&who);
            }
        }
        Settle::Moved
    }

    fn stock(&self) -> i64 {
        (self.total - i64::try_from(self.members.len()).unwrap()).max(0)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Reserve(Vec<(u32, u32)>),
    /// Who, under which id, and made how many calls ago.
    Release(u32, u32, usize),
    Settle {
        behind: i64,
        records: i64,
        items: Vec<(SettleKind, u32, u32)>,
        total: i64,
        rules_age: i64,
    },
    HandOut,
}

fn step() -> impl Strategy<Value = Step> {
    // Few members and few ids, so that they meet often.
    let pair = || (0..8_u32, 0..12_u32);
    let kind = prop_oneof![Just(SettleKind::Issued), Just(SettleKind::Duplicate), Just(SettleKind::Refused)];
    let item = (kind, 0..8_u32, 0..12_u32);
    prop_oneof![
        4 => prop::collection::vec(pair(), 1..6).prop_map(Step::Reserve),
        2 => (pair(), 0..3_usize).prop_map(|((who, id), ago)| Step::Release(who, id, ago)),
        3 => (prop_oneof![4 => Just(0_i64), 1 => -2..3_i64], 0..4_i64, prop::collection::vec(item, 0..5), 0..9_i64, 0..3_i64)
            .prop_map(|(behind, records, items, total, rules_age)| Step::Settle { behind, records, items, total, rules_age }),
        1 => Just(Step::HandOut),
    ]
}

async fn apply(gate: &Gate, server: &Server, coupon: &domain::ids::CouponCode, steps: &[Step]) {
    let mut made = Vec::new();
    let mut model = Model { total: 5, cursor: 10, ..Model::default() };
    assert!(gate.begin_load(coupon, token(1)).await.unwrap());
    assert_eq!(gate.open(coupon, token(1), &rules(5), 10).await.unwrap(), Some(0));
    for step in steps {
        match step {
            Step::Reserve(asks) => {
                let named: Vec<_> = asks.iter().map(|&(who, id)| (member(who), request(id))).collect();
                let answers = gate.reserve(coupon, &named).await.unwrap();
                // Redis' clock is not the test's, so the model takes its moment from the answers.
                let at = answers.iter().find_map(|answer| if let Reserve::Reserved { at } = answer { Some(*at) } else { None });
                made.extend(at);
                let now = at.unwrap_or_default();
                let expected: Vec<_> = asks.iter().map(|&(who, id)| model.reserve(who, id, now)).collect();
                assert_eq!(answers, expected, "{step:?}");
            }
            Step::Release(who, id, ago) => {
                let reserved_at = made.iter().rev().nth(*ago).copied().unwrap_or_default();
                let reservation = Reservation { member: member(*who), request: request(*id), reserved_at };
                let expected = model.release(&reservation);
                assert_eq!(gate.release(coupon, &reservation).await.unwrap(), expected, "{step:?}");
            }
            Step::Settle { behind, records, items, total, rules_age } => {
                let from = model.cursor - behind;
                let to = from + records;
                let rules = GateRules { total: *total, rules_offset: (to - rules_age).max(0), ..rules(0) };
                let expected = model.settle(from, to, items, &rules);
                let items: Vec<_> =
                    items.iter().map(|&(kind, who, id)| SettleItem { kind, member: member(who), request: request(id) }).collect();
                assert_eq!(gate.settle(coupon, from, to, &items, &rules).await.unwrap(), expected, "{step:?}");
            }
            Step::HandOut => {
                let found = gate.pending_older_than(coupon, Duration::ZERO, 100).await.unwrap();
                let found: BTreeMap<_, _> = found.into_iter().map(|one| (one.member, one.request)).collect();
                let expected: BTreeMap<_, _> = model.pending.iter().map(|(&who, &(id, ..))| (member(who), request(id))).collect();
                assert_eq!(found, expected, "{step:?}");
                model.pending.values_mut().for_each(|(_, handed, _)| *handed = true);
            }
        }
        let status = gate.status(coupon).await.unwrap();
        assert_eq!(status.cursor, Some(model.cursor), "{step:?}");
        assert_eq!(status.stock, Some(model.stock()), "{step:?}");
        assert_eq!(status.pending, i64::try_from(model.pending.len()).unwrap(), "{step:?}");
        let members: BTreeSet<String> = server.command(&["SMEMBERS", &keys::issued(coupon)]).await;
        let expected: BTreeSet<String> = model.members.iter().map(|&who| member(who).as_str().to_owned()).collect();
        assert_eq!(members, expected, "{step:?}");
        let indexed: i64 = server.command(&["ZCARD", &keys::pending_at(coupon)]).await;
        assert_eq!(indexed, status.pending, "index and reservations go together: {step:?}");
    }
}

#[test]
fn the_gate_does_what_its_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::start_with(&["--appendfsync", "everysec"]));
    let gate = runtime.block_on(server.gate());
    let mut runner = TestRunner::new(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() });
    let cases = std::cell::Cell::new(0_u32);
    runner
        .run(&prop::collection::vec(step(), 1..25), |steps| {
            cases.set(cases.get() + 1);
            runtime.block_on(apply(&gate, &server, &code(&format!("model-{}", cases.get())), &steps));
            Ok(())
        })
        .unwrap();
}
