//! The scripts against the gate of the explored model (`crates/model`): what is proved of that one is meant for these.

use std::{collections::BTreeSet, time::Duration};

use domain::ids::CouponCode;
use model::{
    fold::{Ledger, Row, Verdict, bit},
    gate::{GateState, MEMBERS_MAX, Reserved, SettleRule, Settled},
};
use proptest::{prelude::*, test_runner::TestRunner};
use redis_io::{Gate, GateError, GateRules, Reserve, Settle, SettleItem, SettleKind, keys};

use crate::server::{Server, code, member, request, rules, token};

const MEMBERS: u8 = MEMBERS_MAX as u8;
const IDS: u8 = 6;
const TOKENS: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    Reserve(u8, u8),
    Release(u8, u8),
    Settle { behind: i8, rows: Vec<Row>, total: u8, ended: bool, rules: u8 },
    HandOut,
    BeginLoad(u8),
    Load(u8, u8),
    Open { token: u8, cursor: u8, total: u8, rules: u8 },
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Issued),
        1 => Just(Verdict::Duplicate),
        1 => Just(Verdict::SoldOut),
        1 => Just(Verdict::Refused)
    ];
    // Told relative to the cursor at which the range begins.
    let row = (0..IDS, 0..MEMBERS, 0..3_u8, verdict).prop_map(|(id, member, told, verdict)| Row {
        id,
        member,
        place: told,
        told,
        verdict,
    });
    let behind = prop_oneof![4 => Just(0_i8), 1 => -2..3_i8];
    let settle = (behind, prop::collection::vec(row, 0..4), 0..4_u8, prop::bool::weighted(0.1), 0..4_u8);
    prop_oneof![
        6 => (0..MEMBERS, 0..IDS).prop_map(|(who, id)| Step::Reserve(who, id)),
        2 => (0..MEMBERS, 0..IDS).prop_map(|(who, id)| Step::Release(who, id)),
        4 => settle.prop_map(|(behind, rows, total, ended, rules)| Step::Settle { behind, rows, total, ended, rules }),
        1 => Just(Step::HandOut),
        1 => (0..TOKENS).prop_map(Step::BeginLoad),
        1 => (0..TOKENS, 0..1_u8 << MEMBERS).prop_map(|(token, members)| Step::Load(token, members)),
        2 => (0..TOKENS, 3..6_u8, 0..4_u8, 0..4_u8)
            .prop_map(|(token, cursor, total, rules)| Step::Open { token, cursor, total, rules }),
        1 => Just(Step::Flush),
    ]
}

fn ledger(rows: Vec<Row>, total: u8, ended: bool, rules: u8) -> Ledger {
    Ledger { rows, holders: 0, total, issued: 0, ended, rules, lowered: None }
}

fn rules_of(ledger: &Ledger) -> GateRules {
    GateRules { ended: ledger.ended, rules_offset: i64::from(ledger.rules), ..rules(i64::from(ledger.total)) }
}

fn item(row: &Row) -> SettleItem {
    let kind = match row.verdict {
        Verdict::Issued => SettleKind::Issued,
        Verdict::Duplicate => SettleKind::Duplicate,
        Verdict::SoldOut | Verdict::Refused => SettleKind::Refused,
    };
    SettleItem { kind, member: member(row.member.into()), request: request(row.id.into()) }
}

fn members(mask: u8) -> impl Iterator<Item = u8> {
    (0..MEMBERS).filter(move |who| mask & bit(*who) != 0)
}

