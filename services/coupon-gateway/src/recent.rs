//! The requests that this process got acknowledged lately: it can tell a member who asks by name, and a member who asks
//! again, that his request is in the log, before the ledger knows it.
//!
//! A table of fixed size; a newer request overwrites whatever holds its place. Nothing relies on an entry being there.

use std::sync::{Mutex, PoisonError};

use domain::{
    coupon::Place,
    ids::{CouponCode, MemberId, RequestId},
};

use crate::coupons::Fingerprinter;

/// Places in the table, about 3 MB in all.
const PLACES: usize = 1 << 16;
/// Locks, so that worker threads rarely meet.
const SHARDS: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Entry {
    fingerprint: u64,
    request: RequestId,
    place: Place,
}

/// The requests that this process got acknowledged lately.
pub struct Recent {
    by: Fingerprinter,
    shards: Vec<Mutex<Vec<Option<Entry>>>>,
}

impl Default for Recent {
    fn default() -> Self {
        let shards = std::iter::repeat_with(|| Mutex::new(vec![None; PLACES / SHARDS])).take(SHARDS).collect();
        Self { by: Fingerprinter::default(), shards }
    }
}

impl Recent {
    fn at<T>(&self, fingerprint: u64, run: impl FnOnce(&mut Option<Entry>) -> T) -> Option<T> {
        let index = usize::try_from(fingerprint % u64::try_from(PLACES).unwrap_or(1)).unwrap_or(0);
        let mut shard = self.shards.get(index % SHARDS)?.lock().unwrap_or_else(PoisonError::into_inner);
        shard.get_mut(index / SHARDS).map(run)
    }

    /// The member's request was acknowledged at `place`.
    pub fn put(&self, coupon: &CouponCode, member: &MemberId, request: RequestId, place: Place) {
        let fingerprint = self.by.of_pair(coupon.as_str(), member.as_str());
        self.at(fingerprint, |entry| *entry = Some(Entry { fingerprint, request, place }));
    }

    /// The member's request that was acknowledged last, if it is still known.
    #[must_use]
    pub fn get(&self, coupon: &CouponCode, member: &MemberId) -> Option<(RequestId, Place)> {
        let fingerprint = self.by.of_pair(coupon.as_str(), member.as_str());
        let entry = self.at(fingerprint, |entry| *entry)??;
        (entry.fingerprint == fingerprint).then_some((entry.request, entry.place))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use domain::clock::SystemClock;

    use super::*;

    #[test]
    fn a_request_is_known_for_its_member_and_coupon_only() {
        let recent = Recent::default();
        let (c, d) = (CouponCode::new("c").unwrap(), CouponCode::new("d").unwrap());
        let (m, n) = (MemberId::new("m").unwrap(), MemberId::new("n").unwrap());
        let place = Place { partition: 1, offset: 2 };
        let (first, second) = (RequestId::fresh(&SystemClock), RequestId::fresh(&SystemClock));
        recent.put(&c, &m, first, place);
        assert_eq!(recent.get(&c, &m), Some((first, place)));
        assert_eq!((recent.get(&c, &n), recent.get(&d, &m)), (None, None));
        recent.put(&c, &m, second, place);
        assert_eq!(recent.get(&c, &m), Some((second, place)));
    }

    #[test]
    fn the_table_keeps_its_size() {
        let recent = Recent::default();
        let c = CouponCode::new("c").unwrap();
        let place = Place { partition: 1, offset: 2 };
        for n in 0..PLACES * 2 {
            recent.put(&c, &MemberId::new(format!("m{n}")).unwrap(), RequestId::fresh(&SystemClock), place);
        }
        assert!(recent.shards.iter().all(|shard| shard.lock().unwrap().len() == PLACES / SHARDS));
    }
}
