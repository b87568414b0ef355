use std::time::{Duration, Instant};

use pg_simulator::{CallbackSettings, CallbackTarget, Options, Simulator};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

use crate::support::{client, generic_status, start};

#[tokio::test]
async fn everything_can_be_done_over_http() {
    let simulator = start();
    let url = |path: &str| format!("{}{path}", simulator.url());
    let payment = json!({"reference": "p", "amount": 700, "currency": "KRW", "script": {"steps": [{"answer": "open"}]}});
    for _ in 0..2 {
        assert_eq!(
            client().post(url("/admin/payments")).json(&payment).send().await.unwrap().status(),
            204,
            "placing again is harmless"
        );
    }
    let other = json!({"reference": "p", "amount": 701, "currency": "KRW"});
    assert_eq!(client().post(url("/admin/payments")).json(&other).send().await.unwrap().status(), 409);
    let many: Vec<Value> = (0..500).map(|n| json!({"reference": format!("m-{n}"), "amount": 1, "currency": "KRW"})).collect();
    assert_eq!(client().post(url("/admin/payments")).json(&many).send().await.unwrap().status(), 204);
    assert_eq!(generic_status(&simulator, "p").await, "open");
    let put = |path: &str, body: Value| client().put(url(path)).json(&body).send();
    assert_eq!(put("/admin/payments/p/state", json!({"answer": "paid"})).await.unwrap().status(), 204);
    assert_eq!(put("/admin/payments/nobody/state", json!({"answer": "paid"})).await.unwrap().status(), 404);
    let pay = json!({"references": ["m-0", "m-1"]});
    assert_eq!(client().post(url("/admin/pay")).json(&pay).send().await.unwrap().status(), 204);
    let refund = client().post(url("/admin/payments/p/dashboard-refund")).json(&json!({"amount": 200})).send().await.unwrap();
    assert_eq!(refund.status(), 200);
    let view: Value = client().get(url("/admin/payments/p")).send().await.unwrap().json().await.unwrap();
    assert_eq!((view["money"]["paid"].as_i64(), view["money"]["refunded"].as_i64()), (Some(700), Some(200)), "{view}");
    let page: Value = client().get(url("/admin/ledger?after=1&limit=2")).send().await.unwrap().json().await.unwrap();
    assert_eq!((page["entries"].as_array().unwrap().len(), page["more"].as_bool()), (2, Some(true)), "{page}");
    let settings = json!({"latency": {"min_ms": 0, "max_ms": 0}, "outage": "unavailable", "throttle_per_second": 0, "congestion": {"free": 2, "ms_per_call": 7}});
    assert_eq!(put("/admin/settings", settings).await.unwrap().status(), 204);
    assert_eq!(client().get(url("/health/ready")).send().await.unwrap().status(), 200);
    let stats: Value = client().get(url("/admin/stats")).send().await.unwrap().json().await.unwrap();
    assert_eq!((stats["payments"].as_u64(), stats["entries"].as_u64()), (Some(501), Some(4)), "{stats}");
    let load = |stats: &Value| ["calls", "in_flight_max", "calls_per_second_max"].map(|name| stats[name].as_u64().unwrap());
    assert_eq!(load(&stats), [1, 1, 1]);
    assert_eq!(client().post(url("/admin/reset-load")).send().await.unwrap().status(), 204);
    let stats: Value = client().get(url("/admin/stats")).send().await.unwrap().json().await.unwrap();
    assert_eq!(load(&stats), [0, 0, 0]);
}

