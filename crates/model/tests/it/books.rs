//! The database from within.

use model::{
    books::{Books, C1, C6, Count, Position},
    check::{holds, never_circles, refuted},
    fold::{Rec, Start},
};

const fn ask(id: u8) -> Rec {
    Rec::Ask { id, signed: true, life: 0 }
}

/// Two seats, three members, one of them twice; and a repeat of the first request.
fn books() -> Books {
    Books {
        start: Start { total: 2, owners: vec![0, 1, 0, 2] },
        log: vec![ask(0), ask(2), ask(1), ask(0), ask(3)],
        position: Position::First,
        count: Count::Locked,
        counts: 2,
        kills: 1,
        lost: 1,
    }
}

#[test]
fn position_first_and_counting_under_the_lock_hold() {
    assert!(holds("books", books()).states > 1_000);
    never_circles(&Books { log: vec![ask(0), ask(1)], ..books() });
}

#[test]
fn moving_the_position_last_is_refuted() {
    let last = || Books { position: Position::Last, counts: 0, kills: 0, lost: 0, ..books() };
    refuted("moving the position last", last(), C1);
    refuted("moving the position last", last(), C6);
}

#[test]
fn moving_the_position_last_by_compare_and_set_costs_work_but_breaks_nothing() {
    holds("position last, compared", Books { position: Position::LastCompared, ..books() });
}

#[test]
fn counting_before_locking_is_refuted() {
    refuted("counting before locking", Books { count: Count::Unlocked, kills: 0, lost: 0, ..books() }, C1);
}
