//! The HTTP interface in this process, and its answers held against their description.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, Mutex, atomic::AtomicU32},
    time::Duration,
};

use async_trait::async_trait;
use domain::{
    clock::SystemClock,
    payment::{OrderId, PaymentId, PgAnswer, PgReference, Policy, ProviderName, RefundId},
    secret::Secret,
};
use payment_providers::port::PaymentProvider;
use payment_reconciler::{
    Line,
    admin::{Admin, AdminSettings, Hands, LineHands},
    audit::{AuditSettings, Auditor},
    callbacks::{CallbackSettings, Desk},
    config::HttpSettings,
    error::LineError,
    http::{App, serve},
    line::{
        operator::{OnBehalf, Patience, Told},
        outcome::Outcome,
    },
    openapi,
};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use service_kit::{ops_http::Ops, probes::Health};
use testkit::{
    World,
    openapi::{Answered, Description},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use crate::{
    orders::{PATIENCE, Sql, db},
    scripted::Scripted,
};

pub const TOKEN: &str = "annas-token-that-only-tests-know";

static DESCRIPTION: LazyLock<Description> = LazyLock::new(|| Description::new(openapi::document()));

/// Held by who looks at the database for the gauges of this process, until he has read them: the tests beside him have other databases.
pub static OBSERVED: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What the line would do, without a line.
pub struct Fake {
    pub pg: Arc<Scripted>,
    pub settled: Mutex<Vec<String>>,
    pub busy: Mutex<bool>,
}

impl Fake {
    fn of(pg: Arc<Scripted>) -> Arc<Self> {
        Arc::new(Self { pg, settled: Mutex::default(), busy: Mutex::default() })
    }
}

#[async_trait]
impl Hands for Fake {
    async fn settle_now(&self, payment: &PaymentId, _: OnBehalf) -> Result<Told, LineError> {
        self.settled.lock().unwrap().push(payment.to_string());
        Ok(if *self.busy.lock().unwrap() { Told::Busy } else { Told::Done(Outcome::Settled) })
    }

    async fn ask(&self, _: &ProviderName, reference: &PgReference) -> Result<PgAnswer, LineError> {
        Ok(self.pg.query(reference).await?)
    }

    async fn foresee(&self, _: &OrderId, _: &PaymentId, answer: &PgAnswer) -> Result<String, LineError> {
        Ok(if matches!(answer, PgAnswer::Found(_)) { "complete the order" } else { "wait" }.to_owned())
    }

    fn refund_overdue_ms(&self, _: &ProviderName) -> i64 {
        Policy::default().refund_overdue_ms
    }

    fn refund_id(&self, payment: &PaymentId) -> RefundId {
        RefundId::new(format!("rf-{payment}")).unwrap()
    }
}

/// A server, its gateway `sim`, and a client.
pub struct Stage {
    pub sql: Sql,
    pub pg: Arc<Scripted>,
    pub hands: Arc<Fake>,
    pub url: String,
    client: Client,
    _stop: DropGuard,
}

pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn code(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

pub async fn stage(name: &str) -> Stage {
    stage_with(name, &format!("anna:{TOKEN}"), AuditSettings::default()).await
}

pub async fn stage_with(name: &str, tokens: &str, audit: AuditSettings) -> Stage {
    stage_in(&World::of_payments(name).await, tokens, audit).await
}

/// The interface beside whatever else works on a world's database.
pub async fn stage_on(world: &World) -> Stage {
    stage_in(world, &format!("anna:{TOKEN}"), AuditSettings::default()).await
}

/// The interface with the hands of a real line, which waits so many milliseconds for what somebody else holds.
pub async fn stage_over(world: &World, line: &Arc<Line>, wait_ms: u64) -> Stage {
    stage_over_gateway(world, line, "sim", wait_ms).await
}

/// The same for a gateway of another name.
pub async fn stage_over_gateway(world: &World, line: &Arc<Line>, gateway: &str, wait_ms: u64) -> Stage {
    let provider = Arc::clone(&line.gateway(&gateway.parse().unwrap()).unwrap().provider);
    let patience = Patience { held: Duration::from_millis(wait_ms), turn: Duration::from_millis(wait_ms) };
    let hands = LineHands::new(Arc::clone(line), patience, CancellationToken::new());
    let pg = Scripted::named("unused");
    let unused = (Arc::clone(&pg), Fake::of(pg));
    serving(world, &format!("anna:{TOKEN}"), AuditSettings::default(), provider, Arc::new(hands), unused).await
}

async fn stage_in(world: &World, tokens: &str, audit: AuditSettings) -> Stage {
    let pg = Scripted::named("sim");
    let hands = Fake::of(Arc::clone(&pg));
    let (provider, own) = (Arc::clone(&pg) as Arc<dyn PaymentProvider>, Arc::clone(&hands) as Arc<dyn Hands>);
    serving(world, tokens, audit, provider, own, (pg, hands)).await
}

async fn serving(
    world: &World,
    tokens: &str,
    audit: AuditSettings,
    provider: Arc<dyn PaymentProvider>,
    own: Arc<dyn Hands>,
    (pg, hands): (Arc<Scripted>, Arc<Fake>),
) -> Stage {
    testkit::show_logs();
    let db = db(world).await;
    let providers = || [Arc::clone(&provider)];
    let auditor = Arc::new(Auditor::new(db.clone(), Uuid::from_u128(1), providers(), audit));
    let settings = AdminSettings { tokens: Secret::new(tokens), ..AdminSettings::default() };
    let callbacks =
        CallbackSettings { body_bytes_max: 1_000, unsigned_per_s: 1, unsigned_burst: 2, ..CallbackSettings::default() };
    let app = App {
        desk: Desk::new(db.clone(), Arc::new(SystemClock), callbacks, providers(), Arc::new(AtomicU32::new(0))),
        admin: Admin::new(settings, db, providers(), own, auditor),
    };
    let port = stack::ports::free().unwrap();
    let http = HttpSettings { listen: format!("127.0.0.1:{port}"), ..HttpSettings::default() };
    let stop = CancellationToken::new();
    let ops = Ops { health: Health::default(), metrics: testkit::metrics() };
    tokio::spawn(serve(&http, ops, Arc::new(app), stop.clone()).unwrap());
    let client = Client::builder().timeout(PATIENCE).build().unwrap();
    let url = format!("http://127.0.0.1:{port}");
    Stage { sql: Sql::of(world).await, pg, hands, url, client, _stop: stop.drop_guard() }
}

impl Stage {
    /// Calls with the operator's token, and holds the answer against the description.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        self.call_as(method, path, body, &[("authorization", &format!("Bearer {TOKEN}"))]).await
    }

    pub async fn call_as(&self, method: Method, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.url)).body(text);
        request = request.header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = answer(request.send().await.unwrap()).await;
        let found = deviations(method.as_str(), path, &answer);
        assert!(found.is_empty(), "{}", found.join("\n"));
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &Value::Null).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &body).await
    }
}

