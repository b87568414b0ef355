//! The scripts against the gate of the explored model (`crates/model`): what is proved of that one is meant for these.

use std::{collections::BTreeSet, time::Duration};

use domain::{clock::Timestamp, ids::CouponCode};
use model::{
    fold::{Ledger, Row, Verdict, bit},
    gate::{GateState, MEMBERS_MAX, ReleaseRule, Removed, Reserved, SettleRule, Settled},
};
use proptest::{prelude::*, test_runner::TestRunner};
use redis_io::{Gate, GateError, GateRules, Removal, Reservation, Reserve, Settle, SettleItem, SettleKind, keys};

use crate::server::{RESERVED, Server, code, member, request, rules, timeless, token};

const MEMBERS: u8 = MEMBERS_MAX as u8;
const IDS: u8 = 6;
const TOKENS: u8 = 3;

#[derive(Debug, Clone)]
enum Step {
    Reserve(u8, u8),
    /// Who, under which id (none: the one that he holds), and how many moments ago, of those at which reservations were made.
    Release(u8, Option<u8>, u8),
    Settle {
        behind: i8,
        rows: Vec<Row>,
        total: u8,
        ended: bool,
        rules: u8,
    },
    HandOut,
    Add(u8),
    Remove {
        who: u8,
        behind: i8,
    },
    Shut {
        behind: i8,
    },
    BeginLoad(u8),
    Load(u8, u8),
    Open {
        token: u8,
        cursor: u8,
        total: u8,
        rules: u8,
    },
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
        3 => (0..MEMBERS, prop::option::weighted(0.3, 0..IDS), 0..3_u8).prop_map(|(who, id, ago)| Step::Release(who, id, ago)),
        4 => settle.prop_map(|(behind, rows, total, ended, rules)| Step::Settle { behind, rows, total, ended, rules }),
        1 => Just(Step::HandOut),
        1 => (0..MEMBERS).prop_map(Step::Add),
        2 => (0..MEMBERS, -1..2_i8).prop_map(|(who, behind)| Step::Remove { who, behind }),
        1 => (-1..2_i8).prop_map(|behind| Step::Shut { behind }),
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

/// The moments at which reservations were made, by Redis' clock; the model counts them.
type Moments = Vec<Timestamp>;

fn number_of(moments: &mut Moments, at: Timestamp) -> u8 {
    let known = moments.iter().position(|known| *known == at);
    known.unwrap_or_else(|| {
        moments.push(at);
        moments.len() - 1
    }) as u8
}

async fn take(
    (gate, server, coupon): (&Gate, &Server, &CouponCode),
    expected: &mut model::gate::Gate,
    moments: &mut Moments,
    step: &Step,
) {
    match step {
        Step::Reserve(who, id) => {
            let answer = gate.reserve(coupon, &[(member((*who).into()), request((*id).into()))]).await;
            let at = match answer.as_deref() {
                Ok([Reserve::Reserved { at }]) => number_of(moments, *at),
                _ => u8::MAX,
            };
            let answer = answer.map(timeless);
            match expected.reserve(0, *who, *id, at) {
                Reserved::Cold => assert!(matches!(answer, Err(GateError::Cold)), "{step:?}"),
                Reserved::Fresh => assert_eq!(answer.unwrap(), [RESERVED], "{step:?}"),
                Reserved::Existing(id) => assert_eq!(answer.unwrap(), [Reserve::Pending(request(id.into()))], "{step:?}"),
                Reserved::Issued => assert_eq!(answer.unwrap(), [Reserve::Issued], "{step:?}"),
                Reserved::SoldOut => assert_eq!(answer.unwrap(), [Reserve::SoldOut], "{step:?}"),
                Reserved::Ended => assert_eq!(answer.unwrap(), [Reserve::Ended], "{step:?}"),
            }
        }
        Step::Release(who, id, ago) => {
            let held = expected.pending[usize::from(*who)].map(|pending| pending.id);
            let id = &id.or(held).unwrap_or_default();
            let number = moments.len().saturating_sub(1 + usize::from(*ago));
            let reserved_at = moments.get(number).copied().unwrap_or_default();
            let reservation = Reservation { member: member((*who).into()), request: request((*id).into()), reserved_at };
            let released = gate.release(coupon, &reservation).await.unwrap();
            assert_eq!(released, expected.release(0, ReleaseRule::Exact, *who, *id, number as u8), "{step:?}");
        }
        Step::Add(who) => {
            let answer = match gate.add(coupon, &[member((*who).into())]).await {
                Err(GateError::Cold) => None,
                added => Some(added.unwrap() == 1),
            };
            assert_eq!(answer, expected.add(0, *who), "{step:?}");
        }
        Step::Remove { who, behind } => {
            let snapshot = expected.cursor.saturating_add_signed(-behind);
            let answer = match gate.remove(coupon, snapshot.into(), &[member((*who).into()).to_string()]).await {
                Err(GateError::Cold) => Removed::Cold,
                Ok(Removal::CursorAt(cursor)) => Removed::CursorAt(cursor.try_into().unwrap()),
                done => Removed::Done(done.unwrap() == Removal::Done(vec![true])),
            };
            assert_eq!(answer, expected.remove(0, *who, snapshot, false), "{step:?}");
        }
        Step::Shut { behind } => {
            let cursor = expected.cursor.saturating_add_signed(-behind);
            assert_eq!(gate.shut(coupon, cursor.into()).await.unwrap(), expected.shut(0, cursor), "{step:?}");
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
        GateState::Loading(_) | GateState::Shut => redis_io::GateState::Loading,
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
                let (mut expected, mut moments) = (model::gate::Gate::default(), Moments::new());
                let opening = [Step::BeginLoad(1), Step::Open { token: 1, cursor: 3, total: 2, rules: 0 }];
                for step in opening.iter().filter(|_| opened).chain(&steps) {
                    take((&gate, &server, &coupon), &mut expected, &mut moments, step).await;
                    same(&gate, &server, &coupon, &expected, step).await;
                }
            });
            Ok(())
        })
        .unwrap();
}
