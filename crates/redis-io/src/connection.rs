//! Connections: a pool, and one connection cloned from it for the hot path.
//!
//! A pool's `get` costs a round trip, because it checks the connection. The hot path holds a clone of a multiplexed
//! connection instead, and asks the pool again only after an error.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use deadpool_redis::{
    Connection, Manager, Pool, Runtime, Timeouts,
    redis::{self, AsyncConnectionConfig, Client, RedisResult, TlsCertificates, Value, aio::MultiplexedConnection},
};

use crate::{error::GateError, script::Call, settings::RedisSettings};

/// The way to Redis.
pub(crate) struct Connections {
    pool: Pool,
    slot: Mutex<Slot>,
    connecting: tokio::sync::Mutex<()>,
    command_timeout: Duration,
    reconnect_pause: Duration,
}

/// The hot connection with a number, so that late errors of an old one do not throw its successor away.
#[derive(Default)]
struct Slot {
    generation: u64,
    connection: Option<MultiplexedConnection>,
    failed: Option<(Instant, GateError)>,
}

impl Connections {
    pub(crate) fn new(settings: &RedisSettings) -> Result<Self, GateError> {
        let connect_timeout = Duration::from_millis(settings.connect_timeout_ms);
        let command_timeout = Duration::from_millis(settings.command_timeout_ms);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(connect_timeout))
            .set_response_timeout(Some(command_timeout))
            .set_concurrency_limit(settings.in_flight_max);
        let manager =
            Manager::new_with_config(connection_info(settings)?, config).map_err(|e| GateError::Settings(e.to_string()))?;
        let pool = Pool::builder(manager)
            .max_size(settings.pool_size.max(2))
            .timeouts(Timeouts { wait: Some(command_timeout), create: Some(connect_timeout), recycle: Some(command_timeout) })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|e| GateError::Settings(e.to_string()))?;
        Ok(Self {
            pool,
            slot: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            command_timeout,
            reconnect_pause: Duration::from_millis(settings.reconnect_pause_ms),
        })
    }

    /// Runs a call on the shared connection.
    pub(crate) async fn hot(&self, call: &Call<'_>) -> Result<Value, GateError> {
        let (generation, mut connection) = self.hot_connection().await?;
        let answer = self.run(call, &mut connection).await;
        self.forget_if_lost(generation, answer)
    }

    /// Runs a plain command that changes nothing on the shared connection; `name` is its label in metrics.
    pub(crate) async fn read(&self, name: &'static str, command: &redis::Cmd) -> Result<Value, GateError> {
        let (generation, mut connection) = self.hot_connection().await?;
        let answer = self.timed(name, command.query_async(&mut connection)).await;
        self.forget_if_lost(generation, answer)
    }

    fn forget_if_lost(&self, generation: u64, answer: Result<Value, GateError>) -> Result<Value, GateError> {
        if matches!(answer, Err(GateError::Unavailable { .. })) {
            self.forget(generation);
        }
        answer
    }

    /// Runs a call on a checked connection of the pool; for work that may take a round trip more.
    pub(crate) async fn pooled(&self, call: &Call<'_>) -> Result<Value, GateError> {
        let mut connection = self.checked().await?;
        self.run(call, &mut connection).await
    }

    /// A connection from the pool, whose server keeps what it is given.
    pub(crate) async fn checked(&self) -> Result<Connection, GateError> {
        // The policy was read when the hot connection was made; a server that came back since has dropped that one.
        self.hot_connection().await?;
        Ok(self.pool.get().await?)
    }

    async fn run(&self, call: &Call<'_>, connection: &mut MultiplexedConnection) -> Result<Value, GateError> {
        self.timed(call.script.name, call.run(connection)).await
    }

    async fn timed(&self, name: &'static str, answer: impl Future<Output = RedisResult<Value>>) -> Result<Value, GateError> {
        let started = Instant::now();
        // The driver has a time-out of its own for each reply; this one also bounds waiting for a free place on the connection.
        let answer = match tokio::time::timeout(self.command_timeout, answer).await {
            Ok(answer) => answer.map_err(|error| GateError::after_send(&error)),
            Err(_) => Err(GateError::maybe(format!("no answer within {} ms", self.command_timeout.as_millis()))),
        };
        metrics::histogram!("trueup_redis_call_seconds", "script" => name).record(started.elapsed());
        if let Err(error) = &answer {
            let outcome = if error.maybe_executed() { "unknown" } else { "not_executed" };
            metrics::counter!("trueup_redis_failures_total", "script" => name, "outcome" => outcome).increment(1);
        }
        answer
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Slot> {
        // Nothing that holds the lock can leave the slot half written, so a poisoned lock is as good as any.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> Option<Result<(u64, MultiplexedConnection), GateError>> {
        let slot = self.slot();
        if let Some(connection) = &slot.connection {
            return Some(Ok((slot.generation, connection.clone())));
        }
        match &slot.failed {
            Some((at, error)) if at.elapsed() < self.reconnect_pause => Some(Err(error.clone())),
            _ => None,
        }
    }

    async fn hot_connection(&self) -> Result<(u64, MultiplexedConnection), GateError> {
        if let Some(held) = self.held() {
            return held;
        }
        // One attempt at a time; those who waited for it share its result.
        let _connecting = self.connecting.lock().await;
        if let Some(held) = self.held() {
            return held;
        }
        // Boxed, because it is rare and large: 7 kB that every request's future would carry otherwise.
        let made = Box::pin(self.make()).await;
        let mut slot = self.slot();
        match made {
            Ok(connection) => {
                slot.generation = slot.generation.wrapping_add(1);
                slot.connection = Some(connection.clone());
                slot.failed = None;
                Ok((slot.generation, connection))
            }
            Err(error) => {
                slot.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn make(&self) -> Result<MultiplexedConnection, GateError> {
        let pooled = self.pool.get().await?;
        let mut connection = MultiplexedConnection::clone(&pooled);
        drop(pooled);
        // INFO is allowed where managed servers hide CONFIG.
        let info: String =
            redis::cmd("INFO").arg("memory").query_async(&mut connection).await.map_err(GateError::not_executed)?;
        let policy = info.lines().find_map(|line| line.strip_prefix("maxmemory_policy:")).unwrap_or("unknown").trim();
        if policy != "noeviction" {
            return Err(GateError::Eviction { policy: policy.to_owned() });
        }
        Ok(connection)
    }

    fn forget(&self, generation: u64) {
        let mut slot = self.slot();
        if slot.generation == generation {
            slot.connection = None;
        }
    }
}

fn connection_info(settings: &RedisSettings) -> Result<redis::ConnectionInfo, GateError> {
    let url = settings.url.expose();
    if url.starts_with("rediss:") {
        // The driver takes the process' provider and panics without one. An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    // The driver's own words may repeat the URL, password and all, so they are not passed on.
    let unreadable = |_| GateError::Settings("redis.url is not a redis:// or rediss:// URL".to_owned());
    let Some(file) = &settings.tls_ca_file else {
        return redis::IntoConnectionInfo::into_connection_info(url).map_err(unreadable);
    };
    let pem = std::fs::read(file).map_err(|e| GateError::Settings(format!("redis.tls_ca_file {}: {e}", file.display())))?;
    let client = Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert: Some(pem) })
        .map_err(|_| GateError::Settings("redis.url and redis.tls_ca_file do not make a TLS client".to_owned()))?;
    Ok(client.get_connection_info().clone())
}
