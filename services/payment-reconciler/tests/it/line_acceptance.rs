//! The acceptance list, word for word, on a process of the service.

use payment_providers::ProviderKind;
use pg_simulator::{Answer, Latency, Script};

use crate::{
    line_world::{Process, becomes_quiet, calls},
    refund_stage::{MINUTE, SECOND, Stage},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_callback_is_made_up_for_after_ten_minutes() {
    let stage = Stage::new("ten-minutes", ProviderKind::Generic).await;
    assert_eq!(stage.run().await.found, 0, "nothing is stale, and that is a run, too");
    stage.place("paid", Script::paid()).await;
    stage.place("open", Script::open()).await;
    stage.place("closed", Script::default().then(Answer::Closed)).await;
    assert_eq!(stage.run_after(9 * MINUTE).await.found, 0);
    assert_eq!((stage.states("paid").await.as_str(), calls(&stage, "paid").query), ("PENDING PENDING", 0));
    let report = stage.run_after(MINUTE + SECOND).await;
    assert_eq!((report.found, report.successes(), report.failures()), (3, 3, 0), "{report:?}");
    for (id, states) in [("paid", "COMPLETED SUCCESS"), ("open", "PENDING PENDING"), ("closed", "FAILED FAILED")] {
        assert_eq!(stage.states(id).await, states, "{id}");
    }
    stage.run().await;
    assert_eq!(stage.sql.number("SELECT count(*) FROM money_entry").await, 1);
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_run").await, 4, "each run leaves its report");
    assert_eq!(stage.sql.number("SELECT stock FROM product WHERE product_id = 'book'").await, 98);
    stage.simulator.tell("ref_p_open", Answer::Closed).unwrap();
    stage.becomes_quiet().await;
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_stale_orders_are_asked_about_ten_at_a_time_and_never_more() {
    let stage = Stage::new("twenty", ProviderKind::Generic).await;
    stage.simulator.set_latency(Latency::fixed(500));
    for number in 0..20 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    let process = Process::start(&stage, &[("LINE__ASKING__TRY_TIMEOUT_MS", "20000"), ("LINE__RUN__LEASE_MS", "60000")]);
    becomes_quiet(&stage.sql).await;
    assert_eq!(stage.simulator.in_flight_max(), 10);
    assert!((0..20).all(|number| calls(&stage, &format!("o{number}")).query == 1));
    stage.money().holds().await;
    drop(process);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_orders_of_which_the_fifth_has_lost_its_product() {
    let stage = Stage::new("fifth", ProviderKind::Generic).await;
    for number in 1..=10 {
        stage.place_of(&format!("o{number}"), if number == 5 { "nothing" } else { "book" }, vec![Script::paid()]).await;
    }
    let process = Process::start(&stage, &[]);
    process.logs(&["Found 10 stale orders to reconcile"]).await;
    process.logs(&["Failed to reconcile order: o5", "PRODUCT_NOT_FOUND"]).await;
    process.logs(&["Reconciliation: success=9, failure=1"]).await;
    becomes_quiet(&stage.sql).await;
    for number in 1..=10 {
        let expected = if number == 5 { "FAILED REFUNDED" } else { "COMPLETED SUCCESS" };
        assert_eq!(stage.states(&format!("o{number}")).await, expected, "o{number}");
    }
    assert_eq!(stage.of_payment("p-o5", "r.reason").await, "PRODUCT_NOT_FOUND");
    process.logs(&["Found 0 stale orders to reconcile"]).await;
    process.logs(&["Reconciliation: success=0, failure=0"]).await;
    process.logs(&["asked the payment gateway", "o1"]).await;
    process.logs(&["stock decreased", "book"]).await;
    assert_eq!(process.log().matches("Failed to reconcile order").count(), 1, "nobody else failed");
    stage.money().holds().await;
}
