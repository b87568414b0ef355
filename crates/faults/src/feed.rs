//! What other producers write into the log: foreign records, records that cannot be used, and everything once more.

use std::time::Duration;

use anyhow::{Context, Result};
use contracts::{Encoded, Envelope, LogKey, encode_change};
use domain::{
    clock::{Clock, SystemClock},
    coupon::Change,
    ids::CommandId,
};
use kafka_io::{CommandProducer, ProducerSettings, repeat_log, topics};

use crate::{
    collect::{self, Marks},
    places::Places,
    plan::{CouponPlan, Plan},
};

/// The key of somebody who may not end coupons.
const FORGER: &str = "a-key-that-no-service-accepts";
/// How long the records may take to be acknowledged.
const FLUSH_LIMIT: Duration = Duration::from_secs(10);
/// Where a drill's records come from.
const SOURCE: &str = "/trueup/faults";

fn producer(places: &Places) -> Result<CommandProducer> {
    Ok(CommandProducer::new(&places.kafka, &ProducerSettings::default())?)
}

async fn send(places: &Places, partition: Option<i32>, records: &[Encoded]) -> Result<String> {
    let producer = producer(places)?;
    let mut deliveries = Vec::with_capacity(records.len());
    for record in records {
        deliveries.push(producer.publish(places.log_topic(), partition, record)?);
    }
    producer.flush(FLUSH_LIMIT).await.context("flush")?;
    let mut acknowledged = 0;
    for delivery in deliveries {
        acknowledged += usize::from(delivery.await.is_ok());
    }
    Ok(format!("{acknowledged} of {} records acknowledged", records.len()))
}

fn coupon(plan: &Plan, index: usize) -> Result<&CouponPlan> {
    plan.coupons.get(index).context("no such coupon")
}

/// Adds partitions to the log.
///
/// # Errors
/// The broker does not answer or refuses.
pub async fn add_partitions(places: &Places, more: i32) -> Result<String> {
    let client = places.log_client()?;
    let to = client.partition_count(places.log_topic()).await?.saturating_add(more);
    topics::grow(&client, places.log_topic(), to).await?;
    Ok(format!("{to} partitions"))
}

/// Bare JSON of another producer, for members of the plan; its client picks the partition by the key.
///
/// # Errors
/// The broker does not answer.
pub async fn foreign(places: &Places, plan: &Plan, index: usize, records: u64, step: usize) -> Result<String> {
    let code = &coupon(plan, index)?.code;
    let members: Vec<_> = plan.members.iter().filter(|member| member.coupon == index).collect();
    let records: Vec<Encoded> = (0..records)
        .filter_map(|number| {
            let at = usize::try_from(number).ok()?.wrapping_mul(7).wrapping_add(step);
            let member = members.get(at % members.len().max(1))?;
            let value = format!("{{\"userId\":\"{}\",\"couponId\":\"{code}\"}}", member.id);
            Some(Encoded::new(Some(code.as_str().as_bytes()), Some(value.as_bytes()), 0))
        })
        .collect();
    send(places, None, &records).await
}

/// Records that cannot be used: no JSON, an unknown type, bytes that are no message, a command that nobody signed.
///
/// # Errors
/// The broker does not answer.
pub async fn poison(places: &Places, plan: &Plan, index: usize, records: u64, step: usize) -> Result<String> {
    let coupon = coupon(plan, index)?;
    let partition = collect::partition_of_coupon(places, &coupon.code).await?;
    let key = coupon.code.as_str().as_bytes();
    let forger = LogKey::parse(FORGER)?;
    let records: Vec<Encoded> = (0..records)
        .map(|number| match number % 4 {
            0 => Encoded::new(Some(key), Some(b"{ this is no JSON"), 0),
            1 => {
                let mut record = Encoded::new(Some(key), Some(b"\xff\xff\xff"), 1);
                record.push_text("ce_type", "trueup.coupon.v1.NothingThatExists");
                record
            }
            2 => {
                let mut record = Encoded::new(Some(key), Some(b"\xff\xff\xff"), 1);
                record.push_text("ce_type", "trueup.coupon.v1.CouponIssueRequestEvent");
                record
            }
            _ => forged_end(coupon, &forger, step),
        })
        .collect();
    send(places, Some(partition), &records).await
}

fn forged_end(coupon: &CouponPlan, forger: &LogKey, step: usize) -> Encoded {
    let id = CommandId::from_idempotency_key("forger", &format!("{}-{step}", coupon.code));
    let end = Change { end: true, ..Change::new(id, coupon.code.clone(), "forger") };
    let envelope = Envelope { source: SOURCE, time: SystemClock.now(), trace_parent: None };
    encode_change(&end, forger, &envelope)
}

/// All that the round wrote into the coupon's partition, byte for byte and with its headers, once more.
///
/// # Errors
/// The broker does not answer.
pub async fn double(places: &Places, plan: &Plan, index: usize, since: &Marks) -> Result<String> {
    let partition = collect::partition_of_coupon(places, &coupon(plan, index)?.code).await?;
    let from = since.get(&partition).copied().unwrap_or(0);
    let repeated = repeat_log(&places.kafka, &producer(places)?, places.log_topic(), partition, from).await?;
    Ok(format!("{repeated} records"))
}
