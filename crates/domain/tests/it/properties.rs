//! Properties of whole logs: C1, C2, C3 and C6, for any cut into batches and any repeats.

use std::collections::{BTreeMap, BTreeSet};

use domain::coupon::{Body, Outcome, Record, Refusal};
use proptest::{collection::vec, prelude::*, sample::Index};

use crate::log::*;

const COUPONS: [&str; 3] = ["a", "b", "far"];

fn coupon() -> impl Strategy<Value = &'static str> {
    prop_oneof![4 => Just(COUPONS[0]), 2 => Just(COUPONS[1]), 1 => Just(COUPONS[2])]
}

/// Few members and ids, so that duplicates, repeats and cancels before their request happen all the time.
fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        12 => (coupon(), 0..12_u32, 0..40_u32, any::<bool>()).prop_map(|(coupon, who, id, gate)| {
            if gate { admitted(coupon, who, id) } else { request(coupon, who, id) }
        }),
        2 => (coupon(), 0..8_u32, 0..10_i64, prop::option::of(0..60_i64), prop::option::of(0..120_i64))
            .prop_map(|(coupon, id, total, opens, closes)| define_window(coupon, id, total, opens, closes)),
        1 => (coupon(), 10..30_u32, 0..12_i64).prop_map(|(coupon, id, seats)| total(coupon, id, seats)),
        1 => (coupon(), 10..30_u32, any::<bool>()).prop_map(|(coupon, id, paused)| pause(coupon, id, paused)),
        1 => (coupon(), 30..90_u32).prop_map(|(coupon, id)| if id == 30 { end(coupon, id) } else { pause(coupon, id, false) }),
        1 => (coupon(), 100..130_u32, 0..12_u32, 0..40_u32).prop_map(|(coupon, id, who, request)| cancel(coupon, id, who, request)),
        1 => (coupon(), 0..40_u32).prop_map(|(coupon, id)| unusable(coupon, id)),
    ]
}

/// A log that starts with two coupons; the third is defined somewhere in it, or never.
fn log() -> impl Strategy<Value = Vec<Body>> {
    (1..8_i64, 0..5_i64, vec(body(), 0..120))
        .prop_map(|(a, b, rest)| [define("a", 1_000, a), define("b", 1_001, b)].into_iter().chain(rest).collect())
}

fn fold_in_batches(log: &[Record], cuts: &[Index]) -> Store {
    let mut bounds: BTreeSet<usize> = cuts.iter().map(|cut| cut.index(log.len() + 1)).collect();
    bounds.insert(log.len());
    let mut store = Store::default();
    let mut from = 0;
    for to in bounds {
        store.apply(&log[from..to]);
        from = to;
    }
    store
}

