//! Answers the group: opens assigned partitions at their decided positions, stops revoked ones, and keeps the one that has to stop from
//! stopping the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicI32, atomic::Ordering},
    time::Duration,
};

use contracts::LogKey;
use domain::{clock::Clock, coupon::LogIncarnation};
use kafka_io::{CommandProducer, GroupConsumer, GroupEvent, GroupPartition, Watermarks};
use redis_io::Gate;
use service_kit::retry::Retry;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    board::{Alarm, Board},
    config::Settings,
    decider::{Decider, End},
    exits::Exits,
    feed::feed,
    fingerprints::{Fingerprints, Held},
    hopper::Hopper,
    intake::Intake,
    ledger::Ledger,
    memory::{Memory, PartitionMemory, Share},
    metric,
    positions::Positions,
    publisher::Publisher,
    settler::Settler,
    store::{FoldStore, Partition},
    worker::{Parts, Worker},
};

/// Ends of workers that may wait to be looked at; a topic has far fewer partitions at a time in trouble.
const ENDS_MAX: usize = 64;
/// How long a zombie waits before it opens its partitions again: usually the group takes them away meanwhile.
const REOPEN_AFTER: Duration = Duration::from_millis(500);

/// What all partitions share.
pub struct Shared {
    /// The settings.
    pub settings: Settings,
    /// The producer of outcomes, forwarded records and dead letters.
    pub producer: CommandProducer,
    /// The gates.
    pub gate: Arc<Gate>,
    /// The key of signed records.
    pub log_key: Arc<LogKey>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What is going on.
    pub board: Arc<Board>,
    /// The memory of all partitions.
    pub memory: Arc<Memory>,
    /// Fingerprints that all partitions hold together.
    pub fingerprints: Held,
}

/// Coordinates the partitions of one replica.
pub struct Coordinator {
    shared: Arc<Shared>,
    consumer: GroupConsumer,
    events: mpsc::Receiver<GroupEvent>,
    ends: Ends,
    partitions: Arc<AtomicI32>,
    assigned: Vec<i32>,
    workers: BTreeMap<i32, Worker>,
    barred: BTreeMap<i32, Alarm>,
    reopen_at: Option<Instant>,
    committed: BTreeMap<i32, i64>,
}

type Ends = (mpsc::Sender<(i32, End)>, mpsc::Receiver<(i32, End)>);

struct Opened {
    log: LogIncarnation,
    positions: Vec<(i32, i64)>,
}

impl Coordinator {
    /// Joins the group.
    ///
    /// # Errors
    /// The Kafka client refuses its settings.
    pub fn join(shared: Arc<Shared>) -> Result<Self, kafka_io::KafkaIoError> {
        let settings = &shared.settings;
        let (consumer, events) = GroupConsumer::join(&settings.kafka, &settings.consumer, &settings.kafka.topics.created)?;
        Ok(Self {
            shared,
            consumer,
            events,
            ends: mpsc::channel(ENDS_MAX),
            partitions: Arc::new(AtomicI32::new(1)),
            assigned: Vec::new(),
            workers: BTreeMap::new(),
            barred: BTreeMap::new(),
            reopen_at: None,
            committed: BTreeMap::new(),
        })
    }

