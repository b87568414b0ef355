//! Settle, and what the reconciler is handed.

use std::time::Duration;

use redis_io::{GateError, GateRules, Reserve, Settle, SettleItem, SettleKind};

use crate::server::{RESERVED, Server, code, member, open, request, rules, timeless};

fn item(kind: SettleKind, who: u32, id: u32) -> SettleItem {
    SettleItem { kind, member: member(who), request: request(id) }
}

#[tokio::test]
async fn a_settler_at_another_cursor_changes_nothing_and_learns_it() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(5)).await;
    let items = [item(SettleKind::Issued, 1, 1)];
    let other = GateRules { total: 1, rules_offset: 99, ..rules(5) };
    for from in [9, 11, 0] {
        assert_eq!(gate.settle(&coupon, from, 20, &items, &other).await.unwrap(), Settle::CursorAt(10), "from {from}");
    }
    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.members, status.stock, status.total), (0, Some(5), Some(5)));
    assert_eq!(gate.settle(&coupon, 10, 20, &items, &rules(5)).await.unwrap(), Settle::Moved);
    assert_eq!(
        gate.settle(&coupon, 10, 20, &items, &rules(5)).await.unwrap(),
        Settle::CursorAt(20),
        "a repeat after a lost reply"
    );
    assert_eq!(gate.status(&coupon).await.unwrap().members, 1);
}

#[tokio::test]
async fn holders_settle_by_member_and_refusals_by_request() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(6)).await;
    let asks: Vec<_> = (1..=4).map(|n| (member(n), request(n))).collect();
    gate.reserve(&coupon, &asks).await.unwrap();

    let items = [
        // Issued by a request of another producer: his reservation is settled all the same.
        item(SettleKind::Issued, 1, 101),
        item(SettleKind::Duplicate, 2, 102),
        // A refusal of another request leaves the reservation alone; of this one it takes it back.
        item(SettleKind::Refused, 3, 103),
        item(SettleKind::Refused, 4, 4),
        // A refusal never takes out who holds an issue, whatever its place in the batch.
        item(SettleKind::Refused, 5, 5),
        item(SettleKind::Issued, 5, 105),
        // A member whom the gate has never seen.
        item(SettleKind::Refused, 6, 6),
    ];
    assert_eq!(gate.settle(&coupon, 10, 17, &items, &rules(6)).await.unwrap(), Settle::Moved);
    let answers = gate.reserve(&coupon, &(1..=6).map(|n| (member(n), request(n + 200))).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(
        timeless(answers),
        [Reserve::Issued, Reserve::Issued, Reserve::Pending(request(3)), RESERVED, Reserve::Issued, RESERVED]
    );
}

#[tokio::test]
async fn the_stock_is_never_below_zero_and_follows_the_rules() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(3)).await;
    gate.reserve(&coupon, &(1..=3).map(|n| (member(n), request(n))).collect::<Vec<_>>()).await.unwrap();

    let lowered = GateRules { total: 1, rules_offset: 12, ..rules(1) };
    assert_eq!(gate.settle(&coupon, 10, 13, &[], &lowered).await.unwrap(), Settle::Moved);
    assert_eq!(gate.status(&coupon).await.unwrap().stock, Some(0));
    assert_eq!(gate.reserve(&coupon, &[(member(9), request(9))]).await.unwrap(), [Reserve::SoldOut]);

    // A settler that read its rules before that change does not bring the old ones back.
    assert_eq!(gate.settle(&coupon, 13, 14, &[], &rules(100)).await.unwrap(), Settle::Moved);
    assert_eq!(gate.status(&coupon).await.unwrap().total, Some(1));

    let raised = GateRules { total: 5, rules_offset: 15, ..rules(5) };
    let refused: Vec<_> = (1..=3).map(|n| item(SettleKind::Refused, n, n)).collect();
    assert_eq!(gate.settle(&coupon, 14, 16, &refused, &raised).await.unwrap(), Settle::Moved);
    assert_eq!(server.command::<String>(&["GET", "coupon:stock:{c}"]).await, "5");

    let ended = GateRules { ended: true, rules_offset: 17, ..raised };
    assert_eq!(gate.settle(&coupon, 16, 18, &[], &ended).await.unwrap(), Settle::Moved);
    assert_eq!(gate.reserve(&coupon, &[(member(9), request(9))]).await.unwrap(), [Reserve::Ended]);
}

#[tokio::test]
async fn a_full_settle_call_fits() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(10_000)).await;
    for page in 0..3_u32 {
        let asks: Vec<_> = (page * 1_000..(page + 1) * 1_000).map(|n| (member(n), request(n))).collect();
        gate.reserve(&coupon, &asks).await.unwrap();
    }
    let mut items: Vec<_> = (0..2_500).map(|n| item(SettleKind::Issued, n, n)).collect();
    items.extend((2_500..5_000).map(|n| item(SettleKind::Refused, n, n)));
    assert_eq!(gate.settle(&coupon, 10, 5_010, &items, &rules(10_000)).await.unwrap(), Settle::Moved);
    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.members, status.pending, status.stock), (2_500, 0, Some(7_500)));
    items.push(item(SettleKind::Issued, 1, 1));
    assert_eq!(gate.settle(&coupon, 5_010, 5_011, &items, &rules(1)).await, Err(GateError::TooMany { given: 5_001, max: 5_000 }));
}

#[tokio::test]
async fn pending_reservations_come_oldest_first_and_not_again_within_their_age() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(100)).await;
    for n in 1..=3 {
        gate.reserve(&coupon, &[(member(n), request(n))]).await.unwrap();
    }
    let hour = Duration::from_secs(3_600);
    assert_eq!(gate.pending_older_than(&coupon, hour, 10).await.unwrap(), []);

    // Two of them become old: their times are moved back behind the gate's back.
    let mut connection = server.connection().await;
    for n in [2, 3] {
        let at = 1_000_000 + i64::from(n);
        let moved: i64 = deadpool_redis::redis::cmd("ZADD")
            .arg(redis_io::keys::pending_at(&coupon))
            .arg(at)
            .arg(member(n).as_str())
            .query_async(&mut connection)
            .await
            .unwrap();
        assert_eq!(moved, 0);
    }
    assert_eq!(gate.status(&coupon).await.unwrap().oldest_publish.unwrap().unix_ms(), 1_000_002);
    let first = gate.pending_older_than(&coupon, hour, 1).await.unwrap();
    assert_eq!((first[0].member.clone(), first[0].request), (member(2), request(2)));
    assert!(first[0].reserved_at.unix_ms() > 1_000_003, "the reservation's own time is kept apart from the index");
    let rest = gate.pending_older_than(&coupon, hour, 10).await.unwrap();
    assert_eq!(rest.iter().map(|found| found.member.clone()).collect::<Vec<_>>(), [member(3)]);
    assert_eq!(gate.pending_older_than(&coupon, hour, 10).await.unwrap(), []);

    // An index entry without a reservation is swept.
    server.command::<i64>(&["ZADD", "coupon:pending_at:{c}", "5", "nobody"]).await;
    assert_eq!(gate.pending_older_than(&coupon, hour, 10).await.unwrap(), []);
    assert_eq!(server.command::<i64>(&["ZCARD", "coupon:pending_at:{c}"]).await, 3);
}
