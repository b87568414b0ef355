//! The next step of a refund: what is sent when, under which key, and what is never sent.

use domain::{
    clock::Timestamp,
    payment::{
        Attention, PgAnswer, PgPayment, PgRefundState, PgState, Policy, Refund, RefundState,
        refunding::{Step, Watch, next_step, reversed, watch},
    },
};

use crate::payment::*;

/// The grace time of a refund that was sent, by default.
const GRACE_MS: i64 = 30_000;

fn step_of(refund: &Refund, said: PgPayment, sent_ms: Option<i64>) -> Step {
    next_step(refund, &PgAnswer::Found(said), MINUTE, sent_ms, &Policy::default())
}

fn held() -> PgPayment {
    pg(PgState::Paid, AMOUNT, 0)
}

#[test]
fn what_was_just_sent_is_not_sent_again_before_the_grace_time_is_over() {
    let sending = refund(RefundState::Sending, 1);
    for (sent_ms, step) in [
        (0, Step::Wait(None)),
        (GRACE_MS - 1, Step::Wait(None)),
        (GRACE_MS, Step::Send(krw(AMOUNT))),
        (GRACE_MS + DAY, Step::Send(krw(AMOUNT))),
    ] {
        assert_eq!(step_of(&sending, held(), Some(sent_ms)), step, "{sent_ms}");
    }
    // Whatever the gateway shows of it counts at once.
    let done = showing(pg(PgState::Returned, AMOUNT, AMOUNT), "r", Some("rf-1"), AMOUNT, PgRefundState::Done);
    assert_eq!(step_of(&sending, done, Some(0)), Step::Confirm);
    let refused = showing(held(), "r", Some("rf-1"), AMOUNT, PgRefundState::Failed);
    assert_eq!(step_of(&sending, refused, Some(0)), Step::SendAnew(krw(AMOUNT)));
}

#[test]
fn the_same_call_again_is_of_the_same_amount_and_a_new_key_of_what_is_held() {
    let part = pg(PgState::Paid, AMOUNT, 400);
    assert_eq!(step_of(&refund(RefundState::Requested, 0), part.clone(), None), Step::Send(krw(AMOUNT - 400)));
    assert_eq!(step_of(&refund(RefundState::Sending, 1), part.clone(), Some(GRACE_MS)), Step::Send(krw(AMOUNT)));
    assert_eq!(step_of(&refund(RefundState::Requested, 1), part.clone(), None), Step::SendAnew(krw(AMOUNT - 400)));
    let over = showing(part, "r", Some("rf-1"), 400, PgRefundState::Done);
    for state in [RefundState::Accepted, RefundState::Sending, RefundState::Requested] {
        assert_eq!(step_of(&refund(state, 1), over.clone(), Some(0)), Step::SendAnew(krw(AMOUNT - 400)), "{state}");
    }
}

#[test]
fn nothing_is_sent_beside_a_refund_that_is_under_way() {
    for key in [None, Some("rf-1"), Some("somebodys")] {
        let moving = showing(held(), "r", key, AMOUNT, PgRefundState::Pending);
        for state in [RefundState::Requested, RefundState::Sending, RefundState::Accepted, RefundState::Manual] {
            let step = step_of(&refund(state, 1), moving.clone(), Some(DAY));
            assert_eq!(step, Step::Accepted(Some("r".to_owned())), "{key:?} {state}");
        }
    }
    // Also if what is held is less than it brings back.
    let twice = showing(pg(PgState::Paid, AMOUNT, AMOUNT - 1), "r", None, 1, PgRefundState::Pending);
    assert_eq!(step_of(&refund(RefundState::Requested, 0), twice, None), Step::Accepted(Some("r".to_owned())));
}

#[test]
fn ours_is_known_by_its_key_or_by_the_gateways_id() {
    let others = showing(held(), "r", Some("rf-2"), AMOUNT, PgRefundState::Failed);
    let accepted = refund(RefundState::Accepted, 1);
    assert_eq!(step_of(&accepted, others.clone(), None), Step::Wait(None), "that was another attempt");
    let known = Refund { pg_refund_id: Some("r".to_owned()), ..accepted };
    assert_eq!(step_of(&known, others, None), Step::SendAnew(krw(AMOUNT)));
}

#[test]
fn a_person_decides_what_is_held_manual_or_needs_the_payer() {
    let requested = refund(RefundState::Requested, 0);
    assert_eq!(step_of(&Refund { held: true, ..requested.clone() }, held(), None), Step::Wait(Some(Attention::RefundHeld)));
    let mut deposit = held();
    deposit.refund_needs_payer = true;
    assert_eq!(step_of(&requested, deposit.clone(), None), Step::Manual(Attention::RefundNeedsPayer));
    let manual = refund(RefundState::Manual, 0);
    assert_eq!(step_of(&manual, deposit, None), Step::Wait(Some(Attention::RefundNeedsPayer)), "also behind an odd answer");
    let age = |age_ms| next_step(&refund(RefundState::Manual, 0), &PgAnswer::Found(held()), age_ms, None, &Policy::default());
    assert_eq!(
        (age(DAY - 1), age(DAY)),
        (Step::Wait(Some(Attention::RefundRefused)), Step::Wait(Some(Attention::RefundOverdue)))
    );
}

