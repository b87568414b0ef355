//! One trace from the HTTP request through the log to the database's commit, as a collector of OTLP gets it.

use std::{collections::BTreeMap, env, process::Command};

use contracts::{TraceParent, partition_of};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use stack::{Lifetime, Process};
use testkit::{Collector, TestFolder, World, eventually, eventually_some, read_all};
use tokio_util::sync::CancellationToken;

use crate::{
    gateway::{Gateway, accepted},
    line::{PATIENCE, TOKEN, define},
};

/// Names the variable by which the test's other process knows that it is one.
const HELPER: &str = "TRACED_CONSUMER";
const SAMPLED: [&str; 2] =
    ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"];
const NOT_SAMPLED: &str = "00-7bd1f2c5a1e84d6f9a3b5c7d9e1f2a3b-00f067aa0ba902b7-00";

fn parsed(text: &str) -> TraceParent {
    text.parse().unwrap()
}

/// Whether the span is the one that `trace` names.
fn is(span: &Span, trace: TraceParent) -> bool {
    span.trace_id == trace.trace_id.to_be_bytes() && span.span_id == trace.span_id.to_be_bytes()
}

fn telemetry(prefix: &str, endpoint: &str) -> BTreeMap<String, String> {
    // Nothing begins a trace by itself: only what the caller wants recorded is.
    [("OTLP_ENDPOINT", endpoint), ("SAMPLE_RATIO", "0")]
        .map(|(name, value)| (format!("{prefix}__TELEMETRY__{name}"), value.to_owned()))
        .into_iter()
        .collect()
}

/// The consumer of the test below, in a process of its own: traces are set up once a process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the helper process of another test"]
async fn traced_consumer() {
    if env::var_os(HELPER).is_none() {
        return;
    }
    service_kit::install_crypto_provider();
    let environment = env::vars().filter(|(name, _)| name.starts_with("ISSUE_CONSUMER__")).collect();
    let settings: issue_consumer::config::Settings = service_kit::settings::read("ISSUE_CONSUMER", None, environment).unwrap();
    let _telemetry = service_kit::telemetry::init("issue-consumer", &settings.telemetry).unwrap();
    issue_consumer::Service::new(settings).await.unwrap().run(CancellationToken::new()).await.unwrap();
}

fn consumer(world: &World, endpoint: &str, folder: &TestFolder) -> Process {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "tracing::traced_consumer", "--nocapture"]).env(HELPER, "1");
    command.envs(world.environment("ISSUE_CONSUMER")).envs(telemetry("ISSUE_CONSUMER", endpoint));
    command.env("ISSUE_CONSUMER__CONSUMER__GROUP_ID", &world.name);
    Process::spawn("traced-consumer", command, &folder.path().join("consumer.log"), Lifetime::Owned).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_leads_from_the_request_through_the_log_to_the_commit() {
    let world = World::new("traced").await;
    let (collector, folder) = (Collector::default(), TestFolder::new("traced"));
    let endpoint = collector.listen();
    let tokens = format!("ann:{TOKEN}");
    let settings =
        [("ADMIN__TOKENS", tokens.as_str()), ("TELEMETRY__OTLP_ENDPOINT", &endpoint), ("TELEMETRY__SAMPLE_RATIO", "0")];
    let gateway = Gateway::start_with(&world, &settings).await;
    let _consumer = consumer(&world, &endpoint, &folder);
    let coupon = world.coupon("traced");
    define(&gateway, &coupon, "queued").await;

    let mut told = Vec::new();
    for (index, trace) in [NOT_SAMPLED].iter().chain(&SAMPLED).enumerate() {
        let body = format!(r#"{{"memberId":"m{index}"}}"#);
        let answer = gateway.post(coupon.as_str(), body, &[("traceparent", trace)]).await;
        let url = accepted(&answer)["statusUrl"].as_str().unwrap().to_owned();
        eventually(PATIENCE, "a decision", || async { gateway.get(&url).await.json()["status"] == "success" }).await;
        told.push(parsed(answer.headers["traceparent"].to_str().unwrap()));
    }
    // The answer, and the record, name the trace of the caller, and the gateway's own span in it.
    for (told, given) in told.iter().zip([NOT_SAMPLED].iter().chain(&SAMPLED)) {
        let given = parsed(given);
        assert_eq!((told.trace_id, told.sampled()), (given.trace_id, given.sampled()));
        assert_ne!(told.span_id, given.span_id);
    }
    let log = read_all(&world.kafka, &world.kafka.topics.created, partition_of(coupon.as_str().as_bytes(), 4)).await;
    let in_the_log: Vec<TraceParent> = log.iter().filter_map(|record| record.trace_parent()).collect();
    assert!(in_the_log.ends_with(&told), "{in_the_log:?} {told:?}");

    for (told, given) in told.iter().skip(1).zip(SAMPLED.map(parsed)) {
        let (request, batch) = eventually_some(PATIENCE, "both spans of a trace", || async {
            let requests = collector.spans("coupon-gateway", "coupon request");
            let batches = collector.spans("issue-consumer", "decide_batch");
            let request = requests.into_iter().find(|span| is(span, *told));
            // Each request was decided before the next one was sent, so that its batch holds no other one that is recorded.
            let batch = batches.into_iter().find(|span| span.trace_id == given.trace_id.to_be_bytes());
            request.clone().zip(batch.clone()).ok_or((request, batch))
        })
        .await;
        assert_eq!(request.parent_span_id, given.span_id.to_be_bytes(), "the caller's span is the parent");
        assert_eq!(request.kind(), SpanKind::Server);
        assert_eq!(batch.parent_span_id, request.span_id, "the request's span is the parent of its batch");
        let linked: Vec<_> = batch.links.iter().map(|link| (link.trace_id.clone(), link.span_id.clone())).collect();
        assert_eq!(linked, [(request.trace_id.clone(), request.span_id.clone())], "the batch links to its request");
        assert!(
            batch.end_time_unix_nano > batch.start_time_unix_nano && batch.start_time_unix_nano > request.start_time_unix_nano
        );
    }
    let unwanted = parsed(NOT_SAMPLED).trace_id.to_be_bytes();
    assert!(collector.all().iter().all(|span| span.trace_id != unwanted), "a caller who wants no record gets none");
}
