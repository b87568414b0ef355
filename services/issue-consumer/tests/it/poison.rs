//! Records that cannot be used cost nobody else anything, and are kept with their cause.

use std::collections::BTreeMap;

use contracts::{Encoded, names};
use domain::{
    coupon::{Admission, Change},
    ids::CouponCode,
};
use testkit::{World, eventually, read_all};

use crate::{harness::*, invariants};

/// Cause → how many dead letters, by what they say of themselves.
async fn dead_letters(world: &World, partitions: i32) -> BTreeMap<String, usize> {
    let mut causes = BTreeMap::new();
    for partition in 0..partitions {
        for raw in read_all(&world.kafka, &world.kafka.topics.dead_letter, partition).await.iter() {
            *causes.entry(raw.headers.text(names::CAUSE).expect("a cause").to_owned()).or_default() += 1;
        }
    }
    causes
}

fn json(key: &CouponCode, text: &str) -> Encoded {
    Encoded::new(Some(key.as_str().as_bytes()), Some(text.as_bytes()), 0)
}

fn changed(record: &Encoded, value: Option<&[u8]>, event_type: Option<&str>) -> Encoded {
    let mut copy = Encoded::new(record.key(), value.or(record.value()), 8);
    for (name, old) in record.headers() {
        let new = event_type.filter(|_| name == names::CE_TYPE.as_bytes()).map(str::as_bytes);
        copy.push_header(name, new.or(old));
    }
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_in_the_middle_of_a_batch_costs_only_itself() {
    let metrics = service_kit::metrics::install().unwrap();
    let world = World::new("poison").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("poison"));
    let home = writer.define(&coupon, Admission::Queued, 1_000).await;
    let good = encoded(&request(&coupon, 500));
    let truncated = good.value().map(|value| value[..value.len() - 3].to_vec()).unwrap();
    let mut unsigned = encoded_change(&Change { end: true, ..change(&coupon) });
    unsigned.retain_headers(|name| name != names::SIGNATURE.as_bytes());
    let poison = [
        ("bad_id", json(&coupon, &format!(r#"{{"userId":"nul\u0000","couponId":"{coupon}"}}"#))),
        ("bad_id", json(&coupon, &format!(r#"{{"userId":"{}","couponId":"{coupon}"}}"#, "x".repeat(65)))),
        ("unknown_type", changed(&good, None, Some("trueup.coupon.v9.Whatever"))),
        ("bad_protobuf", changed(&encoded(&request(&coupon, 501)), Some(&truncated), None)),
        ("bad_json", json(&coupon, r#"{"userId":"user-1","#)),
        ("bad_signature", unsigned),
    ];
    let mut log = asks(&coupon, 0..100);
    let mut expected = BTreeMap::new();
    for (n, (cause, record)) in poison.into_iter().enumerate() {
        log.insert(20 + 10 * n, record);
        *expected.entry(cause.to_owned()).or_insert(0_usize) += 1;
    }
    writer.put_all(home, log).await;
    let consumer = Consumer::start(&world).await;
    sql.until(&format!("SELECT next_offset FROM consumer_position WHERE partition = {home}"), 107).await;
    assert_eq!(sql.outcomes(&coupon, "issued").await, 100);
    assert_eq!(sql.number("SELECT count(*) FROM coupon WHERE ended").await, 0, "nobody ends a coupon without a signature");
    assert_eq!(dead_letters(&world, writer.partitions).await, expected);
    for (cause, count) in &expected {
        let noted = format!("SELECT count(*) FROM dead_letter WHERE partition = {home} AND cause = '{cause}'");
        assert_eq!(sql.number(&noted).await, i64::try_from(*count).unwrap(), "{cause}");
    }
    // An alert on their increase sees the first one of each cause, because they are there before; this cause is none of a coupon's records.
    let metrics = metrics.render();
    assert!(metrics.contains("trueup_consumer_passed_on_total{way=\"payment_taken\"} 0"), "{metrics}");
    // The truncated request still names its id in the envelope, so that one is final.
    assert_eq!(sql.outcomes(&coupon, "unprocessable").await, unprocessable(&sql).await);
    assert!(sql.outcomes(&coupon, "unprocessable").await >= 1);
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

async fn unprocessable(sql: &Sql) -> i64 {
    sql.number("SELECT count(*) FROM dead_letter WHERE request_id IS NOT NULL AND coupon_code IS NOT NULL").await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_keep_bytes_headers_and_place() {
    let world = World::new("letters").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("letters"));
    let mut broken = json(&coupon, "not json");
    broken.push_header(b"x-binary", Some(&[0, 255, 7]));
    let place = writer.put(0, &broken).await;
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM dead_letter", 1).await;
    let partition = i32::try_from(sql.number("SELECT dlt_partition::bigint FROM dead_letter").await).unwrap();
    let letters = read_all(&world.kafka, &world.kafka.topics.dead_letter, partition).await;
    let letter = letters.iter().find(|raw| raw.offset == 0).expect("a dead letter");
    assert_eq!((letter.key, letter.value), (broken.key(), broken.value()));
    assert_eq!(letter.headers.get("x-binary"), Some(&[0_u8, 255, 7][..]));
    assert_eq!(letter.headers.text(names::ORIGIN), Some(place.to_string().as_str()));
    assert_eq!(sql.number("SELECT dlt_offset FROM dead_letter").await, letter.offset);
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_coupon_is_refused_where_it_would_be_and_only_there() {
    let world = World::new("unknown").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("unknown"));
    let home = writer.home(&coupon);
    writer.put((home + 1) % writer.partitions, &encoded(&request(&coupon, 1))).await;
    let consumer = Consumer::start(&world).await;
    sql.until_rows(&coupon, 1).await;
    assert_eq!(sql.outcomes(&coupon, "unprocessable").await, 1);
    let noted = format!("SELECT count(*) FROM dead_letter WHERE cause = 'unknown_coupon' AND partition = {home}");
    assert_eq!(sql.number(&noted).await, 1);
    assert_eq!(sql.number("SELECT count(*) FROM dead_letter").await, 1);
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_database_refuses_costs_one_row() {
    let world = World::new("refused").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("refused"));
    // A guard that somebody added, which this code knows nothing of.
    sql.execute("ALTER TABLE coupon_request ADD CHECK (member_id <> 'member-37' OR outcome = 'unprocessable')").await;
    sql.execute("ALTER TABLE coupon_request ADD CHECK (member_id <> 'member-61')").await;
    let banned = request(&coupon, 83).id;
    sql.execute(&format!("ALTER TABLE coupon_request ADD CHECK (request_id <> '{banned}')")).await;
    let home = writer.define(&coupon, Admission::Queued, 1_000).await;
    writer.put_all(home, asks(&coupon, 0..100)).await;
    let consumer = Consumer::start(&world).await;
    sql.until(&format!("SELECT next_offset FROM consumer_position WHERE partition = {home}"), 101).await;
    assert_eq!(sql.outcomes(&coupon, "issued").await, 97);
    let nameless = "SELECT count(*) FROM coupon_request WHERE outcome = 'unprocessable' AND member_id IS NULL";
    assert_eq!(sql.number(nameless).await, 1, "final without the member that was refused");
    assert_eq!(sql.outcomes(&coupon, "unprocessable").await, 2, "two are final, one could not even be that");
    assert_eq!(sql.number("SELECT count(*) FROM dead_letter WHERE cause = 'refused_by_database'").await, 3);
    let letters = || async { dead_letters(&world, writer.partitions).await.get("refused_by_database").copied() == Some(3) };
    eventually(PATIENCE, "all are in the dead letter topic", letters).await;
    assert_eq!(sql.number(&format!("SELECT issued_quantity FROM coupon WHERE coupon_code = '{coupon}'")).await, 97);
    consumer.stop().await;
}
