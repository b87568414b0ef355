//! What the consumer does with its partitions, which are opened, closed and watched by the member of the group: where they start, what works
//! on them, and what the board shows of them.

use std::{
    sync::{Arc, atomic::AtomicI32, atomic::Ordering},
    time::Duration,
};

use contracts::LogKey;
use domain::{clock::Clock, coupon::LogIncarnation};
use kafka_io::{
    CommandProducer, GroupConsumer, GroupMember, GroupPartition, KafkaIoError, MemberSettings, PartitionOwner, Tie, Watermarks,
};
use redis_io::Gate;
use service_kit::retry::Retry;
use tokio::task::JoinHandle;

use crate::{
    board::{Alarm, Board, PartitionStatus},
    config::Settings,
    decider::Decider,
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
    worker::Parts,
};

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
    /// How many partitions the log has, for records that are forwarded.
    partitions: Arc<AtomicI32>,
}

impl Coordinator {
    /// Joins the group.
    ///
    /// # Errors
    /// The Kafka client refuses its settings.
    pub fn join(shared: Arc<Shared>) -> Result<GroupMember<Self>, KafkaIoError> {
        let all = Arc::clone(&shared);
        let Settings { kafka, consumer, lag_interval_ms, stop_timeout_ms, .. } = &all.settings;
        let settings = MemberSettings {
            look_every: Duration::from_millis(*lag_interval_ms),
            stop_patience: Duration::from_millis(*stop_timeout_ms),
        };
        let owner = Self { shared, partitions: Arc::new(AtomicI32::new(1)) };
        GroupMember::join(owner, settings, kafka, consumer, &kafka.topics.created)
    }
}

impl PartitionOwner for Coordinator {
    type Positions = Positions;
    type Status = Arc<PartitionStatus>;
    type Alarm = Alarm;
    type Delays = Retry;

    async fn positions(&self, consumer: &GroupConsumer) -> Result<Positions, String> {
        let settings = &self.shared.settings;
        self.partitions.store(consumer.partition_count().await.map_err(|error| error.to_string())?, Ordering::Release);
        let store = Positions::connect(&settings.postgres, settings.kafka.topics.created.clone());
        let store = tokio::time::timeout(settings.transaction_timeout(), store).await;
        store.map_err(|_| "no database connection in time".to_owned())?.map_err(|error| error.to_string())
    }

    async fn open(
        &self,
        positions: &Positions,
        partition: i32,
        log: &LogIncarnation,
        marks: Watermarks,
    ) -> Result<Result<i64, Alarm>, String> {
        positions.open(partition, log, marks).await.map_err(|error| error.to_string())
    }

    fn start(
        &self,
        records: GroupPartition,
        log: &LogIncarnation,
        position: i64,
        tie: Tie<Alarm>,
    ) -> (Arc<PartitionStatus>, Vec<JoinHandle<()>>) {
        let shared = &self.shared;
        let settings = &shared.settings;
        let topics = &settings.kafka.topics;
        let partition = records.partition();
        let cancel = tie.cancel.clone();
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
        let settler = Settler { ledger, gate: shared.gate.clone(), status: status.clone(), cancel };
        let parts = Parts { intake, decider, publisher: (publisher, publisher_feed), settler: (settler, settler_feed) };
        (status, parts.start(tie))
    }

    fn position(&self, status: &Arc<PartitionStatus>) -> i64 {
        status.decided()
    }

    fn delays(&self) -> Retry {
        Retry::new()
    }

    fn waits(&self, _reason: &str) {
        metric::retried("opening");
    }

    fn alarm(&self, partition: i32, alarm: &Alarm) {
        self.shared.board.alarm(partition, alarm.clone());
    }

    fn opened(&self) {
        self.shared.board.set_open(true);
    }

    fn closing(&self) {
        self.shared.board.set_open(false);
    }

    fn closed(&self, partitions: &[i32]) {
        for partition in partitions {
            self.shared.board.stop(*partition);
        }
    }

    async fn before_telling(&self) {
        service_kit::failpoint!("consumer.offsets.before");
    }

    fn looked(&self, partition: i32, status: &Arc<PartitionStatus>, end: i64) {
        status.set_log_end(end);
        let decided = status.decided();
        metric::lag(partition, "deciding", status.deciding_lag());
        metric::lag(partition, "publishing", decided.saturating_sub(status.published()));
        metric::lag(partition, "settling", decided.saturating_sub(status.settled()));
    }
}
