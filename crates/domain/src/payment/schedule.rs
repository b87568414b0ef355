//! When a payment is asked about next, and after which time what follows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PaymentMethod;
use crate::clock::Timestamp;

/// A minute in milliseconds.
const MINUTE: i64 = 60_000;
/// An hour in milliseconds.
const HOUR: i64 = 60 * MINUTE;
/// A day in milliseconds.
const DAY: i64 = 24 * HOUR;

/// Delays that double from the first one up to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The first delay, in milliseconds.
    pub first_ms: i64,
    /// The longest delay, in milliseconds.
    pub longest_ms: i64,
}

impl Schedule {
    /// From this delay to that one.
    #[must_use]
    pub const fn new(first_ms: i64, longest_ms: i64) -> Self {
        Self { first_ms, longest_ms }
    }

    /// The delay after `done` checks: `first × 2^done`, at most the longest.
    #[must_use]
    pub fn delay_ms(&self, done: u32) -> i64 {
        let factor = 1_i64.checked_shl(done.min(62)).unwrap_or(i64::MAX);
        self.first_ms.saturating_mul(factor).clamp(0, self.longest_ms.max(0))
    }
}

/// What the verdict goes by, for one provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// How long the gateway lets a payer pay, in milliseconds. A payment that it does not know is unknown for twice this time, then failed;
    /// one that is still open then is closed at the gateway.
    pub payment_window_ms: i64,
    /// The same for methods whose payers have longer, such as deposits, in milliseconds: how long one that is open and of which the gateway
    /// names no expiry is left open. A payment that the gateway does not know at all is no deposit yet, whatever its method.
    pub payment_windows_ms: BTreeMap<PaymentMethod, i64>,
    /// How long a failed payment is asked for late money, in milliseconds, if the gateway's own expiry is not later.
    pub sweep_ms: i64,
    /// The age at which an open payment is shown to an operator, in milliseconds; of a deposit, the time after its expiry.
    pub handover_ms: i64,
    /// The age at which a status that the table does not know is shown to an operator, in milliseconds.
    pub unknown_ms: i64,
    /// How long a confirmed refund is asked about, in milliseconds.
    pub watch_ms: i64,
    /// The age at which an open refund is shown to an operator, in milliseconds.
    pub refund_overdue_ms: i64,
    /// How long the gateway may work on a refund that was sent before it is asked and sent again, in milliseconds.
    pub refund_grace_ms: i64,
    /// Between two asks about an open payment, by method.
    pub open: BTreeMap<PaymentMethod, Schedule>,
    /// The same for methods that are not listed.
    pub open_otherwise: Schedule,
    /// After asks that brought no answer.
    pub unanswered: Schedule,
    /// Between two looks for late money.
    pub sweep: Schedule,
    /// Between two looks at an open refund.
    pub refund: Schedule,
    /// Between two looks at a confirmed refund.
    pub watch: Schedule,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            payment_window_ms: 30 * MINUTE,
            payment_windows_ms: BTreeMap::from([(PaymentMethod::VirtualAccount, 7 * DAY)]),
            sweep_ms: 5 * DAY,
            handover_ms: DAY,
            unknown_ms: HOUR,
            watch_ms: 30 * DAY,
            refund_overdue_ms: DAY,
            refund_grace_ms: 30_000,
            open: BTreeMap::from([
                (PaymentMethod::VirtualAccount, Schedule::new(10 * MINUTE, HOUR)),
                (PaymentMethod::Transfer, Schedule::new(2 * MINUTE, HOUR)),
            ]),
            open_otherwise: Schedule::new(MINUTE, HOUR),
            unanswered: Schedule::new(30_000, 15 * MINUTE),
            sweep: Schedule::new(HOUR, 12 * HOUR),
            refund: Schedule::new(10_000, HOUR),
            watch: Schedule::new(6 * HOUR, 2 * DAY),
        }
    }
}

impl Policy {
    /// The schedule of a payment that is still open.
    #[must_use]
    pub fn open(&self, method: PaymentMethod) -> Schedule {
        self.open.get(&method).copied().unwrap_or(self.open_otherwise)
    }

    /// How long a payer may take, in milliseconds, where the gateway names no expiry.
    #[must_use]
    pub fn window_ms(&self, method: PaymentMethod) -> i64 {
        self.payment_windows_ms.get(&method).copied().unwrap_or(self.payment_window_ms)
    }

    /// When a payment that is still open is shown to an operator, in milliseconds of its age, outages not counted. `expires_at` is until
    /// when money may arrive, as far as it is known by now; of a deposit without one, its window counts.
    #[must_use]
    pub fn handover_age_ms(&self, method: PaymentMethod, created_at: Timestamp, expires_at: Option<Timestamp>) -> i64 {
        let window = self.payment_windows_ms.get(&method).copied().unwrap_or(0);
        let deposit = expires_at.map_or(window, |expiry| expiry.unix_ms().saturating_sub(created_at.unix_ms()).max(0));
        self.handover_ms.saturating_add(deposit)
    }

    /// Whether a payment that is still open is shown to an operator for its age, answered or not. `outage_ms` is for how long of its life
    /// its gateway could not be asked.
    #[must_use]
    pub fn is_overdue(
        &self,
        method: PaymentMethod,
        created_at: Timestamp,
        expires_at: Option<Timestamp>,
        now: Timestamp,
        outage_ms: i64,
    ) -> bool {
        let age_ms = now.unix_ms().saturating_sub(created_at.unix_ms()).saturating_sub(outage_ms);
        age_ms >= self.handover_age_ms(method, created_at, expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_longest_and_never_overflow() {
        let schedule = Schedule::new(1_000, 10_000);
        let delays: Vec<_> = [0, 1, 2, 3, 4, 62, 63, 64, u32::MAX].map(|done| schedule.delay_ms(done)).into();
        assert_eq!(delays, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000, 10_000, 10_000]);
        assert_eq!(Schedule::new(i64::MAX, i64::MAX).delay_ms(5), i64::MAX);
    }
}
