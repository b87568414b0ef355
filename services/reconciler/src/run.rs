//! Task 3, every five minutes: counts. `issued_quantity` is held against the rows, the gate's size against both, and a report is kept.
//!
//! One consumer owns a coupon's partition and adds each batch under the coupon's row lock, so that the count only confirms. A
//! difference is repaired and is an alarm.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use diesel::{QueryableByName, sql_query, sql_types};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use domain::{
    clock::{Clock, Timestamp},
    coupon::Admission,
    ids::CouponCode,
};
use redis_io::{Gate, GateState};
use serde::Serialize;

use crate::{
    compare::{Comparing, Comparison},
    config::{CompareSettings, RunSettings},
    error::TaskError,
    lease::Task,
    pending::gauge,
    repairs::Kind,
    schedule::{Next, Periodic},
    store::{Store, Watched, Which},
    walk::{Coupons, Walk},
};

/// How often gate and ledger are looked at until both stand at the same place of the log.
const SIZE_LOOKS_MAX: u32 = 5;
/// The pause between two such looks: about as long as the settler is behind.
const SIZE_PAUSE: Duration = Duration::from_millis(20);
/// Old reports deleted by one run.
const REPORTS_FORGOTTEN_MAX: i64 = 1_000;

/// Holds counts against each other, and members where the counts disagree.
pub struct RunTask {
    /// PostgreSQL.
    pub store: Arc<Store>,
    /// Redis.
    pub gate: Arc<Gate>,
    /// Now.
    pub clock: Arc<dyn Clock>,
    /// Intervals and bounds.
    pub settings: RunSettings,
    /// Sizes of a full comparison.
    pub compare: CompareSettings,
}

/// How deep a look goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// Compares all members and counts all issues, whatever the sizes say. Without it, that happens only when the sizes disagree.
    pub full: bool,
    /// Looks, and repairs nothing.
    pub dry_run: bool,
}

impl Depth {
    /// What the schedule does every few minutes: it reads what changed, not the coupon.
    pub const ORDINARY: Self = Self { full: false, dry_run: false };
    /// What the slower schedule does.
    pub const FULL: Self = Self { full: true, dry_run: false };
}

/// What a run found about one coupon; kept as JSON in `reconciliation_report.report`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CouponReport {
    /// The coupon.
    pub coupon_code: CouponCode,
    /// Members in the gate's set; 0 when Redis knows nothing of it.
    pub redis_count: i64,
    /// Issues in the ledger.
    pub db_count: i64,
    /// Reservations that wait for the log.
    pub pending: i64,
    /// `open`, `loading`, `absent`, `other_run`; `none` for a queued coupon, `unknown` when Redis did not answer.
    pub gate: &'static str,
    /// Whether gate and ledger were seen at the same place of the log, so that a difference in size means something.
    pub comparable: bool,
    /// Mismatched members by the full comparison, if one was made; else |redis − pending − database|, and 0 when that means nothing.
    pub mismatch_count: i64,
    /// Whether `mismatch_count` is above 0.
    pub has_mismatch: bool,
    /// What `issued_quantity` said before, if it was wrong and has been repaired.
    pub issued_quantity_before: Option<i64>,
    /// The full comparison, if one was made: the members by kind, and what was repaired.
    pub comparison: Option<Comparison>,
    /// The coupon is queued, or it is ended and Redis has forgotten it: a comparison has nothing to look at.
    #[serde(skip)]
    pub no_gate_needed: bool,
    /// Nothing was repaired, because nothing was to be.
    pub dry_run: bool,
    /// What could not be looked at, and why.
    pub errors: Vec<String>,
    /// How long it took.
    pub duration_ms: i64,
}

impl CouponReport {
    /// Whether a full comparison looked at everybody and repaired whatever it found, or there was no gate to compare.
    #[must_use]
    pub fn is_compared(&self) -> bool {
        match &self.comparison {
            Some(comparison) => comparison.not_judged == 0 && comparison.errors.is_empty(),
            None => self.no_gate_needed,
        }
    }
}

/// What a whole run found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RunReport {
    /// One for each coupon that this replica looked at.
    pub coupons: Vec<CouponReport>,
    /// Coupons that failed, with their error.
    pub failures: Vec<(CouponCode, String)>,
}

struct Counted {
    issued_quantity: i64,
    issues: i64,
    /// The highest sequence.
    highest: i64,
}

