//! Reserve and release.

use domain::{clock::Timestamp, ids::CouponCode};
use redis_io::{Gate, GateError, GateRules, Reservation, Reserve, keys};

use crate::server::{RESERVED, Server, code, member, open, request, rules, seat, timeless};

#[tokio::test]
async fn seats_are_given_in_order_until_none_is_left() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("coupon-2024");
    open(&gate, &coupon, &rules(2)).await;

    let asks = [(member(1), request(1)), (member(1), request(2)), (member(2), request(3)), (member(3), request(4))];
    let answers = gate.reserve(&coupon, &asks).await.unwrap();
    assert_eq!(timeless(answers), [RESERVED, Reserve::Pending(request(1)), RESERVED, Reserve::SoldOut]);
    // Whoever is in the gate hears of his own request, sold out or not.
    let again = gate.reserve(&coupon, &[(member(2), request(9)), (member(4), request(10))]).await.unwrap();
    assert_eq!(again, [Reserve::Pending(request(3)), Reserve::SoldOut]);

    let mut members: Vec<String> = server.command(&["SMEMBERS", "coupon:issued:{coupon-2024}"]).await;
    members.sort();
    assert_eq!(members, ["user-1", "user-2"]);
    assert_eq!(server.command::<String>(&["GET", "coupon:stock:{coupon-2024}"]).await, "0");
    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.members, status.pending, status.stock, status.cursor), (2, 2, Some(0), Some(10)));
}

#[tokio::test]
async fn a_gate_that_redis_does_not_know_is_cold() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let answer = gate.reserve(&code("unknown"), &[(member(1), request(1))]).await;
    assert_eq!(answer, Err(GateError::Cold));
    assert_eq!(server.command::<i64>(&["DBSIZE"]).await, 0, "asking a cold gate writes nothing");
}

#[tokio::test]
async fn newcomers_hear_the_rules_and_holders_their_request() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let now = gate.status(&code("any")).await.unwrap().now;
    let minute = 60_000;
    let (before, after) = (now.saturating_add_ms(-minute), now.saturating_add_ms(minute));
    let open_rules = rules(10);
    let cases = [
        ("in-window", GateRules { opens_at: Some(before), closes_at: Some(after), ..open_rules }, RESERVED),
        ("early", GateRules { opens_at: Some(after), ..open_rules }, Reserve::NotOpen { opens_at: after }),
        ("late", GateRules { closes_at: Some(before), ..open_rules }, Reserve::Closed),
        ("paused", GateRules { paused: true, ..open_rules }, Reserve::Paused),
        ("ended", GateRules { ended: true, ..open_rules }, Reserve::Ended),
        // The fold's order: an end comes before the window, the window before a pause, a pause before the stock.
        ("ended-late", GateRules { ended: true, closes_at: Some(before), ..open_rules }, Reserve::Ended),
        ("late-paused", GateRules { closes_at: Some(before), paused: true, ..open_rules }, Reserve::Closed),
        ("paused-empty", GateRules { paused: true, total: 0, ..open_rules }, Reserve::Paused),
        ("empty", GateRules { total: 0, ..open_rules }, Reserve::SoldOut),
    ];
    for (name, rules, expected) in cases {
        let coupon = code(name);
        assert!(gate.begin_load(&coupon, crate::server::token(1)).await.unwrap());
        assert!(gate.load(&coupon, crate::server::token(1), &[member(7)]).await.unwrap());
        assert_eq!(gate.open(&coupon, crate::server::token(1), &rules, 0).await.unwrap(), Some(1));
        let answers = gate.reserve(&coupon, &[(member(1), request(1)), (member(7), request(2))]).await.unwrap();
        assert_eq!(timeless(answers), [expected, Reserve::Issued], "{name}");
    }
    assert!(now > Timestamp::from_unix_ms(0));
}

#[tokio::test]
async fn a_release_gives_the_seat_back_once() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(1)).await;
    let reserved = seat(&gate, &coupon, 1, 1).await;
    let other = Reservation { request: request(2), ..reserved.clone() };
    assert!(!gate.release(&coupon, &other).await.unwrap(), "another id is another reservation");
    assert!(gate.release(&coupon, &reserved).await.unwrap());
    assert!(!gate.release(&coupon, &reserved).await.unwrap());

    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.members, status.pending, status.stock), (0, 0, Some(1)));
    assert_eq!(status.oldest_publish, None);
    seat(&gate, &coupon, 2, 3).await;
    // The keys of the emptied gate are gone as well, except the gate itself, its stock and the new reservation's.
    let keys: Vec<String> = server.command(&["KEYS", "*"]).await;
    assert_eq!(keys.len(), 5, "{keys:?}");
    assert!(keys.contains(&keys::pending_at(&coupon)));
}

