//! The audit proved without servers: it agrees with the consumer's fold on any log, and it finds and names wrong deciders and corruption.

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::{
    clock::Timestamp,
    coupon::{
        Admission, Body, Cancel, Change, CommandRow, Define, FoldState, Here, Outcome, Place, Record, Refusal, Request, Unusable,
        decide,
    },
    ids::{CommandId, CouponCode, MemberId, RequestId},
};
use proptest::prelude::*;
use trueup_cli::audit::{
    compare::{Comparer, FoundCommand, FoundCoupon, FoundRow},
    difference::{Differences, Kind},
    fold::{ExpectedCoupon, Fold},
};
use uuid::Uuid;

const PARTITION: i32 = 3;

fn code() -> CouponCode {
    CouponCode::new("coupon").unwrap()
}

fn member(number: u8) -> MemberId {
    MemberId::new(format!("m{number}")).unwrap()
}

fn request(number: u16) -> RequestId {
    RequestId::from_uuid(Uuid::from_u128(0x1000 + u128::from(number)))
}

fn command(number: u8) -> CommandId {
    CommandId::from_uuid(Uuid::from_u128(0x9000_0000 + u128::from(number)))
}

fn define(id: u8, total: i64) -> Body {
    Body::Define(Define {
        id: command(id),
        coupon: code(),
        actor: "ann".to_owned(),
        name: "A coupon".to_owned(),
        admission: Admission::Queued,
        total,
        opens_at: None,
        closes_at: None,
    })
}

fn ask(id: u16, who: u8) -> Body {
    Body::Request(Request { id: request(id), coupon: code(), member: member(who), admitted: false })
}

fn log(bodies: Vec<Body>) -> Vec<Record> {
    let place = |index: usize| Place { partition: PARTITION, offset: index as i64 };
    let at = |index: usize| Timestamp::from_unix_ms(1_000 + index as i64);
    bodies.into_iter().enumerate().map(|(index, body)| Record { place: place(index), at: at(index), body }).collect()
}

/// What the database holds after the consumer's own fold.
#[derive(Clone)]
struct Database {
    rows: Vec<FoundRow>,
    commands: Vec<FoundCommand>,
    coupon: Option<FoundCoupon>,
}

impl Database {
    fn decided(records: &[Record], batch: usize) -> Self {
        let mut state = FoldState::default();
        let here = Here { partition: PARTITION, home_of: &|_| PARTITION };
        let mut rows: BTreeMap<Uuid, FoundRow> = BTreeMap::new();
        let mut commands: Vec<CommandRow> = Vec::new();
        for records in records.chunks(batch) {
            let decisions = decide(&mut state, &here, records);
            for new in decisions.rows {
                rows.insert(new.row.request.uuid(), found(&new.row, new.told_offset));
            }
            for told in decisions.told {
                rows.get_mut(&told.request.uuid()).unwrap().told = told.offset;
            }
            commands.extend(decisions.commands);
        }
        let defined_by = commands.iter().find(|row| row.kind.as_str() == "define" && row.outcome.as_str() == "accepted");
        let defined_by = defined_by.map_or_else(String::new, |row| row.actor.clone());
        let coupon = state.coupons.get(&code()).and_then(|fold| fold.coupon.clone()).map(|coupon| FoundCoupon {
            partition: coupon.partition,
            issued_quantity: coupon.issued,
            rules: ExpectedCoupon {
                name: coupon.name,
                admission: coupon.admission,
                total: coupon.total,
                issued: coupon.issued,
                opens_at: coupon.opens_at,
                closes_at: coupon.closes_at,
                paused: coupon.paused,
                ended: coupon.ended,
                rules_offset: coupon.rules_offset,
                defined_by,
            },
        });
        let commands = commands.iter().map(found_command).collect();
        Self { rows: rows.into_values().collect(), commands, coupon }
    }

    fn issued(&self) -> Vec<usize> {
        let mut indices: Vec<_> = (0..self.rows.len()).filter(|index| self.rows[*index].outcome == "issued").collect();
        indices.sort_by_key(|index| self.rows[*index].sequence);
        indices
    }

    fn refused(&self, reason: &str) -> usize {
        self.rows.iter().position(|row| row.outcome == reason).unwrap()
    }
}

fn found(row: &domain::coupon::LedgerRow, told: i64) -> FoundRow {
    FoundRow {
        request: row.request,
        member: row.member.as_ref().map(ToString::to_string),
        partition: row.place.partition,
        offset: row.place.offset,
        told,
        at: row.at,
        admitted: row.admitted,
        outcome: row.outcome.as_str().to_owned(),
        sequence: row.outcome.sequence(),
        issued_request: row.outcome.issued_request(),
    }
}

