//! The intake of one replica: where its partitions start, what works on them, and what is told of them. The member of the group opens,
//! closes and watches them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use contracts::Cause;
use domain::coupon::LogIncarnation;
use kafka_io::{
    CommandProducer, GroupConsumer, GroupMember, GroupPartition, KafkaIoError, KafkaSettings, MemberSettings, PartitionOwner,
    Tie, Topics, Watermarks,
};
use postgres_io::Db;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    IntakeSettings, positions,
    store::IntakeStore,
    worker::{End, Worker},
};
use crate::waiting::Retry;

/// What tells of the intake's life.
#[derive(Clone)]
pub struct Progress {
    /// Called whenever it got on, or found that there is nothing to do.
    pub beat: Arc<dyn Fn() + Send + Sync>,
    /// Called with whether partitions could be opened.
    pub open: Arc<dyn Fn(bool) + Send + Sync>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { beat: Arc::new(|| {}), open: Arc::new(|_| {}) }
    }
}

/// Whether no orders are taken from a partition.
fn stopped(partition: i32) -> metrics::Gauge {
    metrics::gauge!("trueup_payment_intake_stopped", "partition" => partition.to_string())
}

/// How many records of a partition are not taken yet.
fn lag(partition: i32) -> metrics::Gauge {
    metrics::gauge!("trueup_payment_intake_lag", "partition" => partition.to_string())
}

/// The intake of one replica.
pub struct Intake {
    member: GroupMember<Orders>,
}

impl Intake {
    /// Joins the group.
    ///
    /// # Errors
    /// The Kafka client refuses its settings.
    pub fn join(
        kafka: KafkaSettings,
        settings: IntakeSettings,
        db: Db,
        producer: CommandProducer,
        progress: Progress,
    ) -> Result<Self, KafkaIoError> {
        let pace = MemberSettings {
            look_every: Duration::from_millis(settings.lag_interval_ms.max(1)),
            stop_patience: Duration::from_millis(settings.stop_timeout_ms),
        };
        let consumer = settings.consumer.clone();
        let owner = Orders { topics: kafka.topics.clone(), settings, db, producer, progress };
        let member = GroupMember::join(owner, pace, &kafka, &consumer, &kafka.topics.order_placed)?;
        Ok(Self { member })
    }

    /// Works until `stop`, or until the membership fails for good.
    ///
    /// # Errors
    /// Why the membership failed; the process has to start again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), String> {
        // There from the start, so that an alert on their increase sees the first one.
        for cause in Cause::ALL {
            metrics::counter!("trueup_payment_intake_dead_letters_total", "cause" => cause.as_str()).increment(0);
        }
        self.member.run(stop).await
    }
}

/// The partitions of orders.
struct Orders {
    topics: Topics,
    settings: IntakeSettings,
    db: Db,
    producer: CommandProducer,
    progress: Progress,
}

impl PartitionOwner for Orders {
    type Positions = ();
    type Status = Arc<AtomicI64>;
    type Alarm = String;
    type Delays = Retry;

    async fn positions(&self, _consumer: &GroupConsumer) -> Result<(), String> {
        Ok(())
    }

    async fn open(
        &self,
        (): &(),
        partition: i32,
        log: &LogIncarnation,
        marks: Watermarks,
    ) -> Result<Result<i64, String>, String> {
        let opened = positions::open(&self.db, &self.topics.order_placed, partition, log, marks).await;
        opened.map_err(|error| error.to_string())
    }

    fn start(
        &self,
        records: GroupPartition,
        log: &LogIncarnation,
        position: i64,
        tie: Tie<String>,
    ) -> (Arc<AtomicI64>, Vec<JoinHandle<()>>) {
        stopped(records.partition()).set(0.0);
        let position = Arc::new(AtomicI64::new(position));
        let worker = Worker {
            records,
            store: IntakeStore::new(self.db.clone(), self.topics.order_placed.clone(), log.clone()),
            producer: self.producer.clone(),
            dead_letters: self.topics.order_placed_dead_letter.clone(),
            limits: self.settings.limits(),
            position: Arc::clone(&position),
            cancel: tie.cancel.clone(),
            beat: Arc::clone(&self.progress.beat),
        };
        let working = async move {
            let end = worker.run().await;
            tie.ended(if let End::Alarm(reason) = end { Some(reason) } else { None }).await;
        };
        (position, vec![tokio::spawn(working)])
    }

    fn position(&self, status: &Arc<AtomicI64>) -> i64 {
        status.load(Ordering::Acquire)
    }

    fn delays(&self) -> Retry {
        Retry::new()
    }

    fn waits(&self, _reason: &str) {
        (self.progress.open)(false);
    }

    fn alarm(&self, partition: i32, reason: &String) {
        tracing::error!(partition, reason, "no orders are taken from this partition");
        stopped(partition).set(1.0);
    }

    fn opened(&self) {
        (self.progress.open)(true);
    }

    fn gave_back(&self, partitions: &[i32]) {
        for &partition in partitions {
            // Whoever has it now says how it stands with it.
            stopped(partition).set(0.0);
            lag(partition).set(0.0);
        }
    }

    fn beat(&self) {
        (self.progress.beat)();
    }

    fn looked(&self, partition: i32, status: &Arc<AtomicI64>, end: i64) {
        let behind = u32::try_from(end.saturating_sub(status.load(Ordering::Acquire))).unwrap_or(0);
        lag(partition).set(f64::from(behind));
    }
}
