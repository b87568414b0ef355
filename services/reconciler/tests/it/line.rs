//! The whole line for one test: a gateway and a consumer in this process, reconcilers as processes, a Redis of its own, and members who ask.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use domain::{coupon::Admission, ids::CouponCode};
use kafka_io::LogClient;
use redis_io::{Gate, GateState, GateStatus, RedisSettings};
use serde_json::{Value, json};
use service_kit::lifecycle::Shutdown;
use stack::{Lifetime, ServiceProcess, ports};
use testkit::{OnThread, PrivateRedis, Running, TestFolder, World, Writer, eventually, eventually_some};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Members who ask at the same time.
const AT_ONCE: usize = 12;

/// How long a member waits before he asks again.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// A world with a Redis of its own, a gateway, and one coupon.
pub struct Line {
    pub world: World,
    pub redis: PrivateRedis,
    pub code: CouponCode,
    pub gate: Gate,
    url: String,
    client: reqwest::Client,
    folder: TestFolder,
    _gateway: OnThread,
}

/// A consumer in this process.
pub async fn start_consumer(world: &World) -> Running<anyhow::Error> {
    testkit::start("ISSUE_CONSUMER", &world.consumer_environment(), issue_consumer::Service::new, issue_consumer::Service::run)
        .await
}

/// What members were told.
#[derive(Debug, Default)]
pub struct Told {
    /// 202, by member: the request's id.
    pub promised: BTreeMap<String, String>,
    /// Those whose append may have happened, or whose answer never came.
    pub unknown: BTreeSet<String>,
    /// Other answers, by status.
    pub others: BTreeMap<u16, usize>,
}

impl Told {
    /// Takes an answer down; whether it is one to be content with.
    fn hear(&mut self, member: &str, status: u16, body: &Value) -> bool {
        if status == 202 {
            self.promised.insert(member.to_owned(), body["requestId"].as_str().unwrap().to_owned());
            return true;
        }
        *self.others.entry(status).or_default() += 1;
        if body["code"] == "append_unknown" {
            self.unknown.insert(member.to_owned());
        }
        status != 503
    }
}

impl Line {
    /// A reserved coupon of `total` seats whose definition lies in the log; no consumer and no reconciler runs yet.
    pub async fn new(name: &str, total: i64) -> Self {
        let metrics = testkit::metrics();
        service_kit::install_crypto_provider();
        let redis = PrivateRedis::start();
        let mut world = World::new(name).await;
        world.redis_url = redis.url();
        let code = world.coupon(name);
        Writer::new(&world.kafka).await.define(&code, Admission::Reserved, total).await;

        let port = ports::free().unwrap();
        let settings = testkit::settings("COUPON_GATEWAY", &world.gateway_environment(port));
        let shutdown = Shutdown::default();
        let stopping = shutdown.clone();
        let gateway = OnThread::start(
            move || actix_rt::System::new().block_on(coupon_gateway::run(settings, stopping, metrics)).unwrap(),
            move || shutdown.begin(),
        );
        testkit::until_listening(PATIENCE, port).await;
        let gate = Gate::connect(&RedisSettings { url: redis.url().as_str().into(), ..RedisSettings::default() }).await.unwrap();
        let url = format!("http://127.0.0.1:{port}/v1/coupons/{code}/requests");
        let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
        let folder = TestFolder::new("line");
        Self { world, redis, code, gate, url, client, folder, _gateway: gateway }
    }

    /// A reconciler as a process of its own, with everything often.
    pub fn reconciler(&self, name: &str) -> ServiceProcess {
        let port = ports::free().unwrap();
        let mut environment = self.world.environment("RECONCILER");
        for (name, value) in [
            ("HTTP__LISTEN", format!("127.0.0.1:{port}").as_str()),
            ("PENDING__INTERVAL_MS", "100"),
            ("PENDING__GRACE_MS", "300"),
            ("GATES__INTERVAL_MS", "100"),
            ("GATES__LEASE_MS", "2000"),
            ("RUN__INTERVAL_MS", "300"),
            ("COMPARE__INTERVAL_MS", "300"),
        ] {
            environment.insert(format!("RECONCILER__{name}"), value.to_owned());
        }
        let log = self.folder.path().join(format!("{name}.log"));
        let binary = Path::new(env!("CARGO_BIN_EXE_reconciler"));
        let mut service = ServiceProcess::spawn(name, binary, &environment, port, &log, Lifetime::Owned).unwrap();
        service.wait_ready().unwrap();
        service
    }

