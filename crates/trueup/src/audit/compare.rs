//! Holds what the database says against what the log says, row by row.

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::{
    clock::Timestamp,
    coupon::{CommandKind, Outcome, Place},
    ids::{CommandId, MemberId, RequestId},
};

use super::{
    difference::{Differences, Kind},
    fold::{ExpectedCommand, ExpectedCoupon, ExpectedRow, Fold},
};

/// A row of `coupon_request`, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRow {
    /// The request.
    pub request: RequestId,
    /// The member as it stands there, valid or not.
    pub member: Option<String>,
    /// The partition of its log.
    pub partition: i32,
    /// Where it was decided.
    pub offset: i64,
    /// Where it is told.
    pub told: i64,
    /// Append time.
    pub at: Timestamp,
    /// Signed as admitted.
    pub admitted: bool,
    /// The outcome's name.
    pub outcome: String,
    /// The issue's number.
    pub sequence: Option<i64>,
    /// What a duplicate names.
    pub issued_request: Option<RequestId>,
}

/// The row of `coupon`, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCoupon {
    /// The partition that holds its log.
    pub partition: i32,
    /// Seats given, as the row counts them.
    pub issued_quantity: i64,
    /// Everything that the log's commands decide; `issued` is not looked at.
    pub rules: ExpectedCoupon,
}

/// A row of `coupon_command`, as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCommand {
    /// Its id.
    pub id: CommandId,
    /// Its kind's name.
    pub kind: String,
    /// Who gave it.
    pub actor: String,
    /// The partition of its log.
    pub partition: i32,
    /// Where it was decided.
    pub offset: i64,
    /// The outcome's name.
    pub outcome: String,
}

/// Counts of one coupon, for the report.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Rows of the ledger by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Rows in all.
    pub rows: u64,
}

/// Takes the ledger's rows one by one; memory grows with the coupon's requests, as the fold's does.
#[derive(Debug)]
pub struct Comparer<'a> {
    fold: &'a Fold,
    partition: i32,
    position: i64,
    refused_by_database: HashSet<Place>,
    seen: u64,
    unmatched: HashMap<RequestId, &'a ExpectedRow>,
    issues_by_member: HashMap<String, Vec<RequestId>>,
    issues_by_sequence: BTreeMap<i64, u64>,
    issued: i64,
    /// What was found so far.
    pub differences: Differences,
    /// Counts for the report.
    pub tally: Tally,
}

impl<'a> Comparer<'a> {
    /// A comparison with `fold`, which folded `partition` up to `position`. `refused_by_database`: records whose data PostgreSQL refused.
    #[must_use]
    pub fn new(fold: &'a Fold, partition: i32, position: i64, refused_by_database: HashSet<Place>) -> Self {
        Self {
            fold,
            partition,
            position,
            refused_by_database,
            seen: 0,
            unmatched: fold.requests.iter().map(|(id, row)| (*id, row)).collect(),
            issues_by_member: HashMap::new(),
            issues_by_sequence: BTreeMap::new(),
            issued: 0,
            differences: Differences::default(),
            tally: Tally::default(),
        }
    }

    /// Compares one row of the ledger.
    pub fn row(&mut self, found: &FoundRow) {
        self.seen = self.seen.saturating_add(1);
        self.tally.rows = self.seen;
        let count = self.tally.outcomes.entry(found.outcome.clone()).or_default();
        *count = count.saturating_add(1);
        if found.outcome == "issued" {
            self.issued = self.issued.saturating_add(1);
            let member = found.member.clone().unwrap_or_default();
            self.issues_by_member.entry(member).or_default().push(found.request);
            let at_sequence = self.issues_by_sequence.entry(found.sequence.unwrap_or_default()).or_default();
            *at_sequence = at_sequence.saturating_add(1);
        }
        match self.unmatched.remove(&found.request) {
            Some(expected) => self.same_request(expected, found),
            None => {
                let why = if found.offset >= self.position && found.partition == self.partition {
                    format!("no row: its place is at or past the position {}", self.position)
                } else {
                    "no row: no record up to the position decides this request".to_owned()
                };
                self.differences.add(Kind::Extra, format!("request {}", found.request), why, describe_found(found));
            }
        }
    }

