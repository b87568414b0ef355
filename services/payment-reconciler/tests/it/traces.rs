//! The trace of an outcome: from the line's turn through the outbox to Kafka, with a collector of OTLP at the other end.

use std::collections::{BTreeMap, BTreeSet};

use contracts::{TraceParent, payment::decode_payment_outcome};
use payment_providers::ProviderKind;
use pg_simulator::Script;
use reqwest::Client;
use serde_json::json;
use testkit::{Collector, collector, eventually, eventually_some, read_all};

use crate::{
    handover::plant_order,
    http::TOKEN,
    line_world::Process,
    orders::{PATIENCE, attempt, order},
    refund_stage::{MINUTE, Stage, reference},
};

const SERVICE: &str = "payment-reconciler";
const TURN: &str = "reconcile_payment";

/// A process that tells the topics of the stage's world, and of whose traces this share is recorded.
fn process(stage: &Stage, port: u16, endpoint: &str, sample_ratio: &str) -> Process {
    let tokens = format!("anna:{TOKEN}");
    let own = [
        ("ADMIN__TOKENS", tokens.as_str()),
        ("LINE__RUN__STALE_AFTER_MS", "600000"),
        ("OUTBOX__ENABLED", "true"),
        ("OUTBOX__POLL_MS", "50"),
        ("TELEMETRY__OTLP_ENDPOINT", endpoint),
        ("TELEMETRY__SAMPLE_RATIO", sample_ratio),
    ];
    Process::start_on(stage, port, &own, &[])
}

/// Waits until so many outcomes were told.
async fn has_told(stage: &Stage, count: i64) {
    eventually_some(PATIENCE, "the outcomes are told", || async {
        match stage.sql.number("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL").await {
            told if told == count => Ok(()),
            told => Err(told),
        }
    })
    .await;
}

/// What was told of each order, with the traces that the records name.
async fn told(stage: &Stage) -> BTreeMap<String, Vec<(String, Option<TraceParent>)>> {
    let mut told = BTreeMap::<String, Vec<_>>::new();
    for partition in 0..4 {
        for raw in read_all(&stage.world.kafka, &stage.world.kafka.topics.payment_outcome, partition).await.iter() {
            let outcome = decode_payment_outcome(&raw).unwrap().outcome;
            let name = outcome.event_type().rsplit('.').next().unwrap().to_owned();
            told.entry(outcome.order().to_string()).or_default().push((name, raw.trace_parent()));
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_carry_the_trace_in_which_they_were_decided_if_somebody_records_it() {
    let stage = Stage::new("traces", ProviderKind::Generic).await.with_topics().await;
    let collector = Collector::default();
    let endpoint = collector.listen();

    let mut first = process(&stage, stack::ports::free().unwrap(), &endpoint, "0");
    stage.place("unrecorded", Script::paid()).await;
    stage.sql.time_passes(11 * MINUTE).await;
    has_told(&stage, 1).await;
    first.service.terminate(PATIENCE).unwrap();

    let port = stack::ports::free().unwrap();
    let _second = process(&stage, port, &endpoint, "1");
    stage.place("done", Script::paid()).await;
    stage.place_of("back", "nothing", vec![Script::paid()]).await;
    plant_order(&stage, "unreadable", "p-unreadable", "ref unreadable").await;
    let mut elsewhere = order("elsewhere");
    elsewhere.payments = vec![attempt("p-elsewhere", "elsewhere", &reference("p-elsewhere"))];
    stage.sql.place(&elsewhere).await;
    stage.sql.time_passes(16 * MINUTE).await;
    has_told(&stage, 6).await;
    // An operator is quicker than the runs.
    stage.place("asked", Script::paid()).await;
    let client = Client::builder().timeout(PATIENCE).build().unwrap();
    let url = format!("http://127.0.0.1:{port}/v1/admin/orders/asked/resolve");
    let wish = json!({"reason": "the payer called", "action": "settle"}).to_string();
    let request = client.post(url).bearer_auth(TOKEN).header("content-type", "application/json").body(wish);
    assert_eq!(request.send().await.unwrap().status(), 200);
    has_told(&stage, 7).await;

    let mut told = told(&stage).await;
    assert_eq!(told.remove("unrecorded").unwrap(), [("OrderCompleted".to_owned(), None)]);
    let names: Vec<String> = told
        .iter()
        .map(|(order, events)| events.iter().fold(order.clone(), |line, (name, _)| format!("{line} {name}")))
        .collect();
    let expected = [
        "asked OrderCompleted",
        "back PaymentRefunded OrderFailed",
        "done OrderCompleted",
        "elsewhere OrderNeedsAttention",
        "unreadable OrderNeedsAttention",
    ];
    assert_eq!(names, expected);
    let mut traces = BTreeSet::new();
    for (order, events) in &told {
        let trace = events[0].1.expect("a trace");
        assert!(trace.sampled(), "{order}");
        assert!(traces.insert(trace.trace_id), "each turn has a trace of its own: {order}");
        assert!(events.iter().all(|(_, other)| *other == Some(trace)), "they were decided in one turn: {events:?}");
        eventually(PATIENCE, &format!("the span of {order}"), || async {
            collector.spans(SERVICE, TURN).iter().any(|span| {
                span.trace_id == trace.trace_id.to_be_bytes()
                    && span.span_id == trace.span_id.to_be_bytes()
                    && collector::text(&span.attributes, "orderId").as_deref() == Some(order)
            })
        })
        .await;
    }
    let of_the_first = |attributes: &[_]| collector::text(attributes, "orderId").as_deref() == Some("unrecorded");
    assert!(!collector.all().iter().any(|span| of_the_first(&span.attributes)), "nobody records the first one's turns");
}
