//! Producers in other languages: Kafka's own console producer (the Java client) and kcat (librdkafka's default hash).

use std::{
    io::Write,
    process::{Command, Stdio},
};

use contracts::{RawRecord, decode};
use domain::{coupon::LogIncarnation, ids::RequestId};
use kafka_io::{KafkaSettings, LogClient};
use testkit::{log_key, read_all};

use crate::support::{producer, requested, topics};

const JSON: &str = r#"{"userId":"user-1234","couponId":"coupon-2024"}"#;

async fn feed(mut command: Command, input: String) {
    let run = move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

async fn find(settings: &KafkaSettings, partitions: i32) -> (contracts::RecordBatch, LogIncarnation) {
    let topic = &settings.topics.created;
    let mut found = contracts::RecordBatch::new();
    for partition in 0..partitions {
        for raw in read_all(settings, topic, partition).await.iter() {
            found.push_raw(&raw);
        }
    }
    (found, LogClient::new(settings).unwrap().incarnation(topic).await.unwrap())
}

fn check(raw: &RawRecord<'_>, log: &LogIncarnation) {
    let request = requested(decode(raw, &log_key(), log));
    assert_eq!((request.coupon.as_str(), request.member.as_str()), ("coupon-2024", "user-1234"));
    assert!(!request.admitted);
    assert_eq!(request.id, RequestId::from_first_landing(&log.to_string(), raw.partition, raw.offset));
}

#[tokio::test(flavor = "multi_thread")]
async fn kafkas_console_producer_is_understood_and_hashes_as_we_do() {
    let settings = topics("console", 12).await;
    let mut command = stack::kafka::tool("org.apache.kafka.tools.ConsoleProducer").unwrap();
    command.args(["--bootstrap-server", &settings.brokers, "--topic", &settings.topics.created]);
    command.args(["--property", "parse.key=true", "--property", "key.separator=|"]);
    let mut input = format!("coupon-2024|{JSON}\n");
    for number in 0..50 {
        input.push_str(&format!("key-{number}|{{\"userId\":{number},\"couponId\":\"key-{number}\"}}\n"));
    }
    feed(command, input).await;
    let (found, log) = find(&settings, 12).await;
    assert_eq!(found.len(), 51);
    for raw in found.iter() {
        let key = raw.key.unwrap();
        assert_eq!(raw.partition, contracts::partition_of(key, 12), "{}", String::from_utf8_lossy(key));
        if key == b"coupon-2024" {
            check(&raw, &log);
        } else {
            let request = requested(decode(&raw, &log_key(), &log));
            assert_eq!(request.coupon.as_str().as_bytes(), key);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kcat_is_understood_and_its_record_keeps_its_id_when_it_is_forwarded() {
    let settings = topics("kcat", 12).await;
    let topic = settings.topics.created.clone();
    let mut command = Command::new("kcat");
    command.args(["-P", "-b", &settings.brokers, "-t", &topic, "-K", "|", "-H", "x-team=shop"]);
    let mut input = format!("coupon-2024|{JSON}\n");
    for number in 0..50 {
        input.push_str(&format!("key-{number}|{{\"memberId\":\"m\",\"couponId\":\"key-{number}\"}}\n"));
    }
    feed(command, input).await;
    let (found, log) = find(&settings, 12).await;
    assert_eq!(found.len(), 51);
    // librdkafka's own tools hash by CRC32: this is why records are forwarded.
    let elsewhere = found.iter().filter(|raw| raw.partition != contracts::partition_of(raw.key.unwrap(), 12)).count();
    assert!(elsewhere > 0, "kcat hashes as Java does now; forwarding is not needed any more?");

    let raw = found.iter().find(|raw| raw.key == Some(b"coupon-2024")).unwrap();
    check(&raw, &log);
    let request = requested(decode(&raw, &log_key(), &log));
    let home = contracts::partition_of(b"coupon-2024", 12);
    let copy = contracts::forwarded(&raw, Some(request.id));
    let place = producer(&settings).publish(&topic, Some(home), &copy).unwrap().await.unwrap();
    let there = read_all(&settings, &topic, home).await;
    let arrived = there.iter().find(|raw| raw.offset == place.offset).unwrap();
    assert_eq!((arrived.key, arrived.value), (raw.key, raw.value));
    assert_eq!(arrived.headers.text("x-team"), Some("shop"));
    assert_eq!(contracts::origin_of(&arrived), raw.place());
    assert_eq!(requested(decode(&arrived, &log_key(), &log)), request);
}

/// kcat takes any bytes as a header's name. The safe wrapper of the client panics on these.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_name_that_is_no_text_is_carried_and_harms_nobody() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let settings = topics("bytes", 1).await;
    let topic = settings.topics.created.clone();
    let mut command = Command::new("kcat");
    command.args(["-P", "-b", &settings.brokers, "-t", &topic, "-p", "0", "-H"]);
    command.arg(OsStr::from_bytes(b"\xff\xfe=\x80"));
    feed(command, format!("{JSON}\n")).await;
    let (found, log) = find(&settings, 1).await;
    let raw = found.first().unwrap();
    assert_eq!(raw.headers.get(""), None);
    assert_eq!(raw.headers.iter().next(), Some((&b"\xff\xfe"[..], Some(&b"\x80"[..]))));
    check(&raw, &log);
    let place = producer(&settings).publish(&topic, Some(0), &contracts::forwarded(&raw, None)).unwrap().await.unwrap();
    let there = read_all(&settings, &topic, 0).await;
    let arrived = there.iter().find(|raw| raw.offset == place.offset).unwrap();
    assert_eq!(arrived.headers.iter().next(), Some((&b"\xff\xfe"[..], Some(&b"\x80"[..]))));
}
