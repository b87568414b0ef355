//! A gateway of a test's own, and small words for asking it.

use std::{path::Path, time::Duration};

use contracts::{Decoded, decode, partition_of};
use domain::{
    coupon::{Admission, Body, LogIncarnation, Request},
    ids::{CouponCode, MemberId},
};
use redis_io::{Gate, GateRules, LoadToken, RedisSettings};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::Value;
use stack::{Lifetime, ServiceProcess, ports};
use testkit::{TestFolder, World, log_key, read_all};

/// Longer than anything here takes, short enough to fail a test in time.
pub const SOON: Duration = Duration::from_secs(20);

/// A running gateway; killed when dropped.
pub struct Gateway {
    // Declared first, so that the process has ended before its folder goes.
    pub process: ServiceProcess,
    pub url: String,
    pub client: Client,
    _folder: TestFolder,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Status and stable code of an error.
    pub fn problem(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

impl Gateway {
    pub async fn start(world: &World) -> Self {
        Self::start_with(world, &[]).await
    }

    /// With further settings, written as `HTTP__LISTEN` without the prefix.
    pub async fn start_with(world: &World, settings: &[(&str, &str)]) -> Self {
        service_kit::install_crypto_provider();
        let port = ports::free().unwrap();
        let mut environment = world.gateway_environment(port);
        testkit::add(&mut environment, "COUPON_GATEWAY", &[("HTTP__WORKERS", "2")]);
        testkit::add(&mut environment, "COUPON_GATEWAY", settings);
        let folder = TestFolder::new("gateway");
        let binary = Path::new(env!("CARGO_BIN_EXE_coupon-gateway"));
        let log = folder.path().join("gateway.log");
        let mut process = ServiceProcess::spawn("gateway", binary, &environment, port, &log, Lifetime::Owned).unwrap();
        let process = tokio::task::spawn_blocking(move || {
            process.wait_ready().unwrap();
            process
        });
        let client = Client::builder().timeout(SOON).build().unwrap();
        Self { process: process.await.unwrap(), url: format!("http://127.0.0.1:{port}"), client, _folder: folder }
    }

    /// What the process wrote.
    pub fn log(&mut self) -> String {
        std::fs::read_to_string(self.process.process().log()).unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        let answer = Answer::of(self.client.get(format!("{}{path}", self.url)).send().await.unwrap()).await;
        crate::openapi_contract::hold("GET", path, &answer);
        answer
    }

    /// Asks for a coupon with a JSON body and headers.
    pub async fn post(&self, coupon: &str, body: impl Into<String>, headers: &[(&str, &str)]) -> Answer {
        let url = format!("{}/v1/coupons/{coupon}/requests", self.url);
        let mut request = self.client.request(Method::POST, url).header("content-type", "application/json").body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = Answer::of(request.send().await.unwrap()).await;
        crate::openapi_contract::hold("POST", &format!("/v1/coupons/{coupon}/requests"), &answer);
        answer
    }

    /// Asks for a coupon.
    pub async fn ask(&self, coupon: &CouponCode, member: &str) -> Answer {
        self.post(coupon.as_str(), format!(r#"{{"memberId":"{member}"}}"#), &[]).await
    }

    /// A metric's value; 0 where it was never written.
    pub async fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics").await.text;
        let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

/// Asserts 202 and gives the answer.
pub fn accepted(answer: &Answer) -> Value {
    assert_eq!(answer.status, StatusCode::ACCEPTED.as_u16(), "{}", answer.text);
    answer.json()
}

/// A coupon as the consumer would have defined it.
pub async fn define(world: &World, coupon: &CouponCode, admission: Admission, total: i64) -> i32 {
    let partition = partition_of(coupon.as_str().as_bytes(), 4);
    sql(
        world,
        &format!(
            "INSERT INTO coupon (coupon_code, name, admission, partition, total_quantity, rules_offset, defined_by)
             VALUES ('{coupon}', 'A coupon', '{}', {partition}, {total}, 0, 'test')",
            admission.as_str()
        ),
    )
    .await;
    partition
}

/// Opens the gate of a reserved coupon, as the reconciler would.
pub async fn open_gate(redis_url: &str, coupon: &CouponCode, total: i64) -> Gate {
    let gate = Gate::connect(&RedisSettings { url: redis_url.into(), ..RedisSettings::default() }).await.unwrap();
    let rules = GateRules::always_open(total, partition_of(coupon.as_str().as_bytes(), 4));
    let token = LoadToken::new(uuid::Uuid::from_u128(7));
    assert!(gate.begin_load(coupon, token).await.unwrap());
    assert!(gate.open(coupon, token, &rules, 0).await.unwrap().is_some());
    gate
}

/// What a request's place in the log was decided as, written as the consumer would.
pub async fn decide(world: &World, answer: &Value, outcome: &str, sequence: Option<i64>) {
    let sequence = sequence.map_or("NULL".to_owned(), |sequence| sequence.to_string());
    let coupon = answer["couponCode"].as_str().unwrap();
    sql(
        world,
        &format!(
            "INSERT INTO coupon_request (coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at,
                 admitted, outcome, sequence)
             VALUES ('{coupon}', '{}', '{}', {}, 0, 0, now(), true, '{outcome}', {sequence});
             UPDATE coupon SET issued_quantity = issued_quantity + ({sequence} IS NOT NULL)::int WHERE coupon_code = '{coupon}'",
            answer["requestId"].as_str().unwrap(),
            answer["memberId"].as_str().unwrap(),
            partition_of(coupon.as_bytes(), 4)
        ),
    )
    .await;
}

/// Runs SQL in the world's database.
pub async fn sql(world: &World, statement: &str) -> String {
    let (name, statement) = (world.name.clone(), statement.to_owned());
    tokio::task::spawn_blocking(move || testkit::postgres().psql(&name, &statement).unwrap()).await.unwrap()
}

/// Every request in a partition of the log, in its order.
pub async fn requests_in(world: &World, partition: i32) -> Vec<Request> {
    let log = LogIncarnation { cluster_id: "test".to_owned(), topic_id: "test".to_owned() };
    let records = read_all(&world.kafka, &world.kafka.topics.created, partition).await;
    let decoded = records.iter().map(|raw| decode(&raw, &log_key(), &log));
    decoded
        .filter_map(|decoded| match decoded {
            Decoded::Usable(record) => match record.body {
                Body::Request(request) => Some(request),
                _ => None,
            },
            other => panic!("an unusable record: {other:?}"),
        })
        .collect()
}

pub fn member(id: &str) -> MemberId {
    MemberId::new(id).unwrap()
}
