//! Asking the gate, together with everybody else who waits for the same coupon.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use domain::ids::{CouponCode, MemberId, RequestId};
use redis_io::{Gate, GateError, RESERVE_MEMBERS_MAX, Reservation, Reserve};

use crate::{
    batcher::{Batcher, NoAnswer},
    config::GateSettings,
    metrics::GatewayMetrics,
};

/// Why the gate gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoGate {
    /// Too many wait for it already.
    Full,
    /// It is cold or unavailable; a reservation under the given id may or may not exist.
    Down,
}

type Ask = (MemberId, RequestId);
type PerCoupon = Batcher<Ask, Result<Reserve, NoGate>>;

/// The gate as one worker thread asks it: one reserve call of a coupon at a time, for all who came meanwhile.
pub struct GateAsker {
    gate: Arc<Gate>,
    coupons: RefCell<HashMap<CouponCode, PerCoupon>>,
    settings: GateSettings,
    coupons_max: usize,
    metrics: Rc<GateMetrics>,
}

struct GateMetrics {
    batch: metrics::Histogram,
}

impl GateAsker {
    /// Asks `gate`; at most `coupons_max` coupons have a queue at a time.
    #[must_use]
    pub fn new(gate: Arc<Gate>, settings: GateSettings, coupons_max: usize, metrics: &GatewayMetrics) -> Self {
        let metrics = Rc::new(GateMetrics { batch: metrics.gate_batch.clone() });
        Self { gate, coupons: RefCell::default(), settings, coupons_max, metrics }
    }

    /// Asks for a seat for `member` under the id `request`.
    ///
    /// # Errors
    /// No answer; see [`NoGate`].
    pub async fn reserve(&self, coupon: &CouponCode, member: &MemberId, request: RequestId) -> Result<Reserve, NoGate> {
        let batcher = self.of(coupon);
        match batcher.ask((member.clone(), request)).await {
            Ok(answer) => answer,
            Err(NoAnswer::Full) => Err(NoGate::Full),
            Err(NoAnswer::Lost) => Err(NoGate::Down),
        }
    }

    /// Takes a reservation back, unless somebody was handed it since.
    ///
    /// # Errors
    /// Redis gave no answer.
    pub async fn release(&self, coupon: &CouponCode, reservation: &Reservation) -> Result<bool, GateError> {
        service_kit::failpoint!("gateway.release.before");
        self.gate.release(coupon, reservation).await
    }

    /// The reservation that a member holds, without being handed it.
    ///
    /// # Errors
    /// The gate is cold or gave no answer.
    pub async fn pending(&self, coupon: &CouponCode, member: &MemberId) -> Result<Option<RequestId>, GateError> {
        let found = self.gate.pending_of(coupon, std::slice::from_ref(member)).await?;
        Ok(found.into_iter().next().flatten())
    }

    fn of(&self, coupon: &CouponCode) -> PerCoupon {
        let mut coupons = self.coupons.borrow_mut();
        if let Some(batcher) = coupons.get(coupon) {
            return batcher.clone();
        }
        if coupons.len() >= self.coupons_max {
            // Whoever waits holds a clone of his queue, so that dropping it here takes it from nobody.
            coupons.clear();
        }
        let (gate, code, metrics) = (Arc::clone(&self.gate), coupon.clone(), Rc::clone(&self.metrics));
        let batch_max = self.settings.batch_max.min(RESERVE_MEMBERS_MAX);
        let batcher = Batcher::new(batch_max, self.settings.queue_max, move |asks: Vec<Ask>| {
            let (gate, code, metrics) = (Arc::clone(&gate), code.clone(), Rc::clone(&metrics));
            Box::pin(async move { ask(&gate, &code, &asks, &metrics).await })
        });
        coupons.insert(coupon.clone(), batcher.clone());
        batcher
    }
}

async fn ask(gate: &Gate, code: &CouponCode, asks: &[Ask], metrics: &GateMetrics) -> Vec<Result<Reserve, NoGate>> {
    metrics.batch.record(f64::from(u32::try_from(asks.len()).unwrap_or(u32::MAX)));
    let replied = gate.reserve(code, asks).await;
    service_kit::failpoint!("gateway.gate.replied", return vec![Err(NoGate::Down); asks.len()]);
    match replied {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => {
            match error {
                GateError::Cold => tracing::debug!(couponCode = %code, "the gate is cold"),
                error => tracing::warn!(couponCode = %code, %error, requests = asks.len(), "the gate gave no answer"),
            }
            vec![Err(NoGate::Down); asks.len()]
        }
    }
}
