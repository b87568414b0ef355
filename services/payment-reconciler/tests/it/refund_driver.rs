//! The refund driver against a gateway that loses replies, forgets keys, takes its time, refuses and takes things back.

use payment_providers::ProviderKind;
use pg_simulator::{Call, Fault, RefundScript, Script};
use serde_json::json;

use crate::{
    http::stage_on,
    refund_stage::{DAY, HOUR, KINDS, MINUTE, Stage},
};

/// A gateway that would give back what it does not hold: a second call under another key, or after its key is forgotten, is a double.
fn careless(script: Script) -> Script {
    Script { over_refunds: true, ..script }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_forgot_the_key_is_asked_before_anything_is_sent_again() {
    for kind in KINDS {
        let stage = Stage::new("forgotten", kind).await;
        // Both calls end without a reply; one of them was done.
        let lost = |fault| vec![careless(Script::paid().fault(Call::Refund, 1, fault))];
        stage.place_of("done", "nothing", lost(Fault::ReplyLost)).await;
        stage.place_of("undone", "nothing", lost(Fault::Dropped)).await;
        stage.run_after(11 * MINUTE).await;
        stage.run_after(1).await;
        for payment in ["p-done", "p-undone"] {
            assert_eq!(stage.of_payment(payment, "r.state").await, "SENDING", "{kind:?} {payment}");
            assert_eq!(stage.refund_calls(payment), 1, "{kind:?} {payment}");
        }
        stage.simulator.forget_keys();
        stage.run_after(25 * HOUR).await;
        assert_eq!(stage.states("done").await, "FAILED REFUNDED", "{kind:?}");
        stage.becomes_quiet().await;
        assert_eq!((stage.refund_calls("p-done"), stage.refund_calls("p-undone")), (1, 2), "{kind:?}");
        assert_eq!(stage.keys("p-undone"), ["own-1"], "{kind:?}: what may have been sent is sent again under the same key");
        stage.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_that_are_lost_again_and_again_give_nothing_back_twice() {
    for kind in KINDS {
        let stage = Stage::new("lost-often", kind).await;
        let script = Script::paid()
            .fault(Call::Refund, 1, Fault::Dropped)
            .fault(Call::Refund, 1, Fault::Status(503))
            .fault(Call::Refund, 1, Fault::Throttled(Some(1)))
            .fault(Call::Refund, 1, Fault::ReplyLost)
            .refund(RefundScript::Pending(6));
        stage.place_of("a", "nothing", vec![careless(script)]).await;
        stage.becomes_quiet().await;
        assert_eq!((stage.refund_calls("p-a"), stage.keys("p-a")), (4, vec!["own-1".to_owned()]), "{kind:?}");
        stage.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_takes_long_is_shown_and_never_sent_again() {
    for kind in KINDS {
        let stage = Stage::new("long", kind).await;
        stage.place_of("a", "nothing", vec![careless(Script::paid().refund(RefundScript::Pending(45)))]).await;
        stage.run_for(23 * HOUR, 30 * MINUTE).await;
        assert_eq!(
            (stage.states("a").await.as_str(), stage.attention("p-a").await.as_str()),
            ("PENDING REFUNDING", ""),
            "{kind:?}"
        );
        assert_eq!(stage.of_payment("p-a", "r.state").await, "ACCEPTED", "{kind:?}");
        stage.run_for(3 * HOUR, 30 * MINUTE).await;
        assert_eq!(stage.attention("p-a").await, "refund_overdue", "{kind:?}");
        stage.run_for(3 * DAY, HOUR).await;
        stage.becomes_quiet().await;
        assert_eq!(stage.states("a").await, "FAILED REFUNDED", "{kind:?}");
        assert_eq!((stage.attention("p-a").await.as_str(), stage.refund_calls("p-a")), ("", 1), "{kind:?}");
        stage.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_fails_later_or_comes_back_is_made_again_under_a_new_key() {
    for kind in KINDS {
        let stage = Stage::new("fails-later", kind).await;
        let fails = Script::paid().refund(RefundScript::FailsLater(3)).refund(RefundScript::FailsLater(1));
        stage.place_of("fails", "nothing", vec![careless(fails)]).await;
        stage.place_of("reversed", "nothing", vec![careless(Script::paid().refund(RefundScript::Reversed(4)))]).await;
        stage.becomes_quiet().await;
        assert_eq!(stage.keys("p-fails"), ["own-1", "own-2", "own-3"], "{kind:?}");
        assert_eq!(stage.states("reversed").await, "FAILED REFUNDED", "{kind:?}");
        let told = stage.sql.number("SELECT count(*) FROM outbox WHERE event_type LIKE '%PaymentRefunded'").await;
        assert_eq!(told, 2, "{kind:?}");
        // Thirty days long it is looked whether the money is still away.
        let mut shown = false;
        for _ in 0..30 {
            stage.run_after(DAY).await;
            shown |= stage.attention("p-reversed").await == "refund_reversed";
        }
        assert!(shown, "{kind:?}: an operator is shown what came back");
        stage.becomes_quiet().await;
        assert_eq!(
            (stage.keys("p-reversed"), stage.states("reversed").await.as_str()),
            (vec!["own-1".to_owned(), "own-2".to_owned()], "FAILED REFUNDED")
        );
        stage.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_shown_what_came_back_until_it_is_away_again() {
    let stage = Stage::new("shown-back", ProviderKind::Generic).await;
    let script = Script::paid().refund(RefundScript::Reversed(3)).refund(RefundScript::Pending(8));
    stage.place_of("a", "nothing", vec![careless(script)]).await;
    stage.becomes_quiet().await;
    let mut looks = 0;
    // Somebody wants to know often; behind a day it would be told as overdue.
    for _ in 0..40 {
        stage.sql.run("UPDATE payment SET hinted_at = payment_now()").await;
        stage.run_after(20 * MINUTE).await;
        if stage.of_payment("p-a", "p.state || ' ' || r.state").await == "REFUNDING ACCEPTED" {
            looks += 1;
            assert_eq!(stage.attention("p-a").await, "refund_reversed", "look {looks}");
        } else if looks > 0 {
            break;
        }
    }
    assert!(looks >= 3, "it takes its time on the second way back: {looks}");
    assert_eq!((stage.states("a").await.as_str(), stage.attention("p-a").await.as_str()), ("FAILED REFUNDED", ""));
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_refused_waits_for_a_person_unless_it_may_work_later() {
    let codes = [
        (ProviderKind::Generic, "refund_rejected", "try_later"),
        (ProviderKind::Toss, "NOT_CANCELABLE_PAYMENT", "NOT_AVAILABLE_BANK"),
        (ProviderKind::Stripe, "charge_disputed", "balance_insufficient"),
    ];
    for (kind, never, later) in codes {
        let stage = Stage::new("refused", kind).await;
        let refused = |code: &str| vec![careless(Script::paid().refund(RefundScript::Refused(code.to_owned())))];
        stage.place_of("never", "nothing", refused(never)).await;
        stage.place_of("later", "nothing", refused(later)).await;
        stage.run_for(HOUR, 10 * MINUTE).await;
        assert_eq!(stage.states("later").await, "FAILED REFUNDED", "{kind:?} {later}");
        assert_eq!(stage.keys("p-later"), ["own-2"], "{kind:?}: a definite no, and it shows no refund");
        assert_eq!(stage.states("never").await, "PENDING REFUNDING", "{kind:?} {never}");
        assert_eq!(stage.of_payment("p-never", "r.state").await, "MANUAL", "{kind:?} {never}");
        assert_eq!(stage.attention("p-never").await, "refund_refused", "{kind:?} {never}");
        stage.run_for(6 * HOUR, HOUR).await;
        assert_eq!(stage.refund_calls("p-never"), 1, "{kind:?}: a person has to look");

        let operators = stage_on(&stage.world).await;
        let id = stage.of_payment("p-never", "r.refund_id").await;
        let path = format!("/v1/admin/refunds/{id}/release");
        assert_eq!(operators.post(&path, json!({"reason": "the bank says it works now"})).await.status, 200);
        stage.becomes_quiet().await;
        assert_eq!((stage.keys("p-never"), stage.states("never").await.as_str()), (vec!["own-2".to_owned()], "FAILED REFUNDED"));
        stage.money().holds().await;
    }
}
