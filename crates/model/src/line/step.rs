//! What happens then.

use super::{Action, Call, Line, Load, Publish, State, Variant, actions::waits_to_be_told};
use crate::{
    fold::{NO_LIFE, Rec, bit},
    gate::{Gate, ReleaseRule, Reserved, SettleRule, Settled},
};

impl Line {
    pub(super) fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Ask(at) => self.ask(state, at),
            Action::AskAnswerLost(at) => {
                state.faults.reply_lost -= 1;
                let (id, _) = self.calls[usize::from(at)];
                let now = life(state);
                let _ = state.gate.reserve(state.run, self.owner(id), id, now);
                self.without_gate(state, at);
            }
            Action::AskUnreached(at) => {
                state.faults.unreached -= 1;
                self.without_gate(state, at);
            }
            Action::Produce(at, how) => self.produce(state, at, how),
            Action::Release(at) => {
                let Call::Releasing { id, life: made_in, tries } = state.calls[usize::from(at)] else { return };
                let rule = match self.variant {
                    Variant::ReleaseHanded => ReleaseRule::EvenHanded,
                    Variant::ReleaseByRequest => ReleaseRule::ByRequest,
                    _ => ReleaseRule::Exact,
                };
                state.gate.release(state.run, rule, self.owner(id), id, made_in);
                state.calls[usize::from(at)] = again(tries);
            }
            Action::Die(at) => {
                state.faults.killed -= 1;
                let (Call::Holding { tries, .. } | Call::Releasing { tries, .. }) = state.calls[usize::from(at)] else { return };
                state.calls[usize::from(at)] = again(tries);
            }
            Action::AppendLate(at) => {
                let rec = state.late.remove(usize::from(at));
                state.log.push(rec);
            }
            Action::Vanish(at) => {
                state.late.remove(usize::from(at));
            }
            Action::Decide => state.decided += 1,
            Action::Read(at) => {
                let settler = &mut state.settlers[usize::from(at)];
                settler.range = Some((settler.known, state.decided));
            }
            Action::Settle(at) => self.settle(state, usize::from(at)),
            Action::Shut(_) | Action::ReadEnd(_) | Action::Snapshot(_) | Action::Load(_) | Action::Open(_) => {
                self.load(state, action)
            }
            Action::HandOut(at, member) => {
                let pending = state.gate.pending[usize::from(member)];
                if pending.is_some_and(|pending| waits_to_be_told(state, pending.id)) {
                    state.faults.copies = state.faults.copies.saturating_sub(1);
                }
                if self.variant == Variant::RepairInRedisOnly {
                    if let Some(pending) = pending {
                        state.gate.release(state.run, ReleaseRule::EvenHanded, member, pending.id, pending.at);
                    }
                } else if let Some(id) = state.gate.hand_out(state.run, member) {
                    state.replicas[usize::from(at)].handed = Some((id, life(state)));
                }
            }
            Action::Republish(at, how) => {
                let Some((id, life)) = state.replicas[usize::from(at)].handed.take() else { return };
                publish(state, how, Rec::Ask { id, signed: true, life });
            }
            Action::Compare(at) => {
                state.faults.compare = state.faults.compare.saturating_sub(1);
                state.replicas[usize::from(at)].compared = Some(state.decided);
            }
            Action::Repair(at) => self.repair(state, usize::from(at)),
            Action::MoveLease => {
                state.faults.lease -= 1;
                state.lease = (state.lease + 1) % state.replicas.len() as u8;
            }
            Action::Flush => {
                state.faults.flush -= 1;
                state.gate = Gate::default();
            }
            Action::Save => {
                state.faults.save -= 1;
                state.file = state.gate.clone();
            }
            Action::Restart => self.restart(state),
            Action::Plant(member) => {
                state.faults.corrupt -= 1;
                state.gate.set |= bit(member);
            }
            Action::Lose(member) => {
                state.faults.corrupt -= 1;
                state.gate.set &= !bit(member);
            }
            Action::Append(at) => {
                state.appended |= bit(at);
                state.log.push(self.appended[usize::from(at)]);
            }
        }
    }

    fn ask(&self, state: &mut State, at: u8) {
        let at = usize::from(at);
        let Call::Ready(tries) = state.calls[at] else { return };
        let tries = tries - 1;
        let (id, _) = self.calls[at];
        let life = life(state);
        let hold = |id, signed, own, life| Call::Holding { id, signed, own, life, tries };
        let known = self.ledger(state).row(id).is_some();
        state.calls[at] = match state.gate.reserve(state.run, self.owner(id), id, life) {
            Reserved::Cold => return self.without_gate(state, at as u8),
            Reserved::Fresh => hold(id, true, true, life),
            Reserved::Existing(id) => hold(id, true, false, life),
            // His request is in the ledger, and he is told; else the gate names a holder whom only the log can know.
            Reserved::Issued if self.ledger(state).holders & bit(self.owner(id)) != 0 => Call::Done,
            Reserved::Issued => hold(id, false, false, NO_LIFE),
            Reserved::SoldOut if self.keyed && known => Call::Done,
            Reserved::SoldOut if self.keyed => hold(id, false, false, NO_LIFE),
            Reserved::SoldOut => again(tries),
            Reserved::Ended => Call::Done,
        };
    }

    /// The gate gave no answer.
    fn without_gate(&self, state: &mut State, at: u8) {
        let at = usize::from(at);
        let Call::Ready(tries) = state.calls[at] else { return };
        let tries = tries - 1;
        let (id, _) = self.calls[at];
        state.calls[at] =
            if self.fallback { Call::Holding { id, signed: false, own: false, life: NO_LIFE, tries } } else { again(tries) };
    }

    fn produce(&self, state: &mut State, at: u8, how: Publish) {
        let at = usize::from(at);
        let Call::Holding { id, signed, own, life, tries } = state.calls[at] else { return };
        publish(state, how, Rec::Ask { id, signed, life });
        let early = self.variant == Variant::AcceptUnacknowledged;
        if how == Publish::Acknowledged || early {
            state.accepted |= bit(id);
            if signed {
                state.promised[usize::from(id)] |= bit(life);
            }
            // Who answered early can only undo in the background.
            let undo = own && how == Publish::Refused;
            state.calls[at] = if undo { Call::Releasing { id, life, tries: 0 } } else { Call::Done };
            return;
        }
        let undo = how == Publish::Refused || self.variant == Variant::UndoOnTimeout;
        state.calls[at] = if own && undo { Call::Releasing { id, life, tries } } else { again(tries) };
    }

    fn settle(&self, state: &mut State, at: usize) {
        let Some((from, to)) = state.settlers[at].range.take() else { return };
        let ledger = self.ledger_at(state, to);
        let rule = match self.variant {
            Variant::SettleGaps => SettleRule::OnlyOlderRefused,
            Variant::SettleById => SettleRule::ById,
            _ => SettleRule::Exact,
        };
        // A range that is empty by what the settler believes is a question only.
        let settled = if from == to && from != state.gate.cursor && state.gate.open_here(state.run) {
            Settled::CursorAt(state.gate.cursor)
        } else {
            state.gate.settle(state.run, rule, from, to, &ledger)
        };
        state.settlers[at].known = match settled {
            Settled::CursorAt(cursor) => cursor,
            // A cold gate is opened by a snapshot, and says then where that stands.
            Settled::Moved | Settled::Cold => to,
        };
    }

    fn load(&self, state: &mut State, action: Action) {
        let (Action::Shut(at) | Action::ReadEnd(at) | Action::Snapshot(at) | Action::Load(at) | Action::Open(at)) = action else {
            return;
        };
        let at = usize::from(at);
        let run = state.run;
        state.replicas[at].load = match (action, state.replicas[at].load) {
            (Action::Shut(_), None) => {
                state.token += 1;
                state.shut_end = state.log.len() as u8;
                state.gate.begin_load(run, state.token).then_some(Load::Shut(state.token))
            }
            (Action::ReadEnd(_), Some(Load::Shut(token))) => Some(Load::Draining(token, state.log.len() as u8)),
            (Action::Snapshot(_), Some(Load::Draining(token, _))) => Some(Load::Loading(token, state.decided)),
            (Action::Load(_), Some(Load::Loading(token, snapshot))) => {
                let holders = self.ledger_at(state, snapshot).holders;
                state.gate.load(run, token, holders).then_some(Load::Loaded(token, snapshot))
            }
            (Action::Open(_), Some(Load::Loaded(token, snapshot))) => {
                let ledger = self.ledger_at(state, snapshot);
                if state.gate.open(run, token, snapshot, &ledger) {
                    state.lives.push(state.shut_end);
                }
                None
            }
            (_, load) => load,
        };
    }

    fn repair(&self, state: &mut State, at: usize) {
        let Some(snapshot) = state.replicas[at].compared.take() else { return };
        let holders = self.ledger_at(state, snapshot).holders;
        let unguarded = self.variant == Variant::RemoveBehind;
        for member in self.members() {
            if holders & bit(member) == 0 {
                state.gate.remove(state.run, member, snapshot, unguarded);
            } else {
                state.gate.add(state.run, member);
            }
        }
    }

    fn restart(&self, state: &mut State) {
        state.faults.restart -= 1;
        state.gate = state.file.clone();
        if self.variant != Variant::TrustOldFile {
            state.run += 1;
        }
        if state.faults.restart == 0 {
            // Nobody will read it any more.
            state.file = Gate::default();
            state.faults.save = 0;
        }
    }
}

const fn again(tries: u8) -> Call {
    if tries == 0 { Call::Done } else { Call::Ready(tries) }
}

/// The gate's present life.
fn life(state: &State) -> u8 {
    (state.lives.len() as u8).wrapping_sub(1)
}

fn publish(state: &mut State, how: Publish, rec: Rec) {
    match how {
        Publish::Acknowledged => state.log.push(rec),
        Publish::Refused => state.faults.refused -= 1,
        Publish::AnswerLost => {
            state.faults.unknown -= 1;
            state.log.push(rec);
        }
        Publish::TimedOut => {
            state.faults.unknown -= 1;
            state.late.push(rec);
            state.late.sort_unstable();
        }
    }
}
