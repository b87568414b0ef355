//! A consumer in this process or as a process of its own, a producer that writes what gateways would, and SQL.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use contracts::{Encoded, encode_cancel, encode_change, encode_define, encode_request};
use domain::{
    clock::SystemClock,
    coupon::{Admission, Cancel, Change, Define, Place, Request},
    ids::{CommandId, CouponCode, MemberId, RequestId},
};
use issue_consumer::{Service, board::Board, config::Settings};
use kafka_io::{CommandProducer, KafkaSettings, ProducerSettings};
use stack::{Lifetime, ServiceProcess};
use testkit::{ENVELOPE, Running, World, eventually_some, log_key};

/// How long anything may take; the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The environment of a consumer in a world, to be changed.
pub fn environment(world: &World) -> BTreeMap<String, String> {
    world.consumer_environment()
}

pub fn settings(environment: &BTreeMap<String, String>) -> Settings {
    service_kit::settings::read("ISSUE_CONSUMER", None, environment.clone().into_iter().collect()).expect("settings")
}

/// A consumer in this process.
pub struct Consumer {
    pub board: Arc<Board>,
    running: Running<anyhow::Error>,
}

impl Consumer {
    pub async fn start(world: &World) -> Self {
        Self::with(&environment(world)).await
    }

    pub async fn with(environment: &BTreeMap<String, String>) -> Self {
        testkit::show_logs();
        service_kit::install_crypto_provider();
        let service = Service::new(settings(environment)).await.expect("a consumer");
        Self { board: service.board(), running: Running::start(|cancel| service.run(cancel)) }
    }

    pub async fn stop(self) {
        self.running.stop().await;
    }
}

/// A consumer as a process of its own.
pub fn spawn(environment: &BTreeMap<String, String>, name: &str, folder: &std::path::Path) -> ServiceProcess {
    let port = stack::ports::free().expect("a port");
    let mut environment = environment.clone();
    environment.insert("ISSUE_CONSUMER__HTTP__LISTEN".to_owned(), format!("127.0.0.1:{port}"));
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_issue-consumer"));
    ServiceProcess::spawn(name, binary, &environment, port, &folder.join(format!("{name}.log")), Lifetime::Owned)
        .expect("a process")
}

/// Writes what gateways and operators would.
pub struct Writer {
    producer: CommandProducer,
    topic: String,
    pub partitions: i32,
}

impl Writer {
    pub async fn new(kafka: &KafkaSettings) -> Self {
        let settings =
            ProducerSettings { queue_records_max: 200_000, delivery_timeout_ms: 60_000, ..ProducerSettings::default() };
        let producer = CommandProducer::new(kafka, &settings).expect("a producer");
        let topic = kafka.topics.created.clone();
        let partitions = producer.partition_count(&topic).await.expect("partitions");
        Self { producer, topic, partitions }
    }

    pub fn home(&self, coupon: &CouponCode) -> i32 {
        contracts::partition_of(coupon.as_str().as_bytes(), self.partitions)
    }

    pub async fn put(&self, partition: i32, record: &Encoded) -> Place {
        self.producer.publish(&self.topic, Some(partition), record).expect("queued").await.expect("acknowledged")
    }

    /// Puts many records in order and waits for all.
    pub async fn put_all(&self, partition: i32, records: impl IntoIterator<Item = Encoded>) -> Vec<Place> {
        let waiting: Vec<_> = records
            .into_iter()
            .map(|record| self.producer.publish(&self.topic, Some(partition), &record).expect("queued"))
            .collect();
        let mut places = Vec::with_capacity(waiting.len());
        for delivery in waiting {
            places.push(delivery.await.expect("acknowledged"));
        }
        places
    }

    /// Defines an always open coupon on its home partition and returns that.
    pub async fn define(&self, coupon: &CouponCode, admission: Admission, total: i64) -> i32 {
        let define = Define {
            id: CommandId::fresh(&SystemClock),
            coupon: coupon.clone(),
            actor: "tester".to_owned(),
            name: "Spring".to_owned(),
            admission,
            total,
            opens_at: None,
            closes_at: None,
        };
        let home = self.home(coupon);
        self.put(home, &encode_define(&define, &log_key(), &ENVELOPE)).await;
        home
    }
}

pub fn member(n: usize) -> MemberId {
    MemberId::new(format!("member-{n}")).unwrap()
}

/// The n-th request of a coupon: the same id each time it is made.
pub fn request(coupon: &CouponCode, n: usize) -> Request {
    let id = RequestId::from_idempotency_key(coupon, &member(n), "test");
    Request { id, coupon: coupon.clone(), member: member(n), admitted: false }
}

pub fn encoded(request: &Request) -> Encoded {
    encode_request(request, None, &log_key(), &ENVELOPE)
}

pub fn asks(coupon: &CouponCode, members: std::ops::Range<usize>) -> Vec<Encoded> {
    members.map(|n| encoded(&request(coupon, n))).collect()
}

pub fn change(coupon: &CouponCode) -> Change {
    Change {
        id: CommandId::fresh(&SystemClock),
        coupon: coupon.clone(),
        actor: "tester".to_owned(),
        name: None,
        total: None,
        opens_at: None,
        closes_at: None,
        paused: None,
        end: false,
    }
}

pub fn encoded_change(change: &Change) -> Encoded {
    encode_change(change, &log_key(), &ENVELOPE)
}

pub fn encoded_cancel(coupon: &CouponCode, request: &Request) -> Encoded {
    let cancel = Cancel {
        id: CommandId::fresh(&SystemClock),
        coupon: coupon.clone(),
        actor: "tester".to_owned(),
        member: request.member.clone(),
        request: request.id,
    };
    encode_cancel(&cancel, &log_key(), &ENVELOPE)
}

/// SQL of the test's own. It connects anew when the server was restarted.
pub struct Sql {
    url: String,
    client: tokio::sync::Mutex<Option<tokio_postgres::Client>>,
}

impl Sql {
    pub fn new(url: &str) -> Self {
        Self { url: url.to_owned(), client: tokio::sync::Mutex::new(None) }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub async fn try_number(&self, query: &str) -> Result<i64, String> {
        let mut slot = self.client.lock().await;
        let client = match slot.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => {
                let (client, connection) =
                    tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.map_err(|error| error.to_string())?;
                tokio::spawn(connection);
                client
            }
        };
        let row = client.query_one(query, &[]).await.map_err(|error| format!("{error:?}"))?;
        *slot = Some(client);
        Ok(row.try_get::<_, Option<i64>>(0).map_err(|error| format!("{query}: {error}"))?.unwrap_or(0))
    }

    pub async fn number(&self, query: &str) -> i64 {
        self.try_number(query).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    pub async fn execute(&self, text: &str) {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.expect("a connection");
        tokio::spawn(connection);
        client.batch_execute(text).await.unwrap_or_else(|error| panic!("{text}: {error:?}"));
    }

    /// Waits until the query gives the number.
    pub async fn until(&self, query: &str, number: i64) {
        eventually_some(PATIENCE, &format!("{query} = {number}"), || async {
            match self.try_number(query).await {
                Ok(found) if found == number => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }

    pub async fn rows(&self, coupon: &CouponCode) -> i64 {
        self.number(&format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{coupon}'")).await
    }

    pub async fn until_rows(&self, coupon: &CouponCode, rows: i64) {
        self.until(&format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{coupon}'"), rows).await;
    }

    pub async fn outcomes(&self, coupon: &CouponCode, outcome: &str) -> i64 {
        let query = format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{coupon}' AND outcome = '{outcome}'");
        self.number(&query).await
    }
}
