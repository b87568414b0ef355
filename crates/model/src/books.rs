//! The database from within: what transactions of two consumers and of the count see of each other under READ COMMITTED.
//!
//! [`crate::line`] takes a batch for one atomic step, and the database for a function of the log. This model is why it may.

use std::collections::{HashMap, HashSet};

use stateright::{Model, Property};

use crate::fold::{Id, Mask, Rec, Row, Start, Verdict, bit, fold, fold_into, fold_state, member_id, request_id};

/// When a deciding transaction moves the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Position {
    /// Before it reads anything, by compare-and-set.
    First,
    /// Behind everything else, unconditionally; rows that exist are left as they are.
    Last,
    /// Behind everything else, by compare-and-set.
    LastCompared,
}

/// When the count looks at the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Count {
    /// In a statement of its own behind the coupon row's lock.
    Locked,
    /// Before it locks.
    Unlocked,
}

/// One configuration.
#[derive(Debug, Clone)]
pub struct Books {
    /// The coupon.
    pub start: Start,
    /// The log; all of it is there from the beginning.
    pub log: Vec<Rec>,
    /// When the position moves.
    pub position: Position,
    /// When the count looks.
    pub count: Count,
    /// How many counts run.
    pub counts: u8,
    /// How often a consumer may be killed.
    pub kills: u8,
    /// How often the answer to a COMMIT may be lost.
    pub lost: u8,
}

/// How far a consumer's transaction is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Between two batches.
    Idle,
    /// The position is moved, not yet committed; its row is locked.
    Moved,
    /// The coupon's row was read: seats given.
    Coupon(u8),
    /// Ids and holders were read as well.
    Known(u8, Mask, Mask),
    /// Rows and the coupon's row are written, not yet committed.
    Written(Vec<Row>, u8),
    /// The answer to COMMIT is lost.
    Perhaps,
    /// It found that somebody else decides.
    Stopped,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Consumer {
    /// Where it believes the decided position to be.
    pub at: u8,
    /// Where its batch ends.
    pub to: u8,
    /// How far it is.
    pub step: Step,
}

/// How far a count is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counting {
    /// Not begun.
    Idle,
    /// It holds the row's lock.
    Locked,
    /// It counted before it locked.
    Counted(u8),
    /// It counted, and holds the lock.
    Both(u8),
}

/// Who holds a lock: a consumer, or the count.
pub const COUNT: u8 = 9;

/// The database and who works on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// Committed rows, in the order of their commits.
    pub rows: Vec<Row>,
    /// `coupon.issued_quantity`.
    pub issued: u8,
    /// `consumer_position.next_offset`.
    pub position: u8,
    /// The position row's lock.
    pub position_lock: Option<u8>,
    /// The coupon row's lock.
    pub coupon_lock: Option<u8>,
    /// Consumers that each believe the partition to be theirs.
    pub consumers: [Consumer; 2],
    /// The count.
    pub counting: Counting,
    /// Counts to come.
    pub counts: u8,
    /// Kills to come.
    pub kills: u8,
    /// Lost answers to come.
    pub lost: u8,
    /// An outcome was replaced by another one.
    pub changed: bool,
}

/// One statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A consumer begins a batch of so many records.
    Begin(u8, u8),
    /// It reads the coupon's row.
    ReadCoupon(u8),
    /// It reads ids and holders.
    ReadKnown(u8),
    /// It decides and writes.
    Write(u8),
    /// It commits and learns of it.
    Commit(u8),
    /// It commits and does not learn of it.
    CommitUnheard(u8),
    /// It looks what became of its COMMIT.
    LookUp(u8),
    /// It is killed, at any point, and starts at the decided position.
    Kill(u8),
    /// It stopped, and the partition is given to it again.
    Reopen(u8),
    /// The count locks the coupon's row.
    Lock,
    /// The count counts.
    CountRows,
    /// The count writes what it counted, and commits.
    Repair,
}

impl Books {
    fn len(&self) -> u8 {
        self.log.len() as u8
    }

