//! Servers that go away while the reconciler works.

use std::time::Duration;

use reconciler::run::Depth;
use redis_io::GateState;
use testkit::{PrivateKafka, World, create_topics, database, eventually_some, kafka_settings, postgres, redis_url, unique};

use crate::stage::{Stage, member, request};

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_gate_stays_shut_while_kafka_is_away_and_opens_when_it_is_back() {
    let mut kafka = PrivateKafka::start();
    let name = unique("no-kafka");
    let mut settings = kafka_settings(&kafka.brokers(), &name);
    settings.request_timeout_ms = 1_000;
    create_topics(&settings, 2).await;
    let postgres_url = database::create(postgres(), &name).await;
    let mut stage = Stage::on(World { name, kafka: settings, postgres_url, redis_url: redis_url() }, &redis_url()).await;
    stage.settings.pending.grace_ms = 1;
    stage.decided_up_to(0);
    let (open, cold) = (stage.coupon("open", 5), stage.coupon("cold", 5));
    let replica = stage.replica().await;
    let mut task = replica.gate_task();
    stage.sql(&format!("UPDATE coupon SET ended = true WHERE coupon_code = '{cold}'"));
    assert_eq!(task.run_once(&stage.walk()).await.unwrap().opened, [(open.clone(), 0)]);
    stage.sql(&format!("UPDATE coupon SET ended = false WHERE coupon_code = '{cold}'"));
    stage.gate.reserve(&open, &[(member(1), request(1))]).await.unwrap();

    kafka.kill();
    // Without the partition's end nobody knows what was acknowledged, so the gate must not open.
    match task.run_once(&stage.walk()).await {
        Ok(report) => assert!(report.opened.is_empty() && !report.failures.is_empty(), "{report:?}"),
        Err(error) => assert_eq!(error.code(), "kafka"),
    }
    assert_eq!(stage.status(&cold).await.state, GateState::Loading);
    let report = replica.pending_task().run_once(&stage.walk()).await.unwrap();
    assert_eq!((report.acknowledged, report.failures.len()), (0, 1));
    assert_eq!(stage.status(&open).await.pending, 1, "the reservation waits for Kafka");

    kafka.restart().unwrap();
    let task = tokio::sync::Mutex::new(task);
    eventually_some(LIMIT, "the gate opens", || async {
        let report = task.lock().await.run_once(&stage.walk()).await.map_err(|error| error.to_string())?;
        if report.opened.is_empty() { Err(format!("{report:?}")) } else { Ok(()) }
    })
    .await;
    assert_eq!(stage.status(&cold).await.state, GateState::Open);
    eventually_some(LIMIT, "the reservation is published", || async {
        let report = replica.pending_task().run_once(&stage.walk()).await.map_err(|error| error.to_string())?;
        if report.acknowledged == 0 { Err(format!("{report:?}")) } else { Ok(()) }
    })
    .await;
}

#[tokio::test]
async fn lost_database_connections_cost_a_run_and_nothing_else() {
    let stage = Stage::new("terminated").await;
    stage.decided_up_to(0);
    let replica = stage.replica().await;
    let mut task = replica.gate_task();
    for round in 0..5 {
        let code = stage.coupon("c", 5);
        stage.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
        let mut runs = 0;
        while stage.status(&code).await.state != GateState::Open {
            assert!(runs < 10, "round {round}: the pool does not come back");
            runs += 1;
            if let Err(error) = task.run_once(&stage.walk()).await {
                assert_eq!(error.code(), "postgres", "{error}");
            }
        }
        let looked = replica.run_task().run_coupon(&code, Depth::ORDINARY, &stage.walk()).await.unwrap();
        assert_eq!(looked.unwrap().db_count, 0);
    }
}
