//! The local run's servers by its command: up, up again, a death noticed, down.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rustix::process::Signal;
use stack::process::Identity;

use crate::support::{Local, said};

/// How long a killed server may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

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
    let local = Local::new();
    // No server starts, but the file is written before the ports are looked at.
    let taken = local.take_ports();
    local.command(&["up", "--no-services"]);
    let file = local.folder.path().join("trueup.env");
    let secrets = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().filter(|line| line.contains("KEYS") || line.contains("TOKEN")).map(str::to_owned).collect::<Vec<_>>()
    };
    let first = secrets(&file);
    assert!(first.len() >= 3, "{first:?}");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    local.command(&["up", "--no-services"]);
    drop(taken);
    assert_eq!(secrets(&file), first);
}

#[test]
fn with_docker_the_servers_are_told_as_docker_tells_them() {
    let local = Local::new();
    // What Docker answers is played by a script that keeps how it was called.
    let (programs, calls) = (local.folder.path().join("programs"), local.folder.path().join("calls"));
    fs::create_dir(&programs).unwrap();
    let docker = programs.join("docker");
    let play = |running: &str| {
        let script =
            format!("#!/bin/sh\necho \"$POSTGRES_PORT $*\" >> {}\n[ \"$4\" != ps ] || printf '{running}'\n", calls.display());
        fs::write(&docker, script).unwrap();
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).unwrap();
    };
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let ask = |arguments: &[&str]| local.command_with(arguments, &[("STACK", "docker"), ("PATH", &path)]);
    let states = || {
        let output = ask(&["status", "--json"]);
        let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
        let list: Vec<String> = list.iter().map(|row| format!("{} {} {}", row["name"], row["state"], row["pid"])).collect();
        (output.status.code(), list.join(", ").replace('"', ""))
    };

    play("kafka\\npostgres\\nredis\\n");
    assert_eq!(states(), (Some(0), "postgres runs null, redis runs null, kafka runs null".to_owned()));
    play("postgres\\nredis\\n");
    assert_eq!(states(), (Some(1), "postgres runs null, redis runs null, kafka gone null".to_owned()));
    assert!(ask(&["logs", "kafka"]).status.success());
    play("");
    assert_eq!(states(), (Some(1), String::new()));
    let calls = fs::read_to_string(&calls).unwrap();
    assert!(calls.lines().all(|call| call.starts_with(&format!("{} compose -f ", local.port("POSTGRES_PORT")))), "{calls}");
    assert!(calls.contains("compose.yaml logs --tail 40 kafka\n"), "{calls}");
}
