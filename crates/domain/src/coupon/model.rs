//! A coupon as the fold sees it, and places in the log.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, ids::CouponCode};

/// Who judges a request first. The consumer treats both alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admission {
    /// The Redis gate reserves a seat before the request is published.
    Reserved,
    /// The log alone decides; Redis is not needed.
    Queued,
}

impl Admission {
    /// The name used in JSON, settings and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Queued => "queued",
        }
    }
}

impl std::str::FromStr for Admission {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reserved" => Ok(Self::Reserved),
            "queued" => Ok(Self::Queued),
            _ => Err(format!("unknown admission `{text}`; use reserved or queued")),
        }
    }
}

/// What an operator sees at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CouponStatus {
    /// Requests are taken within the window.
    Active,
    /// An operator paused it; it can be resumed.
    Paused,
    /// An operator ended it; this is final.
    Ended,
}

impl CouponStatus {
    /// The value of `coupon.status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Paused => "PAUSED",
            Self::Ended => "ENDED",
        }
    }
}

/// A coupon: its rules and how many seats are gone, as of a place in its log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coupon {
    /// Its code, the key of its records.
    pub code: CouponCode,
    /// A name for people.
    pub name: String,
    /// Who judges a request first.
    pub admission: Admission,
    /// The partition that holds its log, fixed when it was defined.
    pub partition: i32,
    /// Seats in all.
    pub total: i64,
    /// Seats given.
    pub issued: i64,
    /// Requests before this moment are refused; none: open from the start.
    pub opens_at: Option<Timestamp>,
    /// Requests at or after this moment are refused; none: open for ever.
    pub closes_at: Option<Timestamp>,
    /// Paused by an operator.
    pub paused: bool,
    /// Ended by an operator, for good.
    pub ended: bool,
    /// The offset of the last command that changed the rules (not of the last request).
    pub rules_offset: i64,
}

impl Coupon {
    /// Seats that are left; never below zero.
    #[must_use]
    pub fn left(&self) -> i64 {
        self.total.saturating_sub(self.issued).max(0)
    }

    /// What an operator sees at a glance.
    #[must_use]
    pub const fn status(&self) -> CouponStatus {
        if self.ended {
            CouponStatus::Ended
        } else if self.paused {
            CouponStatus::Paused
        } else {
            CouponStatus::Active
        }
    }
}

/// A place in the command log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The partition.
    pub partition: i32,
    /// The offset in it.
    pub offset: i64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// Which log an offset belongs to. A topic that was deleted and made again is another log under the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LogIncarnation {
    /// The Kafka cluster's id.
    pub cluster_id: String,
    /// The topic's id.
    pub topic_id: String,
}

impl fmt::Display for LogIncarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster_id, self.topic_id)
    }
}
