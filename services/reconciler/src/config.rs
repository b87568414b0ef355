//! Settings of the reconciler: defaults, then a file, then the environment (`RECONCILER__PENDING__INTERVAL_MS=…`).

use contracts::LogKeySettings;
use domain::secret::Secret;
use kafka_io::{KafkaSettings, ProducerSettings};
use postgres_io::PostgresSettings;
use redis_io::{LOAD_MEMBERS_MAX, PENDING_PAGE_MAX, RedisSettings};
use serde::{Deserialize, Serialize};
use service_kit::{
    lifecycle::ShutdownSettings,
    operators::Operators,
    settings::{Fault, Validate, at_least, no_address, switched_off},
    telemetry::TelemetrySettings,
};

/// Prefix of the environment variables.
pub const PREFIX: &str = "RECONCILER";

/// Everything that can be set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Health and metrics.
    pub http: HttpSettings,
    /// Kafka, as all services reach it.
    pub kafka: KafkaSettings,
    /// The producer that publishes reservations again.
    pub producer: ProducerSettings,
    /// PostgreSQL.
    pub postgres: PostgresSettings,
    /// Redis.
    pub redis: RedisSettings,
    /// Shared keys.
    pub keys: LogKeySettings,
    /// How coupons are listed.
    pub coupons: CouponSettings,
    /// Reservations that nobody has published.
    pub pending: PendingSettings,
    /// Cold gates.
    pub gates: GateTaskSettings,
    /// Counts and reports.
    pub run: RunSettings,
    /// The full comparison.
    pub compare: CompareSettings,
    /// The operators' interface.
    pub admin: AdminSettings,
    /// Logs and traces.
    pub telemetry: TelemetrySettings,
    /// The end of the process.
    pub shutdown: ShutdownSettings,
}

/// Health and metrics.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Address and port to listen on.
    pub listen: String,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { listen: "127.0.0.1:8095".to_owned() }
    }
}

/// How coupons are listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CouponSettings {
    /// Coupons read at a time.
    pub page: i64,
    /// How long an ended coupon is still looked after, in seconds: its last reservations need their decision.
    pub ended_for_s: i64,
}

impl Default for CouponSettings {
    fn default() -> Self {
        Self { page: 500, ended_for_s: 3_600 }
    }
}

/// Reservations that nobody has published.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PendingSettings {
    /// How often they are looked for.
    pub interval_ms: u64,
    /// How long after its last publish a reservation is published again. Above the gateways' delivery time-out, or records are
    /// written twice for nothing.
    pub grace_ms: u64,
    /// Reservations handed out and published at a time.
    pub page: usize,
    /// Pages of one coupon in one run.
    pub pages_max: usize,
    /// Dead letters of one request that PostgreSQL refused, even without its member, after which its reservation is given up.
    pub refusals_max: i64,
    /// Records that a partition may lag; in a longer line nothing is published again.
    pub lag_records_max: i64,
    /// How long one replica has a coupon to itself, at most.
    pub lease_ms: u64,
}

impl Default for PendingSettings {
    fn default() -> Self {
        Self {
            interval_ms: 5_000,
            grace_ms: 10_000,
            page: 500,
            pages_max: 20,
            refusals_max: 3,
            lag_records_max: 10_000,
            lease_ms: 60_000,
        }
    }
}

/// Cold gates.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateTaskSettings {
    /// How often gates are looked at.
    pub interval_ms: u64,
    /// The same, while a gate waits for its partition to be decided.
    pub draining_interval_ms: u64,
    /// Members loaded at a time.
    pub page: usize,
    /// Gates loaded at the same time.
    pub loads_max: usize,
    /// How long one replica has a cold gate to itself without renewing its claim.
    pub lease_ms: u64,
    /// How often the positions are held against the log that Kafka has.
    pub log_check_ms: u64,
}

impl Default for GateTaskSettings {
    fn default() -> Self {
        Self {
            interval_ms: 500,
            draining_interval_ms: 50,
            page: LOAD_MEMBERS_MAX,
            loads_max: 4,
            lease_ms: 15_000,
            log_check_ms: 5_000,
        }
    }
}

/// Counts and reports.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// How often they are made, by all replicas together.
    pub interval_ms: u64,
    /// How long one replica has a coupon to itself, at most.
    pub lease_ms: u64,
    /// How long reports are kept, in days.
    pub reports_kept_days: i32,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self { interval_ms: 300_000, lease_ms: 60_000, reports_kept_days: 30 }
    }
}

