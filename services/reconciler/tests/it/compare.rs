//! The full comparison: each kind of mismatch is found, repaired once and written down, and nothing that is right is touched.

use std::time::Duration;

use domain::ids::CouponCode;
use reconciler::{
    Reconciler,
    run::{CompareTask, CouponReport, Depth},
    schedule::{Next, Periodic},
};
use redis_io::Removal;

use crate::stage::{Stage, member, request};

async fn look(stage: &Stage, replica: &Reconciler, code: &CouponCode, depth: Depth) -> CouponReport {
    replica.run_task().run_coupon(code, depth, &stage.walk()).await.unwrap().unwrap()
}

/// An open gate whose settler has told it everything up to `decided`.
async fn opened(stage: &Stage, name: &str, total: i64, issued: std::ops::Range<u32>, decided: i64) -> CouponCode {
    let code = stage.coupon(name, total);
    stage.issued(&code, issued);
    stage.decided_up_to(decided);
    stage.replica().await.gate_task().run_once(&stage.walk()).await.unwrap();
    code
}

#[tokio::test]
async fn a_member_planted_in_redis_is_taken_out_in_an_ordinary_run() {
    let stage = Stage::new("extra").await;
    let code = opened(&stage, "c", 10, 1..4, 100).await;
    let replica = stage.replica().await;
    stage.gate.reserve(&code, &[(member(8), request(8))]).await.unwrap();
    let clean = look(&stage, &replica, &code, Depth::ORDINARY).await;
    assert_eq!((clean.redis_count, clean.db_count, clean.pending, clean.comparable), (4, 3, 1, true));
    assert!(!clean.has_mismatch && clean.comparison.is_none(), "a reservation is no mismatch: {clean:?}");

    // Whatever lies in the set has to go, whether it could be a member's id or not.
    stage.tamper("SADD", &code, &["planted", "not an id \u{1}"]).await;
    let dry = look(&stage, &replica, &code, Depth { full: false, dry_run: true }).await;
    assert_eq!((dry.mismatch_count, dry.comparison.unwrap().only_in_redis.repaired), (2, 0));
    assert_eq!(stage.status(&code).await.members, 6, "a dry run repairs nothing");
    assert_eq!(stage.sql("SELECT count(*) FROM reconciliation_repair"), "0");

    let found = look(&stage, &replica, &code, Depth::ORDINARY).await;
    assert_eq!((found.has_mismatch, found.mismatch_count), (true, 2));
    let comparison = found.comparison.unwrap();
    assert_eq!((comparison.only_in_redis.count, comparison.only_in_redis.repaired), (2, 2));
    assert!(comparison.only_in_redis.members.contains(&"planted".to_owned()), "{comparison:?}");
    let status = stage.status(&code).await;
    assert_eq!((status.members, status.pending, status.stock), (4, 1, Some(6)), "the stock came back, the reservation stayed");
    let rows = "SELECT count(*), min(reason), count(failed_at) FROM failed_coupon_issue";
    assert_eq!(stage.sql(rows), "2|Reconciliation mismatch - only in Redis|2");

    let after = look(&stage, &replica, &code, Depth::FULL).await;
    assert_eq!((after.mismatch_count, stage.sql(rows)), (0, "2|Reconciliation mismatch - only in Redis|2".to_owned()));
    let kept = stage.sql(
        "SELECT report->'comparison'->'onlyInRedis'->>'repaired' FROM reconciliation_report \
         WHERE report->>'mismatchCount' = '2' AND report->>'dryRun' = 'false'",
    );
    assert_eq!(kept, "2");
}

#[tokio::test]
async fn a_holder_who_is_missing_in_redis_is_added() {
    let stage = Stage::new("missing").await;
    let code = opened(&stage, "c", 10, 1..6, 100).await;
    let replica = stage.replica().await;
    stage.tamper("SREM", &code, &["user-2", "user-4"]).await;
    let found = look(&stage, &replica, &code, Depth::ORDINARY).await;
    let comparison = found.comparison.unwrap();
    assert_eq!((comparison.only_in_postgres.count, comparison.only_in_postgres.repaired), (2, 2));
    assert_eq!(comparison.only_in_postgres.members, ["user-2", "user-4"]);
    let status = stage.status(&code).await;
    assert_eq!((status.members, status.stock), (5, Some(5)));
    assert_eq!(stage.sql("SELECT count(*) FROM failed_coupon_issue"), "0", "nobody's issue failed");

    // One swapped for another leaves the sizes equal: only the slower, full comparison finds that.
    stage.tamper("SREM", &code, &["user-1"]).await;
    stage.tamper("SADD", &code, &["swapped"]).await;
    assert!(!look(&stage, &replica, &code, Depth::ORDINARY).await.has_mismatch);
    let found = replica.run_task().compare_once(&stage.walk()).await.unwrap();
    assert_eq!(found.coupons.iter().map(|one| one.mismatch_count).collect::<Vec<_>>(), [2]);
    let held: Vec<i64> = stage.redis("SMISMEMBER", &code, &["user-1", "swapped"]).await;
    assert_eq!(held, [1, 0]);
}