fn found_command(row: &CommandRow) -> FoundCommand {
    FoundCommand {
        id: row.id,
        kind: row.kind.as_str().to_owned(),
        actor: row.actor.clone(),
        partition: row.place.partition,
        offset: row.place.offset,
        outcome: row.outcome.as_str().to_owned(),
    }
}

fn fold(records: &[Record]) -> Fold {
    let mut fold = Fold::new(code(), true);
    for record in records {
        fold.record(record);
    }
    fold
}

fn audit(records: &[Record], database: &Database) -> Differences {
    let fold = fold(records);
    let mut comparer = Comparer::new(&fold, PARTITION, records.len() as i64, std::collections::HashSet::new());
    for row in &database.rows {
        comparer.row(row);
    }
    comparer.finish(database.coupon.as_ref(), &database.commands).0
}

fn kinds(differences: &Differences) -> HashSet<Kind> {
    differences.counts.keys().copied().collect()
}

/// 3 seats; members 1 to 5 ask, 1 and 2 twice; one request is cancelled first, one asked twice under its id.
fn example() -> Vec<Record> {
    let cancel = Cancel { id: command(2), coupon: code(), actor: "bob".to_owned(), member: member(6), request: request(60) };
    log(vec![
        define(1, 3),
        ask(10, 1),
        ask(11, 1),
        ask(20, 2),
        ask(10, 1),
        Body::Cancel(cancel),
        ask(60, 6),
        ask(30, 3),
        ask(40, 4),
        ask(50, 5),
        ask(21, 2),
    ])
}

/// A decider with one mistake, written so that it gives what such a consumer would have written.
fn wrong_decider(records: &[Record], total_off_by: i64, forget_holders: bool, last_first: bool) -> Database {
    let mut clean = Database::decided(records, 4);
    let mut asks: Vec<&Record> = records.iter().filter(|record| matches!(record.body, Body::Request(_))).collect();
    if last_first {
        asks.reverse();
    }
    let total = clean.coupon.as_ref().unwrap().rules.total + total_off_by;
    let (mut holders, mut issued) = (HashMap::new(), 0);
    let mut seen = HashSet::new();
    let cancelled: HashSet<_> = clean.rows.iter().filter(|row| row.outcome == "cancelled").map(|row| row.request).collect();
    let mut outcomes = HashMap::new();
    for record in asks {
        let Body::Request(ask) = &record.body else { unreachable!() };
        if cancelled.contains(&ask.id) || !seen.insert(ask.id) {
            continue;
        }
        let outcome = match holders.get(&ask.member) {
            Some(first) if !forget_holders => Outcome::Refused { reason: Refusal::Duplicate, issued_request: Some(*first) },
            _ if issued < total => {
                issued += 1;
                holders.insert(ask.member.clone(), ask.id);
                Outcome::Issued { sequence: issued }
            }
            _ => Outcome::refused(Refusal::SoldOut),
        };
        outcomes.insert(ask.id, outcome);
    }
    for row in &mut clean.rows {
        if let Some(outcome) = outcomes.get(&row.request) {
            row.outcome = outcome.as_str().to_owned();
            row.sequence = outcome.sequence();
            row.issued_request = outcome.issued_request();
        }
    }
    clean.coupon.as_mut().unwrap().issued_quantity = issued;
    clean
}

#[test]
fn nothing_is_found_in_clean_data() {
    let records = example();
    for batch in 1..=records.len() {
        let differences = audit(&records, &Database::decided(&records, batch));
        assert!(differences.is_empty(), "batches of {batch}: {differences:?}");
    }
    // The example holds what it says: three issued, two duplicates, one cancelled, two sold out.
    let database = Database::decided(&records, 3);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &database.rows {
        *counts.entry(row.outcome.as_str()).or_default() += 1;
    }
    assert_eq!(counts, BTreeMap::from([("cancelled", 1), ("duplicate", 2), ("issued", 3), ("sold_out", 2)]));
}

#[test]
fn the_right_decider_of_these_tests_is_right() {
    // Otherwise the wrong ones could be found for the wrong reason.
    let records = example();
    assert!(audit(&records, &wrong_decider(&records, 0, false, false)).is_empty());
}

