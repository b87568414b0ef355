//! Servers that restart, forget, stop, evict or are split into slots.

use std::time::{Duration, Instant};

use domain::ids::{CouponCode, MemberId, RequestId};
use redis_io::{Gate, GateError, GateState, RedisSettings, Reserve, Settle, SettleItem, SettleKind};

use crate::server::{RESERVED, Server, code, member, open, request, rules, seat, timeless, token};

const DEADLINE: Duration = Duration::from_secs(10);

/// Asks until Redis answers, as a gateway's next batch would.
async fn reserve_when_up(gate: &Gate, code: &CouponCode, ask: (MemberId, RequestId)) -> Result<Vec<Reserve>, GateError> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match gate.reserve(code, std::slice::from_ref(&ask)).await {
            Err(GateError::Unavailable { reason, .. }) => assert!(Instant::now() < deadline, "{reason}"),
            answer => return answer,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn an_old_file_under_a_new_run_id_is_cold() {
    let mut server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(5)).await;
    let reserved = seat(&gate, &coupon, 1, 1).await;
    server.kill_and_restart().await;

    assert_eq!(reserve_when_up(&gate, &coupon, (member(2), request(2))).await, Err(GateError::Cold));
    assert_eq!(gate.settle(&coupon, 10, 11, &[], &rules(5)).await.unwrap(), Settle::Cold);
    assert!(!gate.release(&coupon, &reserved).await.unwrap());
    assert_eq!(gate.pending_older_than(&coupon, Duration::ZERO, 10).await, Err(GateError::Cold));
    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.state, status.members), (GateState::OtherRun, 1), "nothing was written to the old state");
}

#[tokio::test]
async fn a_flushed_script_cache_is_filled_again() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(50)).await;
    for n in 0..20 {
        if n % 3 == 0 {
            server.command::<()>(&["SCRIPT", "FLUSH", "SYNC"]).await;
        }
        seat(&gate, &coupon, n, n).await;
    }
    server.command::<()>(&["SCRIPT", "FLUSH", "SYNC"]).await;
    assert_eq!(gate.settle(&coupon, 10, 11, &[], &rules(50)).await.unwrap(), Settle::Moved);
    assert_eq!(gate.pending_older_than(&coupon, Duration::ZERO, 100).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_lost_reply_may_have_reserved_and_asking_again_finds_it() {
    let server = Server::start().await;
    let gate = Gate::connect(&RedisSettings { command_timeout_ms: 100, ..server.settings() }).await.unwrap();
    let coupon = code("c");
    open(&gate, &coupon, &rules(5)).await;
    // The server knows the script already; otherwise only a NOSCRIPT would be lost.
    gate.reserve(&coupon, &[(member(9), request(9))]).await.unwrap();
    // The script goes out while the server stands still, and runs when it goes on: only its reply is lost.
    server.signal("STOP");
    let lost = gate.reserve(&coupon, &[(member(1), request(1))]).await.unwrap_err();
    assert!(lost.maybe_executed(), "{lost}");
    server.signal("CONT");
    let deadline = Instant::now() + DEADLINE;
    while server.command::<i64>(&["SISMEMBER", "coupon:issued:{c}", "user-1"]).await == 0 {
        assert!(Instant::now() < deadline, "the script never ran");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let answer = reserve_when_up(&gate, &coupon, (member(1), request(2))).await;
    assert_eq!(answer.unwrap(), [Reserve::Pending(request(1))]);
}

#[tokio::test]
async fn a_server_that_is_away_has_executed_nothing() {
    let mut server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(5)).await;
    server.kill();
    // The broken connection is noticed by the first call at the latest; from then on nothing can be sent at all.
    let deadline = Instant::now() + DEADLINE;
    loop {
        let error = gate.reserve(&coupon, &[(member(1), request(1))]).await.unwrap_err();
        if !error.maybe_executed() {
            break;
        }
        assert!(Instant::now() < deadline, "{error}");
    }
    // And calls fail fast instead of waiting for each other's attempts.
    let started = Instant::now();
    for n in 0..200 {
        assert!(gate.reserve(&coupon, &[(member(n), request(n))]).await.is_err());
    }
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let started_without_redis = Gate::connect(&server.settings()).await;
    assert!(started_without_redis.is_ok(), "a service starts while Redis is away");
}

#[tokio::test]
async fn a_cut_connection_is_made_again() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(100)).await;
    for n in 0..5 {
        server.command::<i64>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        let answer = reserve_when_up(&gate, &coupon, (member(n), request(n))).await.unwrap();
        assert!(matches!(answer[..], [Reserve::Reserved { .. } | Reserve::Pending(_)]), "{answer:?}");
    }
    assert_eq!(gate.status(&coupon).await.unwrap().members, 5);
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = Server::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let refused = Gate::connect(&server.settings()).await.unwrap_err();
    assert_eq!(refused, GateError::Eviction { policy: "allkeys-lru".to_owned() });
    server.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    assert!(Gate::connect(&server.settings()).await.is_ok());
}

#[tokio::test]
async fn full_memory_refuses_before_anything_is_written() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(5)).await;
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let refused = gate.reserve(&coupon, &[(member(1), request(1))]).await.unwrap_err();
    assert!(!refused.maybe_executed(), "{refused}");
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    seat(&gate, &coupon, 1, 1).await;
}

#[tokio::test]
async fn every_script_stays_in_one_cluster_slot() {
    let server = Server::start_with(&["--cluster-enabled", "yes"]).await;
    server.command::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
    let deadline = Instant::now() + DEADLINE;
    while !server.command::<String>(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok") {
        assert!(Instant::now() < deadline, "the cluster of one node did not form");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let gate = server.gate().await;
    for coupon in [code("coupon-2024"), code("쿠폰:1")] {
        assert!(gate.begin_load(&coupon, token(1)).await.unwrap());
        assert!(gate.load(&coupon, token(1), &[member(9)]).await.unwrap());
        assert_eq!(gate.open(&coupon, token(1), &rules(5), 10).await.unwrap(), Some(1));
        let reserved = seat(&gate, &coupon, 1, 1).await;
        let asks = [(member(2), request(2)), (member(3), request(3))];
        assert_eq!(timeless(gate.reserve(&coupon, &asks).await.unwrap()), [RESERVED; 2]);
        assert!(gate.release(&coupon, &reserved).await.unwrap());
        assert_eq!(gate.pending_older_than(&coupon, Duration::ZERO, 10).await.unwrap().len(), 2);
        let items = [
            SettleItem { kind: SettleKind::Issued, member: member(2), request: request(2) },
            SettleItem { kind: SettleKind::Refused, member: member(3), request: request(3) },
        ];
        assert_eq!(gate.settle(&coupon, 10, 13, &items, &rules(5)).await.unwrap(), Settle::Moved);
        assert_eq!(gate.status(&coupon).await.unwrap().members, 2);
        assert!(!gate.shut(&coupon, 12).await.unwrap(), "it stands elsewhere");
        assert!(gate.shut(&coupon, 13).await.unwrap());
        assert!(gate.status(&coupon).await.unwrap().state.is_cold());
    }
}
