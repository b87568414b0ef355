use domain::payment::{Currency, PgRefundState};
use pg_simulator::{Answer, EntryKind, RefundScript, Script};
use serde_json::Value;

use crate::support::{generic, generic_refund, generic_status, place, start};

#[tokio::test]
async fn a_script_is_followed_ask_by_ask_and_money_moves_once() {
    let simulator = start();
    place(&simulator, "p-1", 700, Script::not_found(1).for_asks(Answer::Open, 2).then(Answer::Paid));
    assert_eq!(generic(&simulator, "p-1").await.status(), 404);
    for _ in 0..2 {
        assert_eq!(generic_status(&simulator, "p-1").await, "open");
    }
    for _ in 0..3 {
        assert_eq!(generic_status(&simulator, "p-1").await, "paid");
    }
    let money = simulator.money("p-1");
    assert_eq!((money.paid, money.refunded, money.captures, money.held()), (700, 0, 1, 700));
    assert_eq!(simulator.calls("p-1").query, 6);
    assert_eq!(generic(&simulator, "nobody").await.status(), 404);
    assert_eq!(simulator.unknown_calls(), 1);
}

#[tokio::test]
async fn late_success_follows_failure() {
    let simulator = start();
    place(&simulator, "p-1", 700, Script::default().for_asks(Answer::Failed, 1).then(Answer::Paid));
    assert_eq!(generic_status(&simulator, "p-1").await, "failed");
    assert_eq!(generic_status(&simulator, "p-1").await, "paid");
}

#[tokio::test]
async fn one_key_refunds_once_and_a_forgotten_key_is_refused_by_what_is_held() {
    let simulator = start();
    place(&simulator, "p-1", 700, Script::paid());
    for _ in 0..3 {
        assert_eq!(generic_refund(&simulator, "p-1", 700, "k").await.unwrap().status(), 201);
    }
    assert_eq!(simulator.money("p-1").held(), 0);
    assert_eq!(generic_refund(&simulator, "p-1", 1, "k").await.unwrap().status(), 409, "another request under the same key");
    simulator.forget_keys();
    let again: Value = generic_refund(&simulator, "p-1", 700, "k").await.unwrap().json().await.unwrap();
    assert_eq!(again["code"], "already_refunded");
    assert_eq!(simulator.money("p-1").refunds, 1);
}

#[tokio::test]
async fn a_careless_gateway_refunds_twice_and_the_ledger_shows_it() {
    let simulator = start();
    let script = Script { over_refunds: true, ..Script::paid() };
    place(&simulator, "p-1", 700, script);
    for key in ["k-1", "k-2"] {
        assert_eq!(generic_refund(&simulator, "p-1", 700, key).await.unwrap().status(), 201);
    }
    let money = simulator.money("p-1");
    assert_eq!((money.held(), money.refunds), (-700, 2));
}

#[tokio::test]
async fn a_refund_fails_later_or_comes_back_and_the_money_is_held_again() {
    let simulator = start();
    place(&simulator, "later", 700, Script::paid().refund(RefundScript::FailsLater(2)));
    place(&simulator, "back", 700, Script::paid().refund(RefundScript::Reversed(2)));
    place(&simulator, "slow", 700, Script::paid().refund(RefundScript::Pending(2)));
    for reference in ["later", "back", "slow"] {
        generic_refund(&simulator, reference, 700, reference).await.unwrap();
    }
    let state = |reference: &str| simulator.payment(reference).unwrap().refunds[0].state;
    assert_eq!(
        [state("later"), state("back"), state("slow")],
        [PgRefundState::Pending, PgRefundState::Done, PgRefundState::Pending]
    );
    assert_eq!(simulator.money("back").held(), 0);
    for reference in ["later", "back", "slow"] {
        assert_eq!(generic_status(&simulator, reference).await, "refunded");
        assert_eq!(generic_status(&simulator, reference).await, "refunded");
    }
    assert_eq!(
        [state("later"), state("back"), state("slow")],
        [PgRefundState::Failed, PgRefundState::Failed, PgRefundState::Done]
    );
    let held = |reference: &str| simulator.money(reference).held();
    assert_eq!([held("later"), held("back"), held("slow")], [700, 700, 0]);
    assert_eq!(generic_status(&simulator, "later").await, "paid");
    let kinds: Vec<EntryKind> = simulator.ledger().into_iter().filter(|e| e.reference == "back").map(|e| e.kind).collect();
    assert_eq!(kinds, [EntryKind::Capture, EntryKind::Refund, EntryKind::RefundReversed]);
}

#[tokio::test]
async fn another_amount_another_currency_and_a_dashboard_refund_show() {
    let simulator = start();
    let usd: Currency = "USD".parse().unwrap();
    place(&simulator, "less", 700, Script::paid().capturing(699));
    place(&simulator, "usd", 700, Script::paid().capturing_in("USD"));
    place(&simulator, "part", 700, Script::paid());
    simulator.refund_at_dashboard("part", Some(200)).unwrap();
    assert_eq!(simulator.money("less").paid, 699);
    assert_eq!(simulator.money("usd").currency, Some(usd));
    assert_eq!(generic_status(&simulator, "part").await, "partially_refunded");
    assert_eq!(simulator.money("part").held(), 500);
    assert!(simulator.refund_at_dashboard("part", Some(501)).is_err());
}

#[tokio::test]
async fn a_virtual_account_waits_and_its_refund_needs_the_payer() {
    let simulator = start();
    place(&simulator, "va", 700, Script::deposit());
    assert_eq!(generic_status(&simulator, "va").await, "waiting_for_deposit");
    simulator.pay("va").unwrap();
    let body: Value = generic_refund(&simulator, "va", 700, "k").await.unwrap().json().await.unwrap();
    assert_eq!(body["code"], "payer_account_required");
    assert_eq!(simulator.money("va").held(), 700);
}
