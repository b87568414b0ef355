//! The whole line: members, gate, log, fold, settlers, reconcilers, and what may befall them.

mod actions;
mod properties;
mod step;

use std::rc::Rc;

use stateright::{Model, Property};

pub use self::{
    actions::{Action, Publish},
    properties::{C1, C2, C3, C4, C5, C7, KEPT, SOLD_ONCE},
};
use crate::{
    fold::{Id, Ledger, Mask, Member, Rec, Start, ledger},
    gate::Gate,
};

/// What of the protocol is done otherwise. All but the first have to be refuted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Variant {
    /// The protocol.
    #[default]
    AsWritten,
    /// A reservation whose publish timed out is taken back.
    UndoOnTimeout,
    /// An old reservation is taken out of Redis instead of published again.
    RepairInRedisOnly,
    /// A gate is loaded before the log is decided up to its end.
    OpenUndrained,
    /// 202 before the log's acknowledgement.
    AcceptUnacknowledged,
    /// A settle script that refuses only older cursors.
    SettleGaps,
    /// A settle script that looks for the reservation's id instead of the member.
    SettleById,
    /// A full comparison that removes without looking at the cursor.
    RemoveBehind,
    /// A release that takes back what others were handed.
    ReleaseHanded,
    /// A release that names the request, and not the reservation of one moment.
    ReleaseByRequest,
    /// A gate that trusts what a restart brought back.
    TrustOldFile,
}

/// How often each thing may still befall the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Faults {
    /// A publish is refused before it could reach a broker.
    pub refused: u8,
    /// A publish's answer is lost, whether it was written, is written later, or never.
    pub unknown: u8,
    /// A gateway dies between the gate and the log, or before it took a reservation back.
    pub killed: u8,
    /// The gate's answer is lost after the script ran.
    pub reply_lost: u8,
    /// The gate cannot be reached.
    pub unreached: u8,
    /// Redis loses everything.
    pub flush: u8,
    /// Redis writes its file.
    pub save: u8,
    /// Redis restarts with its file as old as it is, and with nothing if there is none.
    pub restart: u8,
    /// A reconciler is frozen past its lease.
    pub lease: u8,
    /// A reservation is published again although its record only waits to be decided.
    pub copies: u8,
    /// A full comparison is begun.
    pub compare: u8,
    /// A member comes into the set, or goes out of it, against all rules.
    pub corrupt: u8,
}

/// One configuration of the line.
#[derive(Debug, Clone)]
pub struct Line {
    /// The coupon.
    pub start: Start,
    /// Calls of members: the id they come with, and how often they ask. Two calls with one id are a client's repeats at two gateways.
    pub calls: Vec<(Id, u8)>,
    /// The coupon's gate is open at the beginning; else it is new and has to be opened.
    pub opened: bool,
    /// Requests go into the log unsigned while the gate gives no answer.
    pub fallback: bool,
    /// A variant: a request that the gate calls sold out is appended, to learn whether it exists.
    pub keyed: bool,
    /// Settlers: one, or one and a zombie.
    pub settlers: usize,
    /// Replicas of the reconciler.
    pub replicas: usize,
    /// What may befall it.
    pub faults: Faults,
    /// What an operator or a foreign producer appends, each at most once, in any order and at any time.
    pub appended: Vec<Rec>,
    /// What is done otherwise.
    pub variant: Variant,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            start: Start { total: 1, owners: vec![0, 1] },
            calls: vec![(0, 1), (1, 1)],
            opened: true,
            fallback: false,
            keyed: false,
            settlers: 1,
            replicas: 1,
            faults: Faults::default(),
            appended: Vec::new(),
            variant: Variant::AsWritten,
        }
    }
}

