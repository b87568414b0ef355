//! A member of the group with work to do: opens assigned partitions at the positions that their owner keeps, gives revoked ones back, and
//! keeps the one that has to stop from stopping the others.

use std::{collections::BTreeMap, time::Duration};

use domain::coupon::LogIncarnation;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    consumer::{GroupConsumer, GroupEvent},
    error::KafkaIoError,
    owner::{PartitionOwner, Tie},
    settings::{ConsumerSettings, KafkaSettings},
};

/// Ends of work that may wait to be looked at; a topic has far fewer partitions in trouble at a time.
const ENDS_MAX: usize = 64;
/// How long a partition that somebody else moved waits before it is opened again: usually the group takes it away meanwhile.
const REOPEN_AFTER: Duration = Duration::from_millis(500);
/// How often an arriving event is looked for while servers are waited for.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The wait before the next attempt to open partitions, where an owner's delays have an end.
const LAST_DELAY: Duration = Duration::from_secs(3);

/// How a member works.
#[derive(Debug, Clone, Copy)]
pub struct MemberSettings {
    /// How often the lag is looked at and Kafka is told how far the work is.
    pub look_every: Duration,
    /// How long the tasks of a partition may take to stop before they are dropped.
    pub stop_patience: Duration,
}

struct Work<S> {
    status: S,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

type Ends<A> = (mpsc::Sender<(i32, Option<A>)>, mpsc::Receiver<(i32, Option<A>)>);

/// The membership of one replica.
pub struct GroupMember<O: PartitionOwner> {
    owner: O,
    settings: MemberSettings,
    consumer: GroupConsumer,
    events: mpsc::Receiver<GroupEvent>,
    ends: Ends<O::Alarm>,
    assigned: Vec<i32>,
    work: BTreeMap<i32, Work<O::Status>>,
    barred: BTreeMap<i32, O::Alarm>,
    reopen_at: Option<Instant>,
    told: BTreeMap<i32, i64>,
}

struct Opened {
    log: LogIncarnation,
    positions: Vec<(i32, i64)>,
}

impl<O: PartitionOwner> GroupMember<O> {
    /// Joins the group of a topic.
    ///
    /// # Errors
    /// The Kafka client refuses its settings.
    pub fn join(
        owner: O,
        settings: MemberSettings,
        kafka: &KafkaSettings,
        consumer: &ConsumerSettings,
        topic: &str,
    ) -> Result<Self, KafkaIoError> {
        let (consumer, events) = GroupConsumer::join(kafka, consumer, topic)?;
        Ok(Self {
            owner,
            settings,
            consumer,
            events,
            ends: mpsc::channel(ENDS_MAX),
            assigned: Vec::new(),
            work: BTreeMap::new(),
            barred: BTreeMap::new(),
            reopen_at: None,
            told: BTreeMap::new(),
        })
    }

