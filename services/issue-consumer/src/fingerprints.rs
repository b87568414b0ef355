//! Who holds an issue, as 64-bit fingerprints: most members ask once, and for them no look-up is needed.
//!
//! A set is complete for its coupon as long as only this worker decides the partition, which its compare-and-set of the position
//! proves with each batch. A hit is only a suspicion and is looked up in the database; a miss is certain.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use domain::ids::{CouponCode, MemberId};

/// Passes a number through that is a hash already.
#[derive(Default, Clone)]
pub struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Set = HashSet<u64, BuildHasherDefault<AlreadyHashed>>;

/// Fingerprints of the members who hold an issue, coupon by coupon.
#[derive(Debug)]
pub struct Fingerprints {
    // A random key, so that nobody can choose member ids that collide.
    hasher: RandomState,
    sets: HashMap<CouponCode, Set>,
    held: usize,
    all: Held,
}

/// How many fingerprints all partitions hold together, and may hold.
#[derive(Debug, Clone)]
pub struct Held {
    count: Arc<AtomicUsize>,
    max: usize,
}

impl Held {
    /// None yet; at most `max`.
    #[must_use]
    pub fn at_most(max: usize) -> Self {
        Self { count: Arc::default(), max }
    }

    fn is_over(&self) -> bool {
        self.count.load(Ordering::Relaxed) > self.max
    }
}

impl Fingerprints {
    /// None yet; as many as `all` has room for. One takes about 10 to 20 bytes.
    #[must_use]
    pub fn new(all: &Held) -> Self {
        Self { hasher: RandomState::new(), sets: HashMap::new(), held: 0, all: all.clone() }
    }

    /// Whether the holders of `coupon` are known here.
    #[must_use]
    pub fn knows(&self, coupon: &CouponCode) -> bool {
        self.sets.contains_key(coupon)
    }

    /// Whether a coupon with so many issues may be loaded. Other coupons of this partition make room if they have to.
    #[must_use]
    pub fn has_room_for(&self, issues: i64) -> bool {
        let elsewhere = self.all.count.load(Ordering::Relaxed).saturating_sub(self.held);
        usize::try_from(issues).is_ok_and(|issues| issues <= self.all.max.saturating_sub(elsewhere))
    }

    /// Whether the member may hold an issue. False is certain, if the coupon is known.
    #[must_use]
    pub fn may_hold(&self, coupon: &CouponCode, member: &MemberId) -> bool {
        self.sets.get(coupon).is_none_or(|set| set.contains(&self.fingerprint(member.as_str())))
    }

    /// The fingerprint of a member's id.
    #[must_use]
    pub fn fingerprint(&self, member: &str) -> u64 {
        self.hasher.hash_one(member)
    }

    /// Takes the complete set of a coupon.
    pub fn learn(&mut self, coupon: CouponCode, fingerprints: impl IntoIterator<Item = u64>) {
        self.forget(&coupon);
        let set: Set = fingerprints.into_iter().collect();
        self.hold(set.len());
        self.sets.insert(coupon.clone(), set);
        self.keep_bound(&coupon);
    }

    /// Adds a new holder, if the coupon is known.
    pub fn add(&mut self, coupon: &CouponCode, member: &MemberId) {
        let fingerprint = self.fingerprint(member.as_str());
        let Some(set) = self.sets.get_mut(coupon) else { return };
        if set.insert(fingerprint) {
            self.hold(1);
            self.keep_bound(coupon);
        }
    }

    /// Forgets everything: another process may have decided.
    pub fn clear(&mut self) {
        self.sets.clear();
        self.let_go(self.held);
    }

    fn hold(&mut self, count: usize) {
        self.held = self.held.saturating_add(count);
        self.all.count.fetch_add(count, Ordering::Relaxed);
    }

    fn let_go(&mut self, count: usize) {
        self.held = self.held.saturating_sub(count);
        self.all.count.fetch_sub(count, Ordering::Relaxed);
    }

    fn forget(&mut self, coupon: &CouponCode) {
        if let Some(set) = self.sets.remove(coupon) {
            self.let_go(set.len());
        }
    }

    /// Over the bound, the others go first, then the coupon in use itself.
    fn keep_bound(&mut self, in_use: &CouponCode) {
        if !self.all.is_over() {
            return;
        }
        self.sets.retain(|coupon, _| coupon == in_use);
        let kept = self.sets.values().map(HashSet::len).sum();
        self.let_go(self.held.saturating_sub(kept));
        if self.all.is_over() {
            self.clear();
        }
    }
}

impl Drop for Fingerprints {
    fn drop(&mut self) {
        self.let_go(self.held);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn coupon(code: &str) -> CouponCode {
        CouponCode::new(code).unwrap()
    }

    fn member(n: usize) -> MemberId {
        MemberId::new(format!("m{n}")).unwrap()
    }

    #[test]
    fn a_miss_is_certain_and_an_unknown_coupon_is_always_suspicious() {
        let mut prints = Fingerprints::new(&Held::at_most(100));
        assert!(prints.may_hold(&coupon("a"), &member(1)));
        prints.learn(coupon("a"), []);
        assert!(!prints.may_hold(&coupon("a"), &member(1)));
        prints.add(&coupon("a"), &member(1));
        assert!(prints.may_hold(&coupon("a"), &member(1)));
        assert!(!prints.may_hold(&coupon("a"), &member(2)));
    }

    #[test]
    fn the_bound_holds_and_what_is_dropped_is_unknown_again() {
        let all = Held::at_most(3);
        let mut prints = Fingerprints::new(&all);
        prints.learn(coupon("old"), []);
        prints.add(&coupon("old"), &member(0));
        prints.learn(coupon("new"), []);
        for n in 1..=3 {
            prints.add(&coupon("new"), &member(n));
        }
        assert!(!prints.knows(&coupon("old")) && prints.knows(&coupon("new")));
        prints.add(&coupon("new"), &member(4));
        assert!(!prints.knows(&coupon("new")), "a set that is too large is given up as a whole");
        assert!(prints.may_hold(&coupon("new"), &member(1)));
        assert!(prints.has_room_for(3) && !prints.has_room_for(4));
        // Another partition's fingerprints count, too, until it is gone.
        let mut other = Fingerprints::new(&all);
        other.learn(coupon("other"), [1, 2]);
        assert!(prints.has_room_for(1) && !prints.has_room_for(2));
        drop(other);
        assert!(prints.has_room_for(3));
    }
}
