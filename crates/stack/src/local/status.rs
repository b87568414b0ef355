//! What runs, and what it logged.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use stack::service;

use super::{
    docker,
    ports::Ports,
    record::{Record, SERVERS},
};

/// How many lines of a log are shown.
const LINES: &str = "40";

/// A part of the local run, as it is told.
struct Row {
    name: String,
    state: &'static str,
    /// None of a container: its processes are Docker's matter.
    pid: Option<u32>,
    port: u16,
    /// Its file, or how to see it.
    log: String,
}

impl Row {
    fn of(record: Record) -> Self {
        let state = if !record.identity.is_running() {
            "gone"
        } else if record.is_server() {
            "runs"
        } else if service::is_ready(record.port) {
            "ready"
        } else {
            "not ready"
        };
        let log = record.log.display().to_string();
        Self { name: record.name, state, pid: Some(record.identity.pid), port: record.port, log }
    }
}

/// Prints what runs; exits 0 when everything that was started runs, else 1.
///
/// # Errors
/// The records cannot be read, or Docker is to be asked and does not answer.
pub fn status(ports: &Ports, json: bool) -> Result<ExitCode> {
    let mut rows = if docker::wanted() { containers(ports)? } else { Vec::new() };
    rows.extend(Record::all()?.into_iter().map(Row::of));
    let good = !rows.is_empty() && rows.iter().all(|row| ["ready", "runs"].contains(&row.state));
    if json {
        let list: Vec<serde_json::Value> = rows
            .iter()
            .map(
                |row| serde_json::json!({"name": row.name, "state": row.state, "pid": row.pid, "port": row.port, "log": row.log}),
            )
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
    } else if rows.is_empty() {
        println!("nothing runs; start it by `make up`");
    } else {
        println!("{:<20} {:<10} {:>7} {:>6}  log", "name", "state", "pid", "port");
        for Row { name, state, pid, port, log } in &rows {
            let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
            println!("{name:<20} {state:<10} {pid:>7} {port:>6}  {log}");
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The servers of deploy/compose.yaml; none where none of them runs.
fn containers(ports: &Ports) -> Result<Vec<Row>> {
    let running = docker::running(ports)?;
    if running.is_empty() {
        return Ok(Vec::new());
    }
    let rows = SERVERS.iter().zip([ports.postgres, ports.redis, ports.kafka]).map(|(name, port)| Row {
        name: (*name).to_owned(),
        state: if running.iter().any(|found| found == name) { "runs" } else { "gone" },
        pid: None,
        port,
        log: format!("make logs NAME={name}"),
    });
    Ok(rows.collect())
}

/// Shows the end of one log or of all. Of all logs, those of containers are shown once and not followed.
///
/// # Errors
/// No such part.
pub fn logs(ports: &Ports, name: Option<&str>, follow: bool) -> Result<()> {
    let of_container = name.filter(|name| SERVERS.contains(name));
    let from_docker = docker::wanted() && (name.is_none() || of_container.is_some());
    if from_docker {
        let mut arguments = vec!["logs", "--tail", LINES];
        arguments.extend(of_container.filter(|_| follow).map(|_| "--follow"));
        arguments.extend(of_container);
        docker::compose(ports, &arguments)?;
    }
    let records: Vec<Record> = Record::all()?.into_iter().filter(|record| name.is_none_or(|name| record.name == name)).collect();
    ensure!(from_docker || !records.is_empty(), "no such part; `make status` lists them");
    if records.is_empty() {
        return Ok(());
    }
    let mut command = Command::new("tail");
    command.args(["-n", LINES]);
    if follow {
        command.arg("-F");
    }
    command.args(records.iter().map(|record| &record.log)).status()?;
    Ok(())
}
