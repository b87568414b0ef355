//! Answers the group: opens assigned partitions at their positions, gives revoked ones back, and keeps the one that has to stop from
//! stopping the others.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use contracts::Cause;
use domain::coupon::LogIncarnation;
use kafka_io::{CommandProducer, GroupConsumer, GroupEvent, GroupPartition, KafkaIoError, KafkaSettings};
use postgres_io::Db;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    IntakeSettings, positions,
    store::IntakeStore,
    worker::{End, Running, Worker},
};
use crate::waiting::Retry;

/// Ends of workers that may wait to be looked at; a topic has far fewer partitions in trouble at a time.
const ENDS_MAX: usize = 64;
/// How long a partition that somebody else moved waits before it is opened again: usually the group takes it away meanwhile.
const REOPEN_AFTER: Duration = Duration::from_millis(500);
/// How often an arriving event is looked for while servers are waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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

/// The intake of one replica.
pub struct Intake {
    kafka: KafkaSettings,
    settings: IntakeSettings,
    db: Db,
    producer: CommandProducer,
    consumer: GroupConsumer,
    events: mpsc::Receiver<GroupEvent>,
    ends: Ends,
    progress: Progress,
    assigned: Vec<i32>,
    workers: BTreeMap<i32, Running>,
    barred: BTreeMap<i32, String>,
    reopen_at: Option<Instant>,
    told: BTreeMap<i32, i64>,
}

/// Whether no orders are taken from a partition.
fn stopped(partition: i32) -> metrics::Gauge {
    metrics::gauge!("trueup_payment_intake_stopped", "partition" => partition.to_string())
}

/// How many records of a partition are not taken yet.
fn lag(partition: i32) -> metrics::Gauge {
    metrics::gauge!("trueup_payment_intake_lag", "partition" => partition.to_string())
}

type Ends = (mpsc::Sender<(i32, End)>, mpsc::Receiver<(i32, End)>);

