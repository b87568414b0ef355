//! A member of the consumer group whose partitions start where PostgreSQL says.
//!
//! The assignment is deferred: a rebalance only *announces* partitions. Whoever coordinates loads their positions and
//! then calls [`GroupConsumer::assign`]; after a revocation it stops its workers and then calls
//! [`GroupConsumer::unassign`]. Heartbeats go on meanwhile, because a task of its own keeps polling.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use domain::coupon::LogIncarnation;
use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, StreamConsumer},
    error::KafkaError,
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    client::{self, Watermarks},
    error::KafkaIoError,
    partition::PartitionRecords,
    settings::{ConsumerSettings, KafkaSettings},
};

/// Rebalances that may wait to be handled. The client waits for an answer to each, so two is already unusual.
const EVENTS_MAX: usize = 16;

/// What the group says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupEvent {
    /// These partitions are ours once [`GroupConsumer::assign`] was called.
    Assigned(Vec<i32>),
    /// These partitions are to be given back: stop their workers, then call [`GroupConsumer::unassign`].
    Revoked {
        /// The partitions.
        partitions: Vec<i32>,
        /// They are lost already: another member may work on them at this moment.
        lost: bool,
    },
    /// The group membership failed for good.
    Failed(String),
}

/// The context of a group consumer: it passes rebalances on.
pub struct GroupContext {
    events: mpsc::Sender<GroupEvent>,
    closing: AtomicBool,
}

impl ClientContext for GroupContext {
    fn stats(&self, _: Statistics) {}
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka consumer");
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> =
            list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect();
        let event = if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            GroupEvent::Assigned(partitions)
        } else {
            GroupEvent::Revoked { partitions, lost: consumer.assignment_lost() }
        };
        // While it leaves there is nobody to answer, and the client waits for an answer.
        if self.closing.load(Ordering::Acquire) {
            answer_with_nothing(consumer);
            return;
        }
        tracing::info!(?event, "rebalance");
        if let Err(error) = self.events.try_send(event) {
            tracing::error!(%error, "nobody takes rebalances; giving the partitions back");
            answer_with_nothing(consumer);
        }
    }
}

fn answer_with_nothing(consumer: &BaseConsumer<GroupContext>) {
    if let Err(error) = consumer.unassign() {
        tracing::warn!(%error, "unassign");
    }
}

type Inner = StreamConsumer<GroupContext>;

/// A member of the consumer group, of one topic.
pub struct GroupConsumer {
    inner: Arc<Inner>,
    topic: String,
    timeout: std::time::Duration,
    driver: JoinHandle<()>,
}

/// The records of one partition of a group consumer.
pub type GroupPartition = PartitionRecords<GroupContext>;

impl GroupConsumer {
    /// Joins the group. Rebalances come through the receiver and must be answered in their order.
    ///
    /// # Errors
    /// The settings are refused by the client.
    pub fn join(
        settings: &KafkaSettings,
        consumer: &ConsumerSettings,
        topic: &str,
    ) -> Result<(Self, mpsc::Receiver<GroupEvent>), KafkaIoError> {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let context = GroupContext { events: events.clone(), closing: AtomicBool::new(false) };
        let inner: Inner = settings
            .consumer_config(consumer)
            .create_with_context(context)
            .map_err(|error| KafkaIoError::Settings(error.to_string()))?;
        inner.subscribe(&[topic]).map_err(KafkaIoError::client("subscribe"))?;
        let inner = Arc::new(inner);
        let driver = tokio::spawn(drive(Arc::clone(&inner), events));
        let timeout = std::time::Duration::from_millis(settings.request_timeout_ms.into());
        Ok((Self { inner, topic: topic.to_owned(), timeout, driver }, receiver))
    }

