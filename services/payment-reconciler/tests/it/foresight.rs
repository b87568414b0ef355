//! A dry run says what a run then does: the same answer, foreseen and settled.

use domain::payment::{PgAnswer, ProviderName};
use payment_providers::ProviderKind;
use pg_simulator::{Answer, Method, RefundScript, Script};
use serde_json::json;

use crate::{
    http::stage_over,
    refund_stage::{DAY, HOUR, MINUTE, Stage, reference},
};

impl Stage {
    async fn answer(&self, payment: &str) -> PgAnswer {
        let name: ProviderName = "sim".parse().unwrap();
        let provider = &self.line.gateway(&name).unwrap().provider;
        provider.query(&reference(payment).parse().unwrap()).await.unwrap()
    }

    async fn foreseen(&self, order: &str, payment: &str) -> String {
        let answer = self.answer(payment).await;
        self.line.foresee(&order.parse().unwrap(), &payment.parse().unwrap(), &answer).await.unwrap()
    }

    /// Everything that a settle could change.
    async fn everything(&self) -> String {
        self.sql
            .text(
                "SELECT md5(concat((SELECT string_agg(o::text, '' ORDER BY order_id) FROM customer_order o), \
                    (SELECT string_agg(p::text, '' ORDER BY payment_id) FROM payment p), (SELECT string_agg(r::text, '') FROM refund r), \
                    (SELECT string_agg(d::text, '' ORDER BY product_id) FROM product d), (SELECT count(*) FROM money_entry), \
                    (SELECT count(*) FROM stock_movement), (SELECT count(*) FROM outbox), (SELECT count(*) FROM operator_action)))",
            )
            .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dry_run_says_is_what_the_run_does() {
    let stage = Stage::new("foreseen", ProviderKind::Generic).await;
    let deposit = Script { method: Method::VirtualAccount, ..Script::paid() };
    let cases = [
        ("paid", "book", Script::paid(), "complete the order", "COMPLETED SUCCESS"),
        ("failed", "book", Script::failed(), "fail the payment", "FAILED FAILED"),
        ("open", "book", Script::open(), "wait: it is not paid", "PENDING PENDING"),
        ("unknown", "book", Script::not_found(9), "wait: the gateway does not know", "PENDING PENDING"),
        ("gone", "nothing", Script::paid(), "give 15000 KRW back: a product does not exist", "PENDING REFUNDING"),
        ("short", "rarity", Script::paid(), "give 15000 KRW back: there are not enough", "PENDING REFUNDING"),
        ("less", "book", Script::paid().capturing(14_999), "give 14999 KRW back: the order costs 15000 KRW", "PENDING REFUNDING"),
        ("dollars", "book", Script::paid().capturing_in("USD"), "give 15000 USD back", "PENDING REFUNDING"),
        ("payer", "nothing", deposit, "give 15000 KRW back", "PENDING REFUNDING"),
        ("cancelled", "book", Script::paid(), "give 15000 KRW back: the order is cancelled", "CANCELLED REFUNDING"),
    ];
    for (id, product, script, ..) in cases.clone() {
        stage.place_of(id, product, vec![script]).await;
    }
    stage.sql.run("UPDATE customer_order SET state = 'CANCELLED' WHERE order_id = 'cancelled'").await;
    stage.sql.time_passes(11 * MINUTE).await;
    let before = stage.everything().await;
    for (id, _, _, begins, _) in &cases {
        let says = stage.foreseen(id, &format!("p-{id}")).await;
        assert!(says.starts_with(begins), "{id}: {says}");
        assert_eq!(says.contains("a person has to make it"), *id == "payer", "{says}");
    }
    assert_eq!(stage.everything().await, before, "nothing is changed");
    stage.run().await;
    for (id, _, _, begins, becomes) in &cases {
        assert_eq!(stage.states(id).await, *becomes, "{id}: {begins}");
    }
    // Where a refund stands, and what follows from that.
    let confirmed = stage.foreseen("paid", "p-paid").await;
    assert!(confirmed.starts_with("nothing: it is a success"), "{confirmed}");
    let sending = stage.foreseen("gone", "p-gone").await;
    assert!(sending.starts_with("send the refund of 15000 KRW"), "{sending}");
    let payer = stage.foreseen("payer", "p-payer").await;
    assert!(payer.starts_with("wait, and show it to an operator: the refund needs data that only the payer has"), "{payer}");
    stage.run_for(HOUR, 10 * MINUTE).await;
    assert_eq!(stage.states("gone").await, "FAILED REFUNDED");
    assert!(stage.foreseen("gone", "p-gone").await.starts_with("nothing: its money is back"));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_knows_of_time_of_pending_refunds_and_of_the_hold() {
    let mut own = crate::refund_stage::patient();
    own.refunds.automatic_max = 1;
    let stage = Stage::with("foreseen-later", ProviderKind::Generic, own).await;
    for id in ["first", "second"] {
        stage.place_of(id, "nothing", vec![Script::paid().refund(RefundScript::Pending(9))]).await;
    }
    stage.place("never", Script::not_found(99)).await;
    stage.place("open", Script::open()).await;
    stage.sql.time_passes(11 * MINUTE).await;
    assert!(!stage.foreseen("first", "p-first").await.contains("held"));
    stage.run().await;
    let held = stage.sql.text("SELECT payment_id FROM refund WHERE held").await;
    let order = held.trim_start_matches("p-");
    let says = stage.foreseen(order, &held).await;
    assert!(says.contains("the refund is held"), "{says}");
    stage.place_of("third", "nothing", vec![Script::paid()]).await;
    let says = stage.foreseen("third", "p-third").await;
    assert!(says.contains("held, because there were too many automatic refunds"), "{says}");

    let other = if order == "first" { "second" } else { "first" };
    stage.run().await;
    let says = stage.foreseen(other, &format!("p-{other}")).await;
    assert!(says.starts_with("wait: the gateway works on the refund"), "{says}");
    stage.sql.time_passes(2 * DAY).await;
    let says = stage.foreseen("never", "p-never").await;
    assert!(says.starts_with("fail the payment") && says.contains("twice its window"), "{says}");
    let says = stage.foreseen("open", "p-open").await;
    assert!(says.starts_with("end the payment at the gateway"), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_told_by_dry_runs_through_the_interface() {
    let stage = Stage::new("foreseen-http", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    stage.place("b", Script::default().then(Answer::Closed)).await;
    let operators = stage_over(&stage.world, &stage.line, 1_000).await;
    let before = stage.everything().await;
    for (id, begins) in [("a", "complete the order"), ("b", "fail the payment")] {
        for (call, action) in [("retry", None), ("resolve", Some("settle"))] {
            let mut wish = json!({"reason": "what would it be?", "dryRun": true});
            if let Some(action) = action {
                wish["action"] = json!(action);
            }
            let told = operators.post(&format!("/v1/admin/orders/{id}/{call}"), wish).await.json();
            let would = told["payments"][0]["would"].as_str().unwrap().to_owned();
            assert!(would.starts_with(begins), "{call} {id}: {told}");
        }
    }
    assert_eq!(stage.everything().await, before);
}
