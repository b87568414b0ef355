//! Final failures: the outcome first, then the seat, each once; and nothing that waits for a topic is lost.

use contracts::{Encoded, names};
use domain::{
    coupon::{Admission, Request},
    ids::{CouponCode, RequestId},
};
use kafka_io::{LogClient, topics};
use redis_io::{Gate, Reserve};
use testkit::{World, create_topics, eventually, read_all};

use crate::{gates::*, harness::*, invariants};

/// As the gateway sends a request that has its reservation: signed as admitted.
fn admitted(request: &Request) -> Encoded {
    encoded(&Request { admitted: true, ..request.clone() })
}

async fn reserve(gate: &Gate, coupon: &CouponCode, request: &Request) -> Reserve {
    gate.reserve(coupon, &[(request.member.clone(), request.id)]).await.expect("Redis answers").remove(0)
}

/// The record as a broken producer would have written it: the envelope is fine, the value ends too early.
fn truncated(record: &Encoded) -> Encoded {
    let value = record.value().expect("a value");
    let mut copy = Encoded::new(record.key(), Some(&value[..value.len() - 3]), 8);
    for (name, value) in record.headers() {
        copy.push_header(name, value);
    }
    copy
}

async fn failed(sql: &Sql, coupon: &CouponCode, request: RequestId) -> i64 {
    let query = format!(
        "SELECT count(*) FROM failed_coupon_issue WHERE coupon_code = '{coupon}' AND request_id = '{request}' \
         AND reason = 'unprocessable' AND failed_at IS NOT NULL"
    );
    sql.number(&query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_used_gives_its_seat_back_once() {
    let world = World::new("compensation").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("compensation"));
    // Three that the database refuses: with the row, with the member in it, and not at all; and one whose value cannot be read.
    sql.execute("ALTER TABLE coupon_request ADD CHECK (member_id <> 'member-1' OR outcome = 'unprocessable')").await;
    sql.execute("ALTER TABLE coupon_request ADD CHECK (member_id <> 'member-2')").await;
    let home = writer.define(&coupon, Admission::Reserved, 4).await;
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM coupon", 1).await;
    let gate = gate(&world.redis_url).await;
    open_gate(&gate, &sql, &coupon, home, 4).await;
    let lost: Vec<Request> = (1..4).map(|n| request(&coupon, n)).collect();
    let good = request(&coupon, 4);
    for request in lost.iter().chain([&good]) {
        assert!(matches!(reserve(&gate, &coupon, request).await, Reserve::Reserved { .. }));
    }
    assert_eq!(reserve(&gate, &coupon, &request(&coupon, 9)).await, Reserve::SoldOut);
    let records = [admitted(&lost[0]), admitted(&lost[1]), truncated(&admitted(&lost[2])), admitted(&good)];
    writer.put_all(home, records.clone()).await;
    until_settled(&gate, &sql, &coupon, home, 1, 0).await;
    for request in &lost {
        assert_eq!(failed(&sql, &coupon, request.id).await, 1, "{request:?}");
    }
    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.total, status.stock), (Some(4), Some(3)), "three seats are free again");

    // Others take them; then the lost records come once more, whole by now: their outcome stays, and nobody loses a seat by it.
    let others: Vec<Request> = (11..14).map(|n| request(&coupon, n)).collect();
    for request in &others {
        assert!(matches!(reserve(&gate, &coupon, request).await, Reserve::Reserved { .. }));
    }
    writer.put_all(home, lost.iter().chain(&others).map(admitted)).await;
    until_settled(&gate, &sql, &coupon, home, 4, 0).await;
    let issued = sql.number(&format!("SELECT issued_quantity FROM coupon WHERE coupon_code = '{coupon}'")).await;
    assert_eq!((issued, sql.outcomes(&coupon, "unprocessable").await), (4, 3), "every seat has found somebody");
    assert_eq!(gate.status(&coupon).await.unwrap().stock, Some(0));
    consumer.stop().await;
    invariants::counted(&sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_of_somebody_else_outlives_a_refusal_that_names_nobody() {
    let world = World::new("unnamed").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("unnamed"));
    let home = writer.define(&coupon, Admission::Reserved, 2).await;
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM coupon", 1).await;
    let gate = gate(&world.redis_url).await;
    open_gate(&gate, &sql, &coupon, home, 2).await;
    let (reserved, unknown) = (request(&coupon, 1), request(&coupon, 2));
    assert!(matches!(reserve(&gate, &coupon, &reserved).await, Reserve::Reserved { .. }));
    writer.put(home, &truncated(&admitted(&unknown))).await;
    until_settled(&gate, &sql, &coupon, home, 1, 1).await;
    assert_eq!(reserve(&gate, &coupon, &reserved).await, Reserve::Pending(reserved.id));
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_position_waits_for_the_dead_letter_topic_and_nobody_else_does() {
    let world = World::new("no-letters").await;
    let (writer, sql) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url));
    let waiting = world.coupon("waiting");
    let other = std::iter::repeat_with(|| world.coupon("other")).find(|code| writer.home(code) != writer.home(&waiting)).unwrap();
    let home = writer.define(&waiting, Admission::Queued, 100).await;
    let other_home = writer.define(&other, Admission::Queued, 100).await;
    let client = LogClient::new(&world.kafka).unwrap();
    topics::delete(&client, &[&world.kafka.topics.dead_letter]).await.unwrap();
    let gone = || async { client.partition_count(&world.kafka.topics.dead_letter).await.is_err() };
    eventually(PATIENCE, "the topic is gone", gone).await;

    let environment = {
        // The first batch ends before the poison, so that it can be told how far the position may go.
        let mut environment = environment(&world);
        environment.insert("ISSUE_CONSUMER__PRODUCER__DELIVERY_TIMEOUT_MS".to_owned(), "1000".to_owned());
        environment
    };
    let consumer = Consumer::with(&environment).await;
    writer.put_all(home, asks(&waiting, 0..10)).await;
    sql.until_rows(&waiting, 10).await;
    let poison = writer.put(home, &truncated(&encoded(&request(&waiting, 50)))).await;
    writer.put_all(home, asks(&waiting, 10..20)).await;
    let tried = "SELECT count(*) FROM coupon_request";
    for round in 0..3 {
        // Each is decided while the other partition waits; by the third, the letter was refused more than once.
        writer.put_all(other_home, asks(&other, round * 10..round * 10 + 10)).await;
        sql.until(tried, 20 + 10 * i64::try_from(round).unwrap()).await;
    }
    let position = format!("SELECT next_offset FROM consumer_position WHERE partition = {home}");
    assert_eq!(sql.number(&position).await, poison.offset, "nothing is skipped");
    assert!(consumer.board.alarms().is_empty());

    create_topics(&world.kafka, writer.partitions).await;
    sql.until(&position, poison.offset + 11).await;
    assert_eq!(sql.rows(&waiting).await, 21);
    assert_eq!(sql.number("SELECT count(*) FROM dead_letter").await, 1);
    let partition = i32::try_from(sql.number("SELECT dlt_partition::bigint FROM dead_letter").await).unwrap();
    let letters = read_all(&world.kafka, &world.kafka.topics.dead_letter, partition).await;
    let offset = sql.number("SELECT dlt_offset FROM dead_letter").await;
    let letter = letters.iter().find(|raw| raw.offset == offset).expect("the letter that the note names");
    assert_eq!(letter.headers.text(names::PLACE), Some(poison.to_string().as_str()));
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}

