//! One coupon as this process last read it.

use actix_web::web::Bytes;
use domain::{clock::Timestamp, coupon::Coupon};

use super::Fingerprints;
use crate::error::ApiError;

/// One coupon as this process last read it. A view never changes; a reading that differs makes a new one.
#[derive(Debug, Clone)]
pub struct CouponView {
    /// The coupon.
    pub coupon: Coupon,
    /// The next record of the coupon's partition that will be decided, in the same snapshot.
    pub next_offset: i64,
    /// Whether requests go on without the gate while it is down or cold.
    pub queued_when_cold: bool,
    /// What is needed to answer "sold out" here; none while seats are left, or while that answer could be wrong.
    pub sold_out: Option<SoldOut>,
}

/// What is needed to answer "sold out" without asking anybody.
#[derive(Debug, Clone)]
pub struct SoldOut {
    /// The members that hold an issue.
    pub holders: Fingerprints,
    /// Every request that exists is decided: the log was read to an end that was seen after the coupon sold out.
    pub all_decided: bool,
    /// The body of the answer, rendered once.
    pub body: Bytes,
}

impl SoldOut {
    /// The memory for a coupon whose issues are held by `holders`.
    #[must_use]
    pub fn new(coupon: &Coupon, holders: Fingerprints, all_decided: bool) -> Self {
        Self { holders, all_decided, body: Bytes::from(ApiError::SoldOut(coupon.code.clone()).body()) }
    }
}

/// Why a newcomer's request is clearly outside of the coupon's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Ended, for good.
    Ended,
    /// Before the opening time, by more than the clocks may differ.
    NotOpen(Timestamp),
    /// At or after the closing time, by more than the clocks may differ.
    Closed(Timestamp),
    /// Paused.
    Paused,
}

impl CouponView {
    /// The database says that every seat is given.
    #[must_use]
    pub const fn all_issued(&self) -> bool {
        self.coupon.issued >= self.coupon.total
    }

    /// Whether a newcomer at `now` is clearly outside of the rules, in the order in which the log judges. The log's
    /// time is the broker's; within `skew_ms` of a bound it is left to the log.
    #[must_use]
    pub fn outside(&self, now: Timestamp, skew_ms: i64) -> Option<Outside> {
        let coupon = &self.coupon;
        if coupon.ended {
            return Some(Outside::Ended);
        }
        match (coupon.opens_at, coupon.closes_at) {
            (Some(opens), _) if now.saturating_add_ms(skew_ms) < opens => Some(Outside::NotOpen(opens)),
            (_, Some(closes)) if now >= closes.saturating_add_ms(skew_ms) => Some(Outside::Closed(closes)),
            _ if coupon.paused => Some(Outside::Paused),
            _ => None,
        }
    }

    /// The error that says so.
    #[must_use]
    pub fn outside_error(&self, outside: Outside) -> ApiError {
        let coupon = self.coupon.code.clone();
        match outside {
            Outside::Ended => ApiError::Ended(coupon),
            Outside::NotOpen(opens_at) => ApiError::NotOpen { coupon, opens_at },
            Outside::Closed(closes_at) => ApiError::Closed { coupon, closes_at: Some(closes_at) },
            Outside::Paused => ApiError::Paused(coupon),
        }
    }

    /// How many records are ahead of `offset`, at most: the position only grows after the snapshot.
    #[must_use]
    pub fn ahead(&self, offset: i64) -> i64 {
        offset.saturating_sub(self.next_offset).max(0)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::as_conversions, missing_docs)]
    use domain::{coupon::Admission, ids::CouponCode};

    use super::*;

    pub(crate) fn view(code: &str) -> CouponView {
        let coupon = Coupon {
            code: CouponCode::new(code).unwrap(),
            name: "A coupon".to_owned(),
            admission: Admission::Queued,
            partition: 3,
            total: 10,
            issued: 0,
            opens_at: None,
            closes_at: None,
            paused: false,
            ended: false,
            rules_offset: 0,
        };
        CouponView { coupon, next_offset: 0, queued_when_cold: true, sold_out: None }
    }

    #[test]
    fn only_what_is_clearly_outside_is_refused() {
        let at = Timestamp::from_unix_ms;
        let mut view = view("c");
        assert_eq!(view.outside(at(0), 1_000), None);
        view.coupon.opens_at = Some(at(10_000));
        view.coupon.closes_at = Some(at(20_000));
        for (now, outside) in [
            (8_999, Some(Outside::NotOpen(at(10_000)))),
            (9_000, None),
            (20_999, None),
            (21_000, Some(Outside::Closed(at(20_000)))),
        ] {
            assert_eq!(view.outside(at(now), 1_000), outside, "{now}");
        }
        view.coupon.paused = true;
        assert_eq!(view.outside(at(15_000), 1_000), Some(Outside::Paused));
        // The log judges the window before the pause, and the end before both.
        assert_eq!(view.outside(at(0), 1_000), Some(Outside::NotOpen(at(10_000))));
        view.coupon.ended = true;
        assert_eq!(view.outside(at(0), 1_000), Some(Outside::Ended));
    }

    #[test]
    fn nothing_is_ahead_of_what_is_decided() {
        let mut view = view("c");
        view.next_offset = 100;
        assert_eq!([view.ahead(99), view.ahead(100), view.ahead(130)], [0, 0, 30]);
    }
}
