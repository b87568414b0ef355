//! Audits of what the real consumer decided.

use contracts::Encoded;
use domain::{
    coupon::{Admission, Change},
    ids::CouponCode,
};
use testkit::{World, Writer, asks, change, encoded, encoded_cancel, encoded_change, request};
use trueup_cli::{audit::difference::Kind, exit::Exit};

use crate::support::{audited, decided, environment, execute, foreign, json, number, start_consumer, trueup};

/// 10 seats and everything that can happen to them: duplicates, repeats, a cancel, a raised total, poison, and foreign records at home and elsewhere.
pub async fn busy_coupon(world: &World, writer: &Writer, code: &CouponCode) {
    let home = writer.define(code, Admission::Queued, 10).await;
    writer.put_all(home, asks(code, 0..8)).await;
    writer.put(home, &encoded_cancel(&request(code, 100))).await;
    writer.put_all(home, asks(code, 100..101)).await;
    // Known ids again, and a second request of a member who holds one.
    writer.put_all(home, asks(code, 0..3)).await;
    let mut second = request(code, 1);
    second.id = domain::ids::RequestId::from_first_landing("another", 0, 1);
    writer.put(home, &encoded(&second)).await;
    // A foreign producer that hashes as Java does, and one that does not.
    writer.put(home, &foreign(code, 200)).await;
    for number in 201..204 {
        writer.put((home + 1) % writer.partitions, &foreign(code, number)).await;
    }
    writer.put(home, &Encoded::new(Some(code.as_str().as_bytes()), Some(b"{broken"), 0)).await;
    let mut unknown = Encoded::new(Some(code.as_str().as_bytes()), Some(b"x"), 1);
    unknown.push_text("ce_type", "trueup.coupon.v9.Nothing");
    writer.put(home, &unknown).await;
    // Of no use where it lands, too: it is not forwarded.
    writer.put((home + 1) % writer.partitions, &unknown).await;
    decided(world).await;
    writer.put(home, &encoded_change(&Change { total: Some(12), ..change(code) })).await;
    writer.put_all(home, asks(code, 300..320)).await;
    decided(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_found_in_clean_data() {
    let world = World::new("clean").await;
    let writer = Writer::new(&world.kafka).await;
    let (code, other) = (world.coupon("clean"), world.coupon("other"));
    let consumer = start_consumer(&world).await;
    // Before it is defined: a request of a coupon that nobody knows is refused, and stays refused.
    writer.put(writer.home(&code), &encoded(&request(&code, 999))).await;
    decided(&world).await;
    busy_coupon(&world, &writer, &code).await;
    writer.define(&other, Admission::Reserved, 3).await;
    writer.put_all(writer.home(&other), asks(&other, 0..9)).await;
    decided(&world).await;
    for code in [&code, &other] {
        let report = audited(&world, code).await;
        assert_eq!(report.exit(), Exit::Done, "{}", report.render());
        assert_eq!(report.issued, report.total);
    }
    let report = audited(&world, &code).await;
    assert_eq!(report.total, 12);
    assert_eq!(report.foreign_records, 3);
    let count = |outcome: &str| report.ledger.outcomes.get(outcome).copied().unwrap_or(0);
    assert_eq!((count("issued"), count("duplicate"), count("cancelled"), count("unprocessable")), (12, 1, 1, 1));
    // The audit's count is the database's own.
    let rows = number(&world, &format!("SELECT count(*) FROM coupon_request WHERE coupon_code = '{code}'")).await;
    assert_eq!(u64::try_from(rows).unwrap(), report.ledger.rows);

    let output = trueup(&environment(&world), &["audit", code.as_str(), other.as_str(), "--json"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let reports = json(&output);
    assert_eq!((reports[0]["verdict"].as_str(), reports[1]["verdict"].as_str()), (Some("clean"), Some("clean")));
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_in_mid_load_judges_one_snapshot() {
    let world = World::new("mid-load").await;
    let writer = Writer::new(&world.kafka).await;
    let code = world.coupon("load");
    let home = writer.define(&code, Admission::Queued, 500).await;
    let consumer = start_consumer(&world).await;
    let load = async {
        for from in (0..20_000).step_by(1_000) {
            writer.put_all(home, asks(&code, from..from + 1_000)).await;
        }
    };
    let audits = async {
        let mut positions = Vec::new();
        for _ in 0..4 {
            let report = audited(&world, &code).await;
            assert_ne!(report.exit(), Exit::Difference, "{}", report.render());
            positions.push(report.position);
        }
        positions
    };
    let ((), positions) = tokio::join!(load, audits);
    assert!(positions.is_sorted(), "{positions:?}");
    decided(&world).await;
    let report = audited(&world, &code).await;
    assert_eq!((report.exit(), report.issued, report.ledger.rows), (Exit::Done, 500, 20_000), "{}", report.render());
    consumer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_record_without_its_copy_is_found() {
    let world = World::new("foreign").await;
    let writer = Writer::new(&world.kafka).await;
    let code = world.coupon("foreign");
    let consumer = start_consumer(&world).await;
    let home = writer.define(&code, Admission::Queued, 5).await;
    decided(&world).await;
    consumer.stop().await;
    let elsewhere = (home + 1) % writer.partitions;
    let place = writer.put(elsewhere, &foreign(&code, 1)).await;
    // As if a consumer had moved its position without the copy.
    execute(&world, &format!("UPDATE consumer_position SET next_offset = {} WHERE partition = {elsewhere}", place.offset + 1))
        .await;
    let report = audited(&world, &code).await;
    assert_eq!(report.differences.counts.keys().copied().collect::<Vec<_>>(), [Kind::NotForwarded], "{}", report.render());
    assert!(report.render().contains(&format!("trueup-origin {place}")), "{}", report.render());
    // A copy with other bytes is not the record.
    let mut copy = foreign(&code, 2);
    copy.push_text("trueup-origin", &place.to_string());
    writer.put(home, &copy).await;
    let report = audited(&world, &code).await;
    assert_eq!(report.differences.counts.keys().copied().collect::<Vec<_>>(), [Kind::ChangedCopy], "{}", report.render());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_not_called_clean() {
    let world = World::new("cannot-tell").await;
    let writer = Writer::new(&world.kafka).await;
    let code = world.coupon("old");
    let consumer = start_consumer(&world).await;
    let home = writer.define(&code, Admission::Queued, 5).await;
    writer.put_all(home, asks(&code, 0..10)).await;
    decided(&world).await;
    consumer.stop().await;
    assert_eq!(audited(&world, &code).await.exit(), Exit::Done);

    let nobody = world.coupon("nobody");
    let report = audited(&world, &nobody).await;
    assert_eq!(report.exit(), Exit::CannotTell);
    assert!(report.cannot_tell.as_deref().unwrap().contains("is the code right?"), "{report:?}");

    execute(&world, "UPDATE consumer_position SET topic_id = 'another'").await;
    let output = trueup(&environment(&world), &["audit", code.as_str()]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("made anew"), "{output:?}");
    let client = kafka_io::LogClient::new(&world.kafka).unwrap();
    let log = client.incarnation(&world.kafka.topics.created).await.unwrap();
    execute(&world, &format!("UPDATE consumer_position SET topic_id = '{}'", log.topic_id)).await;
    assert_eq!(audited(&world, &code).await.exit(), Exit::Done);

    execute(&world, &format!("UPDATE consumer_position SET next_offset = next_offset + 50 WHERE partition = {home}")).await;
    assert!(audited(&world, &code).await.cannot_tell.unwrap().contains("lost records"));
    execute(&world, &format!("UPDATE consumer_position SET next_offset = next_offset - 50 WHERE partition = {home}")).await;

    testkit::delete_records(&world.kafka, &world.kafka.topics.created, home, 3).await;
    let report = audited(&world, &code).await;
    assert_eq!(report.exit(), Exit::CannotTell, "{}", report.render());
    assert!(report.cannot_tell.unwrap().contains("retention"));
}