/// A record that is too large for a copy of it, with our headers on top.
fn huge(coupon: &CouponCode, text: &str) -> Encoded {
    let mut record = Encoded::new(Some(coupon.as_str().as_bytes()), Some(text.as_bytes()), 2);
    record.push_header(b"x-huge", Some(&vec![b'x'; 100_000]));
    record.push_header(b"x-small", Some(b"kept"));
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_for_any_copy_stops_no_partition() {
    let world = World::new("too-large").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("too-large"));
    let home = writer.define(&coupon, Admission::Queued, 10).await;
    let elsewhere = (home + 1) % writer.partitions;
    let wish = format!(r#"{{"userId":"user-1","couponId":"{coupon}"}}"#);
    let poison = writer.put(home, &huge(&coupon, &"x".repeat(8_000))).await;
    let foreign = writer.put(elsewhere, &huge(&coupon, &wish)).await;
    writer.put_all(home, asks(&coupon, 0..5)).await;
    writer.put_all(elsewhere, asks(&coupon, 5..8)).await;
    // From here on neither topic takes what it took before.
    for topic in [&world.kafka.topics.dead_letter, &world.kafka.topics.created] {
        set_record_bytes_max(&world, topic, 80_000).await;
    }
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM dead_letter", 2).await;
    sql.until(&format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{coupon}' AND outcome = 'issued'"), 8).await;
    for (place, cause) in [(poison, "bad_json"), (foreign, "too_large")] {
        let noted = format!(
            "SELECT dlt_offset FROM dead_letter WHERE partition = {} AND log_offset = {} AND cause = '{cause}'",
            place.partition, place.offset
        );
        let offset = sql.number(&noted).await;
        let (partition, text) = (noted.replace("dlt_offset", "dlt_partition::bigint"), place.to_string());
        let partition = i32::try_from(sql.number(&partition).await).unwrap();
        let letters = read_all(&world.kafka, &world.kafka.topics.dead_letter, partition).await;
        let letter = letters.iter().find(|raw| raw.offset == offset).expect("a letter");
        assert_eq!((letter.value, letter.headers.get("x-huge")), (None, None));
        assert_eq!(letter.headers.text("x-small"), Some("kept"));
        assert_eq!(letter.headers.text(names::PLACE), Some(text.as_str()));
        assert_eq!(letter.headers.text(names::CAUSE), Some(cause));
        assert!(letter.headers.text(names::VALUE_BYTES).is_some());
    }
    consumer.stop().await;
}

async fn set_record_bytes_max(world: &World, topic: &str, bytes: u32) {
    use rdkafka::{
        ClientConfig,
        admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
        client::DefaultClientContext,
    };
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &world.kafka.brokers).create().unwrap();
    let bytes = bytes.to_string();
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic))
        .set("max.message.bytes", &bytes)
        .set("message.timestamp.type", "LogAppendTime");
    admin.alter_configs([&change], &AdminOptions::new()).await.expect("it answers").remove(0).expect("it is changed");
    let client = LogClient::new(&world.kafka).unwrap();
    let changed = || async {
        topics::config_value(&client, topic, "max.message.bytes")
            .await
            .is_ok_and(|value| value.as_deref() == Some(bytes.as_str()))
    };
    eventually(PATIENCE, "the topic takes less", changed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_put_back_by_hand_is_refused_clearly_and_not_for_ever() {
    let world = World::new("put-back").await;
    let (writer, sql, coupon) = (Writer::new(&world.kafka).await, Sql::new(&world.postgres_url), world.coupon("put-back"));
    let home = writer.home(&coupon);
    // One whose coupon came too late, and one that nobody can read.
    writer.put(home, &encoded(&request(&coupon, 1))).await;
    writer.put(home, &truncated(&encoded(&request(&coupon, 2)))).await;
    let consumer = Consumer::start(&world).await;
    sql.until("SELECT count(*) FROM dead_letter", 2).await;
    writer.define(&coupon, Admission::Queued, 1).await;
    writer.put_all(home, asks(&coupon, 7..8)).await;
    sql.until(&format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{coupon}' AND outcome = 'issued'"), 1).await;
    let mut letters = Vec::new();
    for partition in 0..writer.partitions {
        let read = read_all(&world.kafka, &world.kafka.topics.dead_letter, partition).await;
        letters.extend(read.iter().map(|raw| Encoded::copy_of(&raw)));
    }
    assert_eq!(letters.len(), 2);
    for _ in 0..2 {
        writer.put_all(home, letters.clone()).await;
    }
    // Four records before, and four put back.
    sql.until(&format!("SELECT next_offset FROM consumer_position WHERE partition = {home}"), 8).await;
    assert_eq!(sql.rows(&coupon).await, 3, "an outcome stays what it is");
    assert_eq!(sql.outcomes(&coupon, "unprocessable").await, 2);
    // What cannot be read is a letter again, once for each time that it was put back; what was too early is told again.
    assert_eq!(sql.number("SELECT count(*) FROM dead_letter").await, 4);
    consumer.stop().await;
    invariants::hold(&world, &writer, &sql).await;
}
