//! A rate limit for many keys in bounded memory.

use std::{
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    num::NonZeroU32,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use governor::{Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, state::keyed::DashMapStateStore};

/// Keys are kept as 64 bits of a hash that differs in each process: no id is copied, and nobody can choose ids that
/// meet.
type State<C> = RateLimiter<u64, DashMapStateStore<u64, BuildHasherDefault<Hashed>>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The hash of a key that is a hash already: itself.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys are 64-bit numbers, which come by `write_u64`; anything else still counts.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// After this many keys were counted, those that count nothing any more are dropped.
const SWEEP_EVERY: usize = 32_768;

/// A rate limit for many keys. At most `keys_max` and those since the last sweep are held.
pub struct Keyed<C: Clock + Clone> {
    /// Locked for writing only when all counts begin anew.
    state: RwLock<State<C>>,
    quota: Quota,
    clock: C,
    hasher: RandomState,
    since_sweep: AtomicUsize,
    keys_max: usize,
    sweep_every: usize,
}

fn begin<C: Clock + Clone>(quota: Quota, clock: &C) -> State<C> {
    RateLimiter::new(quota, DashMapStateStore::with_hasher(BuildHasherDefault::default()), clock.clone())
}

impl<C: Clock + Clone> Keyed<C> {
    /// A limit of `per_s` a second and `burst` at once; none when one of them is 0.
    pub fn new(per_s: u32, burst: u32, keys_max: usize, clock: C) -> Option<Self> {
        let quota = Quota::per_second(NonZeroU32::new(per_s)?).allow_burst(NonZeroU32::new(burst)?);
        Some(Self {
            state: RwLock::new(begin(quota, &clock)),
            quota,
            clock,
            hasher: RandomState::new(),
            since_sweep: AtomicUsize::new(0),
            keys_max,
            sweep_every: SWEEP_EVERY.min(keys_max),
        })
    }

    /// Counts one.
    ///
    /// # Errors
    /// The whole seconds until one more is taken, at least 1.
    pub fn take<K: Hash + ?Sized>(&self, key: &K) -> Result<(), u64> {
        if self.since_sweep.fetch_add(1, Ordering::Relaxed) == self.sweep_every {
            self.sweep();
        }
        let key = self.hasher.hash_one(key);
        self.state.read().unwrap_or_else(PoisonError::into_inner).check_key(&key).map_err(|refused| {
            let wait = refused.wait_time_from(self.clock.now());
            let whole = wait.as_secs();
            if wait > Duration::from_secs(whole) { whole.saturating_add(1) } else { whole.max(1) }
        })
    }

    /// Drops what counts nothing any more. When even the rest is too much, all are let begin anew: forgetting costs
    /// a burst, refusing everybody would cost the sale.
    fn sweep(&self) {
        let keys = {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            // The room stays: it is needed again at once, and growing anew would move every key.
            state.retain_recent();
            state.len()
        };
        if keys > self.keys_max {
            tracing::warn!(keys, "too many keys are counted; their counts begin anew");
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = begin(self.quota, &self.clock);
        }
        self.since_sweep.store(0, Ordering::Relaxed);
    }

    /// How many keys are held.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.state.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn the_wait_is_told_in_whole_seconds() {
        let clock = FakeRelativeClock::default();
        let limit = Keyed::new(1, 3, 100, clock.clone()).unwrap();
        assert!((0..3).all(|_| limit.take("a").is_ok()));
        assert_eq!(limit.take("a"), Err(1));
        clock.advance(Duration::from_millis(400));
        assert_eq!(limit.take("a"), Err(1), "0.6 s are left");
        clock.advance(Duration::from_millis(600));
        assert!(limit.take("a").is_ok());
        assert!(Keyed::new(0, 3, 100, clock.clone()).is_none() && Keyed::new(3, 0, 100, clock).is_none());
    }

    #[test]
    fn memory_stays_bounded_whoever_comes() {
        let clock = FakeRelativeClock::default();
        let limit = Keyed::new(1, 5, 1_000, clock.clone()).unwrap();
        for key in 0..20_000_u32 {
            assert!(limit.take(&key).is_ok());
            assert!(limit.len() <= 2_001, "{}", limit.len());
        }
        clock.advance(Duration::from_secs(60));
        // What counts nothing any more goes first, so that one who is refused stays refused.
        assert_eq!((0..10).filter(|_| limit.take("often").is_ok()).count(), 5);
        for key in 0..1_500_u32 {
            assert!(limit.take(&key).is_ok());
            if key % 500 == 0 {
                clock.advance(Duration::from_millis(1_100));
            }
        }
        assert_eq!((0..10).filter(|_| limit.take("often").is_ok()).count(), 3, "only what 3.3 s give back");
    }
}
