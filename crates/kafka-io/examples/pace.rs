//! What a record costs this process: encoded, published and acknowledged, fetched, decoded.
//!
//! `cargo run --release -p kafka-io --example pace` starts a broker of its own and prints CPU-µs per record.
#![allow(clippy::unwrap_used, clippy::as_conversions, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

use std::{fs, sync::Arc, time::Duration};

use contracts::{Decoded, encode_request};
use domain::{
    clock::SystemClock,
    coupon::Request,
    ids::{CouponCode, MemberId, RequestId},
};
use kafka_io::{BatchLimits, CommandProducer, ConsumerSettings, GroupConsumer, GroupEvent, ProducerSettings};
use testkit::{ENVELOPE, create_topics, kafka_brokers, kafka_settings, log_key, unique};
use tokio::time::Instant;

const RECORDS: usize = 300_000;
const CALLERS: usize = 512;

/// CPU time of this process so far, in µs; the kernel counts in hundredths of a second.
fn cpu_us() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10_000
}

fn report(what: &str, started: (u64, Instant)) {
    let (cpu, wall) = (cpu_us() - started.0, started.1.elapsed().as_secs_f64());
    println!("{what:<40} {:>7.2} CPU-µs/record  {:>9.0} records/s", cpu as f64 / RECORDS as f64, RECORDS as f64 / wall);
}

fn request(coupon: &CouponCode, number: usize, admitted: bool) -> Request {
    let member = MemberId::new(format!("member-{number}")).unwrap();
    Request { id: RequestId::fresh(&SystemClock), coupon: coupon.clone(), member, admitted }
}

#[tokio::main]
async fn main() {
    let settings = kafka_settings(&kafka_brokers(), &unique("pace"));
    create_topics(&settings, 1).await;
    let (coupon, key) = (CouponCode::new("coupon-2024").unwrap(), log_key());
    for admitted in [false, true] {
        let started = (cpu_us(), Instant::now());
        for number in 0..RECORDS {
            std::hint::black_box(encode_request(&request(&coupon, number, admitted), None, &key, &ENVELOPE));
        }
        report(if admitted { "encode, signed" } else { "encode" }, started);
    }
    let producer = Arc::new(CommandProducer::new(&settings, &ProducerSettings::default()).unwrap());
    let topic: Arc<str> = settings.topics.created.as_str().into();
    let started = (cpu_us(), Instant::now());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (producer, topic, coupon, key) = (Arc::clone(&producer), Arc::clone(&topic), coupon.clone(), key.clone());
            tokio::spawn(async move {
                for number in (caller..RECORDS).step_by(CALLERS) {
                    let record = encode_request(&request(&coupon, number, true), None, &key, &ENVELOPE);
                    producer.publish(&topic, Some(0), &record).unwrap().await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    report("encode, publish, await (512 callers)", started);

    let group = ConsumerSettings { group_id: unique("pace"), ..ConsumerSettings::default() };
    let (consumer, mut events) = GroupConsumer::join(&settings, &group, &topic).unwrap();
    assert!(matches!(events.recv().await, Some(GroupEvent::Assigned(_))));
    let log = consumer.incarnation().await.unwrap();
    for decoding in [false, true] {
        let mut records = consumer.assign(&[(0, 0)]).unwrap().pop().unwrap();
        let limits = BatchLimits { records_max: 5_000, bytes_max: 4 << 20, wait: Duration::from_millis(5) };
        let started = (cpu_us(), Instant::now());
        let (mut seen, mut batches) = (0, 0);
        while seen < RECORDS {
            let batch = records.next_batch(limits).await.unwrap();
            seen += batch.len();
            batches += 1;
            if decoding {
                let usable = batch.iter().filter(|raw| matches!(contracts::decode(raw, &key, &log), Decoded::Usable(_)));
                assert_eq!(usable.count(), batch.len());
            }
        }
        report(&format!("{} ({batches} batches)", if decoding { "fetch, decode, verify" } else { "fetch" }), started);
        drop(records);
        consumer.unassign().unwrap();
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
}
