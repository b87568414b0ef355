//! Whether appends get on: a broker that hangs gives no error for seconds, but it gives no acknowledgement either.
//!
//! A broker that is known to be down is the producer's business, which asks it in the background until it is back.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use domain::clock::Timestamp;

/// Appends hang when some wait and none ended for this long, in milliseconds.
pub const STALL_MS: i64 = 2_000;

/// Counts the appends that wait, and when one last ended.
#[derive(Debug, Default)]
pub struct LogHealth {
    waiting: AtomicUsize,
    progress_ms: AtomicI64,
}

impl LogHealth {
    /// Appends wait, and none was acknowledged for a while. It ends when those that wait end, one way or the other.
    #[must_use]
    pub fn hangs(&self, now: Timestamp) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
            && now.unix_ms() >= self.progress_ms.load(Ordering::Relaxed).saturating_add(STALL_MS)
    }

    /// An append starts; it counts until the guard is dropped.
    pub fn start(&self, now: Timestamp) -> Waiting<'_> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) == 0 {
            self.progress_ms.store(now.unix_ms(), Ordering::Relaxed);
        }
        Waiting(self)
    }

    /// Appends that wait for their acknowledgement.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// An append that waits.
#[derive(Debug)]
pub struct Waiting<'a>(&'a LogHealth);

impl Waiting<'_> {
    /// It was acknowledged at `now`.
    pub fn acknowledged(&self, now: Timestamp) {
        self.0.progress_ms.store(now.unix_ms(), Ordering::Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_ms(ms)
    }

    #[test]
    fn only_waiting_without_progress_counts_as_hanging() {
        let health = LogHealth::default();
        assert!(!health.hangs(at(1_000_000)), "nothing waits");
        let first = health.start(at(1_000_000));
        let second = health.start(at(1_001_000));
        assert!(!health.hangs(at(1_001_999)));
        first.acknowledged(at(1_001_999));
        drop(first);
        assert!(!health.hangs(at(1_003_998)), "an acknowledgement is progress");
        assert!(health.hangs(at(1_003_999)));
        assert_eq!(health.waiting(), 1);
        drop(second);
        assert!(!health.hangs(at(2_000_000)), "nothing waits any more");
        let _third = health.start(at(2_000_000));
        assert!(!health.hangs(at(2_000_001)), "the time starts anew");
    }
}
