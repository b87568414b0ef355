//! The steps of this process: what is planned for each, and how often each was reached.

use std::{
    collections::BTreeMap,
    env,
    sync::{Mutex, OnceLock, PoisonError},
};

use rustix::process::{Signal, getpid, kill_process};
use serde::Serialize;
use tokio::{sync::watch, time::sleep};

use super::plan::{Action, BadPlan, Plan};

/// The variable with the plans that hold from the start: `STEP=PLAN;STEP=PLAN`.
pub const FAILPOINTS: &str = "FAILPOINTS";
/// The variable with the milliseconds by which this process' clock is off.
pub const CLOCK_OFFSET: &str = "TRUEUP_CLOCK_OFFSET_MS";

/// A step that a service declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Its name, such as `consumer.commit.before`.
    pub name: &'static str,
    /// Where it is.
    pub place: &'static str,
    /// What `fail` means there; none if nothing can fail there.
    pub failure: Option<&'static str>,
}

impl Step {
    /// A step that can pause, sleep and kill.
    #[must_use]
    pub const fn new(name: &'static str, place: &'static str) -> Self {
        Self { name, place, failure: None }
    }

    /// The same step, which can also fail.
    #[must_use]
    pub const fn or_fail(self, failure: &'static str) -> Self {
        Self { failure: Some(failure), ..self }
    }
}

/// What a step did so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub place: &'static str,
    /// What `fail` means there.
    pub failure: Option<&'static str>,
    /// What is left of its plan.
    pub plan: String,
    /// How often it was reached since the process started.
    pub hits: u64,
    /// How often something happened there.
    pub fired: u64,
    /// How many tasks wait there now.
    pub waiting: u64,
}

struct Entry {
    step: Step,
    plan: Plan,
    hits: u64,
    fired: u64,
    waiting: u64,
    /// Changed by every new plan: whoever is paused goes on.
    replanned: watch::Sender<()>,
}

/// The steps of a process.
#[derive(Default)]
pub struct Failpoints(Mutex<BTreeMap<&'static str, Entry>>);

static INSTALLED: OnceLock<Failpoints> = OnceLock::new();

/// Why the steps cannot be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// They are installed already.
    #[error("failpoints are installed once a process")]
    Twice,
    /// The variable names no step of this service, or no plan of it.
    #[error("{FAILPOINTS}: {0}")]
    Plans(String),
    /// The offset is no number.
    #[error("{CLOCK_OFFSET}: {0}")]
    ClockOffset(#[from] std::num::ParseIntError),
}

/// Installs the steps of this process with the plans and the clock's offset of the environment.
///
/// # Errors
/// [`InstallError`].
pub fn install(steps: &[Step]) -> Result<(), InstallError> {
    let points = Failpoints::new(steps);
    let text = env::var(FAILPOINTS).unwrap_or_default();
    for assignment in text.split(';').filter(|assignment| !assignment.trim().is_empty()) {
        let fault = || InstallError::Plans(format!("`{assignment}` is not STEP=PLAN"));
        let (name, plan) = assignment.split_once('=').ok_or_else(fault)?;
        let plan = plan.parse().map_err(|error: BadPlan| InstallError::Plans(error.to_string()))?;
        points.plan(name.trim(), plan).map_err(|error| InstallError::Plans(error.to_string()))?;
    }
    if let Ok(offset_ms) = env::var(CLOCK_OFFSET) {
        domain::clock::set_offset_ms(offset_ms.trim().parse()?);
    }
    tracing::warn!(
        plans = text,
        clockOffsetMs = domain::clock::offset_ms(),
        "this build has failpoints: it is for fault drills only"
    );
    INSTALLED.set(points).map_err(|_| InstallError::Twice)
}

/// The steps of this process, once they are installed.
pub(super) fn installed() -> Option<&'static Failpoints> {
    INSTALLED.get()
}

/// Reaches a step: does what is planned, and says whether the step is to fail.
pub async fn reached(name: &'static str) -> bool {
    match installed() {
        Some(points) => points.reached(name).await,
        None => false,
    }
}

/// A name that no step of this service has, or a plan that its step cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no such step.
    #[error("this service has no step `{0}`")]
    Unknown(String),
    /// Nothing can fail there.
    #[error("nothing can fail at the step `{0}`")]
    CannotFail(&'static str),
}

impl Failpoints {
    /// The steps, with nothing planned.
    #[must_use]
    pub fn new(steps: &[Step]) -> Self {
        let entry = |step: &Step| Entry {
            step: *step,
            plan: Plan::OFF,
            hits: 0,
            fired: 0,
            waiting: 0,
            replanned: watch::Sender::new(()),
        };
        Self(Mutex::new(steps.iter().map(|step| (step.name, entry(step))).collect()))
    }