    fn next(&self, state: &State, who: u8, actions: &mut Vec<Action>) {
        let consumer = &state.consumers[usize::from(who)];
        let mine = |lock: Option<u8>| lock.is_none_or(|holder| holder == who);
        match &consumer.step {
            Step::Idle if consumer.at < self.len() => {
                // A compare-and-set on a locked row waits.
                if self.position != Position::First || mine(state.position_lock) {
                    actions.extend((1..=self.len() - consumer.at).map(|records| Action::Begin(who, records)));
                }
            }
            Step::Idle => {}
            Step::Moved => {
                if self.position != Position::First || mine(state.coupon_lock) {
                    actions.push(Action::ReadCoupon(who));
                }
            }
            Step::Coupon(_) => actions.push(Action::ReadKnown(who)),
            Step::Known(..) => {
                if mine(state.coupon_lock) {
                    actions.push(Action::Write(who));
                }
            }
            Step::Written(..) => {
                actions.push(Action::Commit(who));
                if state.lost > 0 {
                    actions.push(Action::CommitUnheard(who));
                }
            }
            Step::Perhaps => actions.push(Action::LookUp(who)),
            Step::Stopped => {
                if state.position < self.len() {
                    actions.push(Action::Reopen(who));
                }
            }
        }
        if state.kills > 0 && !matches!(consumer.step, Step::Stopped) {
            actions.push(Action::Kill(who));
        }
    }

    fn counting(&self, state: &State, actions: &mut Vec<Action>) {
        let free = state.coupon_lock.is_none();
        match (state.counting, self.count) {
            (Counting::Idle, Count::Locked) if state.counts > 0 && free => actions.push(Action::Lock),
            (Counting::Idle, Count::Unlocked) if state.counts > 0 => actions.push(Action::CountRows),
            (Counting::Locked, _) => actions.push(Action::CountRows),
            (Counting::Counted(_), _) if free => actions.push(Action::Lock),
            (Counting::Both(_), _) => actions.push(Action::Repair),
            _ => {}
        }
    }

    fn statement(&self, state: &mut State, who: u8, action: Action) {
        let index = usize::from(who);
        let step = state.consumers[index].step.clone();
        let next = match (action, step) {
            (Action::Begin(_, records), _) => {
                let at = state.consumers[index].at;
                state.consumers[index].to = at + records;
                if self.position == Position::First && state.position != at {
                    Step::Stopped
                } else {
                    if self.position == Position::First {
                        state.position_lock = Some(who);
                    }
                    Step::Moved
                }
            }
            (Action::ReadCoupon(_), _) => {
                if self.position == Position::First {
                    state.coupon_lock = Some(who);
                }
                Step::Coupon(state.issued)
            }
            (Action::ReadKnown(_), Step::Coupon(issued)) => {
                let decided = state.rows.iter().fold(0, |mask, row| mask | bit(row.id));
                let issues = state.rows.iter().filter(|row| row.verdict == Verdict::Issued);
                Step::Known(issued, decided, issues.fold(0, |mask, row| mask | bit(row.id)))
            }
            (Action::Write(_), Step::Known(issued, decided, issues)) => {
                state.coupon_lock = Some(who);
                let (from, to) = (state.consumers[index].at, state.consumers[index].to);
                let (rows, issued) = self.decide(issued, decided, issues, from, to);
                Step::Written(rows, issued)
            }
            (Action::Commit(_) | Action::CommitUnheard(_), Step::Written(rows, issued)) => {
                let heard = matches!(action, Action::Commit(_));
                self.commit(state, who, rows, issued, heard)
            }
            (Action::LookUp(_), _) => {
                if state.position == state.consumers[index].to {
                    state.consumers[index].at = state.position;
                    Step::Idle
                } else {
                    Step::Stopped
                }
            }
            (Action::Kill(_), _) => {
                state.kills -= 1;
                self.unlock(state, who);
                state.consumers[index].at = state.position;
                Step::Idle
            }
            (Action::Reopen(_), _) => {
                state.consumers[index].at = state.position;
                Step::Idle
            }
            (_, step) => step,
        };
        let consumer = &mut state.consumers[index];
        if matches!(next, Step::Idle | Step::Stopped) {
            consumer.to = consumer.at;
        }
        consumer.step = next;
    }

    fn decide(&self, issued: u8, decided: Mask, issues: Mask, from: u8, to: u8) -> (Vec<Row>, u8) {
        let ids = || 0..self.start.owners.len() as Id;
        let owner = |id: Id| member_id(self.start.owners[usize::from(id)]);
        let known: HashSet<_> = ids().filter(|id| decided & bit(*id) != 0).map(request_id).collect();
        let held: HashMap<_, _> = ids().filter(|id| issues & bit(*id) != 0).map(|id| (owner(id), request_id(id))).collect();
        let mut state = fold_state(self.start.total, issued, known, held);
        let recs = &self.log[usize::from(from)..usize::from(to)];
        let (rows, _, issued) = fold_into(&mut state, &self.start, usize::from(from), recs);
        (rows, issued)
    }

