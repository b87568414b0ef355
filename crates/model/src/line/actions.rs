//! What may happen next.

use super::{Call, Line, Load, State, Variant};
use crate::{
    fold::{Member, Rec, bit},
    gate::GateState,
};

/// What becomes of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Publish {
    /// Appended, and the acknowledgement arrives.
    Acknowledged,
    /// It never reached a broker.
    Refused,
    /// Appended; the acknowledgement is lost.
    AnswerLost,
    /// Some broker has it and may append it later. The caller times out.
    TimedOut,
}

/// One step. Calls, settlers and replicas are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A call asks the gate (`intake/admit.rs`, `reserve.lua`).
    Ask(u8),
    /// The same; the script runs and its answer is lost.
    AskAnswerLost(u8),
    /// The same; Redis is not reached.
    AskUnreached(u8),
    /// A call produces its record (`append.rs`).
    Produce(u8, Publish),
    /// A call takes its reservation back (`release.lua`).
    Release(u8),
    /// A gateway dies with a call in its hands.
    Die(u8),
    /// A broker appends a record that somebody has long given up.
    AppendLate(u8),
    /// A record that timed out was never written.
    Vanish(u8),
    /// The consumer decides the next record (`store/mod.rs`; [`crate::books`] has the inside).
    Decide,
    /// A settler reads what was told since the cursor it knows (`settler.rs`, `ledger.rs`).
    Read(u8),
    /// A settler sends what it read (`settle.lua`).
    Settle(u8),
    /// A replica finds the gate cold and shuts it (`gates.rs`, `begin_load.lua`).
    Shut(u8),
    /// A replica reads the partition's end.
    ReadEnd(u8),
    /// A replica finds the partition decided and takes a snapshot (`load.rs`).
    Snapshot(u8),
    /// A replica loads the members (`load.lua`).
    Load(u8),
    /// A replica opens the gate (`open.lua`).
    Open(u8),
    /// A replica takes the reservation of a member to publish it (`pending.rs`, `pending_older_than.lua`).
    HandOut(u8, Member),
    /// A replica publishes what it was handed.
    Republish(u8, Publish),
    /// A replica takes a snapshot for the full comparison.
    Compare(u8),
    /// A replica repairs what the comparison found (`add`, `remove`).
    Repair(u8),
    /// The replica that has the lease is frozen; another one gets it.
    MoveLease,
    /// Redis loses everything.
    Flush,
    /// Redis writes its file.
    Save,
    /// Redis restarts with its file.
    Restart,
    /// A member turns up in the gate's set.
    Plant(Member),
    /// A member without a reservation vanishes from the gate's set.
    Lose(Member),
    /// An operator or a foreign producer appends.
    Append(u8),
}

impl Line {
    /// What the line itself has yet to do, all parts being up. Where there is nothing of it, the line is at rest.
    pub(super) fn work(&self, state: &State, actions: &mut Vec<Action>) {
        for (call, at) in state.calls.iter().zip(0..) {
            match call {
                Call::Holding { .. } => actions.push(Action::Produce(at, Publish::Acknowledged)),
                Call::Releasing { .. } => actions.push(Action::Release(at)),
                Call::Ready(_) | Call::Done => {}
            }
        }
        for at in 0..state.late.len() as u8 {
            actions.extend([Action::AppendLate(at), Action::Vanish(at)]);
        }
        if usize::from(state.decided) < state.log.len() {
            actions.push(Action::Decide);
        }
        let open = state.gate.open_here(state.run);
        for (settler, at) in state.settlers.iter().zip(0..) {
            if settler.range.is_some() {
                actions.push(Action::Settle(at));
            } else if settler.known < state.decided || (open && state.gate.cursor < state.decided) {
                actions.push(Action::Read(at));
            }
        }
        for at in 0..state.replicas.len() as u8 {
            self.replica(state, at, actions);
        }
    }

