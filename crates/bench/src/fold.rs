//! From the log to the ledger, the outcomes and the gate: how fast a backlog on one partition is worked off.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use contracts::{Envelope, LogKey, encode_request};
use domain::{
    clock::{Clock, SystemClock},
    coupon::Request,
    ids::{CouponCode, MemberId, RequestId},
};
use kafka_io::{CommandProducer, KafkaSettings, ProducerSettings, PublishError, Topics};
use redis_io::{Gate, RedisSettings};
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::{ledger::count_as_f64, servers::Servers};

/// How often the followers' cursors are looked at while time is taken.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long the backlog may take before the benchmark gives up.
const LIMIT: Duration = Duration::from_secs(180);

/// Waits until the coupon is defined and its gate open, and gives its partition.
///
/// # Errors
/// It does not come within a minute.
pub async fn wait_for_coupon(client: &Client, gate: &Gate, code: &CouponCode) -> Result<i32> {
    for _ in 0..6_000u32 {
        let row = client.query_opt("SELECT partition FROM coupon WHERE coupon_code = $1", &[&code.as_str()]).await?;
        if let Some(row) = row
            && !gate.status(code).await?.state.is_cold()
        {
            return Ok(row.get(0));
        }
        sleep(LOOK_EVERY).await;
    }
    bail!("coupon {code} was not defined, or its gate not opened, within a minute")
}

/// Waits until the running consumer has decided everything that stands in the log.
///
/// # Errors
/// It takes too long.
pub async fn wait_until_decided(servers: &Servers, client: &Client) -> Result<()> {
    let settings = KafkaSettings { brokers: servers.kafka.brokers(), ..KafkaSettings::default() };
    let producer = CommandProducer::new(&settings, &ProducerSettings::default())?;
    let topic = Topics::default().created;
    let decided = "SELECT next_offset FROM consumer_position WHERE topic = $1 AND partition = $2";
    let started = Instant::now();
    for partition in 0..producer.partition_count(&topic).await? {
        let end = producer.watermarks(&topic, partition).await?.high;
        while client.query_opt(decided, &[&topic, &partition]).await?.map_or(0, |row| row.get::<_, i64>(0)) < end {
            ensure!(started.elapsed() < LIMIT, "partition {partition} was not decided within {LIMIT:?}");
            sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}

/// A gate connection of the benchmark's own.
///
/// # Errors
/// Redis does not answer.
pub async fn gate(servers: &Servers) -> Result<Gate> {
    let settings = RedisSettings { url: domain::secret::Secret::new(servers.redis.url()), ..RedisSettings::default() };
    Ok(Gate::connect(&settings).await?)
}

/// Appends `count` requests of as many members to the coupon's partition; the offset behind the last one.
///
/// # Errors
/// An append is not acknowledged.
pub async fn append(servers: &Servers, code: &CouponCode, partition: i32, count: u32) -> Result<i64> {
    let settings = KafkaSettings { brokers: servers.kafka.brokers(), ..KafkaSettings::default() };
    let producer = CommandProducer::new(&settings, &ProducerSettings { linger_ms: 5, ..ProducerSettings::default() })?;
    let key = LogKey::parse(servers.key())?;
    let topic = Topics::default().created;
    let mut last = None;
    for number in 0..count {
        let request = Request {
            id: RequestId::fresh(&SystemClock),
            coupon: code.clone(),
            member: MemberId::new(format!("member-{number}"))?,
            admitted: false,
        };
        let envelope = Envelope { source: "/trueup/bench", time: SystemClock.now(), trace_parent: None };
        let record = encode_request(&request, None, &key, &envelope);
        let delivery = loop {
            match producer.publish(&topic, Some(partition), &record) {
                Ok(delivery) => break delivery,
                Err(PublishError::Refused(_)) => sleep(Duration::from_millis(2)).await,
                Err(error) => return Err(error.into()),
            }
        };
        last = Some(delivery);
    }
    let place = last.context("nothing to append")?.await?;
    producer.flush(Duration::from_secs(60)).await?;
    Ok(place.offset.saturating_add(1))
}

/// Watches the running consumer until ledger, outcomes and gate have reached `end`; rows a second.
///
/// The time starts at the first batch that is seen, without its rows, so that the start of the process does not count.
///
/// # Errors
/// It takes too long, or rows are missing.
pub async fn watch(client: &Client, gate: &Gate, code: &CouponCode, partition: i32, start: i64, end: i64) -> Result<f64> {
    let topic = Topics::default().created;
    let decided = "SELECT next_offset FROM consumer_position WHERE topic = $1 AND partition = $2";
    let published = "SELECT next_offset FROM publisher_position WHERE topic = $1 AND partition = $2";
    let position =
        async |sql: &str| -> Result<i64> { Ok(client.query_opt(sql, &[&topic, &partition]).await?.map_or(0, |row| row.get(0))) };
    let limit = Instant::now();
    let mut first: Option<(Instant, i64)> = None;
    let mut reached = [false; 3];
    loop {
        ensure!(limit.elapsed() < LIMIT, "the backlog was not worked off within {LIMIT:?}");
        let now = position(decided).await?;
        if first.is_none() && now > start {
            first = Some((Instant::now(), now));
        }
        let stages =
            [now >= end, position(published).await? >= end, gate.status(code).await?.cursor.is_some_and(|cursor| cursor >= end)];
        if let Some((since, _)) = first {
            for ((name, done), seen) in ["decided", "published", "settled"].iter().zip(stages).zip(&mut reached) {
                if done && !*seen {
                    eprintln!("  {name} after {:.2} s", since.elapsed().as_secs_f64());
                    *seen = true;
                }
            }
        }
        if stages.iter().all(|done| *done) {
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    let (since, from) = first.context("no batch was seen")?;
    let rows = u64::try_from(end.saturating_sub(from)).unwrap_or(0);
    Ok(count_as_f64(rows) / since.elapsed().as_secs_f64())
}