/// The full comparison of gates with the ledger.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompareSettings {
    /// How often each gate is compared, by all replicas together. Sizes that disagree start one at once.
    pub interval_ms: u64,
    /// When one that failed, or could not look at everything, is made again.
    pub retry_ms: u64,
    /// How long one replica has a coupon to itself, at most.
    pub lease_ms: u64,
    /// Holders read, and suspects judged, at a time.
    pub page: usize,
    /// Entries of the set that one step looks at, roughly; it holds everybody else in Redis up.
    pub scan_count: usize,
    /// Size of the filter that remembers the ledger's holders, in bits: 8 MiB by default.
    pub filter_bits: usize,
    /// Hashes of the filter.
    pub filter_hashes: u32,
}

impl Default for CompareSettings {
    fn default() -> Self {
        Self {
            interval_ms: 21_600_000,
            retry_ms: 300_000,
            lease_ms: 600_000,
            page: LOAD_MEMBERS_MAX,
            scan_count: 1_000,
            filter_bits: 8 * 1_024 * 1_024 * 8,
            filter_hashes: 6,
        }
    }
}

/// The operators' interface.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminSettings {
    /// `name:token` of each operator, separated by commas. None: the interface is closed.
    pub tokens: Secret,
}

impl Validate for Settings {
    fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = no_address("http.listen", &self.http.listen, 8095).into_iter().collect();
        if let Err(error) = self.keys.log_key() {
            faults.push(Fault::new("keys.log_signing", "is missing or cannot be used", error.to_string()));
        }
        faults.extend(switched_off("kafka", &self.kafka.bounds()));
        faults.extend(switched_off("producer", &self.producer.bounds()));
        faults.extend(switched_off("postgres", &self.postgres.bounds()));
        faults.extend(switched_off("redis", &self.redis.bounds()));
        faults.extend(at_least(&[
            ("coupons.page", u64::try_from(self.coupons.page).unwrap_or(0), 1),
            ("pending.interval_ms", self.pending.interval_ms, 10),
            ("pending.grace_ms", self.pending.grace_ms, 1),
            ("pending.page", wide(self.pending.page), 1),
            ("pending.pages_max", wide(self.pending.pages_max), 1),
            ("pending.refusals_max", u64::try_from(self.pending.refusals_max).unwrap_or(0), 1),
            ("pending.lease_ms", self.pending.lease_ms, 1_000),
            ("gates.interval_ms", self.gates.interval_ms, 10),
            ("gates.draining_interval_ms", self.gates.draining_interval_ms, 1),
            ("gates.page", wide(self.gates.page), 1),
            ("gates.loads_max", wide(self.gates.loads_max), 1),
            ("gates.lease_ms", self.gates.lease_ms, 1_000),
            ("gates.log_check_ms", self.gates.log_check_ms, 100),
            ("run.interval_ms", self.run.interval_ms, 100),
            ("run.lease_ms", self.run.lease_ms, 1_000),
            ("run.reports_kept_days", u64::try_from(self.run.reports_kept_days).unwrap_or(0), 1),
            ("compare.interval_ms", self.compare.interval_ms, 100),
            ("compare.retry_ms", self.compare.retry_ms, 100),
            ("compare.lease_ms", self.compare.lease_ms, 1_000),
            ("compare.page", wide(self.compare.page), 1),
            ("compare.scan_count", wide(self.compare.scan_count), 1),
            ("compare.filter_hashes", u64::from(self.compare.filter_hashes), 1),
            ("shutdown.grace_ms", self.shutdown.grace_ms, 100),
        ]));
        if let Err(problem) = Operators::parse(&self.admin.tokens) {
            faults.push(Fault::new("admin.tokens", problem, Operators::FIX));
        }
        if !(1_024..=512 * 1_024 * 1_024).contains(&self.compare.filter_bits) {
            faults.push(Fault::new(
                "compare.filter_bits",
                format!("is {}", self.compare.filter_bits),
                "give 1024 to 536870912, which is 64 MiB",
            ));
        }
        let most = [
            ("pending.page", self.pending.page, PENDING_PAGE_MAX),
            ("gates.page", self.gates.page, LOAD_MEMBERS_MAX),
            ("compare.page", self.compare.page, LOAD_MEMBERS_MAX),
            ("compare.scan_count", self.compare.scan_count, LOAD_MEMBERS_MAX),
        ];
        for (field, value, highest) in most {
            if value > highest {
                faults.push(Fault::new(field, format!("is {value}"), format!("give at most {highest}")));
            }
        }
        faults.extend(self.telemetry.faults());
        faults
    }
}

fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
