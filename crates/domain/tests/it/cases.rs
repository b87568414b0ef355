//! The rules, one by one.

use domain::coupon::{Change, CommandOutcome, Outcome, Refusal};

use crate::log::*;

fn issued(sequence: i64) -> Option<Outcome> {
    Some(Outcome::Issued { sequence })
}

fn refused(reason: Refusal) -> Option<Outcome> {
    Some(Outcome::refused(reason))
}

fn duplicate_of(request: u32) -> Option<Outcome> {
    Some(Outcome::Refused { reason: Refusal::Duplicate, issued_request: Some(request_id(request)) })
}

#[test]
fn first_come_first_served_until_the_seats_are_gone() {
    let store = fold([define("c", 1, 2), request("c", 1, 1), request("c", 2, 2), request("c", 3, 3)]);
    assert_eq!(store.outcome("c", 1), issued(1));
    assert_eq!(store.outcome("c", 2), issued(2));
    assert_eq!(store.outcome("c", 3), refused(Refusal::SoldOut));
    assert_eq!(store.coupons[&code("c")].issued, 2);
}

#[test]
fn a_coupon_without_seats_refuses_everybody() {
    assert_eq!(fold([define("c", 1, 0), request("c", 1, 1)]).outcome("c", 1), refused(Refusal::SoldOut));
}

#[test]
fn a_holder_is_a_duplicate_even_when_sold_out_ended_closed_or_paused() {
    let store = fold([
        define_window("c", 1, 1, None, Some(6)),
        request("c", 1, 1),
        request("c", 1, 2),
        pause("c", 2, true),
        request("c", 1, 3),
        end("c", 3),
        request("c", 1, 4),
        request("c", 2, 5),
    ]);
    for id in [2, 3, 4] {
        assert_eq!(store.outcome("c", id), duplicate_of(1), "{id}");
    }
    assert_eq!(store.outcome("c", 5), refused(Refusal::Ended), "ended comes before closed");
}

#[test]
fn the_window_holds_its_first_moment_and_not_its_last() {
    // Offsets are milliseconds: open from 3, closed from 5.
    let store = fold([
        define_window("c", 1, 9, Some(3), Some(5)),
        request("c", 1, 1),
        request("c", 2, 2),
        request("c", 3, 3),
        request("c", 4, 4),
        request("c", 5, 5),
    ]);
    let expected = [refused(Refusal::NotOpen), refused(Refusal::NotOpen), issued(1), issued(2), refused(Refusal::Closed)];
    for (id, outcome) in (1..).zip(expected) {
        assert_eq!(store.outcome("c", id), outcome, "{id}");
    }
}

#[test]
fn an_admitted_request_passes_window_and_pause_but_neither_stock_nor_end() {
    let store = fold([
        define_window("c", 1, 2, Some(100), Some(200)),
        admitted("c", 1, 1),
        pause("c", 2, true),
        admitted("c", 2, 2),
        admitted("c", 3, 3),
        total("c", 3, 3),
        end("c", 4),
        admitted("c", 4, 4),
    ]);
    assert_eq!(store.outcome("c", 1), issued(1));
    assert_eq!(store.outcome("c", 2), issued(2));
    assert_eq!(store.outcome("c", 3), refused(Refusal::SoldOut));
    assert_eq!(store.outcome("c", 4), refused(Refusal::Ended));
}

#[test]
fn closed_is_named_before_paused_and_paused_before_sold_out() {
    let store = fold([define_window("c", 1, 0, None, Some(3)), pause("c", 2, true), request("c", 1, 1), request("c", 2, 2)]);
    assert_eq!(store.outcome("c", 1), refused(Refusal::Paused));
    assert_eq!(store.outcome("c", 2), refused(Refusal::Closed));
}

#[test]
fn a_decided_id_keeps_its_outcome_and_is_told_again() {
    let store = fold([define("c", 1, 1), request("c", 1, 1), request("c", 2, 2), total("c", 2, 5), request("c", 2, 2)]);
    assert_eq!(store.outcome("c", 2), refused(Refusal::SoldOut), "a restock changes nothing that was decided");
    assert_eq!(store.told("c", 2), 4);
    assert_eq!(store.told("c", 1), 1);
}

#[test]
fn the_same_id_with_another_member_is_still_the_same_request() {
    let store = fold([define("c", 1, 5), request("c", 1, 1), request("c", 2, 1)]);
    assert_eq!(store.rows.len(), 1);
    assert_eq!(store.coupons[&code("c")].issued, 1);
}

#[test]
fn the_same_id_for_two_coupons_is_two_requests() {
    let store = fold([define("c", 1, 5), define("d", 2, 5), request("c", 1, 1), request("d", 1, 1)]);
    assert_eq!((store.outcome("c", 1), store.outcome("d", 1)), (issued(1), issued(1)));
}

#[test]
fn after_a_refusal_a_new_request_is_a_new_chance() {
    let store = fold([define("c", 1, 0), request("c", 1, 1), total("c", 2, 1), request("c", 1, 2)]);
    assert_eq!(store.outcome("c", 1), refused(Refusal::SoldOut));
    assert_eq!(store.outcome("c", 2), issued(1));
}

#[test]
fn a_cancel_before_the_request_decides_it_and_after_it_does_nothing() {
    let store = fold([define("c", 1, 5), cancel("c", 2, 1, 1), request("c", 1, 1), request("c", 2, 2), cancel("c", 3, 2, 2)]);
    assert_eq!(store.outcome("c", 1), refused(Refusal::Cancelled));
    assert_eq!(store.told("c", 1), 2, "the request's own record tells it");
    assert_eq!(store.command(2), Some(CommandOutcome::Accepted));
    assert_eq!(store.outcome("c", 2), issued(1));
    assert_eq!(store.command(3), Some(CommandOutcome::AlreadyDecided));
}

