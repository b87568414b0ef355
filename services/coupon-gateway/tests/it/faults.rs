//! Servers that go away under load and come back, and a process that is asked to end with requests in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use domain::{
    coupon::{Admission, Request},
    ids::CouponCode,
};
use testkit::{PrivateKafka, PrivateRedis, World, create_topics, eventually, kafka_settings, unique};
use tokio::task::JoinSet;

use crate::gateway::{Answer, Gateway, SOON, accepted, define, open_gate, requests_in};

/// Members that ask one after the other, each until he is accepted, while a fault goes on.
const ASKERS: usize = 24;

/// What a load saw: request ids that were accepted, and how often each other answer came.
#[derive(Default)]
struct Seen {
    accepted: Mutex<Vec<(String, String)>>,
    others: Mutex<BTreeMap<String, usize>>,
    answers: AtomicUsize,
}

impl Seen {
    fn others(&self) -> BTreeMap<String, usize> {
        self.others.lock().unwrap().clone()
    }

    fn accepted(&self) -> Vec<(String, String)> {
        self.accepted.lock().unwrap().clone()
    }
}

/// Asks until told to stop; then every member who was not accepted asks until he is.
struct Load {
    seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Load {
    fn start(gateway: &Gateway, coupon: &CouponCode) -> Self {
        let (seen, stop, mut tasks) = (Arc::<Seen>::default(), Arc::new(AtomicBool::new(false)), JoinSet::new());
        for asker in 0..ASKERS {
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            let (client, url) = (gateway.client.clone(), format!("{}/v1/coupons/{coupon}/requests", gateway.url));
            tasks.spawn(async move {
                for number in 0.. {
                    let member = format!("m{asker}-{number}");
                    loop {
                        let body = format!(r#"{{"memberId":"{member}"}}"#);
                        let request = client.post(&url).header("content-type", "application/json").body(body);
                        let answer = Answer::of(request.send().await.unwrap()).await;
                        seen.answers.fetch_add(1, Ordering::Relaxed);
                        if answer.status == 202 {
                            let id = answer.json()["requestId"].as_str().unwrap().to_owned();
                            seen.accepted.lock().unwrap().push((member, id));
                            break;
                        }
                        *seen.others.lock().unwrap().entry(answer.problem().1).or_default() += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        Self { seen, stop, tasks }
    }

    /// Waits until `more` further members were accepted.
    async fn accepts(&self, more: usize) {
        let before = self.seen.accepted().len();
        eventually(SOON, "accepted members", || async { self.seen.accepted().len() >= before + more }).await;
    }

    /// Waits until that answer came.
    async fn sees(&self, code: &str) {
        eventually(SOON, code, || async { self.seen.others().contains_key(code) }).await;
    }

    async fn end(mut self) -> Arc<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        self.seen
    }
}

/// Every request that was accepted is in the log, for its member.
fn assert_none_is_lost(seen: &Seen, log: &[Request]) {
    let in_log: BTreeSet<(String, String)> =
        log.iter().map(|request| (request.member.to_string(), request.id.to_string())).collect();
    let lost: Vec<_> = seen.accepted().into_iter().filter(|accepted| !in_log.contains(accepted)).collect();
    assert!(lost.is_empty(), "accepted, but not in the log: {lost:?}");
}

/// A world whose Kafka is the test's own.
async fn with_own_kafka(name: &str) -> (World, PrivateKafka) {
    let mut world = World::new(name).await;
    let kafka = tokio::task::spawn_blocking(PrivateKafka::start).await.unwrap();
    world.kafka = kafka_settings(&kafka.brokers(), &unique(name));
    create_topics(&world.kafka, 4).await;
    (world, kafka)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_is_stopped_under_load_and_comes_back() {
    let (world, mut kafka) = with_own_kafka("kafka-stops").await;
    let coupon = world.coupon("kafka-stops");
    let partition = define(&world, &coupon, Admission::Reserved, 1_000_000).await;
    let gate = open_gate(&world.redis_url, &coupon, 1_000_000).await;
    let gateway = Gateway::start_with(&world, &[("PRODUCER__DELIVERY_TIMEOUT_MS", "1500")]).await;
    let load = Load::start(&gateway, &coupon);
    load.accepts(200).await;
    let mut kafka = tokio::task::spawn_blocking(move || {
        kafka.stop().unwrap();
        kafka
    })
    .await
    .unwrap();
    load.sees("log_unavailable").await;
    // While it is known to be down, requests are refused at once and reserve nothing.
    let gate_before = gate.status(&coupon).await.unwrap().members;
    eventually(SOON, "fast refusals", || async { gateway.ask(&coupon, "quick").await.problem().1 == "log_unavailable" }).await;
    let began = std::time::Instant::now();
    let refused = gateway.ask(&coupon, "quick-2").await;
    assert_eq!((refused.problem(), &refused.headers["retry-after"] == "1"), ((503, "log_unavailable".to_owned()), true));
    assert!(began.elapsed() < Duration::from_millis(500), "a refusal took {:?}", began.elapsed());
    assert_eq!(gateway.get("/health/live").await.status, 200, "a broker that is down is no reason to be restarted");
    eventually(SOON, "not ready", || async { gateway.get("/health/ready").await.status == 503 }).await;
    let gate_after = gate.status(&coupon).await.unwrap().members;
    assert!(gate_after <= gate_before + ASKERS as i64, "{gate_before} members became {gate_after} while Kafka was down");
    let _kafka = tokio::task::spawn_blocking(move || {
        kafka.restart().unwrap();
        kafka
    })
    .await
    .unwrap();
    load.accepts(200).await;
    let seen = load.end().await;
    let log = requests_in(&world, partition).await;
    assert_none_is_lost(&seen, &log);
    // A member has one request, whatever happened in between.
    let mut of_member: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in &log {
        of_member.entry(request.member.to_string()).or_default().insert(request.id.to_string());
    }
    assert!(of_member.values().all(|ids| ids.len() == 1), "a reservation was published under two ids");
    assert!(
        seen.others().keys().all(|code| ["log_unavailable", "append_unknown"].contains(&code.as_str())),
        "{:?}",
        seen.others()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_append_is_healed_by_asking_again() {
    let (world, kafka) = with_own_kafka("unknown-append").await;
    let coupon = world.coupon("unknown-append");
    let partition = define(&world, &coupon, Admission::Reserved, 10).await;
    let gate = open_gate(&world.redis_url, &coupon, 10).await;
    let gateway = Gateway::start_with(&world, &[("PRODUCER__DELIVERY_TIMEOUT_MS", "1500")]).await;
    accepted(&gateway.ask(&coupon, "first").await);
    // The broker hangs: what was sent may or may not be in the log.
    let process = PausedKafka::pause(kafka);
    let unknown = gateway.ask(&coupon, "a").await;
    assert_eq!(unknown.problem(), (503, "append_unknown".to_owned()));
    let id = unknown.json()["requestId"].as_str().unwrap().to_owned();
    let pending = gate.pending_of(&coupon, &[crate::gateway::member("a")]).await.unwrap();
    assert_eq!(pending[0].map(|id| id.to_string()), Some(id.clone()), "the reservation stays");
    let _kafka = process.resume();
    let mut healed = None;
    for _ in 0..1_000 {
        let answer = gateway.ask(&coupon, "a").await;
        if answer.status == 202 {
            healed = Some(answer.json());
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(healed.expect("accepted at last")["requestId"], id, "under the same id");
    let log = requests_in(&world, partition).await;
    assert!(log.iter().any(|request| request.id.to_string() == id && request.admitted));
}

/// A broker that is stopped in mid-air.
struct PausedKafka(PrivateKafka);

impl PausedKafka {
    fn pause(mut kafka: PrivateKafka) -> Self {
        kafka.process().pause();
        Self(kafka)
    }

    fn resume(mut self) -> PrivateKafka {
        self.0.process().resume();
        self.0
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_its_scripts_forgotten_under_load() {
    let mut world = World::new("redis-dies").await;
    let mut redis = tokio::task::spawn_blocking(PrivateRedis::start).await.unwrap();
    world.redis_url = redis.url();
    let coupon = world.coupon("redis-dies");
    let partition = define(&world, &coupon, Admission::Reserved, 1_000_000).await;
    open_gate(&world.redis_url, &coupon, 1_000_000).await;
    let gateway = Gateway::start(&world).await;
    let load = Load::start(&gateway, &coupon);
    load.accepts(200).await;
    flush_scripts(redis.port());
    load.accepts(200).await;
    assert_eq!(gateway.metric("trueup_gateway_gate_fallbacks_total").await, 0.0, "a forgotten script costs nobody the gate");
    redis.kill();
    // The coupon goes on as a queued one: nobody is refused.
    load.accepts(200).await;
    assert!(gateway.metric("trueup_gateway_gate_fallbacks_total").await > 0.0);
    let redis = tokio::task::spawn_blocking(move || {
        redis.restart().unwrap();
        redis
    })
    .await
    .unwrap();
    // Redis came back with its old file under a new run id: the gate is cold, and is never guessed from.
    load.accepts(200).await;
    let gate = open_gate(&redis.url(), &coupon, 1_000_000).await;
    eventually(SOON, "the gate is asked again", || async { gate.status(&coupon).await.unwrap().pending > 0 }).await;
    load.accepts(200).await;
    let seen = load.end().await;
    let log = requests_in(&world, partition).await;
    assert_none_is_lost(&seen, &log);
    assert!(log.iter().any(|request| !request.admitted) && log.iter().any(|request| request.admitted));
    assert!(seen.others().is_empty(), "{:?}", seen.others());
}

fn flush_scripts(port: u16) {
    let mut command = std::process::Command::new("redis-cli");
    let output = command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "SCRIPT", "FLUSH"]).output().unwrap();
    assert!(output.status.success() && output.stdout.starts_with(b"OK"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_asked_to_end_answers_what_is_in_it() {
    let (world, kafka) = with_own_kafka("sigterm").await;
    let coupon = world.coupon("sigterm");
    let partition = define(&world, &coupon, Admission::Queued, 10).await;
    let mut gateway = Gateway::start_with(&world, &[("PRODUCER__LINGER_MS", "700")]).await;
    let mut asked = JoinSet::new();
    for number in 0..20 {
        let (client, url) = (gateway.client.clone(), format!("{}/v1/coupons/{coupon}/requests", gateway.url));
        asked.spawn(async move {
            let body = format!(r#"{{"memberId":"m{number}"}}"#);
            let request = client.post(&url).header("content-type", "application/json").body(body);
            Answer::of(request.send().await.unwrap()).await
        });
    }
    // They are in: each waits for its batch, which lingers.
    eventually(SOON, "requests in progress", || async { gateway.metric("trueup_gateway_in_flight").await >= 20.0 }).await;
    let code = tokio::task::spawn_blocking(move || {
        let code = gateway.process.terminate(Duration::from_secs(15)).unwrap();
        (code, gateway)
    });
    while let Some(answer) = asked.join_next().await {
        accepted(&answer.unwrap());
    }
    let (code, mut gateway) = code.await.unwrap();
    assert_eq!(code, Some(0), "{}", gateway.log());
    assert!(gateway.log().contains("every append is confirmed"), "{}", gateway.log());
    assert_eq!(requests_in(&world, partition).await.len(), 20);
    drop(kafka);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_confirmed_is_counted_and_the_end_comes_in_time() {
    let (world, kafka) = with_own_kafka("grace").await;
    let coupon = world.coupon("grace");
    define(&world, &coupon, Admission::Queued, 10).await;
    let settings = [("SHUTDOWN__GRACE_MS", "2000"), ("PRODUCER__DELIVERY_TIMEOUT_MS", "60000")];
    let gateway = Gateway::start_with(&world, &settings).await;
    accepted(&gateway.ask(&coupon, "first").await);
    // The gauge is sampled: a sample that still saw the first request must not be taken for the hanging one.
    eventually(SOON, "nothing in progress", || async { gateway.metric("trueup_gateway_in_flight").await == 0.0 }).await;
    let paused = PausedKafka::pause(kafka);
    let (client, url) = (gateway.client.clone(), format!("{}/v1/coupons/{coupon}/requests", gateway.url));
    let hanging = tokio::spawn(async move {
        client.post(&url).header("content-type", "application/json").body(r#"{"memberId":"a"}"#).send().await
    });
    eventually(SOON, "a request in progress", || async { gateway.metric("trueup_gateway_in_flight").await >= 1.0 }).await;
    let began = std::time::Instant::now();
    let (code, mut gateway) = tokio::task::spawn_blocking(move || {
        let mut gateway = gateway;
        (gateway.process.terminate(Duration::from_secs(15)).unwrap(), gateway)
    })
    .await
    .unwrap();
    assert_eq!(code, Some(0));
    assert!(began.elapsed() < Duration::from_secs(4), "the end took {:?}", began.elapsed());
    assert!(gateway.log().contains("unconfirmed"), "{}", gateway.log());
    assert!(hanging.await.unwrap().is_err_or_not_accepted());
    drop(paused.resume());
}

trait NotAccepted {
    fn is_err_or_not_accepted(&self) -> bool;
}

impl NotAccepted for Result<reqwest::Response, reqwest::Error> {
    /// Nobody may be told 202 for what was never acknowledged.
    fn is_err_or_not_accepted(&self) -> bool {
        self.as_ref().map_or(true, |response| response.status() != 202)
    }
}
