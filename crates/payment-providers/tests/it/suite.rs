//! What every adapter has to do, in every dialect.

use domain::{
    clock::Timestamp,
    payment::{PgAnswer, PgReference, PgRefundState, PgState, PgTransactionKind},
};
use payment_providers::{
    ProviderKind,
    port::{Advice, ProviderError},
};
use pg_simulator::{Answer, Call, Fault, NewPayment, RefundScript, Script};

use crate::support::{Gateway, KINDS, found, krw};

#[tokio::test]
async fn paid_is_paid_with_all_its_money_and_one_call() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script::paid());
        let payment = gateway.found(&reference).await;
        assert_eq!(payment.state, PgState::Paid, "{kind:?}: {payment:?}");
        assert_eq!((payment.captured, payment.refunded, payment.held()), (krw(15_000), krw(0), Some(krw(15_000))), "{kind:?}");
        assert!(payment.transaction_id.is_some() && payment.refunds.is_empty() && !payment.refund_needs_payer, "{kind:?}");
        assert!(payment.paid_at.is_some(), "{kind:?}");
        assert_eq!(gateway.simulator.calls("order_0001").query, 1, "{kind:?}");
    }
}

#[tokio::test]
async fn what_nobody_knows_is_not_found_and_no_error() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let nobody = PgReference::new("nobody_0001").unwrap();
        assert_eq!(gateway.adapter.query(&nobody).await, Ok(PgAnswer::NotFound), "{kind:?}");
        assert_eq!(gateway.adapter.close(&nobody).await, Ok(PgAnswer::NotFound), "{kind:?}");
        let later = gateway.place("later_0001", Script::not_found(2).then(Answer::Paid));
        assert_eq!(gateway.adapter.query(&later).await, Ok(PgAnswer::NotFound), "{kind:?}");
        assert_eq!(gateway.adapter.query(&later).await, Ok(PgAnswer::NotFound), "{kind:?}");
        assert_eq!(gateway.found(&later).await.state, PgState::Paid, "{kind:?}");
    }
}

#[tokio::test]
async fn every_state_is_translated() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        // At Stripe a failed attempt leaves an intent that can still be paid: only its cancel ends it.
        let failed = if kind == ProviderKind::Stripe { PgState::Open } else { PgState::Failed };
        for (reference, answer, state) in [
            ("order_open", Answer::Open, PgState::Open),
            ("order_deposit", Answer::Deposit, PgState::Open),
            ("order_paid", Answer::Paid, PgState::Paid),
            ("order_failed", Answer::Failed, failed),
            ("order_closed", Answer::Closed, PgState::Failed),
            ("order_expired", Answer::Expired, PgState::Failed),
            ("order_strange", Answer::Strange("never_heard_of".to_owned()), PgState::Unknown),
        ] {
            let reference = gateway.place(reference, Script::default().then(answer));
            let payment = gateway.found(&reference).await;
            assert_eq!(payment.state, state, "{kind:?}: {payment:?}");
            let held = if state == PgState::Paid { 15_000 } else { 0 };
            assert_eq!(payment.held().map(|money| money.amount), Some(held), "{kind:?}: {payment:?}");
        }
    }
}

#[tokio::test]
async fn closing_ends_what_is_open_where_the_gateway_can_and_never_what_is_paid() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let open = gateway.place("order_open", Script::open());
        let payment = found(gateway.adapter.close(&open).await.unwrap());
        // Toss can end a virtual account only; other payments end by themselves.
        let state = if kind == ProviderKind::Toss { PgState::Open } else { PgState::Failed };
        assert_eq!(payment.state, state, "{kind:?}");
        let deposit = gateway.place("order_deposit", Script::deposit());
        assert_eq!(found(gateway.adapter.close(&deposit).await.unwrap()).state, PgState::Failed, "{kind:?}");
        assert_eq!(gateway.found(&deposit).await.state, PgState::Failed, "{kind:?}");
        assert_eq!(found(gateway.adapter.close(&deposit).await.unwrap()).state, PgState::Failed, "{kind:?}: twice");
        let failed = gateway.place("order_failed", Script::failed());
        assert_eq!(found(gateway.adapter.close(&failed).await.unwrap()).state, PgState::Failed, "{kind:?}");
        let paid = gateway.place("order_paid", Script::paid());
        assert_eq!(found(gateway.adapter.close(&paid).await.unwrap()).state, PgState::Paid, "{kind:?}");
        assert_eq!(gateway.simulator.money("order_paid").held(), 15_000, "{kind:?}");
    }
}

