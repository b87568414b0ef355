//! Coupons with as many issues as wanted, past the line: rows by COPY. The gates are loaded from them by the reconciler.

use std::fmt::Write;

use anyhow::Result;
use bytes::Bytes;
use domain::ids::CouponCode;
use futures::{SinkExt, pin_mut};
use kafka_io::{KafkaSettings, LogClient, Topics};
use tokio_postgres::Client;
use uuid::Uuid;

use super::MILLION;
use crate::servers::Servers;

/// The partition of all coupons here.
const PARTITION: i32 = 1;
/// Rows that are sent together.
const CHUNK_ROWS: u32 = 2_000;
/// Prime to the number of members: their ids do not come in the order of their issues.
const STRIDE: u64 = 7_919;

/// Writes the decided position of an empty log, so that gates open at once.
///
/// # Errors
/// Kafka or PostgreSQL.
pub async fn position(servers: &Servers, client: &Client) -> Result<()> {
    let settings = KafkaSettings { brokers: servers.kafka.brokers(), ..KafkaSettings::default() };
    let topic = Topics::default().created;
    let log = LogClient::new(&settings)?.incarnation(&topic).await?;
    client
        .execute(
            "INSERT INTO consumer_position (topic, partition, next_offset, cluster_id, topic_id) VALUES ($1, $2, $3, $4, $5)",
            &[&topic, &PARTITION, &i64::from(MILLION).saturating_mul(2), &log.cluster_id, &log.topic_id],
        )
        .await?;
    Ok(())
}

/// A reserved coupon with `issues` issues and room for more.
///
/// # Errors
/// PostgreSQL.
pub async fn coupon(client: &Client, code: &CouponCode, issues: u32) -> Result<()> {
    let (issued, total) = (i64::from(issues), i64::from(issues).saturating_add(100_000));
    client
        .execute(
            "INSERT INTO coupon (coupon_code, name, admission, partition, total_quantity, issued_quantity, paused, ended, rules_offset, \
             defined_by) VALUES ($1, 'bench', 'reserved', $2, $3, $4, false, false, 0, 'bench')",
            &[&code.as_str(), &PARTITION, &total, &issued],
        )
        .await?;
    let columns =
        "coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, admitted, outcome, sequence";
    let sink = client.copy_in::<_, Bytes>(&format!("COPY coupon_request ({columns}) FROM STDIN")).await?;
    pin_mut!(sink);
    let mut first = 0;
    while first < issues {
        let end = first.saturating_add(CHUNK_ROWS).min(issues);
        sink.send(Bytes::from(rows(code, first..end))).await?;
        first = end;
    }
    sink.finish().await?;
    // As autovacuum leaves them: the members are read from the index alone.
    client.batch_execute("VACUUM (ANALYZE) coupon_request").await?;
    Ok(())
}

fn rows(code: &CouponCode, numbers: std::ops::Range<u32>) -> String {
    let mut text = String::with_capacity(numbers.len().saturating_mul(128));
    for number in numbers {
        let member = u64::from(number).saturating_mul(STRIDE) % u64::from(MILLION);
        let request = Uuid::from_u128((u128::from(number) << 64) | u128::from(number));
        let sequence = number.saturating_add(1);
        let _ = writeln!(
            text,
            "{code}\t{request}\tmember-{member}\t{PARTITION}\t{number}\t{number}\t2026-01-01\ttrue\tissued\t{sequence}"
        );
    }
    text
}
