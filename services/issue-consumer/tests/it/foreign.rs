//! Producers that know nothing of us: Kafka's own console producer, and kcat, which hashes keys in another way.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use domain::{coupon::Admission, ids::CouponCode};
use testkit::World;

use crate::{harness::*, invariants};

const COUPONS: usize = 6;

async fn feed(mut command: Command, input: String) {
    let run = move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the tool");
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    tokio::task::spawn_blocking(run).await.unwrap();
}

fn lines(coupons: &[CouponCode], tool: &str) -> String {
    let line = |code: &CouponCode, n: usize| format!("{code}|{{\"userId\":\"{tool}-{n}\",\"couponId\":\"{code}\"}}\n");
    coupons.iter().flat_map(|code| (0..5).map(move |n| line(code, n))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_producer_and_kcat_get_coupons() {
    let world = World::new("foreign").await;
    let (writer, sql) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url));
    let coupons: Vec<CouponCode> = (0..COUPONS).map(|_| world.coupon("foreign")).collect();
    for coupon in &coupons {
        writer.define(coupon, Admission::Queued, 8).await;
    }
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM coupon", i64::try_from(COUPONS).unwrap()).await;
    let (brokers, topic) = (world.kafka.brokers.as_str(), world.kafka.topics.created.as_str());
    let mut console = stack::kafka::tool("org.apache.kafka.tools.ConsoleProducer").expect("Kafka's jars");
    console.args(["--bootstrap-server", brokers, "--topic", topic]);
    console.args(["--property", "parse.key=true", "--property", "key.separator=|"]);
    feed(console, lines(&coupons, "console")).await;
    let mut kcat = Command::new("kcat");
    kcat.args(["-P", "-b", brokers, "-t", topic, "-K", "|"]);
    feed(kcat, lines(&coupons, "kcat")).await;
    for coupon in &coupons {
        sql.until_rows(coupon, 10).await;
        assert_eq!(sql.outcomes(coupon, "issued").await, 8);
        assert_eq!(sql.outcomes(coupon, "sold_out").await, 2);
    }
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}