    /// Works until `cancel`, or until the membership fails for good.
    ///
    /// # Errors
    /// Why the membership failed; the process has to start again.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), String> {
        let mut tick = tokio::time::interval(Duration::from_millis(self.shared.settings.lag_interval_ms));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        metric::ways_from_the_start();
        let result = loop {
            let reopen_at = self.reopen_at.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = cancel.cancelled() => break Ok(()),
                event = self.events.recv() => match event {
                    Some(GroupEvent::Assigned(partitions)) => {
                        self.assigned = partitions;
                        self.barred.clear();
                        self.reopen_at = None;
                        self.open_all(&cancel).await;
                    }
                    Some(GroupEvent::Revoked { partitions, lost }) => {
                        tracing::info!(?partitions, lost, "giving partitions back");
                        self.close_all().await;
                        self.assigned.clear();
                        self.reopen_at = None;
                    }
                    Some(GroupEvent::Failed(reason)) => break Err(reason),
                    None => break Err("the consumer ended".to_owned()),
                },
                Some((partition, end)) = self.ends.1.recv() => self.ended(partition, end).await,
                () = tokio::time::sleep_until(reopen_at), if self.reopen_at.is_some() => {
                    self.reopen_at = None;
                    self.close_all().await;
                    self.open_all(&cancel).await;
                }
                _ = tick.tick() => self.look().await,
            }
        };
        self.close_all().await;
        let timeout = Duration::from_millis(self.shared.settings.stop_timeout_ms);
        if tokio::time::timeout(timeout, self.consumer.leave()).await.is_err() {
            tracing::warn!("leaving the group takes too long; the group will notice by its session time-out");
        }
        result
    }

    /// Opens what is assigned. A server that is away is waited for; a new rebalance ends the wait.
    async fn open_all(&mut self, cancel: &CancellationToken) {
        let mut retry = Retry::new();
        loop {
            match self.positions().await {
                Ok(opened) => return self.start(opened),
                Err(reason) => {
                    metric::retried("opening");
                    tracing::warn!(reason, "opening partitions waits");
                }
            }
            tokio::select! {
                waited = retry.wait(cancel) => if !waited { return },
                // The event itself is taken by the caller: here only its arrival counts.
                () = arrival(&self.events) => return self.reopen_later(),
            }
        }
    }

    fn reopen_later(&mut self) {
        self.reopen_at = Some(Instant::now() + REOPEN_AFTER);
    }

    async fn positions(&self) -> Result<Opened, String> {
        let text = |error: kafka_io::KafkaIoError| error.to_string();
        let settings = &self.shared.settings;
        self.partitions.store(self.consumer.partition_count().await.map_err(text)?, Ordering::Release);
        let log = self.consumer.incarnation().await.map_err(text)?;
        let store = Positions::connect(&settings.postgres, settings.kafka.topics.created.clone());
        let store = tokio::time::timeout(settings.transaction_timeout(), store).await;
        let store = store.map_err(|_| "no database connection in time".to_owned())?.map_err(|error| error.to_string())?;
        let mut positions = Vec::with_capacity(self.assigned.len());
        for &partition in &self.assigned {
            if let Some(alarm) = self.barred.get(&partition) {
                self.shared.board.alarm(partition, alarm.clone());
                continue;
            }
            let marks = self.consumer.watermarks(partition).await.map_err(text)?;
            match store.open(partition, &log, marks).await.map_err(|error| error.to_string())? {
                Ok(position) => positions.push((partition, position)),
                Err(alarm) => self.shared.board.alarm(partition, alarm),
            }
        }
        Ok(Opened { log, positions })
    }

    fn start(&mut self, opened: Opened) {
        // A partition that stopped with an alarm is assigned to nobody's reader; the alarm stays until it can be opened.
        match self.consumer.assign(&opened.positions) {
            Ok(records) => {
                for (records, (partition, position)) in records.into_iter().zip(opened.positions) {
                    tracing::info!(partition, position, "deciding");
                    let worker = self.worker(records, &opened.log, position);
                    self.workers.insert(partition, worker);
                }
                self.shared.board.set_open(true);
            }
            Err(error) => {
                tracing::warn!(%error, "the assignment is refused");
                self.reopen_later();
            }
        }
    }

    fn worker(&self, records: GroupPartition, log: &LogIncarnation, position: i64) -> Worker {
        let shared = &self.shared;
        let settings = &shared.settings;
        let topics = &settings.kafka.topics;
        let partition = records.partition();
        let cancel = CancellationToken::new();
        let status = shared.board.start(partition, position);
        let (sender, publisher_feed, settler_feed) = feed(position);
        let timeout = settings.transaction_timeout();
        let ledger = Arc::new(Ledger::new(settings.postgres.clone(), topics.created.clone(), partition, timeout));
        let identity = Partition { topic: topics.created.clone(), partition, incarnation: log.clone() };
        let intake = Intake {
            records,
            hopper: Arc::new(Hopper::new(settings.batch.limits())),
            memory: PartitionMemory::new(shared.memory.clone()),
            log_key: shared.log_key.clone(),
            log: log.clone(),
            cancel: cancel.clone(),
        };
        let decider = Decider {
            store: FoldStore::new(settings.postgres.clone(), identity, timeout, Fingerprints::new(&shared.fingerprints)),
            exits: Exits {
                partition,
                producer: shared.producer.clone(),
                created: topics.created.clone(),
                dead_letter: topics.dead_letter.clone(),
                partitions: self.partitions.clone(),
            },
            feed: sender,
            status: status.clone(),
            board: shared.board.clone(),
            position,
            full_batches: 0,
            share: Share::default(),
            cancel: cancel.clone(),
        };
        let publisher = Publisher {
            ledger: ledger.clone(),
            producer: shared.producer.clone(),
            memory: shared.memory.clone(),
            issued: topics.issued.clone(),
            rejected: topics.rejected.clone(),
            status: status.clone(),
            clock: shared.clock.clone(),
            cancel: cancel.clone(),
        };
        let settler = Settler { ledger, gate: shared.gate.clone(), status, cancel: cancel.clone() };
        let parts = Parts { intake, decider, publisher: (publisher, publisher_feed), settler: (settler, settler_feed) };
        Worker::start(parts, cancel, self.ends.0.clone())
    }

    async fn close_all(&mut self) {
        self.shared.board.set_open(false);
        let patience = Duration::from_millis(self.shared.settings.stop_timeout_ms);
        for worker in self.workers.values() {
            worker.cancel();
        }
        self.commit_offsets();
        let workers = std::mem::take(&mut self.workers);
        futures::future::join_all(workers.into_values().map(|worker| worker.stopped(patience))).await;
        for partition in &self.assigned {
            self.shared.board.stop(*partition);
        }
        self.committed.clear();
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
        if let End::Alarm(alarm) = end {
            self.barred.insert(partition, alarm);
            self.reopen_at = Some(Instant::now());
        } else {
            self.reopen_later();
        }
    }

    /// Looks at the log's ends for the lag, and tells lag tools how far is decided.
    async fn look(&mut self) {
        service_kit::failpoint!("consumer.offsets.before");
        self.commit_offsets();
        let running = self.shared.board.running();
        for status in running {
            match self.consumer.watermarks(status.partition).await {
                Ok(Watermarks { high, .. }) => status.set_log_end(high),
                Err(error) => {
                    tracing::debug!(partition = status.partition, %error, "the log's end is not known now");
                    break;
                }
            }
            let decided = status.decided();
            metric::lag(status.partition, "deciding", status.deciding_lag());
            metric::lag(status.partition, "publishing", decided.saturating_sub(status.published()));
            metric::lag(status.partition, "settling", decided.saturating_sub(status.settled()));
        }
    }

    /// Only what is committed in the database is ever told to Kafka.
    fn commit_offsets(&mut self) {
        let mut moved = Vec::new();
        for (partition, worker) in &self.workers {
            let decided = worker.status.decided();
            if self.committed.insert(*partition, decided) != Some(decided) {
                moved.push((*partition, decided));
            }
        }
        if !moved.is_empty() {
            self.consumer.commit_for_lag_tools(&moved);
        }
    }
}

/// Waits until an event is there, without taking it.
async fn arrival(events: &mpsc::Receiver<GroupEvent>) {
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    while events.is_empty() && !events.is_closed() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
