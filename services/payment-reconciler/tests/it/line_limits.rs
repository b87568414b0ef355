//! How often gateways are asked, what is told of each end, and the ages that alerts watch.

use std::time::Duration;

use contracts::order::PaymentAttempt;
use domain::payment::Currency;
use payment_providers::{
    ProviderKind,
    port::{Advice, ProviderError},
};
use payment_reconciler::{Line, observe};
use pg_simulator::{Answer, Call, Fault, NewPayment, Script};
use uuid::Uuid;

use crate::{
    http::{OBSERVED, stage_on},
    orders::{attempt, db, order, settings},
    refund_stage::{AMOUNT, HOUR, MINUTE, SECOND, Stage, gateway, patient, reference},
    scripted::Scripted,
};

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_asked_in_a_second_than_is_allowed() {
    let mut own = patient();
    own.asking.rate_per_second = 5;
    let stage = Stage::with("rate", ProviderKind::Generic, own).await;
    for number in 0..15 {
        stage.place(&format!("o{number}"), Script::paid()).await;
    }
    let report = stage.run_after(11 * MINUTE).await;
    assert_eq!((report.found, report.successes()), (15, 15));
    // Five at once, and the other ten one each fifth of a second.
    assert!(report.duration >= Duration::from_millis(1_900), "{:?}", report.duration);
    stage.money().holds().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ask_has_three_tries_with_growing_delays() {
    let mut own = patient();
    own.asking.try_delay_ms = 200;
    let stage = Stage::with("tries", ProviderKind::Generic, own).await;
    stage.place("twice", Script::paid().fault(Call::Query, 2, Fault::Status(503))).await;
    let report = stage.run_after(11 * MINUTE).await;
    assert_eq!((stage.states("twice").await.as_str(), report.failures()), ("COMPLETED SUCCESS", 0));
    assert_eq!(stage.simulator.calls(&reference("p-twice")).query, 3);
    assert!(report.duration >= Duration::from_millis(600), "200 ms, then 400 ms: {:?}", report.duration);
    stage.place("thrice", Script::paid().fault(Call::Query, 3, Fault::Status(503))).await;
    let report = stage.run_after(11 * MINUTE).await;
    assert_eq!((stage.states("thrice").await.as_str(), report.failures()), ("PENDING PENDING", 1), "no answer is no verdict");
    assert_eq!(stage.simulator.calls(&reference("p-thrice")).query, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_ask_follows_the_gateways_and_the_methods_schedule() {
    let mut own = patient();
    let mut of_sim = own.policy.clone();
    of_sim.open_otherwise.first_ms = 7 * MINUTE;
    own.policies = [("sim".parse().unwrap(), of_sim)].into();
    let stage = Stage::with("schedules", ProviderKind::Generic, own).await;
    let methods = [("card", 7), ("virtual_account", 10), ("transfer", 2)];
    for (method, _) in methods {
        let id = method.trim_end_matches("_account");
        let known = reference(&format!("p-{id}"));
        stage.simulator.place(NewPayment::new(known.as_str(), AMOUNT, Currency::KRW, Script::open())).unwrap();
        let mut order = order(id);
        order.payments = vec![PaymentAttempt { method: method.to_owned(), ..attempt(&format!("p-{id}"), "sim", &known) }];
        stage.sql.place(&order).await;
    }
    stage.run_after(11 * MINUTE).await;
    for (method, minutes) in methods {
        let id = method.trim_end_matches("_account");
        let next = "round(extract(epoch FROM p.next_check_at - p.checked_at) * 1000)::bigint";
        let next: i64 = stage.of_payment(&format!("p-{id}"), next).await.parse().unwrap();
        // Up to a tenth more or less, so that what fell due together does not stay together.
        assert!(
            (minutes * MINUTE * 9 / 10 - SECOND..=minutes * MINUTE * 11 / 10 + SECOND).contains(&next),
            "{method}: {next} ms"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_end_is_told_once() {
    let stage = Stage::new("told", ProviderKind::Generic).await;
    stage.place("paid", Script::paid()).await;
    stage.place("failed", Script::failed()).await;
    stage.place_of("gone", "nothing", vec![Script::paid()]).await;
    stage.place("odd", Script::default().then(Answer::Strange("REVIEWED".to_owned()))).await;
    stage.place("mangled", Script::paid().fault(Call::Query, u32::MAX, Fault::Malformed)).await;
    // A gateway that refuses to answer about a payment, and a line that cannot be read, so that its order cannot be settled.
    let scripted = Scripted::named("scripted");
    let refusal = ProviderError::Refused { code: "FORBIDDEN".to_owned(), message: String::new(), advice: Advice::Manual };
    scripted.says("ref-refused", Err(refusal));
    let mut refused = order("refused");
    refused.payments = vec![attempt("p-refused", "scripted", "ref-refused")];
    stage.sql.place(&refused).await;
    let gateways = vec![gateway(&stage.simulator, ProviderKind::Generic, "sim"), scripted];
    let line = Line::new(&settings(&stage.world), gateways, Uuid::from_u128(2), patient()).unwrap();
    let stage = Stage { line, ..stage };
    stage.place("unsettled", Script::paid()).await;
    stage
        .sql
        .run(
            "SET session_replication_role = replica; UPDATE order_line SET product_id = 'two words' WHERE order_id = 'unsettled';
             SET session_replication_role = origin",
        )
        .await;
    stage.run_after(11 * MINUTE).await;
    stage.run_for(HOUR, 10 * MINUTE).await;
    let told = "SELECT string_agg(event_key || ' ' || replace(event_type, 'trueup.payment.v1.', ''), ', ' ORDER BY event_key, outbox_id) FROM outbox";
    let told = stage.sql.text(told).await;
    let kinds: Vec<String> = told
        .split(", ")
        .map(|line| {
            let (order, kind) = line.split_once(' ').unwrap();
            format!("{order} {}", kind.rsplit('.').next().unwrap())
        })
        .collect();
    let expected = [
        "failed OrderFailed",
        "gone PaymentRefunded",
        "gone OrderFailed",
        "mangled OrderNeedsAttention",
        "odd OrderNeedsAttention",
        "paid OrderCompleted",
        "refused OrderNeedsAttention",
        "unsettled OrderNeedsAttention",
    ];
    assert_eq!(kinds, expected);
    let shown = ["mangled", "refused", "unsettled"].map(|id| format!("p-{id}"));
    assert_eq!(stage.attention(&shown[0]).await, "unreadable_answer");
    assert_eq!(stage.attention(&shown[1]).await, "query_refused");
    assert_eq!(stage.attention(&shown[2]).await, "settle_fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ages_that_alerts_watch_are_those_of_the_oldest_work() {
    let stage = Stage::new("ages", ProviderKind::Generic).await;
    let operators = stage_on(&stage.world).await;
    stage.place("open", Script::open()).await;
    stage.place_of("gone", "nothing", vec![Script::paid()]).await;
    stage.sql.time_passes(30 * MINUTE).await;
    let look = async || {
        let watch = observe::Watch { gateways: vec!["sim".to_owned()], stale_after_ms: 10 * MINUTE, nightly: None };
        let _alone = OBSERVED.lock().await;
        observe::look(&db(&stage.world).await, &watch).await.unwrap();
        operators.get("/metrics").await.text
    };
    assert_about(&look().await, "trueup_payment_oldest_due_seconds ", 20 * MINUTE, 25 * MINUTE);
    stage.run().await;
    stage.sql.time_passes(2 * HOUR).await;
    let text = look().await;
    assert_about(&text, "trueup_payment_oldest_due_seconds ", 110 * MINUTE, 2 * HOUR + 5 * MINUTE);
    assert_about(&text, "trueup_payment_oldest_open_refund_seconds ", 2 * HOUR, 2 * HOUR + 5 * MINUTE);
    assert_about(&text, "trueup_payment_last_answer_seconds{provider=\"sim\"} ", 2 * HOUR, 2 * HOUR + 5 * MINUTE);
    assert_about(&text, "trueup_payment_unanswered_seconds{provider=\"sim\"} ", 0, 0);
}

/// That a metric in seconds is between these milliseconds.
fn assert_about(text: &str, metric: &str, from: i64, to: i64) {
    let line = text.lines().find(|line| line.starts_with(metric)).unwrap_or_else(|| panic!("no {metric}"));
    let seconds: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!((from as f64 / 1_000.0..=to as f64 / 1_000.0).contains(&seconds), "{metric} is {seconds}");
}
