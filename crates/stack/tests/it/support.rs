//! `trueup-stack` as a user calls it, on ports and in a folder of its own.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::{fs::symlink, process::CommandExt},
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use stack::{
    paths, ports, postgres,
    process::{Identity, wait_until},
};

/// How long a stranger may have a port.
const PORTS_LIMIT: Duration = Duration::from_secs(30);

/// Every variable that chooses ports, and how many ports it names.
const PORTS: [(&str, usize); 9] = [
    ("POSTGRES_PORT", 1),
    ("REDIS_PORT", 1),
    ("KAFKA_PORT", 1),
    ("KAFKA_CONTROLLER_PORT", 1),
    ("GATEWAY_PORTS", 2),
    ("CONSUMER_HTTP_PORTS", 2),
    ("RECONCILER_HTTP_PORT", 1),
    ("PAYMENT_RECONCILER_HTTP_PORT", 1),
    ("PG_SIMULATOR_PORT", 1),
];

/// A local run that ends with the test, whatever the test says.
pub struct Local {
    pub folder: tempfile::TempDir,
    ports: BTreeMap<&'static str, Vec<u16>>,
}

impl Local {
    pub fn new() -> Self {
        let folder = crate::folder();
        fs::create_dir(folder.path().join("kafka")).unwrap();
        symlink(paths::kafka_libs().unwrap(), folder.path().join("kafka/libs")).unwrap();
        let free = |count| (0..count).map(|_| ports::free().unwrap()).collect();
        Self { folder, ports: PORTS.map(|(name, count)| (name, free(count))).into() }
    }

    fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trueup-stack"));
        command.args(arguments).env("TRUEUP_LOCAL", self.folder.path()).env_remove("STACK");
        for (name, ports) in &self.ports {
            command.env(name, ports.iter().map(u16::to_string).collect::<Vec<_>>().join(","));
        }
        command
    }

    pub fn command(&self, arguments: &[&str]) -> Output {
        self.prepared(arguments).output().unwrap()
    }

    pub fn command_with(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        self.prepared(arguments).envs(environment.iter().copied()).output().unwrap()
    }

    /// Starts the command at the head of a process group of its own, as a shell does; what it says goes to `said.log`.
    pub fn start(&self, arguments: &[&str]) -> Started {
        let said = fs::File::create(self.said_path()).unwrap();
        let mut command = self.prepared(arguments);
        Started(command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said).process_group(0).spawn().unwrap())
    }

    /// What the started command has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.said_path()).unwrap()
    }

    fn said_path(&self) -> std::path::PathBuf {
        self.folder.path().join("said.log")
    }

    /// What runs: name → process and state.
    pub fn status(&self) -> BTreeMap<String, (u32, String)> {
        let output = self.command(&["status", "--json"]);
        let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        list.iter()
            .map(|part| (text(&part["name"]), (part["pid"].as_u64().unwrap().try_into().unwrap(), text(&part["state"]))))
            .collect()
    }

    /// Processes of this run that go on, whoever started them: they have its folder in their environment or their arguments.
    pub fn left(&self) -> Vec<(u32, String)> {
        let folder = self.folder.path().to_str().unwrap();
        let mentions = |pid: u32, file: &str| {
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(folder)
        };
        let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|&pid| Identity::of(pid).is_some() && (mentions(pid, "environ") || mentions(pid, "cmdline")))
            .map(|pid| (pid, fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()))
            .collect()
    }

    /// Takes the ports of all servers, as far as nobody else has them, so that none starts.
    pub fn take_ports(&self) -> Vec<TcpListener> {
        let servers = ["POSTGRES_PORT", "REDIS_PORT", "KAFKA_PORT", "KAFKA_CONTROLLER_PORT"];
        servers.iter().filter_map(|name| TcpListener::bind(("127.0.0.1", self.port(name))).ok()).collect()
    }

    /// Waits until all of its ports can be taken; tests elsewhere on the machine may look at one in passing.
    pub fn wait_ports_free(&self) -> bool {
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
        wait_until(PORTS_LIMIT, || self.ports.values().flatten().all(is_free))
    }

    /// The first port that this variable names.
    pub fn port(&self, name: &str) -> u16 {
        self.ports[name][0]
    }

    /// Runs SQL on the run's database.
    pub fn sql(&self, text: &str) -> anyhow::Result<String> {
        postgres::psql(self.port("POSTGRES_PORT"), "trueup", text)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.command(&["down"]);
    }
}

/// A command that goes on until it ends, or until the test is over, whatever the test says.
pub struct Started(Child);

impl Started {
    /// Sends a signal to all of its group, as a terminal does.
    pub fn signal(&self, signal: Signal) {
        let group = Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
        kill_process_group(group, signal).unwrap();
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().unwrap()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            let _ = self.0.wait();
        }
    }
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
