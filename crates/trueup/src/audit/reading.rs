//! One pass over the log, for all coupons that are audited.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use contracts::{Cause, Decoded, LogKey, RawRecord, decode, origin_of};
use domain::{
    coupon::{Body, LogIncarnation, Place, Record, Unusable},
    ids::CouponCode,
};

use super::{
    difference::{Differences, Kind},
    fold::Fold,
};

/// A record that does not stand on its coupon's partition.
#[derive(Debug, Clone, Copy)]
struct Foreign {
    place: Place,
    origin: Place,
    bytes: u64,
}

/// What the log says about one coupon.
#[derive(Debug)]
pub struct Reading {
    code: CouponCode,
    /// The partition that holds its log.
    pub partition: i32,
    /// Its own fold.
    pub fold: Fold,
    /// Records that had to become dead letters: of this coupon, or of none that could be read.
    pub letters: BTreeMap<Place, Cause>,
    foreign: Vec<Foreign>,
    copies: HashMap<Place, u64>,
    /// Places where the database notes that it refused a record's data: that cannot follow from the log.
    refused_by_database: HashSet<Place>,
}

impl Reading {
    /// Nothing read. `home` is the partition that the code hashes to now.
    #[must_use]
    pub fn new(code: CouponCode, partition: i32, home: i32, refused_by_database: HashSet<Place>) -> Self {
        let fold = Fold::new(code.clone(), partition == home);
        let (letters, foreign, copies) = (BTreeMap::new(), Vec::new(), HashMap::new());
        Self { code, partition, fold, letters, foreign, copies, refused_by_database }
    }

    /// Takes the next record of a partition. `decided` is false at and past the partition's decided position: there only copies count.
    pub fn take(&mut self, raw: &RawRecord<'_>, decoded: &Decoded, decided: bool) {
        let place = raw.place();
        let (record, unusable) = match decoded {
            Decoded::Usable(record) => (Some(record.clone()), None),
            Decoded::Unusable(unusable) => (final_record(raw, unusable), Some(unusable)),
        };
        let of_this = record.as_ref().is_some_and(|record| *record.body.coupon() == self.code);
        if place.partition != self.partition {
            if of_this && decided {
                self.foreign.push(Foreign { place, origin: origin_of(raw), bytes: fingerprint(raw) });
            } else if decided && record.is_none() {
                self.letter(place, unusable);
            }
            return;
        }
        let origin = origin_of(raw);
        if of_this && origin != place {
            self.copies.entry(origin).or_insert_with(|| fingerprint(raw));
        }
        if !decided {
            return;
        }
        let forwarded_before = self.fold.forwarded.len();
        if let Some(record) = record {
            if self.refused_by_database.contains(&place) && of_this {
                if let Some(record) = given_up(&record) {
                    self.fold.record(&record);
                }
            } else {
                self.fold.record(&record);
            }
        }
        if self.fold.forwarded.len() == forwarded_before {
            self.letter(place, unusable);
        } else {
            self.foreign.push(Foreign { place, origin, bytes: fingerprint(raw) });
        }
    }

    fn letter(&mut self, place: Place, unusable: Option<&contracts::Unusable>) {
        if let Some(unusable) = unusable
            && unusable.coupon.as_ref().is_none_or(|coupon| *coupon == self.code)
        {
            self.letters.insert(place, unusable.cause);
        }
    }

    /// Every dead letter that has to be noted.
    #[must_use]
    pub fn expected_letters(&self) -> BTreeMap<Place, Cause> {
        let unknown = self.fold.unknown.keys().map(|offset| Place { partition: self.partition, offset: *offset });
        self.letters
            .iter()
            .map(|(place, cause)| (*place, *cause))
            .chain(unknown.map(|place| (place, Cause::UnknownCoupon)))
            .collect()
    }

    /// Checks that every foreign record has its copy, with the same key and value. `letters`: places where the coupon was
    /// not yet known, or the record too large for a copy, and which are dead letters instead.
    pub fn check_copies(&self, letters: &HashSet<Place>, differences: &mut Differences) {
        for foreign in self.foreign.iter().filter(|foreign| !letters.contains(&foreign.place)) {
            let subject = || format!("record {}", foreign.place);
            match self.copies.get(&foreign.origin) {
                None => {
                    let expected = format!("a copy on partition {} with trueup-origin {}", self.partition, foreign.origin);
                    differences.add(Kind::NotForwarded, subject(), expected, "no copy");
                }
                Some(bytes) if *bytes != foreign.bytes => {
                    differences.add(Kind::ChangedCopy, subject(), "the same key and value", "other bytes");
                }
                Some(_) => {}
            }
        }
    }

    /// Records that stand on other partitions and were forwarded.
    #[must_use]
    pub const fn foreign_records(&self) -> usize {
        self.foreign.len()
    }
}

/// All coupons' readings, and what is needed to decode.
pub struct Readings<'a> {
    /// Verifies signatures.
    pub log_key: &'a LogKey,
    /// Which log it is.
    pub log: &'a LogIncarnation,
    /// One for each coupon.
    pub coupons: &'a mut [Reading],
}

impl Readings<'_> {
    /// Decodes a record once and gives it to every coupon's reading.
    pub fn take(&mut self, raw: &RawRecord<'_>, decided: bool) {
        let decoded = decode(raw, self.log_key, self.log);
        for coupon in self.coupons.iter_mut() {
            coupon.take(raw, &decoded, decided);
        }
    }
}

/// A record that cannot be used, but whose coupon and request can be read, is final.
fn final_record(raw: &RawRecord<'_>, unusable: &contracts::Unusable) -> Option<Record> {
    let (coupon, id) = (unusable.coupon.clone()?, unusable.request?);
    let body = Body::Unusable(Unusable { id, coupon, member: unusable.member.clone() });
    Some(Record { place: raw.place(), at: domain::clock::Timestamp::from_unix_ms(raw.timestamp_ms), body })
}

/// What is left of a record whose data PostgreSQL refused: its request is final, a command is gone.
fn given_up(record: &Record) -> Option<Record> {
    let unusable = match &record.body {
        Body::Request(request) => {
            Unusable { id: request.id, coupon: request.coupon.clone(), member: Some(request.member.clone()) }
        }
        Body::Unusable(unusable) => unusable.clone(),
        Body::Define(_) | Body::Change(_) | Body::Cancel(_) => return None,
    };
    Some(Record { body: Body::Unusable(unusable), ..record.clone() })
}

fn fingerprint(raw: &RawRecord<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (raw.key, raw.value).hash(&mut hasher);
    hasher.finish()
}