    /// Takes the announced partitions, each from the given offset on.
    ///
    /// # Errors
    /// The client refuses the assignment.
    pub fn assign(&self, positions: &[(i32, i64)]) -> Result<Vec<GroupPartition>, KafkaIoError> {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        let mut records = Vec::with_capacity(positions.len());
        for &(partition, offset) in positions {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset)).map_err(KafkaIoError::client("assign"))?;
            // Split before the assignment, or the first records would go to the main queue.
            records.push(PartitionRecords::split(&self.inner, &self.topic, partition)?);
        }
        self.inner.assign(&list).map_err(KafkaIoError::client("assign"))?;
        Ok(records)
    }

    /// Gives all partitions back. Drop their [`GroupPartition`]s first.
    ///
    /// # Errors
    /// The client refuses.
    pub fn unassign(&self) -> Result<(), KafkaIoError> {
        self.inner.unassign().map_err(KafkaIoError::client("unassign"))
    }

    /// Tells Kafka how far these partitions are decided. It serves lag tools only and is never read back; an error is
    /// therefore only logged by the client.
    pub fn commit_for_lag_tools(&self, positions: &[(i32, i64)]) {
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for &(partition, offset) in positions {
            if list.add_partition_offset(&self.topic, partition, Offset::Offset(offset)).is_err() {
                return;
            }
        }
        if let Err(error) = self.inner.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "commit for lag tools");
        }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// How many partitions the topic has.
    ///
    /// # Errors
    /// The topic is not there, or no broker answers.
    pub async fn partition_count(&self) -> Result<i32, KafkaIoError> {
        self.ask(|inner, topic, timeout| client::partition_count(inner.client(), topic, timeout)).await
    }

    /// Which log the topic's offsets belong to.
    ///
    /// # Errors
    /// The topic is not there, or no broker answers.
    pub async fn incarnation(&self) -> Result<LogIncarnation, KafkaIoError> {
        self.ask(|inner, topic, timeout| client::incarnation(inner.client(), topic, timeout)).await
    }

    /// The first offset and the end of a partition.
    ///
    /// # Errors
    /// The partition is not there, or no broker answers.
    pub async fn watermarks(&self, partition: i32) -> Result<Watermarks, KafkaIoError> {
        self.ask(move |inner, topic, timeout| client::watermarks(inner.client(), topic, partition, timeout)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Inner, &str, std::time::Duration) -> Result<T, KafkaIoError> + Send + 'static,
    ) -> Result<T, KafkaIoError> {
        let (inner, topic, timeout) = (Arc::clone(&self.inner), self.topic.clone(), self.timeout);
        client::blocking(move || call(&inner, &topic, timeout)).await
    }

    /// Leaves the group, so that others take over at once. Drop all [`GroupPartition`]s first: they keep the client.
    pub async fn leave(self) {
        self.inner.context().closing.store(true, Ordering::Release);
        self.driver.abort();
        let inner = Arc::clone(&self.inner);
        drop(self);
        // Closing talks to the group's coordinator and blocks.
        if let Err(error) = tokio::task::spawn_blocking(move || drop(inner)).await {
            tracing::warn!(%error, "closing the consumer");
        }
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.inner.context().closing.store(true, Ordering::Release);
        self.driver.abort();
    }
}

/// Keeps the main queue served: heartbeats and rebalances depend on it. Records never come here, because every
/// partition was split off before it was assigned.
async fn drive(inner: Arc<Inner>, events: mpsc::Sender<GroupEvent>) {
    loop {
        let error = match inner.recv().await {
            Ok(message) => {
                use rdkafka::Message;
                let reason = format!("a record of partition {} came past its queue", message.partition());
                tracing::error!(reason, "consumer");
                if events.send(GroupEvent::Failed(reason)).await.is_err() {
                    return;
                }
                continue;
            }
            Err(error) => error,
        };
        let fatal = matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::Fatal
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::TopicAuthorizationFailed
                    | RDKafkaErrorCode::FencedInstanceId
            )
        );
        if fatal {
            tracing::error!(%error, "the group membership failed");
            if events.send(GroupEvent::Failed(error.to_string())).await.is_err() {
                return;
            }
        } else {
            tracing::debug!(%error, "consumer");
        }
    }
}
