//! What the tests stand on: a world of their own, coupons and ledger rows, and a log that can be told to fail.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use contracts::encode_request;
use domain::{
    coupon::{LogIncarnation, Request},
    ids::{CouponCode, MemberId, RequestId},
};
use kafka_io::{CommandProducer, KafkaSettings, LogClient, ProducerSettings};
use postgres_io::{Db, PostgresSettings};
use reconciler::{
    Reconciler, Settings,
    kafka::KafkaLog,
    log::{CommandLog, LogError, Published},
    walk::Walk,
};
use redis_io::{Gate, GateStatus, RedisSettings};
use testkit::{ENVELOPE, LOG_SECRET, World, log_key};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A world, its settings, and the reconciler that works in it.
pub struct Stage {
    pub world: World,
    pub settings: Settings,
    pub gate: Arc<Gate>,
    pub log: Arc<KafkaLog>,
    producer: CommandProducer,
    incarnation: LogIncarnation,
}

impl Stage {
    pub async fn new(name: &str) -> Self {
        let world = World::new(name).await;
        let redis_url = world.redis_url.clone();
        Self::on(world, &redis_url).await
    }

    /// The same on a Redis of the test's own.
    pub async fn on(world: World, redis_url: &str) -> Self {
        testkit::show_logs();
        let mut settings = Settings {
            kafka: world.kafka.clone(),
            postgres: PostgresSettings { url: world.postgres_url.as_str().into(), ..PostgresSettings::default() },
            redis: RedisSettings { url: redis_url.into(), ..RedisSettings::default() },
            ..Settings::default()
        };
        settings.keys.log_signing = LOG_SECRET.into();
        settings.pending.grace_ms = 1;
        // A run waits for its loads, however busy the machine is.
        settings.gates.interval_ms = 60_000;
        let gate = Arc::new(Gate::connect(&settings.redis).await.unwrap());
        let log = Arc::new(KafkaLog::new(&settings.kafka, &settings.producer, log_key()).unwrap());
        let producer = CommandProducer::new(&settings.kafka, &ProducerSettings::default()).unwrap();
        let incarnation = LogClient::new(&settings.kafka).unwrap().incarnation(&settings.kafka.topics.created).await.unwrap();
        Self { world, settings, gate, log, producer, incarnation }
    }

    /// A replica with a name of its own in leases.
    pub async fn replica(&self) -> Reconciler {
        let log: Arc<dyn CommandLog> = Arc::<KafkaLog>::clone(&self.log);
        self.replica_with(log).await
    }

    pub async fn replica_with(&self, log: Arc<dyn CommandLog>) -> Reconciler {
        let db = Db::connect(&self.settings.postgres).await.unwrap();
        Reconciler::with(self.settings.clone(), db, Arc::clone(&self.gate), log)
    }

    /// Runs SQL and gives what it prints.
    pub fn sql(&self, sql: &str) -> String {
        testkit::postgres().psql(&self.world.name, sql).unwrap()
    }

    /// A reserved coupon on partition 1, as the consumer writes it when it decides its definition.
    pub fn coupon(&self, name: &str, total: i64) -> CouponCode {
        let code = self.world.coupon(name);
        self.sql(&format!(
            "INSERT INTO coupon (coupon_code, name, admission, partition, total_quantity, issued_quantity, paused, ended, \
             rules_offset, defined_by) VALUES ('{code}', 'A coupon', 'reserved', 1, {total}, 0, false, false, 0, 'test')"
        ));
        code
    }

    /// The decided position of partition 1.
    pub fn decided_up_to(&self, next_offset: i64) {
        self.decided_up_to_in(next_offset, &self.incarnation);
    }