#[tokio::test]
async fn issues_that_the_settler_has_not_told_yet_are_no_mismatch() {
    let stage = Stage::new("untold").await;
    let code = opened(&stage, "c", 10, 1..4, 4).await;
    // Decided behind the gate's cursor: the settler is on its way.
    stage.issued(&code, 4..7);
    stage.decided_up_to(7);
    let replica = stage.replica().await;
    let found = look(&stage, &replica, &code, Depth::FULL).await;
    assert_eq!((found.mismatch_count, found.comparable), (0, false));
    assert_eq!(stage.status(&code).await.members, 3, "the settler's work is left to it");
}

#[tokio::test]
async fn a_settler_past_the_snapshot_stops_a_removal() {
    let stage = Stage::new("past").await;
    let code = opened(&stage, "c", 10, 1..4, 100).await;
    stage.tamper("SADD", &code, &["planted"]).await;
    let members = ["planted".to_owned()];
    assert_eq!(stage.gate.remove(&code, 99, &members).await.unwrap(), Removal::CursorAt(100));
    assert_eq!(stage.status(&code).await.members, 4);
    // A reservation that waits is nobody's mismatch, whatever the snapshot says.
    stage.gate.reserve(&code, &[(member(9), request(9))]).await.unwrap();
    let members = ["planted".to_owned(), "user-9".to_owned(), "nobody".to_owned()];
    assert_eq!(stage.gate.remove(&code, 100, &members).await.unwrap(), Removal::Done(vec![true, false, false]));
    assert_eq!(stage.status(&code).await.pending, 1);
}

#[tokio::test]
async fn a_coupon_whose_repair_fails_is_reported_and_the_others_are_repaired() {
    let stage = Stage::new("fails").await;
    let codes = [opened(&stage, "a", 10, 1..4, 100).await, opened(&stage, "b", 10, 11..14, 100).await];
    for code in &codes {
        stage.tamper("SADD", code, &["planted"]).await;
    }
    let [broken, good] = &codes;
    stage.sql(&format!("ALTER TABLE reconciliation_repair ADD CONSTRAINT broken CHECK (coupon_code <> '{broken}')"));
    let replica = stage.replica().await;
    let report = replica.run_task().run_once(&stage.walk()).await.unwrap();
    let found: Vec<_> = report.coupons.iter().map(|one| (&one.coupon_code, one.mismatch_count, one.errors.len())).collect();
    assert_eq!(found, [(broken, 1, 1), (good, 1, 0)]);
    assert_eq!((stage.status(broken).await.members, stage.status(good).await.members), (4, 3), "no repair without its row");

    stage.sql("ALTER TABLE reconciliation_repair DROP CONSTRAINT broken");
    assert_eq!(look(&stage, &replica, broken, Depth::FULL).await.mismatch_count, 1);
    assert_eq!(stage.status(broken).await.members, 3, "the next look tries again");
}

#[tokio::test]
async fn a_repair_whose_answer_was_lost_is_written_down_once() {
    let stage = Stage::new("lost").await;
    let code = opened(&stage, "c", 10, 1..4, 100).await;
    // As a process leaves it that dies behind the removal, and one that dies before it.
    stage.sql(&format!(
        "INSERT INTO reconciliation_repair (coupon_code, member_id, kind) \
         VALUES ('{code}', 'gone', 'only_in_redis'), ('{code}', 'there', 'only_in_redis')"
    ));
    stage.tamper("SADD", &code, &["there"]).await;
    let replica = stage.replica().await;
    look(&stage, &replica, &code, Depth::FULL).await;
    let rows = stage.sql("SELECT string_agg(member_id, ',' ORDER BY member_id), count(repaired_at) FROM reconciliation_repair");
    assert_eq!(rows, "gone,there|2", "each has one row, and it says repaired");
    assert_eq!(stage.status(&code).await.members, 3);
}

