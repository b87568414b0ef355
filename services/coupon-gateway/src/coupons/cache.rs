//! The coupons held in the process.
//!
//! Readers take one shared lock for a moment and never wait for the database; the refresher replaces the whole table.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use domain::{
    clock::{Clock, Timestamp},
    ids::CouponCode,
};

use super::{CouponView, view::SoldOut};
use crate::config::CouponSettings;

/// Refreshes in which nobody asked for a coupon, before it may be dropped to make room.
const IDLE_REFRESHES: u32 = 100;

/// What the process remembers of a code that it does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
    /// The database said lately that there is no such coupon.
    NoCoupon,
    /// It has to be looked up.
    NotHeld,
}

struct Held {
    view: Arc<CouponView>,
    asked: AtomicBool,
    idle: u32,
}

type Table = HashMap<Box<str>, Held>;

/// The coupons held in the process; see the module.
pub struct CouponCache {
    table: RwLock<Table>,
    unknown: Mutex<HashMap<Box<str>, Timestamp>>,
    read_at_ms: AtomicI64,
    settings: CouponSettings,
    clock: Arc<dyn Clock>,
}

impl CouponCache {
    /// An empty cache.
    #[must_use]
    pub fn new(settings: CouponSettings, clock: Arc<dyn Clock>) -> Self {
        Self { table: RwLock::default(), unknown: Mutex::default(), read_at_ms: AtomicI64::new(i64::MIN), settings, clock }
    }

    /// The coupon as it was last read.
    ///
    /// # Errors
    /// It is not held; see [`Unknown`].
    pub fn get(&self, code: &str) -> Result<Arc<CouponView>, Unknown> {
        {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = table.get(code) {
                if !held.asked.load(Ordering::Relaxed) {
                    held.asked.store(true, Ordering::Relaxed);
                }
                return Ok(Arc::clone(&held.view));
            }
        }
        let unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        match unknown.get(code) {
            Some(until) if self.clock.now() < *until => Err(Unknown::NoCoupon),
            _ => Err(Unknown::NotHeld),
        }
    }

    /// Whether the views may refuse anybody at `now`: they were read lately enough for a restock to be noticed within
    /// a second. While the database does not answer, views go on saying where a coupon's log is, and refuse nobody.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        const FRESH_MS: i64 = 900;
        now.unix_ms() < self.read_at_ms.load(Ordering::Relaxed).saturating_add(FRESH_MS)
    }

    /// All codes that are held, for the refresher.
    #[must_use]
    pub fn codes(&self) -> Vec<CouponCode> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.values().map(|held| held.view.coupon.code.clone()).collect()
    }

    /// A code has no coupon; this is remembered for a moment. When too many are remembered, all are forgotten: a look-up
    /// more is cheap, because look-ups are gathered.
    pub fn put_unknown(&self, code: &CouponCode) {
        let until = self.clock.now().saturating_add_ms(i64::try_from(self.settings.unknown_ms).unwrap_or(i64::MAX));
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() >= self.settings.unknown_max {
            unknown.clear();
        }
        unknown.insert(code.as_str().into(), until);
    }

    /// Takes what was just looked up or refreshed. A reading that is older than the held one changes nothing.
    pub fn put(&self, mut view: CouponView) -> Arc<CouponView> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = table.get_mut(view.coupon.code.as_str()) {
            if held.view.next_offset <= view.next_offset {
                // While no seat came free, the memory stays until the refresher has looked at it again.
                let (old, new) = (&held.view.coupon, &view.coupon);
                if view.all_issued() && (old.issued, old.total) == (new.issued, new.total) && view.sold_out.is_none() {
                    view.sold_out.clone_from(&held.view.sold_out);
                }
                held.view = Arc::new(view);
            }
            return Arc::clone(&held.view);
        }
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).remove(view.coupon.code.as_str());
        let view = Arc::new(view);
        if table.len() >= self.settings.held_max {
            make_room(&mut table);
        }
        let held = Held { view: Arc::clone(&view), asked: AtomicBool::new(true), idle: 0 };
        table.insert(view.coupon.code.as_str().into(), held);
        view
    }

    /// Gives or takes a coupon's memory of being sold out.
    pub fn set_sold_out(&self, code: &CouponCode, sold_out: Option<SoldOut>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = table.get_mut(code.as_str()) {
            let mut view = CouponView::clone(&held.view);
            view.sold_out = sold_out;
            held.view = Arc::new(view);
        }
    }

    /// Forgets a coupon, so that the next request reads it anew.
    pub fn forget(&self, code: &str) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).remove(code);
        self.unknown.lock().unwrap_or_else(PoisonError::into_inner).remove(code);
    }

    /// All that is held was read at `at`. Coupons that nobody asked for in a long time are dropped.
    pub fn refreshed(&self, at: Timestamp) {
        self.read_at_ms.store(at.unix_ms(), Ordering::Relaxed);
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, held| {
            let asked = held.asked.swap(false, Ordering::Relaxed);
            held.idle = if asked { 0 } else { held.idle.saturating_add(1) };
            held.idle < IDLE_REFRESHES
        });
    }

    /// How many coupons are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// No coupon is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Drops the coupon that was not asked for the longest.
