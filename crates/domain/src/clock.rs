//! Time as the rules see it: whole milliseconds since the Unix epoch, from a clock that tests can hold still.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `unix_ms` milliseconds after the epoch.
    #[must_use]
    pub const fn from_unix_ms(unix_ms: i64) -> Self {
        Self(unix_ms)
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub const fn unix_ms(self) -> i64 {
        self.0
    }

    /// This moment moved by `ms` milliseconds; it stays at the end of the range instead of wrapping.
    #[must_use]
    pub const fn saturating_add_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The same moment for chrono; moments outside chrono's range (year ±262,000) become the epoch.
    #[must_use]
    pub fn to_datetime(self) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(self.0).unwrap_or_default()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with milliseconds, such as `2024-05-01T09:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_datetime().to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// The only source of "now" for code that decides something.
pub trait Clock: Send + Sync {
    /// The current moment.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the seam that everybody else has to use")]
    fn now(&self) -> Timestamp {
        let now: Timestamp = Utc::now().into();
        #[cfg(feature = "clock-offset")]
        let now = now.saturating_add_ms(offset_ms());
        now
    }
}

/// By how much [`SystemClock`] is off in this process; 0 unless a fault drill says otherwise.
#[cfg(feature = "clock-offset")]
static OFFSET_MS: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

/// Sets [`SystemClock`] `ms` milliseconds ahead, or behind, for the whole process. Only in builds with the feature `clock-offset`.
#[cfg(feature = "clock-offset")]
pub fn set_offset_ms(ms: i64) {
    OFFSET_MS.store(ms, std::sync::atomic::Ordering::Relaxed);
}

/// By how many milliseconds [`SystemClock`] is ahead in this process.
#[cfg(feature = "clock-offset")]
#[must_use]
pub fn offset_ms() -> i64 {
    OFFSET_MS.load(std::sync::atomic::Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "the raw clock is what the seam is held against")]
    fn the_system_clock_is_off_only_where_a_drill_set_it() {
        let off_ms = || SystemClock.now().unix_ms() - Utc::now().timestamp_millis();
        assert!(off_ms().abs() < 60_000);
        #[cfg(feature = "clock-offset")]
        {
            set_offset_ms(-3_600_000);
            assert!((off_ms() + 3_600_000).abs() < 60_000);
            set_offset_ms(0);
        }
    }
}
