//! Forgotten reservations are published again.

use std::sync::{Arc, Mutex};

use contracts::{Decoded, decode};
use domain::coupon::Body;
use reconciler::log::{CommandLog, Published};
use redis_io::{LoadToken, Reserve, SettleItem, SettleKind};
use testkit::{log_key, read_all};
use uuid::Uuid;

use crate::stage::{ScriptedLog, Stage, member, request};

impl Stage {
    /// Opens a coupon's gate without the reconciler.
    async fn open(&self, code: &domain::ids::CouponCode, total: i64) {
        let token = LoadToken::new(Uuid::from_u128(7));
        let rules = redis_io::GateRules::always_open(total, 1);
        assert!(self.gate.begin_load(code, token).await.unwrap());
        self.gate.open(code, token, &rules, 0).await.unwrap().unwrap();
    }

    async fn reserve(&self, code: &domain::ids::CouponCode, numbers: std::ops::Range<u32>) {
        let asks: Vec<_> = numbers.map(|n| (member(n), request(n))).collect();
        assert!(self.gate.reserve(code, &asks).await.unwrap().iter().all(|answer| matches!(answer, Reserve::Reserved { .. })));
        // The grace time of one millisecond has to go by, on Redis' clock.
        let reserved = self.status(code).await.now;
        while self.status(code).await.now <= reserved.saturating_add_ms(1) {}
    }

    fn scripted(&self, outcomes: impl Fn(u128) -> Published + Send + Sync + 'static) -> Arc<ScriptedLog> {
        Arc::new(ScriptedLog {
            incarnation: self.incarnation().clone(),
            end: 0,
            outcomes: Box::new(move |request| outcomes(request.id.uuid().as_u128())),
            published: Mutex::default(),
        })
    }

    /// Sets a key behind the gate's back.
    pub async fn redis_set(&self, key: &str, value: &str) {
        let url = self.settings.redis.url.expose();
        let mut connection = deadpool_redis::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
        deadpool_redis::redis::cmd("SET").arg(key).arg(value).query_async::<()>(&mut connection).await.unwrap();
    }
}

#[tokio::test]
async fn an_old_reservation_is_published_again_under_its_id_and_signed_as_admitted() {
    let mut stage = Stage::new("again").await;
    let code = stage.coupon("c", 10);
    stage.open(&code, 10).await;
    stage.reserve(&code, 1..4).await;
    let report = stage.replica().await.pending_task().run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.pending, report.acknowledged, report.refused, report.failures.len()), (3, 3, 0, 0));

    let records = read_all(stage.kafka(), &stage.kafka().topics.created, 1).await;
    let mut published = Vec::new();
    for raw in records.iter() {
        let Decoded::Usable(record) = decode(&raw, &log_key(), stage.incarnation()) else { panic!("unusable: {raw:?}") };
        let Body::Request(found) = record.body else { panic!("not a request") };
        assert!(found.admitted, "a valid signature");
        assert_eq!(found.coupon, code);
        published.push((found.member, found.id));
    }
    published.sort();
    assert_eq!(published, [(member(1), request(1)), (member(2), request(2)), (member(3), request(3))]);

    // They are still pending until the log decides, and they are not published again within the grace time.
    stage.settings.pending.grace_ms = 60_000;
    let again = stage.replica().await.pending_task().run_once(&stage.walk()).await.unwrap();
    assert_eq!((again.pending, again.acknowledged), (3, 0));
    assert_eq!(stage.status(&code).await.members, 3, "nobody loses his seat by waiting");
}

#[tokio::test]
async fn a_settled_reservation_is_not_published() {
    let stage = Stage::new("settled").await;
    let code = stage.coupon("c", 10);
    stage.open(&code, 10).await;
    stage.reserve(&code, 1..3).await;
    let items = [SettleItem { kind: SettleKind::Issued, member: member(1), request: request(1) }];
    let rules = redis_io::GateRules::always_open(10, 1);
    stage.gate.settle(&code, 0, 1, &items, &rules).await.unwrap();
    let log = stage.scripted(|_| Published::Acknowledged);
    stage.replica_with(Arc::<ScriptedLog>::clone(&log)).await.pending_task().run_once(&stage.walk()).await.unwrap();
    let published: Vec<_> = log.published.lock().unwrap().iter().map(|one| one.member.clone()).collect();
    assert_eq!(published, [member(2)]);
}

#[tokio::test]
async fn what_is_refused_or_unknown_stays_pending_and_comes_again() {
    let stage = Stage::new("refused").await;
    let code = stage.coupon("c", 10);
    stage.open(&code, 10).await;
    stage.reserve(&code, 1..4).await;
    let log = stage.scripted(|id| match id {
        1 => Published::Acknowledged,
        2 => Published::Refused("queue full".to_owned()),
        _ => Published::Unknown("timed out".to_owned()),
    });
    let log_port: Arc<dyn CommandLog> = Arc::<ScriptedLog>::clone(&log);
    let task = stage.replica_with(log_port).await.pending_task();
    let report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.acknowledged, report.refused, report.unknown), (1, 1, 1));
    let status = stage.status(&code).await;
    assert_eq!((status.members, status.pending), (3, 3), "a refused publish does not take a promised seat away");

    let reserved = status.now;
    while stage.status(&code).await.now <= reserved.saturating_add_ms(1) {}
    task.run_once(&stage.walk()).await.unwrap();
    assert_eq!(log.published.lock().unwrap().len(), 6);
}