    pub fn decided_up_to_in(&self, next_offset: i64, log: &LogIncarnation) {
        let topic = &self.settings.kafka.topics.created;
        self.sql(&format!(
            "INSERT INTO consumer_position (topic, partition, next_offset, cluster_id, topic_id) \
             VALUES ('{topic}', 1, {next_offset}, '{}', '{}') ON CONFLICT (topic, partition) \
             DO UPDATE SET next_offset = EXCLUDED.next_offset, cluster_id = EXCLUDED.cluster_id, topic_id = EXCLUDED.topic_id",
            log.cluster_id, log.topic_id
        ));
    }

    /// Ledger rows of members who got the coupon, with the counter the consumer keeps.
    pub fn issued(&self, code: &CouponCode, members: std::ops::Range<u32>) {
        let (from, count) = (members.start, members.len());
        self.sql(&format!(
            "INSERT INTO coupon_request (coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, admitted, \
             outcome, sequence) \
             SELECT '{code}', gen_random_uuid(), 'user-' || n, 1, n, n, now(), true, 'issued', \
             n - {from} + 1 + (SELECT count(*) FROM coupon_request WHERE coupon_code = '{code}' AND outcome = 'issued') \
             FROM generate_series({from}, {}) AS n; \
             UPDATE coupon SET issued_quantity = issued_quantity + {count} WHERE coupon_code = '{code}'",
            members.end - 1
        ));
    }

    /// Writes `count` foreign requests to partition 1.
    pub async fn append(&self, code: &CouponCode, count: u32) {
        for n in 0..count {
            let request =
                Request { id: request(900_000 + n), coupon: code.clone(), member: member(900_000 + n), admitted: false };
            let record = encode_request(&request, None, &log_key(), &ENVELOPE);
            self.producer.publish(&self.settings.kafka.topics.created, Some(1), &record).unwrap().await.unwrap();
        }
    }

    /// Runs a command on this coupon's set in Redis, behind everybody's back.
    pub async fn redis<T: deadpool_redis::redis::FromRedisValue>(&self, command: &str, code: &CouponCode, members: &[&str]) -> T {
        let url = self.settings.redis.url.expose();
        let mut connection = deadpool_redis::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
        let key = redis_io::keys::issued(code);
        deadpool_redis::redis::cmd(command).arg(key).arg(members).query_async(&mut connection).await.unwrap()
    }

    /// The same, where nothing is answered that matters.
    pub async fn tamper(&self, command: &str, code: &CouponCode, members: &[&str]) {
        let _: deadpool_redis::redis::Value = self.redis(command, code, members).await;
    }

    pub async fn status(&self, code: &CouponCode) -> GateStatus {
        self.gate.status(code).await.unwrap()
    }

    pub fn walk(&self) -> Walk {
        Walk { stop: CancellationToken::new(), page: 2, beat: Arc::new(|| {}) }
    }

    pub fn kafka(&self) -> &KafkaSettings {
        &self.settings.kafka
    }

    pub fn incarnation(&self) -> &LogIncarnation {
        &self.incarnation
    }
}

pub fn member(number: u32) -> MemberId {
    MemberId::new(format!("user-{number}")).unwrap()
}

pub fn request(number: u32) -> RequestId {
    RequestId::from_uuid(Uuid::from_u128(u128::from(number)))
}

/// A log that says what it was told to say; it remembers what it was given.
pub struct ScriptedLog {
    pub incarnation: LogIncarnation,
    pub end: i64,
    pub outcomes: Box<dyn Fn(&Request) -> Published + Send + Sync>,
    pub published: Mutex<Vec<Request>>,
}

#[async_trait]
impl CommandLog for ScriptedLog {
    async fn incarnation(&self) -> Result<LogIncarnation, LogError> {
        Ok(self.incarnation.clone())
    }

    async fn end_of(&self, _: i32) -> Result<i64, LogError> {
        Ok(self.end)
    }

    async fn publish(&self, _: i32, requests: &[Request]) -> Vec<Published> {
        self.published.lock().unwrap().extend(requests.iter().cloned());
        requests.iter().map(|request| (self.outcomes)(request)).collect()
    }
}
