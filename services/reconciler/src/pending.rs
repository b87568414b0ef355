//! Task 1: reservations that nobody has published for the grace time are published again, under the id they have.
//!
//! Nobody decides here. The fold gives the request its outcome, or finds that it has one; the settler then does the rest. A copy
//! that comes twice is told its outcome twice, so that a repeat can do no harm but cost a record. A request that PostgreSQL refuses time
//! and again is given up: see [`crate::given_up`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use domain::{clock::Timestamp, coupon::Request, ids::CouponCode};
use redis_io::{Gate, GateError, Reservation};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::PendingSettings,
    error::TaskError,
    given_up::Hopeless,
    lease::Task,
    log::{CommandLog, Published},
    schedule::{Next, Periodic},
    store::{Store, Watched, Which},
    walk::{Coupons, Walk},
};

/// Publishes forgotten reservations again.
pub struct PendingTask {
    /// PostgreSQL.
    pub store: Arc<Store>,
    /// Redis.
    pub gate: Arc<Gate>,
    /// Kafka.
    pub log: Arc<dyn CommandLog>,
    /// Ages, sizes and bounds.
    pub settings: PendingSettings,
}

/// What one run did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PendingReport {
    /// Coupons looked at.
    pub coupons: usize,
    /// Reservations in open gates.
    pub pending: i64,
    /// Coupons whose old reservations were left alone, because their partition has a long line anyway.
    pub deferred: usize,
    /// Published and acknowledged.
    pub acknowledged: usize,
    /// Never reached a broker; the next round tries again.
    pub refused: usize,
    /// May have been written.
    pub unknown: usize,
    /// Given up, because PostgreSQL refuses their requests.
    pub given_up: usize,
    /// Coupons that failed, with their error.
    pub failures: Vec<(CouponCode, String)>,
}

#[derive(Debug, Default)]
struct CouponReport {
    pending: i64,
    oldest_ms: i64,
    deferred: bool,
    acknowledged: usize,
    refused: usize,
    unknown: usize,
    given_up: usize,
}

impl PendingTask {
    /// Looks at every reserved coupon once. One coupon's failure is noted and the next one goes on.
    ///
    /// # Errors
    /// The coupons cannot be listed.
    pub async fn run_once(&self, walk: &Walk) -> Result<PendingReport, TaskError> {
        let mut report = PendingReport::default();
        let mut oldest_ms = 0;
        let mut coupons = Coupons::new(&self.store, Which::ReservedAndLatelyEnded, walk);
        while let Some(watched) = coupons.next().await? {
            report.coupons += 1;
            match self.coupon(&watched, &walk.stop).await {
                Ok(coupon) => {
                    report.pending += coupon.pending;
                    report.deferred += usize::from(coupon.deferred);
                    report.acknowledged += coupon.acknowledged;
                    report.refused += coupon.refused;
                    report.unknown += coupon.unknown;
                    report.given_up += coupon.given_up;
                    oldest_ms = oldest_ms.max(coupon.oldest_ms);
                }
                Err(error) => {
                    let told = walk.failed(Task::Pending, &watched.coupon.code, &error);
                    report.failures.push((watched.coupon.code, told));
                }
            }
        }
        metrics::gauge!("trueup_reconciler_pending_reservations").set(gauge(report.pending));
        metrics::gauge!("trueup_reconciler_pending_oldest_seconds").set(gauge(oldest_ms) / 1_000.0);
        metrics::gauge!("trueup_reconciler_pending_deferred_coupons")
            .set(gauge(i64::try_from(report.deferred).unwrap_or(i64::MAX)));
        Ok(report)
    }

    async fn coupon(&self, watched: &Watched, stop: &CancellationToken) -> Result<CouponReport, TaskError> {
        let code = &watched.coupon.code;
        let status = self.gate.status(code).await?;
        let mut report = CouponReport::default();
        if status.state.is_cold() {
            return Ok(report);
        }
        report.pending = status.pending;
        let waiting_ms = status.oldest_publish.map_or(0, |oldest| status.now.unix_ms().saturating_sub(oldest.unix_ms()));
        report.oldest_ms = waiting_ms;
        if waiting_ms < i64::try_from(self.settings.grace_ms).unwrap_or(i64::MAX) {
            return Ok(report);
        }
        // In a long line, a reservation is most likely a part of that line. A copy would only make it longer.
        let end = self.log.end_of(watched.coupon.partition).await?;
        let decided = watched.position.as_ref().map_or(0, |position| position.next_offset);
        if end.saturating_sub(decided) > self.settings.lag_records_max {
            report.deferred = true;
            return Ok(report);
        }
        let ttl = Duration::from_millis(self.settings.lease_ms);
        if !self.store.acquire(code, Task::Pending, ttl, Duration::ZERO).await? {
            return Ok(report);
        }
        let published = self.publish_old(watched, status.now, stop, &mut report).await;
        // Given back whatever happened; what was handed out is not handed out again within the grace time.
        self.store.give_back(code, Task::Pending, published.is_ok()).await?;
        if report.acknowledged + report.refused + report.unknown > 0 {
            tracing::info!(couponCode = %code, acknowledged = report.acknowledged, refused = report.refused, unknown = report.unknown,
                "[RECONCILIATION] old reservations published again");
        }
        published.map(|()| report)
    }

