//! Settings of the gateway: defaults, then a file, then the environment (`COUPON_GATEWAY__HTTP__LISTEN=…`).

use domain::secret::Secret;
use kafka_io::{KafkaSettings, ProducerSettings};
use postgres_io::PostgresSettings;
use redis_io::RedisSettings;
use serde::{Deserialize, Serialize};
use service_kit::{
    lifecycle::ShutdownSettings,
    settings::{Fault, Validate, at_least, no_address, switched_off},
    telemetry::TelemetrySettings,
};

use crate::{admin::AdminSettings, identity::IdentitySettings, limits::LimitSettings};

/// Prefix of the environment variables.
pub const PREFIX: &str = "COUPON_GATEWAY";

/// Everything that can be set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The HTTP server and its bounds.
    pub http: HttpSettings,
    /// Kafka, as all services reach it.
    pub kafka: KafkaSettings,
    /// The producer of commands.
    pub producer: ProducerSettings,
    /// PostgreSQL.
    pub postgres: PostgresSettings,
    /// Redis.
    pub redis: RedisSettings,
    /// Shared keys.
    pub keys: KeySettings,
    /// The gate in front of reserved coupons.
    pub gate: GateSettings,
    /// The coupons held in the process, and the memory of sold out ones.
    pub coupons: CouponSettings,
    /// Batched look-ups in the ledger.
    pub lookup: LookupSettings,
    /// Server-sent events.
    pub events: EventSettings,
    /// Who a member is.
    pub identity: IdentitySettings,
    /// Rate limits.
    pub limits: LimitSettings,
    /// The operators' interface.
    pub admin: AdminSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
    /// The end of the process.
    pub shutdown: ShutdownSettings,
}

/// The HTTP server and its bounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port to listen on.
    pub listen: String,
    /// Worker threads; 0: one for each core.
    pub workers: usize,
    /// Connections that one worker holds.
    pub connections_max: usize,
    /// Connections that wait to be accepted.
    pub backlog: u32,
    /// The longest body that is read.
    pub body_bytes_max: usize,
    /// Coupon requests in progress in the process; one more is answered 503 `overloaded`.
    pub in_flight_max: usize,
    /// How long a client may take for its request's head, and again for its body.
    pub client_timeout_ms: u64,
    /// How long an idle connection is kept.
    pub keep_alive_ms: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".to_owned(),
            workers: 0,
            connections_max: 10_000,
            backlog: 2_048,
            body_bytes_max: 4_096,
            in_flight_max: 8_192,
            client_timeout_ms: 5_000,
            keep_alive_ms: 30_000,
        }
    }
}

/// Keys that all gateways share. Several can be given, separated by commas: the first signs, all are accepted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeySettings {
    /// Signs records of the log; shared with consumers and the operator's command.
    pub log_signing: Secret,
    /// Signs tickets.
    pub ticket: Secret,
}

/// What happens to a reserved coupon's requests while its gate is down or cold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenCold {
    /// They are published unsigned, and the log decides: the coupon goes on as a queued one.
    #[default]
    Queued,
    /// They are answered 503 `gate_unavailable`.
    Refuse,
}

/// The gate in front of reserved coupons.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateSettings {
    /// What happens while the gate is down or cold.
    pub when_cold: WhenCold,
    /// Codes of coupons for which it is the other way, separated by commas.
    pub when_cold_except: String,
    /// Members in one script call.
    pub batch_max: usize,
    /// Requests that wait for the gate, per coupon and worker thread; one more is answered 503 `overloaded`.
    pub queue_max: usize,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self { when_cold: WhenCold::Queued, when_cold_except: String::new(), batch_max: 256, queue_max: 4_096 }
    }
}

/// The coupons held in the process, and the memory of sold out ones.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CouponSettings {
    /// How often the held coupons are read again, all by one query.
    pub refresh_ms: u64,
    /// Coupons held; the one not asked for the longest goes first.
    pub held_max: usize,
    /// How long a code without a coupon is remembered.
    pub unknown_ms: u64,
    /// Codes without a coupon that are remembered.
    pub unknown_max: usize,
    /// Members of all sold out coupons whose fingerprints are held, 8 bytes each. A coupon that does not fit is
    /// answered the slow way.
    pub fingerprints_max: usize,
    /// How far the clocks of this machine and the broker may differ. A queued coupon's request within this of the
    /// opening or closing time is left to the log.
    pub clock_skew_ms: i64,
}

