//! An ordinary run over a coupon with a thousand reservations that wait, whether it has a thousand issues or a million.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use deadpool_redis::redis::{aio::MultiplexedConnection, cmd};
use domain::{
    coupon::{LogIncarnation, Request},
    ids::{CouponCode, MemberId, RequestId},
    secret::Secret,
};
use kafka_io::{KafkaSettings, LogClient, Topics};
use postgres_io::{Db, PostgresSettings};
use reconciler::{
    Reconciler, Settings,
    log::{CommandLog, LogError, Published},
    run::Depth,
    walk::Walk,
};
use redis_io::Gate;
use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{MILLION, THOUSAND, bare, seed};
use crate::{maintenance, servers::Servers, stats::Rounds};

/// An idle session of PostgreSQL writes down what it has counted within this time.
const COUNTED_WITHIN: Duration = Duration::from_secs(11);
/// The grace time of this benchmark: longer than a run, or the same ones would be handed out twice in it.
const GRACE_MS: u64 = 1_000;
/// Reservations are old after this time.
const OLD_AFTER: Duration = Duration::from_millis(1_100);
/// Index entries and rows of the ledger that were read since the last reset.
const READ: &str = "SELECT (coalesce((SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'coupon_request'), 0) \
     + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'coupon_request'))::float8";

/// What a run over one coupon cost.
pub struct Ordinary {
    /// Issues of the coupon.
    pub issues: u32,
    /// Merely reading its reservations, in milliseconds.
    pub bare_ms: Rounds,
    /// The run, without what Kafka takes to append.
    pub ours_ms: Rounds,
    /// Of it: counts and sizes.
    pub counts_ms: Rounds,
    /// Rows and index entries of the ledger that one run read.
    pub rows: f64,
    /// Commands that one run gave to Redis, those of its scripts included.
    pub commands: f64,
    /// Time of Redis in scripts, in microseconds.
    pub redis_us: f64,
}

/// Both coupons, one after the other.
///
/// # Errors
/// A server fails, or a run does not find what is there.
pub async fn run(servers: &Servers, client: &Client, rounds: u32) -> Result<Vec<Ordinary>> {
    let small = CouponCode::new("bench-thousand")?;
    seed::coupon(client, &small, THOUSAND).await?;
    let settings = settings(servers);
    let log = Arc::new(QuietLog::of(&settings.kafka).await?);
    let gate = Arc::new(Gate::connect(&settings.redis).await?);
    let db = Db::connect(&settings.postgres).await?;
    let reconciler = Reconciler::with(settings, db, Arc::clone(&gate), log);
    let walk = Walk { stop: CancellationToken::new(), page: 500, beat: Arc::new(|| {}) };
    reconciler.gate_task().run_once(&walk).await?;
    let mut all = Vec::new();
    for (code, issues) in [(small, THOUSAND), (CouponCode::new("bench-million")?, MILLION)] {
        eprintln!("reconcile, ordinary run, {issues} issues");
        reserve(&gate, &code).await?;
        maintenance::settle(servers, client).await?;
        all.push(measure(servers, client, &reconciler, &walk, (&code, issues), rounds).await?);
        let waiting = gate.pending_older_than(&code, Duration::ZERO, usize::try_from(THOUSAND)?).await?;
        gate.give_up(&code, &waiting).await?;
    }
    Ok(all)
}

