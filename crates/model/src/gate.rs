//! The gate in Redis: one function for each script of `crates/redis-io/lua`, under the script's name.
//!
//! Time is left out: any reservation may be older than the grace time, and the coupon is open from the start.

use crate::fold::{Id, Ledger, Mask, Member, Row, Verdict, bit};

/// Members that a configuration may name.
pub const MEMBERS_MAX: usize = 4;

/// What the hash `GATE` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GateState {
    /// Redis knows nothing of it.
    #[default]
    Absent,
    /// A load is under way under this token.
    Loading(u8),
    /// It answers.
    Open,
    /// It was open, and was shut because its log is gone. No action of [`crate::line`] does that: its log stays.
    Shut,
}

/// A reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pending {
    /// The request it was made for.
    pub id: Id,
    /// When it was made; with the id it names this very reservation.
    pub at: u8,
    /// Somebody else than its maker was given it.
    pub handed: bool,
}

/// Everything that Redis holds of the coupon.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Gate {
    /// Whether it may be asked.
    pub state: GateState,
    /// The server's run id when it was opened or its load began.
    pub run: u8,
    /// Holders of an issue or a reservation.
    pub set: Mask,
    /// Reservations, by member.
    pub pending: [Option<Pending>; MEMBERS_MAX],
    /// Everything below this offset is applied.
    pub cursor: u8,
    /// Seats in all.
    pub total: u8,
    /// Ended by an operator.
    pub ended: bool,
    /// The rules' place in the log.
    pub rules: u8,
}

/// What `reserve.lua` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserved {
    /// Cold.
    Cold,
    /// A reservation was made.
    Fresh,
    /// The member holds this one already.
    Existing(Id),
    /// The member holds an issue.
    Issued,
    /// No seat is left.
    SoldOut,
    /// The coupon is ended.
    Ended,
}

/// What `settle.lua` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Cold.
    Cold,
    /// The gate stands elsewhere.
    CursorAt(u8),
    /// It moved.
    Moved,
}

/// How `settle.lua` might have been written instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SettleRule {
    /// As it is.
    #[default]
    Exact,
    /// Refuses only older cursors than the gate's.
    OnlyOlderRefused,
    /// Looks for the request's reservation instead of the member.
    ById,
}

/// How `release.lua` might have been written instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReleaseRule {
    /// As it is.
    #[default]
    Exact,
    /// Takes back what somebody else may be publishing.
    EvenHanded,
    /// Looks for the request, whenever its reservation was made.
    ByRequest,
}

/// What `remove.lua` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// Cold.
    Cold,
    /// The settler is past the snapshot.
    CursorAt(u8),
    /// Whether the member was taken out.
    Done(bool),
}

impl Gate {
    /// A new coupon's gate that was opened under the run id `run`.
    #[must_use]
    pub fn opened(run: u8, total: u8) -> Self {
        Self { state: GateState::Open, run, total, ..Self::default() }
    }

    /// `open_here` of `common.lua`.
    #[must_use]
    pub fn open_here(&self, run: u8) -> bool {
        self.state == GateState::Open && self.run == run
    }

    /// Seats left; a size cannot drift.
    #[must_use]
    pub fn left(&self) -> u8 {
        self.total.saturating_sub(self.set.count_ones() as u8)
    }

    fn is_pending(&self, member: Member, id: Id) -> bool {
        self.pending[usize::from(member)].is_some_and(|pending| pending.id == id)
    }

    fn put_out(&mut self, member: Member) {
        self.set &= !bit(member);
        self.pending[usize::from(member)] = None;
    }

    fn put_in(&mut self, member: Member) {
        self.set |= bit(member);
        self.pending[usize::from(member)] = None;
    }

    /// `reserve.lua`, for one member, at the moment `at`.
    pub fn reserve(&mut self, run: u8, member: Member, id: Id, at: u8) -> Reserved {
        if !self.open_here(run) {
            return Reserved::Cold;
        }
        if self.set & bit(member) != 0 {
            return match &mut self.pending[usize::from(member)] {
                Some(pending) => {
                    pending.handed = true;
                    Reserved::Existing(pending.id)
                }
                None => Reserved::Issued,
            };
        }
        if self.ended {
            return Reserved::Ended;
        }
        if self.left() == 0 {
            return Reserved::SoldOut;
        }
        self.set |= bit(member);
        self.pending[usize::from(member)] = Some(Pending { id, at, handed: false });
        Reserved::Fresh
    }