async fn answer(response: Response) -> Answer {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Answer { status, headers, text: response.text().await.unwrap() }
}

/// What is not as described; nothing if all is.
pub fn deviations(method: &str, path: &str, answer: &Answer) -> Vec<String> {
    let told = Answered { status: answer.status, headers: &answer.headers, text: &answer.text };
    DESCRIPTION.deviations(method, path, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_address_is_described_and_takes_no_other_method() {
    let stage = stage("addresses").await;
    let paths = DESCRIPTION.document()["paths"].as_object().unwrap();
    let built: BTreeSet<String> = include_str!("../../src/admin/handlers.rs")
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|text| text.starts_with("/") && !text.starts_with("/v1"))
        .map(|text| format!("/v1/admin{text}"))
        .collect();
    let described: BTreeSet<String> = paths.keys().filter(|path| path.starts_with("/v1/admin")).cloned().collect();
    assert_eq!(described, built);
    for path in paths.keys().filter(|path| path.starts_with("/v1") || *path == "/openapi.json") {
        let filled: Vec<&str> = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part }).collect();
        let answer = stage.call(Method::DELETE, &filled.join("/"), &Value::Null).await;
        assert_eq!(answer.code(), (405, "method_not_allowed".to_owned()), "{path}");
    }
    for path in ["/", "/v1/admin", "/v1/admin/nothing", "/v1/payments/callbacks", "/v2"] {
        assert_eq!(stage.get(path).await.code(), (404, "not_found".to_owned()), "{path}");
    }
    for path in ["/openapi.json", "/health/live", "/health/ready", "/metrics"] {
        assert_eq!(stage.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_are_answered_as_described() {
    let stage = stage("http-callbacks").await;
    stage.sql.place(&crate::orders::order("a")).await;
    let signed = [("x-signature", "good")];
    let event = |reference: &str, event: &str| json!({"reference": reference, "event": event});
    let path = "/v1/payments/callbacks/sim";
    for (body, status) in [
        (event("ref-a", "e1"), "stored"),
        (event("ref-a", "e1"), "repeated"),
        (event("ref-z", "e2"), "waiting"),
        (json!({"about": "something else"}), "ignored"),
    ] {
        let answer = stage.call_as(Method::POST, path, &body, &signed).await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some(status)));
    }
    // Whoever does not sign is not told which payments exist.
    let unsigned = stage.call_as(Method::POST, path, &event("ref-y", "u"), &[]).await;
    assert_eq!((unsigned.status, unsigned.json()["status"].as_str()), (200, Some("stored")));
    let long = event("ref-a", &"x".repeat(2_000));
    let forged = stage.call_as(Method::POST, path, &event("ref-a", "e3"), &[("x-signature", "bad")]).await;
    assert_eq!(forged.code(), (401, "bad_signature".to_owned()));
    assert_eq!(stage.call_as(Method::POST, path, &long, &signed).await.code(), (413, "body_too_large".to_owned()));
    assert_eq!(stage.call_as(Method::POST, path, &json!("text"), &signed).await.status, 200, "JSON without a payment is ignored");
    assert_eq!(stage.call_as(Method::POST, path, &Value::Null, &signed).await.code(), (400, "malformed_body".to_owned()));
    let nobody = stage.call_as(Method::POST, "/v1/payments/callbacks/nobody", &event("r", "e"), &signed).await;
    assert_eq!(nobody.code(), (404, "unknown_provider".to_owned()));
    let mut seen = BTreeSet::new();
    for number in 0..20 {
        seen.insert(stage.call_as(Method::POST, path, &event("ref-a", &format!("u{number}")), &[]).await.status);
    }
    assert_eq!(seen, [200, 429].into());
}

