//! Running a task at a fixed rate until the process ends.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{error::TaskError, lease::Task, walk::Walk};

/// How often a waiting task shows that it is alive.
const BEAT: Duration = Duration::from_secs(1);
/// How often a failure that goes on is logged again.
const REPEAT_FAILURE: Duration = Duration::from_secs(60);

/// When a task wants to run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At the next tick of its rate.
    AtRate,
    /// After this pause, because it has begun something.
    Soon(Duration),
}

/// How a task tells others about itself. Cheap to clone.
#[derive(Clone)]
pub struct Signs {
    /// Called while the task waits or works: it is alive.
    pub beat: Arc<dyn Fn() + Send + Sync>,
    /// Called after each run: whether it could be made.
    pub ran: Arc<dyn Fn(bool) + Send + Sync>,
}

impl Signs {
    /// Tells nobody.
    #[must_use]
    pub fn silent() -> Self {
        Self { beat: Arc::new(|| {}), ran: Arc::new(|_| {}) }
    }
}

/// A task that is run again and again.
#[async_trait]
pub trait Periodic: Send {
    /// Its name.
    fn task(&self) -> Task;

    /// One run over all coupons.
    ///
    /// # Errors
    /// Nothing could be done at all; failures of single coupons are in the task's own report.
    async fn run(&mut self, walk: &Walk) -> Result<Next, TaskError>;

    /// When to run again after a run that could not be made.
    fn after_failure(&self) -> Next {
        Next::AtRate
    }

    /// Waits for what goes on between runs, when the process ends. Most tasks have nothing of it.
    async fn end(&mut self) {}
}

/// Runs a task at a fixed rate: a run that takes longer than the interval skips the ticks it missed. A failed run is logged and the
/// next one comes at its time. Ends when the walk's `stop` is cancelled, after the run that is under way and what it left going on.
pub async fn at_fixed_rate(mut periodic: impl Periodic, interval: Duration, walk: &Walk, signs: &Signs) {
    let (task, stop) = (periodic.task(), &walk.stop);
    let mut due = Instant::now();
    let mut failing: Option<Instant> = None;
    while !stop.is_cancelled() {
        (signs.beat)();
        let started = Instant::now();
        let ran = periodic.run(walk).await;
        let outcome = ran.as_ref().map_or_else(TaskError::code, |_| "ok");
        metrics::counter!("trueup_reconciler_runs_total", "task" => task.as_str(), "outcome" => outcome).increment(1);
        metrics::histogram!("trueup_reconciler_run_seconds", "task" => task.as_str()).record(started.elapsed());
        (signs.ran)(ran.is_ok());
        let next = match ran {
            Ok(next) => {
                if failing.take().is_some() {
                    tracing::info!(task = task.as_str(), "[RECONCILIATION] runs succeed again");
                }
                next
            }
            Err(error) => {
                if failing.is_none_or(|told| told.elapsed() >= REPEAT_FAILURE) {
                    tracing::error!(task = task.as_str(), %error, "[RECONCILIATION] run failed");
                    failing = Some(Instant::now());
                }
                periodic.after_failure()
            }
        };
        due = after(due, interval, Instant::now());
        let until = match next {
            Next::AtRate => due,
            Next::Soon(pause) => due.min(Instant::now() + pause),
        };
        wait(until, stop, signs).await;
    }
    periodic.end().await;
}

/// The first tick behind `now`.
fn after(due: Instant, interval: Duration, now: Instant) -> Instant {
    if due > now {
        return due;
    }
    let interval_ms = interval.as_millis().max(1);
    let missed = now.duration_since(due).as_millis() / interval_ms;
    due + interval * u32::try_from(missed.saturating_add(1)).unwrap_or(u32::MAX)
}

async fn wait(until: Instant, stop: &CancellationToken, signs: &Signs) {
    while Instant::now() < until {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(until.min(Instant::now() + BEAT)) => (signs.beat)(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ticks_keep_their_rate_and_missed_ones_are_skipped() {
        let start = Instant::now();
        let tick = |n: u64| start + Duration::from_millis(n);
        let interval = Duration::from_millis(100);
        assert_eq!(after(tick(0), interval, tick(0)), tick(100));
        assert_eq!(after(tick(0), interval, tick(30)), tick(100), "a run of 30 ms does not move the rate");
        assert_eq!(after(tick(0), interval, tick(100)), tick(200));
        assert_eq!(after(tick(0), interval, tick(350)), tick(400));
        assert_eq!(after(tick(500), interval, tick(350)), tick(500), "a tick that is still to come stays");
    }

    struct Steps {
        runs: u32,
        begun: Instant,
    }

    #[async_trait]
    impl Periodic for Steps {
        fn task(&self) -> Task {
            Task::Run
        }

        async fn run(&mut self, walk: &Walk) -> Result<Next, TaskError> {
            self.runs += 1;
            match self.runs {
                1 => Err(TaskError::Row("broken".to_owned())),
                2 => Ok(Next::Soon(Duration::from_millis(1))),
                3 => Ok(Next::AtRate),
                _ => {
                    // Two ticks at the rate have gone by, and one soon.
                    assert!(self.begun.elapsed() >= Duration::from_millis(400), "{:?}", self.begun.elapsed());
                    walk.stop.cancel();
                    Ok(Next::AtRate)
                }
            }
        }
    }

    #[tokio::test]
    async fn a_failed_run_does_not_stop_the_next_and_the_end_comes_after_the_run() {
        let signs = Signs::silent();
        let walk = Walk { stop: CancellationToken::new(), page: 1, beat: Arc::clone(&signs.beat) };
        let steps = Steps { runs: 0, begun: Instant::now() };
        at_fixed_rate(steps, Duration::from_millis(200), &walk, &signs).await;
        assert!(walk.stop.is_cancelled());
    }
}
