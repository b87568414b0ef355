//! All that a round is judged by: what clients were told, the log, the database, and Redis.

use std::{fmt::Write as _, fs, path::Path};

use domain::{
    coupon::{Admission, Record},
    ids::{CouponCode, MemberId, RequestId},
};
use serde::Serialize;

/// One answer, or that none came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Who asked.
    pub member: MemberId,
    /// By which gateway.
    pub gateway: usize,
    /// Under which key.
    pub key: Option<u8>,
    /// The ticket was asked, not the coupon.
    pub by_ticket: bool,
    /// Milliseconds since the load began.
    pub began_ms: u64,
    /// The same, of the answer.
    pub ended_ms: u64,
    /// What came.
    pub what: What,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A request is known by this id; its outcome if it is told.
    Told {
        /// The request.
        request: RequestId,
        /// As the ledger names it.
        outcome: Option<String>,
    },
    /// A refusal that is final for now.
    Refused {
        /// The code of the problem.
        code: String,
    },
    /// Nothing is known; ask again.
    Again {
        /// The code of the problem.
        code: String,
        /// The request that may have been recorded.
        request: Option<RequestId>,
    },
    /// No answer came: the client gave up, or the connection broke.
    Lost,
}

impl What {
    /// Whether somebody knows where he stands. Before the opening time and in a pause he does not: asking later may succeed.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Told { .. } => true,
            Self::Refused { code } => !matches!(code.as_str(), "not_open" | "paused" | "unknown_coupon"),
            Self::Again { .. } | Self::Lost => false,
        }
    }
}

/// The coupon's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CouponRow {
    /// Seats.
    pub total: i64,
    /// Seats given, as the row counts them.
    pub issued_quantity: i64,
}

/// A row of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerRow {
    /// The request.
    pub request: RequestId,
    /// Who.
    pub member: Option<String>,
    /// Where it was decided.
    pub offset: i64,
    /// The outcome's name.
    pub outcome: String,
    /// The number.
    pub sequence: Option<i64>,
}

/// The gate of a reserved coupon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GateState {
    /// It is open.
    pub is_open: bool,
    /// Members in the set.
    pub members: Vec<String>,
    /// Pending reservations.
    pub pending: i64,
    /// Seats.
    pub total: Option<i64>,
    /// The readable stock.
    pub stock: Option<i64>,
    /// The settler's cursor.
    pub cursor: Option<i64>,
}

/// The worst that was seen while things broke, in one snapshot each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Milliseconds since the load began.
    pub at_ms: u64,
    /// Issue rows.
    pub issued: i64,
    /// Seats.
    pub total: i64,
}

/// One coupon.
#[derive(Debug, Clone, Serialize)]
pub struct CouponEvidence {
    /// Its code.
    pub code: CouponCode,
    /// Who judges first.
    pub admission: Admission,
    /// Neither total nor window was touched, and it was open from the beginning.
    pub is_plain: bool,
    /// Its code hashes to the partition that it lives on.
    pub is_home: bool,
    /// Everybody who asked, by HTTP or by another producer.
    pub members: Vec<MemberId>,
    /// Every answer.
    pub answers: Vec<Answer>,
    /// Members who got no final answer although all was up again.
    pub unanswered: Vec<MemberId>,
    /// The partition's records since the round began, other coupons' too.
    #[serde(skip)]
    pub log: Vec<Record>,
    /// The end of the partition's log.
    pub log_end: i64,
    /// The decided position.
    pub position: i64,
    /// The position up to which outcomes are announced.
    pub published: i64,
    /// The coupon's row.
    pub coupon: Option<CouponRow>,
    /// Its ledger.
    pub rows: Vec<LedgerRow>,
    /// Its gate, where it has one.
    pub gate: Option<GateState>,
    /// Snapshots in which more was issued than there were seats.
    pub oversold: Vec<Sample>,
}

/// A measured value with its bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// What was measured.
    pub what: String,
    /// What was found.
    pub found: u64,
    /// At most.
    pub at_most: u64,
}

/// All of a round.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Evidence {
    /// The coupons.
    pub coupons: Vec<CouponEvidence>,
    /// Why the line did not become quiet, if it did not.
    pub unrest: Option<String>,
    /// Bounds that the faults ask for.
    pub limits: Vec<Limit>,
}

impl Evidence {
    /// Writes it into `folder`, one file a kind, for people to read.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("evidence.json"), serde_json::to_string_pretty(self)?)?;
        for coupon in &self.coupons {
            let mut text = String::new();
            for record in &coupon.log {
                writeln!(text, "{} {} {:?}", record.place, record.at, record.body)?;
            }
            fs::write(folder.join(format!("log-{}.txt", coupon.code)), text)?;
        }
        Ok(())
    }
}
