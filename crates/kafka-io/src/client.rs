//! Questions about the log itself: how many partitions, where they begin and end, and which log it is.

use std::{sync::Arc, time::Duration};

use domain::coupon::LogIncarnation;
use rdkafka::{ClientContext, Statistics, admin::AdminClient, client::Client, error::KafkaError, types::RDKafkaErrorCode};

use crate::{
    error::{KafkaIoError, code_of},
    ffi,
    settings::KafkaSettings,
};

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that is still there.
    pub low: i64,
    /// The offset that the next record will get.
    pub high: i64,
}

/// A context that only logs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QuietContext;

impl ClientContext for QuietContext {
    fn stats(&self, _: Statistics) {}
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka client");
    }
}

/// A client that neither produces nor consumes. Cheap to clone.
#[derive(Clone)]
pub struct LogClient {
    pub(crate) admin: Arc<AdminClient<QuietContext>>,
    pub(crate) timeout: Duration,
}

impl LogClient {
    /// Makes a client; it connects in the background.
    ///
    /// # Errors
    /// The settings are refused by the client.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaIoError> {
        let admin = settings
            .client_config("admin")
            .create_with_context(QuietContext)
            .map_err(|error| KafkaIoError::Settings(error.to_string()))?;
        Ok(Self { admin: Arc::new(admin), timeout: Duration::from_millis(settings.request_timeout_ms.into()) })
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// The topic is not there, or no broker answers.
    pub async fn partition_count(&self, topic: &str) -> Result<i32, KafkaIoError> {
        self.ask(topic, partition_count).await
    }

    /// Which log the topic's offsets belong to.
    ///
    /// # Errors
    /// The topic is not there, or no broker answers.
    pub async fn incarnation(&self, topic: &str) -> Result<LogIncarnation, KafkaIoError> {
        self.ask(topic, incarnation).await
    }

    /// The first offset and the end of a partition.
    ///
    /// # Errors
    /// The partition is not there, or no broker answers.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, KafkaIoError> {
        self.ask(topic, move |client, topic, timeout| watermarks(client, topic, partition, timeout)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        topic: &str,
        call: impl FnOnce(&Client<QuietContext>, &str, Duration) -> Result<T, KafkaIoError> + Send + 'static,
    ) -> Result<T, KafkaIoError> {
        let (admin, topic, timeout) = (Arc::clone(&self.admin), topic.to_owned(), self.timeout);
        blocking(move || call(admin.inner(), &topic, timeout)).await
    }
}

/// Runs a call that waits for the network off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KafkaIoError> + Send + 'static,
) -> Result<T, KafkaIoError> {
    tokio::task::spawn_blocking(call).await.map_err(|error| KafkaIoError::Runtime(error.to_string()))?
}

pub(crate) fn partition_count<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> Result<i32, KafkaIoError> {
    let metadata = client.fetch_metadata(Some(topic), timeout).map_err(|error| no_topic_or("metadata", topic, error))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    match found {
        Some(found) if found.error().is_none() && !found.partitions().is_empty() => {
            Ok(i32::try_from(found.partitions().len()).unwrap_or(i32::MAX))
        }
        _ => Err(KafkaIoError::NoSuchTopic(topic.to_owned())),
    }
}

pub(crate) fn watermarks<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    partition: i32,
    timeout: Duration,
) -> Result<Watermarks, KafkaIoError> {
    let (low, high) =
        client.fetch_watermarks(topic, partition, timeout).map_err(|error| no_topic_or("watermarks", topic, error))?;
    Ok(Watermarks { low, high })
}

pub(crate) fn incarnation<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<LogIncarnation, KafkaIoError> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let topic_id = ffi::topic_id(client.native_ptr(), topic, timeout_ms)
        .map_err(|code| no_topic_or("topic id", topic, KafkaError::AdminOp(code)))?;
    let cluster_id = ffi::cluster_id(client.native_ptr(), timeout_ms).ok_or_else(|| KafkaIoError::Client {
        what: "cluster id",
        source: KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut),
    })?;
    Ok(LogIncarnation { cluster_id, topic_id })
}

fn no_topic_or(what: &'static str, topic: &str, source: KafkaError) -> KafkaIoError {
    match code_of(&source) {
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownPartition) => {
            KafkaIoError::NoSuchTopic(topic.to_owned())
        }
        _ => KafkaIoError::Client { what, source },
    }
}
