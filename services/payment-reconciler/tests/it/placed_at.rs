//! The order service's clock tells when an order was placed. No money is decided by it: what ends a payment counts from its intake, by the
//! database's clock.

use std::sync::Arc;

use domain::{
    clock::{Clock as _, SystemClock},
    coupon::LogIncarnation,
    payment::Currency,
};
use payment_providers::ProviderKind;
use payment_reconciler::intake::{IntakeStore, Range};
use pg_simulator::{Call, Fault, NewPayment, Script};

use crate::{
    orders::{attempt, db, order},
    refund_stage::{AMOUNT, HOUR, MINUTE, Stage, reference},
};

/// An order that came in by the log, placed so many milliseconds ago by the order service's clock.
async fn taken_in(stage: &Stage, id: &str, placed_ago_ms: i64, offset: i64) {
    let mut order = order(id);
    order.payments = vec![attempt(&format!("p-{id}"), "sim", &reference(&format!("p-{id}")))];
    order.placed_at = SystemClock.now().saturating_add_ms(-placed_ago_ms);
    let log = LogIncarnation { cluster_id: "c".to_owned(), topic_id: "t".to_owned() };
    let store = IntakeStore::new(db(&stage.world).await, "orders".to_owned(), log);
    let position = "INSERT INTO consumer_position (topic, partition, next_offset, cluster_id, topic_id) VALUES ('orders', 0, 0, 'c', 't') \
        ON CONFLICT DO NOTHING";
    stage.sql.run(position).await;
    store.write(&Range { partition: 0, from: offset, to: offset + 1 }, &[order]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_service_whose_clock_is_late_ends_no_payment_that_the_payer_is_about_to_make() {
    let stage = Stage::new("clock-late", ProviderKind::Generic).await;
    // More than twice the payment window: by that clock the payer's time is over before the order is here.
    for (offset, id) in (0..).zip(["open", "unknown"]) {
        taken_in(&stage, id, 61 * MINUTE, offset).await;
    }
    let open = NewPayment::new(reference("p-open"), AMOUNT, Currency::KRW, Script::open());
    stage.simulator.place(open).unwrap();
    stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
    stage.run().await;
    assert_eq!(stage.simulator.calls(&reference("p-open")).query, 1, "they are asked about");
    assert_eq!(stage.simulator.calls(&reference("p-open")).close, 0, "and nothing is taken away from the payer");
    for id in ["open", "unknown"] {
        assert_eq!(stage.states(id).await, "PENDING PENDING", "{id}");
    }
    // Its time is over when it is over by the database's clock.
    stage.run_after(HOUR + MINUTE).await;
    assert_eq!(stage.simulator.calls(&reference("p-open")).close, 1);
    assert_eq!(stage.states("unknown").await, "FAILED FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gets_no_answer_is_handed_over_by_its_time_here_and_not_by_the_order_services_clock() {
    let stage = Stage::new("late-intake", ProviderKind::Generic).await;
    // By that clock it is overdue when it comes in.
    taken_in(&stage, "poison", 30 * HOUR, 0).await;
    let poison = Script::paid().fault(Call::Query, u32::MAX, Fault::Status(503));
    stage.simulator.place(NewPayment::new(reference("p-poison"), AMOUNT, Currency::KRW, poison)).unwrap();
    stage.run_after(MINUTE).await;
    assert_eq!(stage.of_payment("p-poison", "failed_checks").await, "1");
    stage.run_after(23 * HOUR).await;
    assert_eq!(
        (stage.of_payment("p-poison", "failed_checks").await.as_str(), stage.attention("p-poison").await.as_str()),
        ("2", "")
    );
    stage.run_after(HOUR).await;
    assert_eq!(stage.attention("p-poison").await, "overdue");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_service_whose_clock_is_early_does_not_keep_its_orders_from_becoming_stale() {
    let stage = Stage::new("clock-early", ProviderKind::Generic).await;
    taken_in(&stage, "a", -2 * HOUR, 0).await;
    stage.simulator.place(NewPayment::new(reference("p-a"), AMOUNT, Currency::KRW, Script::paid())).unwrap();
    assert_eq!(Arc::clone(&stage.line).stale_orders(stage.line.now().await.unwrap()).await.unwrap(), 0);
    stage.run_after(11 * MINUTE).await;
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
}
