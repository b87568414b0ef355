//! The command log as Kafka keeps it.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use contracts::{Envelope, LogKey, TraceParent, encode_request};
use domain::{
    clock::{Clock, SystemClock},
    coupon::{LogIncarnation, Request},
};
use kafka_io::{CommandProducer, KafkaIoError, KafkaSettings, LogClient, ProducerSettings, PublishError};

use crate::log::{CommandLog, LogError, Published};

/// `ce_source` of what is published here.
const SOURCE: &str = "/trueup/reconciler";

/// The command log.
pub struct KafkaLog {
    client: LogClient,
    producer: Mutex<CommandProducer>,
    settings: KafkaSettings,
    producer_settings: ProducerSettings,
    key: LogKey,
}

impl KafkaLog {
    /// Makes the clients; they connect in the background. `key` signs requests as admitted.
    ///
    /// # Errors
    /// The settings are refused by the client.
    pub fn new(settings: &KafkaSettings, producer_settings: &ProducerSettings, key: LogKey) -> Result<Self, KafkaIoError> {
        Ok(Self {
            client: LogClient::new(settings)?,
            producer: Mutex::new(CommandProducer::new(settings, producer_settings)?),
            settings: settings.clone(),
            producer_settings: producer_settings.clone(),
            key,
        })
    }

    /// The producer, made anew if the old one failed for good.
    fn producer(&self) -> Result<CommandProducer, KafkaIoError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if producer.is_fatal() {
            *producer = CommandProducer::new(&self.settings, &self.producer_settings)?;
        }
        Ok(producer.clone())
    }

    /// Waits for what is still under way, at most `timeout`, and gives what is left.
    pub async fn flush(&self, timeout: std::time::Duration) -> usize {
        match self.producer() {
            Ok(producer) => producer.flush(timeout).await.map_or_else(|error| error.left, |()| 0),
            Err(_) => 0,
        }
    }
}

#[async_trait]
impl CommandLog for KafkaLog {
    async fn incarnation(&self) -> Result<LogIncarnation, LogError> {
        self.client.incarnation(&self.settings.topics.created).await.map_err(|error| LogError(error.to_string()))
    }

    async fn end_of(&self, partition: i32) -> Result<i64, LogError> {
        let watermarks = self.client.watermarks(&self.settings.topics.created, partition).await;
        watermarks.map(|watermarks| watermarks.high).map_err(|error| LogError(error.to_string()))
    }

    async fn publish(&self, partition: i32, requests: &[Request]) -> Vec<Published> {
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return requests.iter().map(|_| Published::Refused(error.to_string())).collect(),
        };
        // All of them are queued before the first acknowledgement is awaited, so that they travel together.
        let deliveries: Vec<_> = requests
            .iter()
            .map(|request| {
                let now = SystemClock.now();
                let envelope = Envelope { source: SOURCE, time: now, trace_parent: Some(TraceParent::fresh(now, false)) };
                producer.publish(
                    &self.settings.topics.created,
                    Some(partition),
                    &encode_request(request, None, &self.key, &envelope),
                )
            })
            .collect();
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            let acknowledged = match delivery {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            };
            outcomes.push(match acknowledged {
                Ok(_) => Published::Acknowledged,
                Err(error @ PublishError::Unknown(_)) => Published::Unknown(error.to_string()),
                Err(error) => Published::Refused(error.to_string()),
            });
        }
        outcomes
    }
}