    async fn publish_old(
        &self,
        watched: &Watched,
        now: Timestamp,
        stop: &CancellationToken,
        report: &mut CouponReport,
    ) -> Result<(), TaskError> {
        let (code, partition) = (&watched.coupon.code, watched.coupon.partition);
        let grace = Duration::from_millis(self.settings.grace_ms);
        for _ in 0..self.settings.pages_max {
            if stop.is_cancelled() {
                return Err(TaskError::Stopped);
            }
            let page = match self.gate.pending_older_than(code, grace, self.settings.page).await {
                // It went cold since it was looked at: the gate task drains the log and loads it anew.
                Err(GateError::Cold) => return Ok(()),
                page => page?,
            };
            let full = page.len() >= self.settings.page;
            let page = self.without_hopeless(code, now, page, report).await?;
            if page.is_empty() {
                if full {
                    continue;
                }
                return Ok(());
            }
            let requests: Vec<Request> = page.iter().map(|one| request_of(code, one)).collect();
            service_kit::failpoint!("reconciler.pending.handed_out");
            let outcomes = self.log.publish(partition, &requests).await;
            service_kit::failpoint!("reconciler.pending.published");
            let mut acknowledged = 0;
            for (one, outcome) in page.iter().zip(&outcomes) {
                match outcome {
                    Published::Acknowledged => acknowledged += 1,
                    Published::Refused(_) => report.refused += 1,
                    Published::Unknown(_) => report.unknown += 1,
                }
                tell(code, one, outcome);
            }
            report.acknowledged += acknowledged;
            // A broker that takes nothing will not take the next page either.
            if acknowledged == 0 || !full {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl PendingTask {
    /// Gives up what PostgreSQL has refused often enough, and leaves the rest. Only reservations that are old enough to have been refused so
    /// often are looked up.
    async fn without_hopeless(
        &self,
        code: &CouponCode,
        now: Timestamp,
        page: Vec<Reservation>,
        report: &mut CouponReport,
    ) -> Result<Vec<Reservation>, TaskError> {
        let tries = self.settings.refusals_max;
        let age_ms = i64::try_from(self.settings.grace_ms).unwrap_or(i64::MAX).saturating_mul(tries);
        let old = page.iter().filter(|one| now.unix_ms().saturating_sub(one.reserved_at.unix_ms()) >= age_ms);
        let old: Vec<Uuid> = old.map(|one| one.request.uuid()).collect();
        let mut refused = self.store.refused(code, &old, tries).await?;
        let (mut hopeless, mut rest) = (Vec::new(), Vec::new());
        for reservation in page {
            match refused.remove(&reservation.request.uuid()) {
                Some(detail) => hopeless.push(Hopeless { reservation, detail }),
                None => rest.push(reservation),
            }
        }
        let given_up = self.store.give_up(&self.gate, code, &hopeless).await?;
        report.given_up += given_up;
        metrics::counter!("trueup_reconciler_given_up_total").increment(u64::try_from(given_up).unwrap_or(u64::MAX));
        for Hopeless { reservation, detail } in &hopeless {
            tracing::error!(couponCode = %code, memberId = %reservation.member, requestId = %reservation.request, detail, tries,
                "[RECONCILIATION] [ALARM] a reservation is given up: PostgreSQL refuses every row of its request");
        }
        Ok(rest)
    }
}

#[async_trait]
impl Periodic for PendingTask {
    fn task(&self) -> Task {
        Task::Pending
    }

    async fn run(&mut self, walk: &Walk) -> Result<Next, TaskError> {
        self.run_once(walk).await.map(|_| Next::AtRate)
    }
}

fn request_of(code: &CouponCode, one: &Reservation) -> Request {
    Request { id: one.request, coupon: code.clone(), member: one.member.clone(), admitted: true }
}

fn tell(code: &CouponCode, one: &Reservation, outcome: &Published) {
    let (member, request) = (&one.member, one.request);
    let label = match outcome {
        Published::Acknowledged => {
            tracing::debug!(couponCode = %code, memberId = %member, requestId = %request, reservedAt = %one.reserved_at,
                "[RECONCILIATION] pending reservation published again");
            "acknowledged"
        }
        Published::Refused(error) => {
            tracing::error!(couponCode = %code, memberId = %member, requestId = %request, %error,
                "[RECONCILIATION] repair failed: a pending reservation could not be published");
            "refused"
        }
        Published::Unknown(error) => {
            tracing::warn!(couponCode = %code, memberId = %member, requestId = %request, %error,
                "[RECONCILIATION] a pending reservation may have been published");
            "unknown"
        }
    };
    metrics::counter!("trueup_reconciler_republished_total", "outcome" => label).increment(1);
}

#[allow(clippy::as_conversions, clippy::cast_precision_loss, reason = "a gauge needs no more than 53 bits")]
pub(crate) const fn gauge(value: i64) -> f64 {
    value as f64
}
