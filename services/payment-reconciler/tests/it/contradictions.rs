//! Gateways that say what cannot be: nothing is decided by it, an operator is shown it, and what they say later counts.

use payment_providers::ProviderKind;
use pg_simulator::{Answer, Script};

use crate::refund_stage::{HOUR, KINDS, MINUTE, Stage, reference};

#[tokio::test(flavor = "multi_thread")]
async fn paid_with_nothing_taken_fails_no_order_and_is_shown_to_an_operator() {
    for kind in KINDS {
        let stage = Stage::new("nothing-taken", kind).await;
        stage.place("paid", Script::paid().capturing(0)).await;
        // Nothing came, and all of it is back. An intent of Stripe's stays `succeeded` after its refunds.
        let back = match kind {
            ProviderKind::Generic => Answer::Strange("refunded".to_owned()),
            ProviderKind::Toss => Answer::Strange("CANCELED".to_owned()),
            ProviderKind::Stripe => Answer::Paid,
        };
        stage.place("back", Script::default().for_asks(Answer::Paid, 1).then(back).capturing(0)).await;
        stage.run_for(3 * HOUR, 10 * MINUTE + 1).await;
        for id in ["paid", "back"] {
            let seen = (stage.states(id).await, stage.attention(&format!("p-{id}")).await);
            assert_eq!(seen, ("PENDING PENDING".to_owned(), "amounts_disagree".to_owned()), "{kind:?} {id}");
            assert!(stage.simulator.calls(&reference(&format!("p-{id}"))).query > 2, "{kind:?} {id}: asking goes on");
        }
        let told =
            "SELECT count(*) FROM outbox WHERE event_type LIKE '%NeedsAttention' AND payload::text LIKE '%amounts_disagree%'";
        assert_eq!(stage.sql.number(told).await, 2, "{kind:?}: each is told once");
        assert_eq!(stage.sql.number("SELECT count(*) FROM money_entry").await, 0, "{kind:?}");

        stage.simulator.set_script(&reference("p-paid"), Script::paid()).unwrap();
        stage.simulator.set_script(&reference("p-back"), Script::default().then(Answer::Expired)).unwrap();
        stage.becomes_quiet().await;
        for (id, states) in [("paid", "COMPLETED SUCCESS"), ("back", "FAILED FAILED")] {
            let seen = (stage.states(id).await, stage.attention(&format!("p-{id}")).await);
            assert_eq!(seen, (states.to_owned(), String::new()), "{kind:?} {id}");
        }
        stage.money().holds().await;
    }
}