#[test]
fn only_money_that_came_and_is_gone_confirms() {
    let requested = refund(RefundState::Requested, 0);
    let disagree = Step::Wait(Some(Attention::AmountsDisagree));
    assert_eq!(step_of(&requested, pg(PgState::Returned, AMOUNT, AMOUNT), None), Step::Confirm);
    assert_eq!(step_of(&requested, pg(PgState::Returned, 0, 0), None), disagree);
    assert_eq!(step_of(&requested, pg(PgState::Paid, AMOUNT, AMOUNT + 1), None), disagree);
    assert_eq!(next_step(&requested, &PgAnswer::NotFound, MINUTE, None, &Policy::default()), disagree);
}

#[test]
fn a_refund_came_back_if_the_gateway_holds_money_and_none_is_under_way() {
    let said = |said| reversed(&PgAnswer::Found(said));
    assert_eq!(said(held()), Some(krw(AMOUNT)));
    assert_eq!(said(pg(PgState::Returned, AMOUNT, AMOUNT)), None);
    assert_eq!(said(showing(held(), "r", None, AMOUNT, PgRefundState::Pending)), None);
    assert_eq!(said(showing(held(), "r", None, AMOUNT, PgRefundState::Failed)), Some(krw(AMOUNT)));
    assert_eq!(said(pg(PgState::Paid, -AMOUNT, 0)), None);
    assert_eq!(reversed(&PgAnswer::NotFound), None);
}

#[test]
fn the_watch_ends_when_it_is_clear_where_the_money_is() {
    let moment = Timestamp::from_unix_ms;
    let watched = |said: PgPayment, until: Option<i64>, now: i64| {
        watch(&PgAnswer::Found(said), until.map(moment), 30, moment(now), &Policy::default())
    };
    let left = |until: Option<i64>, now: i64| watched(pg(PgState::Returned, AMOUNT, AMOUNT), until, now);
    let quiet = |next_check_ms| Watch { next_check_ms, attention: None };
    assert_eq!((left(None, 0), left(Some(5), 5), left(Some(7), 5)), (quiet(None), quiet(None), quiet(Some(2))));
    assert_eq!(left(Some(30 * DAY), 0), quiet(Some(2 * DAY)));
    // A refund of which nobody knows yet whether it arrives is asked about beyond the end, and shown then.
    let moving = || showing(pg(PgState::Returned, AMOUNT, 0), "r", None, AMOUNT, PgRefundState::Pending);
    assert_eq!(watched(moving(), Some(30 * DAY), 0), quiet(Some(60 * MINUTE)));
    let shown = |attention| Watch { next_check_ms: Some(60 * MINUTE), attention: Some(attention) };
    assert_eq!(watched(moving(), Some(5), 5), shown(Attention::RefundOverdue));
    let unclear = PgPayment { contradictory: true, ..pg(PgState::Returned, AMOUNT, 0) };
    assert_eq!(watched(unclear.clone(), Some(30 * DAY), 0), shown(Attention::AmountsDisagree));
    assert_eq!(watched(unclear.clone(), Some(5), 5), shown(Attention::AmountsDisagree));
    assert_eq!(reversed(&PgAnswer::Found(unclear)), None);
    assert_eq!(watch(&PgAnswer::NotFound, Some(moment(5)), 0, moment(5), &Policy::default()), quiet(None));
}

#[test]
fn a_list_that_is_ahead_of_its_total_sends_nothing() {
    let lags = showing(held(), "r", Some("rf-1"), AMOUNT, PgRefundState::Done);
    for state in [RefundState::Requested, RefundState::Sending, RefundState::Accepted, RefundState::Manual] {
        let step = step_of(&refund(state, 1), lags.clone(), Some(DAY));
        assert_eq!(step, Step::Wait(Some(Attention::AmountsDisagree)), "{state}");
    }
    assert_eq!(reversed(&PgAnswer::Found(lags)), None);
}

#[test]
fn a_capture_that_was_taken_back_ends_with_the_gateways_final_word() {
    let requested = refund(RefundState::Requested, 0);
    assert_eq!(step_of(&requested, pg(PgState::Open, 0, 0), None), Step::Wait(Some(Attention::AmountsDisagree)));
    assert_eq!(step_of(&requested, pg(PgState::Failed, 0, 0), None), Step::Confirm);
    let manual = refund(RefundState::Manual, 0);
    assert_eq!(step_of(&manual, pg(PgState::Failed, 0, 0), None), Step::Confirm);
}
