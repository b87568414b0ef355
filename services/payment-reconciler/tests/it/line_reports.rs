//! What a run shows of itself: its life while it goes on, its report afterwards, and never a secret.

use std::{sync::Arc, time::Duration};

use domain::secret::Secret;
use payment_providers::ProviderKind;
use pg_simulator::{Options, Script};
use service_kit::probes::Health;
use testkit::{eventually, eventually_some};

use crate::{
    http::stage_on,
    line_world::{CALLBACK_SECRET, Process, becomes},
    orders::{PATIENCE, Sql, attempt, order},
    refund_stage::{HOUR, MINUTE, Stage, reference},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_stands_still_is_seen_and_one_that_goes_on_lives() {
    let stage = Stage::new("liveness", ProviderKind::Generic).await;
    let health = Health::default();
    let beat = health.heartbeat("runs", Duration::from_secs(1));
    stage.line.on_progress(move || beat.beat());
    stage.place("a", Script::paid()).await;
    stage.sql.time_passes(11 * MINUTE).await;
    // Somebody sits on the order, so that its settle waits.
    let sitter = Sql::of(&stage.world).await;
    sitter.run("BEGIN; SELECT FROM customer_order WHERE order_id = 'a' FOR UPDATE").await;
    let line = Arc::clone(&stage.line);
    let run = tokio::spawn(async move {
        let stop = tokio_util::sync::CancellationToken::new();
        Box::pin(line.run_once(payment_reconciler::line::run::Scope::Run, &stop)).await
    });
    eventually(PATIENCE, "the gateway is asked", || async { stage.simulator.calls(&reference("p-a")).query > 0 }).await;
    eventually(PATIENCE, "the run is said to stand still", || async {
        !run.is_finished() && health.standing_still().iter().any(|line| line.starts_with("runs"))
    })
    .await;
    sitter.run("ROLLBACK").await;
    assert!(run.await.unwrap().is_ok());
    eventually(PATIENCE, "runs that find nothing live", || async {
        stage.run().await;
        health.standing_still().is_empty()
    })
    .await;
    eventually(PATIENCE, "it is settled", || async {
        stage.run_after(MINUTE).await;
        stage.states("a").await == "COMPLETED SUCCESS"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_a_row_and_numbers_and_old_ones_are_forgotten() {
    let stage = Stage::new("reports-of-runs", ProviderKind::Generic).await;
    stage.place("paid", Script::paid()).await;
    stage.place("failed", Script::failed()).await;
    stage.place("open", Script::open()).await;
    stage.place_of("gone", "nothing", vec![Script::paid()]).await;
    stage.run_after(11 * MINUTE).await;
    let row = "SELECT concat_ws(' ', found, asked, settled, failed, waiting, refunded, attention, errors) FROM payment_run";
    assert_eq!(stage.sql.text(row).await, "4 4 1 1 1 1 0 1");
    let text = stage_on(&stage.world).await.get("/metrics").await.text;
    for count in ["found", "asked", "settled", "failed", "waiting", "refunded", "attention", "errors"] {
        assert!(text.contains(&format!("trueup_payment_last_run{{count=\"{count}\"}}")), "{count}");
    }
    assert!(text.contains("trueup_payment_runs_total") && text.contains("trueup_payment_run_seconds"));
    // Ninety days by default.
    stage.run_after(2_159 * HOUR).await;
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_run").await, 2);
    stage.run_after(2 * HOUR).await;
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_run").await, 2, "the first one is forgotten");
    assert_eq!(stage.sql.number("SELECT count(*) FROM payment_run WHERE found = 4").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged_even_when_everything_is() {
    const OPERATOR: &str = "an-operators-token-that-only-tests-know";
    const DEPOSIT: &str = "a-deposits-secret-that-only-tests-know";
    let stage = Stage::new("secrets", ProviderKind::Generic).await;
    for id in ["a", "refused"] {
        let (payment, mut order) = (format!("p-{id}"), order(id));
        order.payments = vec![attempt(&payment, "sim", &reference(&payment))];
        order.payments[0].deposit_secret = Some(Secret::new(DEPOSIT));
        let paid = pg_simulator::NewPayment::new(reference(&payment), 15_000, domain::payment::Currency::KRW, Script::paid());
        stage.simulator.place(paid).unwrap();
        stage.sql.place(&order).await;
    }
    // What PostgreSQL says of a row that it refuses has all of the row in it.
    stage.sql.run("ALTER TABLE payment ADD CONSTRAINT a_rule CHECK (payment_id <> 'p-refused' OR state <> 'SUCCESS')").await;
    stage.place("unanswered", Script::paid().fault(pg_simulator::Call::Query, 2, pg_simulator::Fault::Malformed)).await;
    let tokens = format!("anna:{OPERATOR}");
    let port = stack::ports::free().unwrap();
    let process = Process::start_on(&stage, port, &[("TELEMETRY__LOG_FILTER", "trace"), ("ADMIN__TOKENS", tokens.as_str())], &[]);
    becomes(&stage, "a", "COMPLETED SUCCESS").await;
    becomes(&stage, "unanswered", "COMPLETED SUCCESS").await;
    process.logs(&["Failed to reconcile order: refused", "a_rule"]).await;
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let url = format!("http://127.0.0.1:{port}/v1/admin/orders/a");
    for token in [OPERATOR, "nobodys-token-at-all-and-none-of-ours"] {
        eventually_some(PATIENCE, "an answer", || async { client.get(&url).bearer_auth(token).send().await.map(drop) }).await;
    }
    let log = process.log();
    assert!(log.contains("asked the payment gateway") && log.contains("TRACE"), "the log is complete");
    for secret in [OPERATOR, DEPOSIT, CALLBACK_SECRET, Options::API_KEY, "nobodys-token-at-all-and-none-of-ours"] {
        let line = log.lines().find(|line| line.contains(secret)).unwrap_or_default();
        assert!(line.is_empty(), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_question_to_a_gateway_is_in_the_log_whoever_asks() {
    const TOKEN: &str = "annas-token-in-a-process-of-its-own";
    let stage = Stage::new("questions", ProviderKind::Generic).await;
    stage.place("open", Script::open()).await;
    let (tokens, port) = (format!("anna:{TOKEN}"), stack::ports::free().unwrap());
    let process = Process::start_on(&stage, port, &[("ADMIN__TOKENS", tokens.as_str())], &[]);
    process.logs(&["asked the payment gateway\"", "p-open", "\"question\":\"status\""]).await;
    let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let wish = serde_json::json!({"reason": "the payer called", "dryRun": true});
    let post = async |path: &str, body: &serde_json::Value| {
        let request = client.post(format!("http://127.0.0.1:{port}/v1/admin/{path}")).bearer_auth(TOKEN).json(body);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    };
    post("orders/open/retry", &wish).await;
    process.logs(&["asked the payment gateway for somebody who only reads", &reference("p-open"), "\"outcome\":\"found\""]).await;
    post("audits?from=2026-01-01T00:00:00Z&to=2026-01-01T01:00:00Z", &serde_json::Value::Null).await;
    process.logs(&["read a page of the payment gateway's list", "\"provider\":\"sim\"", "\"outcome\":\"read\""]).await;
}
