//! The binary itself: its settings, its probes and metrics, and its end.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::Command,
    time::Duration,
};

use redis_io::GateState;
use stack::{Lifetime, ServiceProcess, ports};
use testkit::{TestFolder, eventually};

use crate::stage::{Stage, member, request};

const BINARY: &str = env!("CARGO_BIN_EXE_reconciler");

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn environment(stage: &Stage, port: u16) -> BTreeMap<String, String> {
    let mut environment = stage.world.environment("RECONCILER");
    for (name, value) in [
        ("HTTP__LISTEN", format!("127.0.0.1:{port}")),
        ("PENDING__INTERVAL_MS", "50".to_owned()),
        ("PENDING__GRACE_MS", "1".to_owned()),
        ("TELEMETRY__LOG_FILTER", "info,reconciler=debug".to_owned()),
    ] {
        environment.insert(format!("RECONCILER__{name}"), value);
    }
    environment
}

#[tokio::test]
async fn the_service_opens_a_gate_publishes_again_and_ends_in_order() {
    let stage = Stage::new("process").await;
    stage.decided_up_to(0);
    let folder = TestFolder::new("reconciler");
    let port = ports::free().unwrap();
    let log = folder.path().join("reconciler.log");
    let environment = environment(&stage, port);
    let mut service = ServiceProcess::spawn("reconciler", Path::new(BINARY), &environment, port, &log, Lifetime::Owned).unwrap();
    service.wait_ready().unwrap();
    assert!(get(port, "/health/live").starts_with("HTTP/1.1 200"));
    // An alert on their increase sees the first one, because they are there before.
    let first = get(port, "/metrics");
    for name in
        ["given_up_total", "gates_shut_total", "issued_quantity_repairs_total", "repair_failures_total{cause=\"postgres\"}"]
    {
        assert!(first.contains(&format!("trueup_reconciler_{name} 0")), "{name} is missing in\n{first}");
    }

    let code = stage.coupon("c", 5);
    // A gate is noticed and opened within a second; the limit leaves room for a busy machine.
    eventually(Duration::from_secs(10), "the gate opens", || async { stage.status(&code).await.state == GateState::Open }).await;
    stage.gate.reserve(&code, &[(member(1), request(1))]).await.unwrap();
    let published = || {
        let metrics = get(port, "/metrics");
        metrics.contains("trueup_reconciler_republished_total{outcome=\"acknowledged\"}")
    };
    eventually(Duration::from_secs(10), "the reservation is published", || async { published() }).await;
    // The next look at the gates counts the one that was opened.
    let open = || get(port, "/metrics").contains("trueup_reconciler_gates{state=\"open\"} 1");
    eventually(Duration::from_secs(10), "the gate is counted as open", || async { open() }).await;
    let metrics = get(port, "/metrics");
    for name in
        ["trueup_reconciler_gates_opened_total 1", "trueup_reconciler_runs_total", "trueup_reconciler_pending_reservations"]
    {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }

    assert_eq!(service.terminate(Duration::from_secs(15)).unwrap(), Some(0));
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("[RECONCILIATION] pending reservation published again"), "{told}");
    assert!(told.contains("\"memberId\":\"user-1\"") && told.contains(&format!("\"couponCode\":\"{code}\"")), "{told}");
    assert!(!told.contains(testkit::LOG_SECRET), "the key is never logged");
}

#[tokio::test]
async fn all_faults_of_the_settings_are_told_at_once() {
    let output = Command::new(BINARY)
        .env_clear()
        .env("RECONCILER__HTTP__LISTEN", "nowhere")
        .env("RECONCILER__PENDING__PAGE", "5000")
        .env("RECONCILER__GATES__INTERVAL_MS", "0")
        .output()
        .unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    for field in ["http.listen", "keys.log_signing", "pending.page", "gates.interval_ms"] {
        assert!(told.contains(field), "{field} is missing in {told}");
    }
}
