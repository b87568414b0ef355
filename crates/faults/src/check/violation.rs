//! What can be found, each kind with a name that stays and the invariant that it breaks.

use std::fmt;

use serde::Serialize;

/// A kind of violation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// More members hold an issue than there are seats.
    OverIssue,
    /// `issued_quantity` is not the number of issues.
    WrongCount,
    /// A member holds more than one issue.
    DoubleIssue,
    /// A client was told an outcome that another client, or the ledger, does not confirm.
    ChangedOutcome,
    /// A request stands in the ledger under another member than the one who was told its id.
    ChangedMember,
    /// A client was refused for a request that had been accepted and is decided otherwise.
    RefusedThoughKnown,
    /// A request was answered 202, and there is no outcome.
    LostAccept,
    /// A member asked until all was quiet again and was never told anything final.
    NoFinalAnswer,
    /// Members keep asking and seats stay empty.
    LeakedSeat,
    /// A record up to the decided position has no row.
    Undecided,
    /// A row has no record.
    Unlogged,
    /// Another member than the log gives holds the seat, or with another number.
    WrongOrder,
    /// A row says something else than the log gives.
    NotByTheLog,
    /// The coupon's total is not what the log's commands make it.
    WrongRules,
    /// Redis has a member who holds no issue.
    RedisExtra,
    /// Redis does not have a member who holds an issue.
    RedisMissing,
    /// Redis keeps a reservation although all is decided.
    RedisPending,
    /// Redis' stock or total is not that of the database.
    RedisStock,
    /// The settler's cursor is not the decided position.
    RedisCursor,
    /// The gate is shut although all is up.
    GateShut,
    /// The line does not come to rest.
    NotQuiet,
    /// A bound on time or memory was exceeded.
    OverLimit,
}

impl Kind {
    /// The name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OverIssue => "over_issue",
            Self::WrongCount => "wrong_count",
            Self::DoubleIssue => "double_issue",
            Self::ChangedOutcome => "changed_outcome",
            Self::ChangedMember => "changed_member",
            Self::RefusedThoughKnown => "refused_though_known",
            Self::LostAccept => "lost_accept",
            Self::NoFinalAnswer => "no_final_answer",
            Self::LeakedSeat => "leaked_seat",
            Self::Undecided => "undecided",
            Self::Unlogged => "unlogged",
            Self::WrongOrder => "wrong_order",
            Self::NotByTheLog => "not_by_the_log",
            Self::WrongRules => "wrong_rules",
            Self::RedisExtra => "redis_extra",
            Self::RedisMissing => "redis_missing",
            Self::RedisPending => "redis_pending",
            Self::RedisStock => "redis_stock",
            Self::RedisCursor => "redis_cursor",
            Self::GateShut => "gate_shut",
            Self::NotQuiet => "not_quiet",
            Self::OverLimit => "over_limit",
        }
    }

    /// The invariant that it breaks.
    #[must_use]
    pub const fn invariant(self) -> &'static str {
        match self {
            Self::OverIssue | Self::WrongCount => "C1",
            Self::DoubleIssue => "C2",
            Self::ChangedOutcome | Self::ChangedMember | Self::RefusedThoughKnown => "C3",
            Self::LostAccept | Self::NoFinalAnswer | Self::NotQuiet => "C4",
            Self::LeakedSeat => "C5",
            Self::Undecided | Self::Unlogged | Self::WrongOrder | Self::NotByTheLog | Self::WrongRules => "C6",
            Self::RedisExtra
            | Self::RedisMissing
            | Self::RedisPending
            | Self::RedisStock
            | Self::RedisCursor
            | Self::GateShut => "C7",
            Self::OverLimit => "bounds",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Its kind.
    pub kind: Kind,
    /// The invariant that it breaks.
    pub invariant: &'static str,
    /// The coupon; empty when it is about the whole line.
    pub coupon: String,
    /// What it is about.
    pub subject: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, invariant, coupon, subject, expected, found } = self;
        write!(f, "{invariant} {} {coupon} {subject}: expected {expected}, found {found}", kind.as_str())
    }
}
