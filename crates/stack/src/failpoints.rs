//! The failpoints of a running service, as a drill steers them; docs/failpoints.md lists the steps and plans.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::Deserialize;

use crate::{http, process::wait_until};

/// The failpoints of the service on one HTTP port. The service must be built with the feature `failpoints`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failpoints {
    port: u16,
}

/// What a step did so far.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// Its name.
    pub name: String,
    /// What is left of its plan.
    pub plan: String,
    /// How often it was reached since the process started.
    pub hits: u64,
    /// How often something happened there.
    pub fired: u64,
    /// How many tasks wait there now.
    pub waiting: u64,
}

impl Failpoints {
    /// Those of the service on `port`.
    #[must_use]
    pub const fn on(port: u16) -> Self {
        Self { port }
    }

    /// Gives a step a plan, such as `1*pause`, `2+1*kill`, `10%fail`, `sleep(200)`; whoever is paused there goes on.
    ///
    /// # Errors
    /// The service does not answer, has no failpoints or no such step, or the step cannot do this.
    pub fn plan(self, step: &str, plan: &str) -> Result<StepReport> {
        Ok(serde_json::from_value(http::ask(self.port, "PUT", &path(step), plan)?)?)
    }

    /// Ends a plan; whoever is paused there goes on.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn clear(self, step: &str) -> Result<StepReport> {
        Ok(serde_json::from_value(http::ask(self.port, "DELETE", &path(step), "")?)?)
    }

    /// Ends every plan.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn clear_all(self) -> Result<()> {
        self.list()?.iter().filter(|step| step.plan != "off").try_for_each(|step| self.clear(&step.name).map(drop))
    }

    /// One step.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn step(self, step: &str) -> Result<StepReport> {
        Ok(serde_json::from_value(http::ask(self.port, "GET", &path(step), "")?)?)
    }

    /// All steps of the service.
    ///
    /// # Errors
    /// The service does not answer or has no failpoints.
    pub fn list(self) -> Result<Vec<StepReport>> {
        Ok(serde_json::from_value(http::ask(self.port, "GET", "/failpoints", "")?)?)
    }

    /// Waits until a step is as `enough` wants it, such as `|step| step.waiting > 0`.
    ///
    /// # Errors
    /// It is not so at the deadline; the error shows what it was.
    pub fn wait_for(self, step: &str, limit: Duration, mut enough: impl FnMut(&StepReport) -> bool) -> Result<StepReport> {
        let mut last = None;
        let done = wait_until(limit, || {
            last = Some(self.step(step));
            matches!(&last, Some(Ok(report)) if enough(report))
        });
        match last {
            Some(Ok(report)) if done => Ok(report),
            Some(Ok(report)) => bail!("the step was not reached within {limit:?}: {report:?}"),
            Some(Err(error)) => Err(error),
            None => bail!("the step was not looked at"),
        }
    }

    /// Sets the service's clock ahead by `ms` milliseconds, or behind; 0 sets it right.
    ///
    /// # Errors
    /// The service does not answer or has no failpoints.
    pub fn set_clock_offset_ms(self, ms: i64) -> Result<()> {
        http::ask(self.port, "PUT", "/clock-offset-ms", &ms.to_string()).map(drop)
    }
}

fn path(step: &str) -> String {
    format!("/failpoints/{step}")
}
