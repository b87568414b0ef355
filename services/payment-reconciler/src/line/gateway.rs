//! A payment gateway with its limits: how many asks at the same time, and how many a second.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use payment_providers::port::PaymentProvider;
use tokio::sync::Notify;

use crate::config::AskSettings;

/// Asks at the same time to begin a backlog with.
const GROUP: f64 = 10.0;
/// The same for a long one.
const GROUP_LONG: f64 = 20.0;
/// Stale orders that make a backlog long.
const BACKLOG_LONG: i64 = 50;
/// What is left of the limit after a congestion.
const DECREASE: f64 = 0.7;
/// One part in so many of a second's calls may be made at once.
const BURST_SHARE: u32 = 10;
/// How often an operator's ask that waits for a slot looks whether there is one, if nobody tells it: the limit grows by answers, too.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A gateway as one replica uses it.
pub struct Gateway {
    /// The adapter.
    pub provider: Arc<dyn PaymentProvider>,
    rate: DefaultDirectRateLimiter,
    limit: Mutex<Adaptive>,
    freed: Notify,
    freed_for_operators: Notify,
    /// Whether its shared state was other than well when it was last looked at.
    pub(super) troubled: AtomicBool,
    pub(super) told_well_at: Mutex<Option<Instant>>,
}

/// The right to look after one payment of a gateway. All runs and looks of a replica share them, so that the limit holds for all together.
pub(super) struct Slot(Arc<Gateway>);

impl Drop for Slot {
    fn drop(&mut self) {
        let mut limit = self.0.limit();
        limit.busy = limit.busy.saturating_sub(1);
        drop(limit);
        self.0.freed_for_operators.notify_one();
        self.0.freed.notify_one();
    }
}

/// An operator's ask that waits for a slot: the runs leave it the next one that is free.
struct Waiting<'a>(&'a Gateway);

impl<'a> Waiting<'a> {
    fn begin(gateway: &'a Gateway) -> Self {
        let mut limit = gateway.limit();
        limit.awaited = limit.awaited.saturating_add(1);
        Self(gateway)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut limit = self.0.limit();
        limit.awaited = limit.awaited.saturating_sub(1);
        drop(limit);
        self.0.freed.notify_one();
    }
}

/// Additive increase, multiplicative decrease, under a hard limit.
struct Adaptive {
    enabled: bool,
    busy: usize,
    awaited: usize,
    limit: f64,
    hard: f64,
    slow: Duration,
    decreased_at: Option<Instant>,
    has_learnt: bool,
}

impl Gateway {
    /// A gateway with the settings' limits.
    #[must_use]
    pub fn new(provider: Arc<dyn PaymentProvider>, settings: &AskSettings) -> Self {
        let hard = f64::from(settings.concurrency_max);
        let limit = Adaptive {
            enabled: settings.adaptive,
            busy: 0,
            awaited: 0,
            limit: hard,
            hard,
            slow: Duration::from_millis(settings.slow_ms),
            decreased_at: None,
            has_learnt: false,
        };
        Self {
            provider,
            rate: RateLimiter::direct(quota(settings.rate_per_second)),
            limit: Mutex::new(limit),
            freed: Notify::new(),
            freed_for_operators: Notify::new(),
            troubled: AtomicBool::new(true),
            told_well_at: Mutex::new(None),
        }
    }

    /// Waits for the rate limit.
    pub async fn admitted(&self) {
        self.rate.until_ready().await;
    }

