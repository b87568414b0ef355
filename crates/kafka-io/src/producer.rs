//! The producer: never blocks, and says of each record whether it is in the log, is not, or may be.

use std::{
    ffi::CString,
    sync::{Arc, Weak},
    thread,
    time::Duration,
};

use contracts::Encoded;
use domain::coupon::LogIncarnation;
use rdkafka::{
    config::FromClientConfigAndContext,
    producer::{Producer, ThreadedProducer},
    types::RDKafkaErrorCode,
};

use crate::{
    client::{self, Watermarks},
    delivery::{Delivery, DeliveryContext, Slot},
    error::{KafkaIoError, PublishError},
    ffi,
    settings::{KafkaSettings, ProducerSettings},
};

/// How often a cluster that did not answer is asked again.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// How long such a question may take.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1_000);

type Inner = ThreadedProducer<DeliveryContext>;

/// An idempotent producer with `acks=all`. Cheap to clone; the last clone that is dropped purges what still waits, so
/// stop intake, [`flush`](Self::flush), and count what is left.
#[derive(Clone)]
pub struct CommandProducer {
    inner: Arc<Inner>,
    /// The topic of commands as C writes it: nearly every record goes there.
    commands: Arc<CString>,
    timeout: Duration,
}

/// What a flush could not wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{left} records are still not acknowledged")]
pub struct FlushError {
    /// How many records are left.
    pub left: usize,
}

impl CommandProducer {
    /// Makes a producer; it connects in the background.
    ///
    /// # Errors
    /// The settings are refused by the client.
    pub fn new(settings: &KafkaSettings, producer: &ProducerSettings) -> Result<Self, KafkaIoError> {
        let config = settings.producer_config(producer);
        let inner = Inner::from_config_and_context(&config, DeliveryContext::new())
            .map_err(|error| KafkaIoError::Settings(error.to_string()))?;
        let inner = Arc::new(inner);
        let commands = Arc::new(topic_name(&settings.topics.created).map_err(|error| KafkaIoError::Settings(error.to_string()))?);
        watch(&inner, settings.topics.created.clone())?;
        Ok(Self { inner, commands, timeout: Duration::from_millis(settings.request_timeout_ms.into()) })
    }

    /// Queues a record; never blocks. With no partition, the key is hashed as Java's client does.
    ///
    /// # Errors
    /// At once [`PublishError::Refused`] if the queue is full or the partition unknown, [`PublishError::TooLarge`] for a record that
    /// no request could carry, and [`PublishError::Fatal`] if this producer cannot go on. What happens later is in the [`Delivery`].
    pub fn publish(&self, topic: &str, partition: Option<i32>, record: &Encoded) -> Result<Delivery, PublishError> {
        let other;
        let topic = if topic.as_bytes() == self.commands.as_bytes() {
            &*self.commands
        } else {
            other = topic_name(topic)?;
            &other
        };
        let slot = Arc::new(Slot::default());
        let client = self.inner.client().native_ptr();
        match ffi::produce(client, topic, partition.unwrap_or(-1), record, Arc::clone(&slot)) {
            Ok(()) => Ok(Delivery { slot }),
            Err((code @ RDKafkaErrorCode::MessageSizeTooLarge, _)) => Err(PublishError::TooLarge(code.to_string())),
            Err((RDKafkaErrorCode::Fatal, _)) => Err(PublishError::Fatal(self.fatal_reason())),
            Err((code, _)) => Err(PublishError::Refused(code.to_string())),
        }
    }

    fn fatal_reason(&self) -> String {
        self.inner.client().fatal_error().map_or_else(|| "unknown".to_owned(), |(code, reason)| format!("{code}: {reason}"))
    }

    /// Whether this producer failed for good and has to be replaced.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.inner.client().fatal_error().is_some()
    }

    /// Whether the last sign of the brokers was a good one. While they are down, somebody asks them twice a second, so
    /// that callers can refuse at once instead of queueing.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.inner.client().context().is_down()
    }

    /// How many records wait for their acknowledgement.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.inner.in_flight_count()).unwrap_or(0)
    }

    /// Sends what waits and waits for it, at most `timeout`.
    ///
    /// # Errors
    /// How many records are left.
    pub async fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let inner = Arc::clone(&self.inner);
        let flushed = tokio::task::spawn_blocking(move || inner.flush(timeout)).await;
        match flushed {
            Ok(Ok(())) => Ok(()),
            _ => Err(FlushError { left: self.in_flight() }),
        }
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// The topic is not there, or no broker answers.
    pub async fn partition_count(&self, topic: &str) -> Result<i32, KafkaIoError> {
        self.ask(topic, |inner, topic, timeout| client::partition_count(inner.client(), topic, timeout)).await
    }

    /// Asks the brokers for a topic at once. One that was not there is not looked for again by the client for minutes. What the brokers
    /// say is of no interest here: the next publish finds out.
    pub async fn look_for(&self, topic: &str) {
        if let Err(error) = self.partition_count(topic).await {
            tracing::debug!(topic, %error, "looking for a topic");
        }
    }

    /// Which log the topic's offsets belong to.
    ///
    /// # Errors
    /// The topic is not there, or no broker answers.
    pub async fn incarnation(&self, topic: &str) -> Result<LogIncarnation, KafkaIoError> {
        self.ask(topic, |inner, topic, timeout| client::incarnation(inner.client(), topic, timeout)).await
    }

    /// The first offset and the end of a partition.
    ///
    /// # Errors
    /// The partition is not there, or no broker answers.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<Watermarks, KafkaIoError> {
        self.ask(topic, move |inner, topic, timeout| client::watermarks(inner.client(), topic, partition, timeout)).await
    }

    async fn ask<T: Send + 'static>(
        &self,
        topic: &str,
        call: impl FnOnce(&Inner, &str, Duration) -> Result<T, KafkaIoError> + Send + 'static,
    ) -> Result<T, KafkaIoError> {
        let (inner, topic, timeout) = (Arc::clone(&self.inner), topic.to_owned(), self.timeout);
        client::blocking(move || call(&inner, &topic, timeout)).await
    }
}

fn topic_name(topic: &str) -> Result<CString, PublishError> {
    CString::new(topic).map_err(|_| PublishError::Refused("the topic's name contains a NUL".to_owned()))
}

/// Watches the brokers from a thread of its own: while they are down nothing is published, so no report would say that
/// they are back.
fn watch(inner: &Arc<Inner>, topic: String) -> Result<(), KafkaIoError> {
    let inner: Weak<Inner> = Arc::downgrade(inner);
    let probe = move || {
        while let Some(producer) = inner.upgrade() {
            let context = producer.client().context();
            if context.is_down() && producer.client().fetch_metadata(Some(&topic), PROBE_TIMEOUT).is_ok() {
                context.set_down(false);
            }
            // The last owner may have gone meanwhile: then the producer is dropped here, off every runtime.
            drop(producer);
            thread::sleep(PROBE_INTERVAL);
        }
    };
    thread::Builder::new()
        .name("kafka-probe".to_owned())
        .spawn(probe)
        .map(drop)
        .map_err(|error| KafkaIoError::Runtime(error.to_string()))
}