    /// `release.lua`, of a reservation that was made under `id` at the moment `at`. True when it was taken back.
    pub fn release(&mut self, run: u8, rule: ReleaseRule, member: Member, id: Id, at: u8) -> bool {
        let pending = self.pending[usize::from(member)];
        let released = self.open_here(run)
            && pending.is_some_and(|pending| {
                pending.id == id
                    && (rule == ReleaseRule::ByRequest || pending.at == at)
                    && (rule == ReleaseRule::EvenHanded || !pending.handed)
            });
        if released {
            self.put_out(member);
        }
        released
    }

    /// `settle.lua`: the rows that were told in `[from, to)`, and the rules of a ledger that reaches at least to `to`.
    pub fn settle(&mut self, run: u8, rule: SettleRule, from: u8, to: u8, ledger: &Ledger) -> Settled {
        if !self.open_here(run) {
            return Settled::Cold;
        }
        let refused = if rule == SettleRule::OnlyOlderRefused { from < self.cursor } else { from != self.cursor };
        if refused {
            return Settled::CursorAt(self.cursor);
        }
        self.cursor = to;
        if ledger.rules >= self.rules {
            (self.total, self.ended, self.rules) = (ledger.total, ledger.ended, ledger.rules);
        }
        let told = || ledger.rows.iter().filter(|row| from <= row.told && row.told < to);
        let holds = |row: &Row| matches!(row.verdict, Verdict::Issued | Verdict::Duplicate);
        if rule == SettleRule::ById {
            for row in told().filter(|row| self.is_pending(row.member, row.id)).copied().collect::<Vec<_>>() {
                if row.verdict == Verdict::Issued { self.put_in(row.member) } else { self.put_out(row.member) }
            }
            return Settled::Moved;
        }
        for row in told().filter(|row| holds(row)) {
            self.put_in(row.member);
        }
        for row in told().filter(|row| !holds(row)) {
            if self.is_pending(row.member, row.id) {
                self.put_out(row.member);
            }
        }
        Settled::Moved
    }

    /// `begin_load.lua`.
    pub fn begin_load(&mut self, run: u8, token: u8) -> bool {
        if self.open_here(run) {
            return false;
        }
        *self = Self { state: GateState::Loading(token), run, ..Self::default() };
        true
    }

    fn loading_here(&self, run: u8, token: u8) -> bool {
        self.state == GateState::Loading(token) && self.run == run
    }

    /// `load.lua`.
    pub fn load(&mut self, run: u8, token: u8, members: Mask) -> bool {
        let here = self.loading_here(run, token);
        if here {
            self.set |= members;
        }
        here
    }

    /// `open.lua`.
    pub fn open(&mut self, run: u8, token: u8, cursor: u8, ledger: &Ledger) -> bool {
        let here = self.loading_here(run, token);
        if here {
            self.state = GateState::Open;
            self.cursor = cursor;
            (self.total, self.ended, self.rules) = (ledger.total, ledger.ended, ledger.rules);
        }
        here
    }

    /// `pending_older_than.lua`, for one member: hands his reservation out.
    pub fn hand_out(&mut self, run: u8, member: Member) -> Option<Id> {
        if !self.open_here(run) {
            return None;
        }
        let pending = self.pending[usize::from(member)].as_mut()?;
        pending.handed = true;
        Some(pending.id)
    }

    /// `shut.lua`, of a gate that was seen at `cursor`. What it holds stays until a load begins.
    pub fn shut(&mut self, run: u8, cursor: u8) -> bool {
        let here = self.open_here(run) && self.cursor == cursor;
        if here {
            self.state = GateState::Shut;
        }
        here
    }

    /// `add.lua`, for one member, who holds an issue. Whether he was not in the set; none when it is cold.
    pub fn add(&mut self, run: u8, member: Member) -> Option<bool> {
        let missing = self.set & bit(member) == 0;
        self.open_here(run).then(|| {
            self.put_in(member);
            missing
        })
    }

    /// `remove.lua`, for one member, who holds no issue as of a snapshot at `snapshot`. `unguarded` is a variant that does not look at the
    /// cursor.
    pub fn remove(&mut self, run: u8, member: Member, snapshot: u8, unguarded: bool) -> Removed {
        if !self.open_here(run) {
            return Removed::Cold;
        }
        if self.cursor > snapshot && !unguarded {
            return Removed::CursorAt(self.cursor);
        }
        let out = self.set & bit(member) != 0 && self.pending[usize::from(member)].is_none();
        if out {
            self.set &= !bit(member);
        }
        Removed::Done(out)
    }
}
