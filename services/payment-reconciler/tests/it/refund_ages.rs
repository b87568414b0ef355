//! What follows from a payment's age: unknown becomes failed, failed is swept, open is shown to an operator; outages are not counted.

use payment_providers::ProviderKind;
use pg_simulator::{Answer, Outage, Script};

use crate::refund_stage::{DAY, HOUR, KINDS, MINUTE, SECOND, Stage, reference};

impl Stage {
    /// Somebody wants a payment asked now, as an operator's retry does.
    async fn ask_now(&self, payment: &str) {
        self.sql.run(&format!("UPDATE payment SET hinted_at = payment_now() WHERE payment_id = '{payment}'")).await;
        self.run().await;
    }

    /// Its age becomes so old, and it is asked.
    async fn ask_at(&self, payment: &str, age_ms: i64) {
        let age = format!(
            "SELECT (extract(epoch FROM payment_now() - created_at) * 1000)::bigint FROM payment WHERE payment_id = '{payment}'"
        );
        let left = age_ms - self.sql.number(&age).await;
        assert!(left > 0, "it is older than that");
        self.sql.time_passes(left).await;
        self.ask_now(payment).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn not_found_is_unknown_until_twice_the_payment_window_and_late_money_goes_back() {
    for kind in KINDS {
        let stage = Stage::new("unknown", kind).await;
        stage.place("a", Script::default().then(Answer::NotFound)).await;
        stage.place("b", Script::default().then(Answer::NotFound)).await;
        for minutes in [11, 30, 58] {
            stage.ask_at("p-a", minutes * MINUTE).await;
            assert_eq!(stage.states("a").await, "PENDING PENDING", "{kind:?} after {minutes} minutes");
        }
        // Known in the last minute: paid like any other.
        stage.simulator.pay(&reference("p-b")).unwrap();
        stage.ask_at("p-b", 59 * MINUTE).await;
        assert_eq!(stage.states("b").await, "COMPLETED SUCCESS", "{kind:?}");
        stage.ask_at("p-a", HOUR + SECOND).await;
        assert_eq!(stage.states("a").await, "FAILED FAILED", "{kind:?}");
        assert_eq!(stage.sql.text("SELECT reason FROM customer_order WHERE order_id = 'a'").await, "PAYMENT_NOT_FOUND");
        stage.run_for(4 * DAY, 8 * HOUR).await;
        stage.simulator.pay(&reference("p-a")).unwrap();
        stage.run_for(DAY, 2 * HOUR).await;
        assert_eq!(
            (stage.states("a").await.as_str(), stage.of_payment("p-a", "r.reason").await.as_str()),
            ("FAILED REFUNDED", "ORDER_FAILED")
        );
        stage.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_payment_is_swept_until_the_gateways_own_expiry_if_that_is_later() {
    for kind in [ProviderKind::Generic, ProviderKind::Toss] {
        let stage = Stage::new("expiry", kind).await;
        let ten_days = || Script { deposit_window_ms: Some(10 * 24 * 3_600_000), ..Script::deposit() };
        stage.place("long", ten_days()).await;
        stage.place("never", ten_days()).await;
        stage.sql.run("UPDATE customer_order SET state = 'CANCELLED'").await;
        stage.run_after(11 * MINUTE).await;
        assert_eq!(stage.states("long").await, "CANCELLED FAILED", "{kind:?}: nobody can deposit any more");
        assert_eq!(stage.simulator.calls(&reference("p-long")).close, 1, "{kind:?}");
        stage.run_for(9 * DAY, 6 * HOUR).await;
        // The bank books a deposit that was under way.
        stage.simulator.pay(&reference("p-long")).unwrap();
        stage.run_for(20 * HOUR, 2 * HOUR).await;
        assert_eq!(stage.states("long").await, "CANCELLED REFUNDING", "{kind:?}");
        stage.simulator.refund_at_dashboard(&reference("p-long"), None).unwrap();
        stage.becomes_quiet().await;
        stage.run_for(DAY, 6 * HOUR).await;
        assert_eq!(stage.of_payment("p-never", "next_check_at").await, "", "{kind:?}: ten days are over");
        stage.money().holds().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_payment_is_shown_after_a_day_of_a_gateway_that_answers_and_is_settled_all_the_same() {
    // A card payment at Toss that is open cannot be ended: it stays so until it expires.
    let stage = Stage::new("handover", ProviderKind::Toss).await;
    stage.place("a", Script::open()).await;
    stage.run_for(8 * HOUR, 30 * MINUTE).await;
    stage.simulator.set_outage(Outage::Unavailable);
    stage.run_for(10 * HOUR, 30 * MINUTE).await;
    let open = "SELECT count(*) FROM provider_state WHERE breaker <> 'closed'";
    assert_eq!(stage.sql.number(open).await, 1);
    stage.simulator.set_outage(Outage::None);
    stage.run_for(13 * HOUR, 30 * MINUTE).await;
    assert_eq!(stage.sql.number(open).await, 0);
    // Thirty-one hours, of which the gateway answered in less than twenty-four, wherever in the hour the last asks were.
    stage.ask_now("p-a").await;
    assert_eq!((stage.states("a").await.as_str(), stage.attention("p-a").await.as_str()), ("PENDING PENDING", ""));
    stage.run_for(5 * HOUR, 30 * MINUTE).await;
    stage.ask_now("p-a").await;
    assert_eq!((stage.states("a").await.as_str(), stage.attention("p-a").await.as_str()), ("PENDING PENDING", "overdue"));
    let told = "SELECT count(*) FROM outbox WHERE event_type LIKE '%NeedsAttention'";
    assert_eq!(stage.sql.number(told).await, 1);
    stage.run_for(DAY, 2 * HOUR).await;
    assert_eq!(stage.sql.number(told).await, 1, "it is told once");
    stage.simulator.pay(&reference("p-a")).unwrap();
    stage.run_for(2 * HOUR, HOUR).await;
    assert_eq!((stage.states("a").await.as_str(), stage.attention("p-a").await.as_str()), ("COMPLETED SUCCESS", ""));
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposit_is_shown_a_day_after_its_expiry_and_a_strange_status_after_an_hour() {
    for kind in KINDS {
        let stage = Stage::new("shown", kind).await;
        stage.place("strange", Script::default().then(Answer::Strange("pondering".to_owned()))).await;
        stage.ask_at("p-strange", 55 * MINUTE).await;
        assert_eq!(stage.attention("p-strange").await, "", "{kind:?}");
        stage.ask_at("p-strange", HOUR + MINUTE).await;
        assert_eq!(stage.attention("p-strange").await, "unknown_status", "{kind:?}");
        if kind != ProviderKind::Stripe {
            // The gateway could not be asked before: what it says now about the expiry counts at once.
            stage.place("deposit", Script::deposit()).await;
            stage.ask_at("p-deposit", 3 * DAY + 22 * HOUR).await;
            assert_eq!(stage.attention("p-deposit").await, "", "{kind:?}");
            stage.ask_at("p-deposit", 4 * DAY + MINUTE).await;
            assert_eq!(stage.attention("p-deposit").await, "overdue", "{kind:?}");
            stage.simulator.pay(&reference("p-deposit")).unwrap();
        }
        stage.simulator.pay(&reference("p-strange")).unwrap();
        stage.becomes_quiet().await;
        stage.run_for(4 * HOUR, HOUR).await;
        assert_eq!(stage.states("strange").await, "COMPLETED SUCCESS", "{kind:?}");
        assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE attention").await, 0, "{kind:?}");
        stage.money().holds().await;
    }
}
