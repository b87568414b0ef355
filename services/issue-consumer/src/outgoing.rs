//! Records that leave the partition: copies for another partition, and dead letters.
//!
//! What leaves is a function of the record and the decision about it, so that a repeat after a crash makes the same copy again; the
//! forwarded one finds its id decided, the dead letter is noted once.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{Cause, Encoded, RawRecord, dead_letter, dead_letter_without_value, forwarded};
use domain::{
    coupon::{Body, Decisions, Place},
    ids::{CouponCode, RequestId},
};

use crate::{batch::Slice, store::Note, treatment::Treatment};

/// A record that has to be passed on before the position may move past it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Its offset in this partition.
    pub offset: i64,
    /// Where it goes.
    pub way: Way,
    /// The coupon, where it could be read.
    pub coupon: Option<CouponCode>,
    /// The request, where it could be read.
    pub request: Option<RequestId>,
}

/// Where a record goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To its coupon's partition of the same topic.
    Partition(i32),
    /// To the dead letter topic.
    DeadLetter {
        /// Why.
        cause: Cause,
        /// Why, in words.
        detail: String,
    },
}

/// A record that was passed on, and acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// Where its copy stands.
    pub place: Place,
    /// It could not be forwarded for its size, and became a dead letter for this reason.
    pub too_large: Option<String>,
}

impl Outgoing {
    /// What goes to the dead letter topic when no topic takes a copy of this size, and why, if the record was to be forwarded: a letter
    /// without the value. A request of a gateway is never as large, so that nobody was promised anything.
    #[must_use]
    pub fn too_large(self, reason: &str) -> (Self, Option<String>) {
        match self.way {
            Way::Partition(to) => {
                let detail = shortened(&format!("too large to be forwarded to partition {to}: {reason}"));
                let way = Way::DeadLetter { cause: Cause::TooLarge, detail: detail.clone() };
                (Self { way, ..self }, Some(detail))
            }
            Way::DeadLetter { .. } => (self, None),
        }
    }

    /// The dead letter without the value; a record to be forwarded stays whole.
    #[must_use]
    pub fn encode_without_value(&self, raw: &RawRecord<'_>) -> Encoded {
        match &self.way {
            Way::Partition(_) => self.encode(raw),
            Way::DeadLetter { cause, detail } => dead_letter_without_value(raw, *cause, detail),
        }
    }

    /// The record to publish.
    #[must_use]
    pub fn encode(&self, raw: &RawRecord<'_>) -> Encoded {
        match &self.way {
            Way::Partition(_) => forwarded(raw, self.request),
            Way::DeadLetter { cause, detail } => dead_letter(raw, *cause, detail),
        }
    }

    /// The note of a dead letter that was acknowledged.
    pub(crate) fn note(self, delivered: &BTreeMap<i64, Delivered>) -> Option<Note> {
        let Delivered { place, too_large } = delivered.get(&self.offset)?.clone();
        let (cause, detail) = match (self.way, too_large) {
            (Way::DeadLetter { cause, detail }, _) => (cause, detail),
            (Way::Partition(_), Some(detail)) => (Cause::TooLarge, detail),
            (Way::Partition(_), None) => return None,
        };
        Some(Note { offset: self.offset, coupon: self.coupon, request: self.request, cause, detail, place })
    }
}

/// What has to leave, given the decisions about a slice.
#[must_use]
pub fn outgoing(slice: &Slice<'_>, treatment: &Treatment, decisions: &Decisions) -> Vec<Outgoing> {
    let mut out = Vec::new();
    if decisions.forwards.is_empty() && decisions.unknown_coupons.is_empty() && treatment.refused().is_none() {
        // The common case costs nothing but a look at the unusable records.
        out.extend(slice.unusable().map(|(offset, unusable)| unusable_letter(offset, unusable)));
        return out;
    }
    let named = |offset: i64| {
        let records = slice.records();
        let index = records.partition_point(|record| record.place.offset < offset);
        let record = records.get(index).filter(|record| record.place.offset == offset);
        (record.map(|record| record.body.coupon().clone()), record.and_then(|record| request_of(&record.body)))
    };
    let mut forwarded = BTreeSet::new();
    for forward in &decisions.forwards {
        let (coupon, request) = named(forward.from.offset);
        forwarded.insert(forward.from.offset);
        out.push(Outgoing { offset: forward.from.offset, way: Way::Partition(forward.to), coupon, request });
    }
    if let Some(detail) = treatment.refused() {
        let offset = slice.first_offset();
        if !forwarded.contains(&offset) {
            let (coupon, request) = named(offset);
            let way = Way::DeadLetter { cause: Cause::RefusedByDatabase, detail: shortened(detail) };
            out.push(Outgoing { offset, way, coupon, request });
        }
        return out;
    }
    out.extend(slice.unusable().filter(|(offset, _)| !forwarded.contains(offset)).map(|(offset, u)| unusable_letter(offset, u)));
    for place in &decisions.unknown_coupons {
        let (coupon, request) = named(place.offset);
        let detail = "no coupon with this code is defined".to_owned();
        out.push(Outgoing {
            offset: place.offset,
            way: Way::DeadLetter { cause: Cause::UnknownCoupon, detail },
            coupon,
            request,
        });
    }
    out
}

fn unusable_letter(offset: i64, unusable: &contracts::Unusable) -> Outgoing {
    let way = Way::DeadLetter { cause: unusable.cause, detail: unusable.detail.clone() };
    Outgoing { offset, way, coupon: unusable.coupon.clone(), request: unusable.request }
}

const fn request_of(body: &Body) -> Option<RequestId> {
    match body {
        Body::Request(request) => Some(request.id),
        Body::Unusable(unusable) => Some(unusable.id),
        Body::Define(_) | Body::Change(_) | Body::Cancel(_) => None,
    }
}

/// PostgreSQL's words without what a text column or a header cannot hold, and bounded.
fn shortened(detail: &str) -> String {
    detail.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).take(contracts::DETAIL_CHARS_MAX).collect()
}