struct Opened {
    log: LogIncarnation,
    positions: Vec<(i32, i64)>,
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
        let (consumer, events) = GroupConsumer::join(&kafka, &settings.consumer, &kafka.topics.order_placed)?;
        Ok(Self {
            kafka,
            settings,
            db,
            producer,
            consumer,
            events,
            ends: mpsc::channel(ENDS_MAX),
            progress,
            assigned: Vec::new(),
            workers: BTreeMap::new(),
            barred: BTreeMap::new(),
            reopen_at: None,
            told: BTreeMap::new(),
        })
    }

    /// Works until `stop`, or until the membership fails for good.
    ///
    /// # Errors
    /// Why the membership failed; the process has to start again.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), String> {
        let mut tick = tokio::time::interval(Duration::from_millis(self.settings.lag_interval_ms.max(1)));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // There from the start, so that an alert on their increase sees the first one.
        for cause in Cause::ALL {
            metrics::counter!("trueup_payment_intake_dead_letters_total", "cause" => cause.as_str()).increment(0);
        }
        let result = loop {
            let reopen_at = self.reopen_at.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ok(()),
                event = self.events.recv() => match event {
                    Some(GroupEvent::Assigned(partitions)) => {
                        self.assigned = partitions;
                        self.barred.clear();
                        self.reopen_at = None;
                        self.open_all(&stop).await;
                    }
                    Some(GroupEvent::Revoked { partitions, lost }) => {
                        tracing::info!(?partitions, lost, "giving partitions of orders back");
                        self.close_all().await;
                        for partition in self.assigned.drain(..) {
                            // Whoever has it now says how it stands with it.
                            stopped(partition).set(0.0);
                            lag(partition).set(0.0);
                        }
                        self.reopen_at = None;
                    }
                    Some(GroupEvent::Failed(reason)) => break Err(reason),
                    None => break Err("the consumer ended".to_owned()),
                },
                Some((partition, end)) = self.ends.1.recv() => self.ended(partition, end).await,
                () = tokio::time::sleep_until(reopen_at), if self.reopen_at.is_some() => {
                    self.reopen_at = None;
                    self.close_all().await;
                    self.open_all(&stop).await;
                }
                _ = tick.tick() => self.look().await,
            }
            (self.progress.beat)();
        };
        self.close_all().await;
        let patience = Duration::from_millis(self.settings.stop_timeout_ms);
        if tokio::time::timeout(patience, self.consumer.leave()).await.is_err() {
            tracing::warn!("leaving the group takes too long; the group will notice by its session time-out");
        }
        result
    }

    /// Opens what is assigned. A server that is away is waited for; a new rebalance ends the wait.
    async fn open_all(&mut self, stop: &CancellationToken) {
        let mut retry = Retry::new();
        loop {
            match self.positions().await {
                Ok(opened) => return self.start(opened),
                Err(reason) => {
                    (self.progress.open)(false);
                    tracing::warn!(reason, "opening partitions of orders waits");
                }
            }
            (self.progress.beat)();
            tokio::select! {
                waited = retry.wait(stop) => if !waited { return },
                // The event itself is taken by the caller: here only its arrival counts.
                () = arrival(&self.events) => return self.reopen_later(),
            }
        }
    }

    fn reopen_later(&mut self) {
        self.reopen_at = Some(Instant::now() + REOPEN_AFTER);
    }

    async fn positions(&self) -> Result<Opened, String> {
        let text = |error: KafkaIoError| error.to_string();
        let topic = &self.kafka.topics.order_placed;
        let log = self.consumer.incarnation().await.map_err(text)?;
        let mut positions = Vec::with_capacity(self.assigned.len());
        for &partition in &self.assigned {
            let stopped = stopped(partition);
            if let Some(reason) = self.barred.get(&partition) {
                tracing::error!(partition, reason, "no orders are taken from this partition");
                stopped.set(1.0);
                continue;
            }
            let marks = self.consumer.watermarks(partition).await.map_err(text)?;
            match positions::open(&self.db, topic, partition, &log, marks).await.map_err(|error| error.to_string())? {
                Ok(position) => {
                    stopped.set(0.0);
                    positions.push((partition, position));
                }
                Err(reason) => {
                    tracing::error!(partition, reason, "no orders are taken from this partition");
                    stopped.set(1.0);
                }
            }
        }
        Ok(Opened { log, positions })
    }

    fn start(&mut self, opened: Opened) {
        match self.consumer.assign(&opened.positions) {
            Ok(records) => {
                for (records, (partition, position)) in records.into_iter().zip(opened.positions) {
                    tracing::info!(partition, position, "taking orders");
                    let running = self.worker(records, &opened.log, position);
                    self.workers.insert(partition, running);
                }
                (self.progress.open)(true);
            }
            Err(error) => {
                tracing::warn!(%error, "the assignment is refused");
                self.reopen_later();
            }
        }
    }

    fn worker(&self, records: GroupPartition, log: &LogIncarnation, position: i64) -> Running {
        let topics = &self.kafka.topics;
        let (partition, cancel) = (records.partition(), CancellationToken::new());
        let position = Arc::new(AtomicI64::new(position));
        let worker = Worker {
            records,
            store: IntakeStore::new(self.db.clone(), topics.order_placed.clone(), log.clone()),
            producer: self.producer.clone(),
            dead_letters: topics.order_placed_dead_letter.clone(),
            limits: self.settings.limits(),
            position: Arc::clone(&position),
            cancel: cancel.clone(),
            beat: Arc::clone(&self.progress.beat),
        };
        let (ends, cancelled) = (self.ends.0.clone(), cancel.clone());
        let task = tokio::spawn(async move {
            let end = worker.run().await;
            if !cancelled.is_cancelled() {
                // A full channel means that the coordinator is going through ends already; it looks at all workers then.
                let _ = ends.send((partition, end)).await;
            }
        });
        Running { position, cancel, task }
    }

    async fn close_all(&mut self) {
        let patience = Duration::from_millis(self.settings.stop_timeout_ms);
        for worker in self.workers.values() {
            worker.cancel.cancel();
        }
        let workers = std::mem::take(&mut self.workers);
        let positions: Vec<_> = workers.iter().map(|(partition, worker)| (*partition, Arc::clone(&worker.position))).collect();
        futures::future::join_all(workers.into_values().map(|worker| worker.stopped(patience))).await;
        self.tell(positions.iter().map(|(partition, position)| (*partition, position.load(Ordering::Acquire))).collect());
        self.told.clear();
        if let Err(error) = self.consumer.unassign() {
            tracing::warn!(%error, "unassign");
        }
    }

    /// A worker ended by itself. All partitions are opened again without the one that must not go on: a partition that is assigned
    /// but not read would still be fetched.
    async fn ended(&mut self, partition: i32, end: End) {
        if !self.workers.contains_key(&partition) {
            return;
        }
        self.close_all().await;
        if let End::Alarm(reason) = end {
            self.barred.insert(partition, reason);
            self.reopen_at = Some(Instant::now());
        } else {
            self.reopen_later();
        }
    }

    /// Looks at the log's ends for the lag, and tells lag tools how far is taken.
    async fn look(&mut self) {
        let positions: Vec<_> =
            self.workers.iter().map(|(partition, worker)| (*partition, worker.position.load(Ordering::Acquire))).collect();
        for (partition, position) in &positions {
            match self.consumer.watermarks(*partition).await {
                Ok(marks) => {
                    let lag = u32::try_from(marks.high.saturating_sub(*position)).unwrap_or(0);
                    self::lag(*partition).set(f64::from(lag));
                }
                Err(error) => {
                    tracing::debug!(partition, %error, "the log's end is not known now");
                    break;
                }
            }
        }
        self.tell(positions);
    }

    /// Only what is committed in PostgreSQL is ever told to Kafka, and nobody reads it back but lag tools.
    fn tell(&mut self, positions: Vec<(i32, i64)>) {
        let moved: Vec<_> =
            positions.into_iter().filter(|(partition, at)| self.told.insert(*partition, *at) != Some(*at)).collect();
        if !moved.is_empty() {
            self.consumer.commit_for_lag_tools(&moved);
        }
    }
}

/// Waits until an event is there, without taking it.
async fn arrival(events: &mpsc::Receiver<GroupEvent>) {
    while events.is_empty() && !events.is_closed() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