#[tokio::test]
async fn what_is_wrong_is_answered_as_a_problem() {
    let simulator = start();
    let url = |path: &str| format!("{}{path}", simulator.url());
    let post = |path: &str| client().post(url(path));
    let payment = json!({"reference": "p", "amount": 700, "currency": "KRW"});
    let taken = json!({"reference": "p", "amount": 701, "currency": "KRW"});
    assert_eq!(post("/admin/payments").json(&payment).send().await.unwrap().status(), 204);
    let many: Vec<Value> = (0..1_001).map(|n| json!({"reference": format!("m-{n}"), "amount": 1, "currency": "KRW"})).collect();
    let cases = [
        (post("/admin/payments").header("content-type", "application/json").body("{"), 400, "malformed_body"),
        (post("/admin/payments").json(&json!({"reference": "q"})), 400, "malformed_body"),
        (
            post("/admin/payments").json(&json!([{"reference": "q", "amount": 1, "currency": "KRW", "dialect": "x"}])),
            400,
            "malformed_body",
        ),
        (post("/admin/payments").body("{}"), 415, "unsupported_media_type"),
        (post("/admin/payments").json(&many), 413, "body_too_large"),
        (post("/admin/payments").json(&json!("x".repeat(5_000_000))), 413, "body_too_large"),
        (post("/admin/payments").json(&taken), 409, "reference_taken"),
        (post("/admin/pay").json(&json!({"references": ["nobody"]})), 404, "unknown_payment"),
        (post("/admin/payments/p/dashboard-refund").json(&json!({"amount": 701})), 409, "refused"),
        (client().get(url("/admin/ledger?after=x")), 400, "invalid_fields"),
        (client().get(url("/admin/nothing")), 404, "not_found"),
    ];
    for (request, status, code) in cases {
        let response = request.send().await.unwrap();
        let told = (response.status().as_u16(), response.headers()["content-type"].to_str().unwrap().to_owned());
        let body: Value = response.json().await.unwrap();
        assert_eq!(told, (status, "application/problem+json".to_owned()), "{body}");
        assert_eq!((body["code"].as_str(), body["status"].as_u64()), (Some(code), Some(status.into())), "{body}");
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    }
    let field = post("/admin/payments").json(&json!({"reference": "q"})).send().await.unwrap().json::<Value>().await.unwrap();
    assert!(field["detail"].as_str().unwrap().contains("amount"), "it names what is missing: {field}");
}

/// A merchant that takes callbacks: each request's text arrives by the channel.
async fn merchant() -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}/callbacks", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel(100);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let sender = sender.clone();
            tokio::spawn(async move {
                let (mut text, mut buffer) = (String::new(), [0u8; 8_192]);
                while !text.contains("\r\n\r\n") || !text.trim_end().ends_with('}') {
                    let read = stream.read(&mut buffer).await.unwrap();
                    if read == 0 {
                        break;
                    }
                    text.push_str(&String::from_utf8_lossy(&buffer[..read]));
                }
                stream.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
                let _ = sender.send(text).await;
            });
        }
    });
    (url, receiver)
}

#[tokio::test]
async fn callbacks_are_signed_and_a_share_of_them_is_lost() {
    let (url, mut arrived) = merchant().await;
    let target = CallbackTarget { url, secret: "whsec".into() };
    let callbacks = CallbackSettings { generic: target, lose_percent: 40, copies: 1, ..CallbackSettings::default() };
    let simulator = Simulator::start_with(Options { callbacks, ..Options::default() }).unwrap();
    let references: Vec<String> = (0..50).map(|n| format!("p-{n}")).collect();
    for reference in &references {
        crate::support::place(&simulator, reference, 700, pg_simulator::Script::open());
        simulator.pay(reference).unwrap();
    }
    let mut expected: Vec<&String> = references.iter().filter(|reference| !simulator.is_callback_lost(reference)).collect();
    assert!((20..=40).contains(&expected.len()), "{}", expected.len());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !expected.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let text = tokio::time::timeout(left, arrived.recv()).await.unwrap().unwrap();
        assert!(text.to_lowercase().contains("payment-signature: t="), "{text}");
        let body: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        let reference = body["reference"].as_str().unwrap();
        let place =
            expected.iter().position(|expected| *expected == reference).unwrap_or_else(|| panic!("{reference} was to be lost"));
        expected.swap_remove(place);
    }
}