fn make_room(table: &mut Table) {
    let oldest = table.iter().max_by_key(|(_, held)| held.idle).map(|(code, _)| code.clone());
    if let Some(code) = oldest {
        table.remove(&code);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use std::sync::atomic::AtomicI64;

    use super::*;
    use crate::coupons::{Fingerprints, view::tests::view};

    struct Still(AtomicI64);
    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_ms(self.0.load(Ordering::Relaxed))
        }
    }

    fn cache(held_max: usize) -> (CouponCache, Arc<Still>) {
        let clock = Arc::new(Still(AtomicI64::new(1_000_000)));
        let settings = CouponSettings { held_max, unknown_max: 2, unknown_ms: 500, ..CouponSettings::default() };
        (CouponCache::new(settings, clock.clone()), clock)
    }

    #[test]
    fn a_code_without_coupon_is_remembered_for_a_moment_only() {
        let (cache, clock) = cache(10);
        let code = CouponCode::new("nobody").unwrap();
        assert_eq!(cache.get("nobody").unwrap_err(), Unknown::NotHeld);
        cache.put_unknown(&code);
        assert_eq!(cache.get("nobody").unwrap_err(), Unknown::NoCoupon);
        clock.0.fetch_add(500, Ordering::Relaxed);
        assert_eq!(cache.get("nobody").unwrap_err(), Unknown::NotHeld);
        cache.put_unknown(&code);
        cache.put(view("nobody"));
        assert_eq!(cache.get("nobody").unwrap().coupon.code, code);
        for n in 0..100 {
            cache.put_unknown(&CouponCode::new(format!("u{n}")).unwrap());
            assert!(cache.unknown.lock().unwrap().len() <= 2);
        }
    }

    #[test]
    fn an_older_reading_never_replaces_a_newer_one() {
        let (cache, _) = cache(10);
        let mut new = view("c");
        (new.next_offset, new.coupon.issued) = (10, 5);
        cache.put(new);
        cache.put(view("c"));
        assert_eq!(cache.get("c").unwrap().coupon.issued, 5);
    }

    #[test]
    fn the_number_held_is_bounded_and_idle_ones_go() {
        let (cache, clock) = cache(3);
        for n in 0..10 {
            cache.put(view(&format!("c{n}")));
            assert!(cache.len() <= 3);
        }
        assert!(cache.get("c9").is_ok());
        for _ in 0..=IDLE_REFRESHES {
            assert!(cache.get("c9").is_ok());
            cache.refreshed(clock.now());
        }
        assert_eq!(cache.codes(), [CouponCode::new("c9").unwrap()]);
        cache.forget("c9");
        assert!(cache.is_empty());
    }

    #[test]
    fn stale_views_are_known_as_stale() {
        let (cache, clock) = cache(3);
        assert!(!cache.is_fresh(clock.now()));
        cache.refreshed(clock.now());
        assert!(cache.is_fresh(clock.now()));
        assert!(!cache.is_fresh(clock.now().saturating_add_ms(900)));
    }

    #[test]
    fn the_memory_of_being_sold_out_comes_and_goes() {
        let (cache, _) = cache(3);
        let coupon = cache.put(view("c")).coupon.clone();
        cache.set_sold_out(&coupon.code, Some(SoldOut::new(&coupon, Fingerprints::default(), true)));
        let body = cache.get("c").unwrap().sold_out.as_ref().unwrap().body.clone();
        assert!(std::str::from_utf8(&body).unwrap().contains("sold_out"));
        cache.put(view("c"));
        assert!(cache.get("c").unwrap().sold_out.is_none(), "seats are left");
        let mut gone = view("c");
        gone.coupon.issued = gone.coupon.total;
        cache.put(gone.clone());
        cache.set_sold_out(&coupon.code, Some(SoldOut::new(&coupon, Fingerprints::default(), true)));
        cache.put(gone.clone());
        assert!(cache.get("c").unwrap().sold_out.is_some(), "the same reading keeps it");
        gone.coupon.total += 1;
        cache.put(gone);
        assert!(cache.get("c").unwrap().sold_out.is_none(), "a restock takes it");
        cache.set_sold_out(&coupon.code, None);
        assert!(cache.get("c").unwrap().sold_out.is_none());
    }
}