/// Toss and Stripe keep a refusal with its key and say it again for days.
#[tokio::test]
async fn a_close_that_was_refused_is_made_when_it_is_tried_again() {
    for (kind, code) in [
        (ProviderKind::Generic, "try_later"),
        (ProviderKind::Toss, "PROVIDER_ERROR"),
        (ProviderKind::Stripe, "payment_intent_unexpected_state"),
    ] {
        let gateway = Gateway::start(kind);
        let script = Script { close_refusals: vec![code.to_owned()], ..Script::deposit() };
        let deposit = gateway.place("order_deposit", script);
        for state in [PgState::Open, PgState::Failed, PgState::Failed] {
            assert_eq!(found(gateway.adapter.close(&deposit).await.unwrap()).state, state, "{kind:?}");
        }
        assert_eq!(gateway.found(&deposit).await.state, PgState::Failed, "{kind:?}");
    }
}

#[tokio::test]
async fn another_amount_and_another_currency_are_told_as_they_are() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let less = gateway.place("order_less", Script::paid().capturing(14_999));
        assert_eq!(gateway.found(&less).await.captured, krw(14_999), "{kind:?}");
        let dollars = gateway.place("order_usd", Script::paid().capturing_in("USD"));
        let payment = gateway.found(&dollars).await;
        assert_eq!(payment.captured.to_string(), "15000 USD", "{kind:?}");
        let refund = gateway.adapter.refund(&gateway.order(&payment, &dollars, "r-1.1")).await.unwrap();
        assert_eq!((refund.amount.to_string().as_str(), refund.state), ("15000 USD", PgRefundState::Done), "{kind:?}");
    }
}

#[tokio::test]
async fn a_refund_gives_everything_back_once_for_one_key() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script::paid());
        let order = gateway.order(&gateway.found(&reference).await, &reference, "r-1.1");
        for _ in 0..2 {
            let refund = gateway.adapter.refund(&order).await.unwrap();
            assert_eq!((refund.state, refund.amount), (PgRefundState::Done, krw(15_000)), "{kind:?}");
        }
        let payment = gateway.found(&reference).await;
        assert_eq!((payment.state, payment.refunded), (PgState::Returned, krw(15_000)), "{kind:?}: {payment:?}");
        assert_eq!(payment.refunds.iter().map(|refund| refund.key.as_deref()).collect::<Vec<_>>(), [Some("r-1.1")], "{kind:?}");
        assert_eq!(gateway.simulator.money("order_0001").refunds, 1, "{kind:?}");
        // The key is forgotten: what is left to refund stops the second one, and the refusal says to ask.
        gateway.simulator.forget_keys();
        let error = gateway.adapter.refund(&order).await.unwrap_err();
        assert!(matches!(error, ProviderError::Refused { advice: Advice::Ask, .. }), "{kind:?}: {error:?}");
        assert_eq!(gateway.simulator.money("order_0001").held(), 0, "{kind:?}");
    }
}

#[tokio::test]
async fn a_refund_can_be_made_without_the_gateways_own_id() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script::paid());
        let mut order = gateway.order(&gateway.found(&reference).await, &reference, "r-1.1");
        order.transaction_id = None;
        gateway.adapter.refund(&order).await.unwrap();
        assert_eq!(gateway.simulator.money("order_0001").held(), 0, "{kind:?}");
    }
}