#[tokio::test]
async fn a_reservation_that_was_handed_out_is_not_released() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(5)).await;

    // Handed to a second call of the same member.
    let first = seat(&gate, &coupon, 1, 1).await;
    assert_eq!(gate.reserve(&coupon, &[(member(1), request(2))]).await.unwrap(), [Reserve::Pending(request(1))]);
    assert!(!gate.release(&coupon, &first).await.unwrap());
    // Handed out within the very call that made it.
    let answers = gate.reserve(&coupon, &[(member(2), request(3)), (member(2), request(4))]).await.unwrap();
    let Reserve::Reserved { at: reserved_at } = answers[0] else { panic!("{answers:?}") };
    let second = Reservation { member: member(2), request: request(3), reserved_at };
    assert!(!gate.release(&coupon, &second).await.unwrap());
    // Handed to the reconciler.
    let third = seat(&gate, &coupon, 3, 5).await;
    let found = gate.pending_older_than(&coupon, std::time::Duration::ZERO, 100).await.unwrap();
    assert_eq!(found.len(), 3);
    assert!(!gate.release(&coupon, &third).await.unwrap());
    assert_eq!(gate.status(&coupon).await.unwrap().stock, Some(2));

    // Only whoever was handed it may give it up, and no other reservation of the same member.
    let older = Reservation { reserved_at: Timestamp::from_unix_ms(1), ..first };
    assert_eq!(gate.give_up(&coupon, &[older, second, third]).await.unwrap(), [false, true, true]);
    let status = gate.status(&coupon).await.unwrap();
    assert_eq!((status.members, status.pending, status.stock), (1, 1, Some(4)));
}

#[tokio::test]
async fn a_late_release_leaves_a_newer_reservation_of_the_same_request_alone() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(1)).await;
    let lost = seat(&gate, &coupon, 1, 1).await;
    // Redis loses everything, the gate is loaded anew, and the same client asks again under his key.
    server.command::<()>(&["FLUSHALL"]).await;
    open(&gate, &coupon, &rules(1)).await;
    let newer = eventually_later(&gate, &coupon, &lost).await;
    assert!(!gate.release(&coupon, &lost).await.unwrap(), "what was decided on the lost gate undoes nothing in this one");
    assert_eq!(gate.pending_of(&coupon, &[member(1)]).await.unwrap(), [Some(request(1))]);
    assert!(gate.release(&coupon, &newer).await.unwrap());
}

/// A reservation of the same request in a later millisecond of Redis' clock.
async fn eventually_later(gate: &Gate, coupon: &CouponCode, lost: &Reservation) -> Reservation {
    loop {
        let newer = seat(gate, coupon, 1, 1).await;
        if newer.reserved_at > lost.reserved_at {
            return newer;
        }
        assert!(gate.release(coupon, &newer).await.unwrap());
    }
}

#[tokio::test]
async fn many_are_released_in_one_call() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("c");
    open(&gate, &coupon, &rules(1_000)).await;
    let asks: Vec<_> = (0..1_000).map(|n| (member(n), request(n))).collect();
    let answers = gate.reserve(&coupon, &asks).await.unwrap();
    let reserved = answers.into_iter().zip(&asks).map(|(answer, (member, request))| match answer {
        Reserve::Reserved { at } => Reservation { member: member.clone(), request: *request, reserved_at: at },
        other => panic!("{other:?}"),
    });
    gate.reserve(&coupon, &asks[..1]).await.unwrap();
    let released = gate.release_all(&coupon, &reserved.collect::<Vec<_>>()).await.unwrap();
    assert_eq!(released.iter().filter(|&&released| released).count(), 999);
    assert!(!released[0], "the first one was handed out a second time");
    assert_eq!(gate.status(&coupon).await.unwrap().stock, Some(999));
    let too_many: Vec<_> = (0..1_001).map(|n| (member(n), request(n))).collect();
    assert_eq!(gate.reserve(&coupon, &too_many).await, Err(GateError::TooMany { given: 1_001, max: 1_000 }));
}

#[tokio::test]
async fn telling_of_a_reservation_does_not_hand_it_out() {
    let server = Server::start().await;
    let gate = server.gate().await;
    let coupon = code("coupon-2024");
    assert_eq!(gate.pending_of(&coupon, &[member(1)]).await, Err(GateError::Cold));
    open(&gate, &coupon, &rules(2)).await;
    let reserved = seat(&gate, &coupon, 1, 1).await;
    let told = gate.pending_of(&coupon, &[member(2), member(1)]).await.unwrap();
    assert_eq!(told, [None, Some(request(1))]);
    assert!(gate.release(&coupon, &reserved).await.unwrap(), "nobody was handed it");
    assert_eq!(gate.pending_of(&coupon, &[member(1)]).await.unwrap(), [None]);
}
