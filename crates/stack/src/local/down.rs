//! Ends everything that `up` started, services first, by pid and start time.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use super::{docker, lock, ports::Ports, progress::step, record::Record};

/// How long a part may take to end before it is killed.
const LIMIT: Duration = Duration::from_secs(30);

/// Ends all parts; none is left.
///
/// # Errors
/// A record cannot be removed.
pub fn down(ports: &Ports) -> Result<()> {
    let _lock = lock::starting()?;
    let (servers, services): (Vec<Record>, Vec<Record>) = Record::all()?.into_iter().partition(Record::is_server);
    if servers.is_empty() && services.is_empty() && !docker::wanted() {
        eprintln!("✓ nothing runs");
        return Ok(());
    }
    step("services", || end(&services))?;
    step("servers", || end(&servers))?;
    if docker::wanted() {
        step("docker compose", || docker::compose(ports, &["down"]))?;
    }
    Ok(())
}

/// Ends these parts, together.
///
/// # Errors
/// A record cannot be removed.
pub fn end(records: &[Record]) -> Result<()> {
    for record in records {
        // PostgreSQL's fast shutdown; the others take TERM.
        let signal = if record.name == "postgres" { Signal::INT } else { Signal::TERM };
        record.identity.signal(signal);
    }
    for record in records {
        if !record.identity.wait_gone(LIMIT) {
            eprintln!("  {} did not end within {LIMIT:?} and is killed", record.name);
            record.identity.signal_group(Signal::KILL);
            let _ = record.identity.wait_gone(LIMIT);
        }
        record.remove()?;
    }
    Ok(())
}