    fn unlock(&self, state: &mut State, who: u8) {
        for lock in [&mut state.position_lock, &mut state.coupon_lock] {
            if *lock == Some(who) {
                *lock = None;
            }
        }
    }

    fn commit(&self, state: &mut State, who: u8, rows: Vec<Row>, issued: u8, heard: bool) -> Step {
        let index = usize::from(who);
        self.unlock(state, who);
        if self.position == Position::LastCompared && state.position != state.consumers[index].at {
            return Step::Stopped;
        }
        for row in rows {
            match state.rows.iter().find(|known| known.id == row.id) {
                // ON CONFLICT DO NOTHING, of an order that needs it: somebody was told another outcome in between.
                Some(known) => state.changed |= known.verdict != row.verdict,
                None => state.rows.push(row),
            }
        }
        state.issued = issued;
        state.position = state.consumers[index].to;
        if heard {
            state.consumers[index].at = state.position;
            Step::Idle
        } else {
            state.lost -= 1;
            Step::Perhaps
        }
    }
}

impl Model for Books {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let consumer = Consumer { at: 0, to: 0, step: Step::Idle };
        vec![State {
            rows: Vec::new(),
            issued: 0,
            position: 0,
            position_lock: None,
            coupon_lock: None,
            consumers: [consumer.clone(), consumer],
            counting: Counting::Idle,
            counts: self.counts,
            kills: self.kills,
            lost: self.lost,
            changed: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.next(state, 0, actions);
        self.next(state, 1, actions);
        self.counting(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Lock => {
                next.coupon_lock = Some(COUNT);
                next.counting = match next.counting {
                    Counting::Counted(count) => Counting::Both(count),
                    _ => Counting::Locked,
                };
            }
            Action::CountRows => {
                let count = next.rows.iter().filter(|row| row.verdict == Verdict::Issued).count() as u8;
                let locked = next.counting == Counting::Locked;
                next.counting = if locked { Counting::Both(count) } else { Counting::Counted(count) };
            }
            Action::Repair => {
                if let Counting::Both(count) = next.counting {
                    next.issued = count;
                }
                next.counting = Counting::Idle;
                next.counts -= 1;
                next.coupon_lock = None;
            }
            Action::Begin(who, _)
            | Action::ReadCoupon(who)
            | Action::ReadKnown(who)
            | Action::Write(who)
            | Action::Commit(who)
            | Action::CommitUnheard(who)
            | Action::LookUp(who)
            | Action::Kill(who)
            | Action::Reopen(who) => self.statement(&mut next, who, action),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(C1, |books: &Books, state: &State| issues(state).count() <= usize::from(books.start.total)),
            Property::always(C2, |_, state: &State| {
                let holders = issues(state).fold(0, |mask, row| mask | bit(row.member));
                issues(state).count() == (holders as Mask).count_ones() as usize
            }),
            Property::always(C3, |_, state: &State| !state.changed),
            Property::always(C6, |books: &Books, state: &State| {
                // The rows are those of the decided part of the log, folded in one go.
                let ledger = fold(&books.start, &books.log[..usize::from(state.position)]);
                state.rows.iter().map(short).eq(ledger.rows.iter().map(short)) && state.issued == ledger.issued
            }),
            Property::always(DECIDED, |books: &Books, state: &State| {
                let mut actions = Vec::new();
                books.actions(state, &mut actions);
                !actions.is_empty() || state.position == books.len()
            }),
            Property::sometimes("a consumer is stopped", |_, state: &State| {
                state.consumers.iter().any(|consumer| consumer.step == Step::Stopped)
            }),
        ]
    }
}

fn issues(state: &State) -> impl Iterator<Item = &Row> {
    state.rows.iter().filter(|row| row.verdict == Verdict::Issued)
}

const fn short(row: &Row) -> (Id, u8, Verdict) {
    (row.id, row.place, row.verdict)
}

/// issued ≤ total.
pub const C1: &str = "C1 no more issued than seats";
/// One issue a member.
pub const C2: &str = "C2 one issue a member";
/// An outcome never changes.
pub const C3: &str = "C3 an outcome never changes";
/// The database is a function of the decided part of the log, at every instant.
pub const C6: &str = "C6 the database is the fold of the log";
/// Where nothing more can happen, everything is decided.
pub const DECIDED: &str = "everything is decided";