    fn same_request(&mut self, expected: &ExpectedRow, found: &FoundRow) {
        let subject = || format!("request {}", found.request);
        let member = expected.member.as_ref().map(MemberId::as_str);
        // PostgreSQL may have refused the member's id itself; the row stands without it then.
        let place = Place { partition: self.partition, offset: expected.offset };
        let is_left_out = found.member.is_none() && self.refused_by_database.contains(&place);
        if member != found.member.as_deref() && !is_left_out {
            let (expected, found) = (text_or_none(member), text_or_none(found.member.as_deref()));
            self.differences.add(Kind::ChangedMember, subject(), expected, found);
        }
        if expected.outcome.as_str() != found.outcome {
            let text = describe(expected.outcome, expected.offset);
            self.differences.add(Kind::ChangedOutcome, subject(), text, describe_found(found));
        } else if expected.outcome.sequence() != found.sequence {
            let text = describe(expected.outcome, expected.offset);
            self.differences.add(Kind::WrongOrder, subject(), text, describe_found(found));
        } else if expected.outcome.issued_request() != found.issued_request {
            let (expected, found) = (expected.outcome.issued_request(), found.issued_request);
            self.differences.add(Kind::WrongReference, subject(), format!("{expected:?}"), format!("{found:?}"));
        }
        if (self.partition, expected.offset) != (found.partition, found.offset) {
            let expected = format!("{}@{}", self.partition, expected.offset);
            let found = format!("{}@{}", found.partition, found.offset);
            self.differences.add(Kind::WrongPlace, subject(), expected, found);
        }
        if expected.told != found.told {
            self.differences.add(Kind::WrongTold, subject(), expected.told.to_string(), found.told.to_string());
        }
        if expected.at != found.at {
            self.differences.add(Kind::WrongTime, subject(), expected.at.to_string(), found.at.to_string());
        }
        if expected.admitted != found.admitted {
            let (expected, found) = (expected.admitted.to_string(), found.admitted.to_string());
            self.differences.add(Kind::WrongAdmitted, subject(), expected, found);
        }
    }

    /// Compares the coupon's row and its commands, and closes the comparison: what the log decided and no row told is lost.
    #[must_use]
    pub fn finish(mut self, coupon: Option<&FoundCoupon>, commands: &[FoundCommand]) -> (Differences, Tally) {
        for (request, expected) in std::mem::take(&mut self.unmatched) {
            let text = describe(expected.outcome, expected.offset);
            self.differences.add(Kind::Lost, format!("request {request}"), text, "no row");
        }
        self.issues(coupon);
        self.coupon(coupon);
        self.commands(commands);
        (self.differences, self.tally)
    }

    fn issues(&mut self, coupon: Option<&FoundCoupon>) {
        for (member, requests) in std::mem::take(&mut self.issues_by_member) {
            if requests.len() > 1 {
                let list = requests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                self.differences.add(Kind::DoubleIssue, format!("member {member}"), "at most one issue", list);
            }
        }
        let (first, last) = (self.issues_by_sequence.first_key_value(), self.issues_by_sequence.last_key_value());
        if let (Some((first, _)), Some((last, _))) = (first, last) {
            let without_repeats = self.issues_by_sequence.values().all(|count| *count == 1);
            if *first != 1 || *last != self.issued || !without_repeats {
                let found = format!("{} issues, sequences {first} to {last}, repeats: {}", self.issued, !without_repeats);
                let expected = format!("1 to {} without holes and repeats", self.issued);
                self.differences.add(Kind::SequenceGap, "issues", expected, found);
            }
        }
        let by_log = self.fold.coupon.as_ref().map_or(0, |rules| rules.issued);
        let total = self.fold.coupon.as_ref().map_or(0, |rules| rules.total);
        let total_found = coupon.map_or(total, |row| row.rules.total);
        if self.issued > total.min(total_found) {
            let expected = format!("at most {} issues", total.min(total_found));
            self.differences.add(Kind::OverIssue, "issues", expected, format!("{} issue rows", self.issued));
        }
        if self.issued < by_log {
            let expected = format!("{by_log} issues, as the log gives");
            self.differences.add(Kind::LeakedSeat, "issues", expected, format!("{} issue rows", self.issued));
        }
        if let Some(row) = coupon
            && row.issued_quantity != self.issued
        {
            let expected = format!("{} issue rows", self.issued);
            self.differences.add(Kind::WrongCount, "coupon.issued_quantity", expected, row.issued_quantity.to_string());
        }
    }

