//! Task 2: cold gates are loaded and opened. A new coupon's gate opens the same way as one that Redis lost.
//!
//! The steps, each of which may be the last one before a crash:
//! 1. shut the gate under a fresh token;
//! 2. read the end of the coupon's partition: whatever was acknowledged while the gate was open stands before it;
//! 3. wait until the decided position reaches that end;
//! 4. load one snapshot of the issued members, whose cursor is the snapshot's decided position;
//! 5. open, if the token is still there.
//!
//! Waiting costs no thread and blocks no other coupon: a run does what can be done now and remembers the rest. Loads go on between
//! runs and renew their leases themselves, so that a large coupon keeps no other one shut.

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
use redis_io::{Gate, GateStatus, LoadToken};

use crate::{
    config::GateTaskSettings,
    error::TaskError,
    lease::Task,
    loads::{Loads, Order},
    log::CommandLog,
    pending::gauge,
    schedule::{Next, Periodic},
    store::{Position, Store, Watched, Which},
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
    loads: Loads,
    checked_log: Option<Instant>,
    foreign: BTreeSet<i32>,
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
    /// Gates that are being loaded.
    pub loading: usize,
    /// Open gates that were shut because their log is gone.
    pub shut: Vec<CouponCode>,
    /// Gates that were opened, with their number of members.
    pub opened: Vec<(CouponCode, i64)>,
    /// Coupons that failed, with their error.
    pub failures: Vec<(CouponCode, String)>,
}

impl GateTask {
    /// A task that has not looked at anything yet.
    #[must_use]
    pub fn new(store: Arc<Store>, gate: Arc<Gate>, log: Arc<dyn CommandLog>, settings: GateTaskSettings) -> Self {
        let loads = Loads::new(Arc::clone(&store), Arc::clone(&gate), settings.clone());
        Self { store, gate, log, settings, draining: BTreeMap::new(), loads, checked_log: None, foreign: BTreeSet::new() }
    }

    /// Does what can be done now for every cold gate, and waits for loads under way for one interval at most. One coupon's failure is
    /// noted and the next one goes on.
    ///
    /// # Errors
    /// Redis or PostgreSQL cannot be asked at all.
    pub async fn run_once(&mut self, walk: &Walk) -> Result<GateReport, TaskError> {
        // One failure for a Redis that is away, instead of one for each coupon.
        self.gate.check().await?;
        let mut report = GateReport::default();
        self.check_log().await?;
        let mut cold = BTreeSet::new();
        let store = Arc::clone(&self.store);
        let mut coupons = Coupons::new(&store, Which::Reserved, walk);
        while let Some(watched) = coupons.next().await? {
            report.coupons += 1;
            match self.look(&watched, &mut cold, &mut report).await {
                Ok(true) => report.open += 1,
                Ok(false) => {}
                Err(error) => {
                    let told = walk.failed(Task::Gate, &watched.coupon.code, &error);
                    report.failures.push((watched.coupon.code, told));
                }
            }
        }
        // What is not cold any more, not reserved, or taken by another replica, is nothing to wait for.
        self.draining.retain(|code, _| cold.contains(code));
        self.load_drained(walk, &mut report).await?;
        self.loads.finish(Duration::from_millis(self.settings.interval_ms), walk, &mut report).await;
        (report.draining, report.loading) = (self.draining.len(), self.loads.len());
        metrics::gauge!("trueup_reconciler_gates", "state" => "open").set(gauge(count(report.open)));
        metrics::gauge!("trueup_reconciler_gates", "state" => "cold")
            .set(gauge(count(report.coupons.saturating_sub(report.open))));
        Ok(report)
    }

