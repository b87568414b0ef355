//! Task 2: cold gates are loaded and opened. A new coupon's gate opens the same way as one that Redis lost.
//!
//! The steps, each of which may be the last one before a crash:
//! 1. shut the gate under a fresh token;
//! 2. read the end of the coupon's partition: whatever was acknowledged while the gate was open stands before it;
//! 3. wait until the decided position reaches that end;
//! 4. load one snapshot of the issued members, whose cursor is the snapshot's decided position;
//! 5. open, if the token is still there.
//!
//! Waiting costs no thread and blocks no other coupon: a run does what can be done now and remembers the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use domain::{
    clock::SystemClock,
    ids::{CommandId, CouponCode},
};
use futures::StreamExt;
use redis_io::{Gate, LoadToken};

use crate::{
    config::GateTaskSettings,
    error::TaskError,
    lease::Task,
    load::load_and_open,
    log::CommandLog,
    pending::gauge,
    schedule::{Next, Periodic},
    store::{Store, Watched, Which},
    walk::{Coupons, Walk},
};

/// Opens cold gates.
pub struct GateTask {
    /// PostgreSQL.
    pub store: Arc<Store>,
    /// Redis.
    pub gate: Arc<Gate>,
    /// Kafka.
    pub log: Arc<dyn CommandLog>,
    /// Sizes and bounds.
    pub settings: GateTaskSettings,
    draining: BTreeMap<CouponCode, Draining>,
}

/// A gate that is shut and waits for its part of the log to be decided.
struct Draining {
    token: LoadToken,
    partition: i32,
    /// None while Kafka could not say it.
    end: Option<i64>,
    since: Instant,
}

/// What one run did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct GateReport {
    /// Reserved coupons looked at.
    pub coupons: usize,
    /// Gates that are open.
    pub open: usize,
    /// Gates that wait for the log to be decided.
    pub draining: usize,
    /// Gates that were opened, with their number of members.
    pub opened: Vec<(CouponCode, i64)>,
    /// Coupons that failed, with their error.
    pub failures: Vec<(CouponCode, String)>,
}

impl GateTask {
    /// A task that has not looked at anything yet.
    #[must_use]
    pub fn new(store: Arc<Store>, gate: Arc<Gate>, log: Arc<dyn CommandLog>, settings: GateTaskSettings) -> Self {
        Self { store, gate, log, settings, draining: BTreeMap::new() }
    }

    /// Does what can be done now for every cold gate. One coupon's failure is noted and the next one goes on.
    ///
    /// # Errors
    /// Redis or PostgreSQL cannot be asked at all.
    pub async fn run_once(&mut self, walk: &Walk) -> Result<GateReport, TaskError> {
        // One failure for a Redis that is away, instead of one for each coupon.
        self.gate.check().await?;
        let mut report = GateReport::default();
        let mut cold = BTreeSet::new();
        let store = Arc::clone(&self.store);
        let mut coupons = Coupons::new(&store, Which::Reserved, walk);
        while let Some(watched) = coupons.next().await? {
            report.coupons += 1;
            match self.look(&watched, &mut cold).await {
                Ok(true) => report.open += 1,
                Ok(false) => {}
                Err(error) => {
                    let told = walk.failed(Task::Gate, &watched.coupon.code, &error);
                    report.failures.push((watched.coupon.code, told));
                }
            }
        }
        // What is not cold any more, or not reserved, is nothing to wait for.
        self.draining.retain(|code, _| cold.contains(code));
        self.open_drained(walk, &mut report).await?;
        report.draining = self.draining.len();
        metrics::gauge!("trueup_reconciler_gates", "state" => "open").set(gauge(count(report.open)));
        metrics::gauge!("trueup_reconciler_gates", "state" => "cold")
            .set(gauge(count(report.coupons.saturating_sub(report.open))));
        Ok(report)
    }