#[tokio::test]
async fn sets_of_many_pages_are_compared_whole() {
    let mut stage = Stage::new("pages").await;
    (stage.settings.compare.page, stage.settings.compare.scan_count) = (50, 40);
    let code = opened(&stage, "c", 5_000, 1..2_001, 10_000).await;
    let extra: Vec<String> = (0..120).map(|number| format!("extra-{number}")).collect();
    stage.tamper("SADD", &code, &extra.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let missing: Vec<String> = (300..370).map(|number| format!("user-{number}")).collect();
    stage.tamper("SREM", &code, &missing.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let found = look(&stage, &stage.replica().await, &code, Depth::FULL).await.comparison.unwrap();
    assert_eq!((found.db_members, found.only_in_redis.count, found.only_in_postgres.count), (2_000, 120, 70));
    assert_eq!((found.only_in_redis.repaired, found.only_in_postgres.repaired, found.not_judged), (120, 70, 0));
    assert_eq!(found.only_in_redis.members.len(), 100, "a report names some of them, the rows all");
    assert_eq!(stage.sql("SELECT count(*) FROM reconciliation_repair WHERE repaired_at IS NOT NULL"), "190");
    assert_eq!(stage.status(&code).await.stock, Some(3_000));
}

#[tokio::test]
async fn old_reports_are_deleted_and_young_ones_kept() {
    let stage = Stage::new("retention").await;
    stage.sql(
        "INSERT INTO reconciliation_report (coupon_code, started_at, finished_at, report) \
         SELECT 'c', at, at, '{}' FROM (VALUES (now() - interval '31 days'), (now() - interval '29 days')) AS t (at)",
    );
    stage.replica().await.run_task().run_once(&stage.walk()).await.unwrap();
    assert_eq!(stage.sql("SELECT count(*) FROM reconciliation_report"), "1");
}

#[tokio::test]
async fn a_member_whose_repair_fails_does_not_keep_the_others_from_theirs() {
    let stage = Stage::new("one-by-one").await;
    let code = opened(&stage, "c", 10, 1..4, 100).await;
    stage.tamper("SADD", &code, &["bad", "good", "better"]).await;
    stage.sql("ALTER TABLE reconciliation_repair ADD CONSTRAINT broken CHECK (member_id <> 'bad')");
    let replica = stage.replica().await;
    let found = look(&stage, &replica, &code, Depth::ORDINARY).await;
    let comparison = found.comparison.unwrap();
    assert_eq!((comparison.only_in_redis.count, comparison.only_in_redis.repaired, comparison.errors.len()), (3, 2, 1));
    let status = stage.status(&code).await;
    assert_eq!((status.members, status.stock), (4, Some(6)), "the one without a row keeps his place, the others' seats are free");
    assert_eq!(stage.sql("SELECT string_agg(member_id, ',' ORDER BY member_id) FROM failed_coupon_issue"), "better,good");
}

#[tokio::test]
async fn a_comparison_that_failed_is_made_again_soon_and_one_that_was_made_is_not() {
    let stage = Stage::new("retry").await;
    let code = opened(&stage, "c", 10, 1..4, 100).await;
    let cold = stage.coupon("cold", 10);
    let replica = stage.replica().await;
    let retry = Next::Soon(Duration::from_millis(stage.settings.compare.retry_ms));
    let mut task = CompareTask(replica.run_task());
    let done =
        || stage.sql("SELECT string_agg(coupon_code, ',') FROM coupon_lease WHERE task = 'compare' AND done_at IS NOT NULL");

    // One cannot be repaired, the other has no open gate.
    stage.tamper("SADD", &code, &["planted"]).await;
    stage.sql("ALTER TABLE reconciliation_repair ADD CONSTRAINT broken CHECK (member_id <> 'planted')");
    assert_eq!(task.run(&stage.walk()).await.unwrap(), retry);
    assert_eq!(done(), "", "nothing is done for hours that was not done");

    stage.sql("ALTER TABLE reconciliation_repair DROP CONSTRAINT broken");
    look(&stage, &replica, &code, Depth { full: true, dry_run: true }).await;
    assert_eq!(done(), "", "a look is no repair");
    assert_eq!(task.run(&stage.walk()).await.unwrap(), retry, "the other one is still shut");
    assert_eq!(done(), code.as_str());
    assert_eq!(stage.status(&code).await.members, 3);

    replica.gate_task().run_once(&stage.walk()).await.unwrap();
    assert_eq!(replica.run_task().compare_once(&stage.walk()).await.unwrap().coupons.len(), 1, "only what is due");
    assert!(done().contains(cold.as_str()));
    assert_eq!(task.run(&stage.walk()).await.unwrap(), Next::AtRate);

    // A coupon that ended has no gate once Redis has forgotten it, and nothing to be tried again.
    let ended = stage.coupon("ended", 10);
    stage.sql(&format!("UPDATE coupon SET ended = true WHERE coupon_code = '{ended}'"));
    assert_eq!(task.run(&stage.walk()).await.unwrap(), Next::AtRate);
    assert_eq!(task.after_failure(), retry, "a run that could not even list the coupons");
}