async fn measure(
    servers: &Servers,
    client: &Client,
    reconciler: &Reconciler,
    walk: &Walk,
    (code, issues): (&CouponCode, u32),
    rounds: u32,
) -> Result<Ordinary> {
    let (pending, counts) = (reconciler.pending_task(), reconciler.run_task());
    let mut redis = bare::redis(servers).await?;
    let mut cost = Ordinary {
        issues,
        bare_ms: Rounds::default(),
        ours_ms: Rounds::default(),
        counts_ms: Rounds::default(),
        rows: 0.0,
        commands: 0.0,
        redis_us: 0.0,
    };
    // The first round fills the caches of both sides and is not counted.
    for round in 0..=rounds {
        if round == 1 {
            sleep(COUNTED_WITHIN).await;
            client.batch_execute("SELECT pg_stat_reset()").await?;
        }
        // What was handed out in the last round is old again.
        sleep(OLD_AFTER).await;
        let bare = bare::reservations(&mut redis, code, THOUSAND).await?;
        let before = told_by_redis(&mut redis).await?;
        let started = Instant::now();
        let handed_out = pending.run_once(walk).await?;
        let pending_took = started.elapsed();
        let report = counts.run_coupon(code, Depth::ORDINARY, walk).await?.context("somebody else looks at the coupon")?;
        let took = started.elapsed();
        let after = told_by_redis(&mut redis).await?;
        ensure!(handed_out.acknowledged == usize::try_from(THOUSAND)?, "not all were handed out: {handed_out:?}");
        ensure!(report.comparable && !report.has_mismatch && report.db_count == i64::from(issues), "{report:?}");
        if round > 0 {
            cost.bare_ms.push(bare * 1e3);
            cost.ours_ms.push(took.as_secs_f64() * 1e3);
            cost.counts_ms.push(took.saturating_sub(pending_took).as_secs_f64() * 1e3);
            cost.commands += (after.0 - before.0) / f64::from(rounds);
            cost.redis_us += (after.1 - before.1) / f64::from(rounds);
        }
    }
    sleep(COUNTED_WITHIN).await;
    cost.rows = client.query_one(READ, &[]).await?.get::<_, f64>(0) / f64::from(rounds);
    Ok(cost)
}

/// Commands so far, and the microseconds that scripts took.
async fn told_by_redis(redis: &mut MultiplexedConnection) -> Result<(f64, f64)> {
    let stats: String = cmd("INFO").arg("commandstats").query_async(redis).await?;
    let (mut calls, mut script_us) = (0.0, 0.0);
    for line in stats.lines() {
        let Some((name, values)) = line.strip_prefix("cmdstat_").and_then(|line| line.split_once(':')) else { continue };
        let field = |wanted: &str| -> f64 {
            let found = values.split(',').find_map(|field| field.strip_prefix(wanted)?.strip_prefix('='));
            found.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        if name != "info" {
            calls += field("calls");
        }
        if name.starts_with("eval") {
            script_us += field("usec");
        }
    }
    Ok((calls, script_us))
}

/// A thousand reservations of members who hold nothing.
async fn reserve(gate: &Gate, code: &CouponCode) -> Result<()> {
    let asks = (0..THOUSAND).map(|number| {
        let request = RequestId::from_uuid(Uuid::from_u128(u128::from(number).saturating_add(1)));
        anyhow::Ok((MemberId::new(format!("waiting-{number}"))?, request))
    });
    gate.reserve(code, &asks.collect::<Result<Vec<_>>>()?).await?;
    ensure!(gate.status(code).await?.pending == i64::from(THOUSAND), "not all could reserve");
    Ok(())
}

fn settings(servers: &Servers) -> Settings {
    let mut settings = Settings {
        kafka: KafkaSettings { brokers: servers.kafka.brokers(), ..KafkaSettings::default() },
        postgres: PostgresSettings { url: Secret::new(servers.postgres.url()), ..PostgresSettings::default() },
        ..Settings::default()
    };
    settings.redis.url = Secret::new(servers.redis.url());
    settings.pending.grace_ms = GRACE_MS;
    settings
}

/// A log that takes everything at once: what is measured is reading, and not Kafka.
struct QuietLog(LogIncarnation);

impl QuietLog {
    async fn of(settings: &KafkaSettings) -> Result<Self> {
        Ok(Self(LogClient::new(settings)?.incarnation(&Topics::default().created).await?))
    }
}

#[async_trait]
impl CommandLog for QuietLog {
    async fn incarnation(&self) -> Result<LogIncarnation, LogError> {
        Ok(self.0.clone())
    }

    async fn end_of(&self, _: i32) -> Result<i64, LogError> {
        Ok(0)
    }

    async fn publish(&self, _: i32, requests: &[Request]) -> Vec<Published> {
        requests.iter().map(|_| Published::Acknowledged).collect()
    }
}
