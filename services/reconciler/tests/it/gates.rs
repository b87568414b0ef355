//! Cold gates are loaded and opened, and only when the log allows it.

use domain::coupon::LogIncarnation;
use redis_io::{GateState, Reserve};
use testkit::{PrivateRedis, World, eventually};

use crate::stage::{Stage, member, request};

#[tokio::test]
async fn a_new_coupons_gate_opens_when_its_partition_is_decided() {
    let mut stage = Stage::new("new-gate").await;
    stage.settings.gates.page = 2;
    let code = stage.coupon("new", 10);
    stage.append(&code, 3).await;
    stage.decided_up_to(2);
    stage.issued(&code, 1..6);
    let mut task = stage.replica().await.gate_task();

    let waiting = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((waiting.draining, waiting.opened.len(), waiting.failures.len()), (1, 0, 0));
    assert_eq!(stage.status(&code).await.state, GateState::Loading, "shut while records that may name members are undecided");

    stage.decided_up_to(3);
    stage.issued(&code, 6..8);
    let done = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!(done.opened, [(code.clone(), 7)]);
    let status = stage.status(&code).await;
    assert_eq!((status.state, status.cursor, status.stock), (GateState::Open, Some(3), Some(3)));
    let answers = stage.gate.reserve(&code, &[(member(7), request(1)), (member(8), request(2))]).await.unwrap();
    assert!(matches!(answers[..], [Reserve::Issued, Reserve::Reserved { .. }]), "{answers:?}");

    let quiet = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((quiet.open, quiet.draining, quiet.opened.len()), (1, 0, 0));
    assert_eq!(stage.status(&code).await.pending, 1, "an open gate is left alone");
}

#[tokio::test]
async fn a_gate_of_a_restarted_redis_is_loaded_from_the_database() {
    let mut redis = PrivateRedis::start();
    let stage = Stage::on(World::new("restart").await, &redis.url()).await;
    let code = stage.coupon("c", 10);
    stage.decided_up_to(0);
    stage.issued(&code, 1..3);
    let mut task = stage.replica().await.gate_task();
    assert_eq!(task.run_once(&stage.walk()).await.unwrap().opened, [(code.clone(), 2)]);
    stage.gate.reserve(&code, &[(member(9), request(9))]).await.unwrap();

    redis.kill();
    redis.restart().unwrap();
    stage.issued(&code, 3..5);
    eventually(std::time::Duration::from_secs(5), "Redis answers", || async {
        stage.gate.check().await.is_ok() && stage.gate.status(&code).await.is_ok()
    })
    .await;
    assert!(stage.gate.reserve(&code, &[(member(5), request(5))]).await.is_err(), "nothing is promised on an old file");
    assert_eq!(task.run_once(&stage.walk()).await.unwrap().opened, [(code.clone(), 4)]);
    let status = stage.status(&code).await;
    assert_eq!((status.members, status.pending, status.stock), (4, 0, Some(6)));
}

#[tokio::test]
async fn a_position_of_another_log_opens_nothing() {
    let stage = Stage::new("other-log").await;
    let code = stage.coupon("c", 10);
    let other = LogIncarnation { topic_id: "another-topic".to_owned(), ..stage.incarnation().clone() };
    stage.decided_up_to_in(1_000, &other);
    let mut task = stage.replica().await.gate_task();
    let report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.opened.len(), report.failures.len()), (0, 1));
    assert!(report.failures[0].1.contains("another-topic"), "{:?}", report.failures);
    assert!(stage.status(&code).await.state.is_cold());

    stage.decided_up_to(0);
    assert_eq!(task.run_once(&stage.walk()).await.unwrap().opened, [(code, 0)]);
}

#[tokio::test]
async fn an_open_gate_whose_log_is_gone_is_shut_until_its_position_is_of_the_new_one() {
    let stage = Stage::new("new-log").await;
    let code = stage.coupon("c", 10);
    stage.decided_up_to(0);
    let mut task = stage.replica().await.gate_task();
    assert_eq!(task.run_once(&stage.walk()).await.unwrap().opened, [(code.clone(), 0)]);
    stage.gate.reserve(&code, &[(member(1), request(1))]).await.unwrap();

    // The topic was deleted and made anew: what the position and the cursor name is another log than Kafka has.
    let other = LogIncarnation { topic_id: "deleted-topic".to_owned(), ..stage.incarnation().clone() };
    stage.decided_up_to_in(1_000, &other);
    stage.issued(&code, 1..4);
    let mut task = stage.replica().await.gate_task();
    let shut = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((&shut.shut, shut.open, shut.opened.len()), (&vec![code.clone()], 0, 0));
    assert!(shut.failures[0].1.contains("deleted-topic"), "{shut:?}");
    let refused = stage.gate.reserve(&code, &[(member(7), request(7))]).await;
    assert!(refused.is_err(), "nobody is admitted who would never be decided");
    assert!(task.run_once(&stage.walk()).await.unwrap().shut.is_empty(), "it is shut already");

    stage.decided_up_to(0);
    assert_eq!(task.run_once(&stage.walk()).await.unwrap().opened, [(code.clone(), 3)]);
    let open = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((open.open, open.shut.len()), (1, 0));
    let status = stage.status(&code).await;
    assert_eq!((status.cursor, status.members, status.pending), (Some(0), 3, 0));
}

#[tokio::test]
async fn one_coupons_failure_does_not_keep_the_others_shut() {
    let stage = Stage::new("failure").await;
    stage.decided_up_to(0);
    let codes = [stage.coupon("a", 5), stage.coupon("b", 5), stage.coupon("c", 5)];
    // Somebody used the gate's key of the second one for something else.
    stage.redis_set(&redis_io::keys::gate(&codes[1]), "not a gate").await;
    let mut task = stage.replica().await.gate_task();
    let mut report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!(report.failures.iter().map(|(code, _)| code).collect::<Vec<_>>(), [&codes[1]]);
    assert!(report.failures[0].1.contains("WRONGTYPE"), "{:?}", report.failures);
    // Loads go on beside each other and end in any order.
    report.opened.sort();
    assert_eq!(report.opened, [(codes[0].clone(), 0), (codes[2].clone(), 0)]);
}

#[tokio::test]
async fn ended_and_queued_coupons_need_no_gate() {
    let stage = Stage::new("no-gate").await;
    stage.decided_up_to(0);
    let (ended, queued, paused) = (stage.coupon("ended", 5), stage.coupon("queued", 5), stage.coupon("paused", 5));
    stage.sql(&format!("UPDATE coupon SET ended = true WHERE coupon_code = '{ended}'"));
    stage.sql(&format!("UPDATE coupon SET admission = 'queued' WHERE coupon_code = '{queued}'"));
    stage.sql(&format!("UPDATE coupon SET paused = true WHERE coupon_code = '{paused}'"));
    let mut task = stage.replica().await.gate_task();
    let report = task.run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.coupons, report.opened), (1, vec![(paused.clone(), 0)]));
    assert_eq!(stage.status(&ended).await.state, GateState::Absent);
    let answer = stage.gate.reserve(&paused, &[(member(1), request(1))]).await.unwrap();
    assert_eq!(answer, [Reserve::Paused]);
}
