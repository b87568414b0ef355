//! Gates as the reconciler opens them, and when they are settled.

use domain::{clock::SystemClock, ids::CouponCode};
use redis_io::{Gate, GateRules, LoadToken, RedisSettings};
use testkit::eventually_some;

use crate::harness::{PATIENCE, Sql};

/// Opens a gate as the reconciler does.
pub async fn open_gate(gate: &Gate, sql: &Sql, coupon: &CouponCode, partition: i32, total: i64) {
    let cursor = sql.number(&format!("SELECT next_offset FROM consumer_position WHERE partition = {partition}")).await;
    let rules = GateRules::always_open(total, partition);
    let token = LoadToken::new(domain::ids::CommandId::fresh(&SystemClock).uuid());
    assert!(gate.begin_load(coupon, token).await.expect("Redis answers"));
    assert!(gate.open(coupon, token, &rules, cursor).await.expect("Redis answers").is_some());
}

pub async fn gate(url: &str) -> Gate {
    Gate::connect(&RedisSettings { url: url.into(), ..RedisSettings::default() }).await.expect("a gate")
}

pub async fn until_settled(gate: &Gate, sql: &Sql, coupon: &CouponCode, home: i32, members: i64, pending: i64) {
    eventually_some(PATIENCE, "the gate is settled", || async {
        let position = sql.number(&format!("SELECT next_offset FROM consumer_position WHERE partition = {home}")).await;
        let status = gate.status(coupon).await.map_err(|error| error.to_string())?;
        let seen = (status.members, status.pending, status.cursor);
        if seen == (members, pending, Some(position)) { Ok(()) } else { Err(format!("{seen:?} at {position}")) }
    })
    .await;
}
