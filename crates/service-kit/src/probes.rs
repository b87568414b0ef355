//! Liveness from the progress of loops, readiness from flags. A broker that is down is no reason to be restarted.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// What the probes of a process look at. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Health {
    began: Instant,
    loops: Arc<Mutex<Vec<Loop>>>,
    flags: Arc<Mutex<Vec<Flag>>>,
}

/// A loop: its name, how long it may be silent, and when it beat last.
type Loop = (String, Duration, Arc<AtomicU64>);

/// A condition: its name, and whether it holds.
type Flag = (String, Arc<AtomicBool>);

/// A loop's sign of life; dropping it says that the loop has ended on purpose.
#[derive(Debug)]
pub struct Heartbeat {
    health: Health,
    last_ms: Arc<AtomicU64>,
}

/// A condition for readiness; false until it is set.
#[derive(Debug, Clone)]
pub struct ReadyFlag(Arc<AtomicBool>);

impl Default for Health {
    fn default() -> Self {
        Self { began: Instant::now(), loops: Arc::default(), flags: Arc::default() }
    }
}

impl Health {
    /// A loop that has to beat at least every `age_max`; it counts as just having beaten.
    #[must_use]
    pub fn heartbeat(&self, name: impl Into<String>, age_max: Duration) -> Heartbeat {
        let last_ms = Arc::new(AtomicU64::new(self.now_ms()));
        self.loops.lock().unwrap_or_else(PoisonError::into_inner).push((name.into(), age_max, Arc::clone(&last_ms)));
        Heartbeat { health: self.clone(), last_ms }
    }

    /// A condition that has to be true for the process to be ready.
    #[must_use]
    pub fn flag(&self, name: impl Into<String>) -> ReadyFlag {
        let flag = Arc::new(AtomicBool::new(false));
        self.flags.lock().unwrap_or_else(PoisonError::into_inner).push((name.into(), Arc::clone(&flag)));
        ReadyFlag(flag)
    }

    /// The loops that stand still; empty: the process lives.
    #[must_use]
    pub fn standing_still(&self) -> Vec<String> {
        let now = self.now_ms();
        let loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        let late = loops.iter().filter_map(|(name, age_max, last)| {
            let age = Duration::from_millis(now.saturating_sub(last.load(Ordering::Relaxed)));
            (age > *age_max).then(|| format!("{name} has made no progress for {} s", age.as_secs()))
        });
        late.collect()
    }

    /// The conditions that do not hold; empty: the process is ready.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let flags = self.flags.lock().unwrap_or_else(PoisonError::into_inner);
        flags.iter().filter(|(_, flag)| !flag.load(Ordering::Relaxed)).map(|(name, _)| name.clone()).collect()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Heartbeat {
    /// The loop made progress, or found that there is nothing to do.
    pub fn beat(&self) {
        self.last_ms.store(self.health.now_ms(), Ordering::Relaxed);
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        let mut loops = self.health.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.retain(|(_, _, last)| !Arc::ptr_eq(last, &self.last_ms));
    }
}

impl ReadyFlag {
    /// Sets the condition.
    pub fn set(&self, holds: bool) {
        self.0.store(holds, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_named_until_it_beats_or_ends() {
        let health = Health::default();
        let beat = health.heartbeat("decider", Duration::ZERO);
        while health.standing_still().is_empty() {
            std::hint::spin_loop();
        }
        assert!(health.standing_still().iter().all(|line| line.contains("decider")));
        drop(beat);
        assert!(health.standing_still().is_empty());
        let patient = health.heartbeat("publisher", Duration::from_secs(3600));
        patient.beat();
        assert!(health.standing_still().is_empty());
    }

    #[test]
    fn readiness_names_what_is_missing() {
        let health = Health::default();
        let (database, log) = (health.flag("database"), health.flag("log"));
        database.set(true);
        assert_eq!(health.not_ready(), ["log"]);
        log.set(true);
        assert!(health.not_ready().is_empty());
        database.set(false);
        assert_eq!(health.not_ready(), ["database"]);
    }
}
