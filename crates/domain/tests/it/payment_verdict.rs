//! What follows from what a gateway says about a payment: the lines of the judge's table, one by one.

use domain::{
    clock::Timestamp,
    payment::{
        Attention, Currency, FailReason, Judgement, Money, OrderState, PaymentMethod, PaymentState, PgAnswer, PgPayment,
        PgRefundState, PgState, RefundReason, Stock, Verdict,
    },
};

use crate::payment::*;

/// An order and a payment of it that nobody has decided yet.
fn open() -> Given {
    given(OrderState::Pending, PaymentState::Pending)
}

fn waits(judgement: Judgement, attention: Option<Attention>) -> bool {
    judgement.verdict == Verdict::Wait && judgement.attention == attention
}

/// Why money goes back, if it does.
fn goes_back(judgement: Judgement) -> Option<RefundReason> {
    if let Verdict::Refund { reason, .. } = judgement.verdict { Some(reason) } else { None }
}

#[test]
fn paid_is_what_is_held_in_the_orders_amount_and_currency() {
    let paid = pg(PgState::Paid, AMOUNT, 0);
    assert_eq!(open().says(paid.clone()).verdict, Verdict::Settle);
    // Captured less refunded is what counts, wherever it comes from.
    assert_eq!(open().says(pg(PgState::Paid, AMOUNT + 100, 100)).verdict, Verdict::Settle);
    for (captured, refunded) in [(AMOUNT - 1, 0), (AMOUNT + 1, 0), (AMOUNT, 1)] {
        let judged = open().says(pg(PgState::Paid, captured, refunded));
        assert_eq!(goes_back(judged), Some(RefundReason::AmountMismatch), "{captured} {refunded}");
    }
    let dollars = Money::new(AMOUNT, "USD".parse::<Currency>().unwrap());
    let in_dollars = domain::payment::PgPayment { captured: dollars, refunded: Money::zero(dollars.currency), ..paid.clone() };
    assert_eq!(goes_back(open().says(in_dollars)), Some(RefundReason::CurrencyMismatch));
    for (stock, reason) in [(Stock::Short, RefundReason::OutOfStock), (Stock::ProductNotFound, RefundReason::ProductNotFound)] {
        assert_eq!(goes_back(Given { stock, ..open() }.says(paid.clone())), Some(reason));
    }
}

#[test]
fn money_that_the_order_cannot_have_goes_back_all_of_it() {
    use OrderState::{Cancelled, Completed, Failed, Pending};
    for (order, payment, reason) in [
        (Cancelled, PaymentState::Pending, RefundReason::OrderCancelled),
        (Cancelled, PaymentState::Failed, RefundReason::OrderCancelled),
        (Completed, PaymentState::Pending, RefundReason::SecondPayment),
        (Completed, PaymentState::Failed, RefundReason::SecondPayment),
        (Failed, PaymentState::Failed, RefundReason::OrderFailed),
        (Pending, PaymentState::Failed, RefundReason::PaidLate),
    ] {
        for by_operator in [false, true] {
            let mut said = pg(PgState::Paid, AMOUNT, 400);
            said.refund_needs_payer = by_operator;
            let expected = Verdict::Refund { reason, amount: krw(AMOUNT - 400), by_operator };
            assert_eq!(given(order, payment).says(said).verdict, expected, "{order} {payment}");
        }
    }
}

#[test]
fn paid_with_nothing_taken_is_a_contradiction_and_no_failed_payment() {
    for order in OrderState::ALL {
        for payment in [PaymentState::Pending, PaymentState::Failed] {
            for state in [PgState::Paid, PgState::Returned] {
                let judged = given(*order, payment).says(pg(state, 0, 0));
                assert!(waits(judged, Some(Attention::AmountsDisagree)), "{order} {payment} {state:?}: {judged:?}");
                assert!(judged.next_check_ms.is_some(), "asking goes on");
            }
        }
    }
}

#[test]
fn what_came_and_went_is_returned_whatever_the_gateway_calls_it() {
    for state in [PgState::Paid, PgState::Failed, PgState::Returned] {
        for payment in [PaymentState::Pending, PaymentState::Failed] {
            let judged = given(OrderState::Pending, payment).says(pg(state, AMOUNT, AMOUNT));
            assert_eq!(judged.verdict, Verdict::Returned, "{state:?} {payment}");
        }
    }
}