#[test]
fn wrong_deciders_are_found_and_named() {
    let records = example();
    let off_by_one = audit(&records, &wrong_decider(&records, 1, false, false));
    assert!(kinds(&off_by_one).is_superset(&HashSet::from([Kind::OverIssue, Kind::ChangedOutcome])), "{off_by_one:?}");
    let one_too_few = audit(&records, &wrong_decider(&records, -1, false, false));
    assert!(kinds(&one_too_few).is_superset(&HashSet::from([Kind::LeakedSeat, Kind::ChangedOutcome])), "{one_too_few:?}");
    let double = audit(&records, &wrong_decider(&records, 0, true, false));
    assert!(kinds(&double).is_superset(&HashSet::from([Kind::DoubleIssue, Kind::ChangedOutcome])), "{double:?}");
    let last_come = audit(&records, &wrong_decider(&records, 0, false, true));
    assert!(kinds(&last_come).contains(&Kind::ChangedOutcome), "{last_come:?}");
    // Last come among members who all win: the outcomes are right, the order is not.
    let few = log(vec![define(1, 3), ask(10, 1), ask(20, 2), ask(30, 3)]);
    let last_come = audit(&few, &wrong_decider(&few, 0, false, true));
    assert_eq!(kinds(&last_come), HashSet::from([Kind::WrongOrder]), "{last_come:?}");
}

#[test]
fn each_planted_corruption_is_found_and_named() {
    type Plant = fn(&mut Database);
    let cases: Vec<(&str, Plant, Vec<Kind>)> = vec![
        ("a refused row is deleted", |db| drop(db.rows.remove(db.refused("sold_out"))), vec![Kind::Lost]),
        ("an issue is deleted", |db| drop(db.rows.remove(db.issued()[2])), vec![Kind::Lost, Kind::LeakedSeat, Kind::WrongCount]),
        (
            "a row of nobody's is inserted",
            |db| {
                let copy = db.rows[db.refused("sold_out")].clone();
                db.rows.push(FoundRow { request: request(999), ..copy });
            },
            vec![Kind::Extra],
        ),
        (
            "a sold out row is made an issue",
            |db| {
                let row = db.refused("sold_out");
                db.rows[row].outcome = "issued".to_owned();
                db.rows[row].sequence = Some(4);
            },
            vec![Kind::ChangedOutcome, Kind::OverIssue, Kind::WrongCount],
        ),
        (
            "a duplicate is made a second issue",
            |db| {
                let row = db.refused("duplicate");
                db.rows[row].outcome = "issued".to_owned();
                db.rows[row].sequence = Some(4);
            },
            vec![Kind::ChangedOutcome, Kind::DoubleIssue, Kind::OverIssue, Kind::WrongCount],
        ),
        (
            "two winners are swapped",
            |db| {
                let issued = db.issued();
                let (first, second) = (db.rows[issued[0]].sequence, db.rows[issued[1]].sequence);
                db.rows[issued[0]].sequence = second;
                db.rows[issued[1]].sequence = first;
            },
            vec![Kind::WrongOrder],
        ),
        (
            "a sequence has a hole",
            |db| {
                let last = db.issued()[2];
                db.rows[last].sequence = Some(9);
            },
            vec![Kind::WrongOrder, Kind::SequenceGap],
        ),
        (
            "an issue is given to somebody else",
            |db| {
                let first = db.issued()[0];
                db.rows[first].member = Some("m9".to_owned());
            },
            vec![Kind::ChangedMember],
        ),
        (
            "a duplicate names another issue",
            |db| {
                let row = db.refused("duplicate");
                db.rows[row].issued_request = Some(request(999));
            },
            vec![Kind::WrongReference],
        ),
        ("a reason is changed", |db| db.rows[0].outcome = "closed".to_owned(), vec![]),
        ("a place is changed", |db| db.rows[0].offset += 1, vec![Kind::WrongPlace]),
        ("a told offset is set back", |db| db.rows[0].told -= 1, vec![Kind::WrongTold]),
        ("an append time is changed", |db| db.rows[0].at = Timestamp::from_unix_ms(1), vec![Kind::WrongTime]),
        ("a row is marked admitted", |db| db.rows[0].admitted = true, vec![Kind::WrongAdmitted]),
        ("the count is wrong", |db| db.coupon.as_mut().unwrap().issued_quantity = 2, vec![Kind::WrongCount]),
        ("the total is raised", |db| db.coupon.as_mut().unwrap().rules.total = 30, vec![Kind::WrongRules]),
        ("the total is lowered", |db| db.coupon.as_mut().unwrap().rules.total = 2, vec![Kind::WrongRules, Kind::OverIssue]),
        ("it is paused", |db| db.coupon.as_mut().unwrap().rules.paused = true, vec![Kind::WrongRules]),
        ("the coupon is deleted", |db| db.coupon = None, vec![Kind::LostCoupon]),
        ("a command is deleted", |db| drop(db.commands.pop()), vec![Kind::LostCommand]),
        (
            "a command's outcome is changed",
            |db| db.commands[1].outcome = "already_decided".to_owned(),
            vec![Kind::ChangedCommand],
        ),
        ("a command's actor is changed", |db| db.commands[0].actor = "eve".to_owned(), vec![Kind::ChangedCommand]),
        (
            "a command is made up",
            |db| db.commands.push(FoundCommand { id: command(77), ..db.commands[0].clone() }),
            vec![Kind::ExtraCommand],
        ),
    ];
    let records = example();
    for (name, plant, expected) in cases {
        let mut database = Database::decided(&records, 4);
        plant(&mut database);
        let differences = audit(&records, &database);
        assert!(!differences.is_empty(), "{name} was not found");
        if !expected.is_empty() {
            assert_eq!(kinds(&differences), expected.into_iter().collect::<HashSet<_>>(), "{name}: {differences:?}");
        }
    }
}

