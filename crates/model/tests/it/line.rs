//! The protocol holds, in several small worlds.

use model::{
    check::{holds, never_circles, refuted},
    fold::{NO_LIFE, Rec, Start},
    line::{Faults, KEPT, Line},
};

fn start(total: u8, owners: &[u8]) -> Start {
    Start { total, owners: owners.to_vec() }
}

/// Repeats of one request through two gateways, refused and unknown publishes, killed gateways, two reconcilers.
fn publish() -> Line {
    Line {
        calls: vec![(0, 2), (0, 1), (1, 1)],
        replicas: 2,
        faults: Faults { refused: 1, unknown: 1, killed: 1, copies: 1, lease: 1, ..Faults::default() },
        ..Line::default()
    }
}

#[test]
fn repeats_refusals_and_unknown_publishes() {
    holds("publish", publish());
}

#[test]
fn a_member_with_two_ids_and_more_members_than_seats() {
    holds(
        "two ids",
        Line {
            start: start(2, &[0, 0, 1, 2]),
            calls: vec![(0, 1), (1, 1), (2, 1), (3, 1)],
            faults: Faults { unknown: 1, ..Faults::default() },
            ..Line::default()
        },
    );
}

/// Redis is emptied, and the gate opened again while publishes are on their way.
fn flush() -> Line {
    Line { calls: vec![(0, 2), (1, 1)], faults: Faults { unknown: 1, flush: 2, ..Faults::default() }, ..Line::default() }
}

#[test]
fn an_emptied_redis() {
    holds("flush", flush());
}

/// The replica that rebuilds is frozen in the middle of it.
fn frozen() -> Line {
    Line { replicas: 2, faults: Faults { flush: 1, lease: 1, ..Faults::default() }, ..Line::default() }
}

#[test]
fn an_emptied_redis_and_a_frozen_replica() {
    holds("frozen replica", frozen());
}

#[test]
#[ignore = "takes minutes"]
fn a_redis_emptied_twice_and_a_frozen_replica() {
    holds("frozen replica, deep", Line { faults: Faults { unknown: 1, flush: 2, lease: 1, ..Faults::default() }, ..frozen() });
}

#[test]
fn an_old_file() {
    holds(
        "old file",
        Line {
            calls: vec![(0, 2), (1, 1)],
            faults: Faults { unknown: 1, save: 1, restart: 1, ..Faults::default() },
            ..Line::default()
        },
    );
}

#[test]
fn fallback_while_the_gate_gives_no_answer() {
    holds(
        "fallback",
        Line {
            calls: vec![(0, 1), (0, 1), (1, 1)],
            fallback: true,
            faults: Faults { flush: 1, reply_lost: 1, unreached: 1, ..Faults::default() },
            ..Line::default()
        },
    );
}

/// A coupon whose gate was never open.
fn new_gate() -> Line {
    Line {
        opened: false,
        fallback: true,
        replicas: 2,
        faults: Faults { unknown: 1, lease: 1, ..Faults::default() },
        ..Line::default()
    }
}

#[test]
fn a_new_coupons_gate() {
    holds("new gate", new_gate());
}

#[test]
#[ignore = "takes minutes"]
fn a_new_coupons_gate_with_more_members() {
    let (start, calls) = (start(2, &[0, 1, 2]), vec![(0, 1), (1, 1), (2, 1)]);
    holds("new gate, deep", Line { start, calls, ..new_gate() });
}

/// A full comparison beside a zombie settler.
fn comparison() -> Line {
    Line {
        calls: vec![(0, 2), (1, 1)],
        settlers: 2,
        faults: Faults { refused: 1, unknown: 1, compare: 2, ..Faults::default() },
        ..Line::default()
    }
}

#[test]
fn a_full_comparison_and_two_settlers() {
    holds("comparison", comparison());
}

#[test]
fn a_comparison_of_a_frozen_replica_across_a_flush() {
    holds("frozen comparison", Line { faults: Faults { flush: 1, lease: 1, compare: 1, ..Faults::default() }, ..frozen() });
}

#[test]
fn corruption_is_repaired() {
    holds(
        "corruption",
        Line {
            start: start(2, &[0, 1, 2]),
            calls: vec![(0, 1), (1, 1)],
            faults: Faults { unknown: 1, corrupt: 2, ..Faults::default() },
            ..Line::default()
        },
    );
}

/// The total goes up and down.
fn operator() -> Line {
    Line {
        start: start(1, &[0, 1, 2]),
        calls: vec![(0, 1), (1, 1), (2, 1)],
        appended: vec![Rec::Total(2), Rec::Total(1)],
        ..Line::default()
    }
}

#[test]
fn an_operator_raises_and_lowers() {
    holds("operator", operator());
}

#[test]
#[ignore = "takes minutes"]
fn an_operator_raises_lowers_and_ends() {
    let (calls, appended) = (vec![(0, 2), (1, 2), (2, 1)], vec![Rec::Total(2), Rec::Total(1), Rec::End]);
    holds("operator, deep", Line { calls, appended, faults: Faults { unknown: 1, ..Faults::default() }, ..operator() });
}

#[test]
fn an_operator_cancels_and_ends() {
    holds(
        "cancel",
        Line {
            calls: vec![(0, 2), (1, 1)],
            appended: vec![Rec::Cancel(0), Rec::End],
            faults: Faults { unknown: 1, ..Faults::default() },
            ..Line::default()
        },
    );
}

#[test]
fn an_operator_cancels_and_redis_is_emptied() {
    holds(
        "cancel and flush",
        Line {
            calls: vec![(0, 2), (1, 1)],
            settlers: 2,
            appended: vec![Rec::Cancel(0)],
            faults: Faults { flush: 1, ..Faults::default() },
            ..Line::default()
        },
    );
}

#[test]
fn foreign_requests() {
    let foreign = |id| Rec::Ask { id, signed: false, life: NO_LIFE };
    holds(
        "foreign",
        Line {
            start: start(1, &[0, 1, 2, 0]),
            calls: vec![(0, 1), (1, 1)],
            appended: vec![foreign(2), foreign(3)],
            faults: Faults { unknown: 1, ..Faults::default() },
            ..Line::default()
        },
    );
}

/// A variant: of clients that send keys, a request which the gate calls sold out goes into the log unsigned, to learn whether it exists. There it
/// may overtake a reservation. The gateway asks the ledger instead, once it is decided up to the log's end.
fn keyed() -> Line {
    Line {
        keyed: true,
        calls: vec![(0, 2), (1, 2)],
        faults: Faults { unknown: 1, flush: 1, ..Faults::default() },
        ..Line::default()
    }
}

#[test]
fn keyed_requests_that_the_gate_calls_sold_out() {
    refuted("keyed", keyed(), KEPT);
}

/// A release that is on its way while the gate is lost and opened again, and the same client reserves again under the same id.
#[test]
fn a_release_that_comes_after_the_gate_was_lost() {
    let faults = Faults { refused: 1, flush: 1, ..Faults::default() };
    holds("late release", Line { calls: vec![(0, 1), (0, 1), (1, 1)], faults, ..Line::default() });
}

#[test]
fn what_is_left_alone_comes_to_rest() {
    for (name, line) in [("publish", publish()), ("flush", flush()), ("comparison", comparison())] {
        println!("{name}: no circle in {} states", never_circles(&line));
    }
}