#[test]
fn a_change_is_all_or_nothing() {
    let bad = Change { total: Some(0), paused: Some(true), name: Some("Winter".into()), ..no_change("c", 2) };
    let store = fold([define("c", 1, 2), request("c", 1, 1), domain::coupon::Body::Change(bad)]);
    assert_eq!(store.command(2), Some(CommandOutcome::TotalBelowIssued));
    let coupon = &store.coupons[&code("c")];
    assert_eq!((coupon.total, coupon.paused, coupon.name.as_str(), coupon.rules_offset), (2, false, "Spring", 0));
}

#[test]
fn the_total_may_fall_to_what_is_issued_and_not_below() {
    let store =
        fold([define("c", 1, 5), request("c", 1, 1), request("c", 2, 2), total("c", 2, 2), total("c", 3, 1), request("c", 3, 3)]);
    assert_eq!(store.command(2), Some(CommandOutcome::Accepted));
    assert_eq!(store.command(3), Some(CommandOutcome::TotalBelowIssued));
    assert_eq!(store.outcome("c", 3), refused(Refusal::SoldOut));
}

#[test]
fn an_empty_window_is_refused_and_a_bound_can_be_taken_away() {
    use domain::{clock::Timestamp, coupon::Body};
    let at = Timestamp::from_unix_ms;
    let store = fold([
        define_window("c", 1, 5, Some(10), Some(20)),
        Body::Change(Change { opens_at: Some(Some(at(20))), ..no_change("c", 2) }),
        Body::Change(Change { opens_at: Some(None), ..no_change("c", 3) }),
        request("c", 1, 1),
        define_window("d", 4, 5, Some(10), Some(10)),
    ]);
    assert_eq!(store.command(2), Some(CommandOutcome::WindowEmpty));
    assert_eq!(store.command(3), Some(CommandOutcome::Accepted));
    assert_eq!(store.outcome("c", 1), issued(1));
    assert_eq!(store.command(4), Some(CommandOutcome::WindowEmpty));
    assert!(!store.coupons.contains_key(&code("d")));
}

#[test]
fn an_ended_coupon_stays_as_it_is() {
    let store = fold([define("c", 1, 5), end("c", 2), pause("c", 3, true), total("c", 4, 9), end("c", 5)]);
    for id in [3, 4, 5] {
        assert_eq!(store.command(id), Some(CommandOutcome::Ended), "{id}");
    }
    let coupon = &store.coupons[&code("c")];
    assert_eq!((coupon.ended, coupon.paused, coupon.total, coupon.rules_offset), (true, false, 5, 1));
}

#[test]
fn commands_are_decided_once() {
    let store = fold([define("c", 1, 5), define("c", 1, 9), define("c", 2, 9), pause("c", 3, true), pause("c", 3, false)]);
    assert_eq!(store.command(1), Some(CommandOutcome::Accepted));
    assert_eq!(store.command(2), Some(CommandOutcome::AlreadyDefined));
    let coupon = &store.coupons[&code("c")];
    assert_eq!((coupon.total, coupon.paused, coupon.partition), (5, true, PARTITION));
}

#[test]
fn an_unusable_record_is_final_for_its_id_only_where_the_id_is_not_decided() {
    let store = fold([define("c", 1, 5), unusable("c", 1), request("c", 1, 1), request("c", 2, 2), unusable("c", 2)]);
    assert_eq!(store.outcome("c", 1), refused(Refusal::Unprocessable));
    assert_eq!(store.outcome("c", 2), issued(1));
}

#[test]
fn an_unknown_coupon_is_refused_at_home_and_forwarded_elsewhere() {
    let store = fold([request("c", 1, 1), request("far", 1, 2), unusable("far", 3), cancel("c", 1, 1, 4), define("c", 2, 1)]);
    assert_eq!(store.outcome("c", 1), refused(Refusal::Unprocessable));
    assert_eq!(store.unknown, [0, 3]);
    assert_eq!(store.forwards, [(1, ELSEWHERE), (2, ELSEWHERE)]);
    assert_eq!(store.rows.len(), 1, "what is forwarded has no row here");
    assert_eq!(store.command(1), None);
}

#[test]
fn a_define_is_decided_where_it_stands_and_others_follow_it() {
    let store = fold([define("far", 1, 1), request("far", 1, 1)]);
    assert_eq!(store.outcome("far", 1), issued(1));
    assert_eq!(store.coupons[&code("far")].partition, PARTITION);
}

#[test]
fn records_of_a_coupon_that_lives_elsewhere_are_forwarded_there() {
    let mut store = fold([define("c", 1, 5)]);
    store.coupons.get_mut(&code("c")).unwrap().partition = 9;
    let bodies = [request("c", 1, 1), pause("c", 2, true), cancel("c", 3, 1, 1), define("c", 4, 1), unusable("c", 5)];
    let decisions = store.apply(&records(bodies));
    assert_eq!(store.forwards, [(0, 9), (1, 9), (2, 9), (3, 9), (4, 9)]);
    assert!(decisions.rows.is_empty() && decisions.commands.is_empty() && decisions.changed.is_empty());
}

#[test]
fn a_coupon_is_either_inserted_or_updated() {
    let mut store = Store::default();
    let log = records([define("c", 1, 5), request("c", 1, 1), pause("c", 2, true), pause("c", 3, false)]);
    let first = store.apply(&log[..3]);
    assert_eq!((first.defined.len(), first.changed.len()), (1, 0));
    let second = store.apply(&log[3..]);
    assert_eq!((second.defined.len(), second.changed.len()), (0, 1));
    assert_eq!(first.defined[0].actor, "ann");
}