impl RunTask {
    /// Looks at every coupon whose run is due. One coupon's failure is noted and the next one goes on.
    ///
    /// # Errors
    /// The coupons cannot be listed.
    pub async fn run_once(&self, walk: &Walk) -> Result<RunReport, TaskError> {
        let mut report = RunReport::default();
        let ttl = Duration::from_millis(self.settings.lease_ms);
        // A little less than the interval, so that the replica whose clock ticks first does the run, and the others see it done.
        let gap = Duration::from_millis(self.settings.interval_ms.saturating_mul(9) / 10);
        let forgotten = self.store.forget_reports(self.settings.reports_kept_days, REPORTS_FORGOTTEN_MAX).await?;
        if forgotten > 0 {
            tracing::info!(forgotten, "[RECONCILIATION] old reports deleted");
        }
        let mut coupons = Coupons::new(&self.store, Which::All, walk);
        while let Some(watched) = coupons.next().await? {
            let code = &watched.coupon.code;
            match self.leased(&watched, Task::Run, ttl, gap, Depth::ORDINARY, walk).await {
                Ok(Some(coupon)) => report.coupons.push(coupon),
                Ok(None) => {}
                Err(error) => report.failures.push((code.clone(), walk.failed(Task::Run, code, &error))),
            }
        }
        let mismatches: i64 = report.coupons.iter().map(|coupon| coupon.mismatch_count).sum();
        metrics::gauge!("trueup_reconciler_mismatched_members").set(gauge(mismatches));
        Ok(report)
    }

    /// Compares every open gate whose full comparison is due. One coupon's failure is noted and the next one goes on.
    ///
    /// # Errors
    /// The coupons cannot be listed.
    pub async fn compare_once(&self, walk: &Walk) -> Result<RunReport, TaskError> {
        let mut report = RunReport::default();
        let ttl = Duration::from_millis(self.compare.lease_ms);
        let gap = Duration::from_millis(self.compare.interval_ms.saturating_mul(9) / 10);
        let mut coupons = Coupons::new(&self.store, Which::ReservedAndLatelyEnded, walk);
        while let Some(watched) = coupons.next().await? {
            let code = &watched.coupon.code;
            match self.leased(&watched, Task::Compare, ttl, gap, Depth::FULL, walk).await {
                Ok(Some(coupon)) => report.coupons.push(coupon),
                Ok(None) => {}
                Err(error) => report.failures.push((code.clone(), walk.failed(Task::Compare, code, &error))),
            }
        }
        Ok(report)
    }

    /// None when another replica does it, or has done it lately.
    async fn leased(
        &self,
        watched: &Watched,
        task: Task,
        ttl: Duration,
        gap: Duration,
        depth: Depth,
        walk: &Walk,
    ) -> Result<Option<CouponReport>, TaskError> {
        let code = &watched.coupon.code;
        if !self.store.acquire(code, task, ttl, gap).await? {
            return Ok(None);
        }
        let looked = self.coupon(watched, depth, walk).await;
        // What was not looked at, or only looked at, is still due.
        let done = looked.as_ref().is_ok_and(|report| !depth.dry_run && (task != Task::Compare || report.is_compared()));
        self.store.give_back(code, task, done).await?;
        looked.map(Some)
    }

    /// Looks at one coupon at once, by its code, whenever it was looked at last. None while another replica is at it.
    ///
    /// # Errors
    /// [`TaskError::UnknownCoupon`] names the code; else PostgreSQL.
    pub async fn run_coupon(&self, code: &CouponCode, depth: Depth, walk: &Walk) -> Result<Option<CouponReport>, TaskError> {
        let watched = self.store.one(code).await?;
        let (task, ttl) = if depth.full { (Task::Compare, self.compare.lease_ms) } else { (Task::Run, self.settings.lease_ms) };
        self.leased(&watched, task, Duration::from_millis(ttl), Duration::ZERO, depth, walk).await
    }

    async fn coupon(&self, watched: &Watched, depth: Depth, walk: &Walk) -> Result<CouponReport, TaskError> {
        let started = self.clock.now();
        let code = &watched.coupon.code;
        let mut report = CouponReport {
            coupon_code: code.clone(),
            redis_count: 0,
            db_count: 0,
            pending: 0,
            gate: "none",
            comparable: false,
            mismatch_count: 0,
            has_mismatch: false,
            issued_quantity_before: None,
            comparison: None,
            no_gate_needed: watched.coupon.admission != Admission::Reserved,
            dry_run: depth.dry_run,
            errors: Vec::new(),
            duration_ms: 0,
        };
        let counted = self.count_and_repair(code, depth).await?;
        service_kit::failpoint!("reconciler.run.counted");
        report.db_count = counted.issues;
        if counted.issues < counted.highest {
            let missing = counted.highest.saturating_sub(counted.issues);
            report
                .errors
                .push(format!("{missing} issues are missing in the ledger: the highest sequence is {}", counted.highest));
            tracing::error!(couponCode = %code, missing, highest = counted.highest, "[RECONCILIATION] issues are missing in the ledger");
        }
        if counted.issued_quantity != counted.issues.max(counted.highest) {
            report.issued_quantity_before = Some(counted.issued_quantity);
            if !depth.dry_run {
                metrics::counter!("trueup_reconciler_issued_quantity_repairs_total").increment(1);
            }
            tracing::error!(couponCode = %code, before = counted.issued_quantity, counted = counted.issues, repaired = !depth.dry_run,
                "[RECONCILIATION] issued_quantity was wrong");
        }
        if watched.coupon.admission == Admission::Reserved {
            let missing = counted.highest.saturating_sub(counted.issues);
            self.compare_sizes(code, missing, &mut report).await?;
            // A gate that went cold is not loaded again once its coupon is ended.
            report.no_gate_needed = watched.coupon.ended && report.gate != GateState::Open.as_str();
            if report.gate == GateState::Open.as_str() && (depth.full || report.has_mismatch) {
                self.compare_members(code, depth, walk, &mut report).await?;
            }
        }
        let finished = self.clock.now();
        report.duration_ms = finished.unix_ms().saturating_sub(started.unix_ms());
        self.keep(&report, started, finished).await?;
        Ok(report)
    }

