//! The three tasks and their connections.

use std::{sync::Arc, time::Duration};

use domain::{
    clock::{Clock, SystemClock},
    ids::CommandId,
};
use postgres_io::Db;
use redis_io::Gate;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Settings,
    gates::GateTask,
    kafka::KafkaLog,
    lease::Task,
    log::CommandLog,
    pending::PendingTask,
    run::{CompareTask, RunTask},
    schedule::{Periodic, Signs, at_fixed_rate},
    store::Store,
    walk::Walk,
};

/// Everything the tasks need.
#[derive(Clone)]
pub struct Reconciler {
    /// PostgreSQL.
    pub store: Arc<Store>,
    /// Redis.
    pub gate: Arc<Gate>,
    /// Kafka.
    pub log: Arc<dyn CommandLog>,
    settings: Arc<Settings>,
}

impl Reconciler {
    /// Prepares all connections. Servers that are away are no failure, except for a Redis that answers and may throw keys away.
    ///
    /// # Errors
    /// Settings that cannot be used.
    pub async fn connect(settings: Settings) -> anyhow::Result<(Self, Arc<KafkaLog>)> {
        let key = settings.keys.log_key()?;
        let log = Arc::new(KafkaLog::new(&settings.kafka, &settings.producer, key)?);
        let db = Db::connect(&settings.postgres).await?;
        let gate = Arc::new(Gate::connect(&settings.redis).await?);
        let command_log: Arc<dyn CommandLog> = Arc::<KafkaLog>::clone(&log);
        Ok((Self::with(settings, db, gate, command_log), log))
    }

    /// The same with connections of the caller's.
    #[must_use]
    pub fn with(settings: Settings, db: Db, gate: Arc<Gate>, log: Arc<dyn CommandLog>) -> Self {
        // A replica's name in leases; domain's seam is the one place that makes ids.
        let holder = CommandId::fresh(&SystemClock).uuid();
        let store = Arc::new(Store::new(db, settings.kafka.topics.created.clone(), holder, settings.coupons.ended_for_s));
        Self { store, gate, log, settings: Arc::new(settings) }
    }

    /// Task 1.
    #[must_use]
    pub fn pending_task(&self) -> PendingTask {
        let (store, gate, log) = self.parts();
        PendingTask { store, gate, log, settings: self.settings.pending.clone() }
    }

    /// Task 2.
    #[must_use]
    pub fn gate_task(&self) -> GateTask {
        let (store, gate, log) = self.parts();
        GateTask::new(store, gate, log, self.settings.gates.clone())
    }

    /// Task 3.
    #[must_use]
    pub fn run_task(&self) -> RunTask {
        let (store, gate, _) = self.parts();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        RunTask { store, gate, clock, settings: self.settings.run.clone(), compare: self.settings.compare.clone() }
    }

    /// How a task goes through the coupons.
    #[must_use]
    pub fn walk(&self, stop: CancellationToken, signs: &Signs) -> Walk {
        Walk { stop, page: self.settings.coupons.page, beat: Arc::clone(&signs.beat) }
    }

    /// Runs the tasks, each at its rate and none waiting for another, until `stop` is cancelled.
    pub async fn run_until(&self, stop: CancellationToken, signs_of: impl Fn(Task) -> Signs) {
        let settings = &self.settings;
        tokio::join!(
            self.repeat(self.gate_task(), settings.gates.interval_ms, stop.clone(), signs_of(Task::Gate)),
            self.repeat(self.pending_task(), settings.pending.interval_ms, stop.clone(), signs_of(Task::Pending)),
            self.repeat(self.run_task(), settings.run.interval_ms, stop.clone(), signs_of(Task::Run)),
            self.repeat(CompareTask(self.run_task()), settings.compare.interval_ms, stop.clone(), signs_of(Task::Compare)),
        );
    }

    async fn repeat(&self, periodic: impl Periodic, interval_ms: u64, stop: CancellationToken, signs: Signs) {
        let walk = self.walk(stop, &signs);
        at_fixed_rate(periodic, Duration::from_millis(interval_ms), &walk, &signs).await;
    }

    fn parts(&self) -> (Arc<Store>, Arc<Gate>, Arc<dyn CommandLog>) {
        (Arc::clone(&self.store), Arc::clone(&self.gate), Arc::clone(&self.log))
    }
}
