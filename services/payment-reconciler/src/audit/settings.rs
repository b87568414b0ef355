//! Settings of the audit, with its bounds.

use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

/// The most nights that may be made up for: gateways list no time without end.
const NIGHTS_MAX: u32 = 31;

/// When gateways are audited, and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Whether yesterday is audited each night.
    pub nightly: bool,
    /// How far the business day is from UTC, in minutes: 540 for Seoul.
    pub day_offset_minutes: i32,
    /// How long after the day's end the nightly audit begins, in minutes; lists of gateways come late.
    pub start_after_minutes: u32,
    /// How often it is looked whether one is to be made, in milliseconds.
    pub look_interval_ms: u64,
    /// The piece of a day that is compared at a time, in minutes; it bounds the memory.
    pub window_minutes: u32,
    /// How much of the time around a piece is read as well, in minutes: clocks differ.
    pub margin_minutes: u32,
    /// What moved in the last so many minutes before an audit began is left out, because it may not have been settled yet.
    pub settling_minutes: u32,
    /// The most lines of a piece; with more the audit cannot tell.
    pub window_lines_max: usize,
    /// The most payments that are asked about because the list does not have them.
    pub asks_max: u32,
    /// The most differences that a report names; the others are counted.
    pub differences_max: usize,
    /// The longest time that an operator may audit at once, in days.
    pub days_max: u32,
    /// How long an audit waits in all for a gateway that wants fewer calls, in milliseconds; then it cannot tell.
    pub pause_wait_ms: u64,
    /// After how many minutes a night's audit that could not tell is made again.
    pub retry_after_minutes: u32,
    /// How many of the last nights are audited as long as nobody can tell of them.
    pub nights_max: u32,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            nightly: true,
            day_offset_minutes: 0,
            start_after_minutes: 150,
            look_interval_ms: 60_000,
            window_minutes: 60,
            margin_minutes: 15,
            settling_minutes: 15,
            window_lines_max: 100_000,
            asks_max: 500,
            differences_max: 1_000,
            days_max: 31,
            pause_wait_ms: 60_000,
            retry_after_minutes: 30,
            nights_max: 7,
        }
    }
}

impl AuditSettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if self.day_offset_minutes.unsigned_abs() > 14 * 60 {
            faults.push(Fault::new("audit.day_offset_minutes", "is no offset from UTC", "give -840 to 840, such as 540"));
        }
        if self.start_after_minutes < self.settling_minutes {
            let fix = "give at least audit.settling_minutes, so that nothing of a night's day is left out";
            faults.push(Fault::new("audit.start_after_minutes", "is before the day is settled", fix));
        }
        if !(1..=NIGHTS_MAX).contains(&self.nights_max) {
            let fix = format!("give 1 (only the newest) to {NIGHTS_MAX}");
            faults.push(Fault::new("audit.nights_max", "is no number of nights that can be made up for", fix));
        }
        for (field, value) in [
            ("audit.look_interval_ms", self.look_interval_ms),
            ("audit.window_minutes", self.window_minutes.into()),
            ("audit.window_lines_max", u64::try_from(self.window_lines_max).unwrap_or(u64::MAX)),
            ("audit.days_max", self.days_max.into()),
            ("audit.retry_after_minutes", self.retry_after_minutes.into()),
        ] {
            if value == 0 {
                faults.push(Fault::new(field, "is 0", "give at least 1"));
            }
        }
        faults
    }
}
