//! What may stand in a coupon's log.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Admission, Place};
use crate::{
    clock::Timestamp,
    ids::{CommandId, CouponCode, MemberId, RequestId},
};

/// One record of a partition, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub place: Place,
    /// When the broker appended it (`LogAppendTime`).
    pub at: Timestamp,
    /// What it says.
    pub body: Body,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A member asks for a coupon.
    Request(Request),
    /// An operator defines a coupon.
    Define(Define),
    /// An operator changes a coupon's rules.
    Change(Change),
    /// An operator cancels a request.
    Cancel(Cancel),
    /// A record that cannot be used, but whose request id can be read: that id is final, too.
    Unusable(Unusable),
}

impl Body {
    /// The coupon that the record is about.
    #[must_use]
    pub const fn coupon(&self) -> &CouponCode {
        match self {
            Self::Request(body) => &body.coupon,
            Self::Define(body) => &body.coupon,
            Self::Change(body) => &body.coupon,
            Self::Cancel(body) => &body.coupon,
            Self::Unusable(body) => &body.coupon,
        }
    }
}

/// A member asks for a coupon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its id.
    pub id: RequestId,
    /// The coupon.
    pub coupon: CouponCode,
    /// Who asks.
    pub member: MemberId,
    /// Signed by a gateway as admitted by the gate: judged by duplicate, end and stock only.
    pub admitted: bool,
}

/// An operator defines a coupon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Define {
    /// The command's id.
    pub id: CommandId,
    /// The new coupon.
    pub coupon: CouponCode,
    /// Who defines it.
    pub actor: String,
    /// A name for people.
    pub name: String,
    /// Who judges a request first.
    pub admission: Admission,
    /// Seats in all; at least 0.
    pub total: i64,
    /// Requests before this moment are refused.
    pub opens_at: Option<Timestamp>,
    /// Requests at or after this moment are refused.
    pub closes_at: Option<Timestamp>,
}

/// An operator changes a coupon's rules; what is `None` stays. As JSON, what stays is not named at all, and a bound that is taken away is null.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The command's id.
    pub id: CommandId,
    /// The coupon.
    pub coupon: CouponCode,
    /// Who changes it.
    pub actor: String,
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A new number of seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// A new opening time; `Some(None)` takes the bound away.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub opens_at: Option<Option<Timestamp>>,
    /// A new closing time; `Some(None)` takes the bound away.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "named")]
    pub closes_at: Option<Option<Timestamp>>,
    /// Pause or resume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// End it, for good.
    pub end: bool,
}

impl Change {
    /// A change by `actor` that changes nothing yet.
    #[must_use]
    pub fn new(id: CommandId, coupon: CouponCode, actor: &str) -> Self {
        Self {
            id,
            coupon,
            actor: actor.to_owned(),
            name: None,
            total: None,
            opens_at: None,
            closes_at: None,
            paused: None,
            end: false,
        }
    }
}

/// A bound that is named: null takes it away. One that is not named stays, by `default`.
#[allow(clippy::option_option, reason = "absent, taken away and set are three different things")]
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Timestamp>>, D::Error> {
    Option::<Timestamp>::deserialize(deserializer).map(Some)
}

/// An operator cancels a request that is not decided yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The command's id.
    pub id: CommandId,
    /// The coupon.
    pub coupon: CouponCode,
    /// Who cancels.
    pub actor: String,
    /// Whose request it is.
    pub member: MemberId,
    /// The request.
    pub request: RequestId,
}

/// A record that cannot be used, but whose coupon and request id can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// The request's id.
    pub id: RequestId,
    /// The coupon it names.
    pub coupon: CouponCode,
    /// The member it names, where that is a valid id.
    pub member: Option<MemberId>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bound_that_stays_differs_from_one_that_is_taken_away() {
        let nothing = Change::new(CommandId::from_uuid(uuid::Uuid::nil()), CouponCode::new("c").unwrap(), "anna");
        let change = Change { total: Some(5), closes_at: Some(None), ..nothing };
        let json = serde_json::to_value(&change).unwrap();
        assert!(json.get("opens_at").is_none() && json.get("paused").is_none() && json.get("name").is_none(), "{json}");
        assert!(json["closes_at"].is_null() && json.get("closes_at").is_some(), "{json}");
        assert_eq!(serde_json::from_value::<Change>(json).unwrap(), change);
        let opened = Change { opens_at: Some(Some(Timestamp::from_unix_ms(7))), ..change };
        let json = serde_json::to_string(&opened).unwrap();
        assert_eq!(serde_json::from_str::<Change>(&json).unwrap(), opened);
    }
}
