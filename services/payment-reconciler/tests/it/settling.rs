//! Stale orders against a gateway that can be asked: settled, failed, or given back; and the money check at the end of each.

use std::{sync::Arc, time::Duration};

use domain::payment::Currency;
use payment_providers::{ProviderSettings, Providers};
use payment_reconciler::{
    Line,
    config::LineSettings,
    line::run::{Report, Scope},
};
use pg_simulator::{Answer, NewPayment, Outage, Script, Simulator};
use testkit::World;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::orders::{Sql, order, settings};

/// A database, a gateway, and a line between them for which every order is stale at once.
struct Stage {
    sql: Sql,
    simulator: Simulator,
    line: Arc<Line>,
}

impl Stage {
    async fn new(name: &str) -> Self {
        service_kit::install_crypto_provider();
        let world = World::of_payments(name).await;
        let simulator = Simulator::start().unwrap();
        let provider =
            ProviderSettings { base_url: simulator.generic_url(), api_key: "sk_simulator".into(), ..ProviderSettings::default() };
        let providers = Providers::build([(&"sim".to_owned(), &provider)]).unwrap().all();
        let mut own = LineSettings::default();
        own.run.stale_after_ms = 0;
        own.asking.try_delay_ms = 10;
        let line = Line::new(&settings(&world), providers, Uuid::from_u128(1), own).unwrap();
        Self { sql: Sql::of(&world).await, simulator, line }
    }

    async fn place(&self, id: &str, script: Script) {
        self.place_of(id, "book", script).await;
    }

    async fn place_of(&self, id: &str, product: &str, script: Script) {
        let mut order = order(id);
        order.lines = [(product.parse().unwrap(), 2)].into();
        self.sql.place(&order).await;
        self.simulator.place(NewPayment::new(format!("ref-{id}"), 15_000, Currency::KRW, script)).unwrap();
    }

    async fn run(&self) -> Report {
        self.line.run_once(Scope::Run, &CancellationToken::new()).await.unwrap()
    }

    async fn states(&self, id: &str) -> String {
        let query = format!(
            "SELECT o.state || ' ' || p.state FROM customer_order o JOIN payment p USING (order_id) WHERE order_id = '{id}'"
        );
        self.sql.text(&query).await
    }

    /// Per payment, what the gateway holds is the amount of a success and nothing of any other; stock fell once for each completed line.
    async fn money_is_right(&self, stock: i64, sold: i64) {
        for id in self.sql.text("SELECT string_agg(order_id || '=' || p.state, ' ') FROM payment p").await.split(' ') {
            let (order, state) = id.split_once('=').unwrap();
            let held = self.simulator.money(&format!("ref-{order}")).held();
            assert_eq!(held, if state == "SUCCESS" { 15_000 } else { 0 }, "{order} is {state}");
        }
        assert_eq!(self.sql.number("SELECT stock FROM product WHERE product_id = 'book'").await, stock - sold);
        let moved = "SELECT coalesce(-sum(change), 0)::bigint FROM stock_movement WHERE product_id = 'book'";
        assert_eq!(self.sql.number(moved).await, sold);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paid_order_whose_callback_was_lost_is_completed_once() {
    let stage = Stage::new("lost-callback").await;
    stage.sql.run("INSERT INTO product (product_id, stock) VALUES ('book', 100)").await;
    assert_eq!(stage.run().await.found, 0, "nothing is stale, and that is a run, too");
    stage.place("paid", Script::paid()).await;
    stage.place("open", Script::open()).await;
    stage.place("closed", Script::default().then(Answer::Closed)).await;
    let report = stage.run().await;
    assert_eq!((report.found, report.failures()), (3, 0), "{report:?}");
    assert_eq!(stage.states("paid").await, "COMPLETED SUCCESS");
    assert_eq!(stage.states("open").await, "PENDING PENDING");
    assert_eq!(stage.states("closed").await, "FAILED FAILED");
    stage.run().await;
    assert_eq!(stage.states("paid").await, "COMPLETED SUCCESS");
    assert_eq!(stage.sql.number("SELECT count(*) FROM money_entry").await, 1);
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_run").await, 3, "each run leaves its report");
    stage.money_is_right(100, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_order_without_its_product_gets_its_money_back_and_the_other_nine_complete() {
    let stage = Stage::new("ten").await;
    stage.sql.run("INSERT INTO product (product_id, stock) VALUES ('book', 100)").await;
    for number in 1..=10 {
        stage.place_of(&format!("o{number}"), if number == 5 { "gone" } else { "book" }, Script::paid()).await;
    }
    let report = stage.run().await;
    assert_eq!((report.found, report.failures()), (10, 1), "{report:?}");
    testkit::eventually(Duration::from_secs(30), "the refund is confirmed", || async {
        Box::pin(stage.line.run_once(Scope::Due, &CancellationToken::new())).await.unwrap();
        stage.states("o5").await == "FAILED REFUNDED"
    })
    .await;
    for number in (1..=10).filter(|number| *number != 5) {
        assert_eq!(stage.states(&format!("o{number}")).await, "COMPLETED SUCCESS");
    }
    assert_eq!(stage.sql.text("SELECT reason FROM refund").await, "PRODUCT_NOT_FOUND");
    stage.money_is_right(100, 18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_down_fails_no_order_and_is_asked_again() {
    let stage = Stage::new("down").await;
    stage.sql.run("INSERT INTO product (product_id, stock) VALUES ('book', 100)").await;
    stage.place("o1", Script::paid()).await;
    stage.simulator.set_outage(Outage::Unavailable);
    let report = stage.run().await;
    assert_eq!((report.found, report.successes(), report.failures()), (1, 0, 1), "{report:?}");
    assert_eq!(stage.states("o1").await, "PENDING PENDING", "no answer is no verdict");
    assert_eq!(stage.sql.number("SELECT failures::bigint FROM provider_state").await, 1);
    stage.simulator.set_outage(Outage::None);
    stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
    testkit::eventually(Duration::from_secs(30), "the order is completed", || async {
        Box::pin(stage.line.run_once(Scope::Due, &CancellationToken::new())).await.unwrap();
        stage.states("o1").await == "COMPLETED SUCCESS"
    })
    .await;
    stage.money_is_right(100, 2).await;
}
