//! What a run came to: one row in PostgreSQL, numbers for metrics, and a line in the log.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Line, outcome::Outcome, settle::is_order_failure, tally::Outcomes};
use crate::{error::LineError, pg};

/// Old reports that a run deletes, at most.
const DELETED_MAX: i64 = 1_000;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Stale orders at its start, of all replicas.
    pub found: i64,
    /// How often each outcome came out of the run, in this replica.
    pub outcomes: Outcomes,
    /// The same of what this replica looked after beside the runs since the last report: due checks, hints, and operators' wishes.
    pub looked: Outcomes,
    /// How often the work could not be claimed to its end.
    pub broken: i64,
    /// From its start to its end.
    pub duration: Duration,
    /// It was broken off by the end of the process.
    pub interrupted: bool,
}

impl Report {
    /// How many payments of the run came out so.
    pub fn count(&self, which: impl Fn(Outcome) -> bool) -> i64 {
        sum(&self.outcomes, which)
    }

    /// Payments that were looked after without a failure.
    #[must_use]
    pub fn successes(&self) -> i64 {
        self.count(|outcome| !is_failure(outcome) && outcome != Outcome::GivenBack)
    }

    /// What failed: payments without an answer or a settle, orders that could not have their products, and work that could not be claimed.
    #[must_use]
    pub fn failures(&self) -> i64 {
        self.count(is_failure).saturating_add(self.broken)
    }

    /// All payments that the run claimed.
    #[must_use]
    pub fn asked(&self) -> i64 {
        self.count(|_| true)
    }

    /// The numbers of the row, by their columns' names: of the run, and of what was looked after beside it.
    fn counts(&self) -> [(&'static str, i64); 9] {
        let all = |which: fn(Outcome) -> bool| self.count(which).saturating_add(sum(&self.looked, which));
        [
            ("found", self.found),
            ("asked", all(|_| true)),
            ("looked", sum(&self.looked, |_| true)),
            ("settled", all(|outcome| outcome == Outcome::Settled)),
            ("failed", all(|outcome| outcome == Outcome::Failed)),
            ("waiting", all(|outcome| outcome == Outcome::Waiting)),
            ("refunded", all(|outcome| matches!(outcome, Outcome::Refunding(_) | Outcome::RefundDriven | Outcome::Refunded))),
            ("attention", all(|outcome| outcome == Outcome::Attention)),
            ("errors", all(is_failure).saturating_add(self.broken)),
        ]
    }

    pub(super) fn add(&mut self, outcome: Outcome, more: i64) {
        if more == 0 {
            return;
        }
        let count = self.outcomes.entry(outcome).or_default();
        *count = count.saturating_add(more);
    }
}

fn sum(outcomes: &Outcomes, which: impl Fn(Outcome) -> bool) -> i64 {
    outcomes.iter().filter(|(outcome, _)| which(**outcome)).map(|(_, count)| count).sum()
}

const fn is_failure(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Error => true,
        Outcome::Refunding(reason) => is_order_failure(reason),
        _ => false,
    }
}

const REPORT: &str = "INSERT INTO payment_run (holder, started_at, finished_at, found, asked, looked, settled, failed, waiting, refunded, \
    attention, errors, duration_ms, interrupted) VALUES ($1, $2, payment_now(), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

const DELETE: &str = "DELETE FROM payment_run WHERE run_id = ANY (ARRAY(SELECT run_id FROM payment_run \
    WHERE finished_at < payment_now() - $1::bigint * interval '1 hour' ORDER BY finished_at LIMIT $2))";

impl Line {
    /// Tells what a run came to, and forgets reports that are too old.
    ///
    /// # Errors
    /// PostgreSQL; log and metrics have it all the same.
    pub(super) async fn write_report(&self, report: &Report, began_at: DateTime<Utc>) -> Result<(), LineError> {
        let counts = report.counts();
        let [found, asked, looked, settled, failed, waiting, refunded, attention, errors] = counts.map(|(_, count)| count);
        tracing::info!(
            found,
            asked,
            looked,
            settled,
            failed,
            waiting,
            refunded,
            attention,
            errors,
            seconds = report.duration.as_secs_f64(),
            interrupted = report.interrupted,
            "Reconciliation: success={}, failure={}",
            report.successes(),
            report.failures()
        );
        metrics::counter!("trueup_payment_runs_total").increment(1);
        metrics::histogram!("trueup_payment_run_seconds").record(report.duration.as_secs_f64());
        for (name, count) in counts {
            metrics::gauge!("trueup_payment_last_run", "count" => name).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
        }
        self.keep_report(report, began_at).await?;
        let session = pg::session(&self.pool).await?;
        session.run(DELETE, &[&self.settings.run.reports_kept_hours, &DELETED_MAX]).await?;
        Ok(())
    }

    /// What was looked after since the last run, when there will be no other: the reports add up to all that was done.
    ///
    /// # Errors
    /// PostgreSQL.
    pub(super) async fn report_rest(&self) -> Result<(), LineError> {
        let looked = self.looked.take();
        if looked.is_empty() {
            return Ok(());
        }
        let began_at = self.now().await?;
        self.keep_report(&Report { looked, interrupted: true, ..Report::default() }, began_at).await
    }

    /// Writes the row. What was looked after beside the run is told by the next one if that fails.
    async fn keep_report(&self, report: &Report, began_at: DateTime<Utc>) -> Result<(), LineError> {
        let kept = self.insert_report(report, began_at).await;
        if kept.is_err() {
            self.looked.put_back(&report.looked);
            self.looked.put_back(&report.outcomes);
        }
        kept
    }

    async fn insert_report(&self, report: &Report, began_at: DateTime<Utc>) -> Result<(), LineError> {
        let [found, asked, looked, settled, failed, waiting, refunded, attention, errors] =
            report.counts().map(|(_, count)| count);
        let duration_ms = i64::try_from(report.duration.as_millis()).unwrap_or(i64::MAX);
        let params: pg::Params<'_> = &[
            &self.holder,
            &began_at,
            &found,
            &asked,
            &looked,
            &settled,
            &failed,
            &waiting,
            &refunded,
            &attention,
            &errors,
            &duration_ms,
            &report.interrupted,
        ];
        pg::session(&self.pool).await?.run(REPORT, params).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use domain::payment::RefundReason;

    use super::*;

    #[test]
    fn what_goes_back_for_want_of_products_is_a_failure_and_a_second_payment_is_none() {
        let mut report = Report { found: 7, ..Report::default() };
        for (outcome, more) in [
            (Outcome::Settled, 3),
            (Outcome::Failed, 1),
            (Outcome::Refunding(RefundReason::ProductNotFound), 1),
            (Outcome::Refunding(RefundReason::SecondPayment), 1),
            (Outcome::Refunded, 1),
            (Outcome::Error, 1),
            (Outcome::GivenBack, 1),
            (Outcome::Attention, 1),
        ] {
            report.add(outcome, more);
        }
        assert_eq!((report.successes(), report.failures(), report.asked()), (7, 2, 10));
        assert_eq!(report.counts().map(|(_, count)| count), [7, 10, 0, 3, 1, 0, 3, 1, 2]);
        report.looked = [(Outcome::Settled, 2), (Outcome::Error, 1)].into();
        report.broken = 1;
        assert_eq!((report.successes(), report.failures(), report.asked()), (7, 3, 10), "the run's own");
        assert_eq!(report.counts().map(|(_, count)| count), [7, 13, 3, 5, 1, 0, 3, 1, 4], "and all");
    }
}