    /// Works until `cancel`, or until the membership fails for good; then stops all work and leaves the group.
    ///
    /// # Errors
    /// Why the membership failed; the process has to start again.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<(), String> {
        let mut tick = tokio::time::interval(self.settings.look_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                        tracing::info!(topic = self.consumer.topic(), ?partitions, lost, "giving partitions back");
                        self.close_all().await;
                        self.owner.gave_back(&self.assigned);
                        self.assigned.clear();
                        self.reopen_at = None;
                    }
                    Some(GroupEvent::Failed(reason)) => break Err(reason),
                    None => break Err("the consumer ended".to_owned()),
                },
                Some((partition, alarm)) = self.ends.1.recv() => self.ended(partition, alarm).await,
                () = tokio::time::sleep_until(reopen_at), if self.reopen_at.is_some() => {
                    self.reopen_at = None;
                    self.close_all().await;
                    self.open_all(&cancel).await;
                }
                _ = tick.tick() => self.look().await,
            }
            self.owner.beat();
        };
        self.close_all().await;
        if tokio::time::timeout(self.settings.stop_patience, self.consumer.leave()).await.is_err() {
            tracing::warn!("leaving the group takes too long; the group will notice by its session time-out");
        }
        result
    }

    /// Opens what is assigned. A server that is away is waited for; a new rebalance ends the wait.
    async fn open_all(&mut self, cancel: &CancellationToken) {
        let mut delays = self.owner.delays();
        loop {
            match self.open_positions().await {
                Ok(opened) => return self.start(opened),
                Err(reason) => {
                    tracing::warn!(topic = self.consumer.topic(), reason, "opening partitions waits");
                    self.owner.waits(&reason);
                }
            }
            self.owner.beat();
            let delay = delays.next().unwrap_or(LAST_DELAY);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(delay) => {}
                // The event itself is taken by the caller: here only its arrival counts.
                () = arrival(&self.events) => return self.reopen_later(),
            }
        }
    }

    fn reopen_later(&mut self) {
        self.reopen_at = Some(Instant::now() + REOPEN_AFTER);
    }

    async fn open_positions(&self) -> Result<Opened, String> {
        let text = |error: KafkaIoError| error.to_string();
        let log = self.consumer.incarnation().await.map_err(text)?;
        let store = self.owner.positions(&self.consumer).await?;
        let mut positions = Vec::with_capacity(self.assigned.len());
        for &partition in &self.assigned {
            if let Some(alarm) = self.barred.get(&partition) {
                self.owner.alarm(partition, alarm);
                continue;
            }
            let marks = self.consumer.watermarks(partition).await.map_err(text)?;
            match self.owner.open(&store, partition, &log, marks).await? {
                Ok(position) => positions.push((partition, position)),
                Err(alarm) => self.owner.alarm(partition, &alarm),
            }
        }
        Ok(Opened { log, positions })
    }

    /// A partition that stopped with an alarm is assigned to nobody's reader; the alarm stays until it can be opened.
    fn start(&mut self, opened: Opened) {
        match self.consumer.assign(&opened.positions) {
            Ok(records) => {
                for (records, (partition, position)) in records.into_iter().zip(opened.positions) {
                    tracing::info!(topic = self.consumer.topic(), partition, position, "working on a partition");
                    let cancel = CancellationToken::new();
                    let tie = Tie { cancel: cancel.clone(), partition, ends: self.ends.0.clone() };
                    let (status, tasks) = self.owner.start(records, &opened.log, position, tie);
                    self.work.insert(partition, Work { status, cancel, tasks });
                }
                self.owner.opened();
            }
            Err(error) => {
                tracing::warn!(%error, "the assignment is refused");
                self.reopen_later();
            }
        }
    }

    async fn close_all(&mut self) {
        self.owner.closing();
        let mut work = std::mem::take(&mut self.work);
        work.values().for_each(|work| work.cancel.cancel());
        let deadline = Instant::now() + self.settings.stop_patience;
        let stopping = work.iter_mut().map(|(partition, work)| stopped(*partition, std::mem::take(&mut work.tasks), deadline));
        futures::future::join_all(stopping).await;
        self.tell(positions(&self.owner, &work));
        self.owner.closed(&self.assigned);
        self.told.clear();
        if let Err(error) = self.consumer.unassign() {
            tracing::warn!(%error, "unassign");
        }
    }

    /// Work ended by itself. All partitions are opened again without the one that must not go on: a partition that is assigned but not
    /// read would still be fetched.
    async fn ended(&mut self, partition: i32, alarm: Option<O::Alarm>) {
        if !self.work.contains_key(&partition) {
            return;
        }
        self.close_all().await;
        if let Some(alarm) = alarm {
            self.barred.insert(partition, alarm);
            self.reopen_at = Some(Instant::now());
        } else {
            self.reopen_later();
        }
    }

    /// Tells lag tools how far the work is, and looks at the log's ends for the lag.
    async fn look(&mut self) {
        self.owner.before_telling().await;
        self.tell(positions(&self.owner, &self.work));
        for (&partition, work) in &self.work {
            match self.consumer.watermarks(partition).await {
                Ok(marks) => self.owner.looked(partition, &work.status, marks.high),
                Err(error) => {
                    tracing::debug!(partition, %error, "the log's end is not known now");
                    break;
                }
            }
        }
    }

    /// Only what is committed in the database is ever told to Kafka, and nobody reads it back but lag tools.
    fn tell(&mut self, positions: Vec<(i32, i64)>) {
        let moved: Vec<_> =
            positions.into_iter().filter(|(partition, at)| self.told.insert(*partition, *at) != Some(*at)).collect();
        if !moved.is_empty() {
            self.consumer.commit_for_lag_tools(&moved);
        }
    }
}

/// How far the work on each partition is.
fn positions<O: PartitionOwner>(owner: &O, work: &BTreeMap<i32, Work<O::Status>>) -> Vec<(i32, i64)> {
    work.iter().map(|(partition, work)| (*partition, owner.position(&work.status))).collect()
}

/// Waits until tasks have stopped; at the deadline they are dropped where they stand, which rolls open transactions back.
async fn stopped(partition: i32, tasks: Vec<JoinHandle<()>>, deadline: Instant) {
    for mut task in tasks {
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            tracing::warn!(partition, "a task did not stop in time and is dropped");
            task.abort();
            let _ = task.await;
        }
    }
}

/// Waits until an event is there, without taking it.
async fn arrival(events: &mpsc::Receiver<GroupEvent>) {
    while events.is_empty() && !events.is_closed() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
