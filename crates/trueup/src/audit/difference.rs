//! What an audit can find, each kind with a name that stays.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Differences of one kind that are kept with their details; the rest are only counted.
pub const DETAILS_PER_KIND_MAX: usize = 100;

/// A kind of difference between the log and the stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// More issues stand in the ledger than the coupon has seats, or than the log allows.
    OverIssue,
    /// A member holds more than one issue.
    DoubleIssue,
    /// The log gave seats that nobody holds in the ledger.
    LeakedSeat,
    /// The log decided a request, the ledger has no row.
    Lost,
    /// The ledger has a row that the log up to the position does not decide.
    Extra,
    /// The ledger holds another outcome than the log gives.
    ChangedOutcome,
    /// The ledger names another member.
    ChangedMember,
    /// Issued both, but with another sequence number: the winners stand in another order.
    WrongOrder,
    /// The sequence numbers of the issues are not 1, 2, 3 … without holes and repeats.
    SequenceGap,
    /// A duplicate names another issue than the one that the member holds.
    WrongReference,
    /// The row names another place in the log.
    WrongPlace,
    /// The row would be told at another place than the last one at which its id was seen.
    WrongTold,
    /// The row holds another append time.
    WrongTime,
    /// The row is marked admitted and the record is not, or the other way round.
    WrongAdmitted,
    /// `coupon.issued_quantity` is not the number of issue rows.
    WrongCount,
    /// A column of the coupon's rules is not what the log's commands make it.
    WrongRules,
    /// The log defines the coupon, the table does not have it.
    LostCoupon,
    /// The table has the coupon, the log does not define it.
    ExtraCoupon,
    /// The log decided a command, the table has no row.
    LostCommand,
    /// The table has a command that the log does not hold.
    ExtraCommand,
    /// A command's row says something else than the log.
    ChangedCommand,
    /// A record that cannot be used was not noted as a dead letter.
    MissingDeadLetter,
    /// A dead letter was noted for a record that can be used.
    ExtraDeadLetter,
    /// A record on a partition that is not its coupon's has no forwarded copy.
    NotForwarded,
    /// The forwarded copy holds other bytes than its original.
    ChangedCopy,
    /// Redis has a member whom PostgreSQL does not know as issued.
    GateExtraMember,
    /// PostgreSQL knows a member as issued whom Redis does not have.
    GateMissingMember,
    /// The gate's stock or rules are not those of PostgreSQL.
    GateWrongState,
}

impl Kind {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OverIssue => "over_issue",
            Self::DoubleIssue => "double_issue",
            Self::LeakedSeat => "leaked_seat",
            Self::Lost => "lost",
            Self::Extra => "extra",
            Self::ChangedOutcome => "changed_outcome",
            Self::ChangedMember => "changed_member",
            Self::WrongOrder => "wrong_order",
            Self::SequenceGap => "sequence_gap",
            Self::WrongReference => "wrong_reference",
            Self::WrongPlace => "wrong_place",
            Self::WrongTold => "wrong_told",
            Self::WrongTime => "wrong_time",
            Self::WrongAdmitted => "wrong_admitted",
            Self::WrongCount => "wrong_count",
            Self::WrongRules => "wrong_rules",
            Self::LostCoupon => "lost_coupon",
            Self::ExtraCoupon => "extra_coupon",
            Self::LostCommand => "lost_command",
            Self::ExtraCommand => "extra_command",
            Self::ChangedCommand => "changed_command",
            Self::MissingDeadLetter => "missing_dead_letter",
            Self::ExtraDeadLetter => "extra_dead_letter",
            Self::NotForwarded => "not_forwarded",
            Self::ChangedCopy => "changed_copy",
            Self::GateExtraMember => "gate_extra_member",
            Self::GateMissingMember => "gate_missing_member",
            Self::GateWrongState => "gate_wrong_state",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its kind.
    pub kind: Kind,
    /// What it is about: `request …`, `member …`, `coupon …`, `command …`, `record …`.
    pub subject: String,
    /// What the log says.
    pub expected: String,
    /// What was found.
    pub found: String,
}

/// Differences, counted by kind, with the first [`DETAILS_PER_KIND_MAX`] of each kind in detail.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Differences {
    /// How many of each kind.
    pub counts: BTreeMap<Kind, u64>,
    /// The first ones of each kind.
    pub details: Vec<Difference>,
}

impl Differences {
    /// Notes one.
    pub fn add(&mut self, kind: Kind, subject: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) {
        let count = self.counts.entry(kind).or_default();
        *count = count.saturating_add(1);
        if *count <= u64::try_from(DETAILS_PER_KIND_MAX).unwrap_or(u64::MAX) {
            let (subject, expected, found) = (subject.into(), expected.into(), found.into());
            self.details.push(Difference { kind, subject, expected, found });
        }
    }

    /// True when nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}