    /// A gate that was told everything below an offset holds the issues of the ledger's snapshot at this very decided position, and the
    /// reservations: cursor and set are read in one step, position and issues in one statement. Where both stand at the same offset,
    /// the sizes agree, or something is wrong, however much happens around the two looks. `missing` rows were deleted by somebody.
    async fn compare_sizes(&self, code: &CouponCode, missing: i64, report: &mut CouponReport) -> Result<(), TaskError> {
        for look in 0..SIZE_LOOKS_MAX {
            if look > 0 {
                tokio::time::sleep(SIZE_PAUSE).await;
            }
            let status = match self.gate.status(code).await {
                Ok(status) => status,
                Err(error) => {
                    report.gate = "unknown";
                    report.errors.push(error.to_string());
                    tracing::error!(couponCode = %code, %error, "[RECONCILIATION] run failed to read the gate");
                    return Ok(());
                }
            };
            report.gate = status.state.as_str();
            if status.state == GateState::Absent {
                tracing::info!(couponCode = %code, "[RECONCILIATION] nothing in Redis");
                return Ok(());
            }
            (report.redis_count, report.pending) = (status.members, status.pending);
            if status.state != GateState::Open {
                return Ok(());
            }
            service_kit::failpoint!("reconciler.run.gate_read");
            let (position, highest) = self.highest_at_position(code).await?;
            if position.is_some() && position == status.cursor {
                report.comparable = true;
                let issues = highest.saturating_sub(missing);
                report.mismatch_count = status.members.saturating_sub(status.pending).saturating_sub(issues).saturating_abs();
                report.has_mismatch = report.mismatch_count > 0;
                break;
            }
        }
        if report.has_mismatch {
            tracing::warn!(couponCode = %code, redisCount = report.redis_count, pending = report.pending, dbCount = report.db_count,
                "[RECONCILIATION] mismatch: the gate's members are not the issues and the pending reservations");
        }
        Ok(())
    }

