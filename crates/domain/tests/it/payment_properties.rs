//! What holds of every verdict and of every step of a refund, whatever a gateway says.

use domain::{
    clock::Timestamp,
    payment::{
        Attention, Currency, FailReason, Money, OrderState, PaymentState, PgAnswer, PgPayment, PgRefund, PgRefundState, PgState,
        Policy, Refund, RefundState, Stock, Verdict,
        refunding::{Step, next_step, reversed, watch},
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};

use crate::payment::*;

fn money() -> impl Strategy<Value = Money> {
    let amount = prop_oneof![
        3 => Just(0),
        3 => Just(AMOUNT),
        1 => select(vec![-1, 1, AMOUNT - 1, AMOUNT + 1, i64::MIN, i64::MAX]),
        1 => 0..=AMOUNT,
    ];
    let currency = prop_oneof![9 => Just(Currency::KRW), 1 => Just("USD".parse().unwrap())];
    (amount, currency).prop_map(|(amount, currency)| Money::new(amount, currency))
}

fn shown_refund() -> impl Strategy<Value = PgRefund> {
    let key = option::of(select(vec!["rf-1".to_owned(), "rf-2".to_owned(), "somebodys".to_owned()]));
    let state = select(vec![PgRefundState::Pending, PgRefundState::Done, PgRefundState::Failed]);
    (select(vec!["a".to_owned(), "b".to_owned()]), key, money(), state).prop_map(|(id, key, amount, state)| PgRefund {
        id,
        key,
        amount,
        at: None,
        state,
    })
}

fn said() -> impl Strategy<Value = PgPayment> {
    use PgState::{Failed, Manual, Open, Paid, Returned, Unknown};
    let state = select(vec![Paid, Paid, Open, Failed, Returned, Manual, Unknown]);
    let expires_at = option::of((0..8 * DAY).prop_map(Timestamp::from_unix_ms));
    let contradictory = prop_oneof![9 => Just(false), 1 => Just(true)];
    (state, money(), money(), vec(shown_refund(), 0..3), any::<bool>(), expires_at, contradictory).prop_map(
        |(state, captured, refunded, refunds, refund_needs_payer, expires_at, contradictory)| PgPayment {
            captured,
            refunded,
            refunds,
            refund_needs_payer,
            expires_at,
            contradictory,
            ..pg(state, 0, 0)
        },
    )
}

fn case() -> impl Strategy<Value = Given> {
    let payment = select(vec![PaymentState::Pending, PaymentState::Failed]);
    let stock = select(vec![Stock::Enough, Stock::Enough, Stock::Short, Stock::ProductNotFound]);
    (select(OrderState::ALL.to_vec()), payment, stock, 0..8 * DAY, 0..2 * DAY, 0..20_u32, any::<bool>()).prop_map(
        |(order, payment, stock, now, outage_ms, checks, was_not_found)| {
            let mut given = Given { stock, now: Timestamp::from_unix_ms(now), outage_ms, ..given(order, payment) };
            (given.payment.checks, given.payment.was_not_found) = (checks, was_not_found);
            given
        },
    )
}

/// What is held, if the amounts make sense: also, all refunds that are done are in the total.
fn held(said: &PgPayment) -> Option<i64> {
    let done: Vec<Money> =
        said.refunds.iter().filter(|refund| refund.state == PgRefundState::Done).map(|refund| refund.amount).collect();
    let same = said.captured.currency == said.refunded.currency && done.iter().all(|m| m.currency == said.refunded.currency);
    let listed: i128 = done.iter().map(|refund| i128::from(refund.amount)).sum();
    let left = i128::from(said.captured.amount) - i128::from(said.refunded.amount);
    let none_below = said.captured.amount >= 0 && said.refunded.amount >= 0 && done.iter().all(|refund| refund.amount >= 0);
    let adds_up = same && none_below && left >= 0 && listed <= i128::from(said.refunded.amount) && !said.contradictory;
    adds_up.then(|| i64::try_from(left).unwrap())
}

fn is_moving(said: &PgPayment) -> bool {
    said.refunds.iter().any(|refund| refund.state == PgRefundState::Pending)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_verdict_follows_from_what_is_held(given in case(), said in said()) {
        let judged = given.says(said.clone());
        let (state, held) = (said.state, held(&said));
        match judged.verdict {
            Verdict::Settle => {
                prop_assert_eq!((state, held, said.captured.currency), (PgState::Paid, Some(AMOUNT), Currency::KRW));
                prop_assert_eq!((given.order.state, given.payment.state), (OrderState::Pending, PaymentState::Pending));
                prop_assert!(given.stock == Stock::Enough && !is_moving(&said));
            }
            Verdict::Fail(reason) => {
                prop_assert_eq!((reason, state, held, said.captured.amount), (FailReason::Failed, PgState::Failed, Some(0), 0));
                prop_assert_eq!(given.payment.state, PaymentState::Pending);
            }
            Verdict::Refund { amount, by_operator, .. } => {
                prop_assert_eq!((state, Some(amount.amount), amount.currency), (PgState::Paid, held, said.captured.currency));
                prop_assert!(amount.amount > 0 && !is_moving(&said) && by_operator == said.refund_needs_payer);
            }
            Verdict::Returned => prop_assert!(held == Some(0) && said.captured.amount > 0),
            Verdict::Close => prop_assert_eq!((state, held), (PgState::Open, Some(0))),
            Verdict::Wait => prop_assert!(given.payment.state == PaymentState::Failed || judged.next_check_ms.is_some()),
        }
    }

    #[test]
    fn a_contradiction_waits_and_is_shown(given in case(), said in said()) {
        let nothing_came = matches!(said.state, PgState::Paid | PgState::Returned) && held(&said) == Some(0) && said.captured.amount == 0;
        if held(&said).is_none() || nothing_came {
            let judged = given.says(said);
            prop_assert_eq!((judged.verdict, judged.attention), (Verdict::Wait, Some(Attention::AmountsDisagree)));
        }
    }

    #[test]
    fn without_a_payment_there_is_no_money_to_move(given in case()) {
        let judged = given.judged(&PgAnswer::NotFound);
        prop_assert!(matches!(judged.verdict, Verdict::Wait | Verdict::Fail(FailReason::NeverSeen)), "{:?}", judged);
    }

    #[test]
    fn a_refund_is_sent_only_of_what_is_held_and_beside_no_other(
        state in select(vec![RefundState::Requested, RefundState::Sending, RefundState::Accepted, RefundState::Manual]),
        sends in 0..3_i32,
        attempt in 1..3_i32,
        is_held in any::<bool>(),
        pg_refund_id in option::of(select(vec!["a".to_owned(), "b".to_owned()])),
        said in said(),
        sent_ms in option::of(0..60_000_i64),
        age_ms in 0..2 * DAY,
    ) {
        let own = Refund { attempt, held: is_held, pg_refund_id, ..refund(state, sends) };
        let step = next_step(&own, &PgAnswer::Found(said.clone()), age_ms, sent_ms, &Policy::default());
        let sent = match step {
            Step::Send(amount) | Step::SendAnew(amount) => Some(amount),
            Step::Confirm => {
                prop_assert!(held(&said) == Some(0) && !is_moving(&said));
                prop_assert!(said.captured.amount > 0 || said.state == PgState::Failed);
                None
            }
            Step::Accepted(_) | Step::Manual(_) | Step::Wait(_) => None,
        };
        if let Some(amount) = sent {
            prop_assert!(held(&said).is_some_and(|held| held > 0) && !is_moving(&said));
            prop_assert!(!is_held && !said.refund_needs_payer && state != RefundState::Manual);
            let same_call = state == RefundState::Sending && matches!(step, Step::Send(_));
            prop_assert_eq!(Some(amount.amount), if same_call { Some(AMOUNT) } else { held(&said) });
            prop_assert!(!same_call || sent_ms.is_none_or(|ms| ms >= 30_000), "sent a moment ago");
        }
    }

    #[test]
    fn nobody_stops_asking_while_money_is_held_or_moving(given in case(), said in said(), checks in 0..40_u32, until in 0..8 * DAY) {
        let unclear = held(&said).is_none_or(|held| held != 0) || is_moving(&said);
        let judged = given.says(said.clone());
        if matches!(judged.verdict, Verdict::Wait | Verdict::Close) && unclear {
            prop_assert!(judged.next_check_ms.is_some(), "{:?}", judged);
            let over = given.payment.state == PaymentState::Failed
                && given.now >= given.payment.sweep_until.unwrap().max(said.expires_at.unwrap_or(given.now));
            prop_assert!(!over || judged.attention.is_some(), "{:?}", judged);
        }
        let until = Timestamp::from_unix_ms(until);
        let answer = PgAnswer::Found(said.clone());
        let watched = watch(&answer, Some(until), checks, given.now, &Policy::default());
        prop_assert_eq!(watched.next_check_ms.is_some(), unclear || until > given.now);
        prop_assert!(!unclear || until > given.now || watched.attention.is_some());
    }

    #[test]
    fn what_came_back_is_what_is_held(said in said()) {
        let back = reversed(&PgAnswer::Found(said.clone())).map(|money| money.amount);
        prop_assert_eq!(back, held(&said).filter(|held| *held > 0 && !is_moving(&said)));
    }
}
