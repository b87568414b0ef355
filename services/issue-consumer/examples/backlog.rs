//! Works off a backlog with a release binary beside it, and holds the time against a COPY of the same rows.
//!
//! `cargo build --release -p issue-consumer && cargo run --release -p issue-consumer --example backlog -- 300000 300000 6`
//! (requests and seats in all, busy partitions). It starts servers of its own. `make bench` is the measurement; this is for looking into
//! one part of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::print_stdout,
    missing_docs
)]

use std::{collections::BTreeMap, time::Instant};

use contracts::{encode_define, encode_request};
use domain::{
    clock::SystemClock,
    coupon::{Admission, Define, Request},
    ids::{CommandId, CouponCode, MemberId, RequestId},
};
use kafka_io::{CommandProducer, Delivery, ProducerSettings, PublishError};
use redis_io::{Gate, GateRules, LoadToken, RedisSettings};
use stack::{Kafka, Lifetime, Postgres, Redis, ServiceProcess, ports, postgres::Durability};
use testkit::{ENVELOPE, LOG_SECRET, TestFolder, create_topics, kafka_settings, log_key};

const LEDGER: &str = "coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, admitted, outcome, sequence, \
     issued_request_id, decided_at";

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u32>().expect("a number"));
    let (requests, seats) = (arguments.next().unwrap_or(300_000), arguments.next().unwrap_or(300_000));
    let partitions = i32::try_from(arguments.next().unwrap_or(1)).expect("few partitions");
    let folder = TestFolder::new("backlog");
    let start = |name: &str| folder.path().join(name);
    let postgres = Postgres::start(&start("postgres"), ports::free().unwrap(), Durability::Full, Lifetime::Owned).unwrap();
    let redis = Redis::start(&start("redis"), ports::free().unwrap(), Lifetime::Owned).unwrap();
    let kafka = Kafka::start(&start("kafka"), ports::free().unwrap(), ports::free().unwrap(), Lifetime::Owned).unwrap();
    let settings = kafka_settings(&kafka.brokers(), "backlog");
    create_topics(&settings, partitions).await;
    let database = postgres_io::PostgresSettings { url: postgres.url().into(), ..postgres_io::PostgresSettings::default() };
    postgres_io::migrate(&database).await.expect("migrations");
    let (sql, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);

    let codes: Vec<CouponCode> = (0..partitions).map(|n| CouponCode::new(format!("backlog-{n}")).unwrap()).collect();
    let share = i64::from(seats) / i64::from(partitions);
    let ends = fill(&settings, &codes, requests, share).await;
    let gate = Gate::connect(&RedisSettings { url: redis.url().into(), ..RedisSettings::default() }).await.unwrap();
    for (partition, code) in (0..).zip(&codes) {
        open_gate(&gate, code, partition, share).await;
    }

    let port = ports::free().unwrap();
    let topics = &settings.topics;
    let values = [
        ("HTTP__LISTEN", format!("127.0.0.1:{port}")),
        ("KAFKA__BROKERS", kafka.brokers()),
        ("KAFKA__TOPICS__CREATED", topics.created.clone()),
        ("KAFKA__TOPICS__ISSUED", topics.issued.clone()),
        ("KAFKA__TOPICS__REJECTED", topics.rejected.clone()),
        ("KAFKA__TOPICS__DEAD_LETTER", topics.dead_letter.clone()),
        ("POSTGRES__URL", postgres.url()),
        ("REDIS__URL", redis.url()),
        ("KEYS__LOG_SIGNING", LOG_SECRET.to_owned()),
    ];
    let mut environment: BTreeMap<String, String> =
        values.into_iter().map(|(name, value)| (format!("ISSUE_CONSUMER__{name}"), value)).collect();
    environment.extend(std::env::vars().filter(|(name, _)| name.starts_with("ISSUE_CONSUMER__")));
    let binary = stack::paths::binaries("release").unwrap().join("issue-consumer");
    let pids: Vec<(&str, u32)> = children();
    let before: Vec<f64> = pids.iter().map(|(_, pid)| cpu(*pid)).collect();
    let log = folder.path().join("consumer.log");
    let mut consumer = ServiceProcess::spawn("issue-consumer", &binary, &environment, port, &log, Lifetime::Owned).unwrap();
    let pid = children().into_iter().find(|(_, pid)| !pids.iter().any(|(_, known)| known == pid)).expect("the consumer").1;
    let position = async |table: &str| -> i64 {
        let query = format!("SELECT coalesce(sum(next_offset), 0)::bigint FROM {table} WHERE topic = $1");
        sql.query_one(&query, &[&topics.created]).await.unwrap().get(0)
    };
    let end: i64 = ends.iter().sum();
    let mut first = None;
    let (mut decided_in, mut published_in) = (None, None);
    loop {
        let decided = position("consumer_position").await;
        if decided > 0 && first.is_none() {
            first = Some((Instant::now(), decided));
        }
        let took = first.map(|(at, _)| at.elapsed());
        if decided >= end {
            decided_in = decided_in.or(took);
            if position("publisher_position").await >= end {
                published_in = published_in.or(took);
            }
            if published_in.is_some() && all_settled(&gate, &codes, &ends).await {
                break;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let (at, from) = first.unwrap();
    let took = at.elapsed();
    let ours = (end - from) as f64 / took.as_secs_f64();
    println!("decided after {decided_in:?}, announced after {published_in:?}, all after {took:?}: {ours:.0} rows/s");
    for ((name, pid), before) in pids.iter().zip(before) {
        println!("  CPU of {name}: {:.2} s", cpu(*pid) - before);
    }
    println!("  CPU of issue-consumer: {:.2} s, {}", cpu(pid), high_water(pid));
    let metrics = metrics(port);
    for name in ["batches_total", "batch_seconds_sum", "published_total", "decided_again", "retries"] {
        metrics.lines().filter(|line| line.contains(name) && !line.starts_with('#')).for_each(|line| println!("  {line}"));
    }
    consumer.kill();
    drop(consumer);

    sql.batch_execute(&format!("CREATE TABLE kept AS SELECT {LEDGER} FROM coupon_request ORDER BY log_offset")).await.unwrap();
    let mut rates = Vec::new();
    for _ in 0..3 {
        let rate = copy_all(&sql).await;
        println!("COPY: {rate:.0} rows/s");
        rates.push(rate);
    }
    rates.sort_by(f64::total_cmp);
    println!("ratio {:.2}", ours / rates[1]);
}

/// Defines a coupon on each partition and asks for them in turn; the end of each partition.
async fn fill(settings: &kafka_io::KafkaSettings, codes: &[CouponCode], requests: u32, seats: i64) -> Vec<i64> {
    let producer = CommandProducer::new(settings, &ProducerSettings::default()).unwrap();
    let topic = &settings.topics.created;
    for (partition, code) in (0..).zip(codes) {
        let define = Define {
            id: CommandId::fresh(&SystemClock),
            coupon: code.clone(),
            actor: "backlog".to_owned(),
            name: "Backlog".to_owned(),
            admission: Admission::Reserved,
            total: seats,
            opens_at: None,
            closes_at: None,
        };
        producer.publish(topic, Some(partition), &encode_define(&define, &log_key(), &ENVELOPE)).unwrap().await.unwrap();
    }
    let mut last: Vec<Option<Delivery>> = codes.iter().map(|_| None).collect();
    for n in 0..requests {
        let (at, partition) = (n as usize % codes.len(), (n as usize % codes.len()) as i32);
        let member = MemberId::new(format!("member-{n}")).unwrap();
        let request = Request { id: RequestId::fresh(&SystemClock), coupon: codes[at].clone(), member, admitted: false };
        let record = encode_request(&request, None, &log_key(), &ENVELOPE);
        last[at] = Some(loop {
            match producer.publish(topic, Some(partition), &record) {
                Ok(delivery) => break delivery,
                Err(PublishError::Refused(_)) => tokio::time::sleep(std::time::Duration::from_millis(2)).await,
                Err(error) => panic!("{error}"),
            }
        });
    }
    let mut ends = Vec::new();
    for delivery in last {
        ends.push(delivery.unwrap().await.unwrap().offset + 1);
    }
    ends
}

async fn open_gate(gate: &Gate, code: &CouponCode, partition: i32, total: i64) {
    let token = LoadToken::new(CommandId::fresh(&SystemClock).uuid());
    let rules = GateRules::always_open(total, partition);
    assert!(gate.begin_load(code, token).await.unwrap());
    gate.open(code, token, &rules, 0).await.unwrap().expect("it opens");
}

async fn all_settled(gate: &Gate, codes: &[CouponCode], ends: &[i64]) -> bool {
    for (code, end) in codes.iter().zip(ends) {
        if gate.status(code).await.unwrap().cursor.is_none_or(|cursor| cursor < *end) {
            return false;
        }
    }
    true
}

/// COPY of the same rows into the same, empty table, in one transaction.
async fn copy_all(sql: &tokio_postgres::Client) -> f64 {
    use futures::{SinkExt, TryStreamExt};
    let kept = sql.copy_out(&format!("COPY (SELECT {LEDGER} FROM kept) TO STDOUT (FORMAT binary)")).await.unwrap();
    let rows: Vec<bytes::Bytes> = kept.try_collect().await.unwrap();
    let count: i64 = sql.query_one("SELECT count(*) FROM kept", &[]).await.unwrap().get(0);
    sql.batch_execute("TRUNCATE coupon_request; CHECKPOINT").await.unwrap();
    let started = Instant::now();
    let sink = sql.copy_in(&format!("COPY coupon_request ({LEDGER}) FROM STDIN (FORMAT binary)")).await.unwrap();
    futures::pin_mut!(sink);
    for part in rows {
        sink.feed(part).await.unwrap();
    }
    sink.finish().await.unwrap();
    count as f64 / started.elapsed().as_secs_f64()
}

/// The servers that this process started.
fn children() -> Vec<(&'static str, u32)> {
    let me = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)) == Some(me.as_str()) {
            let name = ["postgres", "redis", "java"].into_iter().find(|name| stat.contains(&format!("({name}")));
            found.push((name.unwrap_or("other"), pid));
        }
    }
    found
}

fn metrics(port: u16) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// CPU seconds of a process and all below it, ended ones included.
fn cpu(pid: u32) -> f64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let own: f64 = fields[11..15].iter().map(|ticks| ticks.parse::<f64>().unwrap() / 100.0).sum();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    own + children.split_whitespace().map(|child| cpu(child.parse().unwrap())).sum::<f64>()
}

fn high_water(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("").split_whitespace().collect::<Vec<_>>().join(" ")
}
