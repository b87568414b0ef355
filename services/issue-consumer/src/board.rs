//! What each partition is doing: the source of the metrics, of liveness and of the offsets for lag tools.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use domain::clock::{Clock, Timestamp};

/// Why a partition stopped with an alarm. A person has to look at it; the other partitions go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alarm {
    /// The decided position is before the log's first offset: records were deleted that nobody decided.
    BelowLogStart {
        /// The position.
        position: i64,
        /// The first offset that is still there.
        low: i64,
    },
    /// The decided position is beyond the log's end: the log lost records that were decided.
    BeyondLogEnd {
        /// The position.
        position: i64,
        /// The offset that the next record will get.
        high: i64,
    },
    /// The position belongs to another log under the same name.
    OtherLog {
        /// What the position row names.
        decided: String,
        /// What the broker names.
        found: String,
    },
    /// The database is not what this program needs, or the client failed for good.
    Fatal(String),
}

impl Alarm {
    /// The label of the alarm in metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::BelowLogStart { .. } => "below_log_start",
            Self::BeyondLogEnd { .. } => "beyond_log_end",
            Self::OtherLog { .. } => "other_log",
            Self::Fatal(_) => "fatal",
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BelowLogStart { position, low } => {
                write!(f, "the decided position {position} is below the log's start {low}: undecided records were deleted")
            }
            Self::BeyondLogEnd { position, high } => {
                write!(f, "the decided position {position} is beyond the log's end {high}: the log lost decided records")
            }
            Self::OtherLog { decided, found } => write!(f, "the position belongs to the log {decided}, and this is {found}"),
            Self::Fatal(reason) => f.write_str(reason),
        }
    }
}

/// What one partition is doing.
#[derive(Debug)]
pub struct PartitionStatus {
    /// The partition.
    pub partition: i32,
    decided: AtomicI64,
    published: AtomicI64,
    settled: AtomicI64,
    log_end: AtomicI64,
    progress_ms: AtomicI64,
    waits: AtomicBool,
}

impl PartitionStatus {
    fn new(partition: i32, position: i64, now: Timestamp) -> Self {
        Self {
            partition,
            decided: AtomicI64::new(position),
            published: AtomicI64::new(0),
            settled: AtomicI64::new(position),
            log_end: AtomicI64::new(position),
            progress_ms: AtomicI64::new(now.unix_ms()),
            waits: AtomicBool::new(false),
        }
    }

    /// The decided position.
    #[must_use]
    pub fn decided(&self) -> i64 {
        self.decided.load(Ordering::Acquire)
    }

    /// How far outcomes are announced.
    #[must_use]
    pub fn published(&self) -> i64 {
        self.published.load(Ordering::Acquire)
    }

    /// How far every open gate is settled.
    #[must_use]
    pub fn settled(&self) -> i64 {
        self.settled.load(Ordering::Acquire)
    }

    /// Records that are not decided yet, as of the last look at the log's end.
    #[must_use]
    pub fn deciding_lag(&self) -> i64 {
        self.log_end.load(Ordering::Acquire).saturating_sub(self.decided()).max(0)
    }

    /// The decided position moved.
    pub fn set_decided(&self, to: i64, now: Timestamp) {
        self.decided.store(to, Ordering::Release);
        self.log_end.fetch_max(to, Ordering::AcqRel);
        self.made_progress(now);
    }

    /// The publisher's cursor moved.
    pub fn set_published(&self, to: i64) {
        self.published.store(to, Ordering::Release);
    }

    /// The settler's cursors moved.
    pub fn set_settled(&self, to: i64) {
        self.settled.store(to, Ordering::Release);
    }

    /// The log's end was looked up.
    pub fn set_log_end(&self, end: i64) {
        self.log_end.fetch_max(end, Ordering::AcqRel);
    }

    /// The worker waits for a server and tries again: no reason to restart the process.
    pub fn set_waits(&self, waits: bool, now: Timestamp) {
        self.waits.store(waits, Ordering::Release);
        self.made_progress(now);
    }

    fn made_progress(&self, now: Timestamp) {
        self.progress_ms.store(now.unix_ms(), Ordering::Release);
    }

    /// Records are waiting, no server is to blame, and nothing moved for this long.
    #[must_use]
    pub fn stalled_ms(&self, now: Timestamp) -> Option<i64> {
        let idle = self.deciding_lag() == 0 || self.waits.load(Ordering::Acquire);
        (!idle).then(|| now.unix_ms().saturating_sub(self.progress_ms.load(Ordering::Acquire)))
    }
}

fn clear(alarm: Option<Alarm>, partition: i32) {
    if let Some(alarm) = alarm {
        crate::metric::alarm(partition, alarm.as_str(), false);
    }
}

#[derive(Default)]
struct Entries {
    running: BTreeMap<i32, Arc<PartitionStatus>>,
    alarms: BTreeMap<i32, Alarm>,
}

/// All partitions of this replica.
pub struct Board {
    entries: RwLock<Entries>,
    open: AtomicBool,
    clock: Arc<dyn Clock>,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { entries: RwLock::default(), open: AtomicBool::new(false), clock }
    }

    /// The clock that statuses are stamped with.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether everything that the group assigned is open, as far as no alarm keeps it shut.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The assigned partitions were opened, or closed.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// A partition starts at its decided position.
    #[must_use]
    pub fn start(&self, partition: i32, position: i64) -> Arc<PartitionStatus> {
        let status = Arc::new(PartitionStatus::new(partition, position, self.clock.now()));
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        clear(entries.alarms.remove(&partition), partition);
        entries.running.insert(partition, status.clone());
        status
    }

    /// A partition was given back.
    pub fn stop(&self, partition: i32) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.running.remove(&partition);
        clear(entries.alarms.remove(&partition), partition);
        for stage in ["deciding", "publishing", "settling"] {
            crate::metric::lag(partition, stage, 0);
        }
    }

    /// A partition stopped with an alarm.
    pub fn alarm(&self, partition: i32, alarm: Alarm) {
        tracing::error!(partition, alarm = alarm.as_str(), reason = %alarm, "[ALARM] the partition stops; the others go on");
        crate::metric::alarm(partition, alarm.as_str(), true);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.running.remove(&partition);
        entries.alarms.insert(partition, alarm);
    }

    /// The partitions that run.
    #[must_use]
    pub fn running(&self) -> Vec<Arc<PartitionStatus>> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).running.values().cloned().collect()
    }

    /// The partitions that stopped, and why.
    #[must_use]
    pub fn alarms(&self) -> BTreeMap<i32, Alarm> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner).alarms.clone()
    }

    /// The partition that has been stalled longest, if one is stalled for at least `stall_ms`.
    #[must_use]
    pub fn stalled(&self, stall_ms: i64) -> Option<(i32, i64)> {
        let now = self.clock.now();
        let stalled = self.running().into_iter().filter_map(|status| Some((status.partition, status.stalled_ms(now)?)));
        stalled.filter(|(_, ms)| *ms >= stall_ms).max_by_key(|(_, ms)| *ms)
    }
}
