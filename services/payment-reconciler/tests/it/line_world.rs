//! Replicas of the line beside each other: in this process, and as processes that can be killed, stopped and told to end.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use domain::secret::Secret;
use payment_providers::ProviderKind;
use payment_reconciler::{Line, config::LineSettings};
use pg_simulator::{CallbackSettings, CallbackTarget, Counts, Options, Simulator};
use stack::{Lifetime, ServiceProcess, ports};
use testkit::{TestFolder, eventually, eventually_some};

use crate::{
    orders::{PATIENCE, Sql},
    refund_stage::{self, Stage, reference},
};

/// What signs the callbacks of a stage's gateway.
pub const CALLBACK_SECRET: &str = "a-callback-secret-that-only-tests-know";

/// What a claim lasts in a process of a test, in milliseconds: as long as all tries of an ask, and no longer than a test can wait for.
const LEASE_MS: u64 = 4_000;

/// Another replica of a stage's line, in this process.
pub fn replica(stage: &Stage, holder: u128, own: LineSettings) -> Arc<Line> {
    refund_stage::line(&stage.world, &stage.simulator, ProviderKind::Generic, "sim", holder, own)
}

/// A stage whose gateway calls back on `port`, each callback twice.
pub async fn stage_that_calls_back(name: &str, port: u16) -> Stage {
    let url = format!("http://127.0.0.1:{port}/v1/payments/callbacks/sim");
    let generic = CallbackTarget { url, secret: Secret::new(CALLBACK_SECRET) };
    let callbacks = CallbackSettings { generic, copies: 2, ..CallbackSettings::default() };
    let stage = Stage::new(name, ProviderKind::Generic).await;
    let simulator = Simulator::start_with(Options { callbacks, ..Options::default() }).unwrap();
    let line = refund_stage::line(&stage.world, &simulator, ProviderKind::Generic, "sim", 1, refund_stage::patient());
    Stage { simulator, line, ..stage }
}

/// A process of the service on a stage's database and gateway, with its log.
pub struct Process {
    pub service: ServiceProcess,
    folder: TestFolder,
}

impl Process {
    /// Starts it, for which every order is stale at once, with settings such as `("LINE__RUN__LEASE_MS", "120000")` on top.
    pub fn start(stage: &Stage, own: &[(&str, &str)]) -> Self {
        Self::start_on(stage, ports::free().unwrap(), own, &[])
    }

    /// The same in a build with failpoints, with plans for its steps from the start.
    #[cfg(feature = "failpoints")]
    pub fn start_with_steps(stage: &Stage, plans: &str) -> Self {
        Self::start_unready(stage, ports::free().unwrap(), &[], &[("FAILPOINTS", plans)])
    }

    /// The same on a port, with variables of the process itself.
    pub fn start_on(stage: &Stage, port: u16, own: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        let mut process = Self::start_unready(stage, port, own, variables);
        process.service.wait_ready().unwrap();
        process
    }

    fn start_unready(stage: &Stage, port: u16, own: &[(&str, &str)], variables: &[(&str, &str)]) -> Self {
        let folder = TestFolder::new("payment-line");
        let mut environment: BTreeMap<String, String> = stage.world.environment("PAYMENT_RECONCILER");
        environment.retain(|name, _| name.starts_with("PAYMENT_RECONCILER__KAFKA"));
        let mut set = |name: &str, value: &str| environment.insert(format!("PAYMENT_RECONCILER__{name}"), value.to_owned());
        set("HTTP__LISTEN", &format!("127.0.0.1:{port}"));
        set("POSTGRES__URL", &stage.world.postgres_url);
        if stage.world.kafka.brokers.is_empty() {
            // Nothing there is about the log.
            set("KAFKA__BROKERS", "127.0.0.1:9");
        }
        for part in ["INTAKE__ENABLED", "OUTBOX__ENABLED", "AUDIT__NIGHTLY"] {
            set(part, "false");
        }
        set("PROVIDERS__SIM__BASE_URL", &stage.simulator.generic_url());
        set("PROVIDERS__SIM__API_KEY", Options::API_KEY);
        set("PROVIDERS__SIM__CALLBACK_SECRET", CALLBACK_SECRET);
        set("POSTGRES__IDLE_IN_TRANSACTION_TIMEOUT_MS", "1500");
        set("LINE__RUN__STALE_AFTER_MS", "0");
        set("LINE__RUN__INTERVAL_MS", "100");
        set("LINE__RUN__DUE_INTERVAL_MS", "50");
        set("LINE__RUN__LEASE_MS", &LEASE_MS.to_string());
        set("LINE__ASKING__TRIES", "1");
        set("LINE__ASKING__TRY_DELAY_MS", "10");
        set("LINE__ASKING__TRY_TIMEOUT_MS", "3000");
        set("LINE__POLICY__REFUND_GRACE_MS", "100");
        for schedule in ["REFUND", "UNANSWERED", "OPEN_OTHERWISE"] {
            set(&format!("LINE__POLICY__{schedule}__FIRST_MS"), "50");
            set(&format!("LINE__POLICY__{schedule}__LONGEST_MS"), "200");
        }
        for (name, value) in own {
            set(name, value);
        }
        environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let binary = Path::new(env!("CARGO_BIN_EXE_payment-reconciler"));
        let log = log_of(&folder);
        let service = ServiceProcess::spawn("payment-reconciler", binary, &environment, port, &log, Lifetime::Owned).unwrap();
        Self { service, folder }
    }

    /// Everything that it logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(log_of(&self.folder)).unwrap()
    }

    /// Waits until a line of its log has all of these.
    pub async fn logs(&self, parts: &[&str]) {
        eventually(PATIENCE, &format!("the log says {parts:?}"), || async {
            self.log().lines().any(|line| parts.iter().all(|part| line.contains(part)))
        })
        .await;
    }
}

fn log_of(folder: &TestFolder) -> PathBuf {
    folder.path().join("payment-reconciler.log")
}

/// Waits until an order and its payments are so.
pub async fn becomes(stage: &Stage, id: &str, states: &str) {
    eventually_some(PATIENCE, &format!("{id} is {states}"), || async {
        let seen = stage.states(id).await;
        if seen == states { Ok(()) } else { Err(seen) }
    })
    .await;
}

/// Waits until nothing is open and nobody holds anything.
pub async fn becomes_quiet(sql: &Sql) {
    let open = "SELECT (SELECT count(*) FROM customer_order WHERE state = 'PENDING') \
        + (SELECT count(*) FROM payment WHERE state IN ('PENDING', 'REFUNDING') OR holder IS NOT NULL)";
    eventually_some(PATIENCE, "all is quiet", || async {
        match sql.number(open).await {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
}

/// What the gateway was asked about an order's only payment.
pub fn calls(stage: &Stage, id: &str) -> Counts {
    stage.simulator.calls(&reference(&format!("p-{id}")))
}
