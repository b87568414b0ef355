//! What is handed to an operator without an answer of a gateway: payments that are never answered for, rows that cannot be read, and payments
//! of gateways that are not in the settings.

use std::sync::Arc;

use payment_providers::ProviderKind;
use payment_reconciler::{Line, line::run::Scope};
use pg_simulator::{Call, Fault, NewPayment, Outage, Script};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    http::stage_on,
    line_world::becomes,
    orders::{attempt, order, settings},
    refund_stage::{self, AMOUNT, HOUR, MINUTE, Stage, gateway, patient, reference},
};

/// A gateway that fails about this payment for ever.
fn poison() -> Script {
    Script::paid().fault(Call::Query, u32::MAX, Fault::Status(503))
}

async fn attention_events(stage: &Stage, order: &str) -> String {
    let sql = format!(
        "SELECT string_agg(payload->>'reason', ' ' ORDER BY outbox_id) FROM outbox \
         WHERE event_key = '{order}' AND event_type LIKE '%OrderNeedsAttention'"
    );
    stage.sql.text(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_that_is_never_answered_for_is_handed_over_by_its_age() {
    let stage = Stage::new("unanswered", ProviderKind::Generic).await;
    stage.place("poison", poison()).await;
    stage.place_of("stuck", "nothing", vec![Script::paid()]).await;
    stage.run_after(11 * MINUTE).await;
    assert_eq!(stage.states("stuck").await, "PENDING REFUNDING");
    // Its refund was sent, and from now on nobody says what became of it.
    stage.simulator.set_script(&reference("p-stuck"), poison()).unwrap();
    stage.sql.run("UPDATE product SET stock = 1000 WHERE product_id = 'book'").await;
    // Others of that gateway answer all the time, so that it is not the gateway that is away.
    let half_hours = async |from: i64, to: i64| {
        for number in from..to {
            stage.place(&format!("well{number}"), Script::paid()).await;
            stage.run_after(30 * MINUTE).await;
        }
    };
    half_hours(0, 46).await;
    assert_eq!((stage.attention("p-poison").await, stage.attention("p-stuck").await), (String::new(), String::new()));
    half_hours(46, 50).await;
    assert_eq!(stage.states("poison").await, "PENDING PENDING");
    for (id, reason) in [("poison", "overdue"), ("stuck", "refund_overdue")] {
        assert_eq!(stage.attention(&format!("p-{id}")).await, reason);
        assert_eq!(attention_events(&stage, id).await, reason, "told once");
    }
    // Asking goes on, and an answer counts.
    stage.simulator.set_script(&reference("p-poison"), Script::paid()).unwrap();
    stage.run_for(HOUR, 20 * MINUTE).await;
    assert_eq!(
        (stage.states("poison").await, stage.attention("p-poison").await),
        ("COMPLETED SUCCESS".to_owned(), String::new())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_handed_over_while_the_whole_gateway_is_away() {
    let stage = Stage::new("away", ProviderKind::Generic).await;
    for number in 0..8 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    stage.place_of("back", "nothing", vec![Script::paid()]).await;
    stage.run_after(11 * MINUTE).await;
    for number in 8..12 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    stage.simulator.set_outage(Outage::Unavailable);
    stage.run_after(11 * MINUTE).await;
    stage.run_for(26 * HOUR, 30 * MINUTE).await;
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE attention").await, 0);
    assert!(stage.sql.number("SELECT max(failed_checks)::bigint FROM payment").await > 1, "they were asked about");
    stage.simulator.set_outage(Outage::None);
    stage.becomes_quiet().await;
    stage.money().holds().await;
}

/// Writes past the rules, as somebody may have done before there were any.
async fn plant(stage: &Stage, sql: &str) {
    stage.sql.run(&format!("SET session_replication_role = replica; {sql}; SET session_replication_role = origin")).await;
}

pub async fn plant_order(stage: &Stage, order: &str, payment: &str, reference: &str) {
    let sql = format!(
        "INSERT INTO customer_order (order_id, amount, currency) VALUES ('{order}', 15000, 'KRW') ON CONFLICT DO NOTHING;
         INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency)
         VALUES ('{payment}', '{order}', 'sim', '{reference}', 15000, 'KRW')"
    );
    plant(stage, &sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_is_shown_and_keeps_nobody_from_a_turn() {
    let stage = Stage::new("unreadable", ProviderKind::Generic).await;
    plant_order(&stage, "bad 1", "p-spaced", "ref_spaced").await;
    plant_order(&stage, "half", "p-half", "ref half").await;
    for number in 0..12 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    let report = stage.run_after(11 * MINUTE).await;
    assert_eq!((report.found, report.successes(), report.failures()), (14, 12, 2), "{report:?}");
    assert_eq!(stage.sql.number("SELECT errors FROM payment_run").await, 2);
    for payment in ["p-spaced", "p-half"] {
        assert_eq!(stage.attention(payment).await, "settle_fails");
        assert_eq!(
            stage.of_payment(payment, "holder IS NULL AND failed_checks = 1 AND next_check_at > payment_now()").await,
            "true"
        );
        assert_eq!(stage.of_payment(payment, "p.last_error").await, "ROW");
    }
    assert_eq!(attention_events(&stage, "half").await, "settle_fails", "no message can name the other one");
    // A look is no more kept from its work than a run.
    stage.place("late", Script::paid()).await;
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id IN ('p-spaced', 'p-half', 'p-late')").await;
    stage.run().await;
    assert_eq!(stage.states("late").await, "COMPLETED SUCCESS");
    let operators = stage_on(&stage.world).await;
    let shown = operators.get("/v1/admin/orders/bad%201").await.json();
    assert_eq!((shown["orderId"].as_str(), shown["payments"][0]["attention"].as_str()), (Some("bad 1"), Some("settle_fails")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_could_not_claim_says_so_in_its_report() {
    let stage = Stage::new("broken-claim", ProviderKind::Generic).await;
    stage.place("a", Script::paid()).await;
    stage.sql.time_passes(11 * MINUTE).await;
    stage.sql.run("ALTER TABLE provider_state RENAME TO gone").await;
    assert!(stage.turn(Scope::Run).await.is_err());
    assert_eq!(stage.sql.text("SELECT concat_ws(' ', found, asked, errors) FROM payment_run").await, "1 0 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_of_a_gateway_that_is_not_set_up_is_shown_until_it_is() {
    let stage = Stage::new("not-set-up", ProviderKind::Generic).await;
    let mut placed = order("a");
    placed.payments = vec![attempt("p-a", "elsewhere", &reference("p-a"))];
    stage.sql.place(&placed).await;
    let report = stage.run_after(11 * MINUTE).await;
    assert_eq!((report.found, report.failures()), (1, 0), "another replica may know it already");
    let operators = stage_on(&stage.world).await;
    for (call, wish) in [("retry", json!({"reason": "x"})), ("resolve", json!({"reason": "x", "action": "settle"}))] {
        let refused = operators.post(&format!("/v1/admin/orders/a/{call}"), wish).await;
        assert_eq!(refused.code(), (409, "refused".to_owned()));
        assert!(refused.text.contains("`elsewhere` is not set up"), "{}", refused.text);
    }
    assert_eq!(stage.of_payment("p-a", "hinted_at IS NULL").await, "true");

    let report = stage.run_after(5 * MINUTE).await;
    assert_eq!((report.asked(), report.failures()), (1, 1), "{report:?}");
    stage.run_for(HOUR, 10 * MINUTE).await;
    assert_eq!(
        (stage.attention("p-a").await.as_str(), stage.states("a").await.as_str()),
        ("unknown_provider", "PENDING PENDING")
    );
    assert_eq!(attention_events(&stage, "a").await, "unknown_provider");

    // With the gateway in the settings, another failure is another reason, and an answer is the end of it.
    let new = NewPayment::new(reference("p-a"), AMOUNT, domain::payment::Currency::KRW, Script::paid());
    stage.simulator.place(new).unwrap();
    stage.simulator.set_script(&reference("p-a"), Script::paid().fault(Call::Query, 3, Fault::Status(503))).unwrap();
    let line = refund_stage::line(&stage.world, &stage.simulator, ProviderKind::Generic, "elsewhere", 2, patient());
    let stage = Stage { line, ..stage };
    stage.run_after(20 * MINUTE).await;
    assert_eq!(
        (stage.attention("p-a").await.as_str(), stage.of_payment("p-a", "p.last_error").await.as_str()),
        ("", "PG_UNAVAILABLE")
    );
    stage.run_after(20 * MINUTE).await;
    assert_eq!(stage.states("a").await, "COMPLETED SUCCESS");
}

/// Whoever had it in the settings left its breaker open, and nobody will ever close it.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_was_removed_while_its_breaker_was_open_is_noticed() {
    let stage = Stage::new("removed", ProviderKind::Generic).await;
    let removed = refund_stage::line(&stage.world, &stage.simulator, ProviderKind::Generic, "elsewhere", 2, patient());
    for number in 0..6 {
        let (id, payment) = (format!("o{number}"), format!("p-o{number}"));
        let mut placed = order(&id);
        placed.payments = vec![attempt(&payment, "elsewhere", &reference(&payment))];
        stage.sql.place(&placed).await;
    }
    stage.simulator.set_outage(Outage::Unavailable);
    stage.sql.time_passes(11 * MINUTE).await;
    removed.run_once(Scope::Run, &CancellationToken::new()).await.unwrap();
    assert_eq!(stage.sql.text("SELECT breaker FROM provider_state WHERE provider = 'elsewhere'").await, "open");
    let shown = "SELECT count(*) FROM payment WHERE attention_reason = 'unknown_provider'";
    stage.run_after(4 * MINUTE).await;
    assert_eq!(stage.sql.number(shown).await, 0, "a replica that has it in its settings was at it just now");
    stage.run_after(2 * MINUTE).await;
    assert_eq!(stage.sql.number(shown).await, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_notes_so_many_payments_of_a_gateway_that_is_not_set_up_and_the_next_one_the_others() {
    let stage = Stage::new("many-not-set-up", ProviderKind::Generic).await;
    stage
        .sql
        .run(
            "INSERT INTO customer_order (order_id, amount, currency) SELECT 'o' || n, 15000, 'KRW' FROM generate_series(1, 130) n;
             INSERT INTO payment (payment_id, order_id, provider, reference, amount, currency)
             SELECT 'p' || n, 'o' || n, CASE WHEN n > 120 THEN 'another' ELSE 'elsewhere' END, 'r' || n, 15000, 'KRW' FROM generate_series(1, 130) n",
        )
        .await;
    let shown = "SELECT count(*) FROM payment WHERE attention_reason = 'unknown_provider'";
    assert_eq!(stage.run_after(16 * MINUTE).await.failures(), 110);
    assert_eq!(stage.sql.number(shown).await, 110);
    assert_eq!(stage.run().await.failures(), 20);
    assert_eq!(stage.sql.number(shown).await, 130);
    assert_eq!(stage.sql.number("SELECT count(*) FROM outbox").await, 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_answers_that_cannot_be_read_are_the_gateways_fault_and_a_few_are_not() {
    let mut own = patient();
    own.breaker.failures = 1;
    let stage = Stage::with("proxy", ProviderKind::Generic, own.clone()).await;
    let unreadable = || Script::paid().fault(Call::Query, 1, Fault::Malformed);
    for number in 0..9 {
        stage.place(&format!("o{number}"), unreadable()).await;
    }
    stage.run_after(11 * MINUTE).await;
    let gateway = "SELECT concat_ws(' ', breaker, failures, failing_since IS NOT NULL) FROM provider_state";
    assert_eq!(stage.sql.text(gateway).await, "closed 9 f");
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment WHERE attention").await, 0, "once is not enough");
    stage.place("last", unreadable()).await;
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id = 'p-last'").await;
    stage.turn(Scope::Due).await.unwrap();
    assert_eq!(stage.sql.text(gateway).await, "open 10 t");
    stage.becomes_quiet().await;
    assert_eq!(stage.sql.text(gateway).await, "closed 0 f");
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_add_up_to_all_that_was_done() {
    let mut own = patient();
    own.run.due_interval_ms = 10;
    let stage = Stage::with("sums", ProviderKind::Generic, own.clone()).await;
    let line: Arc<Line> = Line::new(
        &settings(&stage.world),
        vec![gateway(&stage.simulator, ProviderKind::Generic, "sim")],
        Uuid::from_u128(7),
        own,
    )
    .unwrap();
    stage.place("run", Script::paid()).await;
    stage.sql.time_passes(11 * MINUTE).await;
    let stop = CancellationToken::new();
    let repeated = tokio::spawn(Arc::clone(&line).repeat(stop.clone()));
    becomes(&stage, "run", "COMPLETED SUCCESS").await;
    for number in 0..4 {
        stage.place(&format!("hinted{number}"), Script::paid()).await;
    }
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id LIKE 'p-hinted%'").await;
    for number in 0..4 {
        becomes(&stage, &format!("hinted{number}"), "COMPLETED SUCCESS").await;
    }
    stop.cancel();
    repeated.await.unwrap();
    // The next run would be in a minute; what looks did is in a last report.
    let sums = "SELECT concat_ws(' ', sum(found), sum(asked), sum(looked), sum(settled), sum(errors)) FROM payment_run";
    assert_eq!(stage.sql.text(sums).await, "1 5 4 5 0");
    stage.place("later", Script::paid()).await;
    stage.sql.run("UPDATE payment SET hinted_at = payment_now() WHERE payment_id = 'p-later'").await;
    stage.turn(Scope::Due).await.unwrap();
    let report = stage.run().await;
    assert_eq!((report.asked(), report.successes()), (0, 0), "the run's own");
    let last = "SELECT concat_ws(' ', found, asked, looked, settled) FROM payment_run ORDER BY run_id DESC LIMIT 1";
    assert_eq!(stage.sql.text(last).await, "0 1 1 1");
}
