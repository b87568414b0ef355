//! What runs, and what it logged.

use std::process::{Command, ExitCode};

use anyhow::{Result, ensure};
use stack::service;

use super::record::Record;

/// Prints what runs; exits 0 when everything that was started runs, else 1.
///
/// # Errors
/// The records cannot be read.
pub fn status(json: bool) -> Result<ExitCode> {
    let records = Record::all()?;
    let rows: Vec<(Record, &str)> = records
        .into_iter()
        .map(|record| {
            let state = if !record.identity.is_running() {
                "gone"
            } else if record.name.contains('-') || record.name == "reconciler" {
                if service::is_ready(record.port) { "ready" } else { "not ready" }
            } else {
                "runs"
            };
            (record, state)
        })
        .collect();
    let good = !rows.is_empty() && rows.iter().all(|(_, state)| ["ready", "runs"].contains(state));
    if json {
        let list: Vec<serde_json::Value> = rows
            .iter()
            .map(|(record, state)| {
                serde_json::json!({"name": record.name, "state": state, "pid": record.identity.pid, "port": record.port, "log": record.log})
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
    } else if rows.is_empty() {
        println!("nothing runs; start it by `make up`");
    } else {
        println!("{:<20} {:<10} {:>7} {:>6}  log", "name", "state", "pid", "port");
        for (record, state) in &rows {
            println!("{:<20} {:<10} {:>7} {:>6}  {}", record.name, state, record.identity.pid, record.port, record.log.display());
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows the end of one log or of all.
///
/// # Errors
/// No such part.
pub fn logs(name: Option<&str>, follow: bool) -> Result<()> {
    let records: Vec<Record> = Record::all()?.into_iter().filter(|record| name.is_none_or(|name| record.name == name)).collect();
    ensure!(!records.is_empty(), "no such part; `make status` lists them");
    let mut command = Command::new("tail");
    command.args(["-n", "40"]);
    if follow {
        command.arg("-F");
    }
    command.args(records.iter().map(|record| &record.log)).status()?;
    Ok(())
}
