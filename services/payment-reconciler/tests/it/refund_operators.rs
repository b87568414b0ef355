//! Refunds that need a person: too many at once, and those of virtual accounts.

use payment_providers::ProviderKind;
use pg_simulator::{Answer, RefundScript, Script};
use serde_json::json;

use crate::{
    http::{Stage as Operators, stage_on, stage_over},
    refund_stage::{AMOUNT, HOUR, KINDS, MINUTE, SECOND, Stage, reference},
};

impl Stage {
    async fn release(&self, operators: &Operators, payment: &str) {
        let id = self.of_payment(payment, "r.refund_id").await;
        let released = operators.post(&format!("/v1/admin/refunds/{id}/release"), json!({"reason": "it was meant so"})).await;
        assert_eq!(released.status, 200, "{payment}: {}", released.text);
    }

    async fn held(&self) -> Vec<String> {
        let held = "SELECT string_agg(payment_id, ' ' ORDER BY payment_id) FROM refund WHERE held AND state <> 'CONFIRMED'";
        self.sql.text(held).await.split_whitespace().map(str::to_owned).collect()
    }

    fn given_back(&self) -> i64 {
        let ledger = self.simulator.ledger();
        ledger.iter().filter(|entry| entry.kind == pg_simulator::EntryKind::Refund).map(|entry| entry.amount).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_product_table_does_not_refund_everybody() {
    let stage = Stage::new("emptied", ProviderKind::Generic).await;
    for number in 10..40 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    stage.sql.run("DELETE FROM product").await;
    let report = stage.run_after(11 * MINUTE).await;
    assert_eq!((report.found, report.failures()), (30, 30), "{report:?}");
    let held = stage.held().await;
    assert_eq!(held.len(), 10, "twenty may go by themselves");
    let alerts = "SELECT count(*) FROM outbox WHERE event_type LIKE '%NeedsAttention' AND payload::text LIKE '%refund_held%'";
    assert_eq!(stage.sql.number(alerts).await, 10, "each of the rest is told of");
    stage.run_for(6 * HOUR, 20 * MINUTE).await;
    assert_eq!(stage.held().await, held, "time lets none of them go");
    assert_eq!(stage.given_back(), 20 * AMOUNT);
    for payment in &held {
        assert_eq!((stage.attention(payment).await.as_str(), stage.refund_calls(payment)), ("refund_held", 0), "{payment}");
    }
    // The ten minutes are over: one more goes by itself again.
    stage.place("later", Script::paid()).await;
    stage.run_for(HOUR, 20 * MINUTE).await;
    assert_eq!(stage.states("later").await, "FAILED REFUNDED");

    // One is given back at the gateway's dashboard, one is released, then all.
    let operators = stage_on(&stage.world).await;
    stage.simulator.refund_at_dashboard(&reference(&held[0]), None).unwrap();
    stage.release(&operators, &held[1]).await;
    stage.run_for(2 * HOUR, 20 * MINUTE).await;
    assert_eq!(stage.held().await, held[2..]);
    assert_eq!(stage.given_back(), 23 * AMOUNT);
    assert_eq!(stage.refund_calls(&held[0]), 0);
    for payment in &held[2..] {
        stage.release(&operators, payment).await;
    }
    stage.becomes_quiet().await;
    assert_eq!(stage.given_back(), 31 * AMOUNT);
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE attention").await, 0);
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_of_automatic_refunds_holds_through_each_adapter() {
    for kind in KINDS {
        let mut own = crate::refund_stage::patient();
        own.refunds.automatic_max = 2;
        let stage = Stage::with("bound", kind, own).await;
        for number in 10..15 {
            stage.place_of(&format!("o{number}"), "nothing", vec![Script::paid()]).await;
        }
        stage.run_after(11 * MINUTE).await;
        assert_eq!(stage.held().await.len(), 3, "{kind:?}");
        let operators = stage_on(&stage.world).await;
        for payment in stage.held().await {
            stage.release(&operators, &payment).await;
        }
        stage.becomes_quiet().await;
        stage.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_does_not_count_to_the_bound() {
    let mut own = crate::refund_stage::patient();
    own.refunds.automatic_max = 2;
    let stage = Stage::with("not-counted", ProviderKind::Generic, own).await;
    let come = async |ids: &[&str]| {
        for id in ids {
            stage.place_of(id, "nothing", vec![Script::paid()]).await;
        }
        stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
        stage.run().await;
        stage.held().await
    };
    assert_eq!(come(&["a", "b"]).await, [""; 0]);
    stage.sql.time_passes(9 * MINUTE).await;
    assert_eq!(come(&["c", "d", "e"]).await, ["p-c", "p-d", "p-e"]);
    // The two that went are eleven minutes old, and the three that did not are two.
    stage.sql.time_passes(2 * MINUTE).await;
    assert_eq!(come(&["f"]).await, ["p-c", "p-d", "p-e"], "the last one goes by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_accounts_refund_is_made_by_a_person() {
    // Stripe has no virtual accounts that the payment line would know.
    for kind in [ProviderKind::Generic, ProviderKind::Toss] {
        let stage = Stage::new("deposit", kind).await;
        stage.place("kept", Script::deposit()).await;
        stage.place_of("back", "nothing", vec![Script::deposit()]).await;
        stage.run_for(2 * HOUR, 10 * MINUTE).await;
        assert_eq!(stage.states("back").await, "PENDING PENDING", "{kind:?}: a deposit may take its time");
        for id in ["kept", "back"] {
            stage.simulator.pay(&reference(&format!("p-{id}"))).unwrap();
        }
        stage.run_for(8 * HOUR, HOUR).await;
        assert_eq!(stage.states("kept").await, "COMPLETED SUCCESS", "{kind:?}");
        assert_eq!(stage.states("back").await, "PENDING REFUNDING", "{kind:?}: not failed while the money is kept");
        let seen = (stage.of_payment("p-back", "r.state").await, stage.attention("p-back").await);
        assert_eq!(seen, ("MANUAL".to_owned(), "refund_needs_payer".to_owned()), "{kind:?}");

        // An operator who releases it anyway does not make the gateway accept it.
        let operators = stage_on(&stage.world).await;
        stage.release(&operators, "p-back").await;
        stage.run_for(HOUR, 10 * MINUTE).await;
        assert_eq!(stage.refund_calls("p-back"), 0, "{kind:?}: it would be refused");
        assert_eq!(stage.attention("p-back").await, "refund_needs_payer", "{kind:?}");

        stage.simulator.refund_at_dashboard(&reference("p-back"), None).unwrap();
        stage.becomes_quiet().await;
        assert_eq!(
            (stage.states("back").await.as_str(), stage.attention("p-back").await.as_str()),
            ("FAILED REFUNDED", ""),
            "{kind:?}"
        );
        stage.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_and_goes_at_the_gateway_is_not_given_back_again() {
    for kind in KINDS {
        let stage = Stage::new("dashboard", kind).await;
        // Before anybody asked; a part of it; and all of what a person saw late.
        stage.place("before", Script::paid()).await;
        stage.simulator.refund_at_dashboard("ref_p_before", None).unwrap();
        stage.place_of("part", "nothing", vec![Script::paid()]).await;
        stage.simulator.refund_at_dashboard("ref_p_part", Some(5_000)).unwrap();
        stage.place("late", Script::default().then(Answer::Closed)).await;
        stage.run_for(HOUR, 10 * MINUTE + SECOND).await;
        assert_eq!(stage.states("before").await, "FAILED REFUNDED", "{kind:?}");
        assert_eq!(
            (stage.states("part").await.as_str(), stage.attention("p-part").await.as_str()),
            ("PENDING PENDING", "manual_status"),
            "{kind:?}"
        );
        stage.simulator.pay("ref_p_late").unwrap();
        stage.simulator.refund_at_dashboard("ref_p_late", None).unwrap();
        stage.simulator.refund_at_dashboard("ref_p_part", None).unwrap();
        stage.becomes_quiet().await;
        stage.run_for(24 * HOUR, 4 * HOUR).await;
        for id in ["before", "part", "late"] {
            assert_eq!(stage.states(id).await, "FAILED REFUNDED", "{kind:?} {id}");
            assert_eq!(stage.refund_calls(&format!("p-{id}")), 0, "{kind:?} {id}");
        }
        stage.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_order_is_cancelled_when_its_own_payment_is_back_and_not_when_another_one_is() {
    for kind in KINDS {
        let stage = Stage::new("own", kind).await;
        let slow = |asks| Script::paid().refund(RefundScript::Pending(asks));
        stage.place_of("a", "book", vec![slow(12), slow(12)]).await;
        stage.run_after(11 * MINUTE).await;
        // The other one is on its way back already; it will arrive first.
        stage.run_for(HOUR, 10 * MINUTE).await;
        let operators = stage_over(&stage.world, &stage.line, 1_000).await;
        let wish = json!({"reason": "the payer called", "action": "cancel", "restock": true});
        let cancelled = operators.post("/v1/admin/orders/a/resolve", wish).await;
        assert_eq!(cancelled.status, 200, "{kind:?}: {}", cancelled.text);
        let states = "SELECT string_agg(state, ' ' ORDER BY state) FROM payment";
        assert_eq!(stage.sql.text(states).await, "REFUNDING REFUNDING", "{kind:?}");
        let mut seen = Vec::new();
        for _ in 0..80 {
            stage.run_after(10 * MINUTE).await;
            let order = stage.sql.text("SELECT state FROM customer_order").await;
            seen.push(format!("{order} {}", stage.sql.text(states).await));
        }
        was_cancelled_when_all_was_back(&stage, kind, seen).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completed_order_whose_own_payment_is_back_first_is_cancelled_with_the_last_one() {
    for kind in KINDS {
        let stage = Stage::new("own-first", kind).await;
        let late = Script::default().then(Answer::NotFound).refund(RefundScript::Pending(12));
        stage.place_of("a", "book", vec![Script::paid(), late]).await;
        stage.run_after(11 * MINUTE).await;
        // Another attempt is paid, too, and takes long to come back.
        stage.simulator.pay(&reference("p-a-2")).unwrap();
        stage.run_for(20 * MINUTE, 5 * MINUTE).await;
        assert_eq!(stage.states("a").await, "COMPLETED SUCCESS REFUNDING", "{kind:?}");
        let operators = stage_over(&stage.world, &stage.line, 1_000).await;
        let wish = json!({"reason": "the payer called", "action": "cancel", "restock": true});
        let cancelled = operators.post("/v1/admin/orders/a/resolve", wish).await;
        assert_eq!(cancelled.status, 200, "{kind:?}: {}", cancelled.text);
        let mut seen = vec![stage.states("a").await];
        for _ in 0..80 {
            stage.run_after(10 * MINUTE).await;
            seen.push(stage.states("a").await);
        }
        was_cancelled_when_all_was_back(&stage, kind, seen).await;
    }
}

/// The order was cancelled by the operator, and its pieces given back, when the last of its two payments was refunded and not before.
/// `seen`: the states of the order and its payments, as they followed.
async fn was_cancelled_when_all_was_back(stage: &Stage, kind: ProviderKind, mut seen: Vec<String>) {
    seen.dedup();
    let expected = ["COMPLETED REFUNDING REFUNDING", "COMPLETED REFUNDED REFUNDING", "CANCELLED REFUNDED REFUNDED"];
    assert_eq!(seen, expected, "{kind:?}");
    assert_eq!(stage.sql.text("SELECT reason FROM customer_order").await, "OPERATOR", "{kind:?}");
    assert_eq!(stage.sql.number("SELECT stock FROM product WHERE product_id = 'book'").await, 100, "{kind:?}");
    stage.money().holds().await;
}