impl Default for CouponSettings {
    fn default() -> Self {
        Self {
            refresh_ms: 300,
            held_max: 4_096,
            unknown_ms: 500,
            unknown_max: 4_096,
            fingerprints_max: 1_000_000,
            clock_skew_ms: 1_000,
        }
    }
}

/// Batched look-ups in the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LookupSettings {
    /// Keys in one statement.
    pub batch_max: usize,
    /// Keys that wait, per worker thread; one more is answered 503 `overloaded`.
    pub queue_max: usize,
    /// The longest page of a member's coupons.
    pub page_max: usize,
}

impl Default for LookupSettings {
    fn default() -> Self {
        Self { batch_max: 1_024, queue_max: 8_192, page_max: 100 }
    }
}

/// Server-sent events.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EventSettings {
    /// Streams open at a time in the process; one more is answered 503 `overloaded`.
    pub streams_max: usize,
    /// How long a stream stays open; the client then asks again.
    pub duration_ms_max: u64,
    /// How often a stream's request is looked up.
    pub poll_ms: u64,
    /// How often a stream says that it is alive.
    pub heartbeat_ms: u64,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self { streams_max: 10_000, duration_ms_max: 120_000, poll_ms: 250, heartbeat_ms: 15_000 }
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

impl Validate for Settings {
    fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = no_address("http.listen", &self.http.listen, 8081).into_iter().collect();
        for (field, key) in [("keys.log_signing", &self.keys.log_signing), ("keys.ticket", &self.keys.ticket)] {
            if key.expose().split(',').any(|key| key.len() < KEY_BYTES_MIN) {
                faults.push(Fault::new(field, "is missing or short", format!("give at least {KEY_BYTES_MIN} random characters")));
            }
        }
        faults.extend(at_least(&[
            ("http.connections_max", wide(self.http.connections_max), 1),
            ("http.body_bytes_max", wide(self.http.body_bytes_max), 64),
            ("http.in_flight_max", wide(self.http.in_flight_max), 1),
            ("http.client_timeout_ms", self.http.client_timeout_ms, 1),
            ("http.keep_alive_ms", self.http.keep_alive_ms, 1),
            ("gate.batch_max", wide(self.gate.batch_max), 1),
            ("gate.queue_max", wide(self.gate.queue_max), 1),
            ("coupons.refresh_ms", self.coupons.refresh_ms, 10),
            ("coupons.held_max", wide(self.coupons.held_max), 1),
            ("coupons.unknown_max", wide(self.coupons.unknown_max), 1),
            ("lookup.batch_max", wide(self.lookup.batch_max), 1),
            ("lookup.queue_max", wide(self.lookup.queue_max), 1),
            ("lookup.page_max", wide(self.lookup.page_max), 1),
            ("events.duration_ms_max", self.events.duration_ms_max, 1),
            ("events.poll_ms", self.events.poll_ms, 10),
            ("events.heartbeat_ms", self.events.heartbeat_ms, 100),
            ("shutdown.grace_ms", self.shutdown.grace_ms, 100),
        ]));
        if self.coupons.refresh_ms > REFRESH_MS_MAX {
            let fix = format!("give at most {REFRESH_MS_MAX}, so that a restock is noticed within a second");
            faults.push(Fault::new("coupons.refresh_ms", format!("is {}", self.coupons.refresh_ms), fix));
        }
        faults.extend(switched_off("kafka", &self.kafka.bounds()));
        faults.extend(switched_off("producer", &self.producer.bounds()));
        faults.extend(switched_off("postgres", &self.postgres.bounds()));
        faults.extend(switched_off("redis", &self.redis.bounds()));
        faults.extend(self.telemetry.faults());
        faults.extend(self.identity.faults());
        faults.extend(self.limits.faults());
        faults.extend(self.admin.faults());
        faults
    }
}

/// A shared key has at least this many bytes.
pub const KEY_BYTES_MIN: usize = 16;
/// A slower refresh would notice a restock too late.
pub const REFRESH_MS_MAX: u64 = 500;
