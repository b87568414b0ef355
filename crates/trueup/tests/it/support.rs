//! The line in this process, a writer of records, the command as a process, and SQL.

use std::{collections::BTreeMap, process::Output, sync::OnceLock, time::Duration};

use contracts::{Encoded, encode_cancel, encode_change, encode_define, encode_request, partition_of};
use domain::{
    clock::SystemClock,
    coupon::{Admission, Cancel, Change, Define, Place, Request},
    ids::{CommandId, CouponCode, MemberId, RequestId},
};
use kafka_io::{CommandProducer, LogClient, ProducerSettings};
use testkit::{ENVELOPE, Running, World, eventually_some, log_key};
use trueup_cli::{
    audit::{Report, audit},
    settings::Settings,
};

/// The metrics of this process; they can be installed once only.
pub fn metrics() -> service_kit::metrics::Metrics {
    static METRICS: OnceLock<service_kit::metrics::Metrics> = OnceLock::new();
    METRICS.get_or_init(|| service_kit::metrics::install().unwrap()).clone()
}

/// Longer than anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A consumer in this process.
pub async fn start_consumer(world: &World) -> Running<anyhow::Error> {
    testkit::show_logs();
    service_kit::install_crypto_provider();
    let environment = world.consumer_environment().into_iter().collect();
    let settings = service_kit::settings::read("ISSUE_CONSUMER", None, environment).unwrap();
    let service = issue_consumer::Service::new(settings).await.unwrap();
    Running::start(|cancel| service.run(cancel))
}

/// Writes what gateways, operators and foreign producers would.
pub struct Writer {
    producer: CommandProducer,
    topic: String,
    pub partitions: i32,
}

impl Writer {
    pub async fn new(world: &World) -> Self {
        let producer = CommandProducer::new(&world.kafka, &ProducerSettings::default()).unwrap();
        let topic = world.kafka.topics.created.clone();
        let partitions = producer.partition_count(&topic).await.unwrap();
        Self { producer, topic, partitions }
    }

    pub fn home(&self, code: &CouponCode) -> i32 {
        partition_of(code.as_str().as_bytes(), self.partitions)
    }

    pub async fn put(&self, partition: i32, record: &Encoded) -> Place {
        self.producer.publish(&self.topic, Some(partition), record).unwrap().await.unwrap()
    }

    /// Puts many in order and waits for all.
    pub async fn put_all(&self, partition: i32, records: impl IntoIterator<Item = Encoded>) {
        let waiting: Vec<_> =
            records.into_iter().map(|record| self.producer.publish(&self.topic, Some(partition), &record).unwrap()).collect();
        for delivery in waiting {
            delivery.await.unwrap();
        }
    }

    pub async fn define(&self, code: &CouponCode, admission: Admission, total: i64) -> i32 {
        let define = Define {
            id: CommandId::fresh(&SystemClock),
            coupon: code.clone(),
            actor: "ann".to_owned(),
            name: "Spring sale".to_owned(),
            admission,
            total,
            opens_at: None,
            closes_at: None,
        };
        let home = self.home(code);
        self.put(home, &encode_define(&define, &log_key(), &ENVELOPE)).await;
        home
    }
}

pub fn member(number: usize) -> MemberId {
    MemberId::new(format!("member-{number}")).unwrap()
}

/// The n-th member's request: the same id each time it is made.
pub fn request(code: &CouponCode, number: usize) -> Request {
    let id = RequestId::from_idempotency_key(code, &member(number), "test");
    Request { id, coupon: code.clone(), member: member(number), admitted: false }
}

pub fn encoded(request: &Request) -> Encoded {
    encode_request(request, None, &log_key(), &ENVELOPE)
}

pub fn asks(code: &CouponCode, members: std::ops::Range<usize>) -> Vec<Encoded> {
    members.map(|number| encoded(&request(code, number))).collect()
}

/// What a foreign producer sends: JSON, key = coupon, no headers.
pub fn foreign(code: &CouponCode, number: usize) -> Encoded {
    let value = format!("{{\"userId\":\"{}\",\"couponId\":\"{code}\"}}", member(number));
    Encoded::new(Some(code.as_str().as_bytes()), Some(value.as_bytes()), 0)
}

pub fn change(code: &CouponCode, total: i64) -> Encoded {
    let change = Change {
        id: CommandId::fresh(&SystemClock),
        coupon: code.clone(),
        actor: "bob".to_owned(),
        name: None,
        total: Some(total),
        opens_at: None,
        closes_at: None,
        paused: None,
        end: false,
    };
    encode_change(&change, &log_key(), &ENVELOPE)
}

pub fn cancel(code: &CouponCode, request: &Request) -> Encoded {
    let cancel = Cancel {
        id: CommandId::fresh(&SystemClock),
        coupon: code.clone(),
        actor: "bob".to_owned(),
        member: request.member.clone(),
        request: request.id,
    };
    encode_cancel(&cancel, &log_key(), &ENVELOPE)
}

/// The command's environment in a world.
pub fn environment(world: &World) -> BTreeMap<String, String> {
    world.environment("TRUEUP")
}

pub fn settings(world: &World) -> Settings {
    service_kit::settings::read("TRUEUP", None, environment(world).into_iter().collect()).unwrap()
}

pub async fn audited(world: &World, code: &CouponCode) -> Report {
    audit(&settings(world), std::slice::from_ref(code), None).await.unwrap().remove(0)
}

/// Runs the command as a process, with more environment on top.
pub async fn trueup(environment: &BTreeMap<String, String>, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_trueup"));
    command.args(arguments).envs(environment).kill_on_drop(true);
    tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends in time").unwrap()
}

pub fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

pub async fn execute(world: &World, text: &str) {
    let (client, connection) = tokio_postgres::connect(&world.postgres_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
}

pub async fn number(world: &World, query: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(&world.postgres_url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let row = client.query_one(query, &[]).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    row.get::<_, Option<i64>>(0).unwrap_or(0)
}

/// Waits until everything that is in the log is decided, wherever forwarding carries it.
pub async fn decided(world: &World) {
    let client = LogClient::new(&world.kafka).unwrap();
    let topic = &world.kafka.topics.created;
    eventually_some(PATIENCE, "all is decided", || async {
        let mut behind = Vec::new();
        for partition in 0..client.partition_count(topic).await.unwrap() {
            let end = client.watermarks(topic, partition).await.unwrap().high;
            let position =
                number(world, &format!("SELECT max(next_offset) FROM consumer_position WHERE partition = {partition}")).await;
            if position < end {
                behind.push((partition, position, end));
            }
        }
        if behind.is_empty() { Ok(()) } else { Err(behind) }
    })
    .await;
}