#[test]
fn amounts_that_do_not_go_with_the_status_or_do_not_add_up_are_shown() {
    for said in [
        pg(PgState::Open, AMOUNT, 0),
        pg(PgState::Failed, AMOUNT, 0),
        pg(PgState::Paid, -1, 0),
        pg(PgState::Paid, AMOUNT, AMOUNT + 1),
        pg(PgState::Paid, AMOUNT, -1),
        pg(PgState::Failed, 0, AMOUNT),
        pg(PgState::Paid, i64::MIN, 1),
    ] {
        let judged = open().says(said.clone());
        assert!(waits(judged, Some(Attention::AmountsDisagree)), "{said:?}: {judged:?}");
    }
    let mut mixed = pg(PgState::Paid, AMOUNT, 0);
    mixed.refunded = Money::new(1, "USD".parse::<Currency>().unwrap());
    assert!(waits(open().says(mixed), Some(Attention::AmountsDisagree)));
}

#[test]
fn a_refund_that_is_under_way_is_waited_for() {
    for (payment, state) in [
        (PaymentState::Pending, PgState::Paid),
        (PaymentState::Failed, PgState::Paid),
        (PaymentState::Pending, PgState::Returned),
    ] {
        for order in OrderState::ALL {
            let moving = showing(pg(state, AMOUNT, 0), "r", None, AMOUNT, PgRefundState::Pending);
            let judged = given(*order, payment).says(moving);
            assert!(waits(judged, None), "{order} {payment} {state:?}: {judged:?}");
        }
    }
    // One that has failed says nothing: what is held does.
    let failed = showing(pg(PgState::Paid, AMOUNT, 0), "r", None, AMOUNT, PgRefundState::Failed);
    assert_eq!(open().says(failed).verdict, Verdict::Settle);
    // One that is done and not in the total yet is a contradiction.
    let done = showing(pg(PgState::Paid, AMOUNT, 0), "r", None, AMOUNT, PgRefundState::Done);
    assert!(waits(open().says(done), Some(Attention::AmountsDisagree)));
}

#[test]
fn failed_is_what_the_gateway_calls_so() {
    let failed = pg(PgState::Failed, 0, 0);
    assert_eq!(open().says(failed.clone()).verdict, Verdict::Fail(FailReason::Failed));
    // Failed already, and swept for late money.
    assert!(waits(given(OrderState::Failed, PaymentState::Failed).says(failed), None));
}

#[test]
fn not_found_is_unknown_until_twice_the_payment_window() {
    let at = |minutes: i64| {
        let mut given = Given { now: Timestamp::from_unix_ms(minutes * MINUTE), ..open() };
        (given.payment.checks, given.payment.was_not_found) = (1, true);
        given
    };
    assert!(waits(at(59).judged(&PgAnswer::NotFound), None));
    assert_eq!(at(60).judged(&PgAnswer::NotFound).verdict, Verdict::Fail(FailReason::NeverSeen));
    // Not by one answer alone, whether it is the first one or the gateway has known the payment before, and not in a time in which the gateway
    // could not be asked.
    for checks in [0, 5] {
        let mut once = at(60);
        (once.payment.checks, once.payment.was_not_found) = (checks, false);
        assert!(waits(once.judged(&PgAnswer::NotFound), None), "{checks}");
    }
    let away = Given { outage_ms: 1, ..at(60) };
    assert!(waits(away.judged(&PgAnswer::NotFound), None));
    // Not while money may still come, as far as the gateway ever said.
    let mut deposit = at(60);
    deposit.payment.expires_at = Some(Timestamp::from_unix_ms(60 * MINUTE + 1));
    assert!(waits(deposit.judged(&PgAnswer::NotFound), None));
    deposit.now = Timestamp::from_unix_ms(60 * MINUTE + 1);
    assert_eq!(deposit.judged(&PgAnswer::NotFound).verdict, Verdict::Fail(FailReason::NeverSeen));
    let swept = Given { now: at(120).now, ..given(OrderState::Failed, PaymentState::Failed) };
    assert!(waits(swept.judged(&PgAnswer::NotFound), None), "it has failed once");
}

#[test]
fn nobody_can_pay_what_nobody_waits_for() {
    let said = || pg(PgState::Open, 0, 0);
    assert!(waits(open().says(said()), None));
    for over in [given(OrderState::Cancelled, PaymentState::Pending), given(OrderState::Pending, PaymentState::Failed)] {
        assert_eq!(over.says(said()).verdict, Verdict::Close);
    }
    let late = |outage_ms| Given { now: Timestamp::from_unix_ms(60 * MINUTE), outage_ms, ..open() };
    assert_eq!(late(0).says(said()).verdict, Verdict::Close);
    assert!(waits(late(1).says(said()), None), "an outage of the gateway's does not count");
    // A payer who deposits has more time than one with a card, also where the gateway names no expiry.
    let mut account = late(0);
    account.payment.method = PaymentMethod::VirtualAccount;
    assert!(waits(account.says(said()), None));
    account.now = Timestamp::from_unix_ms(14 * DAY);
    assert_eq!(account.says(said()).verdict, Verdict::Close);
    // What has an expiry ends by itself; behind it, another method may have taken its place.
    let mut voucher = said();
    voucher.expires_at = Some(Timestamp::from_unix_ms(3 * DAY));
    assert!(waits(late(0).says(voucher), None));
    let mut known = late(0);
    known.payment.expires_at = Some(Timestamp::from_unix_ms(3 * DAY));
    assert!(waits(known.says(said()), None), "it was named before");
    known.now = Timestamp::from_unix_ms(3 * DAY);
    assert_eq!(known.says(said()).verdict, Verdict::Close, "the gateway names it no more");
}

