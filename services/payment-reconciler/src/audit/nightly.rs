//! Audits each gateway's yesterday, once a day, in one replica.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use super::{
    auditor::{Auditor, Span, Wish},
    store,
};
use crate::error::LineError;

/// Who wanted it.
const ACTOR: &str = "nightly";

/// Audits by night.
pub struct Nightly(Arc<Auditor>);

impl Nightly {
    /// Audits what this auditor audits.
    #[must_use]
    pub const fn new(auditor: Arc<Auditor>) -> Self {
        Self(auditor)
    }

    /// Looks again and again until `stop`. An audit that is cut off is made again by whoever looks next.
    pub async fn run(self, stop: CancellationToken, beat: impl Fn() + Send + Sync) {
        let interval = Duration::from_millis(self.0.settings().look_interval_ms);
        loop {
            beat();
            tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look() => if let Err(error) = looked {
                    tracing::warn!(%error, "the nightly audit waits");
                },
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// Audits what is to be audited now; how many gateways that were.
    ///
    /// # Errors
    /// PostgreSQL, after all gateways had their turn.
    pub async fn look(&self) -> Result<usize, LineError> {
        let settings = self.0.settings();
        let now = store::now(self.0.db()).await?;
        let Some(day) = yesterday(now, settings.day_offset_minutes, settings.start_after_minutes) else { return Ok(0) };
        let (mut audited, mut failed) = (0_usize, None);
        for provider in self.0.providers() {
            let wish = Wish { span: day, settling_minutes: None, actor: ACTOR, once: true };
            match self.0.audit(provider, wish).await {
                Ok(report) => audited = audited.saturating_add(usize::from(report.is_some())),
                // The others are audited all the same.
                Err(error) => {
                    tracing::warn!(%provider, %error, "a night's audit could not be kept");
                    failed = failed.or(Some(error));
                }
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        Ok(audited)
    }
}

/// The business day before this moment, once enough time has passed since its end.
fn yesterday(now: DateTime<Utc>, offset_minutes: i32, after_minutes: u32) -> Option<Span> {
    let offset = TimeDelta::minutes(i64::from(offset_minutes));
    let today = now.checked_add_signed(offset)?.date_naive();
    let end = today.and_hms_opt(0, 0, 0)?.and_utc().checked_sub_signed(offset)?;
    let begin = end.checked_add_signed(TimeDelta::minutes(i64::from(after_minutes)))?;
    let from = end.checked_sub_signed(TimeDelta::days(1))?;
    (now >= begin).then_some(Span { from, to: end })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn yesterday_is_the_business_days_and_comes_late_enough() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        assert_eq!(yesterday(at("2026-05-02T02:29:59Z"), 0, 150), None);
        let day = yesterday(at("2026-05-02T02:30:00Z"), 0, 150).unwrap();
        assert_eq!((day.from, day.to), (at("2026-05-01T00:00:00Z"), at("2026-05-02T00:00:00Z")));
        // In Seoul the second of May begins at three in the afternoon of the first.
        assert_eq!(yesterday(at("2026-05-01T17:00:00Z"), 540, 150), None);
        let day = yesterday(at("2026-05-01T17:30:00Z"), 540, 150).unwrap();
        assert_eq!((day.from, day.to), (at("2026-04-30T15:00:00Z"), at("2026-05-01T15:00:00Z")));
    }
}