    fn replica(&self, state: &State, at: u8, actions: &mut Vec<Action>) {
        let replica = &state.replicas[usize::from(at)];
        let leads = state.lease == at;
        let open = state.gate.open_here(state.run);
        match replica.load {
            None if leads && !open => actions.push(Action::Shut(at)),
            None => {}
            Some(Load::Shut(_)) => actions.push(Action::ReadEnd(at)),
            Some(Load::Draining(_, end)) if state.decided >= end || self.variant == Variant::OpenUndrained => {
                actions.push(Action::Snapshot(at));
            }
            Some(Load::Draining(..)) => {}
            Some(Load::Loading(..)) => actions.push(Action::Load(at)),
            Some(Load::Loaded(..)) => actions.push(Action::Open(at)),
        }
        if replica.handed.is_some() {
            actions.push(Action::Republish(at, Publish::Acknowledged));
        } else if leads && open {
            for member in self.members() {
                let waits = state.gate.pending[usize::from(member)];
                if waits.is_some_and(|pending| state.faults.copies > 0 || !waits_to_be_told(state, pending.id)) {
                    actions.push(Action::HandOut(at, member));
                }
            }
        }
        if replica.compared.is_some() {
            actions.push(Action::Repair(at));
        } else if leads && open && self.differs(state) {
            actions.push(Action::Compare(at));
        }
    }

    /// Sizes disagree while nothing is on its way; only corruption brings that about, and only where it is allowed the model repairs it.
    fn differs(&self, state: &State) -> bool {
        let settled = self.members().filter(|member| state.gate.pending[usize::from(*member)].is_none());
        let settled = settled.fold(0, |mask, member| mask | bit(member)) & state.gate.set;
        self.faults.corrupt > 0 && state.gate.cursor == state.decided && settled != self.ledger(state).holders
    }

    /// What members, operators and the world may do.
    pub(super) fn events(&self, state: &State, actions: &mut Vec<Action>) {
        let faults = &state.faults;
        for (call, at) in state.calls.iter().zip(0..) {
            match call {
                Call::Ready(_) => {
                    actions.push(Action::Ask(at));
                    if faults.reply_lost > 0 && state.gate.open_here(state.run) {
                        actions.push(Action::AskAnswerLost(at));
                    }
                    if faults.unreached > 0 {
                        actions.push(Action::AskUnreached(at));
                    }
                }
                Call::Holding { .. } => {
                    failures(state, |how| Action::Produce(at, how), actions);
                    if faults.killed > 0 {
                        actions.push(Action::Die(at));
                    }
                }
                Call::Releasing { .. } if faults.killed > 0 => actions.push(Action::Die(at)),
                Call::Releasing { .. } | Call::Done => {}
            }
        }
        for (replica, at) in state.replicas.iter().zip(0..) {
            if replica.handed.is_some() {
                failures(state, |how| Action::Republish(at, how), actions);
            }
            let may_compare = state.lease == at && state.gate.open_here(state.run) && replica.compared.is_none();
            if faults.compare > 0 && may_compare && !self.differs(state) {
                actions.push(Action::Compare(at));
            }
        }
        if faults.lease > 0 && state.replicas.len() > 1 {
            actions.push(Action::MoveLease);
        }
        if faults.flush > 0 && state.gate.state != GateState::Absent {
            actions.push(Action::Flush);
        }
        if faults.save > 0 && faults.restart > 0 && state.file != state.gate {
            actions.push(Action::Save);
        }
        if faults.restart > 0 {
            actions.push(Action::Restart);
        }
        if faults.corrupt > 0 && state.gate.open_here(state.run) {
            for member in self.members() {
                let held = state.gate.set & bit(member) != 0;
                let pending = state.gate.pending[usize::from(member)].is_some();
                match (held, pending) {
                    (false, _) => actions.push(Action::Plant(member)),
                    (true, false) => actions.push(Action::Lose(member)),
                    (true, true) => {}
                }
            }
        }
        for at in 0..self.appended.len() as u8 {
            if state.appended & bit(at) == 0 {
                actions.push(Action::Append(at));
            }
        }
    }
}

fn failures(state: &State, action: impl Fn(Publish) -> Action, actions: &mut Vec<Action>) {
    if state.faults.refused > 0 {
        actions.push(action(Publish::Refused));
    }
    if state.faults.unknown > 0 {
        actions.extend([action(Publish::AnswerLost), action(Publish::TimedOut)]);
    }
}

/// A settler will come by this id yet.
pub(super) fn waits_to_be_told(state: &State, id: u8) -> bool {
    state.log[usize::from(state.gate.cursor)..]
        .iter()
        .any(|rec| matches!(rec, Rec::Ask { id: asked, .. } | Rec::Cancel(asked) if *asked == id))
}
