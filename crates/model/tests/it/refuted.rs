//! What the protocol rejects is refuted, each by the shortest trace there is.

use model::{
    check::refuted,
    line::{C4, C5, C7, Faults, Line, SOLD_ONCE, Variant},
};

fn variant(variant: Variant, faults: Faults) -> Line {
    Line { variant, faults, ..Line::default() }
}

#[test]
fn undoing_on_a_timeout() {
    refuted("undoing on a time-out", variant(Variant::UndoOnTimeout, Faults { unknown: 1, ..Faults::default() }), SOLD_ONCE);
}

#[test]
fn repairing_only_in_redis() {
    let faults = Faults { copies: 1, ..Faults::default() };
    refuted("repairing only in Redis", variant(Variant::RepairInRedisOnly, faults), SOLD_ONCE);
}

#[test]
fn reopening_before_the_log_is_drained() {
    let faults = Faults { flush: 1, ..Faults::default() };
    refuted("reopening before the log is drained", variant(Variant::OpenUndrained, faults), SOLD_ONCE);
}

#[test]
fn accepting_without_an_acknowledgement() {
    let faults = Faults { refused: 1, ..Faults::default() };
    refuted("202 without an acknowledgement", variant(Variant::AcceptUnacknowledged, faults), C4);
}

#[test]
fn a_settle_script_that_only_refuses_older_cursors() {
    let faults = Faults { flush: 1, ..Faults::default() };
    refuted("settling over a gap", variant(Variant::SettleGaps, faults), C7);
    let faults = Faults { flush: 1, ..Faults::default() };
    refuted("settling over a gap", variant(Variant::SettleGaps, faults), C5);
}

#[test]
fn settling_by_id() {
    let line =
        || Line { fallback: true, ..variant(Variant::SettleById, Faults { reply_lost: 1, flush: 1, ..Faults::default() }) };
    refuted("settling by id", line(), C7);
    refuted("settling by id", line(), C5);
}

#[test]
fn removing_by_a_snapshot_behind_the_gate() {
    let faults = Faults { compare: 1, ..Faults::default() };
    refuted("removing by an older snapshot", variant(Variant::RemoveBehind, faults), SOLD_ONCE);
    refuted("removing by an older snapshot", variant(Variant::RemoveBehind, faults), C7);
}

#[test]
fn releasing_what_others_were_handed() {
    let line = Line {
        calls: vec![(0, 1), (0, 1), (1, 1)],
        ..variant(Variant::ReleaseHanded, Faults { refused: 1, ..Faults::default() })
    };
    refuted("releasing what others were handed", line, SOLD_ONCE);
}

#[test]
fn a_release_that_names_only_the_request() {
    let faults = Faults { refused: 1, flush: 1, ..Faults::default() };
    let line = Line { calls: vec![(0, 1), (0, 1), (1, 1)], ..variant(Variant::ReleaseByRequest, faults) };
    refuted("releasing by request", line, SOLD_ONCE);
}

#[test]
fn trusting_an_old_file() {
    let faults = Faults { save: 1, restart: 1, ..Faults::default() };
    refuted("trusting an old file", variant(Variant::TrustOldFile, faults), SOLD_ONCE);
}
