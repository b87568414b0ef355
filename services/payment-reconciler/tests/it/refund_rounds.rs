//! Refunds that go round in circles: they become slow and are shown to an operator, whichever way they go.

use domain::payment::{Attention, PgAnswer, PgPayment, PgRefund, PgRefundState, PgState, Policy};
use payment_providers::port::{Advice, ProviderError};
use pg_simulator::Script;
use serde_json::json;

use crate::{
    http::{stage_on, stage_over},
    refund_stage::{AMOUNT, DAY, HOUR, MINUTE, SECOND, Said, patient, reference, scripted, won},
    scripted::paid,
};

/// Orders of something that does not exist, all paid.
async fn unusable(name: &str, ids: &[&str]) -> Said {
    let said = Said::new(name).await;
    for id in ids {
        said.stage.place_of(id, "nothing", vec![Script::open()]).await;
        said.says(id, paid(won(AMOUNT)));
    }
    said
}

fn refused(advice: Advice) -> Result<PgRefund, ProviderError> {
    Err(ProviderError::Refused { code: "NO".to_owned(), message: "no".to_owned(), advice })
}

fn given_back() -> PgPayment {
    PgPayment { state: PgState::Returned, refunded: won(AMOUNT), ..paid(won(AMOUNT)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_asks_to_look_again_is_not_tried_every_second() {
    let said = unusable("ask", &["a"]).await;
    said.to_refunds(refused(Advice::Ask));
    said.stage.run_after(11 * MINUTE).await;
    said.stage.run_for(MINUTE, SECOND).await;
    assert!((2..=5).contains(&said.refunds().len()), "the first is looked at once, the others wait: {:?}", said.refunds());
    assert_eq!(said.attention("a").await, "");
    said.stage.run_for(HOUR, 2 * MINUTE).await;
    assert_eq!(said.attention("a").await, Attention::RefundRefused.as_str());
    said.stage.run_for(22 * HOUR, 20 * MINUTE).await;
    let keys = said.refunds();
    assert!((20..50).contains(&keys.len()), "trying goes on, once an hour: {keys:?}");
    assert_eq!(said.told(Attention::RefundRefused).await, 1, "it is told once");
    // Each under a key of its own: it was refused for certain, and the gateway shows no refund.
    let mut unique = keys.clone();
    unique.dedup();
    assert_eq!(unique, keys);
    said.says("a", given_back());
    said.stage.run_for(2 * HOUR, HOUR).await;
    assert_eq!((said.stage.states("a").await.as_str(), said.attention("a").await.as_str()), ("FAILED REFUNDED", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_put_off_again_and_again_is_shown_after_a_day() {
    let said = unusable("later", &["a"]).await;
    said.to_refunds(refused(Advice::Later));
    said.stage.run_after(11 * MINUTE).await;
    said.stage.run_for(23 * HOUR, 20 * MINUTE).await;
    assert_eq!(said.attention("a").await, "");
    said.stage.run_for(3 * HOUR, 20 * MINUTE).await;
    assert_eq!(said.attention("a").await, Attention::RefundOverdue.as_str());
    assert_eq!(said.told(Attention::RefundOverdue).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_is_begun_anew_by_an_operator_from_the_age_that_the_settings_give_its_gateway() {
    let mut own = patient();
    let policy = Policy { refund_overdue_ms: 2 * HOUR, ..own.policy.clone() };
    own.policies.insert("sim".parse().unwrap(), policy);
    let (stage, gateway) = scripted("settings-age", own).await;
    stage.place_of("a", "nothing", vec![Script::open()]).await;
    gateway.says(&reference("p-a"), Ok(PgAnswer::Found(paid(won(AMOUNT)))));
    stage.run_after(11 * MINUTE).await;
    stage.run_after(SECOND).await;
    assert_eq!(stage.of_payment("p-a", "r.state").await, "SENDING");
    let operators = stage_over(&stage.world, &stage.line, 1_000).await;
    let path = format!("/v1/admin/refunds/{}/release", stage.of_payment("p-a", "r.refund_id").await);
    let release = async |is_dry: bool| operators.post(&path, json!({"reason": "its key is lost", "dryRun": is_dry})).await;
    stage.sql.time_passes(HOUR + 50 * MINUTE).await;
    assert_eq!(release(true).await.json()["would"], false);
    assert_eq!(release(false).await.status, 409, "ten minutes too young");
    stage.sql.time_passes(10 * MINUTE).await;
    assert_eq!(release(true).await.json()["would"], true);
    assert_eq!(release(false).await.status, 200);
    assert_eq!(stage.of_payment("p-a", "r.state").await, "REQUESTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_failure_is_shown_after_a_day_and_an_operator_may_begin_it_anew() {
    let said = unusable("stored", &["a"]).await;
    said.stage.run_after(11 * MINUTE).await;
    said.stage.run_for(2 * HOUR, 20 * MINUTE).await;
    let operators = stage_on(&said.stage.world).await;
    let id = said.stage.of_payment("p-a", "r.refund_id").await;
    let path = format!("/v1/admin/refunds/{id}/release");
    let release = || operators.post(&path, json!({"reason": "the gateway lost its key"}));
    assert_eq!(release().await.status, 409, "it is young: the gateway may still be at it");
    said.stage.run_for(24 * HOUR, 20 * MINUTE).await;
    assert_eq!(said.stage.of_payment("p-a", "r.state").await, "SENDING");
    assert_eq!(said.attention("a").await, Attention::RefundOverdue.as_str());
    let mut keys = said.refunds();
    assert!(keys.len() > 20, "{keys:?}");
    keys.dedup();
    assert_eq!(keys.len(), 1, "what may have been done is sent again under the same key");
    // Refunds that fail do not keep anybody from asking.
    assert_eq!(said.stage.sql.number("SELECT count(*) FROM provider_state WHERE breaker <> 'closed' OR failures > 0").await, 0);

    // Nor is it begun anew while the gateway may still be at what was sent last.
    said.stage.sql.run("UPDATE refund SET sending_since = payment_now()").await;
    assert_eq!(release().await.status, 409);
    said.stage.sql.time_passes(11 * MINUTE).await;
    assert_eq!(release().await.status, 200);
    said.to_refunds(Ok(PgRefund { id: "r".to_owned(), key: None, amount: won(AMOUNT), at: None, state: PgRefundState::Done }));
    said.stage.run_after(SECOND).await;
    said.says("a", given_back());
    said.stage.run_for(2 * HOUR, HOUR).await;
    let keys = said.refunds();
    assert!(keys[0].ends_with("-1") && keys[keys.len() - 1].ends_with("-2"), "{keys:?}");
    assert_eq!((said.stage.states("a").await.as_str(), said.attention("a").await.as_str()), ("FAILED REFUNDED", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_takes_back_all_at_once_is_held() {
    let ids = ["a", "b", "c", "d"];
    let said = unusable("reopened", &ids).await;
    said.to_refunds(Ok(PgRefund { id: "r".to_owned(), key: None, amount: won(AMOUNT), at: None, state: PgRefundState::Done }));
    let held = "SELECT count(*) FROM refund WHERE held";
    // Two by two: the bound is of two in ten minutes.
    said.stage.run_after(11 * MINUTE).await;
    assert_eq!(said.stage.sql.number(held).await, 2);
    let operators = stage_on(&said.stage.world).await;
    said.release_all(&operators).await;
    said.stage.run_after(SECOND).await;
    ids.iter().for_each(|id| said.says(id, given_back()));
    said.stage.run_for(2 * HOUR, 20 * MINUTE).await;
    assert_eq!(said.stage.sql.text("SELECT string_agg(DISTINCT state, ' ') FROM payment").await, "REFUNDED");
    assert_eq!(said.refunds().len(), 4);

    // A fault of the gateway's: it shows all of them as held again.
    ids.iter().for_each(|id| said.says(id, paid(won(AMOUNT))));
    said.stage.sql.time_passes(7 * DAY).await;
    said.stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
    said.stage.run().await;
    said.stage.run_for(6 * HOUR, HOUR).await;
    assert_eq!(said.stage.sql.text("SELECT string_agg(DISTINCT state, ' ') FROM payment").await, "REFUNDING");
    assert_eq!(said.stage.sql.number(held).await, 2, "a refund of last month's is no reason to send it again");
    assert_eq!(said.told(Attention::RefundHeld).await, 4, "two of them at first, and two now");
    let sent: std::collections::BTreeSet<String> = said.refunds().into_iter().filter(|key| key.ends_with("-2")).collect();
    assert_eq!(sent.len(), 2);
    let age = "SELECT max(extract(epoch FROM payment_now() - reopened_at))::bigint FROM refund";
    assert!(said.stage.sql.number(age).await < 8 * 3_600, "its age begins there");
    ids.iter().for_each(|id| said.says(id, given_back()));
    said.stage.run_for(2 * HOUR, 20 * MINUTE).await;
    assert_eq!(said.stage.sql.text("SELECT string_agg(DISTINCT state, ' ') FROM payment").await, "REFUNDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manual_refund_that_was_held_is_tried_when_it_is_released_and_stays_shown() {
    let said = unusable("manual", &["a", "deposit"]).await;
    said.says("deposit", PgPayment { refund_needs_payer: true, ..paid(won(AMOUNT)) });
    said.to_refunds(refused(Advice::Manual));
    said.stage.run_after(11 * MINUTE).await;
    said.stage.run_for(MINUTE, 10 * SECOND).await;
    let states = "SELECT string_agg(r.state || ' ' || r.held || ' ' || p.attention_reason, ', ' ORDER BY payment_id) \
        FROM refund r JOIN payment p USING (payment_id)";
    let before = "MANUAL false refund_refused, MANUAL false refund_needs_payer";
    assert_eq!(said.stage.sql.text(states).await, before);
    let operators = stage_on(&said.stage.world).await;
    for payment in ["p-a", "p-deposit"] {
        let id = said.stage.of_payment(payment, "r.refund_id").await;
        let held = operators.post(&format!("/v1/admin/refunds/{id}/hold"), json!({"reason": "let me look"})).await;
        assert_eq!(held.status, 200, "{}", held.text);
    }
    said.stage.run_after(HOUR).await;
    assert_eq!(said.stage.sql.text(states).await, before.replace("false", "true"), "a hold takes no reason away");
    said.release_all(&operators).await;
    let released = "REQUESTED false refund_refused, REQUESTED false refund_needs_payer";
    assert_eq!(said.stage.sql.text(states).await, released);
    assert_eq!(said.refunds().len(), 1);
    said.stage.run_after(SECOND).await;
    assert_eq!(said.stage.sql.text(states).await, before, "one was tried and refused, the other waits for its payer's data");
    assert_eq!(said.refunds().len(), 2);
    assert_eq!(said.told(Attention::RefundNeedsPayer).await, 1, "what is known is not told again");
}

#[tokio::test(flavor = "multi_thread")]
async fn late_money_that_is_on_its_way_back_when_the_sweep_ends_is_not_left_alone() {
    let said = Said::new("sweep").await;
    said.stage.place("a", Script::open()).await;
    let failed = PgPayment { state: PgState::Failed, captured: won(0), ..paid(won(AMOUNT)) };
    said.says("a", failed);
    said.stage.run_after(11 * MINUTE).await;
    assert_eq!(said.stage.states("a").await, "FAILED FAILED");
    said.stage.run_for(4 * DAY + 20 * HOUR, 4 * HOUR).await;
    // The money comes on the last day, and somebody gives it back at the gateway.
    let refund = |state| PgRefund { id: "dashboard".to_owned(), key: None, amount: won(AMOUNT), at: None, state };
    said.says("a", PgPayment { refunds: vec![refund(PgRefundState::Pending)], ..paid(won(AMOUNT)) });
    said.stage.run_for(2 * DAY, 4 * HOUR).await;
    assert_eq!((said.stage.states("a").await.as_str(), said.attention("a").await.as_str()), ("FAILED FAILED", "refund_overdue"));
    // It is broken off there: ours now.
    said.says("a", PgPayment { refunds: vec![refund(PgRefundState::Failed)], ..paid(won(AMOUNT)) });
    said.stage.run_for(DAY, 4 * HOUR).await;
    assert_eq!(said.stage.states("a").await, "FAILED REFUNDING");
    assert!(!said.refunds().is_empty());
    assert!(said.stage.simulator.calls(&reference("p-a")).query == 0, "this gateway is a scripted one");
}

/// A payment that the gateway does not know at all answers with nothing.
#[tokio::test(flavor = "multi_thread")]
async fn one_answer_alone_fails_nobody() {
    let said = Said::new("unknown").await;
    said.stage.place("a", Script::open()).await;
    said.stage.run_after(2 * HOUR).await;
    assert_eq!(said.stage.states("a").await, "PENDING PENDING");
    assert_eq!(
        said.stage.line.gateway(&"sim".parse().unwrap()).unwrap().provider.query(&"ref_p_a".parse().unwrap()).await,
        Ok(PgAnswer::NotFound)
    );
    said.stage.run_after(HOUR).await;
    assert_eq!(said.stage.states("a").await, "FAILED FAILED");
}

/// A gateway that forgets a payment for a moment, which its payer is about to pay, ends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn one_answer_between_others_fails_nobody_either() {
    let said = Said::new("forgotten").await;
    said.stage.place("a", Script::open()).await;
    let open = Ok(PgAnswer::Found(PgPayment { state: PgState::Open, captured: won(0), ..paid(won(AMOUNT)) }));
    let not_found = Ok(PgAnswer::NotFound);
    for (answer, states) in [
        (&open, "PENDING PENDING"),
        (&not_found, "PENDING PENDING"),
        (&open, "PENDING PENDING"),
        (&not_found, "PENDING PENDING"),
        (&not_found, "FAILED FAILED"),
    ] {
        said.gateway.says(&reference("p-a"), answer.clone());
        said.stage.run_after(2 * HOUR).await;
        assert_eq!(said.stage.states("a").await, states, "{answer:?}");
    }
}