    /// Gives a step a plan; whoever is paused there goes on.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn plan(&self, name: &str, plan: Plan) -> Result<StepReport, PlanError> {
        self.with(name, |entry| {
            if plan.action == Action::Fail && entry.step.failure.is_none() {
                return Err(PlanError::CannotFail(entry.step.name));
            }
            entry.plan = plan;
            entry.replanned.send_replace(());
            Ok(report(entry))
        })
        .ok_or_else(|| PlanError::Unknown(name.to_owned()))?
    }

    /// One step.
    #[must_use]
    pub fn report(&self, name: &str) -> Option<StepReport> {
        self.with(name, |entry| report(entry))
    }

    /// All steps.
    #[must_use]
    pub fn reports(&self) -> Vec<StepReport> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().map(report).collect()
    }

    /// Reaches a step.
    pub async fn reached(&self, name: &'static str) -> bool {
        let next = self.with(name, |entry| {
            entry.hits = entry.hits.saturating_add(1);
            let action = entry.plan.take();
            if action != Action::Off {
                entry.fired = entry.fired.saturating_add(1);
            }
            (action, entry.replanned.subscribe())
        });
        let Some((action, mut replanned)) = next else {
            tracing::error!(step = name, "a step that its service does not declare");
            return false;
        };
        if action != Action::Off {
            tracing::info!(step = name, %action, "failpoint");
        }
        match action {
            Action::Off => false,
            Action::Fail => true,
            Action::Pause => {
                let _waiting = Waiting::at(self, name);
                if tokio::time::timeout(Plan::PAUSE_MAX, replanned.changed()).await.is_err() {
                    tracing::warn!(step = name, "a pause was never ended");
                }
                false
            }
            Action::Sleep(time) => {
                let _waiting = Waiting::at(self, name);
                sleep(time).await;
                false
            }
            Action::Kill => {
                // Not `abort`, which writes a core: nothing of this process runs any more, as after a power cut.
                let _ = kill_process(getpid(), Signal::KILL);
                std::future::pending::<()>().await;
                false
            }
        }
    }

    fn with<T>(&self, name: &str, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(name).map(change)
    }
}

fn report(entry: &Entry) -> StepReport {
    let Step { name, place, failure } = entry.step;
    let Entry { hits, fired, waiting, .. } = *entry;
    StepReport { name, place, failure, plan: entry.plan.to_string(), hits, fired, waiting }
}

/// Counts a task that waits at a step, until it goes on or is dropped.
struct Waiting<'a> {
    points: &'a Failpoints,
    name: &'static str,
}

impl<'a> Waiting<'a> {
    fn at(points: &'a Failpoints, name: &'static str) -> Self {
        points.with(name, |entry| entry.waiting = entry.waiting.saturating_add(1));
        Self { points, name }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.points.with(self.name, |entry| entry.waiting = entry.waiting.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{sync::Arc, time::Duration};

    use super::*;

    const STEPS: &[Step] = &[Step::new("a.plain", "here"), Step::new("a.failing", "there").or_fail("it is lost")];

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_its_task_until_another_plan_and_is_counted() {
        let points = Arc::new(Failpoints::new(STEPS));
        points.plan("a.plain", "1*pause".parse().unwrap()).unwrap();
        let other = Arc::clone(&points);
        let task = tokio::spawn(async move { other.reached("a.plain").await });
        while points.report("a.plain").unwrap().waiting == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!points.reached("a.plain").await, "the second one passes");
        assert!(!task.is_finished());
        points.plan("a.plain", Plan::OFF).unwrap();
        assert!(!task.await.unwrap());
        let told = points.report("a.plain").unwrap();
        assert_eq!((told.hits, told.fired, told.waiting, told.plan.as_str()), (2, 1, 0, "off"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_that_nobody_ends_is_ended() {
        let points = Failpoints::new(STEPS);
        points.plan("a.plain", "pause".parse().unwrap()).unwrap();
        let began = tokio::time::Instant::now();
        points.reached("a.plain").await;
        assert!(began.elapsed() >= Plan::PAUSE_MAX);
    }

    #[tokio::test]
    async fn only_a_step_that_can_fail_takes_a_failure() {
        let points = Failpoints::new(STEPS);
        let fail: Plan = "1*fail".parse().unwrap();
        assert_eq!(points.plan("a.plain", fail), Err(PlanError::CannotFail("a.plain")));
        assert_eq!(points.plan("a.wrong", fail), Err(PlanError::Unknown("a.wrong".to_owned())));
        points.plan("a.failing", fail).unwrap();
        assert!(points.reached("a.failing").await);
        assert!(!points.reached("a.failing").await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_is_dropped_at_a_step_does_not_wait_there_any_more() {
        let points = Failpoints::new(STEPS);
        points.plan("a.plain", "sleep(60000)".parse().unwrap()).unwrap();
        let cut = tokio::time::timeout(Duration::from_secs(1), points.reached("a.plain")).await;
        assert!(cut.is_err());
        assert_eq!(points.report("a.plain").unwrap().waiting, 0);
    }
}