async fn take(gate: &Gate, server: &Server, coupon: &CouponCode, expected: &mut model::gate::Gate, step: &Step) {
    match step {
        Step::Reserve(who, id) => {
            let answer = gate.reserve(coupon, &[(member((*who).into()), request((*id).into()))]).await;
            match expected.reserve(0, *who, *id) {
                Reserved::Cold => assert!(matches!(answer, Err(GateError::Cold)), "{step:?}"),
                Reserved::Fresh => assert_eq!(answer.unwrap(), [Reserve::Reserved], "{step:?}"),
                Reserved::Existing(id) => assert_eq!(answer.unwrap(), [Reserve::Pending(request(id.into()))], "{step:?}"),
                Reserved::Issued => assert_eq!(answer.unwrap(), [Reserve::Issued], "{step:?}"),
                Reserved::SoldOut => assert_eq!(answer.unwrap(), [Reserve::SoldOut], "{step:?}"),
                Reserved::Ended => assert_eq!(answer.unwrap(), [Reserve::Ended], "{step:?}"),
            }
        }
        Step::Release(who, id) => {
            let before = expected.clone();
            expected.release(0, *who, *id, false);
            let released = gate.release(coupon, &member((*who).into()), request((*id).into())).await.unwrap();
            assert_eq!(released, before != *expected, "{step:?}");
        }
        Step::Settle { behind, rows, total, ended, rules } => {
            let from = expected.cursor.saturating_add_signed(-behind);
            let to = from + 3;
            let rows = rows.iter().map(|row| Row { place: from + row.place, told: from + row.told, ..*row }).collect();
            let ledger = ledger(rows, *total, *ended, *rules);
            let items: Vec<_> = ledger.rows.iter().map(item).collect();
            let answer = gate.settle(coupon, from.into(), to.into(), &items, &rules_of(&ledger)).await.unwrap();
            let expected = match expected.settle(0, SettleRule::Exact, from, to, &ledger) {
                Settled::Cold => Settle::Cold,
                Settled::CursorAt(cursor) => Settle::CursorAt(cursor.into()),
                Settled::Moved => Settle::Moved,
            };
            assert_eq!(answer, expected, "{step:?}");
        }
        Step::HandOut => {
            let found = gate.pending_older_than(coupon, Duration::ZERO, 100).await.unwrap_or_default();
            let found: BTreeSet<_> = found.into_iter().map(|one| (one.member, one.request.uuid())).collect();
            let handed = (0..MEMBERS).filter_map(|who| expected.hand_out(0, who).map(|id| (who, id)));
            let handed: BTreeSet<_> = handed.map(|(who, id)| (member(who.into()), request(id.into()).uuid())).collect();
            assert_eq!(found, handed, "{step:?}");
        }
        Step::BeginLoad(name) => {
            assert_eq!(gate.begin_load(coupon, token((*name).into())).await.unwrap(), expected.begin_load(0, *name), "{step:?}");
        }
        Step::Load(name, mask) => {
            let loaded: Vec<_> = members(*mask).map(|who| member(who.into())).collect();
            let answer = gate.load(coupon, token((*name).into()), &loaded).await.unwrap();
            assert_eq!(answer, expected.load(0, *name, *mask), "{step:?}");
        }
        Step::Open { token: name, cursor, total, rules } => {
            let ledger = ledger(Vec::new(), *total, false, *rules);
            let answer = gate.open(coupon, token((*name).into()), &rules_of(&ledger), (*cursor).into()).await.unwrap();
            assert_eq!(answer.is_some(), expected.open(0, *name, *cursor, &ledger), "{step:?}");
        }
        Step::Flush => {
            let _: String = server.command(&["FLUSHALL"]).await;
            *expected = model::gate::Gate::default();
        }
    }
}

async fn same(gate: &Gate, server: &Server, coupon: &CouponCode, expected: &model::gate::Gate, step: &Step) {
    let status = gate.status(coupon).await.unwrap();
    let state = match expected.state {
        GateState::Absent => redis_io::GateState::Absent,
        GateState::Loading(_) => redis_io::GateState::Loading,
        GateState::Open => redis_io::GateState::Open,
    };
    assert_eq!(status.state, state, "{step:?}");
    let set: BTreeSet<String> = server.command(&["SMEMBERS", &keys::issued(coupon)]).await;
    let wanted: BTreeSet<String> = members(expected.set).map(|who| member(who.into()).as_str().to_owned()).collect();
    assert_eq!(set, wanted, "{step:?}");
    if expected.state == GateState::Open {
        assert_eq!(status.cursor, Some(expected.cursor.into()), "{step:?}");
        assert_eq!(status.stock, Some(expected.left().into()), "{step:?}");
        assert_eq!(status.total, Some(expected.total.into()), "{step:?}");
        assert_eq!(status.ended, expected.ended, "{step:?}");
        let all: Vec<_> = (0..MEMBERS).map(|who| member(who.into())).collect();
        let pending: Vec<_> = expected.pending.iter().map(|pending| pending.map(|one| request(one.id.into()))).collect();
        assert_eq!(gate.pending_of(coupon, &all).await.unwrap(), pending, "{step:?}");
    }
}

#[test]
fn the_scripts_do_what_the_explored_model_does() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::start());
    let gate = runtime.block_on(server.gate());
    let mut runner = TestRunner::new(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() });
    let cases = std::cell::Cell::new(0_u32);
    runner
        .run(&(prop::bool::weighted(0.8), prop::collection::vec(step(), 1..30)), |(opened, steps)| {
            cases.set(cases.get() + 1);
            let coupon = code(&format!("explored-{}", cases.get()));
            runtime.block_on(async {
                let mut expected = model::gate::Gate::default();
                let opening = [Step::BeginLoad(1), Step::Open { token: 1, cursor: 3, total: 2, rules: 0 }];
                for step in opening.iter().filter(|_| opened).chain(&steps) {
                    take(&gate, &server, &coupon, &mut expected, step).await;
                    same(&gate, &server, &coupon, &expected, step).await;
                }
            });
            Ok(())
        })
        .unwrap();
}