/// Where a call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// It may ask so many times more.
    Ready(u8),
    /// The gate answered; the record is about to be produced.
    Holding {
        /// Under which id.
        id: Id,
        /// Signed as admitted.
        signed: bool,
        /// This very call made the reservation.
        own: bool,
        /// In which life of the gate. It stands for the moment of the reservation, too: one that is made in another life is another one.
        life: u8,
        /// How often it may ask after this time.
        tries: u8,
    },
    /// The publish was refused; the reservation is about to be taken back.
    Releasing {
        /// Which.
        id: Id,
        /// In which life of the gate it was made, which stands for the moment.
        life: u8,
        /// How often it may ask after this time.
        tries: u8,
    },
    /// It has its answer, or gave up.
    Done,
}

/// A settler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Settler {
    /// Where it believes the gate to stand.
    pub known: u8,
    /// A range that it read from the ledger and is about to send; its end is the decided position when it was read.
    pub range: Option<(u8, u8)>,
}

/// How far a load is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Load {
    /// The gate was shut under this token.
    Shut(u8),
    /// The partition's end was read.
    Draining(u8, u8),
    /// One snapshot of the database, at this position, is being loaded.
    Loading(u8, u8),
    /// All members are loaded.
    Loaded(u8, u8),
}

/// A replica of the reconciler. Its parts are tasks of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Replica {
    /// The cold gate that it loads.
    pub load: Option<Load>,
    /// A reservation that it was handed and is about to publish, with the life of its gate.
    pub handed: Option<(Id, u8)>,
    /// The position of the snapshot that it compares with.
    pub compared: Option<u8>,
}

/// The line at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The log.
    pub log: Vec<Rec>,
    /// The decided position. The database is the fold of the log up to here.
    pub decided: u8,
    /// Redis.
    pub gate: Gate,
    /// Redis' file.
    pub file: Gate,
    /// Redis' run id.
    pub run: u8,
    /// The last token.
    pub token: u8,
    /// Calls.
    pub calls: Vec<Call>,
    /// Records that a broker got and may append yet; sorted.
    pub late: Vec<Rec>,
    /// Settlers.
    pub settlers: Vec<Settler>,
    /// Replicas.
    pub replicas: Vec<Replica>,
    /// Which replica has the lease.
    pub lease: u8,
    /// What may befall it yet.
    pub faults: Faults,
    /// Which of [`Line::appended`] were appended.
    pub appended: Mask,
    /// Ids that were answered 202.
    pub accepted: Mask,
    /// For each id, the lives of the gate in which a signed copy of it was answered 202.
    pub promised: Vec<Mask>,
    /// The log's end when the gate was last shut.
    pub shut_end: u8,
    /// For each life of the gate, the log's end when it was shut before.
    pub lives: Vec<u8>,
}

impl Line {
    /// The database.
    #[must_use]
    pub fn ledger(&self, state: &State) -> Rc<Ledger> {
        self.ledger_at(state, state.decided)
    }

    /// The database as a snapshot at a position.
    #[must_use]
    pub fn ledger_at(&self, state: &State, position: u8) -> Rc<Ledger> {
        ledger(&self.start, &state.log[..usize::from(position)])
    }

    pub(crate) fn owner(&self, id: Id) -> Member {
        self.start.owners[usize::from(id)]
    }

    pub(crate) fn members(&self) -> std::ops::Range<Member> {
        0..self.start.owners.iter().max().map_or(0, |last| last + 1)
    }
}

impl Model for Line {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let gate = if self.opened { Gate::opened(0, self.start.total) } else { Gate::default() };
        vec![State {
            log: Vec::new(),
            decided: 0,
            gate,
            file: Gate::default(),
            run: 0,
            token: 0,
            calls: self.calls.iter().map(|(_, tries)| Call::Ready(*tries)).collect(),
            late: Vec::new(),
            settlers: vec![Settler::default(); self.settlers],
            replicas: vec![Replica::default(); self.replicas],
            lease: 0,
            faults: self.faults,
            appended: 0,
            accepted: 0,
            promised: vec![0; self.start.owners.len()],
            shut_end: 0,
            lives: if self.opened { vec![0] } else { Vec::new() },
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.work(state, actions);
        self.events(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.step(&mut next, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}