    /// How many asks there may be at the same time now.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.limit().slots()
    }

    /// Takes all slots that are free now and that no operator waits for. A slot is free again when it is dropped; whoever takes none waits for [`Self::freed`].
    #[must_use]
    pub(super) fn take_free(self: &Arc<Self>) -> Vec<Slot> {
        let mut limit = self.limit();
        let free = limit.slots().saturating_sub(limit.busy).saturating_sub(limit.awaited);
        limit.busy = limit.busy.saturating_add(free);
        (0..free).map(|_| Slot(Arc::clone(self))).collect()
    }

    /// Waits for a slot ahead of the runs, until `deadline`; none if there is none by then.
    pub(super) async fn slot_by(self: &Arc<Self>, deadline: tokio::time::Instant) -> Option<Slot> {
        let _waiting = Waiting::begin(self);
        loop {
            if let Some(slot) = self.take_one() {
                return Some(slot);
            }
            tokio::select! {
                () = self.freed_for_operators.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = tokio::time::sleep_until(deadline) => return None,
            }
        }
    }

    fn take_one(self: &Arc<Self>) -> Option<Slot> {
        let mut limit = self.limit();
        if limit.busy >= limit.slots() {
            return None;
        }
        limit.busy = limit.busy.saturating_add(1);
        Some(Slot(Arc::clone(self)))
    }

    /// Waits until a slot may be free. Whoever waits longest is told first.
    pub(super) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn limit(&self) -> MutexGuard<'_, Adaptive> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with as many asks at the same time as a backlog of stale orders wants, as long as nothing is known of the gateway.
    pub(super) fn seed(&self, backlog: i64) {
        self.limit().seed(backlog);
    }

    /// Learns from an ask: how long it took, and whether it was answered.
    pub fn observe(&self, took: Duration, answered: bool) {
        self.limit().observe(took, answered, Instant::now());
    }

    /// This replica tries the gateway, whose breaker is open. Another one may have opened it, just after a good answer that this one has told of:
    /// what comes of the try is told all the same.
    pub(super) fn begins_try(&self) {
        self.troubled.store(true, Ordering::SeqCst);
    }

    /// Whether the shared state has to be looked at before it is taken for well.
    pub(super) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::SeqCst)
    }
}

/// No second has more than `per_second` calls, wherever it begins: what may be made at once is taken off the pace that follows.
fn quota(per_second: u32) -> Quota {
    let at_once = (per_second / BURST_SHARE).max(1);
    let pace = per_second.saturating_sub(at_once).saturating_add(1);
    let least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(least_one(pace)).allow_burst(least_one(at_once))
}

impl Adaptive {
    fn slots(&self) -> usize {
        let limit = if self.enabled { self.limit } else { self.hard };
        // Whole slots, at least one: the loop is over a handful.
        (1_u32..).take_while(|slots| f64::from(*slots) <= limit).count().max(1)
    }

    /// Fewer than fifty stale orders are begun with ten at a time, which is all of them if there are fewer than ten, and more with twenty; from
    /// there on it is the gateway's answers that count.
    fn seed(&mut self, backlog: i64) {
        if !self.has_learnt {
            self.limit = if backlog < BACKLOG_LONG { GROUP } else { GROUP_LONG }.min(self.hard);
        }
    }

