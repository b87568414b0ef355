//! Going through all coupons in pages, one after the other.

use std::{collections::VecDeque, sync::Arc};

use domain::ids::CouponCode;
use tokio_util::sync::CancellationToken;

use crate::{
    error::TaskError,
    lease::Task,
    store::{Store, Watched, Which},
};

/// How a task goes through the coupons. Cheap to clone.
#[derive(Clone)]
pub struct Walk {
    /// Set when the process is about to end; a task stops before the next coupon or page.
    pub stop: CancellationToken,
    /// Coupons that are read from PostgreSQL at a time.
    pub page: i64,
    /// Called for every coupon, so that a long walk shows that it goes on.
    pub beat: Arc<dyn Fn() + Send + Sync>,
}

impl Walk {
    /// Notes a coupon's failure in log and metrics and gives its text for the report.
    #[must_use]
    pub fn failed(&self, task: Task, code: &CouponCode, error: &TaskError) -> String {
        metrics::counter!("trueup_reconciler_coupon_failures_total", "task" => task.as_str(), "cause" => error.code())
            .increment(1);
        if !matches!(error, TaskError::Stopped) {
            tracing::error!(couponCode = %code, task = task.as_str(), %error, "[RECONCILIATION] run failed for a coupon; the others go on");
        }
        error.to_string()
    }
}

/// The coupons in order of their codes, a page at a time.
pub struct Coupons<'a> {
    store: &'a Store,
    which: Which,
    walk: &'a Walk,
    page: VecDeque<Watched>,
    after: String,
    last_page: bool,
}

impl<'a> Coupons<'a> {
    /// From the first one on.
    #[must_use]
    pub const fn new(store: &'a Store, which: Which, walk: &'a Walk) -> Self {
        Self { store, which, walk, page: VecDeque::new(), after: String::new(), last_page: false }
    }

    /// The next coupon; none at the end, or when the process is about to end.
    ///
    /// # Errors
    /// A page cannot be read.
    pub async fn next(&mut self) -> Result<Option<Watched>, TaskError> {
        if self.walk.stop.is_cancelled() {
            return Ok(None);
        }
        (self.walk.beat)();
        if self.page.is_empty() && !self.last_page {
            self.page = self.store.page(self.which, &self.after, self.walk.page).await?.into();
            self.last_page = i64::try_from(self.page.len()).is_ok_and(|length| length < self.walk.page);
        }
        let next = self.page.pop_front();
        if let Some(watched) = &next {
            self.after = watched.coupon.code.as_str().to_owned();
        }
        Ok(next)
    }
}