    /// The decided position of the coupon's partition and the highest sequence, of one snapshot.
    async fn highest_at_position(&self, code: &CouponCode) -> Result<(Option<i64>, i64), TaskError> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = sql_types::Nullable<sql_types::BigInt>)]
            position: Option<i64>,
            #[diesel(sql_type = sql_types::BigInt)]
            highest: i64,
        }
        let mut connection = self.store.connection().await?;
        let rows: Vec<Row> = sql_query(
            "SELECT (SELECT p.next_offset FROM consumer_position p JOIN coupon c ON c.partition = p.partition \
             WHERE p.topic = $2 AND c.coupon_code = $1) AS position, \
             (SELECT coalesce(max(sequence), 0) FROM coupon_request WHERE coupon_code = $1 AND outcome = 'issued') AS highest",
        )
        .bind::<sql_types::Text, _>(code.as_str())
        .bind::<sql_types::Text, _>(&self.store.topic)
        .load(&mut connection)
        .await?;
        Ok(rows.into_iter().next().map_or((None, 0), |row| (row.position, row.highest)))
    }

    /// The full comparison. A gate that goes cold meanwhile is loaded anew, so that there is nothing to repair.
    async fn compare_members(
        &self,
        code: &CouponCode,
        depth: Depth,
        walk: &Walk,
        report: &mut CouponReport,
    ) -> Result<(), TaskError> {
        let comparing =
            Comparing { store: &self.store, gate: &self.gate, code, settings: &self.compare, dry_run: depth.dry_run, walk };
        match comparing.run().await {
            Ok(comparison) => {
                report.mismatch_count = comparison.mismatch_count();
                report.has_mismatch = report.mismatch_count > 0;
                for (kind, found) in
                    [(Kind::OnlyInRedis, &comparison.only_in_redis), (Kind::OnlyInPostgres, &comparison.only_in_postgres)]
                {
                    let count = u64::try_from(found.count).unwrap_or(0);
                    metrics::counter!("trueup_reconciler_mismatches_total", "kind" => kind.as_str()).increment(count);
                }
                report.errors.extend(comparison.errors.iter().cloned());
                report.comparison = Some(comparison);
            }
            Err(error @ TaskError::Gate(_)) => report.errors.push(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Locks the coupon's row, counts in a second statement, and writes the row only if the number differs. Counted in one
    /// statement with the lock, the count would be of a snapshot from before the lock was granted.
    ///
    /// Sequences are given without gaps, so the highest one is the count, and one step into the index reads it. All issues are
    /// counted when it disagrees with the row, and in a full look.
    async fn count_and_repair(&self, code: &CouponCode, depth: Depth) -> Result<Counted, TaskError> {
        let mut connection = self.store.connection().await?;
        let connection: &mut AsyncPgConnection = &mut connection;
        connection
            .transaction(async |connection| {
                let issued_quantity = number(
                    connection,
                    "SELECT issued_quantity AS number FROM coupon WHERE coupon_code = $1 FOR NO KEY UPDATE",
                    code,
                )
                .await?
                .ok_or_else(|| TaskError::UnknownCoupon(code.clone()))?;
                let highest = number(
                    connection,
                    "SELECT coalesce(max(sequence), 0) AS number FROM coupon_request WHERE coupon_code = $1 AND outcome = 'issued'",
                    code,
                )
                .await?
                .unwrap_or_default();
                if highest == issued_quantity && !depth.full {
                    return Ok(Counted { issued_quantity, issues: highest, highest });
                }
                let issues = number(
                    connection,
                    "SELECT count(*) AS number FROM coupon_request WHERE coupon_code = $1 AND outcome = 'issued'",
                    code,
                )
                .await?
                .unwrap_or_default();
                // The next issue gets the number behind `issued_quantity`. Where rows were deleted by hand, the count would give a
                // number twice and so stop the coupon.
                let right = issues.max(highest);
                if right != issued_quantity && !depth.dry_run {
                    sql_query("UPDATE coupon SET issued_quantity = $2 WHERE coupon_code = $1")
                        .bind::<sql_types::Text, _>(code.as_str())
                        .bind::<sql_types::BigInt, _>(right)
                        .execute(connection)
                        .await?;
                }
                Ok(Counted { issued_quantity, issues, highest })
            })
            .await
    }

    async fn keep(&self, report: &CouponReport, started: Timestamp, finished: Timestamp) -> Result<(), TaskError> {
        let json = serde_json::to_value(report).map_err(|e| TaskError::Row(e.to_string()))?;
        tracing::info!(couponCode = %report.coupon_code, redisCount = report.redis_count, dbCount = report.db_count,
            pending = report.pending, gate = report.gate, mismatchCount = report.mismatch_count, durationMs = report.duration_ms,
            "[RECONCILIATION] run finished");
        let mut connection = self.store.connection().await?;
        sql_query("INSERT INTO reconciliation_report (coupon_code, started_at, finished_at, report) VALUES ($1, $2, $3, $4)")
            .bind::<sql_types::Text, _>(report.coupon_code.as_str())
            .bind::<sql_types::Timestamptz, DateTime<Utc>>(started.to_datetime())
            .bind::<sql_types::Timestamptz, DateTime<Utc>>(finished.to_datetime())
            .bind::<sql_types::Jsonb, _>(json)
            .execute(&mut connection)
            .await?;
        Ok(())
    }
}

/// The full comparison on its own, slower schedule.
pub struct CompareTask(pub RunTask);

#[async_trait]
impl Periodic for CompareTask {
    fn task(&self) -> Task {
        Task::Compare
    }

    async fn run(&mut self, walk: &Walk) -> Result<Next, TaskError> {
        let report = self.0.compare_once(walk).await?;
        let whole = report.failures.is_empty() && report.coupons.iter().all(CouponReport::is_compared);
        Ok(if whole { Next::AtRate } else { self.after_failure() })
    }

    /// A comparison that was not made does not count as one for hours.
    fn after_failure(&self) -> Next {
        Next::Soon(Duration::from_millis(self.0.compare.retry_ms))
    }
}

#[async_trait]
impl Periodic for RunTask {
    fn task(&self) -> Task {
        Task::Run
    }

    async fn run(&mut self, walk: &Walk) -> Result<Next, TaskError> {
        self.run_once(walk).await.map(|_| Next::AtRate)
    }
}

async fn number(connection: &mut AsyncPgConnection, query: &str, code: &CouponCode) -> Result<Option<i64>, TaskError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = sql_types::BigInt)]
        number: i64,
    }
    let rows: Vec<Row> = sql_query(query).bind::<sql_types::Text, _>(code.as_str()).load(connection).await?;
    Ok(rows.into_iter().next().map(|row| row.number))
}