/// Folds one record at a time and checks what must hold at every instant.
fn fold_watching(log: &[Record]) -> Store {
    let mut store = Store::default();
    for record in log {
        let before = store.outcomes();
        store.apply(std::slice::from_ref(record));
        let after = store.outcomes();
        for (key, outcome) in &before {
            assert_eq!(after.get(key), Some(outcome), "C3: an outcome changed at {}", record.place);
        }
        let mut issues: BTreeMap<_, Vec<i64>> = BTreeMap::new();
        let mut holders = BTreeSet::new();
        for (row, _) in store.rows.values() {
            if let Some(sequence) = row.outcome.sequence() {
                issues.entry(row.coupon.clone()).or_default().push(sequence);
                assert!(holders.insert((row.coupon.clone(), row.member.clone())), "C2: {row:?}");
            }
        }
        for coupon in store.coupons.values() {
            let mut sequences = issues.remove(&coupon.code).unwrap_or_default();
            sequences.sort_unstable();
            assert!(coupon.issued <= coupon.total, "C1: {coupon:?}");
            assert_eq!(sequences, (1..=coupon.issued).collect::<Vec<_>>(), "sequences have no holes: {coupon:?}");
        }
        assert!(issues.is_empty(), "issued without a coupon: {issues:?}");
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_into_batches_gives_the_same_ledger(bodies in log(), cuts in vec(any::<Index>(), 0..12)) {
        let log = records(bodies);
        let whole = fold_in_batches(&log, &[]);
        prop_assert_eq!(&fold_in_batches(&log, &cuts), &whole);
        prop_assert_eq!(&fold_watching(&log), &whole);
    }

    #[test]
    fn repeats_change_no_outcome(bodies in log(), repeats in vec((any::<Index>(), any::<Index>()), 1..30)) {
        // A repeat is a copy of a request or command further back, as a producer's or a forwarder's retry makes it.
        let original = fold(bodies.clone());
        // Times matter to windows, so each record keeps its own time and a copy takes that of its new neighbour.
        let mut log = records(bodies);
        for (what, later) in repeats {
            let from = what.index(log.len());
            let to = from + 1 + later.index(log.len() - from);
            let at = log[to - 1].at;
            let copy = Record { at, ..log[from].clone() };
            // A request refused at first because nobody had defined its coupon is decided, so its copies are decided too.
            log.insert(to, copy);
        }
        for (offset, record) in (0..).zip(&mut log) {
            record.place.offset = offset;
        }
        let repeated = fold_in_batches(&log, &[]);
        let forwarded_first: BTreeSet<_> = original.forwards.iter().map(|(offset, _)| *offset).collect();
        if forwarded_first.is_empty() {
            prop_assert_eq!(repeated.outcomes(), original.outcomes());
            prop_assert_eq!(&repeated.commands, &original.commands);
        }
    }

    #[test]
    fn the_first_distinct_members_of_a_quiet_coupon_are_issued(
        seats in 0..20_i64,
        asks in vec((0..25_u32, 0..60_u32), 0..120),
        cuts in vec(any::<Index>(), 0..8),
    ) {
        let log = records([define("a", 1, seats)].into_iter().chain(asks.iter().map(|(who, id)| request("a", *who, *id))));
        let store = fold_in_batches(&log, &cuts);
        // C6, said without decide: walk the asks; an id counts once, a member once, and then the seats are gone.
        let (mut ids, mut winners) = (BTreeSet::new(), Vec::new());
        for (who, id) in &asks {
            if ids.insert(*id) && !winners.contains(who) && i64::try_from(winners.len()).unwrap() < seats {
                winners.push(*who);
            }
        }
        let mut issued: Vec<_> = store.rows.values().filter_map(|(row, _)| Some((row.outcome.sequence()?, row.member.clone()?))).collect();
        issued.sort();
        let expected: Vec<_> = (1..).zip(winners.iter().map(|who| member(*who))).collect();
        prop_assert_eq!(issued, expected);
        prop_assert_eq!(store.rows.len(), ids.len());
    }

    #[test]
    fn every_record_leaves_a_trace(bodies in log()) {
        // Nothing is skipped silently: a record is a row, told again, a command, forwarded or a dead letter.
        let log = records(bodies);
        let store = fold_in_batches(&log, &[]);
        for record in &log {
            let offset = record.place.offset;
            if store.forwards.iter().any(|(at, _)| *at == offset) || store.unknown.contains(&offset) {
                continue;
            }
            let traced = match &record.body {
                Body::Request(body) => store.rows.get(&(body.coupon.clone(), body.id)).is_some_and(|(_, told)| *told >= offset),
                Body::Unusable(body) => store.rows.get(&(body.coupon.clone(), body.id)).is_some_and(|(_, told)| *told >= offset),
                Body::Define(body) => store.commands.contains_key(&body.id),
                Body::Change(body) => store.commands.contains_key(&body.id),
                Body::Cancel(body) => store.commands.contains_key(&body.id),
            };
            prop_assert!(traced, "{record:?}");
        }
        for (row, _) in store.rows.values() {
            if let Outcome::Refused { reason: Refusal::Duplicate, issued_request } = row.outcome {
                let issue = store.rows[&(row.coupon.clone(), issued_request.unwrap())].0.clone();
                prop_assert!(issue.outcome.sequence().is_some() && issue.member == row.member && issue.place < row.place);
            }
        }
    }
}
