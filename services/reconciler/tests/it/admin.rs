//! The operators' interface, on the binary itself.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use redis_io::GateState;
use stack::{Lifetime, ServiceProcess, ports};
use testkit::{TestFolder, eventually};

use crate::stage::Stage;

const TOKEN: &str = "0123456789abcdef";

fn call(port: u16, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, serde_json::Value) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let length = body.len();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

async fn start(stage: &Stage, folder: &TestFolder, tokens: &str) -> (ServiceProcess, u16) {
    let port = ports::free().unwrap();
    let mut environment = stage.world.environment("RECONCILER");
    environment.insert("RECONCILER__HTTP__LISTEN".to_owned(), format!("127.0.0.1:{port}"));
    environment.insert("RECONCILER__ADMIN__TOKENS".to_owned(), tokens.to_owned());
    let (binary, log) = (Path::new(env!("CARGO_BIN_EXE_reconciler")), folder.path().join(format!("{port}.log")));
    let mut service = ServiceProcess::spawn("reconciler", binary, &environment, port, &log, Lifetime::Owned).unwrap();
    service.wait_ready().unwrap();
    (service, port)
}

#[tokio::test]
async fn an_operator_looks_at_once_and_reads_what_was_found() {
    let stage = Stage::new("operator").await;
    let code = stage.coupon("c", 10);
    stage.issued(&code, 1..4);
    stage.decided_up_to(100);
    let folder = TestFolder::new("admin");
    let (_service, port) = start(&stage, &folder, &format!("anna:{TOKEN}")).await;
    eventually(Duration::from_secs(30), "the gate opens", || async { stage.status(&code).await.state == GateState::Open }).await;
    stage.tamper("SADD", &code, &["planted"]).await;

    let path = format!("/v1/coupons/{code}/reconcile");
    for token in [None, Some("fedcba9876543210")] {
        let (status, problem) = call(port, "POST", &path, token, "");
        assert_eq!((status, problem["code"].as_str()), (401, Some("unauthorized")));
    }
    // The schedule's own look may hold the lease, or have repaired what was planted: then it is planted again.
    let reconcile = |body: &str| loop {
        let (status, report) = call(port, "POST", &path, Some(TOKEN), body);
        if status != 409 {
            assert_eq!(status, 200, "{report}");
            break report;
        }
        std::thread::yield_now();
    };
    reconcile("");
    stage.tamper("SADD", &code, &["planted"]).await;
    let dry = reconcile(r#"{"full":true,"dryRun":true}"#);
    assert_eq!((&dry["mismatchCount"], &dry["dryRun"]), (&1.into(), &true.into()));
    let found = reconcile(r#"{"full":true}"#);
    assert_eq!(found["comparison"]["onlyInRedis"]["members"], serde_json::json!(["planted"]));
    assert_eq!(stage.status(&code).await.members, 3);

    let (status, unknown) = call(port, "POST", "/v1/coupons/no-such/reconcile", Some(TOKEN), "");
    assert_eq!((status, unknown["code"].as_str()), (404, Some("unknown_coupon")));
    assert!(unknown["detail"].as_str().unwrap().contains("no-such"));
    assert_eq!(call(port, "POST", &path, Some(TOKEN), r#"{"ful":true}"#).1["code"], "malformed_body");
    assert_eq!(call(port, "GET", &path, Some(TOKEN), "").0, 405);

    assert_eq!(call(port, "GET", "/v1/reconciliation/reports", None, "").0, 401);
    let (status, page) = call(port, "GET", &format!("/v1/reconciliation/reports?coupon={code}&limit=1"), Some(TOKEN), "");
    assert_eq!((status, page["reports"][0]["report"]["mismatchCount"].as_i64()), (200, Some(1)));
    let older = format!("/v1/reconciliation/reports?coupon={code}&limit=1&before={}", page["nextBefore"]);
    let older = call(port, "GET", &older, Some(TOKEN), "").1;
    assert!(older["reports"][0]["id"].as_i64() < page["reports"][0]["id"].as_i64());
    assert_eq!(call(port, "GET", "/v1/reconciliation/reports?limit=0", Some(TOKEN), "").0, 400);
}

#[tokio::test]
async fn it_is_closed_unless_tokens_are_set() {
    let stage = Stage::new("closed").await;
    let folder = TestFolder::new("closed");
    let (_service, port) = start(&stage, &folder, "").await;
    let (status, problem) = call(port, "GET", "/v1/reconciliation/reports", Some(TOKEN), "");
    assert_eq!((status, problem["code"].as_str()), (403, Some("admin_disabled")));
}
