//! How long Redis makes others wait, as one of them sees it: a PING every millisecond on a connection of its own.

use std::time::Duration;

use anyhow::Result;
use deadpool_redis::redis::{aio::MultiplexedConnection, cmd};
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::bare;
use crate::servers::Servers;

/// The pause between two of them.
const EVERY: Duration = Duration::from_millis(1);

/// What was waited.
#[derive(Debug, Clone, Copy)]
pub struct Waits {
    /// How many were sent.
    pub pings: usize,
    /// The longest, in milliseconds.
    pub worst_ms: f64,
    /// 99 of 100 were not longer, in milliseconds.
    pub p99_ms: f64,
}

/// A pinger at work.
pub struct Pinger {
    stop: CancellationToken,
    task: JoinHandle<Result<Vec<f64>>>,
}

impl Pinger {
    /// Begins.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn start(servers: &Servers) -> Result<Self> {
        let (redis, stop) = (bare::redis(servers).await?, CancellationToken::new());
        Ok(Self { task: tokio::spawn(ping(redis, stop.clone())), stop })
    }

    /// Ends, and tells.
    ///
    /// # Errors
    /// A PING failed.
    pub async fn stop(self) -> Result<Waits> {
        self.stop.cancel();
        let mut waited = self.task.await??;
        waited.sort_by(f64::total_cmp);
        let rank = waited.len().saturating_mul(99).div_ceil(100).saturating_sub(1);
        let at = |rank: usize| waited.get(rank).copied().unwrap_or(f64::NAN);
        Ok(Waits { pings: waited.len(), worst_ms: at(waited.len().saturating_sub(1)), p99_ms: at(rank) })
    }
}

async fn ping(mut redis: MultiplexedConnection, stop: CancellationToken) -> Result<Vec<f64>> {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waited = Vec::new();
    while !stop.is_cancelled() {
        ticks.tick().await;
        let sent = Instant::now();
        let _: String = cmd("PING").query_async(&mut redis).await?;
        waited.push(sent.elapsed().as_secs_f64() * 1e3);
    }
    Ok(waited)
}
