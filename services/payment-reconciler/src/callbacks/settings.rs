//! Settings of the callbacks, with their bounds.

use serde::{Deserialize, Serialize};
use service_kit::settings::Fault;

/// How callbacks are taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallbackSettings {
    /// The longest body that is read, in bytes.
    pub body_bytes_max: usize,
    /// The shortest time between two asks that unsigned hints may cause for one payment, in milliseconds.
    pub unsigned_gap_ms: u32,
    /// The same for signed callbacks.
    pub signed_gap_ms: u32,
    /// Unsigned callbacks of one provider that are taken a second; more are answered 429.
    pub unsigned_per_s: u32,
    /// How many of them may come at once.
    pub unsigned_burst: u32,
    /// Unsigned callbacks about payments that are not known (yet), a second and provider.
    pub unknown_per_s: u32,
    /// How many of them may come at once.
    pub unknown_burst: u32,
    /// The most unsigned callbacks that wait for the intake of their orders; more are answered 429.
    pub unknown_waiting_max: u32,
    /// The most unsigned callbacks that are kept for one payment; more only raise a number.
    pub kept_per_payment_max: u32,
    /// How long a callback waits for its payment's intake before an operator is shown it, in hours.
    pub unknown_hours: u32,
    /// How long callbacks are kept, in days.
    pub retention_days: u32,
    /// How often waiting hints and unknown payments are looked at, in milliseconds.
    pub sweep_interval_ms: u64,
    /// The most rows that one statement of the sweep touches.
    pub sweep_rows_max: u32,
}

impl Default for CallbackSettings {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 * 1024,
            unsigned_gap_ms: 10_000,
            signed_gap_ms: 1_000,
            unsigned_per_s: 200,
            unsigned_burst: 400,
            unknown_per_s: 5,
            unknown_burst: 100,
            unknown_waiting_max: 10_000,
            kept_per_payment_max: 50,
            unknown_hours: 7 * 24,
            retention_days: 90,
            sweep_interval_ms: 1_000,
            sweep_rows_max: 1_000,
        }
    }
}

impl CallbackSettings {
    /// What is wrong with these settings.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let numbers = [
            ("callbacks.body_bytes_max", u64::try_from(self.body_bytes_max).unwrap_or(u64::MAX)),
            ("callbacks.unsigned_per_s", self.unsigned_per_s.into()),
            ("callbacks.unsigned_burst", self.unsigned_burst.into()),
            ("callbacks.unknown_per_s", self.unknown_per_s.into()),
            ("callbacks.unknown_burst", self.unknown_burst.into()),
            ("callbacks.kept_per_payment_max", self.kept_per_payment_max.into()),
            ("callbacks.sweep_interval_ms", self.sweep_interval_ms),
            ("callbacks.sweep_rows_max", self.sweep_rows_max.into()),
        ];
        let zero = numbers.into_iter().filter(|(_, value)| *value == 0);
        let mut faults: Vec<Fault> = zero.map(|(field, _)| Fault::new(field, "is 0", "give at least 1")).collect();
        // Whoever can shorten the wait of unknown callbacks to less than an intake's delay loses them.
        if self.retention_days < 1 || u64::from(self.retention_days) * 24 < u64::from(self.unknown_hours) {
            let fix = "give at least as long as callbacks.unknown_hours";
            faults.push(Fault::new("callbacks.retention_days", "is shorter than callbacks wait", fix));
        }
        faults
    }
}
