//! Making the topics, on purpose: partitions, retention and append time are part of the contract.

use std::collections::BTreeMap;

use contracts::names;
use rdkafka::{
    admin::{AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication},
    error::KafkaError,
    types::RDKafkaErrorCode,
};
use serde::{Deserialize, Serialize};

use crate::{client::LogClient, error::KafkaIoError, settings::Topics};

/// Retention unless told otherwise: a coupon's life of 60 days and 30 more.
pub const RETENTION_DAYS_DEFAULT: u32 = 90;
/// Topics take somewhat more than a producer's longest record, so that a dead letter's added headers fit.
const RECORD_BYTES_MAX: u32 = 2 * 1024 * 1024;

/// How one topic should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// How many partitions.
    pub partitions: i32,
    /// How many copies.
    pub replication: i32,
    /// Settings of the topic.
    pub config: BTreeMap<String, String>,
}

/// What became of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TopicChange {
    /// The topic was made.
    Created,
    /// The topic was there, with as many partitions.
    Unchanged {
        /// How many it has.
        partitions: i32,
    },
    /// Partitions were added. Coupons stay where they are; foreign records that hash elsewhere are forwarded.
    Grown {
        /// How many it had.
        from: i32,
        /// How many it has.
        to: i32,
    },
}

/// The plans of all topics, of the coupon line and of the payment line.
#[must_use]
pub fn plans(topics: &Topics, partitions: i32, replication: i32, retention_days: u32) -> Vec<TopicPlan> {
    let mut all = coupon_plans(topics, partitions, replication, retention_days);
    all.extend(payment_plans(topics, partitions, replication, retention_days));
    all
}

/// The plans of the coupon line's four topics.
#[must_use]
pub fn coupon_plans(topics: &Topics, partitions: i32, replication: i32, retention_days: u32) -> Vec<TopicPlan> {
    let names = [&topics.created, &topics.issued, &topics.rejected, &topics.dead_letter];
    plans_of(&names, partitions, replication, retention_days)
}

/// The plans of the payment line's three topics.
#[must_use]
pub fn payment_plans(topics: &Topics, partitions: i32, replication: i32, retention_days: u32) -> Vec<TopicPlan> {
    let names = [&topics.order_placed, &topics.order_placed_dead_letter, &topics.payment_outcome];
    plans_of(&names, partitions, replication, retention_days)
}

fn plans_of(names: &[&String], partitions: i32, replication: i32, retention_days: u32) -> Vec<TopicPlan> {
    let retention_ms = u64::from(retention_days) * 86_400_000;
    names
        .iter()
        .map(|name| TopicPlan {
            name: (*name).clone(),
            partitions,
            replication,
            config: BTreeMap::from([
                // Rules read the append time, which no producer can choose.
                ("message.timestamp.type".to_owned(), "LogAppendTime".to_owned()),
                ("cleanup.policy".to_owned(), "delete".to_owned()),
                ("retention.ms".to_owned(), retention_ms.to_string()),
                ("max.message.bytes".to_owned(), (RECORD_BYTES_MAX + 64 * 1024).to_string()),
                ("min.insync.replicas".to_owned(), if replication > 2 { "2" } else { "1" }.to_owned()),
            ]),
        })
        .collect()
}

/// Makes what is missing and grows what is too small. Harmless when repeated; partitions are never taken away.
///
/// # Errors
/// A plan that the broker refuses, or no broker that answers.
pub async fn create(client: &LogClient, plans: &[TopicPlan]) -> Result<Vec<(String, TopicChange)>, KafkaIoError> {
    let options = AdminOptions::new().operation_timeout(Some(client.timeout)).request_timeout(Some(client.timeout));
    let mut changes = Vec::with_capacity(plans.len());
    for plan in plans {
        let mut topic = NewTopic::new(&plan.name, plan.partitions, TopicReplication::Fixed(plan.replication));
        for (name, value) in &plan.config {
            topic = topic.set(name, value);
        }
        let results = client.admin.create_topics([&topic], &options).await.map_err(KafkaIoError::client("create topic"))?;
        let change = match results.into_iter().next() {
            Some(Ok(_)) => TopicChange::Created,
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => grow(client, &plan.name, plan.partitions).await?,
            Some(Err((_, code))) => {
                return Err(KafkaIoError::Client { what: "create topic", source: KafkaError::AdminOp(code) });
            }
            None => return Err(KafkaIoError::Runtime("the broker gave no answer for a topic".to_owned())),
        };
        changes.push((plan.name.clone(), change));
    }
    Ok(changes)
}

/// Adds partitions to a topic until it has `partitions`. Harmless when it has as many already.
///
/// # Errors
/// The topic is not there, the broker refuses, or none answers.
pub async fn grow(client: &LogClient, topic: &str, partitions: i32) -> Result<TopicChange, KafkaIoError> {
    let options = AdminOptions::new().operation_timeout(Some(client.timeout)).request_timeout(Some(client.timeout));
    let from = client.partition_count(topic).await?;
    let Some(wanted) = usize::try_from(partitions).ok().filter(|_| partitions > from) else {
        return Ok(TopicChange::Unchanged { partitions: from });
    };
    let more = NewPartitions::new(topic, wanted);
    let results = client.admin.create_partitions([&more], &options).await.map_err(KafkaIoError::client("add partitions"))?;
    match results.into_iter().next() {
        Some(Err((_, code))) => Err(KafkaIoError::Client { what: "add partitions", source: KafkaError::AdminOp(code) }),
        _ => Ok(TopicChange::Grown { from, to: partitions }),
    }
}

/// Deletes topics. For tests and for tearing down a trial.
///
/// # Errors
/// A topic that cannot be deleted, or no broker that answers; a topic that is not there is no error.
pub async fn delete(client: &LogClient, topics: &[&str]) -> Result<(), KafkaIoError> {
    let options = AdminOptions::new().operation_timeout(Some(client.timeout)).request_timeout(Some(client.timeout));
    let results = client.admin.delete_topics(topics, &options).await.map_err(KafkaIoError::client("delete topics"))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((_, code)) => {
                return Err(KafkaIoError::Client { what: "delete topics", source: KafkaError::AdminOp(code) });
            }
        }
    }
    Ok(())
}

/// The value of one setting of a topic, such as `message.timestamp.type`.
///
/// # Errors
/// The topic is not there, or no broker answers.
pub async fn config_value(client: &LogClient, topic: &str, name: &str) -> Result<Option<String>, KafkaIoError> {
    let options = AdminOptions::new().request_timeout(Some(client.timeout));
    let results = client
        .admin
        .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
        .await
        .map_err(KafkaIoError::client("describe topic"))?;
    match results.into_iter().next() {
        Some(Ok(resource)) => Ok(resource.entries.into_iter().find(|entry| entry.name == name).and_then(|entry| entry.value)),
        Some(Err(RDKafkaErrorCode::UnknownTopicOrPartition)) | None => Err(KafkaIoError::NoSuchTopic(topic.to_owned())),
        Some(Err(code)) => Err(KafkaIoError::Client { what: "describe topic", source: KafkaError::AdminOp(code) }),
    }
}

/// Whether a topic stamps records with the append time, which the rules need.
///
/// # Errors
/// As [`config_value`].
pub async fn has_append_time(client: &LogClient, topic: &str) -> Result<bool, KafkaIoError> {
    Ok(config_value(client, topic, "message.timestamp.type").await?.as_deref() == Some("LogAppendTime"))
}

/// Partitions unless settings say otherwise.
pub const PARTITIONS_DEFAULT: i32 = names::PARTITIONS_DEFAULT;