    /// Looks at one gate and begins its load if it is cold. True when it is open.
    async fn look(&mut self, watched: &Watched, cold: &mut BTreeSet<CouponCode>) -> Result<bool, TaskError> {
        let code = &watched.coupon.code;
        let status = self.gate.status(code).await?;
        if !status.state.is_cold() {
            return Ok(true);
        }
        let ttl = Duration::from_millis(self.settings.lease_ms);
        if !self.store.acquire(code, Task::Gate, ttl, Duration::ZERO).await? {
            return Ok(false);
        }
        cold.insert(code.clone());
        if !self.draining.contains_key(code) {
            let token = LoadToken::new(CommandId::fresh(&SystemClock).uuid());
            if !self.gate.begin_load(code, token).await? {
                return Ok(true);
            }
            service_kit::failpoint!("reconciler.gate.shut");
            tracing::info!(couponCode = %code, state = status.state.as_str(), "[RECONCILIATION] cold gate shut; draining its partition");
            let partition = watched.coupon.partition;
            self.draining.insert(code.clone(), Draining { token, partition, end: None, since: Instant::now() });
        }
        if let Some(draining) = self.draining.get_mut(code)
            && draining.end.is_none()
        {
            // Only after the gate was shut: an end that was read before could miss an acknowledged reservation.
            draining.end = Some(self.log.end_of(draining.partition).await?);
            service_kit::failpoint!("reconciler.gate.end_read");
        }
        Ok(false)
    }

    async fn open_drained(&mut self, walk: &Walk, report: &mut GateReport) -> Result<(), TaskError> {
        if self.draining.is_empty() {
            return Ok(());
        }
        let positions = self.store.positions().await?;
        let log = self.log.incarnation().await?;
        let mut drained = Vec::new();
        for (code, draining) in &self.draining {
            match (positions.get(&draining.partition), draining.end) {
                (Some(position), _) if position.log != log => {
                    let error = TaskError::OtherLog { recorded: position.log.to_string(), found: log.to_string() };
                    report.failures.push((code.clone(), walk.failed(Task::Gate, code, &error)));
                }
                (Some(position), Some(end)) if position.next_offset >= end => drained.push((code.clone(), draining.token, end)),
                _ => {}
            }
        }
        let (store, gate, page) = (&self.store, &self.gate, self.settings.page);
        let loads = drained.into_iter().map(|(code, token, end)| async move {
            let loaded = load_and_open(store, gate, &code, token, end, page, walk).await;
            // The lease goes back in any case; the token protects a load that another replica begins meanwhile.
            let given_back = store.give_back(&code, Task::Gate, loaded.is_ok()).await;
            (code, loaded.and_then(|opened| given_back.map(|()| opened)))
        });
        let mut loads = futures::stream::iter(loads).buffer_unordered(self.settings.loads_max);
        let mut finished = Vec::new();
        while let Some(load) = loads.next().await {
            finished.push(load);
        }
        drop(loads);
        for (code, loaded) in finished {
            // Loaded or not: the token is used up or gone, and the next run looks at the gate afresh.
            let Some(draining) = self.draining.remove(&code) else { continue };
            match loaded {
                Ok(Some(opened)) => {
                    metrics::counter!("trueup_reconciler_gates_opened_total").increment(1);
                    metrics::histogram!("trueup_reconciler_gate_open_seconds").record(draining.since.elapsed());
                    tracing::info!(couponCode = %code, members = opened.members, cursor = opened.cursor,
                        elapsedMs = u64::try_from(draining.since.elapsed().as_millis()).unwrap_or(u64::MAX), "[RECONCILIATION] gate opened");
                    report.opened.push((code, opened.members));
                }
                Ok(None) => tracing::warn!(couponCode = %code, "[RECONCILIATION] a gate's load was overtaken; beginning again"),
                Err(error) => report.failures.push((code.clone(), walk.failed(Task::Gate, &code, &error))),
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Periodic for GateTask {
    fn task(&self) -> Task {
        Task::Gate
    }

    async fn run(&mut self, walk: &Walk) -> Result<Next, TaskError> {
        let report = self.run_once(walk).await?;
        let soon = Duration::from_millis(self.settings.draining_interval_ms);
        Ok(if report.draining > 0 { Next::Soon(soon) } else { Next::AtRate })
    }
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