#[test]
fn what_is_not_described_is_found() {
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("content-type", "application/json".parse().unwrap());
    let answer = |status, text: &str| Answer { status, headers: headers.clone(), text: text.to_owned() };
    let path = "/v1/payments/callbacks/sim";
    assert!(deviations("POST", path, &answer(200, r#"{"status":"stored"}"#)).is_empty());
    for bad in [
        answer(200, r#"{"status":"done"}"#),
        answer(200, r#"{"status":"stored","more":1}"#),
        answer(418, "{}"),
        answer(404, "{}"),
    ] {
        assert!(!deviations("POST", path, &bad).is_empty(), "{}", bad.text);
    }
}

/// An alert on a number that nobody writes would never fire.
#[test]
fn every_number_that_an_alert_watches_is_written_and_every_alert_is_in_the_runbook() {
    let root = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let (alerts, runbook) = (read("deploy/alerts/payment-line.yaml"), read("docs/runbook-payments.md"));
    let mut sources = String::new();
    let mut folders = vec![root.join("services/payment-reconciler/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                sources.push_str(&std::fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    let with_cases = format!("{alerts}{}", read("deploy/alerts/tests/payment-line.yaml"));
    let watched: BTreeSet<&str> = with_cases
        .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("trueup_payment_"))
        .collect();
    assert!(watched.len() >= 10);
    for metric in watched {
        assert!(sources.contains(&format!("\"{metric}\"")), "{metric}");
    }
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(runbook.contains(&format!("| `{alert}` |")), "{alert} is not in the runbook");
    }
}