#[test]
fn what_was_decided_past_the_position_is_extra() {
    let records = example();
    let database = Database::decided(&records, 4);
    // The same rows, and a position before the last record: its row must not be there yet.
    let differences = audit(&records[..records.len() - 1], &database);
    assert_eq!(kinds(&differences), HashSet::from([Kind::Extra]));
    assert!(differences.details[0].expected.contains("past the position"), "{differences:?}");
}

#[test]
fn a_kind_that_is_found_often_is_counted_and_told_in_bounds() {
    let asks = (0..500).map(|number| ask(number, 1));
    let records = log(std::iter::once(define(1, 1)).chain(asks).collect());
    let mut database = Database::decided(&records, 100);
    database.rows.retain(|row| row.outcome == "issued");
    let differences = audit(&records, &database);
    assert_eq!((differences.total(), differences.details.len()), (499, 100));
}

fn any_body() -> impl Strategy<Value = Body> {
    let (members, requests, commands) = (0_u8..6, 0_u16..12, 0_u8..5);
    let window =
        prop_oneof![Just(None), Just(Some(None)), (1_000_i64..1_060).prop_map(|at| Some(Some(Timestamp::from_unix_ms(at))))];
    let asks = (requests.clone(), members.clone(), any::<bool>()).prop_map(|(id, who, admitted)| {
        Body::Request(Request { id: request(id), coupon: code(), member: member(who), admitted })
    });
    let defines = (commands.clone(), 0_i64..5, window.clone(), window.clone()).prop_map(|(id, total, opens_at, closes_at)| {
        let Body::Define(plain) = define(id, total) else { unreachable!() };
        Body::Define(Define { opens_at: opens_at.flatten(), closes_at: closes_at.flatten(), ..plain })
    });
    let changes =
        (commands.clone(), proptest::option::of(0_i64..6), window.clone(), window, proptest::option::of(any::<bool>()), 0_u8..20)
            .prop_map(|(id, total, opens_at, closes_at, paused, end)| {
                let name = total.map(|total| format!("renamed {total}"));
                let end = end == 0;
                Body::Change(Change {
                    id: command(id),
                    coupon: code(),
                    actor: "cho".to_owned(),
                    name,
                    total,
                    opens_at,
                    closes_at,
                    paused,
                    end,
                })
            });
    let cancels = (commands, members.clone(), requests.clone()).prop_map(|(id, who, ask)| {
        Body::Cancel(Cancel {
            id: command(id),
            coupon: code(),
            actor: "bob".to_owned(),
            member: member(who),
            request: request(ask),
        })
    });
    let unusable = (requests, proptest::option::of(members))
        .prop_map(|(id, who)| Body::Unusable(Unusable { id: request(id), coupon: code(), member: who.map(member) }));
    prop_oneof![12 => asks, 2 => defines, 3 => changes, 2 => cancels, 1 => unusable]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Two folds, written apart, agree on any log, however the consumer cuts it into batches.
    #[test]
    fn both_folds_agree_on_any_log(bodies in proptest::collection::vec(any_body(), 1..60), batch in 1_usize..20) {
        let records = log(bodies);
        let database = Database::decided(&records, batch);
        let differences = audit(&records, &database);
        prop_assert!(differences.is_empty(), "{differences:?}");
    }

    /// Whatever row is dropped, the audit says so.
    #[test]
    fn no_row_can_be_dropped_unseen(bodies in proptest::collection::vec(any_body(), 1..60), index in any::<prop::sample::Index>()) {
        let records = log(bodies);
        let mut database = Database::decided(&records, 7);
        prop_assume!(!database.rows.is_empty());
        database.rows.remove(index.index(database.rows.len()));
        prop_assert!(kinds(&audit(&records, &database)).contains(&Kind::Lost));
    }
}
