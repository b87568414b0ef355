//! Captures that a gateway takes back, and wrong amounts: the book follows, and the payment comes to its end.

use domain::payment::{PgPayment, PgRefund, PgRefundState, PgState};
use pg_simulator::Script;
use serde_json::json;

use crate::{
    http::stage_over,
    refund_stage::{AMOUNT, DAY, HOUR, MINUTE, SECOND, Said, won},
    scripted::paid,
};

const BOOK: &str = "SELECT string_agg(kind || ' ' || amount || ' ' || currency, ', ' ORDER BY entry_id) FROM money_entry";

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_that_the_bank_corrects_ends_with_the_account() {
    let said = Said::new("corrected").await;
    said.stage.place_of("a", "nothing", vec![Script::open()]).await;
    let deposit = || PgPayment { refund_needs_payer: true, ..paid(won(AMOUNT)) };
    said.says("a", deposit());
    said.stage.run_after(11 * MINUTE).await;
    assert_eq!(said.stage.states("a").await, "PENDING REFUNDING");
    // The bank had booked it by mistake: the account waits for its deposit again, and then its time is over.
    said.says("a", PgPayment { state: PgState::Open, captured: won(0), ..deposit() });
    said.stage.run_for(HOUR, 10 * MINUTE).await;
    let seen = (said.stage.states("a").await, said.attention("a").await);
    assert_eq!(seen, ("PENDING REFUNDING".to_owned(), "amounts_disagree".to_owned()), "the deposit may still come again");
    said.says("a", PgPayment { state: PgState::Failed, captured: won(0), ..deposit() });
    said.stage.run_for(3 * HOUR, HOUR).await;
    assert_eq!((said.stage.states("a").await.as_str(), said.attention("a").await.as_str()), ("FAILED REFUNDED", ""));
    assert_eq!(said.stage.sql.text(BOOK).await, format!("capture {AMOUNT} KRW, capture_reversed {AMOUNT} KRW"));
    assert!(said.refunds().is_empty(), "nothing was there to be given back");
    // It comes after all: a person has to give it back now.
    said.says("a", deposit());
    said.stage.run_for(DAY, 4 * HOUR).await;
    let seen = (said.stage.states("a").await, said.stage.of_payment("p-a", "r.state").await, said.attention("a").await);
    assert_eq!(seen, ("FAILED REFUNDING".to_owned(), "MANUAL".to_owned(), "refund_needs_payer".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_that_was_wrong_once_holds_nothing_up() {
    let said = Said::new("wrong-once").await;
    // One is given back for its amount; the other one has waited with another currency, and is right then.
    said.stage.place("a", Script::open()).await;
    said.stage.place("b", Script::open()).await;
    said.says("a", paid(won(999_999)));
    let dollars = domain::payment::Money::new(AMOUNT, "USD".parse().unwrap());
    said.says("b", PgPayment { state: PgState::Manual, ..paid(dollars) });
    said.stage.run_after(11 * MINUTE).await;
    assert_eq!(
        (said.stage.states("a").await.as_str(), said.stage.states("b").await.as_str()),
        ("PENDING REFUNDING", "PENDING PENDING")
    );
    said.to_refunds(Ok(PgRefund { id: "r".to_owned(), key: None, amount: won(AMOUNT), at: None, state: PgRefundState::Done }));
    said.says("a", paid(won(AMOUNT)));
    said.says("b", paid(won(AMOUNT)));
    said.stage.run_after(10 * MINUTE).await;
    let refund = PgRefund { id: "r".to_owned(), key: None, amount: won(AMOUNT), at: None, state: PgRefundState::Done };
    said.says("a", PgPayment { state: PgState::Returned, refunded: won(AMOUNT), refunds: vec![refund], ..paid(won(AMOUNT)) });
    said.stage.run_for(HOUR, 10 * MINUTE).await;
    assert_eq!(said.stage.states("a").await, "FAILED REFUNDED");
    assert_eq!(said.stage.states("b").await, "COMPLETED SUCCESS");
    let of = |payment: &str| BOOK.replace("FROM money_entry", &format!("FROM money_entry WHERE payment_id = '{payment}'"));
    assert_eq!(said.stage.sql.text(&of("p-a")).await, "capture 999999 KRW, capture_reversed 984999 KRW, refund 15000 KRW");
    let mut book: Vec<String> = said.stage.sql.text(&of("p-b")).await.split(", ").map(str::to_owned).collect();
    book.sort();
    assert_eq!(book, ["capture 15000 KRW", "capture 15000 USD", "capture_reversed 15000 USD"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_done_and_not_in_the_total_is_not_made_again() {
    let said = Said::new("lags").await;
    said.stage.place_of("a", "nothing", vec![Script::open()]).await;
    said.stage.place("b", Script::open()).await;
    let done =
        |key: Option<String>| PgRefund { id: "r".to_owned(), key, amount: won(AMOUNT), at: None, state: PgRefundState::Done };
    said.to_refunds(Ok(done(None)));
    said.says("a", paid(won(AMOUNT)));
    said.says("b", PgPayment { refunds: vec![done(None)], ..paid(won(AMOUNT)) });
    said.stage.run_after(11 * MINUTE).await;
    said.stage.run_after(1).await;
    assert_eq!(said.refunds().len(), 1);
    // The list has it, the total lags.
    let lags = PgPayment { refunds: vec![done(Some(said.refunds()[0].clone()))], ..paid(won(AMOUNT)) };
    said.says("a", lags.clone());
    said.stage.run_for(2 * HOUR, 10 * MINUTE).await;
    assert_eq!(said.refunds().len(), 1);
    assert_eq!(
        (said.attention("a").await.as_str(), said.attention("b").await.as_str()),
        ("amounts_disagree", "amounts_disagree")
    );
    assert_eq!(said.stage.states("b").await, "PENDING PENDING", "nobody gets goods for money that is back");
    let caught_up = PgPayment { state: PgState::Returned, refunded: won(AMOUNT), ..lags };
    said.says("a", caught_up.clone());
    said.says("b", caught_up);
    said.stage.run_for(2 * HOUR, HOUR).await;
    for id in ["a", "b"] {
        assert_eq!((said.stage.states(id).await.as_str(), said.attention(id).await.as_str()), ("FAILED REFUNDED", ""), "{id}");
    }
    // Once it lags again, while it is watched: nothing is opened.
    said.says("a", PgPayment { refunds: vec![done(None)], ..paid(won(AMOUNT)) });
    said.stage.run_for(DAY, 4 * HOUR).await;
    assert_eq!(
        (said.stage.states("a").await.as_str(), said.attention("a").await.as_str()),
        ("FAILED REFUNDED", "amounts_disagree")
    );
    assert_eq!(said.refunds().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_waited_for_another_attempts_money_is_done_when_that_capture_is_taken_back() {
    let said = Said::new("waited").await;
    said.stage.place_of("a", "book", vec![Script::open(), Script::open()]).await;
    let failed = || PgPayment { state: PgState::Failed, captured: won(0), ..paid(won(AMOUNT)) };
    said.says("a", paid(won(AMOUNT)));
    said.says("a-2", failed());
    said.stage.run_after(11 * MINUTE).await;
    assert_eq!(said.stage.states("a").await, "COMPLETED SUCCESS FAILED");
    // The one that failed has taken money after all, and nobody knows yet what becomes of it.
    said.says("a-2", PgPayment { state: PgState::Manual, ..paid(won(AMOUNT)) });
    said.stage.run_for(4 * HOUR, HOUR).await;
    let operators = stage_over(&said.stage.world, &said.stage.line, 1_000).await;
    let wish = json!({"reason": "the payer called", "action": "cancel", "restock": true});
    let cancelled = operators.post("/v1/admin/orders/a/resolve", wish).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    let refund = PgRefund { id: "r".to_owned(), key: None, amount: won(AMOUNT), at: None, state: PgRefundState::Done };
    said.to_refunds(Ok(refund));
    said.stage.run_after(SECOND).await;
    said.says("a", PgPayment { state: PgState::Returned, refunded: won(AMOUNT), ..paid(won(AMOUNT)) });
    said.stage.run_for(4 * HOUR, HOUR).await;
    assert_eq!(said.stage.states("a").await, "COMPLETED REFUNDED FAILED", "money of another attempt is held");
    said.says("a-2", failed());
    said.stage.run_for(4 * HOUR, HOUR).await;
    assert_eq!(said.stage.states("a").await, "CANCELLED REFUNDED FAILED");
    assert_eq!(said.stage.sql.text("SELECT reason FROM customer_order").await, "OPERATOR");
    assert_eq!(said.stage.sql.number("SELECT stock FROM product WHERE product_id = 'book'").await, 100);
}
