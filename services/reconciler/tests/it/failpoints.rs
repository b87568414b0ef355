//! Steps at which a drill interferes, in builds that have them, and nothing of it in builds that have not.

use std::{collections::BTreeMap, path::Path};

use stack::{Lifetime, ServiceProcess, ports};
use testkit::TestFolder;

use crate::stage::Stage;

fn start(stage: &Stage, folder: &TestFolder) -> ServiceProcess {
    let port = ports::free().unwrap();
    let mut environment: BTreeMap<String, String> = stage.world.environment("RECONCILER");
    environment.insert("RECONCILER__HTTP__LISTEN".to_owned(), format!("127.0.0.1:{port}"));
    let log = folder.path().join("reconciler.log");
    let binary = Path::new(env!("CARGO_BIN_EXE_reconciler"));
    let mut service = ServiceProcess::spawn("reconciler", binary, &environment, port, &log, Lifetime::Owned).unwrap();
    service.wait_ready().unwrap();
    service
}

#[cfg(not(feature = "failpoints"))]
#[tokio::test]
async fn a_build_for_use_has_no_failpoints() {
    let stage = Stage::new("no-failpoints").await;
    let folder = TestFolder::new("no-failpoints");
    let service = start(&stage, &folder);
    for path in ["/failpoints", "/failpoints/reconciler.gate.shut", "/clock-offset-ms"] {
        assert_eq!(stack::http::status(service.http_port(), "GET", path).unwrap(), 404, "{path}");
    }
}

#[cfg(feature = "failpoints")]
mod with {
    use std::time::Duration;

    use redis_io::GateState;
    use testkit::eventually;

    use super::*;

    /// Longer than anything here takes, short enough to fail a test in time.
    const SOON: Duration = Duration::from_secs(30);

    #[test]
    fn every_step_is_declared_used_and_documented() {
        let names: Vec<&str> = reconciler::failpoints::STEPS.iter().map(|step| step.name).collect();
        testkit::failpoints::hold(&names, &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "reconciler.");
    }

    #[tokio::test]
    async fn a_gate_whose_load_is_paused_stays_shut_until_it_goes_on() {
        let stage = Stage::new("failpoints").await;
        stage.decided_up_to(0);
        let folder = TestFolder::new("failpoints");
        let service = start(&stage, &folder);
        let points = service.failpoints();
        points.plan("reconciler.gate.before_open", "1*pause").unwrap();
        let code = stage.coupon("c", 5);
        eventually(SOON, "the load is paused", || async { points.step("reconciler.gate.before_open").unwrap().waiting == 1 })
            .await;
        assert_eq!(stage.status(&code).await.state, GateState::Loading);
        assert!(points.step("reconciler.gate.shut").unwrap().hits > 0);
        points.clear("reconciler.gate.before_open").unwrap();
        eventually(SOON, "the gate opens", || async { stage.status(&code).await.state == GateState::Open }).await;
    }
}
