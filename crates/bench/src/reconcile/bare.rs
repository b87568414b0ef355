//! The ceilings: nothing but reading.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use deadpool_redis::redis::{Client as RedisClient, aio::MultiplexedConnection, cmd};
use domain::ids::CouponCode;
use futures::{TryStreamExt, pin_mut};
use redis_io::keys;
use tokio_postgres::Client;

use crate::servers::Servers;

/// Entries that one SSCAN looks at, as in the reconciler.
const SCAN_COUNT: u32 = 1_000;

/// A connection to Redis of the benchmark's own.
///
/// # Errors
/// Redis does not answer.
pub async fn redis(servers: &Servers) -> Result<MultiplexedConnection> {
    let client = RedisClient::open(servers.redis.url())?;
    client.get_multiplexed_async_connection().await.context("Redis does not answer")
}

/// Reads every holder's id from the ledger, in one statement; seconds.
///
/// # Errors
/// PostgreSQL, or another number than `expected`.
pub async fn ledger(client: &Client, code: &CouponCode, expected: u32) -> Result<f64> {
    let started = Instant::now();
    let sql = "SELECT member_id FROM coupon_request WHERE coupon_code = $1 AND outcome = 'issued'";
    let rows = client.query_raw(sql, [code.as_str()]).await?;
    pin_mut!(rows);
    let (mut count, mut bytes) = (0_u32, 0_usize);
    while let Some(row) = rows.try_next().await? {
        let member: &str = row.try_get(0)?;
        (count, bytes) = (count.saturating_add(1), bytes.saturating_add(member.len()));
    }
    ensure!(count == expected && bytes > 0, "{count} holders were read, not {expected}");
    Ok(started.elapsed().as_secs_f64())
}

/// Reads every member of the gate's set by SSCAN; seconds.
///
/// # Errors
/// Redis, or fewer than `expected`.
pub async fn set(redis: &mut MultiplexedConnection, code: &CouponCode, expected: u32) -> Result<f64> {
    let started = Instant::now();
    let key = keys::issued(code);
    let (mut from, mut count) = (0_u64, 0_usize);
    loop {
        let mut scan = cmd("SSCAN");
        scan.arg(&key).arg(from).arg("COUNT").arg(SCAN_COUNT);
        let (next, members): (u64, Vec<String>) = scan.query_async(redis).await?;
        count = count.saturating_add(members.len());
        from = next;
        if from == 0 {
            break;
        }
    }
    ensure!(count >= usize::try_from(expected)?, "{count} members were read, not {expected}");
    Ok(started.elapsed().as_secs_f64())
}

/// Reads the coupon's reservations, the oldest first, with what they say; seconds.
///
/// # Errors
/// Redis, or another number than `expected`.
pub async fn reservations(redis: &mut MultiplexedConnection, code: &CouponCode, expected: u32) -> Result<f64> {
    let started = Instant::now();
    let mut range = cmd("ZRANGE");
    range.arg(keys::pending_at(code)).arg("-inf").arg("+inf").arg("BYSCORE");
    let members: Vec<String> = range.query_async(redis).await?;
    let told: Vec<String> = cmd("HMGET").arg(keys::pending(code)).arg(&members).query_async(redis).await?;
    ensure!(told.len() == usize::try_from(expected)?, "{} reservations were read, not {expected}", told.len());
    Ok(started.elapsed().as_secs_f64())
}