    /// What a reconciler has logged.
    pub fn log_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap()
    }

    pub fn sql(&self, sql: &str) -> String {
        testkit::postgres().psql(&self.world.name, sql).unwrap()
    }

    /// Commands for this Redis.
    pub async fn redis<T: deadpool_redis::redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let mut connection =
            deadpool_redis::redis::Client::open(self.redis.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
        let mut command = deadpool_redis::redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await.unwrap()
    }

    /// The gate, or nothing while Redis does not answer.
    pub async fn status(&self) -> Option<GateStatus> {
        self.gate.status(&self.code).await.ok()
    }

    pub async fn is_open(&self) -> bool {
        self.status().await.is_some_and(|status| status.state == GateState::Open)
    }

    pub async fn wait_open(&self) {
        eventually(PATIENCE, "the gate opens", || self.is_open()).await;
    }

    /// Members `numbers` ask, a few at a time, until `stop`; each until he has an answer that is no refusal for the moment.
    pub fn rush(&self, numbers: std::ops::Range<u32>, told: &Arc<Mutex<Told>>, stop: &CancellationToken) -> JoinSet<()> {
        let next = Arc::new(Mutex::new(numbers));
        let mut asking = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (next, told, stop) = (Arc::clone(&next), Arc::clone(told), stop.clone());
            let (client, url) = (self.client.clone(), self.url.clone());
            asking.spawn(async move {
                while !stop.is_cancelled() {
                    let Some(number) = next.lock().unwrap().next() else { return };
                    ask(&client, &url, &format!("m{number}"), &told).await;
                }
            });
        }
        asking
    }

    /// Everything in the log is decided and told to the gate, and no reservation waits.
    pub async fn quiet(&self) {
        let client = LogClient::new(&self.world.kafka).unwrap();
        let topic = self.world.kafka.topics.created.clone();
        let partition = self.sql(&format!("SELECT partition FROM coupon WHERE coupon_code = '{}'", self.code)).parse().unwrap();
        eventually_some(PATIENCE, "the line is quiet", || async {
            let end = client.watermarks(&topic, partition).await.map_err(|error| error.to_string())?.high;
            let position = self.sql(&format!("SELECT next_offset FROM consumer_position WHERE partition = {partition}"));
            let status = self.status().await.ok_or("Redis does not answer")?;
            let state = (position == end.to_string(), status.cursor == Some(end), status.pending, status.state);
            if state == (true, true, 0, GateState::Open) { Ok(()) } else { Err(format!("{state:?} of {end}")) }
        })
        .await;
    }

    /// Holds what must be true of every quiet line: each promise is kept by an outcome, nobody holds two, and gate, ledger and counter
    /// agree.
    pub async fn judge(&self, told: &Told) {
        let code = &self.code;
        for (member, request) in &told.promised {
            let found = self.sql(&format!(
                "SELECT count(*) FROM coupon_request WHERE coupon_code = '{code}' AND request_id = '{request}' AND member_id = '{member}'"
            ));
            assert_eq!(found, "1", "the request of {member} has an outcome");
        }
        let counts = self.sql(&format!(
            "SELECT count(*) = count(DISTINCT member_id), count(*) = (SELECT issued_quantity FROM coupon WHERE coupon_code = '{code}'), \
             count(*) <= (SELECT total_quantity FROM coupon WHERE coupon_code = '{code}') FROM coupon_issue WHERE coupon_code = '{code}'"
        ));
        assert_eq!(counts, "t|t|t");
        let issued = self.issued();
        let set: BTreeSet<String> =
            self.redis::<Vec<String>>(&["SMEMBERS", &redis_io::keys::issued(code)]).await.into_iter().collect();
        assert_eq!(set, issued, "the gate says what the ledger says");
    }

    /// Who holds the coupon.
    pub fn issued(&self) -> BTreeSet<String> {
        let all = self.sql(&format!("SELECT member_id FROM coupon_issue WHERE coupon_code = '{}'", self.code));
        all.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Runs that left a report so far.
    pub fn runs(&self) -> i64 {
        self.sql(&format!("SELECT count(*) FROM reconciliation_report WHERE coupon_code = '{}'", self.code)).parse().unwrap()
    }
}

/// Asks until the answer is more than "not now", as a client would.
async fn ask(client: &reqwest::Client, url: &str, member: &str, told: &Arc<Mutex<Told>>) {
    let started = std::time::Instant::now();
    while started.elapsed() < PATIENCE {
        // Without a key: a keyed request that the ledger does not know yet is never told that it is sold out, but goes into the log.
        let request = client.post(url).json(&json!({"memberId": member}));
        let Ok(response) = request.send().await else {
            told.lock().unwrap().unknown.insert(member.to_owned());
            continue;
        };
        let status = response.status().as_u16();
        let body: Value = response.json().await.unwrap_or_default();
        if told.lock().unwrap().hear(member, status, &body) {
            return;
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}