#[tokio::test]
async fn a_lost_reply_of_a_refund_is_no_refusal_and_the_next_ask_shows_it() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script::paid().fault(Call::Refund, 1, Fault::ReplyLost));
        let order = gateway.order(&gateway.found(&reference).await, &reference, "r-1.1");
        let error = gateway.adapter.refund(&order).await.unwrap_err();
        assert!(matches!(error, ProviderError::Unavailable(_)), "{kind:?}: {error:?}");
        assert_eq!(gateway.found(&reference).await.refunded, krw(15_000), "{kind:?}");
        assert_eq!(gateway.adapter.refund(&order).await.unwrap().state, PgRefundState::Done, "{kind:?}: the key's answer");
        assert_eq!(gateway.simulator.money("order_0001").refunds, 1, "{kind:?}");
    }
}

#[tokio::test]
async fn a_refund_on_its_way_is_not_certain_yet_and_may_fail_or_come_back() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        for (name, script, at_first, in_the_end) in [
            ("order_pending", RefundScript::Pending(2), PgRefundState::Pending, PgRefundState::Done),
            ("order_fails", RefundScript::FailsLater(2), PgRefundState::Pending, PgRefundState::Failed),
            ("order_back", RefundScript::Reversed(2), PgRefundState::Done, PgRefundState::Failed),
        ] {
            let reference = gateway.place(name, Script::paid().refund(script));
            let order = gateway.order(&gateway.found(&reference).await, &reference, name);
            assert_eq!(gateway.adapter.refund(&order).await.unwrap().state, at_first, "{kind:?} {name}");
            let payment = gateway.found(&reference).await;
            let certain = if at_first == PgRefundState::Done { 15_000 } else { 0 };
            assert_eq!((payment.state, payment.refunded), (PgState::Returned, krw(certain)), "{kind:?} {name}: {payment:?}");
            gateway.found(&reference).await;
            let payment = gateway.found(&reference).await;
            assert_eq!(payment.refunds[0].state, in_the_end, "{kind:?} {name}: {payment:?}");
            let (state, certain) =
                if in_the_end == PgRefundState::Done { (PgState::Returned, 15_000) } else { (PgState::Paid, 0) };
            assert_eq!((payment.state, payment.refunded), (state, krw(certain)), "{kind:?} {name}: {payment:?}");
        }
    }
}

#[tokio::test]
async fn a_partial_refund_at_the_dashboard_is_for_a_person() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script::paid());
        gateway.simulator.refund_at_dashboard("order_0001", Some(5_000)).unwrap();
        let payment = gateway.found(&reference).await;
        assert_eq!((payment.state, payment.held()), (PgState::Manual, Some(krw(10_000))), "{kind:?}: {payment:?}");
        assert_eq!(payment.refunds[0].key, None, "{kind:?}: it is none of ours");
        // What is left can still be given back.
        gateway.adapter.refund(&gateway.order(&payment, &reference, "r-1.1")).await.unwrap();
        assert_eq!(gateway.simulator.money("order_0001").held(), 0, "{kind:?}");
    }
}

#[tokio::test]
async fn a_refund_for_another_amount_than_is_held_is_not_made() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script::paid());
        let order = gateway.order(&gateway.found(&reference).await, &reference, "r-1.1");
        gateway.simulator.refund_at_dashboard("order_0001", Some(5_000)).unwrap();
        let error = gateway.adapter.refund(&order).await.unwrap_err();
        assert!(matches!(error, ProviderError::Refused { advice: Advice::Ask, .. }), "{kind:?}: {error:?}");
        assert_eq!(gateway.simulator.money("order_0001").held(), 10_000, "{kind:?}");
    }
}

