//! The audit of the gate in Redis, once it is quiet.

use std::time::Duration;

use deadpool_redis::redis;
use domain::{
    coupon::Admission,
    ids::{CommandId, CouponCode},
};
use redis_io::{Gate, GateRules, LoadToken, keys};
use testkit::{World, Writer, asks};
use trueup_cli::{
    audit::{Report, audit, difference::Kind},
    exit::Exit,
};

use crate::support::{PATIENCE, decided, environment, number, settings, start_consumer, trueup};

async fn audited(world: &World, code: &CouponCode, quiet: Duration) -> Report {
    audit(&settings(world), std::slice::from_ref(code), Some(quiet)).await.unwrap().remove(0)
}

async fn redis_command(world: &World, command: &redis::Cmd) {
    let client = redis::Client::open(world.redis_url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let _: redis::Value = command.query_async(&mut connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_gate_is_held_against_the_ledger() {
    let world = World::new("gate").await;
    let writer = Writer::new(&world.kafka).await;
    let code = world.coupon("gate");
    let consumer = start_consumer(&world).await;
    let home = writer.define(&code, Admission::Reserved, 5).await;
    decided(&world).await;
    // As the reconciler opens the gate of a new coupon.
    let position = number(&world, &format!("SELECT next_offset FROM consumer_position WHERE partition = {home}")).await;
    let gate = Gate::connect(&settings(&world).redis).await.unwrap();
    let token = LoadToken::new(CommandId::fresh(&domain::clock::SystemClock).uuid());
    assert!(gate.begin_load(&code, token).await.unwrap());
    let rules = GateRules::always_open(5, home);
    assert!(gate.open(&code, token, &rules, position).await.unwrap().is_some());
    writer.put_all(home, asks(&code, 0..8)).await;
    decided(&world).await;

    let report = audited(&world, &code, PATIENCE).await;
    assert_eq!((report.exit(), report.gate.as_str()), (Exit::Done, "same"), "{}", report.render());
    let output = trueup(&environment(&world), &["audit", code.as_str(), "--redis"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");

    let issued = keys::issued(&code);
    redis_command(&world, redis::cmd("SADD").arg(&issued).arg("ghost")).await;
    redis_command(&world, redis::cmd("SREM").arg(&issued).arg("member-0")).await;
    let report = audited(&world, &code, PATIENCE).await;
    let found: Vec<Kind> = report.differences.counts.keys().copied().collect();
    assert_eq!(found, [Kind::GateExtraMember, Kind::GateMissingMember], "{}", report.render());
    assert_eq!((report.exit(), report.gate.as_str()), (Exit::Difference, "differs"));
    redis_command(&world, redis::cmd("SREM").arg(&issued).arg("ghost")).await;
    redis_command(&world, redis::cmd("SADD").arg(&issued).arg("member-0")).await;
    redis_command(&world, redis::cmd("SET").arg(keys::stock(&code)).arg(3)).await;
    let report = audited(&world, &code, PATIENCE).await;
    assert_eq!(report.differences.counts.keys().copied().collect::<Vec<_>>(), [Kind::GateWrongState], "{}", report.render());

    // A gate that is gone cannot be compared, and that is not called clean.
    redis_command(&world, redis::cmd("DEL").arg(keys::gate(&code))).await;
    let report = audited(&world, &code, Duration::from_millis(300)).await;
    assert_eq!(report.exit(), Exit::CannotTell, "{}", report.render());
    consumer.stop().await;
}
