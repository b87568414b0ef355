//! What the line does with answers that no gateway gives when it is asked to: written down one by one.

use domain::payment::{PgAnswer, PgPayment, PgRefund, PgRefundState, PgState};
use payment_providers::ProviderKind;
use pg_simulator::{Call, Fault, Script};

use crate::{
    refund_stage::{AMOUNT, DAY, HOUR, MINUTE, Stage, patient, reference, scripted, won},
    scripted::{Scripted, paid},
};

/// All that was held of a payment whose refund needs data that only the payer has.
fn deposited() -> PgPayment {
    PgPayment { refund_needs_payer: true, ..paid(won(AMOUNT)) }
}

impl Stage {
    /// The gateway says this, and a day later somebody asks.
    async fn hears(&self, pg: &Scripted, payment: &str, said: PgPayment) {
        pg.says(&reference(payment), Ok(PgAnswer::Found(said)));
        self.run_after(DAY).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateways_id_of_a_refund_stays_known_when_a_person_has_to_make_it() {
    let (stage, pg) = scripted("kept-id", patient()).await;
    stage.place_of("a", "nothing", vec![Script::open()]).await;
    stage.hears(&pg, "p-a", deposited()).await;
    assert_eq!(stage.of_payment("p-a", "r.state").await, "MANUAL");
    let shown = |id: &str, state| PgRefund { id: id.to_owned(), key: None, amount: won(AMOUNT), at: None, state };
    let with = |refunds| PgPayment { refunds, ..deposited() };
    // A person makes it at the dashboard, and it is on its way.
    stage.hears(&pg, "p-a", with(vec![shown("x-1", PgRefundState::Pending)])).await;
    assert_eq!(stage.of_payment("p-a", "r.state || ' ' || r.pg_refund_id").await, "ACCEPTED x-1");
    // It failed: who makes the next one has to know which.
    stage.hears(&pg, "p-a", with(vec![shown("x-1", PgRefundState::Failed)])).await;
    assert_eq!(stage.of_payment("p-a", "r.state || ' ' || r.pg_refund_id").await, "MANUAL x-1");
    // Another one is the one that counts then.
    let both = vec![shown("x-1", PgRefundState::Failed), shown("x-2", PgRefundState::Pending)];
    stage.hears(&pg, "p-a", with(both)).await;
    assert_eq!(stage.of_payment("p-a", "r.state || ' ' || r.pg_refund_id").await, "ACCEPTED x-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_back_and_needs_the_payer_is_a_persons_at_once_and_counts_to_no_bound() {
    let mut own = patient();
    // Any refund that goes by itself would be held.
    own.refunds.automatic_max = 0;
    let (stage, pg) = scripted("back-again", own).await;
    stage.place("a", Script::open()).await;
    stage.place("card", Script::open()).await;
    // It came and went before anybody asked, so that there is no refund of ours.
    let gone = |said: PgPayment| PgPayment { state: PgState::Returned, refunded: won(AMOUNT), ..said };
    for (payment, said) in [("p-a", gone(deposited())), ("p-card", gone(paid(won(AMOUNT))))] {
        pg.says(&reference(payment), Ok(PgAnswer::Found(said)));
    }
    stage.run_after(11 * MINUTE).await;
    assert_eq!(stage.states("a").await, "FAILED REFUNDED");
    assert_eq!(stage.sql.number("SELECT count(*) FROM refund").await, 0);
    pg.says(&reference("p-card"), Ok(PgAnswer::Found(paid(won(AMOUNT)))));
    stage.hears(&pg, "p-a", deposited()).await;
    let seen = "r.state || ' ' || r.reason || ' ' || r.held || ' ' || attention_reason";
    assert_eq!(stage.of_payment("p-a", seen).await, "MANUAL REVERSED false refund_needs_payer");
    assert_eq!(stage.of_payment("p-card", seen).await, "REQUESTED REVERSED true refund_held");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_was_just_sent_is_not_sent_again_however_often_it_is_asked_about() {
    let mut own = patient();
    own.policy.refund_grace_ms = HOUR;
    let stage = Stage::with("grace", ProviderKind::Generic, own).await;
    stage.place_of("a", "nothing", vec![Script::paid().fault(Call::Refund, 1, Fault::Dropped)]).await;
    stage.run_after(11 * MINUTE).await;
    stage.run_after(1).await;
    let ask = "UPDATE payment SET hinted_at = payment_now()";
    for _ in 0..3 {
        stage.sql.run(ask).await;
        stage.run_after(10 * MINUTE).await;
        assert_eq!((stage.of_payment("p-a", "r.state").await.as_str(), stage.refund_calls("p-a")), ("SENDING", 1));
    }
    stage.sql.run(ask).await;
    stage.run_after(30 * MINUTE).await;
    assert_eq!(stage.refund_calls("p-a"), 2, "the hour is over, and the gateway shows none");
    stage.becomes_quiet().await;
    assert_eq!((stage.states("a").await.as_str(), stage.keys("p-a")), ("FAILED REFUNDED", vec!["own-1".to_owned()]));
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_moves_inside_the_settles_own_transaction_is_not_settled() {
    let stage = Stage::new("moved", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    // As a trigger of somebody who shares the tables might.
    let meddles = "CREATE FUNCTION meddles() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
            UPDATE customer_order SET state = 'COMPLETED', reason = 'SOMEBODY' WHERE order_id = NEW.order_id; RETURN NULL; END $$; \
        CREATE TRIGGER meddles AFTER INSERT ON stock_movement FOR EACH ROW WHEN (NEW.kind = 'sold') EXECUTE FUNCTION meddles()";
    stage.sql.run(meddles).await;
    let report = stage.run_after(11 * MINUTE).await;
    assert_eq!((report.failures(), stage.states("a").await.as_str()), (1, "PENDING PENDING"));
    assert_eq!(stage.sql.number("SELECT stock FROM product WHERE product_id = 'book'").await, 100, "nothing is written");
    assert_eq!(
        stage
            .sql
            .number(
                "SELECT (SELECT count(*) FROM outbox WHERE event_type LIKE '%Completed') + (SELECT count(*) FROM money_entry)"
            )
            .await,
        0
    );
    stage.sql.run("DROP TRIGGER meddles ON stock_movement").await;
    stage.becomes_quiet().await;
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
    stage.money().holds().await;
}
