//! Loading and opening a gate under a token.

use redis_io::{GateState, Reserve};

use crate::server::{RESERVED, Server, code, member, open, request, rules, timeless, token};

#[tokio::test]
async fn members_are_loaded_in_chunks_and_the_gate_opens_once() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    assert_eq!(gate.status(&coupon).await.unwrap().state, GateState::Absent);
    assert!(gate.begin_load(&coupon, token(1)).await.unwrap());
    assert_eq!(gate.status(&coupon).await.unwrap().state, GateState::Loading);
    for chunk in [1..=5_000_u32, 5_001..=7_000] {
        assert!(gate.load(&coupon, token(1), &chunk.map(member).collect::<Vec<_>>()).await.unwrap());
    }
    assert!(gate.reserve(&coupon, &[(member(1), request(1))]).await.is_err(), "a gate that is being loaded is cold");
    assert_eq!(gate.open(&coupon, token(1), &rules(7_001), 42).await.unwrap(), Some(7_000));
    assert_eq!(gate.open(&coupon, token(1), &rules(7_001), 42).await.unwrap(), None, "the token is used up");
    assert!(!gate.begin_load(&coupon, token(2)).await.unwrap(), "an open gate is left alone");

    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.state, status.cursor, status.stock), (GateState::Open, Some(42), Some(1)));
    assert_eq!((status.partition, status.rules_offset), (Some(3), Some(0)));
    let answers =
        gate.reserve(&coupon, &[(member(1), request(1)), (member(8_000), request(2)), (member(8_001), request(3))]).await;
    assert_eq!(timeless(answers.unwrap()), [Reserve::Issued, RESERVED, Reserve::SoldOut]);
}

#[tokio::test]
async fn the_newest_load_wins() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    assert!(gate.begin_load(&coupon, token(1)).await.unwrap());
    assert!(gate.load(&coupon, token(1), &[member(1)]).await.unwrap());
    assert!(gate.begin_load(&coupon, token(2)).await.unwrap());
    assert!(!gate.load(&coupon, token(1), &[member(2)]).await.unwrap());
    assert_eq!(gate.open(&coupon, token(1), &rules(5), 1).await.unwrap(), None);
    assert_eq!(gate.open(&coupon, token(2), &rules(5), 2).await.unwrap(), Some(0), "nothing of the first load is left");
}

#[tokio::test]
async fn a_gate_of_another_run_is_loaded_anew_without_its_old_reservations() {
    let mut server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(5)).await;
    gate.reserve(&coupon, &[(member(1), request(1))]).await.unwrap();
    server.kill_and_restart().await;

    let status = eventually_status(&gate, &coupon).await;
    assert_eq!((status.state, status.pending), (GateState::OtherRun, 1), "the old file was read");
    assert!(gate.begin_load(&coupon, token(2)).await.unwrap());
    assert_eq!(gate.open(&coupon, token(2), &rules(5), 30).await.unwrap(), Some(0));
    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.members, status.pending, status.stock), (0, 0, Some(5)));
}

#[tokio::test]
async fn a_restart_in_mid_load_ends_the_load() {
    let mut server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    assert!(gate.begin_load(&coupon, token(1)).await.unwrap());
    assert!(gate.load(&coupon, token(1), &[member(1)]).await.unwrap());
    server.kill_and_restart().await;
    // The token itself survived in the file; the run id tells that a chunk may not have.
    assert_eq!(eventually_status(&gate, &coupon).await.state, GateState::OtherRun);
    assert!(!gate.load(&coupon, token(1), &[member(2)]).await.unwrap());
    assert_eq!(gate.open(&coupon, token(1), &rules(5), 1).await.unwrap(), None);
}

/// The first calls after a restart may still meet the old connection.
async fn eventually_status(gate: &redis_io::Gate, code: &domain::ids::CouponCode) -> redis_io::GateStatus {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        match gate.status(code).await {
            Ok(status) => return status,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