#[test]
fn strange_manual_and_old_ones_are_shown() {
    let at = |now: i64, outage_ms| Given { now: Timestamp::from_unix_ms(now), outage_ms, ..open() };
    let unknown = || pg(PgState::Unknown, 0, 0);
    assert!(waits(at(60 * MINUTE - 1, 0).says(unknown()), None));
    assert!(waits(at(60 * MINUTE, 0).says(unknown()), Some(Attention::UnknownStatus)));
    assert!(waits(at(60 * MINUTE, 1).says(unknown()), None));
    assert!(waits(open().says(pg(PgState::Manual, AMOUNT, 0)), Some(Attention::ManualStatus)));
    let deposit = || {
        let mut said = pg(PgState::Open, 0, 0);
        said.expires_at = Some(Timestamp::from_unix_ms(3 * DAY));
        said
    };
    assert!(waits(at(4 * DAY - 1, 0).says(deposit()), None));
    assert!(waits(at(4 * DAY, 0).says(deposit()), Some(Attention::Overdue)));
    assert!(waits(at(4 * DAY, 1).says(deposit()), None));
}

#[test]
fn a_sweep_looks_last_at_its_end_and_then_no_more() {
    let swept = |now: i64, checks| {
        let mut given = Given { now: Timestamp::from_unix_ms(now), ..given(OrderState::Failed, PaymentState::Failed) };
        given.payment.checks = checks;
        given.says(pg(PgState::Failed, 0, 0)).next_check_ms
    };
    assert_eq!(swept(0, 0), Some(60 * MINUTE));
    assert_eq!(swept(0, 20), Some(DAY / 2));
    assert_eq!(swept(5 * DAY - 7, 20), Some(7));
    assert_eq!(swept(5 * DAY, 20), None);
}

#[test]
fn a_sweep_goes_on_while_the_gateway_has_not_done_with_the_money() {
    let last = |said: PgPayment| {
        let mut given = Given { now: Timestamp::from_unix_ms(5 * DAY), ..given(OrderState::Failed, PaymentState::Failed) };
        given.payment.checks = 20;
        let judged = given.says(said);
        (judged.verdict, judged.next_check_ms, judged.attention)
    };
    let goes_on = |attention| (Verdict::Wait, Some(DAY / 2), Some(attention));
    let moving = |state, captured| showing(pg(state, captured, 0), "r", None, AMOUNT, PgRefundState::Pending);
    assert_eq!(last(moving(PgState::Paid, AMOUNT)), goes_on(Attention::RefundOverdue));
    assert_eq!(last(moving(PgState::Returned, AMOUNT)), goes_on(Attention::RefundOverdue));
    assert_eq!(last(pg(PgState::Returned, AMOUNT, 0)), goes_on(Attention::RefundOverdue));
    assert_eq!(last(pg(PgState::Manual, AMOUNT, 400)), goes_on(Attention::ManualStatus));
    assert_eq!(last(pg(PgState::Unknown, AMOUNT, 0)), goes_on(Attention::UnknownStatus));
    assert_eq!(last(pg(PgState::Failed, AMOUNT, 0)), goes_on(Attention::AmountsDisagree));
    assert_eq!(last(pg(PgState::Paid, AMOUNT, AMOUNT + 1)), goes_on(Attention::AmountsDisagree));
    assert_eq!(last(pg(PgState::Manual, 0, 0)), goes_on(Attention::ManualStatus), "or nobody would lift the flag");
    assert_eq!(last(pg(PgState::Failed, 0, 0)), (Verdict::Wait, None, None));
}

#[test]
fn a_sweep_lasts_until_the_latest_expiry_that_the_gateway_names() {
    let at = |days: i64, expiry: Option<i64>| {
        let mut given = Given { now: Timestamp::from_unix_ms(days * DAY), ..given(OrderState::Failed, PaymentState::Failed) };
        given.payment.checks = 20;
        let said = PgPayment { expires_at: expiry.map(|days| Timestamp::from_unix_ms(days * DAY)), ..pg(PgState::Failed, 0, 0) };
        given.says(said).next_check_ms
    };
    assert_eq!((at(6, None), at(6, Some(4))), (None, None));
    assert_eq!((at(6, Some(10)), at(10, Some(10))), (Some(DAY / 2), None));
}