#[tokio::test]
async fn pages_are_bounded_and_a_run_takes_several() {
    let mut stage = Stage::new("pages").await;
    (stage.settings.pending.page, stage.settings.pending.pages_max, stage.settings.pending.grace_ms) = (4, 2, 1);
    let code = stage.coupon("c", 100);
    stage.open(&code, 100).await;
    stage.reserve(&code, 0..20).await;
    // Old enough once, young after they were handed out: each page finds others.
    stage.settings.pending.grace_ms = 60_000;
    for n in 0..20 {
        stage.age(&code, n).await;
    }
    let log = stage.scripted(|_| Published::Acknowledged);
    let task = stage.replica_with(Arc::<ScriptedLog>::clone(&log)).await.pending_task();
    let taken = |log: &ScriptedLog| log.published.lock().unwrap().len();
    for expected in [8, 16, 20, 20] {
        task.run_once(&stage.walk()).await.unwrap();
        assert_eq!(taken(&log), expected);
    }
}

impl Stage {
    /// Makes a reservation look old.
    async fn age(&self, code: &domain::ids::CouponCode, number: u32) {
        let url = self.settings.redis.url.expose();
        let mut connection = deadpool_redis::redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
        deadpool_redis::redis::cmd("ZADD")
            .arg(redis_io::keys::pending_at(code))
            .arg(1_000 + i64::from(number))
            .arg(member(number).as_str())
            .query_async::<()>(&mut connection)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_long_line_is_not_made_longer() {
    let mut stage = Stage::new("line").await;
    stage.settings.pending.lag_records_max = 2;
    let code = stage.coupon("c", 10);
    stage.append(&code, 3).await;
    stage.decided_up_to(0);
    stage.open(&code, 10).await;
    stage.reserve(&code, 1..3).await;
    let task = stage.replica().await.pending_task();
    let report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.deferred, report.acknowledged), (1, 0));
    stage.decided_up_to(1);
    let report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.deferred, report.acknowledged), (0, 2));
}

#[tokio::test]
async fn a_broken_coupon_and_a_cold_one_do_not_stop_the_others() {
    let stage = Stage::new("broken").await;
    let (broken, cold, good) = (stage.coupon("a", 5), stage.coupon("b", 5), stage.coupon("c", 5));
    stage.redis_set(&redis_io::keys::gate(&broken), "not a gate").await;
    assert!(stage.status(&cold).await.state.is_cold());
    stage.open(&good, 5).await;
    stage.reserve(&good, 1..2).await;
    // The last reservations of a coupon that has just ended get their decision as well.
    stage.sql(&format!("UPDATE coupon SET ended = true, updated_at = now() WHERE coupon_code = '{good}'"));
    let log = stage.scripted(|_| Published::Acknowledged);
    let task = stage.replica_with(Arc::<ScriptedLog>::clone(&log)).await.pending_task();
    let report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.coupons, report.acknowledged), (3, 1));
    assert_eq!(report.failures.iter().map(|(code, _)| code).collect::<Vec<_>>(), [&broken]);
}

/// Notes that PostgreSQL refused a copy of a request, as the consumer does when it refuses even the row without the member.
fn refuse(stage: &Stage, code: &domain::ids::CouponCode, number: u32, offsets: std::ops::Range<u32>) {
    for offset in offsets {
        stage.sql(&format!(
            "INSERT INTO dead_letter (partition, log_offset, coupon_code, request_id, cause, detail, dlt_partition, dlt_offset) \
             VALUES (1, {offset}, '{code}', '{}', 'refused_by_database', 'no such check', 0, {offset})",
            request(number).uuid()
        ));
    }
}

#[tokio::test]
async fn a_request_that_the_database_refuses_time_and_again_is_given_up_with_its_reason() {
    let stage = Stage::new("refused").await;
    let code = stage.coupon("c", 10);
    stage.open(&code, 10).await;
    stage.reserve(&code, 1..4).await;
    let log = stage.scripted(|_| Published::Acknowledged);
    let task = stage.replica_with(Arc::<ScriptedLog>::clone(&log)).await.pending_task();
    let old_enough = || async {
        // As many grace times have gone by as there are tries, and each hand-out began a new one.
        let now = stage.status(&code).await.now;
        while stage.status(&code).await.now <= now.saturating_add_ms(stage.settings.pending.refusals_max + 1) {}
    };
    // Two refusals of the first are not enough, and those of the second have been overcome: he holds the coupon.
    refuse(&stage, &code, 1, 0..2);
    refuse(&stage, &code, 2, 2..6);
    stage.sql(&format!(
        "INSERT INTO coupon_request (coupon_code, request_id, member_id, partition, log_offset, told_offset, appended_at, admitted, outcome, \
         sequence) VALUES ('{code}', '{}', 'user-2', 1, 6, 6, now(), true, 'issued', 1)",
        request(2).uuid()
    ));
    old_enough().await;
    let report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.acknowledged, report.given_up, report.failures.len()), (3, 0, 0));

    refuse(&stage, &code, 1, 7..8);
    old_enough().await;
    let report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.acknowledged, report.given_up), (2, 1));
    let status = stage.status(&code).await;
    assert_eq!((status.members, status.pending, status.stock), (2, 2, Some(8)), "his seat is free again, once");
    let row = stage.sql("SELECT member_id, request_id, reason, failed_at IS NOT NULL FROM failed_coupon_issue");
    assert_eq!(row, format!("user-1|{}|Refused by the database: no such check|t", request(1).uuid()));

    old_enough().await;
    let published = log.published.lock().unwrap().len();
    let report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.acknowledged, report.given_up), (2, 0), "he is not published any more");
    assert!(log.published.lock().unwrap()[published..].iter().all(|request| request.member != member(1)));
}
