//! What has to hold.

use stateright::Property;

use super::{Line, State};
use crate::fold::{Id, Verdict, bit};

/// issued ≤ total, and the counter counts.
pub const C1: &str = "C1 no more issued than seats";
/// One issue a member.
pub const C2: &str = "C2 one issue a member";
/// An outcome never changes, whatever is appended behind it.
pub const C3: &str = "C3 an outcome never changes";
/// At rest, each request that was answered 202 has an outcome.
pub const C4: &str = "C4 an accepted request ends";
/// At rest, the gate offers exactly the seats that the ledger has left.
pub const C5: &str = "C5 no seat leaks";
/// At rest, Redis says what PostgreSQL says.
pub const C7: &str = "C7 the gate says what the ledger says";
/// A reservation that was answered 202 is sold out only for a reason that the protocol names.
pub const SOLD_ONCE: &str = "no seat is sold twice";
/// The same, allowing no reason at all while nothing befell the line.
pub const KEPT: &str = "undisturbed, a promised seat is kept";

pub(super) fn all() -> Vec<Property<Line>> {
    vec![
        Property::always(C1, |line: &Line, state: &State| {
            let ledger = line.ledger(state);
            let counted = ledger.rows.iter().filter(|row| row.verdict == Verdict::Issued).count();
            ledger.issued <= ledger.total && usize::from(ledger.issued) == counted
        }),
        Property::always(C2, |line: &Line, state: &State| {
            let ledger = line.ledger(state);
            let issues = ledger.rows.iter().filter(|row| row.verdict == Verdict::Issued).count();
            issues == ledger.holders.count_ones() as usize
        }),
        Property::always(C3, |line: &Line, state: &State| {
            let later = line.ledger_at(state, state.log.len() as u8);
            line.ledger(state).rows.iter().zip(&later.rows).all(|(row, then)| {
                (row.id, row.member, row.place, row.verdict) == (then.id, then.member, then.place, then.verdict)
            })
        }),
        Property::always(C4, |line: &Line, state: &State| {
            !at_rest(line, state) || ids(line).all(|id| state.accepted & bit(id) == 0 || line.ledger(state).row(id).is_some())
        }),
        Property::always(C5, |line: &Line, state: &State| {
            let ledger = line.ledger(state);
            !at_rest(line, state) || (state.gate.open_here(state.run) && state.gate.left() == ledger.total - ledger.issued)
        }),
        Property::always(C7, |line: &Line, state: &State| !at_rest(line, state) || agrees(line, state)),
        Property::always(SOLD_ONCE, |line: &Line, state: &State| ids(line).all(|id| !sold_twice(line, state, id))),
        Property::always(KEPT, |line: &Line, state: &State| {
            // A new coupon's gate is cold before it first opens, and what comes then goes past it.
            let disturbed = state.faults != line.faults || state.appended != 0 || !line.opened;
            disturbed
                || ids(line).all(|id| {
                    let refused = line.ledger(state).row(id).is_some_and(|row| row.verdict == Verdict::SoldOut);
                    state.promised[usize::from(id)] == 0 || !refused
                })
        }),
        Property::sometimes("every seat is given, and the line at rest", |line: &Line, state: &State| {
            let ledger = line.ledger(state);
            ledger.issued > 0 && ledger.issued == ledger.total && at_rest(line, state)
        }),
        Property::sometimes("what may befall the line befell it, and it is at rest", |line: &Line, state: &State| {
            let faults = &state.faults;
            faults.flush + faults.restart + faults.unknown + faults.corrupt == 0 && at_rest(line, state)
        }),
    ]
}

fn ids(line: &Line) -> std::ops::Range<Id> {
    0..line.start.owners.len() as Id
}

/// Nothing is left to do, all parts being up: whoever waits waits in vain. No order of events goes round in circles (a test holds that), so
/// that every run that is left alone comes here.
fn at_rest(line: &Line, state: &State) -> bool {
    let mut work = Vec::new();
    line.work(state, &mut work);
    work.is_empty()
}

fn agrees(line: &Line, state: &State) -> bool {
    let (gate, ledger) = (&state.gate, line.ledger(state));
    gate.open_here(state.run)
        && gate.cursor == state.decided
        && gate.set == ledger.holders
        && gate.pending.iter().all(Option::is_none)
        && gate.total == ledger.total
        && gate.ended == ledger.ended
}

/// A request that a gate admitted and the log acknowledged was refused as sold out, and every seat before it had gone to somebody whom that
/// very gate admitted, or had to know when it was opened. Not so where something else came before it in the log: a request that another life
/// of the gate admitted, or none; a lower total; an end.
fn sold_twice(line: &Line, state: &State, id: Id) -> bool {
    let promised = state.promised[usize::from(id)];
    if promised == 0 {
        return false;
    }
    let ledger = line.ledger(state);
    let Some(refused) = ledger.row(id).filter(|row| row.verdict == Verdict::SoldOut) else { return false };
    let excused = |life: u8| {
        let others = ledger.rows.iter().filter(|row| row.verdict == Verdict::Issued && row.place < refused.place);
        ledger.lowered.is_some_and(|at| at < refused.place)
            || state.faults.corrupt < line.faults.corrupt
            || others.clone().any(|row| {
                let admitted = match state.log[usize::from(row.place)] {
                    crate::fold::Rec::Ask { life, .. } => life,
                    _ => return true,
                };
                admitted != life && row.place >= state.lives[usize::from(life)]
            })
    };
    (0..state.lives.len() as u8).any(|life| promised & bit(life) != 0 && !excused(life))
}