    /// Looks at one gate and begins its load if it is cold. True when it is open.
    async fn look(
        &mut self,
        watched: &Watched,
        cold: &mut BTreeSet<CouponCode>,
        report: &mut GateReport,
    ) -> Result<bool, TaskError> {
        let code = &watched.coupon.code;
        let status = self.gate.status(code).await?;
        if !status.state.is_cold() && !self.shut_if_foreign(watched, &status, report).await? {
            return Ok(true);
        }
        // A load that goes on renews its lease itself, and finds by its token whether it was overtaken.
        if self.loads.contains(code) {
            return Ok(false);
        }
        let ttl = Duration::from_millis(self.settings.lease_ms);
        if !self.store.acquire(code, Task::Gate, ttl, Duration::ZERO).await? {
            return Ok(false);
        }
        cold.insert(code.clone());
        if !self.draining.contains_key(code) {
            let token = LoadToken::new(CommandId::fresh(&SystemClock).uuid());
            if !self.gate.begin_load(code, token).await? {
                // Another replica opened it since it was looked at, and gave its lease back.
                cold.remove(code);
                self.store.give_back(code, Task::Gate, false).await?;
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

    /// Looks, now and then, which partitions' positions belong to another log than Kafka has.
    async fn check_log(&mut self) -> Result<(), TaskError> {
        let every = Duration::from_millis(self.settings.log_check_ms);
        // Where something was found, each run looks: a gate that has just been opened on the new log is not shut once more.
        if self.foreign.is_empty() && self.checked_log.is_some_and(|at| at.elapsed() < every) {
            return Ok(());
        }
        self.checked_log = Some(Instant::now());
        let positions = self.store.positions().await?;
        match self.log.incarnation().await {
            Ok(log) => {
                let foreign = positions.into_iter().filter(|(_, position)| position.log != log);
                self.foreign = foreign.map(|(partition, _)| partition).collect();
            }
            // Nobody knows which log it is, so nothing is shut for it. Open gates need no Kafka.
            Err(error) => {
                self.foreign.clear();
                tracing::debug!(%error, "which log Kafka has could not be asked");
            }
        }
        Ok(())
    }

    /// Shuts an open gate whose decided position belongs to a log that is gone: its cursor says nothing about the new log, and whoever it
    /// admits would wait for a decision that never comes. True when it is shut.
    async fn shut_if_foreign(&self, watched: &Watched, status: &GateStatus, report: &mut GateReport) -> Result<bool, TaskError> {
        let code = &watched.coupon.code;
        let Some(cursor) = status.cursor.filter(|_| self.foreign.contains(&watched.coupon.partition)) else {
            return Ok(false);
        };
        if !self.gate.shut(code, cursor).await? {
            return Ok(false);
        }
        metrics::counter!("trueup_reconciler_gates_shut_total").increment(1);
        tracing::error!(couponCode = %code, partition = watched.coupon.partition, cursor,
            "[RECONCILIATION] [ALARM] gate shut: its partition's decided position belongs to another log than Kafka has");
        report.shut.push(code.clone());
        Ok(true)
    }

    /// Begins the loads of gates whose partition is decided far enough.
    async fn load_drained(&mut self, walk: &Walk, report: &mut GateReport) -> Result<(), TaskError> {
        if self.draining.is_empty() {
            return Ok(());
        }
        let positions = self.store.positions().await?;
        let log = self.log.incarnation().await?;
        let mut drained = Vec::new();
        for (code, draining) in &self.draining {
            match (positions.get(&draining.partition), draining.end) {
                (Some(Position { log: recorded, .. }), _) if *recorded != log => {
                    let error = TaskError::OtherLog { recorded: recorded.to_string(), found: log.to_string() };
                    report.failures.push((code.clone(), walk.failed(Task::Gate, code, &error)));
                }
                (Some(position), Some(end)) if position.next_offset >= end => drained.push((code.clone(), end)),
                _ => {}
            }
        }
        for (code, end) in drained.into_iter().take(self.loads.room()) {
            if let Some(Draining { token, since, .. }) = self.draining.remove(&code) {
                self.loads.begin(Order { code, token, end, since }, walk);
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
        Ok(if report.draining + report.loading > 0 { Next::Soon(soon) } else { Next::AtRate })
    }

    async fn end(&mut self) {
        self.loads.end().await;
    }
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
