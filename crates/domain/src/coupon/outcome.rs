//! What the log decided.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::Place;
use crate::{
    clock::Timestamp,
    ids::{CommandId, CouponCode, MemberId, RequestId},
};

/// Why a request did not get the coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No seat was left at its place in the log.
    SoldOut,
    /// The member holds an issue already.
    Duplicate,
    /// Before the opening time.
    NotOpen,
    /// At or after the closing time.
    Closed,
    /// The coupon was paused.
    Paused,
    /// The coupon was ended.
    Ended,
    /// An operator cancelled the request before its place in the log.
    Cancelled,
    /// The record could not be used; it is in the dead letter topic.
    Unprocessable,
}

impl Refusal {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 8] = [
        Self::SoldOut,
        Self::Duplicate,
        Self::NotOpen,
        Self::Closed,
        Self::Paused,
        Self::Ended,
        Self::Cancelled,
        Self::Unprocessable,
    ];

    /// The name used in JSON, events and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SoldOut => "sold_out",
            Self::Duplicate => "duplicate",
            Self::NotOpen => "not_open",
            Self::Closed => "closed",
            Self::Paused => "paused",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
            Self::Unprocessable => "unprocessable",
        }
    }
}

/// The final outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The member has the coupon; `sequence` counts a coupon's issues from 1.
    Issued {
        /// The number.
        sequence: i64,
    },
    /// The member did not get it.
    Refused {
        /// Why.
        reason: Refusal,
        /// For `duplicate`: the request that was issued.
        issued_request: Option<RequestId>,
    },
}

impl Outcome {
    /// A refusal that names no other request.
    #[must_use]
    pub const fn refused(reason: Refusal) -> Self {
        Self::Refused { reason, issued_request: None }
    }

    /// The value of `coupon_request.outcome`: `issued` or the refusal's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Issued { .. } => "issued",
            Self::Refused { reason, .. } => reason.as_str(),
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub const fn sequence(self) -> Option<i64> {
        match self {
            Self::Issued { sequence } => Some(sequence),
            Self::Refused { .. } => None,
        }
    }

    /// For `duplicate`: the request that was issued.
    #[must_use]
    pub const fn issued_request(self) -> Option<RequestId> {
        match self {
            Self::Issued { .. } => None,
            Self::Refused { issued_request, .. } => issued_request,
        }
    }

    /// Puts together what three columns hold.
    ///
    /// # Errors
    /// A text that is no outcome, or `issued` without a sequence.
    pub fn from_parts(outcome: &str, sequence: Option<i64>, issued_request: Option<RequestId>) -> Result<Self, String> {
        if outcome == "issued" {
            return sequence.map(|sequence| Self::Issued { sequence }).ok_or_else(|| "issued without a sequence".to_owned());
        }
        outcome.parse().map(|reason| Self::Refused { reason, issued_request })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Refusal {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or_else(|| format!("unknown refusal `{text}`"))
    }
}

/// What a client is told about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestStatus {
    /// Not decided yet.
    Pending,
    /// The member has the coupon.
    Success,
    /// Refused; the reason stands beside it.
    Failed,
}

/// A row of the ledger, `coupon_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The coupon.
    pub coupon: CouponCode,
    /// The request.
    pub request: RequestId,
    /// Who asked; none only where the record could not be read.
    pub member: Option<MemberId>,
    /// Where the request was decided.
    pub place: Place,
    /// When the broker appended the record that decided it.
    pub at: Timestamp,
    /// Signed as admitted by the gate.
    pub admitted: bool,
    /// The outcome.
    pub outcome: Outcome,
}

/// A decided request was seen again: followers tell its outcome again at this offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The coupon.
    pub coupon: CouponCode,
    /// The request.
    pub request: RequestId,
    /// The new told offset, in the coupon's partition.
    pub offset: i64,
}

/// Which kind of command it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandKind {
    /// Define a coupon.
    Define,
    /// Change its rules.
    Change,
    /// Cancel a request.
    Cancel,
}

impl CommandKind {
    /// The value of `coupon_command.kind`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Define => "define",
            Self::Change => "change",
            Self::Cancel => "cancel",
        }
    }
}

/// What became of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome {
    /// Done.
    Accepted,
    /// Define: the code is taken.
    AlreadyDefined,
    /// Change: a total below what is issued at that place.
    TotalBelowIssued,
    /// Change: the window would close before it opens.
    WindowEmpty,
    /// Change: an ended coupon stays as it is.
    Ended,
    /// Cancel: the request has its final outcome.
    AlreadyDecided,
}

impl CommandOutcome {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::AlreadyDefined, Self::TotalBelowIssued, Self::WindowEmpty, Self::Ended, Self::AlreadyDecided];

    /// The value of `coupon_command.outcome`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::AlreadyDefined => "already_defined",
            Self::TotalBelowIssued => "total_below_issued",
            Self::WindowEmpty => "window_empty",
            Self::Ended => "ended",
            Self::AlreadyDecided => "already_decided",
        }
    }
}

impl FromStr for CommandOutcome {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text).ok_or_else(|| format!("unknown command outcome `{text}`"))
    }
}

/// A row of `coupon_command`: who did what, when, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRow {
    /// The command's id.
    pub id: CommandId,
    /// The coupon.
    pub coupon: CouponCode,
    /// Which kind.
    pub kind: CommandKind,
    /// Who.
    pub actor: String,
    /// Where it was decided.
    pub place: Place,
    /// When the broker appended it.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: CommandOutcome,
    /// The command as JSON, for people.
    pub payload: String,
}
