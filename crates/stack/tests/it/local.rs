//! The local run by its command: up, up again, a death noticed, down; on ports and in a folder of its own.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use rustix::process::Signal;
use stack::{paths, ports, process::Identity};

/// How long a killed server may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A local run that ends with the test, whatever the test says.
struct Local {
    folder: tempfile::TempDir,
    ports: Vec<(&'static str, u16)>,
}

impl Local {
    fn new() -> Self {
        let folder = super::folder();
        std::fs::create_dir(folder.path().join("kafka")).unwrap();
        symlink(paths::kafka_libs().unwrap(), folder.path().join("kafka/libs")).unwrap();
        let names = ["POSTGRES_PORT", "REDIS_PORT", "KAFKA_PORT", "KAFKA_CONTROLLER_PORT"];
        Self { folder, ports: names.map(|name| (name, ports::free().unwrap())).to_vec() }
    }

    fn command(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_trueup-stack"))
            .args(arguments)
            .env("TRUEUP_LOCAL", self.folder.path())
            .env_remove("STACK")
            .envs(self.ports.iter().map(|(name, port)| (*name, port.to_string())))
            .output()
            .unwrap()
    }

    /// What runs: name → process and state.
    fn status(&self) -> BTreeMap<String, (u32, String)> {
        let output = self.command(&["status", "--json"]);
        let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        list.iter()
            .map(|part| (text(&part["name"]), (part["pid"].as_u64().unwrap().try_into().unwrap(), text(&part["state"]))))
            .collect()
    }

    /// Takes the ports of all servers, so that none starts.
    fn take_ports(&self) -> Vec<TcpListener> {
        self.ports.iter().map(|(_, port)| TcpListener::bind(("127.0.0.1", *port)).unwrap()).collect()
    }

    fn port(&self, name: &str) -> u16 {
        self.ports.iter().find(|(port, _)| *port == name).unwrap().1
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.command(&["down"]);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn up_twice_is_harmless_a_death_is_noticed_and_mended_and_down_leaves_nothing() {
    let local = Local::new();
    let output = local.command(&["up", "--no-services"]);
    assert!(output.status.success(), "{}", said(&output));
    let first = local.status();
    assert_eq!(first.keys().map(String::as_str).collect::<Vec<_>>(), ["kafka", "postgres", "redis"]);

    // Two at the same time, on top.
    std::thread::scope(|scope| {
        let both =
            [scope.spawn(|| local.command(&["up", "--no-services"])), scope.spawn(|| local.command(&["up", "--no-services"]))];
        for output in both.map(|start| start.join().unwrap()) {
            assert!(output.status.success(), "{}", said(&output));
        }
    });
    assert_eq!(local.status(), first);

    let redis = Identity::of(first["redis"].0).unwrap();
    redis.signal(Signal::KILL);
    assert!(redis.wait_gone(PATIENCE));
    assert_eq!(local.status()["redis"].1, "gone");
    assert!(!local.command(&["status"]).status.success());
    assert!(local.command(&["up", "--no-services"]).status.success());
    assert!(stack::redis::answers(local.port("REDIS_PORT")));

    let last: Vec<u32> = local.status().values().map(|(pid, _)| *pid).collect();
    let output = local.command(&["down"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(last.iter().all(|&pid| Identity::of(pid).is_none()), "a process is left");
    assert!(local.command(&["down"]).status.success(), "down twice is harmless");
}

#[test]
fn a_taken_port_is_told_with_its_holder_and_the_way_out() {
    let local = Local::new();
    let taken = local.take_ports();
    let output = local.command(&["up", "--no-services"]);
    drop(taken);
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(said.contains(&format!("taken by process {}", std::process::id())), "{said}");
    assert!(said.contains("POSTGRES_PORT="), "{said}");
}

#[test]
fn the_environment_file_is_secret_and_its_keys_stay() {
    use std::os::unix::fs::PermissionsExt;
    let local = Local::new();
    // No server starts, but the file is written before the ports are looked at.
    let taken = local.take_ports();
    local.command(&["up", "--no-services"]);
    let file = local.folder.path().join("trueup.env");
    let secrets = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter(|line| line.contains("KEYS") || line.contains("TOKEN")).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = secrets(&file);
    assert!(first.len() >= 3, "{first:?}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    local.command(&["up", "--no-services"]);
    drop(taken);
    assert_eq!(secrets(&file), first);
}