    fn coupon(&mut self, found: Option<&FoundCoupon>) {
        match (&self.fold.coupon, found) {
            (None, None) => {}
            (Some(expected), None) => {
                let text = format!("defined by {} up to the position", expected.defined_by);
                self.differences.add(Kind::LostCoupon, "coupon", text, "no row");
            }
            (None, Some(found)) => {
                let text = format!("defined by {}, {} seats", found.rules.defined_by, found.rules.total);
                self.differences.add(Kind::ExtraCoupon, "coupon", "no row: the log does not define it", text);
            }
            (Some(expected), Some(found)) => {
                let rules = &found.rules;
                let fields: [(&str, String, String); 10] = [
                    ("name", expected.name.clone(), rules.name.clone()),
                    ("admission", expected.admission.as_str().to_owned(), rules.admission.as_str().to_owned()),
                    ("partition", self.partition.to_string(), found.partition.to_string()),
                    ("total_quantity", expected.total.to_string(), rules.total.to_string()),
                    ("opens_at", time_or_none(expected.opens_at), time_or_none(rules.opens_at)),
                    ("closes_at", time_or_none(expected.closes_at), time_or_none(rules.closes_at)),
                    ("paused", expected.paused.to_string(), rules.paused.to_string()),
                    ("ended", expected.ended.to_string(), rules.ended.to_string()),
                    ("rules_offset", expected.rules_offset.to_string(), rules.rules_offset.to_string()),
                    ("defined_by", expected.defined_by.clone(), rules.defined_by.clone()),
                ];
                for (field, expected, found) in fields {
                    if expected != found {
                        self.differences.add(Kind::WrongRules, format!("coupon.{field}"), expected, found);
                    }
                }
            }
        }
    }

    fn commands(&mut self, found: &[FoundCommand]) {
        let mut unmatched: HashMap<CommandId, &ExpectedCommand> = self.fold.commands.iter().map(|(id, row)| (*id, row)).collect();
        for row in found {
            let subject = format!("command {}", row.id);
            let Some(expected) = unmatched.remove(&row.id) else {
                let text = format!("{} by {}: {}", row.kind, row.actor, row.outcome);
                self.differences.add(Kind::ExtraCommand, subject, "no row: the log does not hold this command", text);
                continue;
            };
            let kind: &str = CommandKind::as_str(expected.kind);
            let by_log =
                format!("{kind} by {} at {}@{}: {}", expected.actor, self.partition, expected.offset, expected.outcome.as_str());
            let by_row = format!("{} by {} at {}@{}: {}", row.kind, row.actor, row.partition, row.offset, row.outcome);
            if by_log != by_row {
                self.differences.add(Kind::ChangedCommand, subject, by_log, by_row);
            }
        }
        for (id, expected) in unmatched {
            let text = format!("{} by {}: {}", expected.kind.as_str(), expected.actor, expected.outcome.as_str());
            self.differences.add(Kind::LostCommand, format!("command {id}"), text, "no row");
        }
    }
}

fn describe(outcome: Outcome, offset: i64) -> String {
    match outcome {
        Outcome::Issued { sequence } => format!("issued as {sequence}, decided at offset {offset}"),
        Outcome::Refused { reason, .. } => format!("{reason}, decided at offset {offset}"),
    }
}

fn describe_found(row: &FoundRow) -> String {
    row.sequence.map_or_else(
        || format!("{}, decided at offset {}", row.outcome, row.offset),
        |sequence| format!("{} as {sequence}, decided at offset {}", row.outcome, row.offset),
    )
}

fn text_or_none(text: Option<&str>) -> String {
    text.unwrap_or("nobody").to_owned()
}

fn time_or_none(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "none".to_owned(), |at| at.to_string())
}