#[tokio::test]
async fn a_virtual_account_tells_its_end_and_whether_a_refund_needs_the_payer() {
    for kind in KINDS {
        let gateway = Gateway::start(kind);
        let reference = gateway.place("order_0001", Script { deposit_window_ms: Some(3_600_000), ..Script::deposit() });
        let waiting = gateway.found(&reference).await;
        assert_eq!(waiting.state, PgState::Open, "{kind:?}");
        gateway.simulator.pay("order_0001").unwrap();
        let paid = gateway.found(&reference).await;
        assert_eq!(paid.held(), Some(krw(15_000)), "{kind:?}");
        if kind == ProviderKind::Stripe {
            // Stripe asks the payer itself.
            assert!(!paid.refund_needs_payer && waiting.expires_at.is_none());
            continue;
        }
        assert!(paid.refund_needs_payer && waiting.expires_at.is_some(), "{kind:?}: {paid:?}");
        let error = gateway.adapter.refund(&gateway.order(&paid, &reference, "r-1.1")).await.unwrap_err();
        assert!(matches!(error, ProviderError::Refused { advice: Advice::Manual, .. }), "{kind:?}: {error:?}");
        assert_eq!(gateway.simulator.money("order_0001").held(), 15_000, "{kind:?}");
    }
}

#[tokio::test]
async fn the_transaction_list_holds_every_movement_page_by_page() {
    for kind in KINDS {
        let gateway = Gateway::start_with(kind, |settings| settings.page_size = 3);
        for number in 0..7 {
            gateway
                .simulator
                .place(NewPayment::new(
                    format!("order_{number:04}"),
                    100 + number,
                    domain::payment::Currency::KRW,
                    Script::paid(),
                ))
                .unwrap();
        }
        gateway.simulator.refund_at_dashboard("order_0003", None).unwrap();
        let (from, to) = (Timestamp::from_unix_ms(0), Timestamp::from_unix_ms(4_000_000_000_000));
        let (mut all, mut cursor, mut pages) = (Vec::new(), None::<String>, 0);
        loop {
            let page = gateway.adapter.transactions(from, to, cursor.as_deref()).await.unwrap();
            all.extend(page.transactions);
            pages += 1;
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!((all.len(), pages), (8, 3), "{kind:?}");
        let refunds: Vec<_> = all.iter().filter(|line| line.kind == PgTransactionKind::Refund).collect();
        assert_eq!(refunds.len(), 1, "{kind:?}");
        assert_eq!((refunds[0].reference.as_str(), refunds[0].amount), ("order_0003", krw(103)), "{kind:?}");
        let mut ids: Vec<_> = all.iter().map(|line| line.id.clone()).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 8, "{kind:?}: no line twice");
        let none = gateway.adapter.transactions(from, Timestamp::from_unix_ms(1_000), None).await.unwrap();
        assert!(none.transactions.is_empty() && none.next.is_none(), "{kind:?}");
    }
}

#[tokio::test]
async fn a_reference_that_the_gateway_could_not_have_is_never_asked_about() {
    for (kind, reference) in [
        (ProviderKind::Generic, ".."),
        (ProviderKind::Toss, "short"),
        (ProviderKind::Toss, "order/0001"),
        (ProviderKind::Stripe, "pi/../x"),
    ] {
        let gateway = Gateway::start(kind);
        let reference = PgReference::new(reference).unwrap();
        assert!(!gateway.adapter.accepts(&reference), "{kind:?} {reference}");
        let error = gateway.adapter.query(&reference).await.unwrap_err();
        assert!(matches!(error, ProviderError::Refused { advice: Advice::Manual, .. }), "{kind:?}: {error:?}");
        assert_eq!(gateway.simulator.unknown_calls(), 0, "{kind:?} {reference}");
    }
    let gateway = Gateway::start(ProviderKind::Generic);
    let odd = gateway.place("a/b?c=d#e%2f한", Script::paid());
    assert_eq!(gateway.found(&odd).await.state, PgState::Paid, "escaped, and the same on the other side");
}
