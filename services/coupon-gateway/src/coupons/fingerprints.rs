//! Which members hold an issue of a sold out coupon, as 64-bit fingerprints.
//!
//! A member whose fingerprint is there takes the slow path, where the ledger knows the truth; one whose fingerprint is
//! not there holds no issue. So a collision costs a look-up and never a wrong answer.

use std::{collections::hash_map::RandomState, hash::BuildHasher, sync::Arc};

use domain::ids::MemberId;

/// Makes fingerprints, with a key of this process, so that nobody can choose ids that collide.
#[derive(Debug, Clone, Default)]
pub struct Fingerprinter(RandomState);

impl Fingerprinter {
    /// The fingerprint of a member.
    #[must_use]
    pub fn of(&self, member: &MemberId) -> u64 {
        self.0.hash_one(member.as_str())
    }

    /// The fingerprint of a pair, such as a coupon and a member.
    #[must_use]
    pub fn of_pair(&self, first: &str, second: &str) -> u64 {
        self.0.hash_one((first, second))
    }
}

/// A sorted set of fingerprints, 8 bytes each. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Fingerprints(Arc<[u64]>);

impl Fingerprints {
    /// Sorts them.
    #[must_use]
    pub fn new(mut all: Vec<u64>) -> Self {
        all.sort_unstable();
        Self(all.into())
    }

    /// Whether one is there.
    #[must_use]
    pub fn contains(&self, fingerprint: u64) -> bool {
        self.0.binary_search(&fingerprint).is_ok()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use super::*;

    #[test]
    fn every_member_is_found_again_and_strangers_are_not() {
        let by = Fingerprinter::default();
        let member = |n: u32| MemberId::new(format!("user-{n}")).unwrap();
        let held = Fingerprints::new((0..1_000).map(|n| by.of(&member(n))).collect());
        assert_eq!(held.len(), 1_000);
        assert!((0..1_000).all(|n| held.contains(by.of(&member(n)))));
        // 2,000 strangers against 1,000 of 2^64: a collision would be a fault of the hash.
        assert!((1_000..3_000).all(|n| !held.contains(by.of(&member(n)))));
        assert!(Fingerprints::default().is_empty());
        assert_ne!(by.of_pair("ab", "c"), by.of_pair("a", "bc"));
    }
}
