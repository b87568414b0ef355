//! What the drill remembers of each 202 until it is held against log and ledger.

use std::sync::{Mutex, PoisonError};

use domain::ids::RequestId;

/// A request that was answered 202.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// The request.
    pub request: RequestId,
    /// Index of the coupon.
    pub coupon: u16,
    /// What its ticket told: 0 nothing yet, else 1 + index in [`Promises::names`].
    told: u16,
}

/// An accepted request that was answered otherwise when it was asked for again under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turned {
    /// The request.
    pub request: RequestId,
    /// Index of the coupon.
    pub coupon: usize,
    /// The code of the second answer.
    pub code: String,
}

/// All 202s, 20 bytes each; the same id answered twice is remembered twice and verified once.
#[derive(Debug, Default)]
pub struct Promises {
    all: Mutex<(Vec<Promise>, Vec<String>)>,
    turned: Mutex<Vec<Turned>>,
}

impl Promises {
    /// Remembers one, and returns its number.
    pub fn add(&self, request: RequestId, coupon: usize) -> usize {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.0.push(Promise { request, coupon: u16::try_from(coupon).unwrap_or(u16::MAX), told: 0 });
        all.0.len().saturating_sub(1)
    }

    /// Notes what a ticket told.
    pub fn told(&self, number: usize, outcome: &str) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let (promises, names) = &mut *all;
        let index = names.iter().position(|name| name == outcome).unwrap_or_else(|| {
            names.push(outcome.to_owned());
            names.len().saturating_sub(1)
        });
        if let Some(promise) = promises.get_mut(number) {
            promise.told = u16::try_from(index.saturating_add(1)).unwrap_or(0);
        }
    }

    /// Remembers a second answer that was no 202.
    pub fn turned(&self, turned: Turned) {
        self.turned.lock().unwrap_or_else(PoisonError::into_inner).push(turned);
    }

    /// The second answers that were no 202.
    #[must_use]
    pub fn take_turned(&self) -> Vec<Turned> {
        std::mem::take(&mut *self.turned.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of them, sorted by request and coupon, each with what was told last; equal ones are merged.
    #[must_use]
    pub fn take(&self) -> Vec<(RequestId, usize, Option<String>)> {
        let (mut promises, names) = std::mem::take(&mut *self.all.lock().unwrap_or_else(PoisonError::into_inner));
        promises.sort_unstable_by_key(|promise| (promise.request, promise.coupon, std::cmp::Reverse(promise.told)));
        promises.dedup_by_key(|promise| (promise.request, promise.coupon));
        let name = |told: u16| usize::from(told).checked_sub(1).and_then(|index| names.get(index)).cloned();
        promises.iter().map(|promise| (promise.request, usize::from(promise.coupon), name(promise.told))).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use domain::clock::SystemClock;

    use super::*;

    #[test]
    fn equal_ids_are_merged_and_what_was_told_stays() {
        let promises = Promises::default();
        let (first, second) = (RequestId::fresh(&SystemClock), RequestId::fresh(&SystemClock));
        let number = promises.add(first, 0);
        promises.add(second, 1);
        promises.add(first, 0);
        promises.told(number, "issued");
        let mut taken = promises.take();
        taken.sort_by_key(|promise| promise.1);
        assert_eq!(taken, [(first, 0, Some("issued".to_owned())), (second, 1, None)]);
    }
}
