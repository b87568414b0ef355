//! A consumer in this process, the command as a process, and SQL.

use std::{collections::BTreeMap, process::Output, time::Duration};

use contracts::Encoded;
use domain::ids::CouponCode;
use kafka_io::LogClient;
use testkit::{Running, World, eventually_some, member};
use trueup_cli::{
    audit::{Report, audit},
    settings::Settings,
};

/// Longer than anything here takes, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A consumer in this process.
pub async fn start_consumer(world: &World) -> Running<anyhow::Error> {
    testkit::start("ISSUE_CONSUMER", &world.consumer_environment(), issue_consumer::Service::new, issue_consumer::Service::run)
        .await
}

/// What a foreign producer sends: JSON, key = coupon, no headers.
pub fn foreign(code: &CouponCode, number: usize) -> Encoded {
    let value = format!("{{\"userId\":\"{}\",\"couponId\":\"{code}\"}}", member(number));
    Encoded::new(Some(code.as_str().as_bytes()), Some(value.as_bytes()), 0)
}

/// The command's environment in a world.
pub fn environment(world: &World) -> BTreeMap<String, String> {
    world.environment("TRUEUP")
}

pub fn settings(world: &World) -> Settings {
    testkit::settings("TRUEUP", &environment(world))
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