    fn observe(&mut self, took: Duration, answered: bool, now: Instant) {
        self.has_learnt = true;
        if answered && took <= self.slow {
            self.limit = (self.limit + 1.0 / self.limit).min(self.hard);
            return;
        }
        // Asks that were under way together tell of one congestion.
        if self.decreased_at.is_none_or(|at| now.duration_since(at) >= took) {
            self.limit = (self.limit * DECREASE).max(1.0);
            self.decreased_at = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use payment_providers::{ProviderKind, ProviderSettings, Providers};

    use super::*;

    #[tokio::test]
    async fn the_runs_leave_the_next_free_slot_to_an_operator_who_waits() {
        service_kit::install_crypto_provider();
        let settings = ProviderSettings::new(ProviderKind::Generic, "http://127.0.0.1:9".to_owned(), "key");
        let asking = AskSettings { concurrency_max: 1, ..AskSettings::default() };
        let gateway = Arc::new(Gateway::new(Providers::one("sim", &settings).unwrap(), &asking));
        let run = gateway.take_free();
        assert_eq!(run.len(), 1);
        assert!(gateway.slot_by(tokio::time::Instant::now()).await.is_none(), "nobody waits for ever");
        let mut operator = Box::pin(gateway.slot_by(tokio::time::Instant::now() + Duration::from_secs(60)));
        assert!(futures::poll!(operator.as_mut()).is_pending());
        drop(run);
        assert!(gateway.take_free().is_empty(), "it is the operator's");
        let slot = operator.await;
        assert!(slot.is_some() && gateway.take_free().is_empty());
        drop(slot);
        assert_eq!(gateway.take_free().len(), 1, "nobody waits any more");
    }

    fn adaptive(enabled: bool) -> Adaptive {
        Adaptive {
            enabled,
            busy: 0,
            awaited: 0,
            limit: 10.0,
            hard: 10.0,
            slow: Duration::from_millis(100),
            decreased_at: None,
            has_learnt: false,
        }
    }

    #[test]
    fn it_yields_to_errors_and_slow_answers_and_comes_back() {
        let mut limit = adaptive(true);
        let (begun, quick) = (Instant::now(), Duration::from_millis(10));
        limit.observe(quick, false, begun);
        assert_eq!(limit.slots(), 7);
        limit.observe(quick, false, begun);
        assert_eq!(limit.slots(), 7, "the same congestion counts once");
        for second in 1..20 {
            limit.observe(Duration::from_millis(101), true, begun + Duration::from_secs(second));
        }
        assert_eq!(limit.slots(), 1, "never none");
        for _ in 0..200 {
            limit.observe(quick, true, begun);
        }
        assert_eq!(limit.slots(), 10, "never above the hard limit");
    }

    #[test]
    fn a_backlog_seeds_it_and_its_answers_take_over() {
        let mut limit = Adaptive { hard: 30.0, limit: 30.0, ..adaptive(true) };
        for (backlog, slots) in [(0, 10), (9, 10), (49, 10), (50, 20), (100_000, 20)] {
            limit.seed(backlog);
            assert_eq!(limit.slots(), slots, "{backlog}");
        }
        let quick = Duration::from_millis(1);
        for _ in 0..300 {
            limit.observe(quick, true, Instant::now());
        }
        assert_eq!(limit.slots(), 30);
        limit.seed(9);
        assert_eq!(limit.slots(), 30, "only once");
        let mut small = Adaptive { hard: 4.0, limit: 4.0, ..adaptive(true) };
        small.seed(100);
        assert_eq!(small.slots(), 4, "under the hard limit");
    }

    #[test]
    fn no_second_has_more_calls_than_are_allowed_wherever_it_begins() {
        const STEP: Duration = Duration::from_micros(100);
        const STEPS: u32 = 30_000;
        let second = Duration::from_secs(1);
        for per_second in [1, 2, 5, 9, 10, 37, 100, 1_000] {
            let clock = governor::clock::FakeRelativeClock::default();
            let rate = RateLimiter::direct_with_clock(quota(per_second), clock.clone());
            let mut admitted = Vec::new();
            for step in 0..STEPS {
                while rate.check().is_ok() {
                    admitted.push(STEP * step);
                }
                clock.advance(STEP);
            }
            let in_second = |from: &Duration| admitted.iter().filter(|at| *at >= from && **at < *from + second).count();
            let busiest = admitted.iter().map(in_second).max().unwrap_or(0);
            let allowed = usize::try_from(per_second).unwrap_or(usize::MAX);
            assert_eq!(busiest, allowed, "the busiest second");
            // In three seconds at least nine tenths of what is allowed in them.
            assert!(admitted.len() * 10 >= allowed * 3 * 9, "{per_second}: {}", admitted.len());
        }
    }

    #[test]
    fn it_can_be_switched_off() {
        let mut limit = adaptive(false);
        limit.observe(Duration::from_secs(9), false, Instant::now());
        assert_eq!(limit.slots(), 10);
    }
}
